// Package worker is what runs in a worker process: it serves the lanes of the memory that it shares with its host, with
// the engine that runs plug-ins natively.
package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/handover"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
	"github.com/ferrule-dev/ferrule/loader/internal/panics"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// Variable is the environment variable that makes a process a worker: Value's text.
const Variable = "FERRULE_WORKER"

// version is the protocol's, as Value has it.
var version = strconv.Itoa(mark.Version)

const plain, sandboxed = "plain", "sandbox"

// Value returns what Variable is set to for a worker that inherits these handles: the end of a pipe that the host holds
// open as long as it lives, then what lane.Attach takes, and then what handover.NewTaker does.
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
	if len(fields) != 3+lane.FilesOfWorker+handover.FilesOfWorker || fields[0] != version {
		fail(ExitProtocol, fmt.Sprintf("%s=%q is of another version than this program's %s", Variable, strings.Join(fields, " "), version))
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
	s := &server{memory: memory, sandbox: sandbox, admits: admits, alone: alone, libraries: handover.NewTaker(files[1+lane.FilesOfWorker:])}
	for i := range s.between {
		s.between[i], s.release[i] = make(chan *lane.WorkerLane, 1), make(chan struct{}, 1)
	}
	memory.Lanes(s.serve)
}

func fail(code int, text string) {
	fmt.Fprintln(os.Stderr, "ferrule worker: "+text)
	os.Exit(code)
}

// server runs plug-ins for its host.
type server struct {
	memory  *lane.Worker
	sandbox Sandbox
	admits  bool // whether the plug-ins' own threads can use host services
	alone   bool // whether the process has no descriptors but its own

	loading   sync.Mutex // one library is loaded at a time; guards the next two
	libraries *handover.Taker
	begun     bool // the first library was about to be loaded, and the process is shut in

	changing sync.Mutex // of plugins, which is read without
	plugins  atomic.Pointer[plugins]

	between [lane.Lanes]chan *lane.WorkerLane // get a lane that is for what the plug-in does between calls
	release [lane.Lanes]chan struct{}         // get something when it is not any more
}

// serve serves one lane.
func (s *server) serve(l *lane.WorkerLane) {
	patient := &laneContext{lane: l}  // of what is no call of a function
	var contexts [1 << 2]*laneContext // of calls, by the message's flags
	for flags := range contexts {
		contexts[flags] = &laneContext{lane: l, nested: flags&lane.FlagNested != 0, progress: flags&lane.FlagProgress != 0, impatient: true}
	}
	var batch engine.Batch
	var inputs [][]byte
	for {
		m, in, room, err := l.Next()
		switch ctx := contexts[m.Flags%uint32(len(contexts))]; {
		case err != nil && !errors.Is(err, lane.ErrGarbage):
			err = answer(l, nil, 0, tooLong(int(m.Len), err))
		case err != nil:
		case m.Op == lane.OpCall || m.Op == lane.OpBatch || m.Op == lane.OpStream:
			var e *native.Plugin
			if p := s.plugin(&m); p == nil {
			} else if e = p.engine; m.Status != 0 {
				e = p.session(m).plugin
			}
			switch {
			case e == nil:
				err = l.Fail(lane.FailedClosed, nil)
			case m.Op == lane.OpCall:
				out, status, failure := e.Append(ctx, engine.Fn{Index: int(m.Fn)}, room[:0], in)
				err = answer(l, out, status, failure)
			case m.Op == lane.OpStream:
				source, sink, failed := l.WorkerStreams(m)
				if failed != nil {
					err = answer(l, nil, 0, &engine.TooLong{Text: fmt.Sprintf("the call's streams: %v", failed)})
					break
				}
				out, status, failure := e.StreamPieces(ctx, engine.Fn{Index: int(m.Fn)}, room[:0], in, source, sink)
				err = answer(l, out, status, failure)
			default:
				if inputs, err = wire.ParseBatch(in, inputs[:0]); err != nil {
					break
				}
				err = answerBatch(l, room, &batch, e.Batch(ctx, engine.Fn{Index: int(m.Fn)}, inputs, &batch))
				if cap(batch.Out) > keepBatch {
					batch.Out = nil
				}
			}
		case m.Op == lane.OpSession:
			err = s.newSession(l, m, patient, in)
		case m.Op == lane.OpEndSession:
			err = s.endSession(l, m)
		case m.Op == lane.OpConfigure:
			out, status, failure := s.known(&m).engine.ConfigureThen(patient, bytes.Clone(in), func(err error) { replaced(l, err) })
			err = answer(l, out, status, failure)
		case m.Op == lane.OpSave:
			err = s.save(l, m, patient)
		case m.Op == lane.OpBetween:
			s.between[l.Index()] <- l
			<-s.release[l.Index()]
		case m.Op == lane.OpAside:
			s.memory.Aside(l)
			select {} // for as long as the process lives
		case m.Op == lane.OpOpen:
			err = s.open(l, &m, in)
		case m.Op == lane.OpStop:
			s.close(l, &m) // unloading is the system's, at the end of the process
			if err = l.Done(0, nil); err == nil {
				leave()
			}
		case m.Op == lane.OpClose:
			s.close(l, &m)
			err = l.Done(0, nil)
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
		if larger, err := l.Room(0, n); err == nil {
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
	return &engine.TooLong{Text: fmt.Sprintf("an output of %s: %v", count.Of(n, "byte"), why)}
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
			room, err := room(ctx, 0, n)
			return room[:0], err
		}, Grant: room}
}

// room returns the host's memory for an output of n bytes, with the first keep bytes of what was there for it before.
func room(ctx context.Context, keep, n int) ([]byte, error) {
	room, err := laneOf(ctx).Room(keep, n)
	if errors.Is(err, lane.ErrGarbage) {
		fail(ExitGarbage, err.Error())
	} else if err != nil {
		return nil, tooLong(n, err)
	}
	return room, nil
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
			return fmt.Errorf("a result of %s, and the worker takes %d with the memory that it has (sandbox.Policy.Memory)", count.Of(n, "byte"), share)
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
	case errors.Is(err, native.ErrPoisoned):
		return l.Fail(lane.FailedPoisoned, nil)
	case errors.Is(err, engine.ErrLost):
		return l.Fail(lane.FailedLost, nil)
	case errors.Is(err, engine.ErrEnded):
		return l.Fail(lane.FailedEnded, nil)
	default:
		return l.Fail(lane.FailedOpen, wire.OpenError(err))
	}
}

// open loads a plug-in and starts its instances.
func (s *server) open(l *lane.WorkerLane, m *lane.Message, in []byte) error {
	var o wire.Open
	if err := wire.Unmarshal(in, &o); err != nil {
		return err
	}
	image, err := s.load(l, m.Plugin(), &o)
	if err != nil {
		if errors.Is(err, lane.ErrGarbage) {
			return err
		}
		return l.Fail(lane.FailedOpen, wire.OpenError(err))
	}
	l.Loaded(uint64(image.Base()))
	p := new(plugin)
	p.control.lane.Store(l)
	p.engine, err = native.New(image, native.Options{Host: proxy{}, Outputs: outputs(&o), Forks: native.Forks{Alone: s.memory.Alone, Frames: s.memory.Frames}, Config: o.Config, State: o.State, Instances: o.Instances,
		Context: &p.control, Between: s.newBetween, Folder: filepath.Dir(string(o.Path))})
	if err != nil {
		return answer(l, nil, 0, err)
	}
	s.put(m.Plugin(), p)
	return l.Done(0, wire.Marshal(wire.Opened{Deaf: !s.admits, Base: uint64(image.Base())}))
}

// load loads a plug-in's library. The first time it shuts the process in before; a plug-in that comes later finds it so. The error
// is lane.ErrGarbage, or one of opening.
func (s *server) load(l *lane.WorkerLane, number uint16, o *wire.Open) (*native.Image, error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.plugins.Load().at(number) != nil {
		return nil, lane.ErrGarbage
	}
	file, err := s.libraries.Take(number)
	if err != nil {
		return nil, err
	}
	copy, err := libfile.Received(file, string(o.Copy))
	if err != nil {
		return nil, err
	}
	lib, err := native.InspectCopy(string(o.Path), copy)
	if err != nil {
		copy.Release()
		return nil, err
	}
	brought := native.Bring(string(o.Path), copy, lib)
	options := native.LoadOptions{Copy: copy, Brought: brought, Unload: o.Unload, AllowGo: true, ExecStack: true,
		Accept: func(lib *inspect.Library) error { // the host has looked, but it may be another file by now
			if slices.Equal(wire.Contents(lib), o.Contents) {
				return nil
			}
			return &inspect.Error{Kind: native.ErrDigest, Found: "another library than when it was opened",
				Expected: "the same functions, hooks, imports and threads", Remedy: "Close the plug-in and open it again"}
		}}
	if !s.begun {
		if err := s.begin(l, o, copy); err != nil {
			return nil, err
		}
		s.begun = true
		// What of a plug-in's runs by then may load libraries of its own.
		options.Loading = beforeLoading
		defer afterLoading()
	}
	return native.Load(context.Background(), string(o.Path), options)
}

// begin readies the process for plug-ins: from here on it may have only what it is to have.
func (s *server) begin(l *lane.WorkerLane, o *wire.Open, copy *libfile.Copy) error {
	s.memory.Bounds(o.Longest, o.Memory, admit(o.Memory))
	var layers []string
	if s.alone {
		layers = append(layers, "own descriptors")
	}
	if len(o.Sandbox) > 0 && string(o.Sandbox) != "null" {
		boxed, err := s.shutIn(o, copy)
		if err != nil {
			return err
		}
		layers = append(layers, boxed...)
	}
	// Before the library's constructors run, which could say anything in this memory.
	return l.Layers(wire.Layers(layers))
}

// shutIn applies the sandbox, before anything of the library is touched, of which copy is what was handed over.
func (s *server) shutIn(o *wire.Open, copy *libfile.Copy) ([]string, error) {
	if s.sandbox == nil {
		return nil, &inspect.Error{Kind: wire.ErrSandbox, Found: "a worker program without package sandbox",
			Expected: "one that imports it", Remedy: "Import loader/isolate/sandbox in the worker's program"}
	}
	libraries := o.Libraries
	switch {
	case o.Held: // the descriptor's file, whatever is at its path by now
		libraries = append(libraries, wire.Library{Path: fmt.Appendf(nil, "/proc/thread-self/fd/%d", copy.Handoff().Fd())})
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
	out, status, err := upcallerOf(ctx).HostCall(ordinal, in)
	if errors.Is(err, lane.ErrEnded) {
		runtime.Goexit() // it is no goroutine of a lane's: so it ends here as it has there
	}
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

// Overdue is never called: the host looks after limits.
func (proxy) Overdue(*engine.Limit) {}

func (proxy) Panicked(_ context.Context, _ uint32, value any) ([]byte, abi.Status) {
	return []byte("the worker panicked: " + panics.Text(value)), abi.StatusFailed
}

func (proxy) Log(ctx context.Context, level abi.Level, text, fields []byte) {
	switch err := upcallerOf(ctx).Log(uint32(level), text, fields); {
	case errors.Is(err, lane.ErrGarbage):
		fail(ExitGarbage, err.Error())
	case errors.Is(err, lane.ErrEnded):
		runtime.Goexit()
	}
}

// laneContext is the context of the calls on a lane. It ends when the host has set the lane's cancellation word.
type laneContext struct {
	lane                        *lane.WorkerLane
	nested, progress, impatient bool
}

var _ native.Canceller = (*laneContext)(nil)

type laneKey struct{}

// upcaller is the way to the host: the lane of the call, or those for what the plug-in does between calls.
type upcaller interface {
	HostCall(ordinal uint32, in []byte) (out []byte, status int32, err error)
	Log(level uint32, text, fields []byte) error
}

func upcallerOf(ctx context.Context) upcaller {
	return ctx.Value(laneKey{}).(upcaller) // every context of this process has one
}

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
	case native.Impatient:
		if c.impatient {
			return true
		}
	}
	return nil
}

func (c *laneContext) CancelWord() *atomic.Uint32 { return c.lane.Word() }
func (c *laneContext) ProgressWords() uintptr {
	if !c.progress {
		return 0
	}
	return raw.AddrOf(c.lane.Progress()) // of the shared memory, which stays mapped
}

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
