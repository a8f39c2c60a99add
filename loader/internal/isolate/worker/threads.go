package worker

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// admitThreads lets the threads that a plug-in starts use its host's services, and reports whether it could.
//
// The Go runtime makes calls from threads that are not its own wait until every init function of the program is over: until
// runtime.main closes a channel. A worker never leaves its init function, because the program's main function must not
// run, so those threads would wait for ever. There is no official way to tell the runtime; so this closes the channel in
// its place. Where it is stands in the instruction before runtime.main's call of runtime.closechan. Whatever is not as
// it is known to be is left alone; then the plug-in's own threads wait. Nothing else than such calls looks at the
// channel, and they find the packages that they need initialised.
func admitThreads() bool {
	at := initsDone()
	if at == 0 {
		return false
	}
	// Sound because the runtime's variable, not this copy, is what keeps the channel.
	done := *(*chan bool)(unsafe.Pointer(unsafe.SliceData(raw.Bytes(at, int(unsafe.Sizeof(at))))))
	if done == nil || cap(done) != 0 {
		return false
	}
	select {
	case <-done: // closed already
	default:
		close(done)
	}
	return true
}

// initsDone returns the address of the variable with the channel, or 0.
func initsDone() uintptr {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs[:])])
	for {
		frame, more := frames.Next()
		if frame.Function == "runtime.main" {
			// What comes behind the init functions is code of the same function.
			for pc := frame.PC; pc < frame.PC+2048; pc++ {
				if f := runtime.FuncForPC(pc + maxLength); f == nil || f.Entry() != frame.Entry {
					return 0
				}
				if target, variable := closes(pc); target != 0 {
					if f := runtime.FuncForPC(target); f != nil && f.Entry() == target && f.Name() == "runtime.closechan" {
						return variable
					}
				}
			}
		}
		if !more {
			return 0
		}
	}
}

// maxLength is the length, in bytes, of the instructions that closes looks at.
const maxLength = 12

// closes reads the code at pc. Where it loads a variable into the first register for arguments, and calls a function, it
// returns the addresses of both.
func closes(pc uintptr) (function, variable uintptr) {
	code := raw.Bytes(pc, maxLength)
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(code[i:]) }
	// extended is the number in the lowest bits of v, with its sign.
	extended := func(v uint32, bits int) uintptr { return uintptr(int64(int32(v<<(32-bits)) >> (32 - bits))) }
	switch runtime.GOARCH {
	case "amd64": // MOVQ variable(IP), AX; CALL function
		if code[0] == 0x48 && code[1] == 0x8b && code[2] == 0x05 && code[7] == 0xe8 {
			return pc + 12 + extended(word(8), 32), pc + 7 + extended(word(3), 32)
		}
	case "arm64": // ADRP page, Rn; MOVD offset(Rn), R0; BL function
		adrp, ldr, bl := word(0), word(4), word(8)
		known := adrp&0x9f000000 == 0x90000000 && ldr&0xffc0001f == 0xf9400000 && bl>>26 == 0b100101
		if known && pc%4 == 0 && ldr>>5&31 == adrp&31 {
			page := pc&^0xfff + extended(adrp>>5&0x7ffff<<2|adrp>>29&3, 21)<<12
			return pc + 8 + extended(bl, 26)<<2, page + uintptr(ldr>>10&0xfff)<<3
		}
	}
	return 0, 0
}
