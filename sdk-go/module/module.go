//go:build wasip1

// Package module runs a plug-in as a WebAssembly module, built with GOOS=wasip1 GOARCH=wasm -buildmode=c-shared. The Go code that `ferrule gen` writes exports the
// functions of ferrule.h (chapter WEBASSEMBLY), and each of them calls one of this package's.
package module

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/ferrule-dev/ferrule/sdk-go/internal/frame"
	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// Call runs the function, or the hook, with this number (plugin.Plugin.Function) for the frame of a call, a ferrule_call, and returns its status. It is
// called by a function that the module exports.
func Call(p *plugin.Plugin, n int, call unsafe.Pointer) int32 { return frame.Call(p, n, of(call)) }

// Start is ferrule_start, as Call is a function.
func Start(p *plugin.Plugin, call unsafe.Pointer) int32 { return frame.Start(p, of(call)) }

// Stop is ferrule_stop. A module that exports ferrule_start exports it.
func Stop(p *plugin.Plugin, call unsafe.Pointer) int32 { return frame.Stop(p, of(call)) }

// Configure is ferrule_configure.
func Configure(p *plugin.Plugin, call unsafe.Pointer) int32 { return frame.Configure(p, of(call)) }

// Save is ferrule_save.
func Save(p *plugin.Plugin, call unsafe.Pointer) int32 { return frame.Save(p, of(call)) }

// Resume is ferrule_resume.
func Resume(p *plugin.Plugin, call unsafe.Pointer) int32 { return frame.Resume(p, of(call)) }

// word is size_t, and a pointer, of the contract for wasm32: an address in the module's memory, which is all of the program's.
type word = uint32

// callFrame is struct ferrule_call.
type callFrame struct {
	size, state, in, inLen, out, outLen, outCap, release, host, cancel, progress word
}

// request is struct ferrule_request.
type request struct {
	size, in, inLen, out, outLen, outCap word
	ordinal, kept                        uint32
}

// They are as long as the contract has them for wasm32: abi/layout.golden.
var (
	_ [44]byte = [unsafe.Sizeof(callFrame{})]byte{}
	_ [32]byte = [unsafe.Sizeof(request{})]byte{}
)

// at is where an address points to: to the host's blocks, which blocks keeps, or to what the caller keeps alive. Go's collector moves nothing.
func at(address word) unsafe.Pointer { return unsafe.Add(nil, address) }

// addressOf is the address of what p points to, which has to be kept alive as long as anybody uses it.
func addressOf(p unsafe.Pointer) word { return word(uintptr(p)) }

// inMemory is a frame in the memory of the module. It is valid until the exported function returns, and package frame does not use it after that.
type inMemory callFrame

func of(call unsafe.Pointer) *inMemory { return (*inMemory)(call) }

func (f *inMemory) State() uintptr { return uintptr(f.state) }

func (f *inMemory) SetState(n uintptr) { f.state = word(n) }

func (f *inMemory) Input() []byte { return unsafe.Slice((*byte)(at(f.in)), f.inLen) }

// Reply asks the host for more room where the result is longer: a function of Go's is none that the host could call by its address, so there is no release.
func (f *inMemory) Reply(out []byte) bool {
	n := word(len(out))
	if uint64(len(out)) > 1<<31 || n > f.outCap && room(unsafe.Pointer(f), n) != 0 {
		return false
	}
	copy(unsafe.Slice((*byte)(at(f.out)), n), out)
	f.outLen = n
	return true
}

func (f *inMemory) Cancelled() bool {
	return f.cancel != 0 && atomic.LoadUint32((*uint32)(at(f.cancel))) != 0
}

func (f *inMemory) Progress(done, total uint64) {
	if f.progress != 0 {
		*(*[2]uint64)(at(f.progress)) = [2]uint64{done, total}
	}
}

func (f *inMemory) Ask(s frame.Service, ordinal uint32, in, out []byte, kept uint32) (int, int32, uint32) {
	r := &request{size: word(unsafe.Sizeof(request{})), in: addressOf(unsafe.Pointer(unsafe.SliceData(in))), inLen: word(len(in)),
		out: addressOf(unsafe.Pointer(unsafe.SliceData(out))), outCap: word(len(out)), ordinal: ordinal, kept: kept}
	serve := call
	switch s {
	case frame.Info:
		serve = info
	case frame.Next:
		serve = next
	}
	onHeap(in)
	onHeap(out)
	status := serve(unsafe.Pointer(f), unsafe.Pointer(r))
	runtime.KeepAlive(in)
	runtime.KeepAlive(out)
	return int(r.outLen), status, r.kept
}

// onHeap has the compiler place b where it stays: a stack moves when it grows, and an address that is only a number does not follow.
func onHeap(b []byte) {
	if nowhere != nil {
		*nowhere = b
	}
}

var nowhere *[]byte

func (f *inMemory) Log(level int32, text string, fields []byte) {
	if len(fields) == 0 {
		logLine(unsafe.Pointer(f), uint32(level), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
		return
	}
	logFields(unsafe.Pointer(f), uint32(level), unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)), unsafe.Pointer(unsafe.SliceData(fields)), uint32(len(fields)))
}

func (f *inMemory) Piece() ([]byte, int32) {
	p := &struct{ piece, n word }{}
	status := read(unsafe.Pointer(f), unsafe.Pointer(&p.piece), unsafe.Pointer(&p.n))
	if status != 0 || p.n == 0 {
		return nil, status
	}
	return unsafe.Slice((*byte)(at(p.piece)), p.n), 0
}

func (f *inMemory) Write(piece []byte) int32 {
	return write(unsafe.Pointer(f), unsafe.Pointer(unsafe.SliceData(piece)), uint32(len(piece)))
}

// Background is nil: a module has no threads that could do something between calls (R27).
func (f *inMemory) Background() frame.Frame { return nil }

// The host's services, which are imports. Each of them may call alloc, but none keeps an address.

//go:wasmimport ferrule call
func call(frame, request unsafe.Pointer) int32

//go:wasmimport ferrule info
func info(frame, request unsafe.Pointer) int32

//go:wasmimport ferrule next
func next(frame, request unsafe.Pointer) int32

//go:wasmimport ferrule log
func logLine(frame unsafe.Pointer, level uint32, text unsafe.Pointer, n uint32) int32

//go:wasmimport ferrule log_fields
func logFields(frame unsafe.Pointer, level uint32, text unsafe.Pointer, n uint32, fields unsafe.Pointer, fieldsLen uint32) int32

//go:wasmimport ferrule room
func room(frame unsafe.Pointer, n uint32) int32

//go:wasmimport ferrule read
func read(frame, piece, n unsafe.Pointer) int32

//go:wasmimport ferrule write
func write(frame, piece unsafe.Pointer, n uint32) int32

// blocks is the memory that the host has, by its address: kept from the collector until the host gives it back.
var blocks = map[word][]block{}

// block is as much as any of the contract's objects is aligned to.
type block [2]uint64

//go:wasmexport ferrule_alloc
func alloc(n uint32) unsafe.Pointer {
	b := make([]block, max((uint64(n)+15)/16, 1))
	blocks[addressOf(unsafe.Pointer(&b[0]))] = b
	return unsafe.Pointer(&b[0])
}

//go:wasmexport ferrule_free
func free(p unsafe.Pointer) { delete(blocks, addressOf(p)) }
