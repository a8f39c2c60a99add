package host

import "github.com/ferrule-dev/ferrule/loader/internal/confine"

// bounds are those of the worker's sandbox.
func (o *Options) bounds() *confine.Bounds {
	return &confine.Bounds{Memory: o.Memory, CPU: o.CPU, Time: o.Time}
}

// boundReached says which bound of its sandbox has ended a worker that the host has not, if one has.
func (w *worker) boundReached() confine.End {
	return w.group.options.bounds().Reached(w.signal, w.code, w.lived, w.output.Said())
}

// watch keeps the worker to those bounds of its sandbox that the plug-in could undo in its own process.
func (w *worker) watch() {
	o := &w.group.options
	if o.Time > 0 || o.Memory > 0 {
		o.bounds().Watch(w.pid(), w.dying, w.overstep)
	}
}

// overstep is kill because the worker is past one of those bounds.
func (w *worker) overstep(end confine.End) {
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	if !w.dead.Load() {
		w.bound = end.Bound
		w.leave(end.Reason, nil)
	}
}
