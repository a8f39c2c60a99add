package main

import (
	"bufio"
	"bytes"
	encoding "encoding/binary"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/supervise"
	"github.com/ferrule-dev/ferrule/loader/escape"
)

// A plug-in that is loaded into a process can end it with any exit code, stop it, have it run another program, start
// others and write to its streams. So that this command keeps its promises about exit codes, time and output, the process
// that loads a plug-in is a child, the guarded one, which runs the same command line. It has neither the terminal nor
// the command's standard output: what it prints, and its exit code at the end, it hands up a channel of its own, and what
// the plug-in writes to the standard streams comes up another way. The parent keeps the time.

// guardEnv says to a guarded child that it is one, and has the channel's handle.
const guardEnv = "FERRULE_GUARDED"

// guarding says that this process is such a child.
var guarding = os.Getenv(guardEnv) != ""

// channel is the guarded child's way up.
var channel *frames

func init() {
	if !guarding {
		return
	}
	up, err := inherited(os.Getenv(guardEnv))
	if err != nil {
		fmt.Fprintf(os.Stderr, "ferrule: %s is for this command's own use\n", guardEnv)
		os.Exit(exitUsage)
	}
	channel = &frames{w: up}
	os.Unsetenv(guardEnv) // the plug-in's environment is that of the command
	surrender()
	go func() { // a plug-in that never returns does not outlive the command, where the system does not see to it
		for parent := os.Getppid(); os.Getppid() == parent; {
			time.Sleep(time.Second)
		}
		os.Exit(exitCrashed)
	}()
}

// The kinds of frames.
const (
	frameOut      = 'o' // for the command's standard output
	frameErr      = 'e' // for its standard error: lines of the command's own
	frameStage    = 's' // how far the process is with the plug-in
	frameDeadline = 'd' // the process is to be killed when it says nothing else for so long; 0 for never
	frameExit     = 'x' // the command's exit code; the last frame
)

// frames writes frames to the parent: a kind, the process's number, a length, and as many bytes. A copy that the plug-in
// has made of the process (fork) has another number.
type frames struct {
	mu sync.Mutex
	w  io.Writer
}

const frameHeader = 1 + 4 + 8

func (f *frames) send(kind byte, b []byte) error {
	frame := make([]byte, frameHeader, frameHeader+len(b))
	frame[0] = kind
	encoding.LittleEndian.PutUint32(frame[1:], uint32(os.Getpid()))
	encoding.LittleEndian.PutUint64(frame[5:], uint64(len(b)))
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.w.Write(append(frame, b...)) // at once, so that short ones of several processes do not mix
	return err
}

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

// handed is what the guarded child gets of the parent, in its standard input.
type handed struct {
	Given    [][]byte // what the parent has read for each source, in their order
	Terminal bool     // whether the command's standard output is a terminal
}

// child runs the command line as a guarded child.
func child(args []string) int {
	var got handed
	if err := gob.NewDecoder(os.Stdin).Decode(&got); err != nil {
		return exitFailed
	}
	flush := flusher()
	code := (&app{out: stream{channel, frameOut}, err: stream{channel, frameErr}, handed: &got}).run(args)
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
func (a *app) guard(path, plugin, fn string, timeout time.Duration) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var input bytes.Buffer
	if err := gob.NewEncoder(&input).Encode(handed{a.given, terminal(a.out)}); err != nil {
		return err
	}
	var pipes [6]*os.File // the read and the write ends of input, channel and streams
	defer func() {
		for _, f := range pipes {
			if f != nil {
				f.Close()
			}
		}
	}()
	for i := 0; i < len(pipes); i += 2 {
		if pipes[i], pipes[i+1], err = os.Pipe(); err != nil {
			return err
		}
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pipes[0], pipes[5], pipes[5]
	if err := inherit(cmd, pipes[3]); err != nil {
		return err
	}

	interrupts := make(chan os.Signal, 2)
	notify(interrupts)
	defer signal.Stop(interrupts)
	p, err := supervise.Start(cmd)
	if err != nil {
		return err
	}
	for _, i := range []int{0, 3, 5} {
		pipes[i].Close()
		pipes[i] = nil
	}
	go func(w *os.File) {
		_, _ = w.Write(input.Bytes())
		w.Close()
	}(pipes[1])
	pipes[1] = nil

	progress := startProgress(a.err, fn)
	defer progress.stop()
	streams := make(chan struct{})
	foreign := &foreignLines{to: progress, from: "plug-in"}
	go func(r io.Reader) {
		_, _ = io.Copy(foreign, r)
		close(streams)
	}(pipes[4])
	up := &upward{messages: progress, pid: uint32(p.Pid()), deadlines: make(chan time.Duration), gone: p.Done(),
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
	code, out, later := up.result()
	handed := a.hand(out)
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
			e.signal = signal.String()
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
	messages  io.Writer
	pid       uint32
	deadlines chan time.Duration
	gone      <-chan struct{}
	over      chan struct{} // closed at the end, of the channel or with an exit code

	mu      sync.Mutex
	out     bytes.Buffer
	later   bytes.Buffer // messages that came after what is for the standard output
	dropped int          // such messages beyond laterMessages
	stage   stage
	code    int // -1 as long as there is none
}

// longMessage is how long a message of the command's own may be.
const longMessage = 64 << 20

// laterMessages is how many bytes of messages are kept while what is for the standard output is on its way: the order of the
// two counts, and a plug-in that logs without end may not fill the memory.
const laterMessages = 1 << 20

func (u *upward) read(from io.Reader) {
	defer close(u.over)
	r := bufio.NewReader(from)
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
		_, _ = u.messages.Write(b)
	}
}

// result is the exit code, or -1, what is for the standard output, and the messages after that.
func (u *upward) result() (code int, out, later []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.dropped > 0 {
		fmt.Fprintf(&u.later, "ferrule: %d more messages that came after the result were left out\n", u.dropped)
		u.dropped = 0
	}
	return u.code, u.out.Bytes(), u.later.Bytes()
}

// reached is how far the child has come.
func (u *upward) reached() stage {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stage
}
