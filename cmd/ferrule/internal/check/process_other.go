//go:build !linux

package check

import (
	"errors"
	"runtime"
	"time"
)

const notHere = "not looked at on this system"

func resident() (int, bool)           { return 0, false }
func residentOf(int) (int, bool)      { return 0, false }
func threads() (int, bool)            { return 0, false }
func thread() int                     { return 0 }
func waited(int) time.Duration        { return 0 }
func childless()                      {} // nothing is said of what is left
func stackBottom() uintptr            { return 0 }
func signalHandlers() (facts, string) { return nil, notHere }
func signalMask() (facts, string)     { return nil, notHere }
func locale() (facts, string)         { return nil, notHere }
func floatingPoint() (facts, string)  { return nil, notHere }
func umask() (facts, string)          { return nil, notHere }
func limits() (facts, string)         { return nil, notHere }
func environment() (facts, string)    { return nil, notHere }
func streams() (facts, string)        { return nil, notHere }

type (
	handler   struct{}
	hostChild struct{}
)

func childHandler() (*handler, string) { return nil, notHere }
func (*handler) restore()              {}
func (*handler) ignores() bool         { return false }

func (*kit) newChild() (*hostChild, error) { return nil, errors.New(notHere) }
func (*hostChild) taken() bool             { return false }

func elsewhereAndBack(there func(), until chan struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	there()
	<-until
}
