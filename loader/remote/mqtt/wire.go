package mqtt

import (
	"bufio"
	"net"
	"sync"
	"time"
)

// most is how much may wait to be written, in bytes, before those who send wait, too.
const most = 8 << 20

// lump is a connection whose packets are written whole, and together with those that have come meanwhile: package paho writes each in four parts, and holds the lock (it is a
// sync.Locker) for the time of one packet.
type lump struct {
	net.Conn
	in *bufio.Reader

	turn sync.Mutex // whose packet is being put together

	mu      sync.Mutex
	pending []byte // not written yet
	spare   []byte
	writing bool
	err     error
	changed sync.Cond // pending has become less, or nobody writes
}

func newLump(c net.Conn) *lump {
	l := &lump{Conn: c, in: bufio.NewReaderSize(c, 64<<10)}
	l.changed.L = &l.mu
	return l
}

// Read is net.Conn's.
func (l *lump) Read(b []byte) (int, error) { return l.in.Read(b) }

// Lock begins a packet.
func (l *lump) Lock() { l.turn.Lock() }

// Write adds to the packet. Its error may be that of an earlier one.
func (l *lump) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.err == nil && len(l.pending) > most {
		l.changed.Wait()
	}
	if l.err != nil {
		return 0, l.err
	}
	l.pending = append(l.pending, b...)
	return len(b), nil
}

// Unlock ends the packet, which is written now, or by who writes now.
func (l *lump) Unlock() {
	l.mu.Lock()
	writes := !l.writing && len(l.pending) > 0
	l.writing = l.writing || writes
	l.mu.Unlock()
	l.turn.Unlock()
	if writes && l.flush() {
		go func() { // others have gone on meanwhile: this packet's sender need not write theirs
			for l.flush() {
			}
		}()
	}
}

// flush writes what there is. It reports whether there is more.
func (l *lump) flush() bool {
	l.mu.Lock()
	b := l.pending
	l.pending = l.spare[:0]
	l.spare = nil
	l.changed.Broadcast()
	l.mu.Unlock()
	_, err := l.Conn.Write(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	if cap(b) <= 1<<20 {
		l.spare = b
	}
	if err != nil && l.err == nil {
		l.err = err
		_ = l.Conn.Close() // who reads is told
	}
	if l.err == nil && len(l.pending) > 0 {
		return true
	}
	l.writing = false
	l.changed.Broadcast()
	return false
}

// Close writes what is left, for a moment, and closes the connection.
func (l *lump) Close() error {
	_ = l.Conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	l.mu.Lock()
	for l.writing {
		l.changed.Wait()
	}
	if l.err == nil {
		l.err = net.ErrClosed
	}
	l.changed.Broadcast()
	l.mu.Unlock()
	return l.Conn.Close()
}
