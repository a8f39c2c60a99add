package sidecar

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
	"github.com/ferrule-dev/ferrule/loader/sidecar/internal/eager"
)

// variableName is what a program knows its descriptors by (rule W16).
const variableName = "FERRULE_SIDECAR"

// program is what is started for each session of a plug-in.
type program struct {
	path string   // of what the system runs: absolute
	args []string // from its name on
	file *os.File // what is at path, where the system starts programs by their descriptors
	copy string   // a folder with a copy of the file, that nobody else can write; "" without one
}

// newProgram finds what is to be started for a file. digest is what the file has to have, or nil.
func newProgram(f *engine.File, o *options, digest *engine.Digest) (p *program, err error) {
	head, err := f.Head()
	if err != nil {
		return nil, err
	}
	script, err := engine.Absolute(f.Path)
	if err != nil {
		return nil, err
	}
	p = &program{}
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
	switch interpreter := o.interpreter; {
	case interpreter != nil:
		if p.path, err = lookUp(interpreter[0]); err != nil {
			return nil, &inspect.Error{Path: f.Path, Kind: loader.ErrOption, Found: "an interpreter that is not there", Err: err, Expected: "a program, such as python3",
				Remedy: "Install it, or give its path with sidecar.WithInterpreter"}
		}
		p.args = append(bytesOf(interpreter), script)
	case bytes.HasPrefix(head, []byte("#!")):
		line, _, _ := bytes.Cut(head[2:], []byte{'\n'})
		words := strings.Fields(string(line))
		if len(words) == 0 || runtime.GOOS == "windows" {
			return nil, &inspect.Error{Path: f.Path, Kind: loader.ErrNoEngine, Found: "a script that this system does not start by itself", Expected: "a program of " + runtime.GOOS,
				Remedy: "Name what runs it with sidecar.WithInterpreter"}
		}
		if err := executable(script); err != nil {
			return nil, &inspect.Error{Path: f.Path, Kind: loader.ErrRead, Found: "a script that may not be executed", Err: err, Expected: "one that may be",
				Remedy: "Change that (chmod +x), or name what runs it with sidecar.WithInterpreter"}
		}
		p.path = words[0]
		p.args = words[:1:1]
		if rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(string(line)), words[0])); rest != "" { // one argument, as the kernel has it
			p.args = append(p.args, rest)
		}
		p.args = append(p.args, script)
	default:
		if err := executable(script); err != nil {
			return nil, &inspect.Error{Path: f.Path, Kind: loader.ErrRead, Found: "a file that may not be executed", Err: err, Expected: "a program",
				Remedy: "Change that (chmod +x), or name what runs it with sidecar.WithInterpreter"}
		}
	}
	p.args = append(p.args, o.args...)
	if process.ByDescriptor {
		if p.file, err = os.Open(p.path); err != nil {
			if !errors.Is(err, fs.ErrPermission) { // one that may be executed, and not be read, is started by its path
				return nil, notThere(f.Path, p.path, err)
			}
			err = nil
		}
		if p.file != nil && isScript(p.file) { // what interprets it opens it by its path, and a descriptor that is closed by then has none
			p.file.Close()
			p.file = nil
		}
	}
	return p, nil
}

// isScript reports whether a file is one that the system has interpreted, as a version manager's stand-in for an interpreter is.
func isScript(f *os.File) bool {
	var head [2]byte
	n, _ := f.ReadAt(head[:], 0)
	return string(head[:n]) == "#!"
}

func notThere(path, program string, err error) error {
	return &inspect.Error{Path: path, Kind: loader.ErrRead, Found: "no program at " + program + ", which is to run it", Err: err, Expected: "one", Remedy: "Install it"}
}

func bytesOf(words []string) []string { return append([]string{}, words...) }

// lookUp finds a program by its name, or its path.
func lookUp(name string) (string, error) {
	found, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(found)
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err == nil && runtime.GOOS != "windows" && info.Mode()&0o111 == 0 {
		err = &fs.PathError{Op: "exec", Path: path, Err: fs.ErrPermission}
	}
	return err
}

// keep copies the file to a folder of this user's alone, and returns its path.
func (p *program) keep(f *engine.File, digest engine.Digest) (string, error) {
	const most = 1 << 30
	all, err := f.Bytes(&digest, most)
	if err != nil {
		return "", err
	}
	if p.copy, err = os.MkdirTemp("", "ferrule-sidecar-"); err == nil {
		to := filepath.Join(p.copy, filepath.Base(f.Path))
		if err = os.WriteFile(to, all, 0o500); err == nil {
			return to, nil
		}
	}
	return "", &inspect.Error{Path: f.Path, Kind: loader.ErrRead, Found: "no place for a copy of the program, which WithSHA256 needs", Err: err, Expected: "a folder for temporary files",
		Remedy: "Have TMPDIR name one that can be written to, and that programs may be run from"}
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

	signal os.Signal
	code   int

	killed sync.Once
}

// start starts the program, and returns the ends of its streams.
func (l *launcher) startProgram(ctx context.Context) (*child, *pipes, error) {
	c := &child{tail: process.NewTail(l.output), gone: make(chan struct{})}
	p := &pipes{}
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
	c.Child, err = process.Start(ctx, process.Command{Program: l.program.file, Path: l.program.path, Root: root, Args: l.program.args, Env: env, Files: theirs})
	if err != nil {
		return fail(err)
	}
	for _, f := range theirs {
		f.Close()
	}
	c.tail.Read(errs)
	go func() {
		c.signal, c.code = c.Wait()
		c.tail.Finish()
		close(c.gone)
		c.Bury()
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
	once    sync.Once
}

// greeting is how a stream begins that is the wire.
const greeting = "HELLO "

// choose sends a hello by both ways, and waits until the sidecar says something by one of them. What it prints to a standard output that is not the wire goes to
// tail from then on.
func (p *pipes) choose(tail func(begins []byte, rest *os.File)) error {
	if p.out[1] == nil {
		return nil
	}
	type word struct {
		way  int
		head []byte
		err  error
	}
	said := make(chan word, 2)
	for way, f := range p.out {
		go func() {
			head := make([]byte, len(greeting))
			n, err := io.ReadFull(f, head)
			said <- word{way, head[:n], err}
		}()
	}
	var other *word // what the standard output said that is no hello
	for range 2 {
		w := <-said
		switch {
		case w.way == 1 && len(w.head) > 0:
			p.way, p.head = 1, w.head
			p.in[0].Close()
			if other == nil { // it may print yet
				go func() {
					w := <-said
					tail(w.head, p.out[0])
				}()
			} else {
				tail(other.head, p.out[0])
			}
			return nil
		case w.way == 0 && string(w.head) == greeting:
			p.head = w.head
			p.in[1].Close()
			p.out[1].Close()
			return nil
		case w.way == 0:
			other = &w
		}
	}
	if other == nil || len(other.head) == 0 {
		return io.EOF
	}
	p.head = other.head // which is no message, as the reader will say
	return nil
}

func (p *pipes) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.out[p.way].Read(b)
}

// Eagerly is Read, as package eager has it.
func (p *pipes) Eagerly(b []byte) (int, error) {
	if len(p.head) > 0 {
		return p.Read(b)
	}
	if p.eager == nil {
		p.eager = eager.New(p.out[p.way])
	}
	return p.eager.Eagerly(b)
}

func (p *pipes) Write(b []byte) (int, error)       { return p.in[p.way].Write(b) }
func (p *pipes) SetReadDeadline(t time.Time) error { return p.out[p.way].SetReadDeadline(t) }

func (p *pipes) Close() error {
	p.once.Do(func() {
		for _, f := range append(p.in[:], p.out[:]...) {
			if f != nil {
				f.Close()
			}
		}
	})
	return nil
}
