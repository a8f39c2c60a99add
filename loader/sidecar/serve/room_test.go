package serve_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// rawHost is a host that writes what a test says.
type rawHost struct {
	t    *testing.T
	conn net.Conn
	r    *wire.Reader
	m    wire.Message
}

// startedHost says hello, and has the plug-in started.
func startedHost(t *testing.T, conn net.Conn) *rawHost {
	h := &rawHost{t: t, conn: conn, r: wire.NewReader(conn, wire.MaxBody)}
	h.says("HELLO 1\n\n")
	h.next(wire.Hello)
	h.says("CALL 1 ferrule.start\n\n")
	h.next(wire.Done)
	return h
}

func (h *rawHost) says(format string, args ...any) {
	h.t.Helper()
	_, err := fmt.Fprintf(h.conn, format, args...)
	require.NoError(h.t, err)
}

// calls calls f.
func (h *rawHost) calls(id int, input string) {
	h.t.Helper()
	h.says("CALL %d f\nContent-Length: %d\n\n", id, len(input))
	_, err := io.WriteString(h.conn, input)
	require.NoError(h.t, err)
}

// next reads up to a message of this verb, and offers nothing meanwhile.
func (h *rawHost) next(verb wire.Verb) {
	h.t.Helper()
	for h.m.Verb = 0; h.m.Verb != verb; {
		require.NoError(h.t, h.r.Next(&h.m))
		require.NoError(h.t, h.r.Skip())
		if h.m.Verb == wire.Call {
			h.says("DONE %d 3\n\n", h.m.ID)
		}
	}
}

// TestRoom: a session has room for so many calls without an answer, and so many bytes of their inputs. One of these may be cancelled, and another one takes its place; what is more breaks rule W7.
func TestRoom(t *testing.T) { // alone, as the next one: both have much in memory
	for name, c := range map[string]struct {
		calls, length int
		found         string
	}{
		"calls": {wire.MaxCalls, 0, "more than 4096 calls without an answer"},
		"bytes": {4, 64 << 20, "calls without an answer with 268435457 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			began := make(chan struct{}, wire.MaxCalls+2)
			conn, outcome := session(t, t.Context(), plugin(began), serve.Options{})
			h := startedHost(t, conn)
			input := strings.Repeat("x", c.length)
			for id := range c.calls {
				h.calls(2+id, input)
			}
			for range c.calls {
				<-began
			}
			h.says("CANCEL 2\n\n")
			h.next(wire.Done)
			assert.Equal(t, [2]uint64{2, uint64(abi.StatusCancelled)}, [2]uint64{h.m.ID, uint64(h.m.Status)})
			h.calls(9001, input)
			<-began
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			h.says("CALL 9002 f\nContent-Length: 1\n\nx")
			var broken *wire.Error
			require.ErrorAs(t, <-outcome, &broken)
			assert.Equal(t, "W7", broken.Rule)
			assert.Equal(t, c.found, broken.Found)
		})
	}
}

// TestUnread: while a host leaves 256 MiB of answers unread, what it calls runs no more; and it may not go on so for ever.
func TestUnread(t *testing.T) {
	var ran atomic.Int64
	talks := serve.Go(&builtin.Plugin{Name: "talks", Version: "1", Threads: abi.Concurrent, Funcs: []builtin.Function{
		{Name: "short", Call: func(context.Context, []byte) ([]byte, error) {
			ran.Add(1)
			return nil, nil
		}},
		{Name: "long", Call: func(context.Context, []byte) ([]byte, error) { return make([]byte, wire.MaxBody), nil }},
	}})
	conn, outcome := session(t, t.Context(), talks, serve.Options{})
	h := startedHost(t, conn)
	h.says("CALL 2 long\n\n")
	first := make([]byte, 1)
	_, err := conn.Read(first)
	require.NoError(t, err)
	h.says("CALL 3 short\n\nCALL 4 short\n\nCANCEL 3\n\n")
	h.r = wire.NewReader(io.MultiReader(strings.NewReader(string(first)), conn), wire.MaxBody)
	answers := make(map[uint64]abi.Status)
	for range 3 {
		h.next(wire.Done)
		answers[h.m.ID] = h.m.Status
	}
	assert.Equal(t, map[uint64]abi.Status{2: abi.StatusOK, 3: abi.StatusCancelled, 4: abi.StatusOK}, answers)
	assert.Equal(t, int64(1), ran.Load())

	go func() {
		for id := 5; ; id++ {
			if _, err := fmt.Fprintf(conn, "CALL %d short\n\n", id); err != nil {
				return
			}
		}
	}()
	var broken *wire.Error
	require.ErrorAs(t, <-outcome, &broken)
	assert.Equal(t, "W7", broken.Rule)
	assert.Equal(t, "more than 4096 calls whose answers are not read", broken.Found)
}

// TestAnswersThatWait: calls are taken while answers to those before wait for a host that does not read, also the answers that were to go with the next one.
func TestAnswersThatWait(t *testing.T) {
	t.Parallel()
	ran := make(chan struct{}, 2)
	conn, _ := session(t, t.Context(), serve.Go(&builtin.Plugin{Name: "quick", Version: "1", Threads: abi.Concurrent, Funcs: []builtin.Function{
		{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { ran <- struct{}{}; return nil, nil }},
	}}), serve.Options{})
	h := startedHost(t, conn)
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	h.says("CALL 2 f\n\nCANCEL 9\n\n") // the answer is not written before CANCEL is read
	<-ran
	h.says("CALL 3 f\n\n")
	<-ran
	for answers := range 2 {
		h.next(wire.Done)
		assert.Contains(t, []uint64{2, 3}, h.m.ID, answers)
	}
}

// TestAnswersBehindBye: what was called before a host says BYE is answered, also where the host reads the answers after it.
func TestAnswersBehindBye(t *testing.T) {
	t.Parallel()
	for range 20 {
		ran := make(chan struct{}, 1)
		conn, outcome := session(t, t.Context(), serve.Go(&builtin.Plugin{Name: "quick", Version: "1", Funcs: []builtin.Function{
			{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { ran <- struct{}{}; return nil, nil }},
		}}), serve.Options{})
		h := startedHost(t, conn)
		h.says("CALL 2 f\n\nCANCEL 9\n\n") // the answer is not written before CANCEL is read
		<-ran
		h.says("BYE\n\n")
		time.Sleep(20 * time.Millisecond) // it has other things to do
		h.next(wire.Done)
		assert.Equal(t, uint64(2), h.m.ID)
		assert.NoError(t, <-outcome)
	}
}

// TestPiecesAsLongAsTheWindow: whatever was read at a time, a host that sends pieces as long as the window can send the next one once all that came was used (rule W15).
func TestPiecesAsLongAsTheWindow(t *testing.T) {
	t.Parallel()
	conn, _ := session(t, t.Context(), serve.Go(&builtin.Plugin{Name: "reads", Version: "1", Funcs: []builtin.Function{{Name: "f", Stream: abi.StreamIn,
		Call: func(ctx context.Context, _ []byte) ([]byte, error) {
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{builtin.Input(ctx)}, make([]byte, 4099))
			return fmt.Append(nil, n), err
		}}}}), serve.Options{})
	h := startedHost(t, conn)
	h.says("CALL 2 f\nStream: in\n\n")
	h.says("PART 2\nContent-Length: 1\n\nx")
	credit := uint64(wire.Window - 1)
	for range 4 {
		for credit < wire.Window {
			h.next(wire.More)
			credit += h.m.N
		}
		go func() { // the pipe takes it as it is read, and MORE comes meanwhile
			_, err := fmt.Fprintf(conn, "PART 2\nContent-Length: %d\n\n%s", wire.Window, strings.Repeat("x", wire.Window))
			assert.NoError(t, err)
		}()
		credit -= wire.Window
	}
	for credit < wire.Window { // all of the last one
		h.next(wire.More)
		credit += h.m.N
	}
	h.says("PART 2\n\n")
	h.next(wire.Done)
	assert.Equal(t, abi.StatusOK, h.m.Status)
}
