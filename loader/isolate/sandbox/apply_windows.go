package sandbox

import (
	"fmt"
	"time"
	"unsafe"

	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"golang.org/x/sys/windows"
)

// apply takes the bounds of a policy upon this process, by a job object of its own inside the one that the host has put it
// in: memory, processor time and the number of processes. What is left cannot be refused to a process that is running, so
// every policy needs BestEffort.
func apply(config []byte, _ []wire.Library) ([]string, error) {
	p, err := decode(config)
	if err != nil {
		return nil, err
	}
	var r report
	r.lacks("files", "Windows has nothing by which a process gives up files")
	r.lacks("network", "Windows has nothing by which a process gives up the network")
	if p.Time > 0 {
		r.lacks("wall time", "Windows has no timer that a plug-in could not stop; loader.WithCallTimeout bounds each call")
	}
	if p.Files > 0 {
		r.lacks("rlimit files", "Windows has no limit of handles")
	}
	if err := r.err(&p); err != nil {
		return nil, err
	}
	if err := applyJob(&p, &r); err != nil {
		return nil, fmt.Errorf("job object: %w", err)
	}
	return r.layers, nil
}

// applyJob puts this process into a job with the policy's limits. It cannot leave it, nor can what it starts, and nobody
// has a handle by which the limits could be changed.
func applyJob(p *Policy, r *report) error {
	var info windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	basic := &info.BasicLimitInformation
	basic.LimitFlags = windows.JOB_OBJECT_LIMIT_ACTIVE_PROCESS
	basic.ActiveProcessLimit = uint32(min(p.Processes, 1<<30)) + 1
	layers := []string{"job: processes"}
	if p.Memory > 0 {
		used, err := committed()
		if err != nil {
			return err
		}
		basic.LimitFlags |= windows.JOB_OBJECT_LIMIT_PROCESS_MEMORY
		info.ProcessMemoryLimit = used + uintptr(p.Memory)
		layers = append(layers, "job: memory")
	}
	if p.CPU > 0 {
		basic.LimitFlags |= windows.JOB_OBJECT_LIMIT_PROCESS_TIME
		basic.PerProcessUserTimeLimit = int64(p.CPU / (100 * time.Nanosecond))
		layers = append(layers, "job: cpu")
	}
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(job) // the job lives as long as a process is in it
	// Sound because the system copies the structure.
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	if err != nil {
		return err
	}
	if err := windows.AssignProcessToJobObject(job, windows.CurrentProcess()); err != nil {
		return err
	}
	for _, layer := range layers {
		r.has(layer)
	}
	return nil
}

var getProcessMemoryInfo = windows.NewLazySystemDLL("kernel32.dll").NewProc("K32GetProcessMemoryInfo")

// committed returns how many bytes of memory this process has that the limit counts.
func committed() (uintptr, error) {
	var counters struct { // PROCESS_MEMORY_COUNTERS
		size, faults                                             uint32
		peakWorkingSet, workingSet                               uintptr
		peakPagedPool, pagedPool, peakNonPagedPool, nonPagedPool uintptr
		pagefile, peakPagefile                                   uintptr
	}
	counters.size = uint32(unsafe.Sizeof(counters))
	// Sound because the system writes no more than size bytes, and does not keep the pointer.
	ok, _, err := getProcessMemoryInfo.Call(uintptr(windows.CurrentProcess()), uintptr(unsafe.Pointer(&counters)), uintptr(counters.size))
	if ok == 0 {
		return 0, fmt.Errorf("K32GetProcessMemoryInfo: %w", err)
	}
	return counters.pagefile, nil
}
