package link

import (
	"slices"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// room is what the host's calls without an answer take up of what rule W7 allows. Others wait, and come in the order in which they were made. The link's mu guards it.
type room struct {
	bytes   int // of the inputs
	coming  int // calls that have room, and were not sent yet
	waiting []*entry
	nested  int               // of these, come from other calls
	holders [][]*callctx.Call // who has it now; nil where that is to be found out
}

// entry is a call that waits for room.
type entry struct {
	bytes int
	came  chan struct{} // closed when it has it
	again chan struct{} // who is in its way may be others by now; of a capacity of 1, nil of what comes from no call
}

// fits reports whether there is room for a call with so many bytes. mu is held.
func (l *Link) fits(bytes int) bool {
	return len(l.calls)+len(l.given)+l.room.coming < wire.MaxCalls && (l.room.bytes == 0 || l.room.bytes+bytes <= wire.MaxInputs)
}

// leave takes in that a call with so many bytes was answered, and lets those go on for which there is room. mu is held.
func (l *Link) leave(bytes int) {
	l.room.bytes, l.room.holders = l.room.bytes-bytes, nil
	l.admits()
}

// admits gives room to those who wait. Where it does, there is somebody to wait for; otherwise those who come from other calls look whether there is. mu is held.
func (l *Link) admits() {
	admitted := false
	for len(l.room.waiting) > 0 && l.fits(l.room.waiting[0].bytes) {
		e := l.room.waiting[0]
		l.room.drop(0)
		l.room.take(e.bytes)
		close(e.came)
		admitted = true
	}
	if !admitted && l.room.nested > 0 {
		for _, e := range l.room.waiting {
			notify(e.again)
		}
	}
}

// take gives room to a call that is to be sent.
func (r *room) take(bytes int) { r.bytes, r.coming, r.holders = r.bytes+bytes, r.coming+1, nil }

// sends takes in that one that has room is sent now.
func (r *room) sends() { r.coming, r.holders = r.coming-1, nil }

func (r *room) drop(at int) {
	if r.waiting[at].again != nil {
		r.nested--
	}
	r.waiting = slices.Delete(r.waiting, at, at+1)
}

// forget reports whether a call was given up that is answered now. mu is held.
func (l *Link) forget(id uint64) bool {
	bytes, given := l.given[id]
	if given {
		delete(l.given, id)
		l.leave(bytes)
	}
	return given
}

// enter waits until there is room for a call. Where there comes none, the call fails with what it returns. What comes from other calls goes first: these may wait for it.
func (l *Link) enter(c *pool.Call, bytes int) (why string, status abi.Status) {
	e := &entry{bytes: bytes, came: make(chan struct{})}
	nested := c.Nested()
	if nested {
		e.again = make(chan struct{}, 1)
	}
	l.mu.Lock()
	if l.fits(bytes) && (nested || len(l.room.waiting) == 0) {
		l.room.take(bytes)
		l.mu.Unlock()
		return "", abi.StatusOK
	}
	l.room.waiting = append(l.room.waiting, e)
	if nested {
		l.room.nested++
	}
	l.mu.Unlock()
	wait, err := c.Wait(occupied{l})
	for err == nil {
		select {
		case <-e.came:
			wait.Done()
			return "", abi.StatusOK
		case <-e.again:
			err = wait.Again()
			continue
		case <-c.Done():
			why, status = "there was no room for it by then (rule W7 of docs/wire.md)", abi.StatusCancelled
		case <-l.dead: // which says why
		}
		wait.Done()
		break
	}
	if err != nil {
		why, status = "there is no room for it beside the calls that wait for it (rule W7 of docs/wire.md)", abi.StatusNoMemory
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch at := slices.Index(l.room.waiting, e); {
	case at < 0 && status != abi.StatusCancelled: // both had come
		return "", abi.StatusOK
	case at < 0:
		l.room.sends()
		l.leave(bytes)
	default:
		l.room.drop(at)
		if status == abi.StatusOK { // the session is over
			l.room.take(bytes)
		}
		l.admits() // it may have kept shorter ones
	}
	return why, status
}

// occupied is a link's room, for package callctx.
type occupied struct{ of *Link }

// Owner is callctx.Wanted's.
func (o occupied) Owner() string { return o.of.about.Manifest.Name }

// Holders is callctx.Wanted's: any call that is answered makes room.
func (o occupied) Holders() [][]*callctx.Call {
	l := o.of
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room.holders == nil || l.why != nil { // thousands may look, one after the other
		holders := make([]*callctx.Call, 0, len(l.calls)+1)
		if l.why != nil || l.room.coming > 0 || len(l.given) > 0 {
			holders = append(holders, nil)
		}
		for _, x := range l.calls {
			holders = append(holders, x.Holder())
		}
		l.room.holders = callctx.Each(holders)
	}
	return l.room.holders
}
