package plugins

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

// Event is something that happened to a plug-in, or to the system.
type Event struct {
	Time    time.Time     // when it happened
	Kind    EventKind     // what
	Plugin  string        // "" where it is about the system
	Version string        // of the plug-in that runs; may be empty
	State   State         // that it is in now
	Point   string        // where it is about a hook
	For     time.Duration // how long a hook is left out, or a plug-in suspended
	Name    string        // what was granted or refused
	Err     error         // why; may be nil
}

// EventKind is what has happened.
type EventKind string

// The kinds of events.
const (
	EventState     EventKind = "state"     // its State has changed; Err is why it failed
	EventInstalled EventKind = "installed" // it was fetched and verified, and is in the lock: see Download
	EventReplaced  EventKind = "replaced"  // another version has taken its place
	EventKept      EventKind = "kept"      // another version was found, and did not take its place; Err is why
	EventCrashed   EventKind = "crashed"   // its worker has crashed
	EventKilled    EventKind = "killed"    // its worker was killed, because a call went on after its limit, or after its caller's context; Err wraps a *loader.DeadlineError
	EventRestarted EventKind = "restarted" // its worker was started anew
	EventSuspended EventKind = "suspended" // no worker is started, because they crashed
	EventOverdue   EventKind = "overdue"   // a hook in this process has not come back within its limit; For is that
	EventLeftOut   EventKind = "left out"  // a hook is left out for a while
	EventRecovered EventKind = "recovered" // a hook that was left out is called again
	EventGranted   EventKind = "granted"   // it got something that it asked for
	EventRefused   EventKind = "refused"   // it did not; Err is why it cannot be, or nil where it is there without
	EventConfig    EventKind = "config"    // config.yaml was read anew; Err is why the old one stays
)

// maxEvents is how many events wait to be handed on to each that is told; of more, the oldest are dropped.
const maxEvents = 4096

// events hands events on, in order, on a goroutine that is there as long as there are any.
type events struct {
	tell     []func(Event)
	panicked func(cause any) // one that was told has panicked with cause

	mu      sync.Mutex
	idle    *sync.Cond // on mu: nothing is handed on
	queue   []news
	running bool
}

// news is an event for one of those that are told.
type news struct {
	event Event
	tell  func(Event)
}

// post hands an event on. It does not wait.
func (e *events) post(ev Event) {
	if len(e.tell) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) >= maxEvents*len(e.tell) {
		e.queue = e.queue[len(e.tell):]
	}
	for _, tell := range e.tell {
		e.queue = append(e.queue, news{ev, tell})
	}
	if !e.running {
		e.running = true
		go e.run()
	}
}

// run hands on what is there. Those who are told are foreign: they may panic, and end the goroutine. Another one then goes on with what is left.
func (e *events) run() {
	ended := false
	defer func() {
		if cause := recover(); cause != nil {
			e.panicked(cause)
		}
		if !ended {
			go e.run()
		}
	}()
	for {
		n, ok := e.next()
		if !ok {
			ended = true
			return
		}
		n.tell(n.event)
	}
}

// next takes what comes next; where there is nothing, the goroutine ends.
func (e *events) next() (n news, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		e.queue = nil // with what was handed on
		e.running = false
		e.idle.Broadcast()
		return n, false
	}
	n, e.queue = e.queue[0], e.queue[1:]
	return n, true
}

// wait waits until everything was handed on, or ctx ends.
func (e *events) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.idle.Broadcast()
	})
	defer stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.running {
		if ctx.Err() != nil {
			return fmt.Errorf("a function of OnEvent has not come back, with %s before it: %w", sentence.Count(len(e.queue), "event"), context.Cause(ctx))
		}
		e.idle.Wait()
	}
	return nil
}
