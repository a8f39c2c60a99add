package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// Find follows the links of a path, and returns what is there, so that it is known again.
func Find(path string) (File, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return File{}, err
	}
	var stat unix.Stat_t
	if err := unix.Lstat(real, &stat); err != nil {
		return File{}, &os.PathError{Op: "lstat", Path: real, Err: err}
	}
	return File{Path: []byte(real), Device: uint64(stat.Dev), Inode: stat.Ino}, nil
}

// launched is a process whose launcher has put the program in its place.
type launched struct {
	process.Child
	layers []string
}

func (l *launched) Layers() []string { return append(l.Child.Layers(), l.layers...) }

// Start is process.Start of a program that a launcher shuts in. c.Program is not nil. The order's Args, Env and Files are c's. An error of the
// sandbox is an *inspect.Error of the kind loader.ErrSandbox.
func (b *Bounds) Start(ctx context.Context, c process.Command, o Order) (process.Child, error) {
	o.Args, o.Env, o.Files = inBytes(c.Args), inBytes(c.Env), len(c.Files)
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	own, err := process.OwnProgram()
	if err != nil {
		return nil, err
	}
	if own == nil {
		return nil, Refused("", errors.New("that "+process.SelfLink+" cannot be read, by which this program is started as a launcher"))
	}
	order, orders, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer order.Close()
	go func() { // until it is read, or nobody has the other end
		defer orders.Close()
		_, _ = orders.Write(text)
	}()
	said, says, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer said.Close()
	defer says.Close()
	program := c.Program
	c.Files = append(c.Files[:len(c.Files):len(c.Files)], order, says, program)
	c.Program, c.Path, c.ByPath = own, process.SelfLink, true
	c.Args = []string{"ferrule-launcher: " + filepath.Base(program.Name())}
	c.Env, c.Tell = []string{Variable + "=" + version + " " + strconv.Itoa(o.Files)}, nil
	child, err := process.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	says.Close()
	order.Close()
	// What comes until the pipe ends is the launcher's own word: the program does not get the descriptor.
	stop := context.AfterFunc(ctx, func() { _ = said.SetReadDeadline(time.Unix(1, 0)) })
	layers, err := listen(said)
	if !stop() && err != nil {
		err = fmt.Errorf("its launcher had not started it: %w", context.Cause(ctx))
	}
	if err != nil {
		child.Kill()
		ended := make(chan string, 1)
		go func() {
			signal, code := child.Wait()
			ended <- process.How(signal, code)
			child.Bury()
		}()
		if errors.Is(err, io.ErrUnexpectedEOF) { // an init function of this program may end it
			select {
			case how := <-ended:
				err = fmt.Errorf("its launcher, which is this program with %s in its environment, ended with %s before it could start it", Variable, how)
			case <-ctx.Done():
			}
		}
		return nil, err
	}
	return &launched{child, layers}, nil
}

// listen reads what a launcher says, to the end.
func listen(said io.Reader) (layers []string, err error) {
	d := json.NewDecoder(said)
	began := false
	for {
		var r report
		switch err := d.Decode(&r); {
		case err == io.EOF && began:
			return layers, nil
		case err == io.EOF:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case r.Errno != 0:
			return nil, os.NewSyscallError("execveat", syscall.Errno(r.Errno))
		case r.Failed:
			return nil, &inspect.Error{Kind: wire.ErrSandbox, Found: string(r.Found), Expected: string(r.Expected), Remedy: string(r.Remedy)}
		}
		began = true
		for _, layer := range r.Layers {
			layers = append(layers, string(layer))
		}
	}
}

func inBytes(words []string) (all [][]byte) {
	for _, word := range words {
		all = append(all, []byte(word)) // which need not be UTF-8
	}
	return all
}
