package host

import (
	"os"

	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// outfit is what the host has of a worker's process beside itself, and what of that is the worker's.
type outfit struct {
	output, alive *os.File    // the host's: the end that its output is read from, and the one that tells that the host is there
	inner         [2]*os.File // the other ends
	null          *os.File    // what it reads from; it is everybody's
}

func newOutfit() (f *outfit, err error) {
	f = new(outfit)
	if f.output, f.inner[0], err = os.Pipe(); err == nil {
		f.inner[1], f.alive, err = os.Pipe()
	}
	if err == nil {
		f.null, err = process.Null()
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// started is called when the process has its own.
func (f *outfit) started(output *process.Tail) {
	f.inner[0].Close()
	f.inner[1].Close()
	output.Read(f.output)
}

// close is called when there is no process.
func (f *outfit) close() {
	for _, file := range []*os.File{f.output, f.alive, f.inner[0], f.inner[1]} {
		if file != nil {
			file.Close()
		}
	}
}
