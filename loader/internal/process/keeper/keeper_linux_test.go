//go:build amd64 || arm64

package keeper

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// hang is after how long something that must have ended is taken to hang.
const hang = 30 * time.Second

// here runs a function where a keeper may be started: the thread stays as long as the test does.
func here(t testing.TB) Spawner {
	work := make(chan func())
	t.Cleanup(func() { close(work) })
	go func() {
		runtime.LockOSThread()
		for fn := range work {
			fn()
		}
	}()
	return func(fn func()) {
		done := make(chan struct{})
		work <- func() { defer close(done); fn() }
		<-done
	}
}

// needsKeepers skips a test in an emulator that has none.
func needsKeepers(t testing.TB) {
	if _, err := imageFile(); err == unix.ENOSYS && os.Getenv(fixture.Emulated) != "" {
		t.Skip("there are no keepers: the emulator lacks execveat")
	}
}

// shell starts a shell under a keeper, and returns what it writes to its standard output.
func shell(t testing.TB, script string) (*Process, *os.File) {
	t.Helper()
	c, out := shellCommand(t, script)
	p, err := Start(t.Context(), c, here(t))
	c.Files[1].Close()
	require.NoError(t, err)
	return p, out
}

func shellCommand(t testing.TB, script string) (Command, *os.File) {
	needsKeepers(t)
	path, err := exec.LookPath("sh")
	require.NoError(t, err)
	program, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { program.Close() })
	read, write, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { read.Close() })
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	t.Cleanup(func() { null.Close() })
	return Command{Program: program, Args: []string{"the-shell", "-c", script}, Env: []string{"PATH=" + os.Getenv("PATH"), "K=value"},
		Files: []*os.File{null, write, os.Stderr}}, read
}

func all(t testing.TB, f *os.File) string {
	text, err := io.ReadAll(f)
	require.NoError(t, err)
	return strings.TrimSpace(string(text))
}

// within runs fn, which must not hang.
func within(t testing.TB, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(hang):
		t.Fatalf("%s hangs", what)
	}
}

func TestStart(t *testing.T) {
	leaked, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer leaked.Close()
	_, err = unix.FcntlInt(leaked.Fd(), unix.F_SETFD, 0) // as C code in the host may leave it
	require.NoError(t, err)
	// The signals are those of grep, which inherits them: the shell itself blocks all for a moment while it waits.
	p, out := shell(t, `echo $0 $K $PWD $$; ls -m /proc/$$/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status; exit 7`)
	within(t, "the program", func() {
		status, ok := p.Wait()
		require.True(t, ok)
		assert.True(t, status.Exited())
		assert.Equal(t, 7, status.ExitStatus())
		p.Bury()
	})
	lines := strings.Split(all(t, out), "\n")
	require.Len(t, lines, 4)
	assert.Equal(t, fmt.Sprintf("the-shell value / %d", p.PID()), lines[0])
	assert.Equal(t, "0, 1, 2", lines[1], "nothing of the host's or the keeper's")
	assert.Equal(t, "SigBlk:\t0000000000000000", lines[2], "no signal is blocked")
}

func TestStatus(t *testing.T) {
	for script, check := range map[string]func(syscall.WaitStatus){
		"kill -ABRT $$": func(s syscall.WaitStatus) { assert.Equal(t, syscall.SIGABRT, s.Signal()) },
		"kill -KILL $$": func(s syscall.WaitStatus) { assert.Equal(t, syscall.SIGKILL, s.Signal()) },
		"exit 0":        func(s syscall.WaitStatus) { assert.True(t, s.Exited() && s.ExitStatus() == 0) },
		"exit 255":      func(s syscall.WaitStatus) { assert.Equal(t, 255, s.ExitStatus()) },
	} {
		p, _ := shell(t, script)
		within(t, script, func() {
			status, ok := p.Wait()
			assert.True(t, ok)
			check(status)
			p.Bury()
		})
	}
}

// A host that ignores SIGCHLD is told how its workers ended, too. That cannot be taken back, so it is another process.
func TestStatusWithoutSIGCHLD(t *testing.T) {
	needsKeepers(t)
	const variable = "FERRULE_TEST_SIGCHLD"
	if os.Getenv(variable) == "" {
		host := exec.Command(os.Args[0], "-test.run", "^TestStatusWithoutSIGCHLD$")
		host.Env = append(os.Environ(), variable+"=1")
		out, err := host.CombinedOutput()
		require.NoError(t, err, string(out))
		return
	}
	signal.Ignore(syscall.SIGCHLD)
	p, _ := shell(t, "kill -SEGV $$")
	within(t, "the program", func() {
		status, ok := p.Wait()
		assert.True(t, ok)
		assert.Equal(t, syscall.SIGSEGV, status.Signal())
		p.Bury()
	})
}

// offspring starts children in every way in which they leave something: the group, the session, their parent. It says
// their numbers, and goes on.
const offspring = `
sleep 1000 & echo $!
setsid sleep 1001 & echo $!
setsid sh -c 'sleep 1002 & echo $!; setsid sleep 1003 & echo $!; exit 0'
timeout 1000 sleep 1004 & echo $!
(trap "" TERM HUP INT; sleep 1005 & echo $!; sleep 1006) & echo $!
for i in 1 2 3 4 5 6 7 8 9 10; do setsid sleep 1007 & echo $!; done
echo all
`

// children reads the numbers that offspring has said.
func children(t testing.TB, out *os.File) (pids []int) {
	var text []byte
	within(t, "the children", func() {
		buf := make([]byte, 4096)
		for !strings.Contains(string(text), "all\n") {
			n, err := out.Read(buf)
			require.NoError(t, err, string(text))
			text = append(text, buf[:n]...)
		}
	})
	for _, field := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	require.Greater(t, len(pids), 15)
	for _, pid := range pids {
		require.NoError(t, unix.Kill(pid, 0))
	}
	return pids
}

func assertGone(t testing.TB, pids ...int) {
	t.Helper()
	var left []int
	for end := time.Now().Add(hang); ; time.Sleep(time.Millisecond) {
		left = left[:0]
		for _, pid := range pids {
			if unix.Kill(pid, 0) != unix.ESRCH {
				left = append(left, pid)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			break
		}
	}
	assert.Empty(t, left, "processes that are there still")
}

// Whatever the program has started is gone when Bury returns: zombies included, because the keeper is their parent.
func TestNothingOutlives(t *testing.T) {
	for name, end := range map[string]struct {
		script string
		do     func(p *Process)
	}{
		"asked for":     {"sleep 1000", (*Process).Kill},
		"by itself":     {"sleep 0.1", func(*Process) {}},
		"by a signal":   {"sleep 0.1; kill -SEGV $$", func(*Process) {}},
		"by another's":  {"sleep 1000", func(p *Process) { _ = unix.Kill(p.PID(), unix.SIGKILL) }},
		"while stopped": {"kill -STOP $$", (*Process).Kill},
	} {
		t.Run(name, func(t *testing.T) {
			p, out := shell(t, offspring+end.script)
			pids := append(children(t, out), p.PID())
			end.do(p)
			within(t, "the end", func() {
				_, ok := p.Wait()
				assert.True(t, ok)
				p.Bury()
			})
			for _, pid := range append(pids, p.keeper) {
				assert.Equal(t, unix.ESRCH, unix.Kill(pid, 0), "process %d", pid)
			}
		})
	}
}

// What forks all the time is gone, too.
func TestForkBomb(t *testing.T) {
	p, out := shell(t, `bomb() { setsid sh -c 'while :; do sleep 0.01 & done' & }
for i in 1 2 3 4; do bomb; done
sleep 0.2; echo all; sleep 1000`)
	buf := make([]byte, 16)
	_, err := out.Read(buf)
	require.NoError(t, err)
	p.Kill()
	within(t, "the end", func() {
		_, _ = p.Wait()
		p.Bury()
	})
	assert.Equal(t, unix.ESRCH, unix.Kill(p.PID(), 0))
	left, err := exec.Command("sh", "-c", fmt.Sprintf("grep -l '^PPid:.%d$' /proc/[0-9]*/status | wc -l", p.keeper)).Output()
	require.NoError(t, err)
	assert.Equal(t, "0", strings.TrimSpace(string(left)))
}

// The host ends by SIGKILL: nothing is left, of the keeper neither.
func TestHostKilled(t *testing.T) {
	needsKeepers(t)
	host := exec.Command(os.Args[0], "-test.run", "^TestHostToKill$", "-test.v")
	host.Env = append(os.Environ(), "FERRULE_TEST_KEEPER=1")
	read, write, err := os.Pipe()
	require.NoError(t, err)
	defer read.Close()
	host.Stdout = write
	require.NoError(t, host.Start())
	write.Close()
	pids := children(t, read)
	require.NoError(t, host.Process.Kill())
	_ = host.Wait()
	assertGone(t, pids...)
}

// TestHostToKill is the host of TestHostKilled.
func TestHostToKill(t *testing.T) {
	if os.Getenv("FERRULE_TEST_KEEPER") == "" {
		t.Skip("it is run by TestHostKilled")
	}
	c, _ := shellCommand(t, "echo $PPID; "+offspring+"sleep 1000")
	c.Files[1] = os.Stdout
	_, err := Start(t.Context(), c, here(t))
	require.NoError(t, err)
	time.Sleep(time.Minute)
}

// Somebody kills the keeper: the kernel kills the program, and the host is told that nobody knows how it ended.
func TestKeeperKilled(t *testing.T) {
	p, out := shell(t, "echo all; exec sleep 1000")
	_, err := out.Read(make([]byte, 16))
	require.NoError(t, err)
	require.NoError(t, unix.Kill(p.keeper, unix.SIGKILL))
	within(t, "the end", func() {
		_, ok := p.Wait()
		assert.False(t, ok)
		p.Bury()
	})
	assertGone(t, p.keeper)
	assert.Eventually(t, func() bool { // whose child it is now may not have waited for it yet
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, hang, time.Millisecond)
}

func TestSignalsDoNotEndTheKeeper(t *testing.T) {
	p, _ := shell(t, "sleep 1000")
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGPIPE, unix.SIGCHLD, unix.SIGSEGV, unix.SIGUSR1, unix.SIGSTOP, unix.SIGCONT} {
		require.NoError(t, unix.Kill(p.keeper, sig))
	}
	time.Sleep(50 * time.Millisecond)
	assert.NoError(t, unix.Kill(p.PID(), 0))
	p.Kill()
	within(t, "the end", func() { _, _ = p.Wait(); p.Bury() })
}

// A keeper sleeps as long as nothing happens: it makes no system call but the one that it waits in.
func TestKeeperSleeps(t *testing.T) {
	p, _ := shell(t, "exec sleep 1000")
	before := make(map[string]bool)
	assert.Eventually(t, func() bool { // the same number of switches twice, and asleep: it is in its place
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.keeper))
		require.NoError(t, err)
		var state, switches string
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "State:") {
				state = line
			} else if strings.Contains(line, "ctxt_switches") {
				switches += line
			}
		}
		seen := before[switches] && strings.Contains(state, "S (")
		before[switches] = true
		return seen
	}, hang, 100*time.Millisecond)
	schedstat := func() (spent, waited, slices int64) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", p.keeper))
		require.NoError(t, err)
		_, err = fmt.Sscan(string(text), &spent, &waited, &slices)
		require.NoError(t, err)
		return
	}
	spent, _, slices := schedstat()
	time.Sleep(300 * time.Millisecond)
	later, _, times := schedstat()
	assert.Equal(t, slices, times, "how often it ran")
	assert.Equal(t, spent, later, "processor time")
	p.Kill()
	within(t, "the end", func() { _, _ = p.Wait(); p.Bury() })
}

func TestNotStarted(t *testing.T) {
	c, _ := shellCommand(t, "exit 0")
	text, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer text.Close()
	require.NoError(t, text.Chmod(0o700))
	_, err = text.WriteString("no program")
	require.NoError(t, err)
	read, err := os.Open(text.Name())
	require.NoError(t, err)
	text.Close()
	defer read.Close()
	c.Program = read
	_, err = Start(t.Context(), c, here(t))
	assert.ErrorIs(t, err, unix.ENOEXEC)
	c.Env = []string{"A=\x00"}
	_, err = Start(t.Context(), c, here(t))
	assert.ErrorContains(t, err, "zero byte")
	c.Files = make([]*os.File, MaxFiles+1)
	_, err = Start(t.Context(), c, here(t))
	assert.ErrorContains(t, err, "descriptors")
}

// Keepers leave nothing open in the host, and no thread that waits.
func TestCost(t *testing.T) {
	on := here(t)
	count := func(what string) int {
		entries, err := os.ReadDir("/proc/self/" + what)
		require.NoError(t, err)
		return len(entries)
	}
	start := func() *Process {
		c, out := shellCommand(t, "sleep 1000")
		p, err := Start(t.Context(), c, on)
		require.NoError(t, err)
		for _, f := range append(c.Files[:2:2], c.Program, out) {
			f.Close()
		}
		return p
	}
	p := start()
	p.Kill()
	_, _ = p.Wait()
	p.Bury()
	threads, files := count("task"), count("fd")
	var all []*Process
	for range 40 {
		p := start()
		all = append(all, p)
		go p.Wait()
	}
	time.Sleep(100 * time.Millisecond)
	assert.LessOrEqual(t, count("task"), threads+8)
	assert.LessOrEqual(t, count("fd"), files+3*40+1)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.keeper))
	if err == nil {
		t.Log("pages of a keeper:", string(status))
	}
	for _, p := range all {
		p.Kill()
		within(t, "the end", p.Bury)
	}
	assert.Eventually(t, func() bool { return count("fd") <= files }, hang, time.Millisecond)
}

func BenchmarkStart(b *testing.B) {
	on := here(b)
	c, _ := shellCommand(b, "exit 0")
	b.Run("under a keeper", func(b *testing.B) {
		for b.Loop() {
			p, err := Start(b.Context(), c, on)
			require.NoError(b, err)
			_, _ = p.Wait()
			p.Bury()
		}
	})
	b.Run("by itself", func(b *testing.B) {
		for b.Loop() {
			p, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", c.Program.Fd()), c.Args, &os.ProcAttr{Env: c.Env, Files: c.Files})
			require.NoError(b, err)
			_, err = p.Wait()
			require.NoError(b, err)
		}
	})
}
