package process_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

func init() {
	parts["hang"] = func([]string) { time.Sleep(10 * time.Minute) }
	parts["signal"] = func(args []string) {
		n, _ := strconv.Atoi(args[0])
		_ = syscall.Kill(os.Getpid(), syscall.Signal(n))
		time.Sleep(10 * time.Minute)
	}
	// A program with a child, which is in a session of its own where that is asked for. It goes on, or ends with an exit code.
	parts["family"] = func(args []string) {
		signal.Ignore(syscall.SIGHUP, syscall.SIGTERM)
		child, err := os.StartProcess("/proc/self/exe", []string{"a child", "hang"}, &os.ProcAttr{
			Files: []*os.File{nil, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: args[0] == "setsid"}})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(child.Pid)
		if len(args) > 1 {
			code, _ := strconv.Atoi(args[1])
			os.Exit(code)
		}
		time.Sleep(10 * time.Minute)
	}
}

// runs reports whether a process is there and no zombie.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return !bytes.HasPrefix(rest, []byte("Z"))
}

// family starts a program with a child, and returns that one's number.
func family(t *testing.T, c process.Command, args ...string) (process.Child, int) {
	t.Helper()
	child, out := start(t, c, append([]string{"family"}, args...)...)
	require.NoError(t, out.SetReadDeadline(time.Now().Add(hang)))
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	t.Cleanup(func() {
		if runs(pid) { // the test has failed
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return child, pid
}

// A program that was ended by a signal is told by it.
func TestSignal(t *testing.T) {
	both(t, func(t *testing.T, c process.Command) {
		for _, want := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			child, _ := start(t, c, "signal", strconv.Itoa(int(want)))
			signal, code := child.Wait()
			child.Bury()
			assert.Equal(t, want, signal)
			assert.Equal(t, -1, code)
		}
	})
}

// Nothing outlives a program under a keeper, also what has left its session, whether it is killed or ends by itself.
func TestNothingOutlives(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" || os.Getenv(fixture.Emulated) != "" {
		t.Skip("there are no keepers here")
	}
	for _, killed := range []bool{true, false} {
		t.Run(fmt.Sprint("killed ", killed), func(t *testing.T) {
			args := []string{"setsid"}
			if !killed {
				args = append(args, "5")
			}
			child, grandchild := family(t, process.Command{}, args...)
			if killed {
				assert.True(t, runs(grandchild))
				child.Kill()
			}
			signal, code := child.Wait()
			child.Bury()
			assert.Equal(t, []string{"no terminal", "dies with the host", "leaves no processes"}, child.Layers())
			assert.Nil(t, child.OS())
			if killed {
				assert.Equal(t, syscall.SIGKILL, signal)
			} else {
				assert.Nil(t, signal)
				assert.Equal(t, 5, code)
			}
			assert.False(t, runs(child.PID()))
			assert.False(t, runs(grandchild), "not some time later")
		})
	}
}

// Without a keeper its session ends with it.
func TestSessionEnds(t *testing.T) {
	for _, killed := range []bool{true, false} {
		t.Run(fmt.Sprint("killed ", killed), func(t *testing.T) {
			args := []string{"stays"}
			if !killed {
				args = append(args, "5")
			}
			child, grandchild := family(t, process.Command{Alone: true}, args...)
			assert.Equal(t, []string{"no terminal", "dies with the host"}, child.Layers())
			assert.Equal(t, child.PID(), child.OS().Pid)
			if killed {
				assert.True(t, runs(grandchild))
				child.Kill()
			}
			signal, code := child.Wait()
			child.Bury()
			if killed {
				assert.Equal(t, syscall.SIGKILL, signal)
			} else {
				assert.Nil(t, signal)
				assert.Equal(t, 5, code)
			}
			assert.Eventually(t, func() bool { return !runs(grandchild) }, hang, time.Millisecond)
		})
	}
}

// What was opened is what is started, whatever is at its path by then.
func TestProgramIsReplaced(t *testing.T) {
	both(t, func(t *testing.T, c process.Command) {
		self, err := os.ReadFile("/proc/self/exe")
		require.NoError(t, err)
		path := t.TempDir() + "/program"
		require.NoError(t, os.WriteFile(path, self, 0o700))
		c.Program, err = os.Open(path)
		require.NoError(t, err)
		defer c.Program.Close()
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o700))
		c.Path, c.Args = path, []string{"a program", "exit", "3"}
		null, err := process.Null()
		require.NoError(t, err)
		c.Files = []*os.File{null, null, null}
		child, err := process.Start(t.Context(), c)
		require.NoError(t, err)
		_, code := child.Wait()
		child.Bury()
		assert.Equal(t, 3, code)
		if c.Alone { // and by its path where that is asked for
			c.ByPath = true
			child, err := process.Start(t.Context(), c)
			require.NoError(t, err)
			_, code := child.Wait()
			child.Bury()
			assert.Equal(t, 1, code)
		}
	})
}
