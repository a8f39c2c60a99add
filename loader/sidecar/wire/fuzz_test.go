package wire_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// A stream of any bytes, in any pieces, is read as the page has it, at a cost that its bytes bear. What was read, and is written, reads as the same.
func FuzzReader(f *testing.F) {
	add := func(stream string, seed int) {
		if len(stream) < 20_000 { // what is larger is slow, and says no more
			f.Add([]byte(stream), uint64(seed))
		}
	}
	for i, c := range kept {
		add(c.stream, i)
	}
	for i, c := range broke {
		add(c.stream, i)
	}
	f.Add([]byte("CALL 1 f\nContent-Length: 268435456\n\nabc"), uint64(0))
	f.Add([]byte("CALL 1 f\nTimeout: 5\n\nDONE 1 0\nContent-Length: 2\n\nokLOG info\nFields: 2\nContent-Length: 3\n\nabcBYE\r\n\r\n"), uint64(1))
	for seed := range uint64(20) {
		add(scribble(rand.New(rand.NewPCG(seed, 8))), int(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		stream, r := string(b), rand.New(rand.NewPCG(seed, 9))
		most := 1 + r.IntN(1<<r.IntN(18))
		var err error
		spent := allocated(func() {
			reader := wire.NewReader(random{strings.NewReader(stream), r, most}, wire.MaxBody)
			for err == nil {
				_, err = one(reader)
			}
		})
		assert.Less(t, spent, affordable(len(b))+200*uint64(strings.Count(stream, "\n")))
		if _, ok := errors.AsType[*wire.Error](err); !ok && err != io.EOF && err != io.ErrUnexpectedEOF {
			t.Fatalf("an error that is none of the page's: %v", err)
		}
		got := same(t, stream, wire.MaxBody, random{strings.NewReader(stream), r, most})
		var again []byte
		for i := range got {
			got[i].Token, got[i].Rule = short(got[i].Token), short(got[i].Rule)
			again = append(wire.Append(again, &got[i].Message, len(got[i].Body)), got[i].Body...)
		}
		twice, err := all(wire.NewReader(random{strings.NewReader(string(again)), r, most}, wire.MaxBody))
		require.Equal(t, io.EOF, err)
		require.Equal(t, got, twice)
	})
}

// short is a value that fits in a line as it is written, with a space before it; what says nothing is not written at all.
func short(value []byte) []byte {
	if len(value) == 0 {
		return nil
	}
	return value[:min(len(value), wire.MaxLine-len("Token: "))]
}
