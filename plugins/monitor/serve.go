package monitor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/internal/filelock"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

// The protocol. A client sends lines, each with the word snapshot; the server answers each with a line of JSON, which is a Snapshot, or the object
// {"error": "…"}, after which it closes the connection. Try it:
//
//	echo snapshot | socat - /run/shop/plugins.sock
const (
	request     = "snapshot"
	longestLine = 128 // of a request
)

// Limits of a server, within which a client can do it no harm.
const (
	mode           = 0o600                  // of the socket: who may read a process's memory may see its plug-ins
	defaultClients = 16                     // at the same time
	answerEvery    = 100 * time.Millisecond // to one client, and no sooner
	turnWithin     = 10 * time.Second       // how long Serve waits for others who are about to serve at its path
)

var (
	requestWithin = 2 * time.Minute // how long a client may have nothing to ask
	readWithin    = 5 * time.Second // how long it may take to read an answer
)

// Server serves pictures of a system until it is closed.
type Server struct {
	sys      *plugins.System
	path     string
	clients  int
	listener *net.UnixListener
	file     fs.FileInfo // the socket that it made
	closing  chan struct{}
	once     sync.Once
	outcome  error
	all      sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// Option is one choice of a Server's.
type Option func(*Server)

// Clients sets how many clients there may be at the same time, instead of 16. The others are told so, and may try again.
func Clients(n int) Option { return func(s *Server) { s.clients = n } }

// Serve serves pictures of a system on a unix socket at path, which only the user of this process may connect to. It makes the socket, also in the place of one
// that a host has left behind, and Close takes it away. What it finds there besides is left alone, and an error. Of several that serve at one path at the same time one does: they take turns
// by a file beside the socket, with .lock at the end of its name, which goes when that is decided (on Windows it stays). The system may be started before or after that, and be closed before
// or after the server. A client that asks nothing for 2 minutes is given up, and has to connect anew, as a Client does by itself.
//
// No system, and an option that is wrong, are plugins.ErrOption. All other errors are of the type *Error.
func Serve(sys *plugins.System, path string, opts ...Option) (*Server, error) {
	if sys == nil {
		return nil, fmt.Errorf("monitor.Serve: found nil, expected a system: %w", plugins.ErrOption)
	}
	s := &Server{sys: sys, clients: defaultClients, closing: make(chan struct{}), conns: map[net.Conn]bool{}}
	for _, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("monitor.Serve: found nil for an option, expected one that is made by a function of this package: %w", plugins.ErrOption)
		}
		opt(s)
	}
	if s.clients < 1 {
		return nil, fmt.Errorf("monitor.Clients: found %d, expected 1 or more: %w", s.clients, plugins.ErrOption)
	}
	var err error
	if s.path, err = whole(path); err != nil {
		return nil, err
	}
	if _, err := standsAt(s.path); err != nil {
		return nil, err
	}
	release, err := claim(s.path)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := vacate(s.path); err != nil {
		return nil, err
	}
	listen := net.ListenConfig{Control: private}
	l, err := listen.Listen(context.Background(), "unix", s.path)
	switch {
	case errors.Is(err, takenHere): // by a program that takes no turns
		return nil, inUse(s.path, "a socket that somebody has just made", err)
	case err != nil:
		return nil, unwritable(s.path, err)
	}
	s.listener = l.(*net.UnixListener)
	s.listener.SetUnlinkOnClose(false) // by then it may be another one's
	err = os.Chmod(s.path, mode)
	if err == nil {
		s.file, err = os.Lstat(s.path)
	}
	if err != nil {
		_ = s.listener.Close()
		_ = os.Remove(s.path)
		return nil, &Error{Path: s.path, Kind: ErrPath, Err: err}
	}
	s.all.Go(s.accept)
	return s, nil
}

// whole is a path from the root on: one that begins with @ would be no file, but a name that everybody may connect to.
func whole(path string) (string, error) {
	if path == "" {
		return "", &Error{Path: "no path", Found: "no path", Expected: "that of a unix socket", Kind: ErrPath}
	}
	all, err := abspath.Of(path)
	if err != nil {
		return "", &Error{Path: path, Kind: ErrPath, Err: err}
	}
	if most := len(syscall.RawSockaddrUnix{}.Path) - 1; len(all) > most {
		return "", &Error{Path: all, Found: fmt.Sprintf("a path of %s", sentence.Count(len(all), "byte")), Expected: fmt.Sprintf("one of at most %d, which is all that sockets can have", most),
			Kind: ErrPath, Remedy: "Name a shorter one, in the folder of the system for such files"}
	}
	return all, nil
}

// standsAt reports whether a socket is at path. It refuses all else that stands there.
func standsAt(path string) (bool, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, &Error{Path: path, Kind: ErrPath, Err: err}
	case info.Mode().Type() != fs.ModeSocket:
		return false, &Error{Path: path, Found: kindOf(info), Expected: "nothing, or a socket that a host has left behind", Kind: ErrPath, Remedy: "Name another path"}
	}
	return true, nil
}

// claim waits for its turn to serve at path: only one at a time looks at what stands there, and takes its place. Otherwise a socket that another one has just made would be taken for one
// that was left behind, until that one listens. A host that is killed meanwhile leaves the lock's file, which the next one takes and takes away.
func claim(path string) (release func(), err error) {
	folder, name := filepath.Dir(path), filepath.Base(path)+".lock"
	if info, err := os.Lstat(filepath.Join(folder, name)); err == nil && info.Size() > 0 {
		return nil, &Error{Path: path, Found: "a file " + name + " beside it that is not empty", Expected: "none, or the lock of a host", Kind: ErrPath, Remedy: "Name another path"}
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, unwritable(path, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), turnWithin)
	defer cancel()
	lock, err := filelock.Acquire(ctx, root, name, mode)
	if err != nil {
		_ = root.Close()
		if ctx.Err() != nil {
			return nil, inUse(path, "others who are about to serve there", err)
		}
		return nil, unwritable(path, err)
	}
	return func() {
		lock.Release()
		_ = root.Close()
	}, nil
}

// inUse is the error of a path at which somebody else serves, or is about to.
func inUse(path, found string, err error) error {
	return &Error{Path: path, Found: found, Expected: "none, or one that a host has left behind", Kind: ErrInUse, Err: err,
		Remedy: "Give each host a path of its own, or end the other one"}
}

// unwritable is the error of a path at which nothing can be made.
func unwritable(path string, err error) error {
	return &Error{Path: path, Kind: ErrPath, Err: err, Remedy: "Name a path in a folder that is there, and in which this user may write"}
}

// vacate takes away the socket of a host that is there no more.
func vacate(path string) error {
	if stands, err := standsAt(path); !stands {
		return err
	}
	const listens = "a socket on which somebody listens"
	conn, err := net.DialTimeout("unix", path, readWithin)
	switch {
	case err == nil:
		_ = conn.Close()
		return inUse(path, listens, nil)
	case errors.Is(err, syscall.EAGAIN): // its listener has as many that wait as there can be
		return inUse(path, listens, err)
	case !nobody(err):
		return &Error{Path: path, Found: "a socket that may be in use", Expected: "none, or one that a host has left behind", Err: err, Kind: ErrPath}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &Error{Path: path, Kind: ErrPath, Err: err}
	}
	return nil
}

// nobody reports whether an error of connecting is that nobody listens.
func nobody(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, refusedHere)
}

// kindOf is what a file is, in words.
func kindOf(info fs.FileInfo) string {
	switch info.Mode().Type() {
	case 0:
		return "a file"
	case fs.ModeDir:
		return "a folder"
	case fs.ModeSymlink:
		return "a symbolic link"
	}
	return "something that is no socket (" + info.Mode().Type().String() + ")"
}

// Path returns the socket's path, from the root on.
func (s *Server) Path() string { return s.path }

// Close ends all connections, takes the socket away, and returns when nothing of the server runs any more. It may be called more than once, from any goroutine.
func (s *Server) Close() error {
	s.once.Do(func() {
		close(s.closing)
		// First: as long as this one listens nobody else takes its place.
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
			s.outcome = os.Remove(s.path)
		}
		s.outcome = errors.Join(s.outcome, s.listener.Close())
		s.mu.Lock()
		for c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
	})
	s.all.Wait()
	return s.outcome
}

func (s *Server) accept() {
	wait := time.Millisecond
	for {
		c, err := s.listener.Accept()
		if err != nil {
			select {
			case <-s.closing:
				return
			case <-time.After(wait): // no descriptors are left, say
				wait = min(2*wait, time.Second)
			}
			continue
		}
		wait = time.Millisecond
		if s.enter(c) { // here, so that who has come first has the place
			s.all.Go(func() { s.serve(c) })
			continue
		}
		s.all.Go(func() {
			defer c.Close()
			refuse(c, busy)
		})
	}
}

// enter has a connection take a place; false where there is none.
func (s *Server) enter(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closing: // nobody closes it any more but the one who serves it
		_ = c.Close()
	default:
	}
	if len(s.conns) >= s.clients {
		return false
	}
	s.conns[c] = true
	return true
}

// serve answers one client.
func (s *Server) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	lines := bufio.NewReaderSize(c, longestLine)
	for next := time.Now(); ; next = time.Now().Add(answerEvery) {
		_ = c.SetReadDeadline(time.Now().Add(requestWithin))
		line, err := lines.ReadSlice('\n')
		asked := strings.TrimRight(string(line), "\r\n")
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			refuse(c, fmt.Sprintf("found a line of more than %d bytes, expected %q", longestLine, request))
			return
		case err != nil:
			return
		case asked != request:
			refuse(c, fmt.Sprintf("found %q, expected %q", asked, request))
			return
		}
		select {
		case <-s.closing:
			return
		case <-time.After(time.Until(next)):
		}
		answer, err := json.Marshal(Take(s.sys))
		if err != nil {
			refuse(c, err.Error())
			return
		}
		_ = c.SetWriteDeadline(time.Now().Add(readWithin))
		if _, err := c.Write(append(answer, '\n')); err != nil {
			return
		}
	}
}

// busy is what a client is told that is one too many.
const busy = "as many clients as this host allows are there already"

// refusal is an answer that is no Snapshot.
type refusal struct {
	Error string `json:"error"`
}

// refuse tells a client why there is no answer. It does not wait for it.
func refuse(c net.Conn, why string) {
	answer, err := json.Marshal(refusal{why})
	if err != nil {
		return
	}
	_ = c.SetWriteDeadline(time.Now().Add(answerEvery))
	_, _ = c.Write(append(answer, '\n'))
}
