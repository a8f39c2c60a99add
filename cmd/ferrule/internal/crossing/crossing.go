// Package crossing makes the smallest call into native code that there is, by the way in that package loader uses on this
// platform: a function of the system's that does next to nothing. It is what a plug-in's calls are compared with.
package crossing

import "unsafe"

// Bare returns a function that crosses once. It may be called from any goroutine at the same time.
func Bare() (cross func(), err error) {
	fn, err := function()
	if err != nil {
		return nil, err
	}
	arg := unsafe.Pointer(new(uint64)) // on the heap: it is kept by the function returned
	return func() { enter(fn, arg) }, nil
}
