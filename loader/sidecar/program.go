package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/confine"
	"github.com/ferrule-dev/ferrule/loader/internal/libfile"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
	"github.com/ferrule-dev/ferrule/loader/sidecar/internal/eager"
	"github.com/ferrule-dev/ferrule/loader/sidecar/internal/reach"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// variableName is what a program knows its descriptors by (rule W16).
const variableName = "FERRULE_SIDECAR"

// program is what is started for each session of a plug-in.
type program struct {
	path string   // of what the system runs: absolute
	args []string // from its name on
	file *os.File // what is at path, where the system starts programs by their descriptors
	copy string   // a folder with a copy of the file, that nobody else can write; "" without one
	held *os.File // says that the copy is in use; or nil

	// In a sandbox: what the system runs it by beside file, and what it may read; and the scripts that run the file, which the program at path has to read.
	runs, reads []confine.File
	wrappers    []string
}

// newProgram finds what is to be started for a file. digest is what the file has to have, or nil.
func newProgram(f *engine.File, o *options, digest *engine.Digest) (_ *program, err error) {
	head, err := f.Head()
	if err != nil {
		return nil, err
	}
	script, err := engine.Absolute(f.Path)
	if err != nil {
		return nil, err
	}
	given := script
	p := &program{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if digest != nil { // what is run is what was looked at: nobody can write the copy
		if script, err = p.keep(f, *digest); err != nil {
			return nil, err
		}
	}
	p.path, p.args = script, []string{filepath.Base(f.Path)}
	isScript := bytes.HasPrefix(head, []byte("#!"))
	switch interpreter := o.interpreter; {
	case interpreter != nil:
		if p.path, err = lookUp(interpreter[0]); err != nil {
			return nil, &inspect.Error{Path: f.Path, Kind: loader.ErrOption, Found: "an interpreter that is not there (" + reach.Cause(err) + ")", Err: err, Expected: "a program, such as python3",
				Remedy: "Install it, or give its path with sidecar.WithInterpreter"}
		}
		p.args = append(bytesOf(interpreter), script)
	case isScript && runtime.GOOS == "windows":
		return nil, byItself(f.Path)
	case isPlugin(given, head):
		return nil, &inspect.Error{Path: f.Path, Kind: loader.ErrNoEngine, Found: "a shared library, which is a plug-in by itself", Expected: "a program", Remedy: "Open it without sidecar.Program()"}
	default:
		if err := executable(given); err != nil { // a copy may be in any case
			found, expected := "a file that may not be executed", "a program"
			if isScript {
				found, expected = "a script that may not be executed", "one that may be"
			}
			return nil, &inspect.Error{Path: f.Path, Kind: loader.ErrRead, Found: found, Err: err, Expected: expected,
				Remedy: "Change that (chmod +x), or name what runs it with sidecar.WithInterpreter"}
		}
	}
	if err := p.resolve(f.Path, script, o); err != nil {
		return nil, err
	}
	p.args = append(p.args, o.args...)
	if process.ByDescriptor {
		if p.file, err = openRegular(p.path); err != nil {
			if !errors.Is(err, fs.ErrPermission) || o.sandbox != nil { // one that may be executed, and not be read, is started by its path
				return nil, notThere(f.Path, p.path, err)
			}
			err = nil
		}
	}
	if o.sandbox != nil {
		if err := p.shutIn(f.Path, script, o); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// isPlugin reports whether a file is a library that exports a plug-in, and no program, which may export anything: the system would start either, and a library ends by a fault.
func isPlugin(path string, head []byte) bool {
	if !inspect.Recognises(head) || isProgram(head) {
		return false
	}
	_, err := inspect.File(path)
	return err == nil
}

// byItself says that a script names nothing that runs it.
func byItself(path string) error {
	return &inspect.Error{Path: path, Kind: loader.ErrNoEngine, Found: "a script that this system does not start by itself", Expected: "a program of " + runtime.GOOS,
		Remedy: "Name what runs it with sidecar.WithInterpreter"}
}

// resolve has a script run by what its first line names, which may be a script again, as of a tool that chooses between versions. path is how errors call
// the plug-in, and script is where it is.
func (p *program) resolve(path, script string, o *options) error {
	const depth = 5 // the kernel's
	for range depth {
		line, err := firstLine(p.path)
		if line == "" || runtime.GOOS == "windows" { // what cannot be read may be run all the same
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoFile) {
				return notThere(path, p.path, err)
			}
			return nil
		}
		if o.sandbox != nil && o.sandbox.Processes == 0 && p.path != script {
			return &inspect.Error{Path: path, Kind: loader.ErrOption, Found: "the script " + p.path + ", which is to run it, in a sandbox that starts no other program",
				Expected: "the program that the script starts", Remedy: "Name that with sidecar.WithInterpreter, or set Policy.Processes"}
		}
		words := strings.Fields(line[2:])
		if len(words) == 0 {
			return byItself(path)
		}
		if p.path != script {
			p.wrappers = append(p.wrappers, p.path)
		}
		args := words[:1:1]
		if rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[2:]), words[0])); rest != "" { // one argument, as the kernel has it
			args = append(args, rest)
		}
		if o.sandbox != nil && filepath.Base(words[0]) == "env" { // which would start another program
			if args, err = byEnv(path, args[1:], o); err != nil {
				return err
			}
		}
		p.args = append(append(args, p.path), p.args[1:]...)
		p.path = args[0]
	}
	return &inspect.Error{Path: path, Kind: loader.ErrRead, Found: fmt.Sprintf("%d scripts, each of which is run by the next", depth), Expected: "a program that runs them",
		Remedy: "Name it with sidecar.WithInterpreter"}
}

// firstLine returns a script's first line, "" for another file.
func firstLine(path string) (string, error) {
	f, err := openRegular(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 4<<10)
	n, err := io.ReadFull(f, head)
	if !bytes.HasPrefix(head[:n], []byte("#!")) {
		if err == io.ErrUnexpectedEOF || err == io.EOF {
			err = nil
		}
		return "", err
	}
	line, _, _ := bytes.Cut(head[:n], []byte{'\n'})
	return string(line), nil
}

// errNoFile is what openRegular returns of what is no file.
var errNoFile = errors.New("no regular file")

// openRegular opens a file for reading. Of what is none it opens nothing: a FIFO would wait for its writer, and opening a device may do anything.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errNoFile
	}
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be something else by now
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
		err = errNoFile
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func notThere(path, program string, err error) error {
	if errors.Is(err, errNoFile) {
		return &inspect.Error{Path: path, Kind: loader.ErrNotRegular, Found: "no file at " + program + ", which is to run it", Err: err, Expected: "a program", Remedy: "Name one"}
	}
	return &inspect.Error{Path: path, Kind: loader.ErrRead, Found: "no program at " + program + ", which is to run it", Err: err, Expected: "one", Remedy: "Install it"}
}

func bytesOf(words []string) []string { return append([]string{}, words...) }

// lookUp finds a program by its name, or its path.
func lookUp(name string) (string, error) {
	found, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return abspath.Of(found)
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err == nil && runtime.GOOS != "windows" && info.Mode()&0o111 == 0 {
		err = &fs.PathError{Op: "exec", Path: path, Err: fs.ErrPermission}
	}
	return err
}

// copyPrefix begins the names of folders of copies, in the folder for temporary files.
const copyPrefix = "ferrule-sidecar-"

// keep copies the file to a folder of this user's alone, and returns its path.
func (p *program) keep(f *engine.File, digest engine.Digest) (string, error) {
	const most = 1 << 30
	all, err := f.Bytes(&digest, most)
	if err != nil {
		return "", err
	}
	folder, err := abspath.Of(os.TempDir()) // the program runs in another folder, and this process may be in another one when the copy is to go
	if err == nil {
		sweep(folder)
		p.copy, err = os.MkdirTemp(folder, copyPrefix)
	}
	if err == nil {
		p.held, err = hold(p.copy)
	}
	if err == nil {
		to := filepath.Join(p.copy, filepath.Base(f.Path))
		if err = os.WriteFile(to, all, 0o500); err == nil {
			return to, nil
		}
	}
	return "", &inspect.Error{Path: f.Path, Kind: loader.ErrRead, Found: "no place for a copy of the program, which WithSHA256 needs (" + reach.Cause(err) + ")", Err: err, Expected: "a folder for temporary files",
		Remedy: "Have TMPDIR name one that can be written to, and that programs may be run from"}
}

// onNoexec says which file of the program lies where the system starts none, if that is why it has not started it, and what to do.
func (p *program) onNoexec(err error) (path, remedy string) {
	switch {
	case !errors.Is(err, fs.ErrPermission) || !libfile.NoExec(p.path):
		return "", ""
	case p.copy != "" && filepath.Dir(p.path) == p.copy:
		return p.path + ", a copy, which WithSHA256 needs,", "Have TMPDIR name a folder on another file system, or mount that one without noexec"
	}
	return p.path, "Put the program on another file system, or mount that one without noexec"
}

// close frees what the program has. Nothing of it runs.
func (p *program) close() {
	if p == nil {
		return
	}
	if p.file != nil {
		p.file.Close()
	}
	if p.copy != "" {
		_ = os.RemoveAll(p.copy)
	}
	if p.held != nil {
		p.held.Close()
	}
}

// environment is the program's.
func (o *options) environment() []string {
	env := bytesOf(o.env)
	for _, name := range inherited {
		value, ok := os.LookupEnv(name)
		if !ok {
			continue
		}
		set := false
		for _, variable := range o.env {
			set = set || strings.HasPrefix(variable, name+"=")
		}
		if name == "TMPDIR" && value != "" { // the program runs in another folder
			if path, err := abspath.Of(value); err == nil {
				value = path
			}
		}
		if !set {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// inherited are the variables that a program has of this process.
var inherited = []string{"PATH", "HOME", "TMPDIR", "LANG", process.TimeZone}

// child is a process of a program, with the streams that it speaks to its host by.
type child struct {
	process.Child
	tail *process.Tail
	gone chan struct{} // closed when it has ended; then what follows is known

	buried chan struct{} // closed when nothing is left of it, and of what it has started

	signal os.Signal
	code   int
	lived  time.Duration

	bounds *confine.Bounds // nil: it has no sandbox
	began  time.Time
	killed sync.Once
	over   atomic.Pointer[confine.End] // the bound for which the host has ended it
}

// Layers is process.Child's, with what the host does for the sandbox.
func (c *child) Layers() []string {
	layers := c.Child.Layers()
	if c.bounds != nil && c.bounds.Time > 0 {
		layers = append(layers, "wall time")
	}
	return layers
}

// overstep ends the process for one of its bounds.
func (c *child) overstep(end confine.End) {
	c.over.CompareAndSwap(nil, &end)
	c.killed.Do(c.Kill)
}

// reached says which of its bounds has ended the process, which is gone, if one has.
func (c *child) reached() confine.End {
	if c.bounds == nil {
		return confine.End{}
	}
	if end := c.over.Load(); end != nil && c.signal == os.Kill { // it may have ended by itself at the same time
		return *end
	}
	return c.bounds.Reached(c.signal, c.code, c.lived, c.tail.Said())
}

// start starts the program, and returns the ends of its streams.
func (l *launcher) startProgram(ctx context.Context) (*child, *pipes, error) {
	c := &child{tail: process.NewTail(l.output), gone: make(chan struct{}), buried: make(chan struct{}), bounds: l.sandbox, began: time.Now()}
	p := &pipes{printed: make(chan struct{})}
	var theirs []*os.File
	var errs *os.File
	fail := func(err error) (*child, *pipes, error) {
		p.Close()
		for _, f := range append(theirs, errs) {
			if f != nil {
				f.Close()
			}
		}
		return nil, nil, err
	}
	pipe := func() (r, w *os.File, err error) { return os.Pipe() }
	// Its descriptors: standard input, output and error, and the two that no print goes to.
	var in0, out1, err2, in3, out4 *os.File
	var err error
	if in0, p.in[0], err = pipe(); err != nil {
		return fail(err)
	}
	theirs = append(theirs, in0)
	if p.out[0], out1, err = pipe(); err != nil {
		return fail(err)
	}
	theirs = append(theirs, out1)
	if errs, err2, err = pipe(); err != nil {
		return fail(err)
	}
	theirs = append(theirs, err2)
	env := l.environment()
	if hasDescriptors {
		if in3, p.in[1], err = pipe(); err != nil {
			return fail(err)
		}
		theirs = append(theirs, in3)
		if p.out[1], out4, err = pipe(); err != nil {
			return fail(err)
		}
		theirs = append(theirs, out4)
		env = append(env, variableName+"=3,4")
	}
	root, err := process.Root()
	if err != nil {
		return fail(err)
	}
	command := process.Command{Program: l.program.file, Path: l.program.path, Root: root, Args: l.program.args, Env: env, Files: theirs}
	if l.sandbox == nil {
		c.Child, err = process.Start(ctx, command)
	} else {
		c.Child, err = l.sandbox.Start(ctx, command, confine.Order{Policy: l.policy, Runs: l.program.runs, Reads: l.program.reads})
	}
	if err != nil {
		return fail(err)
	}
	for _, f := range theirs {
		f.Close()
	}
	c.tail.Read(errs)
	if c.bounds != nil {
		c.bounds.Watch(c.PID(), c.gone, c.overstep)
	}
	go func() {
		c.signal, c.code = c.Wait()
		c.lived = time.Since(c.began)
		c.tail.Finish()
		p.finish()
		close(c.gone)
		c.Bury()
		close(c.buried)
	}()
	return c, p, nil
}

// hasDescriptors is whether a program may be given descriptors beyond the standard ones by their numbers.
const hasDescriptors = runtime.GOOS != "windows"

// end ends the process, unless it does so by itself within a time, and waits for that.
func (c *child) end(within time.Duration) {
	if within > 0 {
		t := time.NewTimer(within)
		defer t.Stop()
		select {
		case <-c.gone:
		case <-t.C:
		}
	}
	c.killed.Do(c.Kill)
	<-c.gone
}

// pipes are the host's ends of a process's streams, by both ways of rule W16: which of them is the wire is not known before the sidecar says something.
type pipes struct {
	in, out [2]*os.File
	way     int // which of them is
	head    []byte
	eager   *eager.Reader // of that way, from the first time on that it is read eagerly
	rooms   [2]room       // of that way's in and out
	once    sync.Once

	mu      sync.Mutex
	chosen  bool // way is known
	over    bool // the process has ended
	printed chan struct{}
	begins  []byte // of what it has printed to its standard output that is not the wire
}

// greeting is how a stream begins that is the wire.
const greeting = "HELLO "

// takes says which way the wire is, where that was not known. The caller holds p.mu.
func (p *pipes) takes(way int, head []byte) bool {
	if p.chosen {
		return false
	}
	p.chosen, p.way, p.head = true, way, head
	return true
}

// choose waits until the sidecar says something by one of the two ways. What it prints to a standard output that is not the wire goes to tail from then on.
func (p *pipes) choose(tail *process.Tail) error {
	if p.out[1] == nil {
		return nil
	}
	said, silent, strays := make(chan struct{}, 2), make(chan struct{}), make(chan struct{}, 1)
	go func() {
		defer close(silent)
		head := make([]byte, len(greeting))
		if n, _ := io.ReadFull(p.out[1], head); n > 0 {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.takes(1, head[:n]) {
				said <- struct{}{}
			}
		}
	}()
	go p.prints(tail, said, strays)
	stray := func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		return &wire.Error{Rule: "W16", Found: p.strays() + ", and HELLO behind it, or nowhere", Expected: "HELLO first of all: prints go to the standard error, or messages to the descriptors that FERRULE_SIDECAR names"}
	}
	closed, ended := silent, p.printed
	for closed != nil || ended != nil {
		select {
		case <-said:
			closed, ended = nil, nil
		case <-strays:
			return stray()
		case <-closed:
			closed = nil
			p.mu.Lock()
			lost := !p.chosen && len(p.begins) > 0 && ended != nil
			p.mu.Unlock()
			if lost { // unless it has ended
				select {
				case <-ended:
				case <-time.After(patience):
					return stray()
				}
			}
		case <-ended:
			ended = nil
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.chosen:
		return io.EOF
	case p.way == 1:
		p.in[0].Close()
		if p.over {
			_ = p.out[0].SetReadDeadline(time.Now().Add(leftover))
		}
	default:
		p.in[1].Close()
		p.out[1].Close()
	}
	return nil
}

// strays says what it has printed. The caller holds p.mu.
func (p *pipes) strays() string {
	line, _, _ := bytes.Cut(p.begins, []byte{'\n'})
	return fmt.Sprintf("%q on the standard output", line)
}

// prints reads the standard output until it is known to be the wire. Otherwise it is read to its end, by tail.
func (p *pipes) prints(tail *process.Tail, said, strays chan<- struct{}) {
	const kept = 200
	defer close(p.printed)
	hello := []byte("\n" + greeting + "1\n") // of a sidecar that has printed something before
	buf := make([]byte, 4<<10)
	var head []byte // what may become a greeting, and then the last that came
	print := false
	for {
		n, err := p.out[0].Read(buf)
		b := buf[:n]
		head = append(head, b...)
		p.mu.Lock()
		known := p.chosen
		if !print && bytes.HasPrefix(head, []byte(greeting)) && p.takes(0, head) {
			p.mu.Unlock()
			said <- struct{}{}
			return
		}
		if !print && (known || err != nil || len(head) >= len(greeting) || !strings.HasPrefix(greeting, string(head))) {
			print, b = true, head
		}
		if print && len(p.begins) < kept {
			p.begins = append(p.begins, b[:min(len(b), kept)]...)
		}
		p.mu.Unlock()
		if print {
			tail.Take(b)
			text := bytes.ReplaceAll(head, []byte("\r\n"), []byte{'\n'})
			if !known && bytes.Contains(text, hello) {
				select {
				case strays <- struct{}{}:
				default:
				}
			}
			head = append([]byte(nil), head[max(0, len(head)-len(hello)-1):]...)
		}
		if err != nil {
			if p.mine() {
				p.out[0].Close()
			}
			return
		}
	}
}

// mine reports whether the standard output is not the wire, and is read until the process has ended.
func (p *pipes) mine() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chosen && p.way == 1
}

// leftover is how long a process that has ended is read from, where others have its descriptors.
const leftover = 40 * time.Millisecond

// finish waits for the end of a standard output that is not the wire. It is called when the process has ended, which others may have left it to.
func (p *pipes) finish() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	if p.mine() {
		_ = p.out[0].SetReadDeadline(time.Now().Add(leftover))
		<-p.printed
	}
}

func (p *pipes) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	n, err := p.out[p.way].Read(b)
	p.rooms[1].had(p.out[p.way], n)
	return n, err
}

// Eagerly is Read, as package eager has it.
func (p *pipes) Eagerly(b []byte) (int, error) {
	if len(p.head) > 0 {
		return p.Read(b)
	}
	if p.eager == nil {
		p.eager = eager.New(p.out[p.way])
	}
	n, err := p.eager.Eagerly(b)
	p.rooms[1].had(p.out[p.way], n)
	return n, err
}

func (p *pipes) Write(b []byte) (int, error) {
	p.rooms[0].had(p.in[p.way], len(b))
	return p.in[p.way].Write(b)
}

func (p *pipes) SetReadDeadline(t time.Time) error { return p.out[p.way].SetReadDeadline(t) }

func (p *pipes) Close() error {
	p.once.Do(func() {
		mine := p.mine()
		for i := range p.rooms {
			p.rooms[i].close()
		}
		for _, f := range append(p.in[:], p.out[:]...) {
			if f != nil && !(mine && f == p.out[0]) {
				f.Close()
			}
		}
	})
	return nil
}
