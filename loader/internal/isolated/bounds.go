package isolated

import (
	"errors"
	"fmt"
	"time"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/wire"
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

// watch keeps the worker to those bounds of its sandbox that the plug-in could undo in its own process: a timer is gone when
// another program takes the worker's place, and memory that was made read-only is not counted by the system's limit.
func (w *worker) watch() {
	o := &w.engine.options
	if o.Time > 0 {
		late := time.AfterFunc(o.Time, func() {
			w.kill(fmt.Sprintf("killed by the host, because it had lived for %v (sandbox.Policy.Time)", o.Time))
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
				used>>20, limit>>20))
			return
		}
	}
}
