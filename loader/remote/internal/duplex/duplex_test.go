package duplex_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/remote/internal/duplex"
)

// way carries messages in one direction, in order, on a goroutine of its own. lose says which are lost.
type way struct {
	c  chan []byte
	mu sync.Mutex
	f  func([]byte) bool
}

func (w *way) lose(f func([]byte) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.f = f
}

func (w *way) to(c *duplex.Conn) {
	go func() {
		for m := range w.c {
			c.Deliver(m)
		}
	}()
}

func (w *way) send(m []byte) error {
	w.mu.Lock()
	lost := w.f != nil && w.f(m)
	w.mu.Unlock()
	if !lost {
		w.c <- bytes.Clone(m)
	}
	return nil
}

// pair makes two ends: the host's, and the node's.
func pair(most int, silence time.Duration) (host, node *duplex.Conn, there, back *way) {
	var ends [2]*duplex.Conn
	there, back = &way{c: make(chan []byte, 1<<16)}, &way{c: make(chan []byte, 1<<16)}
	ends[0] = duplex.New(duplex.Options{Send: there.send, MaxMessage: most, Silence: silence, Host: true}, 0, 1)
	ends[1] = duplex.New(duplex.Options{Send: back.send, MaxMessage: most, Silence: silence}, 0, -1)
	there.to(ends[1])
	back.to(ends[0])
	return ends[0], ends[1], there, back
}

// What is written in pieces of any length is read as it was, both ways at once, also where messages are short.
func TestBytes(t *testing.T) {
	for _, most := range []int{0, 129, 200, 4096} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			host, node, there, _ := pair(most, time.Minute)
			longest := atomic.Int64{}
			there.lose(func(m []byte) bool { longest.Store(max(longest.Load(), int64(len(m)))); return false })
			const total = 5 << 20
			var all sync.WaitGroup
			var sums [4][32]byte
			size := total
			if most == 129 { // a byte each
				size = 20_000
			}
			write := func(i int, c *duplex.Conn) {
				r, h := rand.New(rand.NewPCG(uint64(i), 1)), sha256.New()
				for left := size; left > 0; {
					b := make([]byte, min(left, 1+r.IntN(200_000)))
					for j := range b {
						b[j] = byte(r.Uint32())
					}
					h.Write(b)
					n, err := c.Write(b)
					if !assert.NoError(t, err) || !assert.Equal(t, len(b), n) {
						return
					}
					left -= len(b)
				}
				sums[i] = [32]byte(h.Sum(nil))
			}
			read := func(i int, c *duplex.Conn) {
				h := sha256.New()
				b := make([]byte, 70_000)
				for left := size; left > 0; {
					n, err := c.Read(b[:1+rand.IntN(len(b))])
					if !assert.NoError(t, err) {
						return
					}
					h.Write(b[:n])
					left -= n
				}
				sums[i] = [32]byte(h.Sum(nil))
			}
			all.Go(func() { write(0, host) })
			all.Go(func() { write(1, node) })
			all.Go(func() { read(2, node) })
			all.Go(func() { read(3, host) })
			all.Wait()
			assert.Equal(t, sums[0], sums[2])
			assert.Equal(t, sums[1], sums[3])
			if most > 0 {
				assert.LessOrEqual(t, longest.Load(), int64(most))
			}
			require.NoError(t, host.Close())
			_, err := node.Read(make([]byte, 1))
			assert.Equal(t, io.EOF, err)
			_, err = host.Read(make([]byte, 1))
			assert.ErrorIs(t, err, os.ErrClosed)
			_, err = host.Write([]byte("x"))
			assert.ErrorIs(t, err, os.ErrClosed)
		})
	}
}

// Who does not read has no more than a window's bytes, and who writes waits.
func TestWindow(t *testing.T) {
	host, node, _, _ := pair(0, time.Minute)
	written := make(chan int, 1)
	go func() {
		n, _ := host.Write(make([]byte, 3*duplex.Window))
		written <- n
	}()
	time.Sleep(50 * time.Millisecond)
	select {
	case n := <-written:
		t.Fatalf("%d bytes were written", n)
	default:
	}
	n, err := io.CopyN(io.Discard, node, 3*duplex.Window)
	require.NoError(t, err)
	assert.EqualValues(t, 3*duplex.Window, n)
	assert.Equal(t, 3*duplex.Window, <-written)
	go func() { // a byte each
		n := 0
		for range 3 * duplex.Pieces {
			if _, err := host.Write([]byte("x")); err != nil {
				break
			}
			n++
		}
		written <- n
	}()
	time.Sleep(50 * time.Millisecond)
	select {
	case n := <-written:
		t.Fatalf("%d messages were written", n)
	default:
	}
	_, err = io.CopyN(io.Discard, node, 3*duplex.Pieces)
	require.NoError(t, err)
	assert.Equal(t, 3*duplex.Pieces, <-written)
	require.NoError(t, host.Err())
}

// A message that is lost ends the stream when the next one comes; what came before it is read.
func TestLost(t *testing.T) {
	host, node, there, _ := pair(0, time.Minute)
	_, err := host.Write([]byte("one"))
	require.NoError(t, err)
	there.lose(func([]byte) bool { return true })
	_, err = host.Write([]byte("two"))
	require.NoError(t, err)
	there.lose(nil)
	_, err = host.Write([]byte("three"))
	require.NoError(t, err)
	<-node.Done()
	b := make([]byte, 10)
	n, err := node.Read(b)
	require.NoError(t, err)
	assert.Equal(t, "one", string(b[:n]))
	_, err = node.Read(b)
	assert.ErrorIs(t, err, duplex.ErrLost)
}

// bubble runs a test in time of its own, with two ends.
func bubble(t *testing.T, silence time.Duration, test func(t *testing.T, host, node *duplex.Conn, there, back *way)) {
	synctest.Test(t, func(t *testing.T) {
		host, node, there, back := pair(0, silence)
		test(t, host, node, there, back)
		host.Fail(io.EOF)
		node.Fail(io.EOF)
		synctest.Wait()
		close(there.c)
		close(back.c)
	})
}

// What is lost last is found to be lost, too: no message comes behind it, but each says how much there was when it is asked whether it is there, or asks.
func TestLostLast(t *testing.T) {
	for name, first := range map[string]func(host, node *duplex.Conn, there, back *way) (*duplex.Conn, *way){
		"host's": func(host, _ *duplex.Conn, there, _ *way) (*duplex.Conn, *way) { return host, there },
		"node's": func(_, node *duplex.Conn, _, back *way) (*duplex.Conn, *way) { return node, back },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, time.Hour, func(t *testing.T, host, node *duplex.Conn, there, back *way) {
				from, by := first(host, node, there, back)
				by.lose(func([]byte) bool { return true })
				_, err := from.Write([]byte("one"))
				require.NoError(t, err)
				by.lose(nil)
				defer host.Wait()()
				time.Sleep(time.Minute)
				to := host
				if from == host {
					to = node
				}
				assert.ErrorIs(t, to.Err(), duplex.ErrLost)
				assert.Equal(t, io.EOF, from.Err(), "the other one tells that it is over")
			})
		})
	}
}

// A side that gives the other one up tells it so: what that has begun is for nobody any more.
func TestGivenUp(t *testing.T) {
	bubble(t, 300*time.Millisecond, func(t *testing.T, host, node *duplex.Conn, _, back *way) {
		back.lose(func([]byte) bool { return true })
		defer host.Wait()()
		time.Sleep(time.Second)
		assert.ErrorIs(t, host.Err(), duplex.ErrSilent)
		assert.Equal(t, io.EOF, node.Err())
	})
}

// A side that says nothing is given up where something is waited for, when it was asked in vain; one that answers is not.
func TestSilence(t *testing.T) {
	bubble(t, 300*time.Millisecond, func(t *testing.T, host, _ *duplex.Conn, _, _ *way) {
		end := host.Wait()
		time.Sleep(time.Minute)
		require.NoError(t, host.Err())
		end()
		time.Sleep(time.Minute)
		require.NoError(t, host.Err())
	})
	bubble(t, 300*time.Millisecond, func(t *testing.T, silent, _ *duplex.Conn, _, back *way) {
		back.lose(func([]byte) bool { return true })
		defer silent.Wait()()
		begin := time.Now()
		_, err := silent.Read(make([]byte, 1))
		assert.ErrorIs(t, err, duplex.ErrSilent)
		assert.Less(t, time.Since(begin), time.Second)
	})
}

// The clocks are compared again and again, also where something comes all the time, and nobody needs to be asked whether he is there.
func TestClockOfBusySession(t *testing.T) {
	bubble(t, time.Minute, func(t *testing.T, host, node *duplex.Conn, there, _ *way) {
		var asked atomic.Int64
		there.lose(func(m []byte) bool {
			if bytes.HasPrefix(m, []byte("ASK ")) {
				asked.Add(1)
			}
			return false
		})
		defer host.Wait()()
		for range 10_000 {
			_, err := node.Write([]byte("x"))
			require.NoError(t, err)
			_, err = host.Read(make([]byte, 1))
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
		}
		assert.GreaterOrEqual(t, asked.Load(), int64(3))
		assert.LessOrEqual(t, asked.Load(), int64(10))
	})
}

// Where a clock is set, the difference is found anew by the next comparison, however good the one before was.
func TestClockThatIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var step atomic.Int64
		last := func(m []byte, verb string, add int64) []byte { // with its last number changed
			line, body, _ := bytes.Cut(bytes.Clone(m), []byte{'\n'})
			if !bytes.HasPrefix(line, []byte(verb)) {
				return bytes.Clone(m)
			}
			at := bytes.LastIndexByte(line, ' ') + 1
			n, err := strconv.ParseInt(string(line[at:]), 10, 64)
			require.NoError(t, err)
			return append(fmt.Appendf(line[:at:at], "%d\n", n+add), body...)
		}
		var host, node *duplex.Conn
		there, back := make(chan []byte, 100), make(chan []byte, 100)
		host = duplex.New(duplex.Options{Send: func(m []byte) error { there <- last(m, "DATA ", -step.Load()); return nil }, Silence: time.Minute, Host: true}, 0, 1)
		node = duplex.New(duplex.Options{Send: func(m []byte) error { back <- last(m, "HERE ", step.Load()); return nil }, Silence: time.Minute}, 0, -1)
		go func() {
			for m := range there {
				node.Deliver(m)
			}
		}()
		go func() {
			for m := range back {
				time.Sleep(10 * time.Millisecond) // less is known than at first
				host.Deliver(m)
			}
		}()
		age := func() time.Duration {
			defer host.Wait()()
			b := make([]byte, 1)
			_, err := host.Write([]byte("x"))
			require.NoError(t, err)
			_, err = node.Read(b)
			require.NoError(t, err)
			found := node.Age()
			_, err = node.Write([]byte("y"))
			require.NoError(t, err)
			_, err = host.Read(b)
			require.NoError(t, err)
			return found
		}
		require.Less(t, age(), time.Second)
		step.Store(int64(time.Hour))
		begin, wrong := time.Now(), time.Duration(0)
		for time.Since(begin) < 15*time.Second {
			if age() > time.Minute {
				wrong = time.Since(begin)
			}
			time.Sleep(50 * time.Millisecond)
		}
		assert.Less(t, wrong, 5*time.Second)
		host.Fail(io.EOF)
		node.Fail(io.EOF)
		synctest.Wait()
		close(there)
		close(back)
	})
}

// What a node reads is as old as it is, by the host's knowledge of the node's clock.
func TestAge(t *testing.T) {
	const ahead = time.Hour // the node's clock, as the host has it: what it sends is stamped an hour later
	held := make(chan []byte, 10)
	host := duplex.New(duplex.Options{Send: func(m []byte) error { held <- bytes.Clone(m); return nil }, Silence: time.Minute, Host: true}, -ahead, 1)
	node := duplex.New(duplex.Options{Send: func([]byte) error { return nil }, Silence: time.Minute}, 0, -1)
	_, err := host.Write([]byte("x"))
	require.NoError(t, err)
	node.Deliver(<-held)
	_, err = node.Read(make([]byte, 1))
	require.NoError(t, err)
	assert.InDelta(t, ahead, node.Age(), float64(time.Minute))
	before := node.Age()
	time.Sleep(10 * time.Millisecond)
	assert.GreaterOrEqual(t, node.Age(), before+10*time.Millisecond)
}

// The host finds the difference of the clocks anew.
func TestClock(t *testing.T) {
	var host *duplex.Conn
	asked := make(chan []byte, 10)
	host = duplex.New(duplex.Options{Send: func(m []byte) error { asked <- bytes.Clone(m); return nil }, Silence: time.Minute, Host: true}, 0, time.Hour)
	defer host.Wait()()
	var used, sent, at int64
	_, err := fmt.Sscanf(string(<-asked), "ASK %d %d %d\n", &used, &sent, &at)
	require.NoError(t, err)
	const ahead = 90 * time.Second
	host.Deliver(fmt.Appendf(nil, "HERE 0 0 %d %d\n", at, time.Now().Add(ahead).UnixNano()))
	offset, bound := host.Clock()
	assert.Less(t, bound, time.Minute)
	assert.InDelta(t, ahead, offset, float64(bound+time.Second))
}

// Each of these is no message, or not the next one: the stream ends, and says why.
func TestBroken(t *testing.T) {
	for _, m := range []string{
		"", "\n", "DATA", "DATA 0 0", "DATA\nx", "DATA 0\nx", "DATA 0 0\n", "DATA 1 0\nx", "DATA 0 1\nx", "DATA 0 0 1 1\nx", "DATA x 0\nx", "DATA -1 0\nx", "DATA 0  0\nx",
		"DATA 9223372036854775808 0\nx", "ASK 0\n", "ASK 0 0\n", "ASK 0 1 1\n", "ASK 0 0 1 1\n", "HERE 0 0 1\n", "HERE 0 1 1 1\n", "HERE 0 0 1 1 1\n", "HERE\n", "USED\n", "USED 1\n", "USED 0 0\n", "END\n", "HELLO 0\n", "data 0 0\nx",
		"DATA 0 0" + string(bytes.Repeat([]byte(" "), 200)) + "\nx", string(bytes.Repeat([]byte("x"), 1<<20)),
		"DATA 0 0\n" + string(bytes.Repeat([]byte("x"), duplex.Window+1)),
	} {
		c := duplex.New(duplex.Options{Send: func([]byte) error { return nil }, Silence: time.Minute}, 0, -1)
		c.Deliver([]byte(m))
		err := c.Err()
		assert.True(t, errors.Is(err, duplex.ErrBroke) || errors.Is(err, duplex.ErrLost), "%.40q: %v", m, err)
	}
}

// Whatever comes, nothing panics, no more than a window is kept, and what is read is what came in order.
func FuzzDeliver(f *testing.F) {
	f.Add([]byte("DATA 0 0\nabc|DATA 0 3 5\ndef|ASK 0 6 7|USED 0|HERE 0 6 1 2|END 0"))
	f.Fuzz(func(t *testing.T, all []byte) {
		c := duplex.New(duplex.Options{Send: func(m []byte) error {
			if len(m) > 128 || m[len(m)-1] != '\n' {
				t.Errorf("%q is sent", m)
			}
			return nil
		}, Silence: time.Minute}, 0, -1)
		defer c.Fail(io.EOF)
		var expected []byte
		for m := range bytes.SplitSeq(all, []byte("|")) {
			before := c.Err()
			c.Deliver(slices.Clone(m))
			var used, at int
			if k, _ := fmt.Sscanf(string(m), "DATA %d %d", &used, &at); k == 2 && before == nil && c.Err() == nil {
				_, body, _ := bytes.Cut(m, []byte("\n"))
				expected = append(expected, body...)
			}
		}
		c.Fail(io.EOF)
		found, _ := io.ReadAll(c)
		if !bytes.Equal(expected, found) {
			t.Fatalf("%q was read, and %q came", found, expected)
		}
		if len(found) > duplex.Window {
			t.Fatalf("%d bytes were kept", len(found))
		}
	})
}
