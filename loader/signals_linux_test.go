package loader_test

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// floodWithSignals sends every thread of the process, the plug-ins' too, the signal by which the runtime stops a
// goroutine, as fast as it can without taking a processor for itself, until it is stopped.
func floodWithSignals(t *testing.T) (stop func()) {
	t.Helper()
	stopped, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			tasks, _ := os.ReadDir("/proc/self/task")
			for _, task := range tasks {
				if tid, err := strconv.Atoi(task.Name()); err == nil { // ESRCH where it has ended meanwhile
					_, _, _ = syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(os.Getpid()), uintptr(tid),
						uintptr(syscall.SIGURG))
				}
			}
			select {
			case <-stopped:
				return
			case <-time.After(20 * time.Microsecond):
			}
		}
	}()
	return func() { close(stopped); <-done }
}
