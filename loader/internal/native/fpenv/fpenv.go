// Package fpenv keeps the floating-point control of a thread: rounding, traps, and whether subnormal numbers are zero. Go
// code relies on the control that its threads start with, and a library's constructor may leave another one: what gcc links
// in for -ffast-math does.
//
// On amd64 that is MXCSR and the x87 control word, on arm64 FPCR. Elsewhere nothing is kept.
package fpenv

// Control is a thread's floating-point control.
type Control struct {
	mxcsr uint32
	x87   uint16
	fpcr  uint64
}

// Get returns the control of the thread that the goroutine is on. The goroutine stays on it, by runtime.LockOSThread,
// until Set has put it back.
func Get() (c Control) {
	get(&c)
	c.mxcsr &^= flags
	return c
}

// flags are the bits of MXCSR that say what has happened. They are no control.
const flags = 0x3f

// Set puts back what Get has returned on this thread, where it is another one by now.
func (c *Control) Set() {
	if Get() != *c {
		set(c)
	}
}
