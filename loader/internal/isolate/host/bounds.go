package host

import (
	"strings"

	"github.com/ferrule-dev/ferrule/loader/internal/confine"
)

// bounds are those of the worker's sandbox.
func (o *Options) bounds() *confine.Bounds {
	return &confine.Bounds{Memory: o.Memory, CPU: o.CPU, Time: o.Time}
}

// boundReached says which bound of its sandbox has ended a worker that the host has not, or nothing.
func (w *worker) boundReached() string {
	return w.group.options.bounds().Reached(w.signal, w.lived, strings.Split(w.output.Text(), "\n"))
}

// watch keeps the worker to those bounds of its sandbox that the plug-in could undo in its own process.
func (w *worker) watch() {
	o := &w.group.options
	if o.Time > 0 || o.Memory > 0 {
		o.bounds().Watch(w.pid(), w.dying, func(reason string) { w.kill(reason, nil) })
	}
}
