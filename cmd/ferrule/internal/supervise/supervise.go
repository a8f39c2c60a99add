// Package supervise runs a process that runs foreign code, and sees that nothing of it is left when it is over.
package supervise

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Process is a child, in a session of its own where the system has sessions: it has no terminal, and what is typed on
// one does not reach it. Its methods are for any goroutine.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	//lint:ignore U1000 on Windows there is something in it
	system
}

// live are the processes that were started here and whose End has not come: what they have started is theirs.
var (
	liveMu sync.Mutex
	live   = map[int]bool{}
)

// Start starts a command whose streams are files, or nil. The child is killed when this process dies, where the system
// offers that. End must be called.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	if err := p.prepare(cmd); err != nil {
		return nil, err
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Linux sends the parent-death signal when the thread ends that started the child
		defer runtime.UnlockOSThread()
		liveMu.Lock() // before it is looked at as somebody's orphan
		err := cmd.Start()
		if err == nil {
			live[cmd.Process.Pid] = true
		}
		liveMu.Unlock()
		if err == nil {
			p.started()
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // State has what it says
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Done is closed when the child itself has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// State is how the child ended. Done must be closed.
func (p *Process) State() *os.ProcessState { return p.cmd.ProcessState }

// Signal sends the child a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Pid is the child's number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// endTime is how long End goes on where processes start others as fast as they are killed.
const endTime = 5 * time.Second

// End kills the child and all that it has started, and waits until it is gone. It returns the names of the processes
// that the child has left, which it does not kill before they have had grace to end by themselves.
//
// On Linux it finds all of them, by the session and because orphans become children of this process. On other Unixes
// those are found that have stayed in the child's process group, on Windows all of them; they are killed, but not named.
func (p *Process) End(grace time.Duration) (left []string) {
	names := map[int]string{}
	select {
	case <-p.done:
		for begun := time.Now(); time.Since(begun) < grace && len(p.left()) > 0; {
			time.Sleep(10 * time.Millisecond)
		}
	default:
		maps.Copy(names, p.left())
		_ = p.cmd.Process.Kill()
		p.killAll()
		<-p.done
	}
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		found := p.left()
		maps.Copy(names, found)
		p.killAll()
		p.kill(found)
		if len(found) == 0 || time.Since(begun) > endTime {
			break
		}
	}
	p.ended()
	liveMu.Lock()
	delete(live, p.Pid())
	liveMu.Unlock()
	return slices.Sorted(maps.Values(names))
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
