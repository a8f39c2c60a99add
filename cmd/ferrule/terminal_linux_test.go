package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
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
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal to be had: %v", err)
	}
	defer screen.Close()
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	line, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal to be had: %v", err)
	}
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
	loop := []string{"--in", "", "--timeout", "1500ms", fixture.C(t, "fault_polite_loop"), "fault"}
	for _, way := range calls {
		text := onTerminal(t, nil, append(way[:len(way):len(way)], loop...)...)
		assert.Regexp(t, "^\rfault: 1\\.[0-9] s\r", text)
		assert.Regexp(t, "\r\x1b\\[Kferrule: plug-in fault_polite_loop: fault: cancelled", text)
	}
	_, stderr, _ := ferrule(t, "", append([]string{"call"}, loop...)...)
	assert.NotContains(t, stderr, "\r")
	assert.Equal(t, "hello\r\n", onTerminal(t, nil, "call", "--in", "hello", fixture.C(t, "echo"), "echo"),
		"the prompt is on a line of its own")
}
