package worker

import (
	"context"
	"errors"
	"sync"

	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
)

// between are the lanes by which an instance's threads reach the host between calls (R27). Each carries one request at a time,
// and a host function may take any time, and wait for what another thread says: so there is always one more than are in use, up to
// mostBetween.
type between struct {
	server *server

	mu     sync.Mutex
	change sync.Cond
	free   []*lane.WorkerLane
	all    []*lane.WorkerLane
	asking bool // another one is on its way
	ended  bool
}

const mostBetween = 16

// newBetween is native.Background: ctx is that of a call that runs ferrule_start.
func (s *server) newBetween(ctx context.Context) (context.Context, func(), error) {
	b := &between{server: s}
	b.change.L = &b.mu
	if err := b.more(laneOf(ctx)); err != nil {
		return nil, nil, err
	}
	between := context.WithValue(context.Background(), laneKey{}, b)
	return context.WithValue(between, native.Stops, b.stops), b.end, nil
}

// more adds a lane, for which the host is asked by one that is at hand.
func (b *between) more(by *lane.WorkerLane) error {
	index, err := by.More()
	if err == nil && (index < 0 || index >= lane.Lanes) {
		err = lane.ErrGarbage
	}
	if err != nil {
		if errors.Is(err, lane.ErrGarbage) {
			fail(ExitGarbage, err.Error())
		}
		return err
	}
	l := <-b.server.between[index]
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free, b.all = append(b.free, l), append(b.all, l)
	if b.ended { // the others were told before this one came
		l.End()
	}
	b.change.Broadcast()
	return nil
}

// use runs fn with a lane.
func (b *between) use(fn func(*lane.WorkerLane)) {
	b.mu.Lock()
	for len(b.free) == 0 {
		b.change.Wait()
	}
	l := b.free[len(b.free)-1]
	b.free = b.free[:len(b.free)-1]
	more := len(b.free) == 0 && !b.asking && !b.ended && len(b.all) < mostBetween
	if more {
		b.asking = true
	}
	b.mu.Unlock()
	if more {
		_ = b.more(l) // without it there is one less
		b.mu.Lock()
		b.asking = false
		b.mu.Unlock()
	}
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.free = append(b.free, l)
		b.change.Broadcast()
	}()
	fn(l)
}

// HostCall is lane.WorkerLane's.
func (b *between) HostCall(ordinal uint32, in []byte) (out []byte, status int32, err error) {
	b.use(func(l *lane.WorkerLane) { out, status, err = l.HostCall(ordinal, in) })
	return out, status, err
}

// Log is lane.WorkerLane's.
func (b *between) Log(level uint32, text, fields []byte) (err error) {
	b.use(func(l *lane.WorkerLane) { err = l.Log(level, text, fields) })
	return err
}

// stops has the host end what runs for it.
func (b *between) stops() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	for _, l := range b.all {
		l.End()
	}
}

// end gives the lanes back. Nobody uses them any more.
func (b *between) end() {
	b.stops()
	for _, l := range b.all {
		if err := l.Done(0, nil); err != nil {
			fail(ExitGarbage, err.Error())
		}
		b.server.release[l.Index()] <- struct{}{}
	}
}
