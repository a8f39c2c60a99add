package wire_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// Whole says of each prefix of a stream what reading a message would wait for.
func TestWhole(t *testing.T) {
	for _, first := range []string{
		"CALL 1 f\n\n", "DONE 7 0\r\ncontent-LENGTH: \t5 \r\nX: y\r\n\r\nhello", "PART 3\nContent-Length: 13\n\nDONE 1 0\n\nab\n", "BYE\n\n",
	} {
		verbOf, _, _ := strings.Cut(strings.TrimSuffix(first, "\n\n"), " ")
		for n := range len(first) + 1 {
			r := wire.NewReader(&chunks{[]string{"DONE 1 0\n\n" + first[:n], first[n:] + "BYE\n\n"}}, wire.MaxBody)
			var m wire.Message
			require.Zero(t, r.Whole(), "nothing was read")
			require.NoError(t, r.Next(&m))
			if n < len(first) {
				require.Zero(t, r.Whole(), "%q", first[:n])
			} else {
				require.Equal(t, verbOf, r.Whole().String(), "%q", first)
			}
			require.NoError(t, r.Next(&m))
			require.Equal(t, verbOf, m.Verb.String())
			if m.Length > 0 {
				require.Zero(t, r.Whole(), "within a body")
			}
			require.NoError(t, r.Next(&m))
			require.Equal(t, wire.Bye, m.Verb)
		}
	}
	r := wire.NewReader(strings.NewReader("DONE 1 0\n\nhello\n\n"), wire.MaxBody)
	require.NoError(t, r.Next(&wire.Message{}))
	require.Zero(t, r.Whole(), "what is no message")
}

// chunks is a stream of which each Read returns a piece.
type chunks struct{ left []string }

func (c *chunks) Read(b []byte) (int, error) {
	for len(c.left) > 0 && c.left[0] == "" {
		c.left = c.left[1:]
	}
	if len(c.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.left[0])
	c.left[0] = c.left[0][n:]
	return n, nil
}

// What waits is written by the next Flush or Send, in its order, and nothing is lost of what several send soon.
func TestTogether(t *testing.T) {
	var out pieces
	w := wire.NewWriter(&out)
	require.NoError(t, w.Put(&wire.Message{Verb: wire.Cancel, ID: 1}, nil))
	require.NoError(t, w.Put(&wire.Message{Verb: wire.Cancel, ID: 2}, nil))
	require.Empty(t, out.all)
	require.NoError(t, w.Send(&wire.Message{Verb: wire.Cancel, ID: 3}, nil))
	require.NoError(t, w.Put(&wire.Message{Verb: wire.Cancel, ID: 4}, nil))
	require.NoError(t, w.Flush())
	require.NoError(t, w.Flush())
	require.Equal(t, []string{"CANCEL 1\n\nCANCEL 2\n\nCANCEL 3\n\n", "CANCEL 4\n\n"}, out.all)

	long := strings.Repeat("x", 16<<10)
	require.NoError(t, w.Put(&wire.Message{Verb: wire.Part, ID: 5}, []byte(long)))
	require.Equal(t, fmt.Sprintf("PART 5\nContent-Length: %d\n\n", 16<<10)+long, strings.Join(out.all[2:], ""), "a long body does not wait")

	out.all = nil
	const senders, each = 16, 200
	var all sync.WaitGroup
	for i := range senders {
		all.Go(func() {
			for k := range each {
				send := w.SendSoon
				if k%3 == 0 {
					send = w.Send
				}
				if err := send(&wire.Message{Verb: wire.More, ID: uint64(1 + i), N: uint64(k)}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	r := wire.NewReader(bytes.NewReader([]byte(strings.Join(out.all, ""))), wire.MaxBody)
	next := make([]uint64, senders)
	for range senders * each {
		var m wire.Message
		require.NoError(t, r.Next(&m))
		require.Equal(t, next[m.ID-1], m.N, "each sender's are in their order")
		next[m.ID-1]++
	}
	require.Equal(t, io.EOF, r.Next(&wire.Message{}))
}

// pieces is a stream that keeps what each Write has.
type pieces struct{ all []string }

func (p *pieces) Write(b []byte) (int, error) {
	p.all = append(p.all, string(b))
	return len(b), nil
}
