package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"

	workerside "github.com/ferrule-dev/ferrule/loader/internal/isolate/worker"
)

// process is a worker's process, in a job of its own with all that it starts.
type process struct {
	*os.Process
	alive *os.File // the end of a pipe that is closed when this process ends

	mu     sync.Mutex
	job    windows.Handle // 0 when it is over
	killed bool
	bare   string // the layer that its environment is; may be empty
}

// exitKilled is the exit code of processes that kill ends.
const exitKilled = 0x46_52_4b // "FRK"

// openFlags: there is nothing here that opening would wait for.
const openFlags = 0

// start starts x as a worker that inherits files, and writes its streams to output. It does not wait for anything.
//
// The process is in its job from right after its start: until then, if this process ends, it finds out by the pipe and
// ends, too. Nothing of the plug-in runs before this function returns.
func start(_ context.Context, x *executable, name string, env []string, sandbox bool, files []*os.File, output *tail) (_ child, _ *os.Process, err error) {
	p := &process{bare: bareLayer(env, systemRoot)}
	f, err := newOutfit()
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err == nil {
			f.started(output)
			return
		}
		f.close()
		if p.job != 0 {
			windows.CloseHandle(p.job)
		}
	}()
	p.alive = f.alive
	if p.job, err = newJob(); err != nil {
		return nil, nil, err
	}
	inherited, err := inheritable(append([]*os.File{f.inner[1]}, files...))
	defer func() {
		for _, h := range inherited {
			windows.CloseHandle(windows.Handle(h))
		}
	}()
	if err != nil {
		return nil, nil, err
	}
	var handles []uintptr
	for _, h := range inherited {
		handles = append(handles, uintptr(h))
	}
	env = append(withRoot(env), workerside.Variable+"="+workerside.Value(sandbox, handles...))
	p.Process, err = os.StartProcess(x.path, []string{name}, &os.ProcAttr{
		Dir:   filepath.VolumeName(os.Getenv(systemRoot)) + `\`,
		Env:   env,
		Files: []*os.File{f.null, f.inner[0], f.inner[0]},
		Sys: &syscall.SysProcAttr{
			HideWindow:                 true,
			CreationFlags:              windows.DETACHED_PROCESS, // Ctrl-C is the host's, and there is no window for a console
			AdditionalInheritedHandles: inherited,
		},
	})
	if err != nil {
		return nil, nil, err
	}
	err1 := p.WithHandle(func(handle uintptr) {
		err = windows.AssignProcessToJobObject(p.job, windows.Handle(handle))
	})
	if err = errors.Join(err, err1); err != nil {
		_ = p.Process.Kill()
		_, _ = p.Process.Wait()
		return nil, nil, fmt.Errorf("the worker's job: %w", os.NewSyscallError("AssignProcessToJobObject", err))
	}
	return p, p.Process, nil
}

// newJob makes a job whose processes end when its last handle is closed, which is when this process ends at the latest.
// None of them can leave it, and none stops to show that it has crashed.
func newJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, os.NewSyscallError("CreateJobObject", err)
	}
	var info windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | windows.JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	if err != nil {
		windows.CloseHandle(job)
		return 0, os.NewSyscallError("SetInformationJobObject", err)
	}
	return job, nil
}

// inheritable returns handles of files that a process inherits, if they are named to it. The caller closes them, also
// with an error.
func inheritable(files []*os.File) (handles []syscall.Handle, err error) {
	self := windows.CurrentProcess()
	for _, f := range files {
		var h windows.Handle
		if err := windows.DuplicateHandle(self, windows.Handle(f.Fd()), self, &h, 0, true, windows.DUPLICATE_SAME_ACCESS); err != nil {
			return handles, os.NewSyscallError("DuplicateHandle", err)
		}
		handles = append(handles, syscall.Handle(h))
	}
	return handles, nil
}

// systemRoot is the one variable without which the system's own libraries do not work.
const systemRoot = "SYSTEMROOT"

// withRoot adds that variable, unless it is there.
func withRoot(env []string) []string {
	for _, v := range env {
		if name, _, _ := strings.Cut(v, "="); strings.EqualFold(name, systemRoot) {
			return env[:len(env):len(env)]
		}
	}
	return append(env[:len(env):len(env)], systemRoot+"="+os.Getenv(systemRoot))
}

func (p *process) pid() int { return p.Pid }

// layers are what the process itself has of a sandbox.
func (p *process) layers() []string {
	layers := []string{"own job", "own handles", "no console", "dies with the host"}
	if p.bare != "" {
		layers = append(layers, p.bare)
	}
	return layers
}

// kill ends the process and those that it has started.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.job != 0 {
		p.killed = true
		_ = windows.TerminateJobObject(p.job, exitKilled)
	}
}

// wait waits for the process to end, and says how. What it has started ends with it.
func (p *process) wait() (os.Signal, int) {
	state, err := p.Process.Wait() // by its handle: its number does not matter
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = windows.TerminateJobObject(p.job, exitKilled)
	_ = windows.CloseHandle(p.job)
	p.job = 0
	p.alive.Close()
	switch {
	case err != nil:
		return nil, -1
	case p.killed && state.ExitCode() == exitKilled:
		return os.Kill, -1 // as elsewhere
	}
	return nil, state.ExitCode()
}

func (p *process) unsaid() string { return unsaidBySystem }

// bury has nothing to wait for: the job's processes end with it.
func (p *process) bury() {}

// outOfTime knows no signals.
func outOfTime(os.Signal) bool { return false }

// exceptions are the exit codes of processes that ended by an exception which nothing handled.
var exceptions = map[uint32]string{
	0x80000003: "a breakpoint",
	0xc0000005: "an access violation",
	0xc0000006: "a page that could not be read",
	0xc0000017: "a lack of memory",
	0xc000001d: "an illegal instruction",
	0xc000008e: "a floating-point division by zero",
	0xc0000094: "an integer division by zero",
	0xc0000095: "an integer overflow",
	0xc0000096: "a privileged instruction",
	0xc00000fd: "a stack overflow",
	0xc0000135: "a library that was not found",
	0xc000013a: "Ctrl-C",
	0xc0000142: "a library that could not be initialized",
	0xc0000374: "a corrupted heap",
	0xc0000409: "a fail-fast check", // such as abort's
	0xe06d7363: "a C++ exception that was not caught",
}

// explain says in words what an exit code means to the system, or "".
func explain(code int) string {
	if what, ok := exceptions[uint32(code)]; ok {
		return fmt.Sprintf("ended by %s (exit code %#x)", what, uint32(code))
	}
	return ""
}
