package install

import (
	"io"
	"sync"
)

// Stage is what is done for a plug-in.
type Stage string

// The stages, in their order.
const (
	StageFetch  Stage = "fetch"  // its file comes
	StageVerify Stage = "verify" // its digest, signature and manifest are looked at
	StageDone   Stage = "done"   // it is in the store, and all that was looked at is right
)

// Progress is how far the installation of one plug-in is.
type Progress struct {
	Plugin, Version, Platform string // what comes
	Stage                     Stage  // what is done for it
	Bytes                     int64  // of the file that are there, with those of an earlier try that is gone on with
	Total                     int64  // of the whole file; -1 where nobody says
}

// progress tells of several fetches, one report at a time.
type progress struct {
	mu   sync.Mutex
	tell func(Progress)
}

func (p *progress) report(now Progress) {
	if p.tell == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell(now)
}

// counted is a file on its way: what is read of it is reported, and reading ends with the context.
type counted struct {
	io.Reader
	to   *progress
	what Progress
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if n > 0 {
		c.what.Bytes += int64(n)
		c.to.report(c.what)
	}
	return n, err
}
