package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// onTerminal runs the command on a terminal, and returns what that shows.
func onTerminal(t *testing.T, env []string, args ...string) string {
	t.Helper()
	screen, line := fixture.Terminal(t)
	assert.True(t, terminal(line))
	cmd := exec.Command(binary, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = line, line, line
	cmd.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	line.Close()
	shown := make(chan string)
	go func() {
		var text strings.Builder
		b := make([]byte, 4096)
		for {
			n, err := screen.Read(b)
			text.Write(b[:n])
			if err != nil { // EIO: nobody has the terminal any more
				shown <- text.String()
				return
			}
		}
	}()
	select {
	case text := <-shown:
		_ = cmd.Wait()
		return text
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		t.Fatal("out of time")
		return ""
	}
}

func TestColours(t *testing.T) {
	echo := fixture.C(t, "echo")
	assert.Contains(t, onTerminal(t, nil, "inspect", echo), "\x1b[1mecho 1.2.3\x1b[0m")
	assert.Contains(t, onTerminal(t, nil, "inspect", "--diff", echo, fixture.C(t, "host")), "\x1b[31mBREAKING\x1b[0m")
	assert.NotContains(t, onTerminal(t, []string{"NO_COLOR=1"}, "inspect", echo), "\x1b")
	assert.NotContains(t, onTerminal(t, []string{"TERM=dumb"}, "inspect", echo), "\x1b")
}

// TestProgress: long work shows how long it takes, on a terminal, and takes the line away.
func TestProgress(t *testing.T) {
	loop := []string{"--in", "", "--timeout", "4s", fixture.C(t, "fault_polite_loop"), "fault"}
	for _, way := range calls {
		text := onTerminal(t, nil, append(way[:len(way):len(way)], loop...)...)
		if strings.Contains(text, "out of time after") { // a machine that stands still for seconds: it is started, or sees that it is cancelled, too late
			more := slices.Clone(loop)
			more[3] = "20s"
			text = onTerminal(t, nil, append(way[:len(way):len(way)], more...)...)
		}
		assert.Regexp(t, "^\rfault: [0-9]+\\.[0-9] s\x1b\\[K\r", text)
		assert.Regexp(t, "\r\x1b\\[Kferrule: plug-in fault_polite_loop: fault: cancelled", text)
	}
	_, stderr, _ := ferrule(t, "", append([]string{"call"}, loop...)...)
	assert.NotContains(t, stderr, "\r")
	assert.Equal(t, "hello\r\n", onTerminal(t, nil, "call", "--in", "hello", fixture.C(t, "echo"), "echo"),
		"the prompt is on a line of its own")
}

// TestProgressBar: how far a call is, by what the plug-in says, or how much of the standard input was read. What is for programs, and
// what the function writes to the terminal itself, has no bar in it.
func TestProgressBar(t *testing.T) {
	t.Parallel()
	fixture.Tool(t, "cc", "apt-get install gcc")
	slow := compiled(t, `#include <unistd.h>
		FERRULE_PLUGIN(FERRULE_NAME("slow") FERRULE_VERSION("1"));
		FERRULE_FN(works) {
			int i;
			for (i = 0; i < 14; i++) {
				ferrule_set_progress(call, (uint64_t)i * 50, 1000);
				usleep(100000);
			}
			return FERRULE_OK;
		}
		FERRULE_FN(counts) {
			ferrule_set_progress(call, 42, 0);
			usleep(1400000);
			return FERRULE_OK;
		}
		FERRULE_FN_META(reads, FERRULE_STREAM("in"));
		FERRULE_FN(reads) {
			const uint8_t *piece;
			size_t len;
			int32_t status = FERRULE_OK;
			int i;
			for (i = 0; i < 28 && status == FERRULE_OK; i++) {
				status = call->host->read(call, &piece, &len);
				usleep(50000);
			}
			return status;
		}
		FERRULE_FN_META(writes, FERRULE_STREAM("out"));
		FERRULE_FN(writes) {
			int32_t status = call->host->write(call, (const uint8_t *)"text", 4);
			ferrule_set_progress(call, 1, 2);
			usleep(1400000);
			return status;
		}`)
	file := filepath.Join(t.TempDir(), "input")
	require.NoError(t, os.WriteFile(file, make([]byte, 40*64<<10), 0o600))
	for name, way := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call := func(args ...string) []string { return append(way[:len(way):len(way)], args...) }
			text := onTerminal(t, nil, call(slow, "works", "--in", "")...)
			bars := regexp.MustCompile(`\rworks: \[(#+)(\.+)\] +([0-9]+) %, [0-9.]+ s\x1b\[K`).FindAllStringSubmatch(text, -1)
			require.NotEmpty(t, bars, text)
			for _, bar := range bars { // a fifth of the percents is how many of the 20 cells are full
				percent, err := strconv.Atoi(bar[3])
				require.NoError(t, err)
				assert.Equal(t, []int{percent / 5, 20 - percent/5}, []int{len(bar[1]), len(bar[2])}, bar[0])
				assert.True(t, percent > 0 && percent <= 65 && percent%5 == 0, "what the plug-in said: %s", bar[0])
			}
			assert.True(t, strings.HasSuffix(text, "\r\x1b[K"), "the line is gone: %q", text)
			assert.Contains(t, onTerminal(t, nil, call(slow, "counts", "--in", "")...), "\rcounts: 42 done, 1.")
			assert.Equal(t, "text\r\n", onTerminal(t, nil, call(slow, "writes", "--in", "")...))
			json := onTerminal(t, nil, call(slow, "works", "--in", "", "--json")...)
			assert.NotContains(t, json, "%")
			assert.NotContains(t, json, "\x1b")

			s := newScreen(t)
			stdin, err := os.Open(file)
			require.NoError(t, err)
			defer stdin.Close()
			s.startWith(stdin, nil, call(slow, "reads")...)
			assert.Zero(t, s.ends(), s.shown())
			assert.Eventually(t, func() bool { return strings.HasSuffix(s.shown(), "\r\x1b[K") }, time.Minute, 5*time.Millisecond)
			assert.Regexp(t, `\rreads: \[#+\.+\] +[1-9][0-9] %, [0-9.]+ s`, s.shown())
		})
	}
}

// TestProgressOfZstd: the bar of the example, which says how far it is.
func TestProgressOfZstd(t *testing.T) {
	t.Parallel()
	build := exec.Command("sh", "examples/build.sh", "zstd")
	build.Dir = fixture.Root()
	out, err := build.CombinedOutput()
	if missing := new(exec.ExitError); errors.As(err, &missing) && missing.ExitCode() == 3 {
		t.Skipf("%s", out)
	}
	require.NoError(t, err, "%s", out)
	file := filepath.Join(t.TempDir(), "input")
	random := make([]byte, 8<<20) // which the highest level takes some seconds for
	rand.NewChaCha8([32]byte{}).Read(random)
	require.NoError(t, os.WriteFile(file, random, 0o600))
	for _, way := range calls {
		s := newScreen(t)
		s.start(nil, append(way[:len(way):len(way)], "--config", "level=22", "--in", "@"+file,
			filepath.Join(fixture.Root(), strings.TrimSpace(string(out))), "compress")...)
		assert.Eventually(t, func() bool {
			return regexp.MustCompile(`\rcompress: \[#+\.+\] +[0-9]+ %, [0-9.]+ s\x1b\[K`).MatchString(s.shown())
		}, time.Minute, 5*time.Millisecond, "%q", s.shown())
		s.types("\x03")
		assert.Equal(t, exitInterrupted, s.ends(), "%q", s.shown())
	}
}

// screen is a terminal that a command runs on.
type screen struct {
	t      *testing.T
	master *os.File
	line   *os.File // the other side, which keeps the terminal
	before unix.Termios
	cmd    *exec.Cmd

	mu   sync.Mutex
	text strings.Builder
}

// newScreen makes a terminal.
func newScreen(t *testing.T) *screen {
	t.Helper()
	s := &screen{t: t}
	s.master, s.line = fixture.Terminal(t)
	s.before = s.settings()
	return s
}

// settings are the terminal's.
func (s *screen) settings() unix.Termios {
	s.t.Helper()
	settings, err := unix.IoctlGetTermios(int(s.line.Fd()), getTermios)
	require.NoError(s.t, err)
	return *settings
}

// start starts the command as the terminal's foreground process.
func (s *screen) start(env []string, args ...string) {
	s.t.Helper()
	s.startWith(s.line, env, args...)
}

// startWith does so with another standard input.
func (s *screen) startWith(stdin *os.File, env []string, args ...string) {
	s.t.Helper()
	s.startProgram(stdin, env, append([]string{binary}, args...)...)
}

// startProgram does so with another program, which may start the command.
func (s *screen) startProgram(stdin *os.File, env []string, args ...string) {
	s.t.Helper()
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = stdin, s.line, s.line
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 2}
	require.NoError(s.t, s.cmd.Start())
	s.t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	master := s.master
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			s.mu.Lock()
			s.text.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
}

func (s *screen) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// types types on the terminal.
func (s *screen) types(text string) {
	s.t.Helper()
	_, err := s.master.WriteString(text)
	require.NoError(s.t, err)
}

// ends waits for the command, and returns its exit code.
func (s *screen) ends() int {
	s.t.Helper()
	over := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(time.Minute):
		s.t.Fatalf("out of time; on the screen: %q", s.shown())
	}
	return s.cmd.ProcessState.ExitCode()
}

// TestInterrupt: Ctrl-C on the terminal ends each verb, whatever the plug-in does, and nothing of it is left.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	library := hostilePlugin(t)
	for _, c := range []struct {
		name string
		args []string
	}{
		{"call", []string{"call", library, "stop_self"}},
		{"call of a loop", []string{"call", fixture.C(t, "fault_infinite_loop"), "fault"}},
		{"call isolated", []string{"call", "--isolated", fixture.C(t, "fault_infinite_loop"), "fault"}},
		{"bench", []string{"bench", "--timeout", "1h", library, "stop_self"}},
		{"check", []string{"check", "--timeout", "1h", fixture.C(t, "check_hang")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pids")
			args := c.args
			if c.args[0] != "check" {
				args = append(args, "--in", file)
			}
			tmp := t.TempDir()
			s := newScreen(t)
			s.start([]string{"TMPDIR=" + tmp}, args...)
			assert.Eventually(t, func() bool { // until it is at work
				text, err := os.ReadFile(file)
				return err == nil && bytes.HasSuffix(text, []byte("\n")) ||
					c.args[0] == "check" && strings.Contains(s.shown(), " start\r\n") ||
					c.args[0] == "call" && c.args[len(c.args)-1] == "fault" && strings.Contains(s.shown(), " s")
			}, time.Minute, 5*time.Millisecond)
			s.types("\x03")
			assert.Equal(t, exitInterrupted, s.ends(), s.shown())
			assert.Eventually(t, func() bool { return strings.Contains(s.shown(), "ferrule: ") }, time.Minute,
				5*time.Millisecond, "what was said may be on its way to the screen")
			if strings.HasPrefix(c.args[len(c.args)-1], "stop") {
				assertGone(t, numbers(t, file))
			}
			left, err := os.ReadDir(tmp)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

// TestTerminalRestored: the terminal has its settings after the command, whatever the plug-in does to it.
func TestTerminalRestored(t *testing.T) {
	t.Parallel()
	library := hostilePlugin(t)
	for _, function := range []string{"has_terminal", "breaks_terminal"} {
		s := newScreen(t)
		s.start(nil, "call", library, function, "--in", s.line.Name())
		assert.Zero(t, s.ends(), s.shown())
		assert.Equal(t, s.before, s.settings())
	}
}
