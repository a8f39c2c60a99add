//go:build !ferrule_portable && (linux || darwin) && (amd64 || arm64)

package hostcall

import (
	_ "github.com/ebitengine/purego" // with cgo off, it is what brings crosscall2

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
)

// arrival is one use of a service, on the stack of the thread that native code runs on. The assembly fills it, and
// takes the result from it.
type arrival struct {
	args    [6]uintptr // what the C ABI passes in registers; those that the service does not have are undefined
	service uintptr
	result  uintptr
}

// What arrival.service is. The assembly takes the numbers from here.
const (
	serviceCall = iota
	serviceLog
	serviceLogFields
	serviceInfo
	serviceRoom
	serviceRead
	serviceWrite
	serviceNext
	serviceBackground
	serviceCount
)

// What the guard in the assembly goes by.
const (
	//lint:ignore U1000 the assembly reads it
	gMark = cross.GMark
	//lint:ignore U1000 the assembly reads it
	misuse = abi.StatusMisuse
)

// entry has the addresses of the services, which are C functions in assembly.
var entry [serviceCount]uintptr

func entries() abi.Host {
	return abi.Host{
		Call:       entry[serviceCall],
		Log:        entry[serviceLog],
		LogFields:  entry[serviceLogFields],
		Info:       entry[serviceInfo],
		Room:       entry[serviceRoom],
		Read:       entry[serviceRead],
		Write:      entry[serviceWrite],
		Next:       entry[serviceNext],
		Background: entry[serviceBackground],
	}
}

// arrive is where crosscall2 leads. It is a variable because the address that crosscall2 wants is that of the function
// itself, which assembly finds behind a function's value; a reference by name would be to the wrapper that the compiler
// makes for assembly.
//
//lint:ignore U1000 the assembly reads it
var arrive = serve

// serve runs on the goroutine that has entered native code, or on one that the runtime makes for the plug-in's own
// thread. Sound because a is on that thread's stack, which nobody moves, until serve is back.
func serve(a *arrival) {
	switch a.service {
	case serviceCall:
		a.result = result(services.Call(a.args[0], a.args[1]))
	case serviceLog:
		a.result = result(services.Log(a.args[0], uint32(a.args[1]), a.args[2], a.args[3]))
	case serviceLogFields:
		a.result = result(services.LogFields(a.args[0], uint32(a.args[1]), a.args[2], a.args[3], a.args[4], a.args[5]))
	case serviceInfo:
		a.result = result(services.Info(a.args[0], a.args[1]))
	case serviceRoom:
		a.result = result(services.Room(a.args[0], a.args[1]))
	case serviceRead:
		a.result = result(services.Read(a.args[0], a.args[1], a.args[2]))
	case serviceWrite:
		a.result = result(services.Write(a.args[0], a.args[1], a.args[2]))
	case serviceNext:
		a.result = result(services.Next(a.args[0], a.args[1]))
	case serviceBackground:
		a.result = services.Background(a.args[0])
	}
}
