package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// alone is a process in a job of its own with all that it starts.
type alone struct {
	*os.Process

	mu     sync.Mutex
	job    windows.Handle // 0 when it is over
	killed bool
}

// exitKilled is the exit code of processes that Kill ends.
const exitKilled = 0x46_52_4b // "FRK"

// start is Start. It does not wait for anything.
//
// The process is in its job from right after its start: what it starts before that is not, and if this process ends before that, it goes
// on.
func start(_ context.Context, c *Command) (_ Child, err error) {
	p := new(alone)
	if p.job, err = newJob(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			windows.CloseHandle(p.job)
		}
	}()
	streams := min(len(c.Files), 3)
	inherited, err := inheritable(c.Files[streams:])
	defer func() {
		for _, h := range inherited {
			windows.CloseHandle(windows.Handle(h))
		}
	}()
	if err != nil {
		return nil, err
	}
	var handles []uintptr
	for _, h := range inherited {
		handles = append(handles, uintptr(h))
	}
	p.Process, err = os.StartProcess(c.Path, c.Args, &os.ProcAttr{
		Dir:   filepath.VolumeName(os.Getenv(systemRoot)) + `\`,
		Env:   c.environment(handles),
		Files: c.Files[:streams],
		Sys: &syscall.SysProcAttr{
			HideWindow:                 true,
			CreationFlags:              windows.DETACHED_PROCESS, // Ctrl-C is this process's, and there is no window for a console
			AdditionalInheritedHandles: inherited,
		},
	})
	if err != nil {
		return nil, err
	}
	err1 := p.WithHandle(func(handle uintptr) {
		err = windows.AssignProcessToJobObject(p.job, windows.Handle(handle))
	})
	if err = errors.Join(err, err1); err != nil {
		_ = p.Process.Kill()
		_, _ = p.Process.Wait()
		return nil, fmt.Errorf("the job of the process: %w", os.NewSyscallError("AssignProcessToJobObject", err))
	}
	return p, nil
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

// Variables are added to every program's environment where it does not set them.
var Variables = []string{systemRoot}

func (p *alone) PID() int { return p.Pid }

func (p *alone) OS() *os.Process { return p.Process }

func (p *alone) Layers() []string {
	return []string{"own job", "own handles", "no console", "dies with the host"}
}

func (p *alone) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.job != 0 {
		p.killed = true
		_ = windows.TerminateJobObject(p.job, exitKilled)
	}
}

func (p *alone) Wait() (os.Signal, int) {
	state, err := p.Process.Wait() // by its handle: its number does not matter
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = windows.TerminateJobObject(p.job, exitKilled)
	_ = windows.CloseHandle(p.job)
	p.job = 0
	switch {
	case err != nil:
		return nil, -1
	case p.killed && state.ExitCode() == exitKilled:
		return os.Kill, -1 // as elsewhere
	}
	return nil, state.ExitCode()
}

func (p *alone) Unsaid() string { return unsaidBySystem }

// Bury has nothing to wait for: the job's processes end with it.
func (p *alone) Bury() {}

// OutOfTime knows no signals.
func OutOfTime(os.Signal) bool { return false }

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

// Explain says in words what an exit code means to the system, or "".
func Explain(code int) string {
	if what, ok := exceptions[uint32(code)]; ok {
		return fmt.Sprintf("ended by %s (exit code %#x)", what, uint32(code))
	}
	return ""
}
