// Package worker is what runs in a worker process: it serves the lanes of the memory that it shares with its host, with
// the engine that runs plug-ins natively.
package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
)

// Variable is the environment variable that makes a process a worker: Value's text.
const Variable = "FERRULE_WORKER"

// version is the protocol's, as Value has it.
var version = strconv.Itoa(mark.Version)

const plain, sandboxed = "plain", "sandbox"

// Value returns what Variable is set to for a worker that inherits these handles: the end of a pipe that the host holds
// open as long as it lives, then what lane.Attach takes, and then, where a library is handed over so, its own.
func Value(sandbox bool, handles ...uintptr) string {
	text := version + " " + plain
	if sandbox {
		text = version + " " + sandboxed
	}
	for _, h := range handles {
		text += " " + strconv.FormatUint(uint64(h), 10)
	}
	return text
}

// The exit codes by which a worker says what went wrong before it could serve, or while it did.
const (
	ExitProtocol = 97 // started by another version of this package, or not by one
	ExitGarbage  = 98 // the shared memory was overwritten
	ExitLost     = 99 // the pipe that the host wakes the worker by was closed
)

// Sandbox shuts the process in; see package sandbox. libraries are the files that it needs: the plug-in's library, and those
// that the host has found for it. It returns the layers that are active.
type Sandbox func(config []byte, libraries []wire.Library) (layers []string, err error)

// Requested reports whether this process was started as a worker, and whether with a sandbox.
func Requested() (worker, sandbox bool) {
	text := os.Getenv(Variable)
	return text != "", strings.HasPrefix(text, version+" "+sandboxed)
}

// Main serves the host until it is gone, and ends the process. sandbox is nil where the program has none.
func Main(sandbox Sandbox) {
	fields := strings.Fields(os.Getenv(Variable))
	_ = os.Unsetenv(Variable)
	if len(fields) != 3+lane.FilesOfWorker+libfile.Handoffs || fields[0] != version {
		fail(ExitProtocol, fmt.Sprintf("%s=%q is of another version than this program's %s", Variable, fields, version))
	}
	var files []*os.File
	var handles []uintptr
	for _, field := range fields[2:] {
		handle, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			fail(ExitProtocol, err.Error())
		}
		handles = append(handles, uintptr(handle))
	}
	alone := closeOthers(handles)
	for _, handle := range handles {
		keep(handle)
		files = append(files, os.NewFile(handle, "inherited"))
	}
	prepareLibc()
	surrender()
	admits := admitThreads()
	go dieWithHost(files[0])
	memory, err := lane.Attach(files[1:][:lane.FilesOfWorker])
	if err != nil {
		fail(ExitProtocol, err.Error())
	}
	recordFaults(memory.Fault())
	go func() {
		err := <-memory.Lost()
		if errors.Is(err, io.EOF) {
			time.Sleep(time.Second) // dieWithHost ends this process, and does it better
		}
		fail(ExitLost, "the pipe that the host wakes this process by: "+err.Error())
	}()
	s := &server{memory: memory, sandbox: sandbox, admits: admits, alone: alone}
	if libfile.Handoffs > 0 {
		s.library = files[len(files)-1]
	}
	memory.Lanes(s.serve)
}

func fail(code int, text string) {
	fmt.Fprintln(os.Stderr, "ferrule worker: "+text)
	os.Exit(code)
}

// server runs one plug-in for its host.
type server struct {
	memory  *lane.Worker
	sandbox Sandbox
	admits  bool       // whether the plug-in's own threads can use host services
	alone   bool       // whether the process has no descriptors but its own
	mu      sync.Mutex // guards opening
	library *os.File   // what to load, or nil where its path is sent
	engine  atomic.Pointer[native.Plugin]
	control controlContext
}

// serve serves one lane.
func (s *server) serve(l *lane.WorkerLane) {
	plain, nested := &laneContext{lane: l}, &laneContext{lane: l, nested: true}
	var batch engine.Batch
	var inputs [][]byte
	for {
		m, in, room, err := l.Next()
		switch ctx := plain; {
		case err != nil && !errors.Is(err, lane.ErrGarbage):
			err = answer(l, nil, 0, tooLong(int(m.Len), err))
		case err != nil:
		case m.Op == lane.OpCall || m.Op == lane.OpBatch:
			if m.Flags&lane.FlagNested != 0 {
				ctx = nested
			}
			e := s.engine.Load()
			switch {
			case e == nil:
				err = l.Fail(lane.FailedClosed, nil)
			case m.Op == lane.OpCall:
				out, status, failure := e.Append(ctx, engine.Fn(m.Fn), room[:0], in)
				err = answer(l, out, status, failure)
			default:
				if inputs, err = wire.ParseBatch(in, inputs[:0]); err != nil {
					break
				}
				err = answerBatch(l, room, &batch, e.Batch(ctx, engine.Fn(m.Fn), inputs, &batch))
				if cap(batch.Out) > keepBatch {
					batch.Out = nil
				}
			}
		case m.Op == lane.OpOpen:
			err = s.open(l, in)
		case m.Op == lane.OpStop:
			if e := s.engine.Load(); e != nil {
				s.control.lane.Store(l)
				_ = e.Close() // unloading is the system's, at the end of the process
			}
			if err = l.Done(0, nil); err == nil {
				leave()
			}
		default:
			err = lane.ErrGarbage
		}
		if err != nil {
			fail(ExitGarbage, err.Error())
		}
	}
}

// keepBatch is how much memory for the outputs of batches a lane keeps, in bytes.
const keepBatch = 4 << 20

// answerBatch ends a batch as the engine did.
func answerBatch(l *lane.WorkerLane, room []byte, batch *engine.Batch, failure error) error {
	ending := wire.EndingNone
	switch {
	case errors.Is(failure, context.Canceled):
		ending = wire.EndingCancelled
	case errors.Is(failure, native.ErrFull):
		ending = wire.EndingFull
	case failure != nil:
		return answer(batchAnswers{l, batch}, nil, 0, failure)
	}
	if n := wire.OutcomeSize(batch); n > len(room) { // written where it goes, and not copied there
		if larger, err := l.Room(n); err == nil {
			room = larger
		} else if errors.Is(err, lane.ErrGarbage) {
			return err
		} else {
			return answer(l, nil, 0, tooLong(n, err))
		}
	}
	return l.Done(0, wire.AppendOutcome(room[:0], batch, ending))
}

func tooLong(n int, why error) error {
	return &engine.TooLong{Text: fmt.Sprintf("an output of %d bytes: %v", n, why)}
}

// outputs says where the outputs of calls go that are too long for the room that came with the call: to memory of the
// host's, to which they are copied from the plug-in's own. Nothing is copied before there is room for it.
func outputs(o *wire.Open) native.Outputs {
	most := int64(math.MaxInt)
	if o.Memory > 0 {
		most = copyShare(o.Memory)
	}
	if o.Longest > 0 {
		most = min(most, o.Longest)
	}
	const stop = 16 << 20
	return native.Outputs{MaxBatch: int(most), StopBatch: int(min(stop, most/2+1)),
		Room: func(ctx context.Context, _ []byte, n int) ([]byte, error) {
			room, err := laneOf(ctx).Room(n)
			if errors.Is(err, lane.ErrGarbage) {
				fail(ExitGarbage, err.Error())
			} else if err != nil {
				return nil, tooLong(n, err)
			}
			return room[:0], nil
		}}
}

// copyShare is how much of the memory that a sandbox leaves the worker may go into one copy in Go's heap, in bytes. Such a
// copy may be there twice, and as much again that is garbage; the Go runtime ends the process when there is no memory for it.
func copyShare(memory int64) int64 { return memory / 8 }

// admit returns what lane.Worker.Bounds takes for a worker with so much memory; 0 is no limit.
func admit(memory int64) func(n int) error {
	if memory == 0 {
		return nil
	}
	return func(n int) error {
		if share := copyShare(memory); int64(n) > share {
			return fmt.Errorf("a result of %d bytes, and the worker takes %d with the memory that it has (sandbox.Policy.Memory)", n, share)
		}
		return nil
	}
}

// answers is how a lane ends a call.
type answers interface {
	Done(status int32, out []byte) error
	Fail(failure lane.Failure, text []byte) error
}

// batchAnswers does so for a batch.
type batchAnswers struct {
	*lane.WorkerLane
	batch *engine.Batch
}

// Fail says what became of the inputs that ran, too.
func (a batchAnswers) Fail(failure lane.Failure, text []byte) error {
	if len(a.batch.Records) == 0 {
		return a.WorkerLane.Fail(failure, text)
	}
	return a.FailBatch(failure, wire.AppendOutcome(nil, a.batch, wire.EndingNone), text)
}

// answer ends a call as the engine did.
func answer(l answers, out []byte, status abi.Status, err error) error {
	if err == nil {
		return l.Done(int32(status), out)
	}
	var violation *engine.Violation
	var start *engine.StartError
	var long *engine.TooLong
	switch {
	case errors.As(err, &long):
		return l.Fail(lane.FailedTooLong, []byte(long.Text))
	case errors.As(err, &start): // first: its cause may be a violation
		return l.Fail(lane.FailedStart, wire.StartError(start))
	case errors.As(err, &violation):
		return l.Fail(lane.FailedRule, wire.Violation(violation))
	case errors.Is(err, context.Canceled):
		return l.Fail(lane.FailedCancelled, nil)
	case errors.Is(err, engine.ErrReentrant):
		return l.Fail(lane.FailedReentrant, nil)
	case errors.Is(err, engine.ErrClosed):
		return l.Fail(lane.FailedClosed, nil)
	default:
		return l.Fail(lane.FailedOpen, wire.OpenError(err))
	}
}

// open loads the plug-in and starts its instances.
func (s *server) open(l *lane.WorkerLane, in []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine.Load() != nil {
		return lane.ErrGarbage
	}
	var o wire.Open
	if err := wire.Unmarshal(in, &o); err != nil {
		return err
	}
	s.control.lane.Store(l)
	s.memory.Bounds(o.Longest, o.Memory, admit(o.Memory))
	var layers []string
	if s.alone {
		layers = append(layers, "own descriptors")
	}
	copy, err := libfile.Received(s.library, string(o.Copy))
	if err != nil {
		return l.Fail(lane.FailedOpen, wire.OpenError(err))
	}
	lib, err := native.InspectCopy(string(o.Path), copy)
	if err != nil {
		return l.Fail(lane.FailedOpen, wire.OpenError(err))
	}
	brought := native.Bring(string(o.Path), copy, lib)
	if len(o.Sandbox) > 0 && string(o.Sandbox) != "null" {
		boxed, err := s.shutIn(&o)
		if err != nil {
			return l.Fail(lane.FailedOpen, wire.OpenError(err))
		}
		layers = append(layers, boxed...)
	}
	// Before the library's constructors run, which could say anything in this memory.
	if err := l.Layers(wire.Layers(layers)); err != nil {
		return err
	}
	image, err := native.Load(context.Background(), string(o.Path), native.LoadOptions{Copy: copy, Brought: brought, AllowGo: true, ExecStack: true,
		Accept: func(lib *inspect.Library) error { // the host has looked, but it may be another file by now
			if slices.Equal(wire.Contents(lib), o.Contents) {
				return nil
			}
			return &inspect.Error{Kind: native.ErrDigest, Found: "another library than when it was opened",
				Expected: "the same functions, hooks, imports and threads", Remedy: "Close the plug-in and open it again"}
		}, Loading: beforeLoading})
	if err != nil {
		return l.Fail(lane.FailedOpen, wire.OpenError(err))
	}
	s.memory.Fault().Base = uint64(image.Base())
	afterLoading()
	e, err := native.New(image, native.Options{Host: proxy{}, Outputs: outputs(&o), Config: o.Config, Instances: o.Instances, Context: &s.control})
	if err != nil {
		return answer(l, nil, 0, err)
	}
	s.engine.Store(e)
	return l.Done(0, wire.Marshal(wire.Opened{Deaf: !s.admits}))
}

// shutIn applies the sandbox, before anything of the library is touched.
func (s *server) shutIn(o *wire.Open) ([]string, error) {
	if s.sandbox == nil {
		return nil, &inspect.Error{Kind: wire.ErrSandbox, Found: "a worker program without package sandbox",
			Expected: "one that imports it", Remedy: "Import loader/isolate/sandbox in the worker's program"}
	}
	libraries := o.Libraries
	switch {
	case o.Held: // the descriptor's file, whatever is at its path by now
		libraries = append(libraries, wire.Library{Path: fmt.Appendf(nil, "/proc/thread-self/fd/%d", s.library.Fd())})
	case len(o.Copy) > 0:
		libraries = append(libraries, wire.Library{Path: o.Copy})
	}
	layers, err := s.sandbox(o.Sandbox, libraries)
	var mistake *inspect.Error
	switch {
	case err == nil:
		return layers, nil
	case errors.As(err, &mistake):
		refused := *mistake
		refused.Kind = wire.ErrSandbox
		return nil, &refused
	default: // the system said no where it should have said yes
		return nil, &inspect.Error{Kind: wire.ErrSandbox, Found: err.Error(), Expected: "a system that lets the worker give up rights",
			Remedy: "Look for what refuses it: a container's seccomp profile, or limits of the user's"}
	}
}

// proxy is the host of the plug-ins in this process: it hands on to the process's own host.
type proxy struct{}

func (proxy) Call(ctx context.Context, ordinal uint32, in []byte) ([]byte, abi.Status) {
	out, status, err := laneOf(ctx).HostCall(ordinal, in)
	if err != nil {
		return hostGone(err)
	}
	return out, abi.Status(status)
}

// hostGone is what a plug-in gets where its host has no answer.
func hostGone(err error) ([]byte, abi.Status) {
	if errors.Is(err, lane.ErrGarbage) {
		fail(ExitGarbage, err.Error())
	}
	return []byte("host function: " + err.Error()), abi.StatusNoMemory
}

func (proxy) Panicked(_ context.Context, _ uint32, value any) ([]byte, abi.Status) {
	return fmt.Appendf(nil, "the worker panicked: %v", value), abi.StatusFailed
}

func (proxy) Log(ctx context.Context, level abi.Level, text []byte) {
	if err := laneOf(ctx).Log(uint32(level), text); errors.Is(err, lane.ErrGarbage) {
		fail(ExitGarbage, err.Error())
	}
}

// laneContext is the context of the calls on a lane. It ends when the host has set the lane's cancellation word.
type laneContext struct {
	lane   *lane.WorkerLane
	nested bool
}

var _ native.Canceller = (*laneContext)(nil)

type laneKey struct{}

func laneOf(ctx context.Context) *lane.WorkerLane {
	return ctx.Value(laneKey{}).(*lane.WorkerLane) // every call of this process is on a lane
}

func (*laneContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (*laneContext) Done() <-chan struct{}       { return nil }

func (c *laneContext) Err() error {
	if c.lane.Word().Load() != 0 {
		return context.Canceled
	}
	return nil
}

func (c *laneContext) Value(key any) any {
	switch key {
	case laneKey{}:
		return c.lane
	case native.Nested:
		if c.nested {
			return true
		}
	}
	return nil
}

func (c *laneContext) CancelWord() *atomic.Uint32 { return c.lane.Word() }

// controlContext is the context of ferrule_start and ferrule_stop when the host opens and closes the plug-in, which may be
// on different lanes.
type controlContext struct {
	lane atomic.Pointer[lane.WorkerLane]
}

func (*controlContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (*controlContext) Done() <-chan struct{}       { return nil }
func (*controlContext) Err() error                  { return nil }

func (c *controlContext) Value(key any) any {
	if key == (laneKey{}) {
		return c.lane.Load()
	}
	return nil
}
