package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/install"
)

// transfers shows how far files are: on a terminal a bar for each, several at once, with how much has come, how fast, and how long it will take;
// elsewhere a line for each file that has come. What else is written while it shows goes through it. Its methods may be called from any goroutine.
type transfers struct {
	w    io.Writer
	bars *mpb.Progress // nil: lines
	mu   sync.Mutex
	all  map[string]*transfer
}

// transfer is one file.
type transfer struct {
	bar   *mpb.Bar // nil without bars
	begun bool     // some of it has come over the network in this run
	ended bool
	total int64
	last  time.Time // when some of it has come
}

// startTransfers begins to show. silent is for --json, where nothing is shown.
func (a *app) startTransfers() *transfers {
	t := &transfers{w: a.err, all: map[string]*transfer{}}
	switch {
	case a.json:
		t.w = io.Discard
	case draws(a.err):
		t.bars = mpb.New(mpb.WithOutput(a.err), mpb.WithWidth(64), mpb.WithRefreshRate(step))
	}
	return t
}

// tell is install.Options.Progress.
func (t *transfers) tell(p install.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := p.Plugin + "\x00" + p.Version + "\x00" + p.Platform
	f := t.all[key]
	if f == nil {
		f = &transfer{}
		t.all[key] = f
	}
	switch {
	case f.ended:
	case p.Stage == install.StageFetch:
		t.fetched(f, p)
	case p.Stage == install.StageDone:
		t.end(f, p)
	}
}

// fetched shows how much of a file has come. The caller holds t.mu.
func (t *transfers) fetched(f *transfer, p install.Progress) {
	f.begun, f.total = true, p.Bytes
	if t.bars == nil {
		return
	}
	now := time.Now()
	if f.bar == nil {
		f.bar = t.bar(p)
		f.bar.SetCurrent(p.Bytes) // what was there before is no measure of the speed
	} else {
		f.bar.EwmaSetCurrent(p.Bytes, now.Sub(f.last))
	}
	f.last = now
	if p.Total >= 0 {
		f.bar.SetTotal(p.Total, false)
	}
}

// draws reports whether w is a terminal that a bar can be drawn on.
func draws(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && isTerminal(f.Fd()) && escapes(f.Fd())
}

// bar makes the bar of a file.
func (t *transfers) bar(p install.Progress) *mpb.Bar {
	name := fmt.Sprintf("%s %s", escape.Line(p.Plugin), escape.Line(p.Version))
	if runes := []rune(name); len(runes) > longName {
		name = string(runes[:longName-1]) + "…"
	}
	return t.bars.AddBar(max(p.Total, 0),
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(
			decor.OnComplete(decor.Counters(decor.SizeB1024(0), "% .1f / % .1f", decor.WCSyncSpace), "done"),
			decor.OnComplete(decor.EwmaSpeed(decor.SizeB1024(0), "% .1f", 30, decor.WCSyncSpace), ""),
			decor.OnComplete(decor.EwmaETA(decor.ET_STYLE_GO, 30, decor.WCSyncSpace), "")))
}

// end is that a file is there, and all that was looked at is right. The caller holds t.mu.
func (t *transfers) end(f *transfer, p install.Progress) {
	f.ended = true
	switch {
	case f.bar != nil:
		f.bar.SetTotal(-1, true) // what has come is all
	case f.begun && t.bars == nil:
		fmt.Fprintf(t.w, "%s %s: %s downloaded (%s)\n", escape.Line(p.Plugin), escape.Line(p.Version), amountText(f.total), escape.Line(p.Platform))
	}
}

// stop takes away what has not come to its end, and shows no more.
func (t *transfers) stop() {
	t.mu.Lock()
	for _, f := range t.all {
		if f.bar != nil && !f.ended {
			f.bar.Abort(true)
		}
	}
	t.mu.Unlock()
	if t.bars != nil {
		t.bars.Wait()
	}
}
