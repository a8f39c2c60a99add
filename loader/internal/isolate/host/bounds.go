package host

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// sandboxError is the error for a sandbox that the host finds cannot be had.
func sandboxError(path string, err error) error {
	var found *inspect.Error
	if errors.As(err, &found) {
		e := *found
		e.Kind, e.Path = wire.ErrSandbox, path
		return &e
	}
	return &inspect.Error{Kind: wire.ErrSandbox, Path: path, Found: err.Error(), Expected: "a policy that a worker can take upon itself",
		Remedy: "Change the policy", Err: err}
}

// boundReached says which bound of its sandbox has ended a worker that the host has not, or nothing. stderr are its last lines.
func (w *worker) boundReached(stderr []string) string {
	o := &w.group.options
	switch {
	case w.signal == os.Kill && o.Time > 0 && w.lived >= o.Time:
		return fmt.Sprintf("killed by the system, because it had lived for %v (sandbox.Policy.Time)", o.Time)
	case o.CPU > 0 && process.OutOfTime(w.signal):
		return fmt.Sprintf("ended by the system, because it had used %v of processor time (sandbox.Policy.CPU)", o.CPU)
	case w.signal == os.Kill && o.CPU > 0 && w.lived >= o.CPU:
		return fmt.Sprintf("killed by the system, as it does with one that has used %v of processor time and ignores the signal for that "+
			"(sandbox.Policy.CPU), or by another process", o.CPU)
	case o.Memory > 0 && slices.ContainsFunc(stderr, saysNoMemory): // it is the worker's word
		return fmt.Sprintf("ended by its own runtime, which says that it has no memory left: it had %d MiB (sandbox.Policy.Memory)", o.Memory>>20)
	}
	return ""
}

// saysNoMemory reports whether a line is one of those by which the Go runtime ends a process that has no memory for its own work.
func saysNoMemory(line string) bool {
	switch {
	case strings.HasPrefix(line, "fatal error: "), strings.HasPrefix(line, "runtime: "):
		return strings.Contains(line, "out of memory") || strings.Contains(line, "cannot allocate memory") || strings.Contains(line, "failed to create new OS thread")
	}
	return strings.HasPrefix(line, "runtime/cgo: pthread_create failed: ")
}

// watch keeps the worker to those bounds of its sandbox that the plug-in could undo in its own process: a timer is gone when
// another program takes the worker's place, and memory that was made read-only is not counted by the system's limit.
func (w *worker) watch() {
	o := &w.group.options
	if o.Time > 0 {
		late := time.AfterFunc(o.Time, func() {
			w.kill(fmt.Sprintf("killed by the host, because it had lived for %v (sandbox.Policy.Time)", o.Time), nil)
		})
		go func() {
			<-w.dying
			late.Stop()
		}()
	}
	if o.Memory > 0 {
		go w.watchMemory()
	}
}

// How often the host looks how much memory a worker has, and how much it may have beyond its limit: the stack of the first
// thread, and what libraries relocate before they make it read-only.
const (
	memoryPeriod = 100 * time.Millisecond
	memorySlack  = 72 << 20
)

func (w *worker) watchMemory() {
	t := time.NewTicker(memoryPeriod)
	defer t.Stop()
	for {
		select {
		case <-w.dying:
			return
		case <-t.C:
		}
		if used, limit, ok := memoryOf(w.pid()); ok && used > memorySlack && used-memorySlack > limit {
			w.kill(fmt.Sprintf("killed by the host, because %d MiB of memory were its own, where the limit is %d MiB (sandbox.Policy.Memory)",
				used>>20, limit>>20), nil)
			return
		}
	}
}
