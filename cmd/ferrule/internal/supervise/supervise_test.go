//go:build unix

package supervise_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/supervise"
)

// start runs a script, and returns it with the line that it writes when it is ready.
func start(t *testing.T, script string) (*supervise.Process, string) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	cmd := exec.Command("sh", "-c", script)
	cmd.Stdout = w
	p, err := supervise.Start(cmd)
	w.Close()
	require.NoError(t, err)
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	return p, strings.TrimSpace(line)
}

// assertEmpty ends a child that has left nothing.
func assertEmpty(t *testing.T, p *supervise.Process, grace time.Duration) {
	t.Helper()
	left, alive := p.End(grace)
	assert.Empty(t, left)
	assert.Empty(t, alive)
}

// gone reports whether a process is there no more, not even as a zombie.
func gone(pid string) bool {
	n, err := strconv.Atoi(pid)
	return err == nil && n > 1 && syscall.Kill(n, 0) == syscall.ESRCH
}

// Whatever the child and what it has started do, they are gone after End, also when they have left the session.
func TestEnd(t *testing.T) {
	for _, c := range []struct {
		name, script string
		linux        bool // other systems do not find it
		left         int  // on Linux
	}{
		{"runs", "echo $$; exec sleep 1000", false, 0},
		{"stopped", "echo $$; kill -STOP $$; sleep 1000", false, 0},
		{"a child", "sleep 1000 >/dev/null & echo $!", false, 1},
		{"a child of a stopped one", "sleep 1000 >/dev/null & echo $!; kill -STOP $$", false, 1},
		{"a group of its own", "timeout 1000 sleep 1000 >/dev/null & echo $!", true, 2},
		{"a session of its own", "setsid sh -c 'echo $$; exec sleep 1000 >/dev/null' &", true, 1},
		{"a daemon", "setsid sh -c 'sleep 1000 >/dev/null & echo $!'", true, 1},
		{"stops its keeper", "kill -STOP $PPID; echo $$; exec sleep 1000", true, 0},
		{"stops its keeper and ends", "kill -STOP $PPID; sleep 1000 >/dev/null & echo $!", true, 1},
		{"kills its keeper", "setsid sh -c 'echo $$; exec sleep 1000 >/dev/null' & sleep 0.2; kill -KILL $PPID; exec sleep 1000", true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.linux && runtime.GOOS != "linux" {
				t.Skip("only Linux finds it")
			}
			p, pid := start(t, c.script)
			if !strings.Contains(c.script, "STOP") && c.left > 0 {
				<-p.Done()
			}
			if strings.HasPrefix(c.name, "a group") { // timeout has started its child
				assert.Eventually(t, func() bool {
					children, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
					return len(children) > 0
				}, time.Minute, 5*time.Millisecond)
			}
			left, alive := p.End(0)
			assert.Empty(t, alive)
			assert.Eventually(t, func() bool { return gone(pid) }, time.Minute, 5*time.Millisecond,
				"elsewhere than on Linux it is the system that reaps it")
			if runtime.GOOS == "linux" {
				assert.Len(t, left, c.left)
				for _, name := range left {
					assert.Contains(t, []string{"sh", "sleep", "timeout"}, name)
				}
			}
		})
	}
}

// The state of a child is what os/exec says of one.
func TestState(t *testing.T) {
	for _, script := range []string{"exit 0", "exit 3", "kill -TERM $$", "kill -KILL $$", "kill -SEGV $$"} {
		p, _ := start(t, "echo ready; ulimit -c 0; "+script)
		<-p.Done()
		assertEmpty(t, p, 0)
		cmd := exec.Command("sh", "-c", "ulimit -c 0; "+script)
		_ = cmd.Run()
		assert.Equal(t, cmd.ProcessState.String(), p.State().String())
		assert.Equal(t, cmd.ProcessState.ExitCode(), p.State().ExitCode())
		if w := cmd.ProcessState.Sys().(syscall.WaitStatus); w.Signaled() {
			assert.Equal(t, os.Signal(w.Signal()), p.State().Signal())
		} else {
			assert.Nil(t, p.State().Signal())
		}
	}
	_, err := supervise.Start(exec.Command("/nowhere/at/all"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "/nowhere/at/all")
	_, err = supervise.Start(exec.Command("no-such-program-in-the-path"))
	assert.ErrorIs(t, err, exec.ErrNotFound)
}

// A child gets its arguments, its environment, its folder and its files, and nothing of the keeper's: as os/exec gives them.
func TestGiven(t *testing.T) {
	given := func(run func(cmd *exec.Cmd)) string {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		cmd := exec.Command("sh", "-c", `echo "$@"; env; pwd; [ ! -e /proc/self/fd ] || ls /proc/self/fd`, "sh", "a b", "c")
		cmd.Dir, cmd.Env = t.TempDir(), []string{"GIVEN=x y", "PATH=" + os.Getenv("PATH")}
		cmd.Dir = filepath.Dir(cmd.Dir) // which is the same for both
		cmd.Stdout, cmd.ExtraFiles = w, []*os.File{w, w}
		run(cmd)
		w.Close()
		text, err := io.ReadAll(r) // its end comes with the child's, though the keeper is there
		require.NoError(t, err)
		return string(text)
	}
	want := given(func(cmd *exec.Cmd) { require.NoError(t, cmd.Run()) })
	assert.Contains(t, want, "GIVEN=x y\n")
	var p *supervise.Process
	assert.Equal(t, want, given(func(cmd *exec.Cmd) {
		var err error
		p, err = supervise.Start(cmd)
		require.NoError(t, err)
		<-p.Done()
	}))
	assertEmpty(t, p, 0)
}

// What ends by itself in its time was not left.
func TestGrace(t *testing.T) {
	p, pid := start(t, "sleep 0.1 >/dev/null & echo $!")
	<-p.Done()
	assertEmpty(t, p, 20*time.Second)
	assert.True(t, gone(pid))
	assert.Zero(t, p.State().ExitCode())
}

// A process that starts others as fast as it can is killed with them.
func TestForkBomb(t *testing.T) {
	p, _ := start(t, "bomb() { sleep 1000 & [ $1 = 0 ] || { bomb $(($1 - 1)) & }; }; bomb 60 >/dev/null; echo ready")
	_, alive := p.End(0)
	assert.Empty(t, alive)
	assert.Eventually(t, func() bool { return syscall.Kill(-p.Pid(), 0) == syscall.ESRCH }, time.Minute, 5*time.Millisecond, "all were killed")
}

// Children that others have started are left alone.
func TestOthers(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	require.NoError(t, cmd.Start())
	other, _ := start(t, "echo $$; exec sleep 1000")
	p, _ := start(t, "echo ready")
	<-p.Done()
	assertEmpty(t, p, 0)
	assert.NoError(t, cmd.Process.Signal(syscall.Signal(0)))
	assert.NoError(t, other.Signal(syscall.Signal(0)))
	other.End(0)
	_ = cmd.Process.Kill()
	assert.Error(t, cmd.Wait())
}

func TestNames(t *testing.T) {
	assert.Equal(t, "3 of cat, sleep", supervise.Names([]string{"cat", "sleep", "cat", "cat"}))
	assert.Equal(t, "a, b, c, d, e, f, and 2 more", supervise.Names(strings.Split("hgfedcba", "")))
}
