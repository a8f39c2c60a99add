package monitor_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

// served serves a system, until the test ends.
func served(t *testing.T, sys *plugins.System, opts ...monitor.Option) (s *monitor.Server, path string) {
	t.Helper()
	path = fixture.Socket(t)
	s, err := monitor.Serve(sys, path, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s, path
}

// small is a system without plug-ins.
func small() *plugins.System { return plugins.New("app", "1.0.0", plugins.Counting()) }

// ask asks a host once.
func ask(t *testing.T, path string) (*monitor.Snapshot, error) {
	t.Helper()
	c, err := monitor.Dial(t.Context(), path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Snapshot(t.Context())
}

// TestServe: the socket is its user's alone, it comes and goes with the server, and nothing else is ever taken away.
func TestServe(t *testing.T) {
	sys := small()
	s, path := served(t, sys)
	assert.Equal(t, path, s.Path())
	info, err := os.Lstat(path)
	require.NoError(t, err)
	assert.Equal(t, os.ModeSocket, info.Mode().Type())
	if runtime.GOOS != "windows" {
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	seen, err := ask(t, path)
	require.NoError(t, err)
	assert.Equal(t, []any{"app", "1.0.0", true}, []any{seen.App, seen.Version, seen.Counting})

	_, err = monitor.Serve(sys, path)
	assert.ErrorIs(t, err, monitor.ErrInUse)
	_, err = ask(t, path)
	assert.NoError(t, err, "the first one goes on")

	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "again")
	assert.NoFileExists(t, path)
	_, err = ask(t, path)
	assert.ErrorIs(t, err, monitor.ErrNoHost)
	s, err = monitor.Serve(sys, path)
	require.NoError(t, err, "at the same place")

	require.NoError(t, os.Remove(path)) // by somebody who tidies up; and another host comes
	other, err := monitor.Serve(sys, path)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = ask(t, path)
	assert.NoError(t, err, "the socket of the other one stays")
	require.NoError(t, other.Close())
}

// leaveBehind leaves a socket as a host does that was killed.
func leaveBehind(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.FileExists(t, path)
}

// TestServeLeftBehind: a host that was killed leaves a socket, in whose place another one may serve.
func TestServeLeftBehind(t *testing.T) {
	path := fixture.Socket(t)
	leaveBehind(t, path)
	_, err := ask(t, path)
	assert.ErrorIs(t, err, monitor.ErrNoHost)
	assert.ErrorContains(t, err, "a socket on which nobody listens")
	s, err := monitor.Serve(small(), path)
	require.NoError(t, err)
	_, err = ask(t, path)
	assert.NoError(t, err)
	require.NoError(t, s.Close())
}

// TestServeAtOnce: of several that serve at one path at the same time one does, whether a host has left a socket there or not; and nothing is left of how that was decided.
func TestServeAtOnce(t *testing.T) {
	path := fixture.Socket(t)
	for round := range 100 {
		if round%2 == 1 {
			leaveBehind(t, path)
		}
		var servers [4]*monitor.Server
		var errs [len(servers)]error
		var all sync.WaitGroup
		begin := make(chan struct{})
		for i := range servers {
			all.Go(func() {
				<-begin
				servers[i], errs[i] = monitor.Serve(small(), path)
			})
		}
		close(begin)
		all.Wait()
		succeeded := 0
		for i, s := range servers {
			if errs[i] == nil {
				succeeded++
				_, err := ask(t, path)
				assert.NoError(t, err)
				require.NoError(t, s.Close())
			} else {
				assert.ErrorIs(t, errs[i], monitor.ErrInUse)
			}
		}
		require.Equal(t, 1, succeeded, "round %d", round)
		assert.NoFileExists(t, path)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		assert.Empty(t, left)
	}
}

// TestServeLock: the lock of a host that was killed is no hindrance; a file of somebody else's with its name stays as it is.
func TestServeLock(t *testing.T) {
	path := fixture.Socket(t)
	require.NoError(t, os.WriteFile(path+".lock", nil, 0o600))
	s, err := monitor.Serve(small(), path)
	require.NoError(t, err)
	require.NoError(t, s.Close())

	require.NoError(t, os.WriteFile(path+".lock", []byte("text"), 0o600))
	_, err = monitor.Serve(small(), path)
	assert.ErrorIs(t, err, monitor.ErrPath)
	assert.ErrorContains(t, err, "found a file s.lock beside it that is not empty")
	text, err := os.ReadFile(path + ".lock")
	require.NoError(t, err)
	assert.Equal(t, "text", string(text))
	assert.NoFileExists(t, path)
}

// TestServeRefuses: what is no socket stays as it is.
func TestServeRefuses(t *testing.T) {
	folder := filepath.Dir(fixture.Socket(t))
	file, link := filepath.Join(folder, "file"), filepath.Join(folder, "link")
	require.NoError(t, os.WriteFile(file, []byte("text"), 0o600))
	for path, want := range map[string]string{
		file:                                 "found a file, expected nothing, or a socket that a host has left behind",
		folder:                               "found a folder, expected nothing",
		link:                                 "found a symbolic link, expected nothing",
		filepath.Join(folder, "no", "s"):     "Name a path in a folder that is there",
		folder + strings.Repeat("/long", 40): "expected one of at most",
		"":                                   "no path",
	} {
		if path == link {
			if err := os.Symlink(file, link); err != nil {
				continue // not everybody may, on Windows
			}
		}
		_, err := monitor.Serve(small(), path)
		assert.ErrorIs(t, err, monitor.ErrPath, path)
		assert.ErrorContains(t, err, want)
		_, err = ask(t, path)
		var why *monitor.Error
		require.ErrorAs(t, err, &why, path)
		assert.Contains(t, []error{monitor.ErrPath, monitor.ErrNoHost}, why.Kind, path)
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "text", string(text))

	path := filepath.Join(folder, "s")
	for what, serve := range map[string]func() (*monitor.Server, error){
		"no system":  func() (*monitor.Server, error) { return monitor.Serve(nil, path) },
		"no option":  func() (*monitor.Server, error) { return monitor.Serve(small(), path, nil) },
		"no clients": func() (*monitor.Server, error) { return monitor.Serve(small(), path, monitor.Clients(0)) },
	} {
		_, err := serve()
		assert.ErrorIs(t, err, plugins.ErrOption, what)
		assert.NoFileExists(t, path, what)
	}
}

// TestServeNoName: a path that begins with @ is a file, and not a name that every user of the machine may connect to.
func TestServeNoName(t *testing.T) {
	t.Chdir(filepath.Dir(fixture.Socket(t)))
	s, err := monitor.Serve(small(), "@s")
	require.NoError(t, err)
	assert.FileExists(t, "@s")
	require.NoError(t, s.Close())
	assert.NoFileExists(t, "@s")
}

// dial connects as a program of somebody else's does.
func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c
}

// TestProtocol: a line for a line, as the documentation has it.
func TestProtocol(t *testing.T) {
	_, path := served(t, small())
	c := dial(t, path)
	lines := bufio.NewReader(c)
	begun := time.Now()
	const asked = 4
	_, err := io.WriteString(c, strings.Repeat("snapshot\n", asked-1)+"snapshot\r\n")
	require.NoError(t, err)
	for range asked {
		line, err := lines.ReadBytes('\n')
		require.NoError(t, err)
		var s monitor.Snapshot
		require.NoError(t, json.Unmarshal(line, &s))
		assert.Equal(t, monitor.Format, s.Format)
	}
	assert.GreaterOrEqual(t, time.Since(begun), (asked-1)*100*time.Millisecond, "one client has an answer each tenth of a second, however often it asks")

	for sent, want := range map[string]string{
		"snap\n":                   `{"error":"found \"snap\", expected \"snapshot\""}`,
		"\n":                       `{"error":"found \"\", expected \"snapshot\""}`,
		"GET / HTTP/1.1\r\n":       `{"error":"found \"GET / HTTP/1.1\", expected \"snapshot\""}`,
		strings.Repeat("x", 1<<20): `{"error":"found a line of more than 128 bytes, expected \"snapshot\""}`,
		"snapshot":                 ``, // and no more
	} {
		c := dial(t, path)
		go func() {
			_, _ = io.WriteString(c, sent)
			_ = c.(*net.UnixConn).CloseWrite()
		}()
		answer, err := io.ReadAll(c)
		if !errors.Is(err, net.ErrClosed) && err != nil { // the server has closed it with something unread
			assert.Greater(t, len(sent), 128, "%v", err)
		}
		assert.Equal(t, want, strings.TrimSuffix(string(answer), "\n"))
	}

	// A host of another version has more to say, or less: what is known of it is read, and what is not there is its zero value.
	for says, want := range map[string]monitor.Snapshot{
		`{"format":1,"later":{"a":[1]},"app":"shop","config":{"error":"why","later":null},"plugins":[{"name":"points","later":[],"state":"well","calls":{"calls":7,"later":1.5},"counted":[{"function":"off","calls":3,"later":""}]}]}`: {
			Format: 1, App: "shop", Config: &monitor.Refused{Error: "why"},
			Plugins: []monitor.Plugin{{Name: "points", State: "well", Calls: &monitor.Calls{Calls: 7}, Counted: []monitor.Counted{{Function: "off", Calls: monitor.Calls{Calls: 3}}}}},
		},
		`{"format":1}`: {Format: 1},
	} {
		got, err := ask(t, speaks(t, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 64))
			_, _ = io.WriteString(conn, says+"\n")
		}))
		if assert.NoError(t, err, says) {
			assert.Equal(t, want, *got)
		}
	}
}

// TestHostileClients: clients that say nothing, do not read, ask without end or are too many get their places taken, and nobody else notices.
func TestHostileClients(t *testing.T) {
	monitor.Hurry(t, 2*time.Second, 200*time.Millisecond)
	sys, _ := system(t, plugins.Counting())
	const places = 6
	s, path := served(t, sys, monitor.Clients(places))
	good, err := monitor.Dial(t.Context(), path)
	require.NoError(t, err)
	defer good.Close()
	_, err = good.Snapshot(t.Context())
	require.NoError(t, err)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // goes on asking, whatever the others do
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			seen, err := good.Snapshot(context.Background())
			if !assert.NoError(t, err) {
				return
			}
			assert.Len(t, seen.Plugins, 5)
		}
	}()

	var all sync.WaitGroup
	for i := range places - 1 {
		c := dial(t, path)
		all.Go(func() {
			if i%2 == 0 { // asks for more than fits, and reads nothing
				text := []byte(strings.Repeat("snapshot\n", 100))
				for {
					if _, err := c.Write(text); err != nil {
						return
					}
				}
			}
			_, _ = io.ReadAll(c) // says nothing
		})
	}
	assert.Eventually(t, func() bool {
		_, err := ask(t, path)
		return errors.Is(err, monitor.ErrBusy)
	}, time.Minute, 5*time.Millisecond, "there are no more places")
	assert.Eventually(t, func() bool { // those that say nothing are given up
		_, err := ask(t, path)
		return err == nil
	}, time.Minute, 20*time.Millisecond)
	close(stop)
	<-stopped
	require.NoError(t, s.Close())
	all.Wait()
	_, err = good.Snapshot(t.Context())
	assert.ErrorIs(t, err, monitor.ErrNoHost)
	assert.ErrorContains(t, err, "a host that has ended")
}

// TestIdleClient: a client that has asked nothing for long, and was given up, connects anew by itself; the error of a host that has ended has its cause.
func TestIdleClient(t *testing.T) {
	monitor.Hurry(t, 200*time.Millisecond, time.Minute)
	s, path := served(t, small())
	c, err := monitor.Dial(t.Context(), path)
	require.NoError(t, err)
	defer c.Close()
	for range 2 {
		_, err = c.Snapshot(t.Context())
		require.NoError(t, err)
		_, err = io.ReadAll(dial(t, path)) // which came later, and is given up
		require.NoError(t, err)
	}
	_, err = c.Snapshot(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = c.Snapshot(t.Context())
	assert.ErrorIs(t, err, monitor.ErrNoHost)
	var why *monitor.Error
	require.ErrorAs(t, err, &why)
	assert.Error(t, why.Err)
}

// TestSnapshotOnceAgain: a client connects anew once, and not over and over, to what answers the first time alone.
func TestSnapshotOnceAgain(t *testing.T) {
	var came atomic.Int32
	path := speaks(t, func(conn net.Conn) {
		if came.Add(1) == 1 {
			_, _ = conn.Read(make([]byte, 64))
			_, _ = io.WriteString(conn, `{"format":1}`+"\n")
		}
	})
	c, err := monitor.Dial(t.Context(), path)
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Snapshot(t.Context())
	require.NoError(t, err)
	_, err = c.Snapshot(t.Context())
	assert.ErrorIs(t, err, monitor.ErrNoHost)
	assert.EqualValues(t, 2, came.Load())
}

// TestSlowReader: who does not read its answers is given up, and has its place no longer. Closing the server waits for no such client.
func TestSlowReader(t *testing.T) {
	monitor.Hurry(t, time.Minute, 300*time.Millisecond)
	var many []plugins.Option
	for i := range 3000 { // an answer of more than the system keeps for who does not read
		many = append(many, plugins.Builtin(&builtin.Plugin{Name: fmt.Sprintf("plugin_%d", i), Version: "1.0.0"}))
	}
	sys := plugins.New("app", "1.0.0", many...)
	t.Cleanup(func() { assert.NoError(t, sys.Close()) })
	require.NoError(t, sys.Start(t.Context()))
	s, path := served(t, sys, monitor.Clients(1))
	for _, last := range []bool{false, true} {
		assert.Eventually(t, func() bool { // that of the client before may not be free yet
			_, _ = io.WriteString(dial(t, path), "snapshot\n")
			_, err := ask(t, path)
			return errors.Is(err, monitor.ErrBusy)
		}, time.Minute, 5*time.Millisecond)
		if last {
			require.NoError(t, s.Close())
			return
		}
		var seen *monitor.Snapshot
		assert.Eventually(t, func() (free bool) {
			seen, _ = ask(t, path)
			return seen != nil
		}, time.Minute, 20*time.Millisecond)
		assert.Len(t, seen.Plugins, 3000)
	}
}

// speaks is a server of somebody else's, which says the same to everybody.
func speaks(t *testing.T, says func(net.Conn)) (path string) {
	t.Helper()
	path = fixture.Socket(t)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				says(c)
			}()
		}
	}()
	return path
}

// TestHostileHost: what a host says is bounded, and an error has nothing in it that steers a terminal.
func TestHostileHost(t *testing.T) {
	for what, c := range map[string]struct {
		says string
		want error
	}{
		"nothing":           {"", monitor.ErrNoHost},
		"half a line":       {`{"format":1`, monitor.ErrNoHost},
		"no JSON":           {"HTTP/1.1 400 Bad Request\r\n", monitor.ErrAnswer},
		"another format":    {`{"format":2,"plugins":[]}` + "\n", monitor.ErrAnswer},
		"another object":    {"{}\n", monitor.ErrAnswer},
		"null":              {"null\n", monitor.ErrAnswer},
		"a list":            {"[]\n", monitor.ErrAnswer},
		"a steering error":  {`{"error":"\u001b[2J\u009b2J\nferrule: all is well"}` + "\n", monitor.ErrAnswer},
		"a number too much": {`{"format":1,"plugins":[{"restarts":1e99}]}` + "\n", monitor.ErrAnswer},
	} {
		path := speaks(t, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 64))
			_, _ = io.WriteString(conn, c.says)
		})
		_, err := ask(t, path)
		assert.ErrorIs(t, err, c.want, what)
		assert.Equal(t, escape.Line(err.Error()), err.Error(), what)
	}
}

// TestEndless: an answer without an end ends at a bound.
func TestEndless(t *testing.T) {
	path := speaks(t, func(c net.Conn) {
		text := []byte(strings.Repeat("[", 1<<20))
		for {
			if _, err := c.Write(text); err != nil {
				return
			}
		}
	})
	_, err := ask(t, path)
	assert.ErrorIs(t, err, monitor.ErrAnswer)
	assert.ErrorContains(t, err, fmt.Sprintf("more than %d bytes", 64<<20))
}

// TestSnapshotInTime: a host that does not answer is waited for as long as the context says.
func TestSnapshotInTime(t *testing.T) {
	path := speaks(t, func(c net.Conn) { _, _ = io.ReadAll(c) })
	c, err := monitor.Dial(t.Context(), path)
	require.NoError(t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = c.Snapshot(ctx)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = monitor.Dial(ctx, path)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}
