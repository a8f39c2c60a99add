//go:build !cgo && (ferrule_portable || !((linux || darwin) && (amd64 || arm64)))

package hostcall

import (
	"github.com/ebitengine/purego"

	"github.com/ferrule-dev/ferrule/abi"
)

// entries makes the callbacks. Arguments are machine words, which every platform's callbacks take; what is shorter
// in C is cut to its width, because the rest of a register is undefined.
func entries() abi.Host {
	two := func(service *func(frame, a uintptr) abi.Status) uintptr {
		return purego.NewCallback(func(call, a uintptr) uintptr { return result((*service)(call, a)) })
	}
	three := func(service *func(frame, a, b uintptr) abi.Status) uintptr {
		return purego.NewCallback(func(call, a, b uintptr) uintptr { return result((*service)(call, a, b)) })
	}
	return abi.Host{
		Call: two(&services.Call),
		Log: purego.NewCallback(func(call, level, text, textLen uintptr) uintptr {
			return result(services.Log(call, uint32(level), text, textLen))
		}),
		LogFields: purego.NewCallback(func(call, level, text, textLen, fields, fieldsLen uintptr) uintptr {
			return result(services.LogFields(call, uint32(level), text, textLen, fields, fieldsLen))
		}),
		Info:       two(&services.Info),
		Room:       two(&services.Room),
		Read:       three(&services.Read),
		Write:      three(&services.Write),
		Next:       two(&services.Next),
		Background: purego.NewCallback(func(call uintptr) uintptr { return services.Background(call) }),
	}
}
