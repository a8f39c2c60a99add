//go:build unix && !linux

package sandbox

import (
	"fmt"
	"time"

	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"golang.org/x/sys/unix"
)

// apply takes the bounds of a policy upon this process, as far as resource limits do. Files, the network and processes
// cannot be refused here to a process that is running, so that every policy needs BestEffort. Built, not run: see
// docs/macos.md for what it relies on.
func apply(config []byte, _ []wire.Library) ([]string, error) {
	p, err := decode(config)
	if err != nil {
		return nil, err
	}
	var r report
	r.lacks("files", "this system has nothing by which a process gives up files")
	r.lacks("network", "this system has nothing by which a process gives up the network")
	r.lacks("processes", "this system has nothing by which a process gives up starting others")
	if p.Memory > 0 {
		r.lacks("rlimit memory", "this system does not keep to a limit of memory")
	}
	if p.Time > 0 {
		r.lacks("wall time", "this system has no timer that a plug-in could not stop; loader.WithCallTimeout bounds each call")
	}
	if err := r.err(&p); err != nil {
		return nil, err
	}
	type want struct {
		layer string
		which int
		value uint64
	}
	files := p.Files
	if files == 0 {
		files = defaultFiles
	}
	const ownFiles = 32 // more than a worker has open
	wants := []want{
		{"rlimit files", unix.RLIMIT_NOFILE, uint64(ownFiles + files)},
		{"no core dumps", unix.RLIMIT_CORE, 0},
	}
	if p.CPU > 0 {
		wants = append(wants, want{"rlimit cpu", unix.RLIMIT_CPU, uint64((p.CPU + time.Second - 1) / time.Second)})
	}
	if len(p.Write) == 0 {
		wants = append(wants, want{"rlimit file size", unix.RLIMIT_FSIZE, 0})
	}
	for _, w := range wants {
		var l unix.Rlimit
		if err := unix.Getrlimit(w.which, &l); err != nil {
			return nil, fmt.Errorf("%s: %w", w.layer, err)
		}
		lower(&l.Cur, w.value)
		lower(&l.Max, w.value)
		if err := unix.Setrlimit(w.which, &l); err != nil {
			return nil, fmt.Errorf("%s: %w", w.layer, err)
		}
		r.has(w.layer)
	}
	return r.layers, nil
}

// lower sets a limit where it is not lower already. Its type is not the same on all systems.
func lower[T int64 | uint64](limit *T, value uint64) {
	if uint64(*limit) > value {
		*limit = T(value)
	}
}
