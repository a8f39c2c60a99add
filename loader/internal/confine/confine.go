// Package confine starts programs that are shut in before anything of them runs, and keeps what is shut in to those of its bounds that
// the system does not keep by itself. It knows no policies and no plug-ins: what shuts a process in is package sandbox's.
//
// A program that knows nothing of sandboxes cannot take bounds upon itself. So its process is this very executable first, as a
// launcher: package sandbox takes it over before main, has it take the bounds upon itself, and puts the program in its place.
package confine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/lastwords"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// Bounds are those of a sandbox.Policy, for who starts what is under them.
type Bounds struct {
	// Resolve returns what the process that takes the bounds upon itself gets, with a folder of the plug-in's own where that is not "".
	Resolve    func(folder string) ([]byte, error)
	Memory     int64         // in bytes; 0 for no limit, here and below
	CPU        time.Duration // of the processor
	Time       time.Duration // on the wall
	Processes  int           // beside its own
	BestEffort bool          // it runs with those bounds that the system has
}

// Order is what a launcher gets.
type Order struct {
	Policy []byte   // as Bounds.Resolve returned it
	Args   [][]byte // the program's, from its name on
	Env    [][]byte // the program's
	Files  int      // how many descriptors the program gets, from 0 on
	Runs   []File   // what the system runs the program by, beside its own file: its dynamic linker
	Reads  []File   // what it may read beside that, such as a script; folders with what is in them
}

// Program is the descriptor of the program's file in the launcher.
func (o *Order) Program() int { return o.Files + 2 }

// report is what a launcher says: once before it puts the program in its place, and once more where it could not.
type report struct {
	Layers                  [][]byte
	Found, Expected, Remedy []byte
	Failed                  bool // Found, Expected and Remedy say why
	Errno                   int  // the system's error, by which the program was not started
}

// End is one of the bounds that has ended a process. Its zero value is none.
type End struct {
	Bound  engine.Bound
	Reason string // in words, for an engine.Crash
}

// Reached says which of the bounds has ended a process that the host has not, if one has: signal or code is how, it lived for so long, and stderr are its last lines.
func (b *Bounds) Reached(signal os.Signal, code int, lived time.Duration, stderr []string) End {
	says := b.Memory > 0 && lastwords.ByRuntime(signal, code) // it is its own word, which is not why a fault or a kill has ended it
	switch {
	case signal == os.Kill && b.Time > 0 && lived >= b.Time:
		return End{engine.BoundTime, fmt.Sprintf("killed by the system, because it had lived for %v (sandbox.Policy.Time)", b.Time)}
	case b.CPU > 0 && process.OutOfTime(signal):
		return End{engine.BoundCPU, fmt.Sprintf("ended by the system, because it had used %v of processor time (sandbox.Policy.CPU)", b.CPU)}
	case signal == os.Kill && b.CPU > 0 && lived >= b.CPU:
		return End{engine.BoundCPU, fmt.Sprintf("killed by the system, as it does with one that has used %v of processor time and ignores the signal for that "+
			"(sandbox.Policy.CPU), or by another process", b.CPU)}
	case says && slices.ContainsFunc(stderr, ofRuntime):
		return End{engine.BoundMemory, fmt.Sprintf("ended by its own runtime, which says that it has no memory left: it had %s (sandbox.Policy.Memory)", amount(b.Memory))}
	case says && lastwords.ShortOfMemory(lastOf(stderr)):
		return End{engine.BoundMemory, fmt.Sprintf("ended by itself, and says that it has no memory left: it had %s (sandbox.Policy.Memory)", amount(b.Memory))}
	}
	return End{}
}

// ofRuntime reports whether a line is one of those by which a runtime ends a process that has no memory for its own work.
func ofRuntime(line string) bool {
	return lastwords.NoMemory(line) || strings.HasPrefix(line, "runtime: failed to create new OS thread") || strings.HasPrefix(line, "runtime/cgo: pthread_create failed")
}

// lastOf returns the last line that has something in it.
func lastOf(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if line != "" {
			return line
		}
	}
	return ""
}

// amount is an amount of memory in words.
func amount(bytes int64) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprintf("%d MiB", bytes>>20)
	case bytes >= 1<<10:
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return count.Of(bytes, "byte")
}

// Watch keeps a process to those bounds that it could undo itself, until done is closed: a timer is gone when another program takes its
// place, and memory that was made read-only is not counted by the system's limit. end is called by another goroutine.
func (b *Bounds) Watch(pid int, done <-chan struct{}, end func(End)) {
	if b.Time > 0 {
		late := time.AfterFunc(b.Time, func() {
			end(End{engine.BoundTime, fmt.Sprintf("killed by the host, because it had lived for %v (sandbox.Policy.Time)", b.Time)})
		})
		go func() {
			<-done
			late.Stop()
		}()
	}
	if b.Memory > 0 {
		go watchMemory(pid, done, end)
	}
}

// How often the host looks how much memory a process has, and how much it may have beyond its limit: the stack of the first
// thread, and what libraries relocate before they make it read-only.
const (
	memoryPeriod = 100 * time.Millisecond
	memorySlack  = 72 << 20
)

func watchMemory(pid int, done <-chan struct{}, end func(End)) {
	t := time.NewTicker(memoryPeriod)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		if used, limit, ok := memoryOf(pid); ok && used > memorySlack && used-memorySlack > limit {
			end(End{engine.BoundMemory, fmt.Sprintf("killed by the host, because %d MiB of memory were its own, where the limit is %d MiB (sandbox.Policy.Memory)", used>>20, limit>>20)})
			return
		}
	}
}

// File is a file or a folder that was found, and is known again.
type File = wire.Library

// Refused is the error for a sandbox of the plug-in at path that the host finds cannot be had.
func Refused(path string, err error) error {
	var found *inspect.Error
	if errors.As(err, &found) {
		e := *found
		e.Kind, e.Path = wire.ErrSandbox, path
		return &e
	}
	return &inspect.Error{Kind: wire.ErrSandbox, Path: path, Found: err.Error(), Expected: "a policy that a process can take upon itself", Remedy: "Change the policy", Err: err}
}
