//go:build unix

package wire

import (
	"bytes"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// changing is memory that somebody else writes to while the host reads it. It is mapped, as what a host shares with a
// worker is: the race detector is not to find what cannot be helped.
func changing(t testing.TB, size int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(b)) })
	return b
}

// FuzzParseChanging parses what changes meanwhile between two states, 32 bytes of it at a time.
func FuzzParseChanging(f *testing.F) {
	good := AppendOutcome(nil, batchOf("a", "!b", "c", "!d", "!"), EndingNone)
	for _, b := range lies {
		f.Add(good, b, 5)
		f.Add(b, good, 5)
	}
	// The same but for one word.
	for _, truth := range [][]byte{
		outcome(u32(2), u32(0), u64(4), u64(0), u64(2), u32(0), u32(0), u64(2), u64(4), u32(0), u32(0), "four"),
		AppendOutcome(nil, batchOf("!b"), EndingNone),
	} {
		for at := 0; at < min(len(truth), headSize+2*recordSize); at += 4 {
			for _, word := range []uint32{0, 1, 5, 1 << 31, math.MaxUint32} {
				lie := bytes.Clone(truth)
				order.PutUint32(lie[at:], word)
				f.Add(truth, lie, 2)
			}
		}
	}
	for _, text := range texts {
		f.Add([]byte(text), bytes.ReplaceAll([]byte(text), []byte(`"`), []byte("[")), 2)
		f.Add([]byte(text), bytes.ReplaceAll([]byte(text), []byte(":"), []byte(",")), 2)
	}
	f.Add(AppendOutcome(nil, batchOf("aaaaaaaaaaaaaaaaaaaaaaaa", "b"), EndingNone),
		AppendOutcome(nil, batchOf("a", "bbbbbbbbbbbbbbbbbbbbbbbbbbb"), EndingNone), 2)
	f.Fuzz(func(t *testing.T, one, other []byte, most int) {
		size := max(len(one), len(other))
		if size == 0 || size > 1<<16 {
			return
		}
		most = max(most, 0)
		b := changing(t, size)
		copy(b, one)
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; !stop.Load(); n++ {
				for _, state := range [][]byte{other, one} {
					for at := 0; at < len(state); at += 32 {
						copy(b[at:], state[at:min(at+32, len(state))])
					}
				}
				if n%16 == 0 {
					runtime.Gosched()
				}
			}
		}()
		defer wg.Wait()
		defer stop.Store(true)
		var inputs [][]byte
		for start := time.Now(); time.Since(start) < 300*time.Microsecond; {
			got := batchOf("before", "!", "!")
			_, err := ParseOutcome(b, most, got)
			checkOutcome(t, got, b, most, err)

			inputs, _ = ParseBatch(b, inputs[:0])
			total := 0
			for _, in := range inputs {
				total += len(in)
			}
			require.LessOrEqual(t, total+8*len(inputs), size)

			if v, err := ParseViolation(b); err == nil {
				require.NotNil(t, v)
			}
			if e, err := ParseStartError(b); err == nil {
				require.True(t, e.Status > 0 || e.Err != nil, "%v", e)
			}
			if e, err := ParseOpenError(b, ""); err == nil {
				require.NotEmpty(t, e.Error())
			}
			_, _ = ParseOpened(b)
		}
	})
}
