//go:build amd64 || arm64

package keeper

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
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

// partVariable makes the test binary a process that is a host, or a child of one, in a test that needs another process.
const partVariable = "FERRULE_TEST_KEEPER_PART"

var parts = map[string]func(){}

func TestMain(m *testing.M) {
	if part := os.Getenv(partVariable); part != "" {
		parts[part]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// part starts such a process, and returns what it writes.
func part(t *testing.T, name string, attr *syscall.SysProcAttr) *bufio.Reader {
	t.Helper()
	_, out := partOn(t, nil, name, attr)
	return out
}

// partOn is part with a standard input, and returns the process's number, too.
func partOn(t *testing.T, stdin *os.File, name string, attr *syscall.SysProcAttr) (int, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), partVariable+"="+name)
	cmd.Dir = "/"
	if stdin != nil {
		cmd.Stdin = stdin
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = attr
	read, write, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout = write
	require.NoError(t, cmd.Start())
	write.Close()
	t.Cleanup(func() {
		read.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_ = read.SetReadDeadline(time.Now().Add(2 * hang))
	return cmd.Process.Pid, bufio.NewReader(read)
}

func line(t *testing.T, from *bufio.Reader) string {
	t.Helper()
	text, err := from.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(text)
}

func needsRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may do what this needs")
	}
}

// runs reports whether a process is there and no zombie.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// must is for processes that are no tests.
func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// startShell is shell without a test.
func startShell(script string, out *os.File) *Process {
	path, err := exec.LookPath("sh")
	must(err)
	program, err := os.Open(path)
	must(err)
	null, err := os.Open(os.DevNull)
	must(err)
	p, err := Start(context.Background(), Command{Program: program, Args: []string{"sh", "-c", script}, Env: os.Environ(),
		Files: []*os.File{null, out, os.Stderr}}, onThisThread)
	must(err)
	return p
}

// onThisThread is for processes whose main goroutine starts keepers and then does not end.
func onThisThread(fn func()) { fn() }

// The program stops its keeper. Nothing outlives it all the same, and the host gets to know how it ended.
func TestKeeperStopped(t *testing.T) {
	for name, end := range map[string]struct {
		script string
		do     func(*Process)
		signal syscall.Signal // 0: the exit code 3
	}{
		"asked for": {"sleep 1000", (*Process).Kill, syscall.SIGKILL},
		"by itself": {"sleep 0.1; exit 3", func(*Process) {}, 0},
		"crashed":   {"sleep 0.1; kill -SEGV $$", func(*Process) {}, syscall.SIGSEGV},
	} {
		t.Run(name, func(t *testing.T) {
			p, out := shell(t, "sleep 0.2; kill -STOP $PPID\n"+offspring+end.script)
			pids := append(children(t, out), p.PID())
			end.do(p)
			within(t, "the end", func() {
				status, ok := p.Wait()
				assert.True(t, ok)
				if end.signal != 0 {
					assert.Equal(t, end.signal, status.Signal())
				} else {
					assert.Equal(t, 3, status.ExitStatus())
				}
				p.Bury()
			})
			for _, pid := range append(pids, p.keeper) {
				assert.Equal(t, unix.ESRCH, unix.Kill(pid, 0), "process %d", pid)
			}
		})
	}
}

// The keeper does nothing in this test: it is held back by what stops it again and again. All is ended from here.
func TestKeeperHeldBack(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = 200 * time.Millisecond
	p, out := shell(t, offspring+"sleep 1000")
	pids := append(children(t, out), p.PID())
	over := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-over:
				return
			default:
				_ = unix.Kill(p.keeper, unix.SIGSTOP)
			}
		}
	}()
	time.Sleep(10 * time.Millisecond)
	p.Kill()
	within(t, "the end", func() {
		_, _ = p.Wait()
		p.Bury()
	})
	close(over)
	<-done
	for _, pid := range pids {
		assert.Eventually(t, func() bool { return !runs(pid) }, hang, time.Millisecond, "process %d", pid)
	}
}

// The keeper cannot even be woken: it is held by a tracer. All is ended from here, and the keeper at last.
func TestKeeperTraced(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = 200 * time.Millisecond
	p, out := shell(t, offspring+"sleep 1000")
	pids := append(children(t, out), p.PID())
	runtime.LockOSThread() // and not unlocked: this thread is the tracer
	if err := unix.PtraceSeize(p.keeper); err != nil {
		p.Kill()
		p.Bury()
		t.Skip("it may not be traced here: ", err)
	}
	require.NoError(t, unix.PtraceInterrupt(p.keeper))
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.keeper))
		return err == nil && strings.Contains(string(stat), ") t ")
	}, hang, time.Millisecond)
	began := time.Now()
	p.Kill()
	within(t, "the end", func() {
		_, ok := p.Wait()
		assert.False(t, ok, "it did say something")
		p.Bury()
	})
	assert.GreaterOrEqual(t, time.Since(began), patience)
	for _, pid := range append(pids, p.keeper) {
		assert.Eventually(t, func() bool { return !runs(pid) }, hang, time.Millisecond, "process %d", pid)
	}
}

func init() {
	parts["host with a stopped keeper"] = func() {
		startShell("sleep 0.2; kill -STOP $PPID\n"+offspring+"sleep 1000", os.Stdout)
		time.Sleep(time.Minute)
	}
}

// The host ends by SIGKILL while the keeper is stopped: the kernel wakes that, because its group is an orphan from then on.
func TestHostKilledKeeperStopped(t *testing.T) {
	needsKeepers(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), partVariable+"=host with a stopped keeper")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	read, write, err := os.Pipe()
	require.NoError(t, err)
	defer read.Close()
	cmd.Stdout = write
	require.NoError(t, cmd.Start())
	write.Close()
	pids := children(t, read)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	assertGone(t, pids...)
}

func init() {
	parts["host"] = func() {
		p := startShell("exec sleep 1000", nullOut())
		fmt.Println(p.keeper, p.PID())
		time.Sleep(time.Minute)
	}
}

// The host ends by SIGKILL when its keeper has been sent SIGSTOP, and has not stopped yet: no group with a stopped process
// becomes an orphan by that, and the kernel wakes none. The signal of the host's end does.
func TestHostKilledAsKeeperStops(t *testing.T) {
	needsKeepers(t)
	runtime.LockOSThread() // and not unlocked: the thread has an affinity
	var here unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &here))
	for cpu := range 1024 {
		if here.IsSet(cpu) {
			here.Zero()
			here.Set(cpu)
			break
		}
	}
	require.NoError(t, unix.SchedSetaffinity(0, &here))
	for range 3 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), partVariable+"=host")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		read, write, err := os.Pipe()
		require.NoError(t, err)
		defer read.Close()
		cmd.Stdout, cmd.Stderr = write, os.Stderr
		require.NoError(t, cmd.Start())
		write.Close()
		_ = read.SetReadDeadline(time.Now().Add(hang))
		var keeper, program int
		_, err = fmt.Sscan(line(t, bufio.NewReader(read)), &keeper, &program)
		require.NoError(t, err)
		defer unix.Kill(keeper, unix.SIGKILL) // if the test fails
		// The keeper runs only when nothing else wants its processor, which is this thread's, and that does not wait.
		require.NoError(t, unix.SchedSetaffinity(keeper, &here))
		require.NoError(t, unix.SchedSetAttr(keeper, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0))
		require.NoError(t, unix.Kill(keeper, unix.SIGSTOP))
		require.NoError(t, unix.Kill(cmd.Process.Pid, unix.SIGKILL))
		for {
			if pid, err := unix.Wait4(cmd.Process.Pid, nil, unix.WNOHANG, nil); pid != 0 || err != nil && err != unix.EINTR {
				break
			}
		}
		if err := unix.SchedSetAttr(keeper, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0); err != unix.ESRCH { // it may be done already
			require.NoError(t, err)
		}
		assertGone(t, keeper, program)
	}
}

// Where a keeper does not find its children, the program's process group ends with it, also when it ends by itself.
func TestBlind(t *testing.T) {
	defer func(dir *os.File) { procDir = dir }(proc())
	assert.True(t, FindsAll())
	procDir = nil
	assert.False(t, FindsAll())
	for name, end := range map[string]struct {
		script string
		do     func(*Process)
	}{
		"asked for": {"sleep 1000", (*Process).Kill},
		"by itself": {"sleep 0.1", func(*Process) {}},
	} {
		t.Run(name, func(t *testing.T) {
			p, out := shell(t, "sleep 1000 & echo $!; (sleep 1001 & echo $!); setsid sleep 1002 & echo $!\n sleep 0.2; echo all\n"+end.script)
			var pids []int
			in := bufio.NewReader(out)
			for range 3 {
				pid, err := strconv.Atoi(line(t, in))
				require.NoError(t, err)
				pids = append(pids, pid)
			}
			defer unix.Kill(pids[2], unix.SIGKILL)
			assert.Equal(t, "all", line(t, in))
			end.do(p)
			within(t, "the end", func() {
				_, ok := p.Wait()
				assert.True(t, ok)
				p.Bury()
			})
			for _, pid := range pids[:2] {
				assert.Eventually(t, func() bool { return !runs(pid) }, hang, time.Millisecond, "process %d", pid)
			}
			assert.True(t, runs(pids[2]), "what has left the group stays, which is why FindsAll is false")
		})
	}
}

func init() {
	parts["foreign proc"] = func() {
		fmt.Println("finds all:", FindsAll())
		p := startShell("sleep 1000 & setsid sleep 1001 & sleep 1000", nullOut())
		p.Kill()
		_, ok := p.Wait()
		p.Bury()
		fmt.Println("ended:", ok)
	}
	parts["programs in memory refused"] = func() {
		must(os.WriteFile("/proc/sys/vm/memfd_noexec", []byte("2"), 0)) // of this PID namespace
		_, err := Start(context.Background(), Command{Program: os.Stdin}, onThisThread)
		fmt.Println("refused:", err == ErrUnsupported)
	}
}

func nullOut() *os.File {
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(err)
	return f
}

// A /proc of another PID namespace has other numbers: it is as if there were none.
func TestForeignProc(t *testing.T) {
	needsKeepers(t)
	needsRoot(t)
	out := part(t, "foreign proc", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID})
	assert.Equal(t, "finds all: false", line(t, out))
	assert.Equal(t, "ended: true", line(t, out))
}

// Where the system runs no programs that lie in memory, there are no keepers.
func TestMemoryRefused(t *testing.T) {
	needsKeepers(t)
	needsRoot(t)
	if _, err := os.Stat("/proc/sys/vm/memfd_noexec"); err != nil {
		t.Skip("before Linux 6.3 it cannot be refused")
	}
	out := part(t, "programs in memory refused", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID})
	assert.Equal(t, "refused: true", line(t, out))
}

// What is lacking now may be there the next time: it is an error, and does not make hosts go without keepers.
func TestLackOfDescriptors(t *testing.T) {
	c, _ := shellCommand(t, "exit 0")
	on := here(t)
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	// The spawned process needs numbers from 32 on.
	for _, limit := range []uint64{firstMoved, firstMoved + 1} { // for which the system has two different errors
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: before.Max}))
		_, err := Start(t.Context(), c, on)
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before))
		assert.ErrorIs(t, err, unix.EMFILE, "a limit of %d", limit)
		assert.NotErrorIs(t, err, ErrUnsupported)
	}
	p, err := Start(t.Context(), c, on)
	require.NoError(t, err)
	within(t, "the program", func() { _, _ = p.Wait(); p.Bury() })
	for _, err := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN, unix.EINVAL} {
		assert.NotErrorIs(t, refused("memfd_create", err), ErrUnsupported)
		assert.ErrorIs(t, refused("memfd_create", err), err)
	}
	assert.NotErrorIs(t, refused("memfd_create", unix.ENOENT), ErrUnsupported)
	assert.False(t, memoryRefused.Load())
	for _, err := range []error{unix.EACCES, unix.EPERM, unix.ENOSYS, unix.ENOEXEC, unix.ENOENT} {
		assert.ErrorIs(t, refused("execveat", err), ErrUnsupported)
	}
	assert.True(t, memoryRefused.Swap(false))
}

// holdUp has a lease hold up the start of the command's program, until the file that it returns is closed.
func holdUp(t *testing.T, c *Command) (held *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	text, err := io.ReadAll(c.Program)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o755))
	held, err = os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { held.Close() })
	if _, err := unix.FcntlInt(held.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("this file system has no leases: ", err)
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	program := os.NewFile(uintptr(fd), path)
	c.Program = program
	t.Cleanup(func() { program.Close() })
	return held
}

// Starting has a bound where the file system that the program is on does not answer: here because of a lease.
func TestStartHangs(t *testing.T) {
	c, _ := shellCommand(t, "exit 0")
	holdUp(t, &c)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	on := here(t)
	within(t, "starting", func() {
		_, err := Start(ctx, c, on)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
	assert.Eventually(t, func() bool {
		_, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		return err == unix.ECHILD
	}, hang, time.Millisecond, "nothing of it is left")
}

// A keeper that is stopped before it has said anything is woken: the program starts. A lease holds the program up until it is stopped.
func TestStoppedBeforeItSaysAnything(t *testing.T) {
	c, out := shellCommand(t, "echo started; exit 4")
	held := holdUp(t, &c)
	before := ownChildren(t)
	started := make(chan *Process, 1)
	on := here(t)
	go func() {
		p, err := Start(t.Context(), c, on)
		assert.NoError(t, err)
		started <- p
	}()
	var keeper int
	require.Eventually(t, func() bool {
		for _, pid := range ownChildren(t) {
			// Its child waits for the lease: before that it is not yet the keeper.
			if kids, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)); len(kids) > 0 && !slices.Contains(before, pid) {
				keeper = pid
			}
		}
		return keeper > 0
	}, hang, time.Millisecond)
	require.NoError(t, unix.Kill(keeper, unix.SIGSTOP))
	_, err := unix.FcntlInt(held.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	require.NoError(t, err)
	within(t, "starting", func() {
		p := <-started
		c.Files[1].Close()
		require.NotNil(t, p)
		assert.Equal(t, keeper, p.keeper)
		status, ok := p.Wait()
		assert.True(t, ok)
		assert.Equal(t, 4, status.ExitStatus())
		p.Bury()
	})
	assert.Equal(t, "started", all(t, out))
}

// ownChildren returns this process's children.
func ownChildren(t *testing.T) (pids []int) {
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	require.NoError(t, err)
	for _, file := range tasks {
		text, _ := os.ReadFile(file)
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

func init() {
	parts["host of another's"] = func() {
		p := startShell(partVariable+"='another user' "+os.Getenv("FERRULE_TEST_SETUID")+" & sleep 1000", os.Stdout)
		fmt.Println("keeper", p.keeper)
		time.Sleep(time.Minute)
	}
	parts["another user"] = func() {
		must(syscall.Setuid(0))
		fmt.Println("another", os.Getpid())
		time.Sleep(2 * time.Minute)
	}
}

// What has become another user's may not be killed: the keeper gives up when the host is gone.
func TestAnotherUsers(t *testing.T) {
	needsKeepers(t)
	needsRoot(t)
	folder, err := os.MkdirTemp("", "") // each folder to it is anybody's to search
	require.NoError(t, err)
	defer os.RemoveAll(folder)
	require.NoError(t, os.Chmod(folder, 0o755))
	text, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	plain, setuid := filepath.Join(folder, "plain"), filepath.Join(folder, "setuid")
	require.NoError(t, os.WriteFile(plain, text, 0o755))
	require.NoError(t, os.WriteFile(setuid, text, 0o755))
	require.NoError(t, os.Chmod(setuid, 0o755|os.ModeSetuid))
	cmd := exec.Command(plain)
	cmd.Env = append(os.Environ(), partVariable+"=host of another's", "FERRULE_TEST_SETUID="+setuid)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	read, write, err := os.Pipe()
	require.NoError(t, err)
	defer read.Close()
	require.NoError(t, read.SetReadDeadline(time.Now().Add(hang)))
	cmd.Stdout, cmd.Stderr = write, os.Stderr
	require.NoError(t, cmd.Start())
	write.Close()
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	in := bufio.NewReader(read)
	pids := make(map[string]int)
	for range 2 {
		name, number, _ := strings.Cut(line(t, in), " ")
		pids[name], err = strconv.Atoi(number)
		require.NoError(t, err, name)
	}
	require.True(t, runs(pids["another"]))
	defer unix.Kill(pids["another"], unix.SIGKILL)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	time.Sleep(time.Second)
	assert.True(t, runs(pids["keeper"]), "it goes on trying for a while")
	assert.Eventually(t, func() bool { return !runs(pids["keeper"]) }, 2*hang, 10*time.Millisecond)
	assert.True(t, runs(pids["another"]))
}

func init() {
	parts["host with a terminal"] = func() {
		p := startShell("set -- /proc/self/fd/*; echo $#; exec cat /proc/self/stat", os.Stdout)
		p.Wait()
		p.Bury()
	}
	parts["host whose /dev/tty is another file"] = func() {
		must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		must(unix.Mount(os.DevNull, "/dev/tty", "", unix.MS_BIND, ""))
		parts["host with a terminal"]()
	}
	parts["host that has no /dev/tty"] = func() {
		must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		must(unix.Mount("none", "/dev", "tmpfs", 0, ""))
		must(unix.Mknod(os.DevNull, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		parts["host with a terminal"]()
	}
}

// A program has no terminal, and a process group of its own. It stays in the session of its host, because there are kernels that
// share the processors by sessions; but where it cannot give up that one's terminal in another way, it leaves both.
func TestNoTerminal(t *testing.T) {
	needsKeepers(t)
	for name, c := range map[string]struct {
		part            string
		terminal, stays bool
	}{
		"given up":                 {"host with a terminal", true, true},
		"none":                     {"host with a terminal", false, true},
		"/dev/tty is another file": {"host whose /dev/tty is another file", true, false},
		"no /dev/tty":              {"host that has no /dev/tty", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			attr := &syscall.SysProcAttr{Setsid: true, Setctty: c.terminal}
			if !c.stays {
				needsRoot(t)
				attr.Cloneflags = unix.CLONE_NEWNS
			}
			var terminal *os.File
			if c.terminal {
				_, terminal = fixture.Terminal(t)
			}
			host, out := partOn(t, terminal, c.part, attr)
			assert.Equal(t, "4", line(t, out), "its descriptors: three, and that of the shell's look at them")
			said := line(t, out)
			pid, rest, ok := strings.Cut(said, " (cat) ")
			require.True(t, ok, said)
			of := strings.Fields(rest) // its state, parent, group, session, terminal
			assert.Equal(t, pid, of[2], "its group")
			assert.Equal(t, "0", of[4], "its terminal")
			if c.stays {
				assert.Equal(t, strconv.Itoa(host), of[3], "the session, which the host leads")
			} else {
				assert.Equal(t, pid, of[3], "the session, which it leads")
			}
		})
	}
}
