package check

import (
	"fmt"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// flowing is how the streams of a call go.
type flowing struct {
	words  string
	piece  int  // how long a piece of the input is
	size   int  // how long all of them are
	broken bool // the input breaks off
	open   bool // it neither ends nor breaks off: the call is cancelled
	more   uint64
	most   int // so much output is taken; then nobody takes any
}

var flows = []flowing{
	{words: ", whose pieces have one byte", piece: 1, size: 100, more: 1 << 10, most: 1 << 20},
	{words: ", whose input ends at once", more: 1 << 10, most: 1 << 20},
	{words: ", whose input has 300,000 bytes", piece: 7001, size: 300_000, more: 10_000, most: 1 << 20},
	{words: ", whose pieces are as long as the window", piece: wire.Window, size: 4 * wire.Window, more: wire.Window, most: 1 << 20},
	{words: ", whose input breaks off", piece: 100, size: 1000, broken: true, more: 1 << 10, most: 1 << 20},
	{words: ", whose input breaks off at once", broken: true, more: 1 << 10, most: 1 << 20},
	{words: ", whose output nobody takes", piece: 100, size: 1000, more: 1 << 10},
	{words: ", whose output nobody takes after 100,000 bytes", piece: 7001, size: 300_000, more: 1 << 10, most: 100_000},
	{words: ", whose input stops, cancelled", piece: 100, size: 1000, open: true, more: 1 << 10, most: 1 << 20},
}

func (k *probe) checkSidecarStreams() {
	any := false
	for _, f := range k.called(false) {
		any = any || f.stream != 0
	}
	if !any {
		k.skip("no function says stream")
		return
	}
	k.expect("W15", "an answer, whatever the streams do", "Read the input until it ends or breaks off, ask for more as it is used, and wait for MORE before more is put out")
	for _, o := range flows {
		k.each(k.called(false), func(p *peer, f function) {
			if f.stream == 0 || o.broken && f.stream&abi.StreamIn == 0 || o.most == 0 && f.stream&abi.StreamOut == 0 {
				return
			}
			inputs := []input{{"no input", nil}}
			if f.stream&abi.StreamOut != 0 { // what to put out may be a number, or a text
				inputs = append(inputs, input{"the number 3", []byte("3")}, k.samples(f)[2])
			}
			if own, ok := k.options.Inputs[f.label]; ok {
				inputs = append(inputs, input{"the input of --in", own})
			}
			for _, in := range inputs {
				if p.spent() || k.late() {
					return
				}
				if !p.flow(f, in, o) {
					return
				}
			}
		})
	}
}

// flow makes a call with streams. It reports whether the session goes on.
func (p *peer) flow(f function, in input, o flowing) bool {
	k := p.k
	a := p.begin(f, in, calling{streams: f.stream, how: o.words})
	a.stops = o.open
	ended := f.stream&abi.StreamIn == 0
	piece := k.bytes(o.piece)
	took := uint64(0)
	for !a.answer && !p.over {
		for !ended && a.sent < uint64(o.size) {
			n := min(uint64(o.piece), uint64(o.size)-a.sent)
			if n > a.asked-a.sent {
				break
			}
			p.send(wire.Message{Verb: wire.Part, ID: a.id}, piece[:n])
			a.sent += n
		}
		if !ended && a.sent == uint64(o.size) {
			ended = true
			switch {
			case o.open:
				p.pump(k.soon(20*time.Millisecond), func() bool { return a.answer })
				p.cancel(a)
			default:
				p.send(wire.Message{Verb: wire.Part, ID: a.id, Broken: o.broken}, nil)
			}
		}
		if a.streams&abi.StreamOut != 0 && !a.refused {
			switch {
			case o.most == 0 || took+wire.Window-a.granted > uint64(o.most):
				p.send(wire.Message{Verb: wire.More, ID: a.id}, nil)
				a.refused = true
			case a.granted < wire.Window/2: // it goes on once more was asked for, and not before
				a.granted += o.more
				took += o.more
				p.send(wire.Message{Verb: wire.More, ID: a.id, N: o.more}, nil)
			}
		}
		granted, asked, pieces, answered := a.granted, a.asked, a.pieces, a.answer
		moved := func() bool {
			return a.granted != granted || a.asked != asked || a.pieces != pieces || a.answer != answered
		}
		stalled := !ended && a.sent < uint64(o.size)
		patience := k.budget()
		if stalled || a.refused { // more than a note comes of it
			patience += k.patience()
		}
		if p.pump(k.soon(patience), moved) || p.over {
			continue
		}
		if k.ctx.Err() != nil {
			return false
		}
		p.cancel(a)
		if !p.pump(k.soon(k.patience()), func() bool { return a.answer }) {
			break
		}
		switch {
		case stalled:
			p.broke("W15", f.label, "MORE, as what came was used, or an answer", "Ask for as many bytes as were used, before the 65,536 that may be under way are used up",
				"%s: %s were sent, and no more was asked for", a.what, plural(int(a.sent), "byte"))
		case a.refused:
			p.broke("W15", f.label, "an answer, when nobody takes the output", "Take MORE 0 for the end of the output: stop, or go on without sending", "%s: no answer until it was cancelled", a.what)
		default:
			k.slow[f.label] = true
			k.note("%s runs until it is cancelled: most cases leave it out", f.label)
		}
		return !p.spent()
	}
	if !a.answer {
		p.lost(a)
		return false
	}
	if o.broken && a.status == abi.StatusOK {
		k.add(Warning, "W15", f.label, fmt.Sprintf("%s: success, although the input stream broke off", a.what), "a failure", "Fail where a PART has the field Status: the input is not whole")
	}
	if p.spent() {
		return false
	}
	// Of a call that is over these mean nothing.
	p.send(wire.Message{Verb: wire.Part, ID: a.id}, []byte("late"))
	p.send(wire.Message{Verb: wire.More, ID: a.id, N: 100}, nil)
	return p.works(", behind PART and MORE of a call that is over")
}
