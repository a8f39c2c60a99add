// Package supervise runs a process that runs foreign code, and sees that nothing of it is left when it is over.
package supervise

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Process is a child, in a session of its own where the system has sessions: it has no terminal, and what is typed on
// one does not reach it. Its methods are for any goroutine.
type Process struct {
	pid   int
	done  chan struct{}
	state State
	system
}

// State is how a child ended.
type State struct {
	code   int
	signal os.Signal
	text   string
}

// ExitCode is the child's exit code, or -1 when a signal ended it.
func (s State) ExitCode() int { return s.code }

// Signal is the signal that ended the child, or nil.
func (s State) Signal() os.Signal { return s.signal }

// String says it in words, as os.ProcessState does.
func (s State) String() string { return s.text }

// Start starts a command whose streams are files, or nil. The child is killed when this process dies, where the system
// offers that; on Linux so is all that it has started. End must be called.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{done: make(chan struct{})}
	if err := p.start(cmd); err != nil {
		return nil, err
	}
	return p, nil
}

// Done is closed when the child itself has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// State is how the child ended. Done must be closed.
func (p *Process) State() State { return p.state }

// Pid is the child's number.
func (p *Process) Pid() int { return p.pid }

// endTime is how long End goes on where processes start others as fast as they are killed, or may not be killed.
const endTime = 5 * time.Second

// End kills the child and all that it has started, and waits until it is gone. It returns the names of the processes
// that the child has left, which it does not kill before they have had grace to end by themselves, and among these the names of
// those that are alive still: that is when they start others faster than these are found, or are another user's, and End has
// given up after 5 seconds.
//
// On Linux it finds all of them, because orphans become children of the keeper; see keep. On other Unixes those are found
// that have stayed in the child's process group, on Windows all of them; they are killed, but not named. End is called once.
func (p *Process) End(grace time.Duration) (left, alive []string) {
	select {
	case <-p.done:
		p.wait(grace)
	default:
		_ = p.Signal(os.Kill)
	}
	return p.end()
}

// Names writes the names of processes for people: each once, with how many there are.
func Names(names []string) string {
	counts := map[string]int{}
	for _, name := range names {
		counts[name]++
	}
	var words []string
	for i, name := range slices.Sorted(maps.Keys(counts)) {
		if i == 6 {
			words = append(words, fmt.Sprintf("and %d more", len(counts)-6))
			break
		}
		if n := counts[name]; n > 1 {
			name = fmt.Sprintf("%d of %s", n, name)
		}
		words = append(words, name)
	}
	return strings.Join(words, ", ")
}
