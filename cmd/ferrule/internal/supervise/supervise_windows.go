package supervise

import (
	"os/exec"
	"unsafe"

	"golang.org/x/sys/windows"
)

// system is a job, which ends with all that is in it when its last handle is closed: also when this process dies.
type system struct {
	cmd *exec.Cmd
	job windows.Handle
}

func (p *Process) start(cmd *exec.Cmd) (err error) {
	if p.job, err = windows.CreateJobObject(nil, nil); err != nil {
		return err
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	// Sound: limits lives until the system has read it.
	_, err = windows.SetInformationJobObject(p.job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		windows.CloseHandle(p.job)
		return err
	}
	// Foreign code runs later than this, because the child has its own start to do.
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(cmd.Process.Pid))
	if err == nil {
		_ = windows.AssignProcessToJobObject(p.job, h)
		windows.CloseHandle(h)
	}
	p.run(cmd)
	return nil
}

func (p *Process) killAll() { _ = windows.TerminateJobObject(p.job, 1) }
func (p *Process) ended()   { windows.CloseHandle(p.job) }
