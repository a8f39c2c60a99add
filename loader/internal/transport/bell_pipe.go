//go:build !linux || ferrule_portable

package transport

import (
	"encoding/binary"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// bell wakes the other side of a lane, and waits to be woken by it: through a pipe that carries the numbers of lanes, for
// systems whose way to wait for a word of shared memory is not public.
type bell struct {
	bells *bells
	index uint16
	rung  chan struct{}
}

// bells are the bells of one side, over one pipe in each direction.
type bells struct {
	out  *os.File
	list [MaxLanes + 1]bell // the last is the header's
}

// bellPipes is how many pipes this platform's bells need in each direction.
const bellPipes = 1

func newBells(in, out *os.File) *bells {
	bs := &bells{out: out}
	for i := range bs.list {
		bs.list[i] = bell{bs, uint16(i), make(chan struct{}, 1)}
	}
	go func() { // ends when the other side has closed its end
		var number [2]byte
		for {
			if _, err := io.ReadFull(in, number[:]); err != nil {
				return
			}
			if i := int(binary.LittleEndian.Uint16(number[:])); i < len(bs.list) {
				bs.list[i].alarm(nil)
			}
		}
	}()
	return bs
}

func (bs *bells) at(i int) *bell { return &bs.list[i] }

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
	var number [2]byte
	binary.LittleEndian.PutUint16(number[:], b.index)
	_, _ = b.bells.out.Write(number[:]) // whoever is gone needs no waking
}

// alarm wakes this side.
func (b *bell) alarm(*atomic.Uint32) {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

// yield lets another goroutine have the processor that waits for it.
func yield() { runtime.Gosched() }
