package host

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
)

// faultPatience is how long a worker's end waits for the place of its fault to be found.
const faultPatience = 500 * time.Millisecond

// finding lets one place be found at a time: that there was a fault is the worker's word, and reading has its price.
var finding = make(chan struct{}, 1)

// where says in words where the worker's fault was, or nothing, also when that is not found in time, and whether that is the plug-in's
// code. base is what is added to the library's own addresses. f is the worker's word, so none of its text is: the names are those of the
// library's file.
func (s *seat) where(f lane.FaultReport, base uint64, ended os.Signal) (text string, inside bool) {
	if signal, ok := ended.(syscall.Signal); !ok || uint32(signal) != f.Signal {
		return "", false
	}
	t := time.NewTimer(faultPatience)
	defer t.Stop()
	select {
	case finding <- struct{}{}:
	case <-t.C:
		return "", false
	}
	type place struct {
		name   string
		inside bool
	}
	found := make(chan place, 1)
	go func() {
		defer func() { <-finding }()
		name, inside := s.plugin.locate(s.plugin, f.PC, base)
		found <- place{name, inside}
	}()
	var at place
	select {
	case at = <-found:
	case <-t.C: // a file that is too large for a copy may lie where reading takes for ever
		return "", false
	}
	// A stack ends in a page that nobody may touch, near to which the stack pointer is then.
	const near = 64 << 10
	kind := ""
	if ended == syscall.SIGSEGV && f.Address-f.SP+near < 2*near {
		kind = "stack overflow, "
	}
	address := ""
	if f.Address != f.PC { // of an instruction that is not one, it is the instruction's
		address = fmt.Sprintf("at the address %#x, ", f.Address)
	}
	return kind + address + "in " + at.name, at.inside
}

// place names the instruction at pc: by the function and the library's file, where it is in that. It reads what the workers
// load, whatever is at the path by now.
func (p *Plugin) place(pc, base uint64) (name string, inside bool) {
	unknown := fmt.Sprintf("the code at %#x", pc)
	if base == 0 || !p.useFile() {
		return unknown, false
	}
	defer p.dropFile()
	if p.file.Check() != nil { // it is too large for a copy, and was overwritten
		return unknown, false
	}
	file, ok := newSymbols(p.file)
	if !ok {
		return unknown, false
	}
	offset := pc - base
	if !file.runs(offset) {
		return fmt.Sprintf("code outside of the plug-in's file (%#x)", pc), false
	}
	name = fmt.Sprintf("%s+%#x", filepath.Base(p.path), offset)
	if function, start, ok := file.function(offset); ok {
		return fmt.Sprintf("%q+%#x (%s)", function, offset-start, name), true
	}
	return name, true
}

// useFile keeps the library's file open until dropFile, and reports whether it still is. The engine itself is the first
// that uses it.
func (p *Plugin) useFile() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil || p.fileClosed {
		return false
	}
	p.fileUses++
	return true
}

func (p *Plugin) dropFile() {
	p.mu.Lock()
	p.fileUses--
	last := p.fileClosed && p.fileUses == 0
	p.mu.Unlock()
	if last {
		p.file.Release()
	}
}

// closeFile ends the engine's own use.
func (p *Plugin) closeFile() {
	if p.useFile() {
		p.mu.Lock()
		p.fileClosed = true
		p.mu.Unlock()
		p.dropFile()
	}
}
