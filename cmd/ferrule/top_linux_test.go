package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

// size has the terminal be so large.
func (s *screen) size(columns, rows uint16) {
	s.t.Helper()
	require.NoError(s.t, unix.IoctlSetWinsize(int(s.line.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}))
}

var colour = regexp.MustCompile("\x1b\\[[0-9]*m")

// frame returns the lines of the last table that the terminal shows as a whole; nil before there is one.
func (s *screen) frame() []string {
	text := strings.ReplaceAll(s.shown(), "\r\r\n", "\r\n") // of a terminal that makes lines of newlines by itself
	end := strings.LastIndex(text, "\x1b[K\x1b[J")
	if end < 0 {
		return nil
	}
	text = text[:end]
	text = colour.ReplaceAllString(text[strings.LastIndex(text, "\x1b[H")+3:], "")
	return strings.Split(text, "\x1b[K\r\n")
}

// until waits for a table that is as it should be.
func (s *screen) until(is func(lines []string) bool) []string {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		lines := s.frame()
		if lines != nil && is(lines) {
			return lines
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("out of time; on the screen:\n%s", strings.Join(lines, "\n"))
		}
	}
}

// names are the plug-ins of a table, in its order.
func names(lines []string) (all []string) {
	for _, l := range lines {
		if word, _, _ := strings.Cut(l, " "); strings.HasPrefix(word, "plugin_") && !strings.HasSuffix(word, ":") {
			all = append(all, word)
		}
	}
	return all
}

// begins reports whether the plug-ins of a table begin with these.
func begins(first ...string) func([]string) bool {
	return func(lines []string) bool {
		all := names(lines)
		return len(all) >= len(first) && slices.Equal(all[:len(first)], first)
	}
}

// startTop shows a table on a new terminal.
func startTop(t *testing.T, columns, rows uint16, args ...string) *screen {
	t.Helper()
	s := newScreen(t)
	s.size(columns, rows)
	s.start([]string{"TERM=xterm", "NO_COLOR="}, append([]string{"top", "--interval", "100ms"}, args...)...)
	return s
}

// left asserts that a terminal is as it was before anything ran on it.
func (s *screen) left() {
	s.t.Helper()
	assert.Equal(s.t, s.before, s.settings())
	assert.Eventually(s.t, func() bool { return strings.Contains(s.shown(), leaveScreen) }, time.Minute, 5*time.Millisecond)
	text := s.shown()
	assert.Equal(s.t, []int{1, 1}, []int{strings.Count(text, enterScreen), strings.Count(text, leaveScreen)})
	assert.NotContains(s.t, text[strings.Index(text, leaveScreen)+len(leaveScreen):], "\x1b", "nothing is drawn behind it")
}

// TestTop: the table of a real application on a terminal: it is made anew, sorted by keys, fits whatever the size is, and the terminal is given back.
func TestTop(t *testing.T) {
	t.Parallel()
	_, socket := shownHost(t, plugins.Counting())
	s := startTop(t, 140, 24, socket)
	first := s.until(begins("plugin_aaaa", "plugin_bbbb", "plugin_dddd"))
	assert.NotEqual(t, s.before, s.settings(), "keys come at once, and are not shown")
	require.Len(t, first, 24)
	assert.Regexp(t, `^shop 1\.4\.0, process \d+, [0-9.]+ MiB: 3 plug-ins, 1 failed +\d\d:\d\d:\d\d$`, first[0])
	assert.Regexp(t, `^NAME +VERSION +STATE +RUNS +CALLS/S +CALLS +ERRORS +CRASHED +LATE +MEAN +LONGEST +RESTARTS +MEMORY$`, first[1])
	assert.Regexp(t, `^plugin_dddd: start: .*`, first[6])
	assert.Contains(t, first[23], "q quit")
	count := regexp.MustCompile(`plugin_aaaa +1\.0\.0 +started +in-process +([1-9][0-9.]*) +([0-9]+) `)
	calls := count.FindStringSubmatch(strings.Join(s.until(func(l []string) bool { return count.MatchString(strings.Join(l, "\n")) }), "\n"))[2]
	s.until(func(l []string) bool {
		m := count.FindStringSubmatch(strings.Join(l, "\n"))
		return m != nil && m[2] != calls
	})

	for _, c := range []struct{ keys, first string }{{"s", "plugin_dddd"}, {"m", "plugin_bbbb"}, {"i", "plugin_bbbb"}, // what has no memory is last, whatever the order
		{"r", "plugin_bbbb"}, {"i", "plugin_aaaa"}, {"n", "plugin_aaaa"}, {"i", "plugin_dddd"}, {"ni", "plugin_dddd"}, {"t", "plugin_bbbb"}, {"x\x1b[3~\x1bOQ", "plugin_bbbb"}} {
		s.types(c.keys)
		s.until(begins(c.first))
	}
	for _, size := range [][2]uint16{{60, 10}, {40, 7}, {20, 6}, {8, 4}, {2, 2}, {1, 1}, {200, 50}} {
		s.size(size[0], size[1])
		lines := s.until(func(l []string) bool {
			widest := 0
			for _, line := range l {
				widest = max(widest, runewidth.StringWidth(line))
			}
			return len(l) == int(size[1]) && widest <= int(size[0])
		})
		if size[0] >= 40 {
			assert.Regexp(t, `^NAME +STATE +CALLS/S`, regexp.MustCompile(` VERSION| RUNS`).ReplaceAllString(lines[1], ""), "what matters most has a place: %d", size[0])
		}
	}
	s.types("q")
	assert.Zero(t, s.ends(), s.shown())
	s.left()
}

// TestTopScrolls: there are more plug-ins than lines.
func TestTopScrolls(t *testing.T) {
	t.Parallel()
	var all []monitor.Plugin
	for i := range 100 {
		all = append(all, monitor.Plugin{Name: fmt.Sprintf("plugin_%02d", i), State: plugins.StateReady, Calls: &monitor.Calls{}, Error: "not shown: there is no room"})
	}
	s := startTop(t, 80, 13, saysSo(t, func(int) string { return picture(t, all...) }))
	for _, c := range []struct{ keys, first, last string }{{"", "00", "1 to 10 of 100"}, {"j", "01", "2 to 11 of 100"}, {"\x1b[B\x1bOB", "03", "4 to 13"}, {"\x1b[A", "02", "3 to 12"},
		{"\x1b[6~ ", "22", "23 to 32"}, {"\x1b[5~", "12", "13 to 22"}, {"\x1b[F", "90", "91 to 100"}, {"j", "90", "91 to 100"}, {"\x1b[H", "00", "1 to 10"}, {"k", "00", "1 to 10"},
		{"i", "99", "1 to 10"}} {
		s.types(c.keys)
		lines := s.until(begins("plugin_" + c.first))
		assert.Contains(t, lines[12], c.last)
		assert.Len(t, names(lines), 10)
	}
	s.types("q")
	assert.Zero(t, s.ends())
}

// TestTopEnds: whatever ends it, the terminal is as it was, and the exit code says what has happened.
func TestTopEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(s *screen, server *monitor.Server)
		code int
		want string
	}{
		"q":       {func(s *screen, _ *monitor.Server) { s.types("q") }, 0, ""},
		"Ctrl-C":  {func(s *screen, _ *monitor.Server) { s.types("\x03") }, exitInterrupted, ""},
		`Ctrl-\`:  {func(s *screen, _ *monitor.Server) { s.types("\x1c") }, exitInterrupted, ""},
		"SIGINT":  {func(s *screen, _ *monitor.Server) { _ = s.cmd.Process.Signal(syscall.SIGINT) }, exitInterrupted, ""},
		"SIGTERM": {func(s *screen, _ *monitor.Server) { _ = s.cmd.Process.Signal(syscall.SIGTERM) }, exitInterrupted, ""},
		"SIGHUP":  {func(s *screen, _ *monitor.Server) { _ = s.cmd.Process.Signal(syscall.SIGHUP) }, exitInterrupted, ""},
		"SIGQUIT, twice": {func(s *screen, _ *monitor.Server) {
			_, _ = s.cmd.Process.Signal(syscall.SIGQUIT), s.cmd.Process.Signal(syscall.SIGTERM)
		}, exitInterrupted, ""},
		"the application": {func(s *screen, server *monitor.Server) { assert.NoError(s.t, server.Close()) }, exitUnavailable, "found a host that has ended, or serves its plug-ins no more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, socket := shownHost(t, plugins.Counting())
			s := startTop(t, 120, 20, socket)
			s.until(begins("plugin_aaaa"))
			c.end(s, server)
			assert.Equal(t, c.code, s.ends(), "%q", s.shown())
			s.left()
			after := s.shown()[strings.LastIndex(s.shown(), leaveScreen)+len(leaveScreen):]
			if c.want == "" {
				assert.Empty(t, after)
			} else {
				assert.Eventually(t, func() bool { return strings.Contains(s.shown(), c.want) }, time.Minute, 5*time.Millisecond, after)
			}
		})
	}
}

// TestTopSuspended: Ctrl-Z, and the signal of that, give the terminal back until the shell has the command go on.
func TestTopSuspended(t *testing.T) {
	t.Parallel()
	key := func(s *screen, _ int) { s.types("\x1a") }
	signal := func(_ *screen, pid int) { _ = syscall.Kill(pid, syscall.SIGTSTP) }
	for name, c := range map[string]struct {
		start string
		stop  func(s *screen, pid int)
	}{
		"Ctrl-Z":                   {`exec "$0" "$@"`, key},
		"Ctrl-Z in a script's job": {`"$0" "$@"; exit $?`, key}, // all of the job stops: the shell waits for the script
		"SIGTSTP":                  {`exec "$0" "$@"`, signal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, socket := shownHost(t, plugins.Counting())
			s := newScreen(t)
			s.size(120, 20)
			notes := t.TempDir()
			// A shell with jobs, of which this is the one: it notes its process, and the shell waits for a file when it has stopped.
			s.startProgram(s.line, []string{"TERM=xterm", "NO_COLOR=", "NOTES=" + notes}, "sh", "-c", `set -m
				sh -c 'echo $$ >"$NOTES/started" && mv "$NOTES/started" "$NOTES/pid" && `+c.start+`' "$0" "$@"
				until [ -e "$NOTES/on" ]; do sleep 0.02; done
				fg >/dev/null`, binary, "top", "--interval", "100ms", socket)
			s.until(begins("plugin_aaaa"))
			text, err := os.ReadFile(filepath.Join(notes, "pid"))
			require.NoError(t, err)
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			require.NoError(t, err)
			c.stop(s, pid)
			require.Eventually(t, func() bool {
				stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				return err == nil && strings.Contains(string(stat), ") T ") && strings.Contains(s.shown(), leaveScreen)
			}, time.Minute, 5*time.Millisecond)
			assert.Equal(t, s.before, s.settings())
			require.NoError(t, os.WriteFile(filepath.Join(notes, "on"), nil, 0o600))
			require.Eventually(t, func() bool {
				_, after, _ := strings.Cut(s.shown(), leaveScreen)
				_, after, again := strings.Cut(after, enterScreen)
				return again && strings.Contains(after, "plugin_aaaa")
			}, time.Minute, 5*time.Millisecond)
			assert.NotEqual(t, s.before, s.settings())
			s.types("q")
			assert.Zero(t, s.ends(), s.shown())
			assert.Equal(t, s.before, s.settings())
			assert.Eventually(t, func() bool { return strings.HasSuffix(s.shown(), leaveScreen) }, time.Minute, 5*time.Millisecond)
		})
	}
}

// TestTopWithoutShell: where there is no shell that could have it go on, Ctrl-Z and the signal of that do not stop it.
func TestTopWithoutShell(t *testing.T) {
	t.Parallel()
	_, socket := shownHost(t, plugins.Counting())
	s := startTop(t, 120, 20, socket) // in a session of its own
	s.until(begins("plugin_aaaa"))
	for n, stop := range []func(){func() { s.types("\x1a") }, func() { _ = s.cmd.Process.Signal(syscall.SIGTSTP) }} {
		stop()
		require.Eventually(t, func() bool {
			parts := strings.Split(s.shown(), enterScreen)
			return len(parts) == n+3 && strings.Contains(parts[n+2], "plugin_aaaa")
		}, time.Minute, 5*time.Millisecond)
	}
	s.types("q")
	assert.Zero(t, s.ends())
	assert.Equal(t, s.before, s.settings())
}

// TestTopWaits: the screen says that there is no answer yet; it ends meanwhile, and shows the table when there is one.
func TestTopWaits(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	socket := saysSo(t, func(int) string {
		<-over
		return picture(t, monitor.Plugin{Name: "plugin_aaaa"})
	})
	waits := func() *screen {
		s := startTop(t, 100, 20, socket)
		s.until(func(l []string) bool {
			return strings.HasPrefix(l[0], "Waits for the first answer at "+socket+", for ") && l[len(l)-1] == "q quit"
		})
		return s
	}
	for end, code := range map[string]int{"s\x1b[Fq": 0, "\x03": exitInterrupted} {
		s := waits()
		s.types(end)
		assert.Equal(t, code, s.ends())
	}
	s := waits()
	close(over)
	s.until(begins("plugin_aaaa"))
	s.types("q")
	assert.Zero(t, s.ends())
}

// TestTopInterrupted: what is interrupted says so in this command's words, with and without a table.
func TestTopInterrupted(t *testing.T) {
	t.Parallel()
	asked, over := make(chan struct{}, 1), make(chan struct{})
	defer close(over)
	socket := saysSo(t, func(int) string {
		asked <- struct{}{}
		<-over
		return ""
	})
	s := newScreen(t)
	s.start(nil, "top", "--once", socket)
	<-asked
	s.types("\x03")
	assert.Equal(t, exitInterrupted, s.ends())
	assert.Eventually(t, func() bool { return strings.HasSuffix(s.shown(), "ferrule: interrupted\r\n") }, time.Minute, 5*time.Millisecond, "%q", s.shown())
}

// TestTopSilent: an application that does not answer is said not to, and keys work all the same.
func TestTopSilent(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	s := startTop(t, 100, 20, saysSo(t, func(n int) string {
		if n > 2 {
			<-over
		}
		return picture(t, monitor.Plugin{Name: "plugin_aaaa", Calls: &monitor.Calls{}}, monitor.Plugin{Name: "plugin_bbbb", Calls: &monitor.Calls{}})
	}))
	defer close(over)
	s.until(begins("plugin_aaaa"))
	lines := s.until(func(l []string) bool { return strings.HasPrefix(l[1], "The application has not answered for ") })
	assert.Equal(t, []string{"plugin_aaaa", "plugin_bbbb"}, names(lines))
	s.types("i")
	s.until(begins("plugin_bbbb"))
	s.types("q")
	assert.Zero(t, s.ends())
}

// TestTopStoppedTerminal: a terminal that takes no text any more does not keep it from ending.
func TestTopStoppedTerminal(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *screen){
		"SIGTERM": func(s *screen) { assert.NoError(s.t, s.cmd.Process.Signal(syscall.SIGTERM)) },
		"Ctrl-C":  func(s *screen) { s.types("n\x03") },
		"q":       func(s *screen) { s.types("nnq") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, socket := shownHost(t)
			s := startTop(t, 100, 20, socket)
			s.until(begins("plugin_aaaa"))
			require.NoError(t, unix.IoctlSetInt(int(s.line.Fd()), unix.TCXONC, unix.TCOOFF))
			time.Sleep(500 * time.Millisecond) // until it waits
			end(s)
			assert.Equal(t, exitInterrupted, s.ends())
			assert.Equal(t, s.before, s.settings())
			require.NoError(t, unix.IoctlSetInt(int(s.line.Fd()), unix.TCXONC, unix.TCOON))
		})
	}
}

// TestTopStoppedReader: who reads the objects of --json and takes no more does not keep it from ending, at the first signal.
func TestTopStoppedReader(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(binary, "top", "--json", saysSo(t, func(int) string {
				return picture(t, monitor.Plugin{Name: strings.Repeat("a", 1<<20)}) // more than a pipe has room for
			}))
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			_, err = out.Read(make([]byte, 1)) // it is in the middle of an object
			require.NoError(t, err)
			require.NoError(t, cmd.Process.Signal(signal))
			state, err := cmd.Process.Wait()
			require.NoError(t, err)
			assert.Equal(t, exitInterrupted, state.ExitCode())
		})
	}
}

// TestTopBacklog: an application that takes no clients for now, such as one that is stopped, is no fault of the command line.
func TestTopBacklog(t *testing.T) {
	t.Parallel()
	socket := fixture.Socket(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: socket}))
	require.NoError(t, unix.Listen(fd, 0))
	first, err := net.Dial("unix", socket) // all that may wait
	require.NoError(t, err)
	defer first.Close()
	_, stderr, code := ferrule(t, "", "top", "--once", socket)
	assert.Equal(t, exitUnavailable, code, stderr)
	assert.Contains(t, stderr, "found a host that takes no more clients now, expected one with room for another")
	assert.NotContains(t, stderr, "--help")
}

// TestTopWithoutKeys: without a terminal to type on it shows the table all the same, and signals end it.
func TestTopWithoutKeys(t *testing.T) {
	t.Parallel()
	_, socket := shownHost(t)
	s := newScreen(t)
	s.size(100, 20)
	nobody, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer nobody.Close()
	s.startWith(nobody, []string{"TERM=xterm"}, "top", "--interval", "100ms", socket)
	lines := s.until(begins("plugin_aaaa"))
	assert.Equal(t, "Calls are not counted: the application has no plugins.Counting().", lines[1])
	s.types("\x03") // which is a signal here
	assert.Equal(t, exitInterrupted, s.ends())
	s.left()

	assert.Contains(t, onTerminal(t, []string{"TERM=dumb"}, "top", socket), "Print one table with --once")
}
