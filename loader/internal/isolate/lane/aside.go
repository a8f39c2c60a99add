package lane

import "sync"

// A lane carries one thing at a time, and its call may have several threads that want something of the host, each of which may
// wait for what another one says. So whoever finds the lane of its call in use asks by a lane that is for nothing else; it
// says there which call it belongs to. A worker has none of them at first. The host adds them while a host function runs
// and somebody waits, and they stay.

// asides are those lanes of a worker.
type asides struct {
	mu     sync.Mutex
	change sync.Cond // one of them is free, or the lane of a call is
	free   []*WorkerLane
}

// Aside has the lane be one of them. It is called once the host has said so, by OpAside; nobody uses the lane otherwise any more.
func (w *Worker) Aside(l *WorkerLane) { w.asides.put(l) }

func (a *asides) put(l *WorkerLane) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free = append(a.free, l)
	a.change.Broadcast()
}

// takeFor returns a lane for what a thread of the call on l wants of the host, with its asking held: l itself, or one aside. It
// waits for either. The first one in a call asks by l: from that on the host knows the call's context.
func (a *asides) takeFor(l *WorkerLane) *WorkerLane {
	if l.asking.TryLock() {
		return l
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	for {
		if l.asking.TryLock() {
			return l
		}
		if n := len(a.free); n > 0 && l.asked.Load() {
			other := a.free[n-1]
			a.free = a.free[:n-1]
			other.asking.Lock() // nobody else has it
			return other
		}
		l.more.Store(uint32(l.waiting.Load()))
		a.change.Wait()
	}
}

// giveBack ends that.
func (a *asides) giveBack(l, other *WorkerLane) {
	if other == l {
		l.unlock()
		return
	}
	other.asking.Unlock()
	a.put(other)
}

// unlock lets the next one ask by the lane of its call.
func (l *WorkerLane) unlock() {
	l.asking.Unlock()
	l.tell()
}

// hasAsked lets those in that ask aside. Whoever has asking calls it.
func (l *WorkerLane) hasAsked() {
	if !l.asked.Load() {
		l.asked.Store(true)
		l.tell()
	}
}

// tell has those look again that wait for the lane, or for one aside.
func (l *WorkerLane) tell() {
	if l.waiting.Load() > 0 { // who comes later looks by itself before it waits
		a := &l.worker.asides
		a.mu.Lock()
		defer a.mu.Unlock()
		a.change.Broadcast()
	}
}

// Waiting returns how many threads of the lane's call wait for a lane aside. It is the worker's word. Where the host has added some, it
// says so by Added.
func (l *HostLane) Waiting() uint32 { return l.more.Load() }

// Added takes in that so many lanes were added of those that are waited for. What is not had yet is asked for again.
func (l *HostLane) Added(waiting, lanes uint32) { l.more.CompareAndSwap(waiting, waiting-lanes) }
