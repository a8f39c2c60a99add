//go:build !linux || ferrule_portable

package lane

import (
	"encoding/binary"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// bell wakes the other side of a lane, and waits to be woken by it: through a pipe that carries the numbers of lanes, for
// systems whose way to wait for a word of shared memory is not public.
type bell struct {
	bells  *bells
	index  uint16
	rung   chan struct{}
	queued atomic.Bool // in bells.queue
}

// bells are the bells of one side, over one pipe in each direction.
type bells struct {
	out   *os.File
	lost  chan error      // gets why nothing more comes from the other side
	list  [bellCount]bell // of the lanes, the header, and the lanes' rings
	queue chan uint16     // of the host: what is to be rung, each bell once, so that there is always room
}

// bellPipes is how many pipes this platform's bells need in each direction.
const bellPipes = 1

// newBells makes the bells of one side. The host's never wait for the pipe, but have a goroutine do so: a worker that does
// not read could have it wait for ever, with locks held.
func newBells(in, out *os.File, host bool) *bells {
	bs := &bells{out: out, lost: make(chan error, 1)}
	for i := range bs.list {
		b := &bs.list[i]
		b.bells, b.index, b.rung = bs, uint16(i), make(chan struct{}, 1)
	}
	go func() { // ends when the other side has closed its end
		var number [2]byte
		for {
			if _, err := io.ReadFull(in, number[:]); err != nil {
				bs.lost <- err
				return
			}
			if i := int(binary.LittleEndian.Uint16(number[:])); i < len(bs.list) {
				bs.list[i].alarm(nil)
			}
		}
	}()
	if host {
		bs.queue = make(chan uint16, len(bs.list))
		go func() { // ends with close, or when the other side is gone
			for i := range bs.queue {
				bs.list[i].queued.Store(false)
				if bs.write(i) != nil {
					return
				}
			}
		}()
	}
	return bs
}

func (bs *bells) at(i int) *bell { return &bs.list[i] }

// close is for when nobody rings any more.
func (bs *bells) close() { close(bs.queue) }

// wait sleeps until the bell is rung or limit is over. It may also return for no reason.
func (b *bell) wait(_ *atomic.Uint32, _ uint32, limit time.Duration) {
	if limit == Forever {
		<-b.rung
		return
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-b.rung:
	case <-t.C:
	}
}

// ring wakes the other side.
func (b *bell) ring(*atomic.Uint32) {
	switch {
	case b.bells.queue == nil:
		_ = b.bells.write(b.index) // whoever is gone needs no waking
	case !b.queued.Swap(true):
		b.bells.queue <- b.index
	}
}

func (bs *bells) write(i uint16) error {
	var number [2]byte
	binary.LittleEndian.PutUint16(number[:], i)
	_, err := bs.out.Write(number[:])
	return err
}

// alarm wakes this side.
func (b *bell) alarm(*atomic.Uint32) {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

// processor and leave are for systems that tell; here it is the system's business alone.
func processor() uint32 { return 0 }
func leave()            {}
