package main

import (
	"bufio"
	"bytes"
	encoding "encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/crash"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/supervise"
	"github.com/ferrule-dev/ferrule/loader/escape"
)

// A plug-in that is loaded into a process can end it with any exit code, stop it, have it run another program, start
// others and write to its streams. So that this command keeps its promises about exit codes, time and output, the process
// that loads a plug-in is a child, the guarded one, which runs the same command line. It has neither the terminal nor
// the command's standard output: what it prints, and its exit code at the end, it hands up a channel of its own, and what
// the plug-in writes to the standard streams comes up another way. It has the command's standard input only where that is the
// function's input stream. The parent keeps the time.

// guardEnv says to a guarded child that it is one, and has the handles of what comes down, of the channel, and of the record of a crash
// where there is one.
const guardEnv = "FERRULE_GUARDED"

// guarding says that this process is such a child.
var guarding = os.Getenv(guardEnv) != ""

// channel is the guarded child's way up, and down is what the parent has for it, a handed.
var (
	channel *frames
	down    *os.File
)

func init() {
	if !guarding {
		return
	}
	files, err := inherited(strings.Fields(os.Getenv(guardEnv)))
	if err == nil && len(files) != 2 && len(files) != 3 {
		err = errors.New("found other than two or three files")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "ferrule: %s is for this command's own use\n", guardEnv)
		os.Exit(exitUsage)
	}
	down, channel = files[0], &frames{w: files[1]}
	os.Unsetenv(guardEnv) // the plug-in's environment is that of the command
	surrender()
	if len(files) > 2 {
		_ = crash.Record(files[2]) // without it nobody hears where the process crashed, and all else is as it is with it
	}
	go func() { // a plug-in that never returns does not outlive the command, where the system does not see to it
		for parent := os.Getppid(); os.Getppid() == parent; {
			time.Sleep(time.Second)
		}
		os.Exit(exitCrashed)
	}()
}

// The kinds of frames.
const (
	frameOut      = 'o' // for the command's standard output, at the end
	frameStream   = 'w' // for it at once: the next bytes of an output stream
	frameProgress = 'p' // how far the call is, as the plug-in says: done and total
	frameRead     = 'r' // how much of the standard input was read: done and total
	frameErr      = 'e' // for its standard error: lines of the command's own
	frameStage    = 's' // how far the process is with the plug-in
	frameDeadline = 'd' // the process is to be killed when it says nothing else for so long; 0 for never
	frameExit     = 'x' // the command's exit code; the last frame
)

// frames writes frames to the parent: a kind, the process's number, a length, and as many bytes. A copy that the plug-in
// has made of the process (fork) has another number.
type frames struct {
	mu     sync.Mutex
	w      io.Writer
	buffer []byte // memory for the next frame
}

const frameHeader = 1 + 4 + 8

func (f *frames) send(kind byte, b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	frame := append(f.buffer[:0], kind)
	frame = encoding.LittleEndian.AppendUint32(frame, uint32(os.Getpid()))
	frame = encoding.LittleEndian.AppendUint64(frame, uint64(len(b)))
	frame = append(frame, b...)
	if cap(frame) <= longFrame {
		f.buffer = frame
	}
	_, err := f.w.Write(frame) // at once, so that short ones of several processes do not mix
	return err
}

// longFrame is the longest frame whose memory is kept for the next one: a result may be long, a piece of a stream is not.
const longFrame = 1 << 20

// stream is an output of the command as the guarded child has it.
type stream struct {
	*frames
	kind byte
}

func (s stream) Write(b []byte) (int, error) {
	if err := s.send(s.kind, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// reached tells the parent how far this process is with the plug-in, so that what becomes of the process is not laid to
// what has not run yet, or not any more. It does nothing where this process is not guarded.
func reached(s stage) {
	if guarding {
		_ = channel.send(frameStage, []byte(s))
	}
}

// deadline has the parent kill this process when it says nothing else for so long; 0 takes that back. It does nothing
// where this process is not guarded.
func deadline(d time.Duration) {
	if guarding {
		_ = channel.send(frameDeadline, encoding.LittleEndian.AppendUint64(nil, uint64(d)))
	}
}

// handed is what the guarded child gets of the parent.
type handed struct {
	Given    [][]byte // what the parent has read for each source, in their order
	Terminal bool     // whether the command's standard output is a terminal
	Progress bool     // whether the parent shows how far the call is
}

// child runs the command line as a guarded child.
func child(args []string) int {
	var got handed
	err := gob.NewDecoder(down).Decode(&got)
	down.Close()
	if err != nil {
		return exitFailed
	}
	flush := flusher()
	code := (&app{in: os.Stdin, out: stream{channel, frameOut}, err: stream{channel, frameErr}, handed: &got}).run(args)
	flushed := make(chan struct{})
	go func() {
		flush() // what the plug-in has left in a buffer
		close(flushed)
	}()
	select {
	case <-flushed:
	case <-time.After(grace): // a function that did not return may be writing to a stream
	}
	_ = channel.send(frameExit, []byte{byte(code)})
	return code
}

// guardSlack is how much longer than it should a guarded child may take to say that it is out of time.
const guardSlack = time.Second

// guard runs this command line in a guarded child, for a function of the plug-in at path. timeout is for words: it is the
// child that says when it is to be killed.
func (a *app) guard(path, plugin string, symbol abi.Symbol, timeout time.Duration) error {
	fn := symbol.Name
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var input bytes.Buffer
	shows := a.showsProgress(symbol)
	if err := gob.NewEncoder(&input).Encode(handed{a.given, terminal(a.out), shows}); err != nil {
		return err
	}
	var pipes [8]*os.File // the read and the write ends of what is handed, channel, streams, and what is typed for the input stream
	defer func() {
		for _, f := range pipes {
			if f != nil {
				f.Close()
			}
		}
	}()
	typed := symbol.Stream&abi.StreamIn != 0 && terminal(a.in)
	for i := 0; i < len(pipes); i += 2 {
		if i == 6 && !typed {
			break
		}
		if pipes[i], pipes[i+1], err = os.Pipe(); err != nil {
			return err
		}
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = pipes[5], pipes[5]
	switch {
	case typed: // the terminal is this command's own
		cmd.Stdin = pipes[6]
	case symbol.Stream&abi.StreamIn != 0:
		cmd.Stdin = a.in
	}
	handles := []*os.File{pipes[0], pipes[3]}
	place, err := crash.File() // without it the child does without
	if err == nil && place != nil {
		defer place.Close()
		handles = append(handles, place)
	}
	if err := inherit(cmd, handles...); err != nil {
		return err
	}

	interrupts := make(chan os.Signal, 2)
	notify(interrupts)
	defer signal.Stop(interrupts)
	p, err := supervise.Start(cmd)
	if err != nil {
		return err
	}
	for _, i := range []int{0, 3, 5, 6} {
		if pipes[i] != nil {
			pipes[i].Close()
			pipes[i] = nil
		}
	}
	progress := startProgress(a.err, fn, shows)
	defer progress.stop()
	go func(w *os.File) {
		_, _ = w.Write(input.Bytes())
		w.Close()
	}(pipes[1])
	pipes[1] = nil
	if typed {
		a.sayTerminal()
		go func(w *os.File) {
			_, _ = io.Copy(w, a.in)
			w.Close()
		}(pipes[7])
		pipes[7] = nil
	}

	streams := make(chan struct{})
	foreign := &foreignLines{to: progress, from: "plug-in"}
	go func(r io.Reader) {
		_, _ = io.Copy(foreign, r)
		close(streams)
	}(pipes[4])
	up := &upward{app: a, messages: progress, progress: progress, pid: uint32(p.Pid()), deadlines: make(chan time.Duration), gone: p.Done(),
		over: make(chan struct{}), code: -1}
	go up.read(pipes[2])

	ending := watch(p, up, interrupts)
	_, alive := p.End(0)
	for _, end := range []<-chan struct{}{up.over, streams} {
		select {
		case <-end:
		case <-time.After(time.Second): // a process that could not be found has the other end
		}
	}
	foreign.end()
	progress.stop()
	code, out, later, handed := up.result()
	if handed == nil {
		handed = a.hand(out)
	}
	if len(later) > 0 {
		a.endLine()
		_, _ = a.err.Write(later)
	}
	var outlived error
	if len(alive) > 0 {
		outlived = fmt.Errorf("plug-in %s: %s that it has started could not be ended, and may run on: %s", plugin,
			plural(len(alive), "process"), supervise.Names(alive))
	}
	if handed != nil {
		a.warn(outlived)
		return handed
	}
	if code >= 0 {
		if code == exitOK && outlived != nil {
			return &exit{code: exitFailed, err: outlived, reported: true} // a result was printed
		}
		a.warn(outlived)
		if code == exitOK {
			return nil
		}
		return &exit{code: code} // the child has said why
	}
	a.warn(outlived)
	e := &fate{kind: crashed, path: path, plugin: plugin, fn: fn, stage: up.reached(), lines: foreign.lastLines()}
	switch ending {
	case interrupted:
		e.kind, e.text = wasInterrupted, "interrupted"
		return &exit{code: exitInterrupted, err: e}
	case outOfTime:
		e.kind = lateKind
		e.text = fmt.Sprintf("out of time after %v (--timeout): the process that it was loaded into did not answer any more, and "+
			"was killed", timeout)
	case closed:
		e.text = "it replaced the process that it was loaded into by another program, or closed its descriptors; the process " +
			"was killed"
	default:
		state := p.State()
		e.text = fmt.Sprintf("it ended the process that it was loaded into: %v", state)
		if signal := state.Signal(); signal != nil {
			e.signal = signal
			e.found(place, signal)
		} else {
			code := state.ExitCode()
			e.code = &code
		}
	}
	return &exit{code: exitCrashed, err: e}
}

// warn says what has gone wrong beside what the exit code is about. It does nothing without an error.
func (a *app) warn(err error) {
	if err != nil {
		a.endLine()
		fmt.Fprintf(a.err, "ferrule: %s\n", escape.Line(err.Error()))
	}
}

// The fates of a guarded child.
const (
	ended       = iota
	closed      // it lived on without a way to say how it ends
	outOfTime   // its deadline was over
	interrupted // this process got a signal
)

// watch waits for the end of a guarded child, or for a reason to kill it.
func watch(p *supervise.Process, up *upward, interrupts <-chan os.Signal) int {
	reason, over := ended, (<-chan struct{})(up.over)
	var kill <-chan time.Time // that it ends then for that reason
	for {
		select {
		case <-p.Done():
			if reason == interrupted {
				return reason
			}
			return ended
		case <-kill:
			return reason
		case d := <-up.deadlines:
			switch {
			case reason != ended && reason != outOfTime:
			case d > 0:
				reason, kill = outOfTime, time.After(d)
			default:
				reason, kill = ended, nil
			}
		case <-over:
			over = nil
			if reason != interrupted {
				reason, kill = closed, time.After(time.Second)
			}
		case s := <-interrupts:
			if reason == interrupted {
				return reason
			}
			reason, kill = interrupted, time.After(grace+guardSlack)
			if s == syscall.SIGQUIT {
				s = syscall.SIGTERM // a child that does not heed it yet would print the runtime's state
			}
			_ = p.Signal(s) // on Windows the terminal has told the child, too
		}
	}
}

// upward reads what comes up a guarded child's channel.
type upward struct {
	app       *app
	messages  io.Writer
	progress  *progress
	pid       uint32
	deadlines chan time.Duration
	gone      <-chan struct{}
	over      chan struct{} // closed at the end, of the channel or with an exit code

	mu      sync.Mutex
	out     bytes.Buffer
	later   bytes.Buffer // messages that came after what is for the standard output
	dropped int          // such messages beyond laterMessages
	stage   stage
	code    int   // -1 as long as there is none
	failed  error // of the standard output, which an output stream went to
}

// longMessage is how long a message of the command's own may be.
const longMessage = 64 << 20

// laterMessages is how many bytes of messages are kept while what is for the standard output is on its way: the order of the
// two counts, and a plug-in that logs without end may not fill the memory.
const laterMessages = 1 << 20

func (u *upward) read(from io.ReadCloser) {
	defer close(u.over)
	r := bufio.NewReaderSize(from, 1<<16)
	buffer := make([]byte, 1<<16)
	for {
		var header [frameHeader]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return
		}
		n := int64(encoding.LittleEndian.Uint64(header[5:]))
		mine := encoding.LittleEndian.Uint32(header[1:]) == u.pid
		switch kind := header[0]; {
		case !mine:
			if _, err := io.CopyN(io.Discard, r, n); err != nil {
				return
			}
		case kind == frameOut:
			u.mu.Lock()
			before := u.out.Len()
			_, err := io.CopyN(&u.out, r, n)
			if err != nil {
				u.out.Truncate(before)
			}
			u.mu.Unlock()
			if err != nil {
				return
			}
		case kind == frameStream:
			if err := u.pass(io.LimitReader(r, n), buffer); err != nil {
				u.mu.Lock()
				u.failed = fmt.Errorf("writing the output stream: %w", err)
				u.mu.Unlock()
				from.Close() // the child cannot write any more either, so that the function hears of it
				return
			}
		case n < 0 || n > longMessage:
			return
		default:
			b := make([]byte, n)
			if _, err := io.ReadFull(r, b); err != nil {
				return
			}
			switch {
			case kind == frameErr:
				u.message(b)
			case kind == frameProgress && n == 16:
				u.progress.tell(amountOf(b))
			case kind == frameRead && n == 16:
				u.progress.hasRead(amountOf(b))
			case kind == frameStage:
				u.mu.Lock()
				u.stage = stage(b)
				u.mu.Unlock()
			case kind == frameDeadline && n == 8:
				select {
				case u.deadlines <- time.Duration(encoding.LittleEndian.Uint64(b)):
				case <-u.gone:
				}
			case kind == frameExit && n == 1:
				u.mu.Lock()
				u.code = int(b[0])
				u.mu.Unlock()
				return
			}
		}
	}
}

// pass hands bytes of an output stream on. The error is that of the standard output.
func (u *upward) pass(r io.Reader, buffer []byte) error {
	for {
		n, err := r.Read(buffer)
		if handed := u.app.hand(buffer[:n]); handed != nil {
			return handed
		}
		if err != nil { // the end, or that of the channel, which the next frame meets
			return nil
		}
	}
}

// message writes a message of the child's, where nothing for the standard output has come before it.
func (u *upward) message(b []byte) {
	u.mu.Lock()
	behind := u.out.Len() > 0
	switch {
	case !behind:
	case u.later.Len()+len(b) <= laterMessages:
		u.later.Write(b)
	default:
		u.dropped++
	}
	u.mu.Unlock()
	if !behind {
		u.app.endLine()
		_, _ = u.messages.Write(b)
	}
}

// result is the exit code, or -1, what is for the standard output, the messages after that, and why the output stream could
// not be handed on.
func (u *upward) result() (code int, out, later []byte, failed error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.dropped > 0 {
		fmt.Fprintf(&u.later, "ferrule: %s that came after the result were left out\n", plural(u.dropped, "more message"))
		u.dropped = 0
	}
	return u.code, u.out.Bytes(), u.later.Bytes(), u.failed
}

// reached is how far the child has come.
func (u *upward) reached() stage {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stage
}
