package mqtt

import (
	"bufio"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// most is how much may wait to be written, in bytes, before those who send wait, too.
const most = 8 << 20

// lump is a connection whose packets are written whole, and together with those that have come meanwhile: package paho writes each in four parts, and holds the lock (it is a
// sync.Locker) for the time of one packet.
type lump struct {
	net.Conn
	in *bufio.Reader

	turn  sync.Mutex                 // whose packet is being put together
	first func(packet []byte) []byte // makes what is written of the first; nil when that is over

	mu      sync.Mutex
	pending []byte // not written yet
	spare   []byte
	writing bool
	err     error
	changed sync.Cond // pending has become less, or nobody writes
}

func newLump(c net.Conn) *lump {
	l := &lump{Conn: c, in: bufio.NewReaderSize(c, 64<<10), first: func(packet []byte) []byte { return willFor(packet, announcedFor) }}
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
	if l.first != nil && len(l.pending) > 0 {
		l.pending, l.first = l.first(l.pending), nil
	}
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

// willFor has the last will of a CONNECT expire after so many seconds, which package paho takes and does not write. A packet with any property of the will is left as it is.
func willFor(connect []byte, seconds uint32) []byte {
	// varint is a length of MQTT's, and what is behind it.
	varint := func(b []byte) (n int, rest []byte) {
		for shift := 0; len(b) > 0 && shift < 28; shift += 7 {
			digit := b[0]
			n |= int(digit&0x7f) << shift
			if b = b[1:]; digit < 0x80 {
				return n, b
			}
		}
		return -1, nil
	}
	const willFlag, headed = 0x04, 2 + len("MQTT") + 1 + 1 + 2 // name, version, flags, keep-alive
	if len(connect) < 2 || connect[0] != packets.CONNECT<<4 {
		return connect
	}
	length, rest := varint(connect[1:])
	if length != len(rest) || len(rest) < headed || rest[headed-3]&willFlag == 0 {
		return connect
	}
	properties, b := varint(rest[headed:])
	if properties < 0 || len(b) < properties+2 {
		return connect
	}
	b = b[properties:]
	id := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) <= id || b[id] != 0 {
		return connect
	}
	before, after := rest[:len(rest)-len(b)+id], b[id+1:]
	expiry := binary.BigEndian.AppendUint32([]byte{5, packets.PropMessageExpiry}, seconds)
	out := append(make([]byte, 0, len(connect)+8), connect[0])
	for n := length + len(expiry) - 1; ; n >>= 7 {
		if n < 0x80 {
			out = append(out, byte(n))
			break
		}
		out = append(out, byte(n)|0x80)
	}
	return slices.Concat(out, before, expiry, after)
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
