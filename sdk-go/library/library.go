//go:build cgo && !wasip1

// Package library runs a plug-in as a shared library, built with -buildmode=c-shared. The Go code that `ferrule gen` writes exports the functions of ferrule.h, and
// each of them calls one of this package's. The library has a Go runtime of its own, so a host in Go runs it in a worker process alone.
package library

/*
#include <stdlib.h>
#include <string.h>
#include "ferrule.h"

typedef struct { size_t n; int32_t status; uint32_t kept; } answer;
typedef struct { const uint8_t *piece; size_t n; int32_t status; } piece;

static answer ask(int32_t service, ferrule_call *call, uint32_t ordinal, const uint8_t *in, size_t in_len, uint8_t *out,
                  size_t out_cap, uint32_t kept) {
    ferrule_request request;
    answer a = {0, FERRULE_UNSUPPORTED, 0};
    memset(&request, 0, sizeof request);
    request.size = sizeof request;
    request.in = in;
    request.in_len = in_len;
    request.out = out;
    request.out_cap = out_cap;
    request.ordinal = ordinal;
    request.kept = kept;
    if (service == 0) a.status = call->host->call(call, &request);
    else if (service == 1 && FERRULE_HAS(call->host, info)) a.status = call->host->info(call, &request);
    else if (service == 2 && FERRULE_HAS(call->host, next)) a.status = call->host->next(call, &request);
    a.n = request.out_len;
    a.kept = request.kept;
    return a;
}

static void log_line(ferrule_call *call, uint32_t level, const char *text, size_t n, const char *fields, size_t fields_len) {
    if (fields_len && FERRULE_HAS(call->host, log_fields)) call->host->log_fields(call, level, text, n, fields, fields_len);
    else call->host->log(call, level, text, n);
}

static piece next_piece(ferrule_call *call) {
    piece p = {NULL, 0, FERRULE_UNSUPPORTED};
    if (FERRULE_HAS(call->host, read)) p.status = call->host->read(call, &p.piece, &p.n);
    return p;
}

static int32_t write_piece(ferrule_call *call, const uint8_t *piece, size_t n) {
    return FERRULE_HAS(call->host, write) ? call->host->write(call, piece, n) : FERRULE_UNSUPPORTED;
}

static ferrule_call *background(ferrule_call *call) {
    return FERRULE_HAS(call->host, background) ? call->host->background(call) : NULL;
}

static void set_progress(ferrule_call *call, uint64_t done, uint64_t total) { ferrule_set_progress(call, done, total); }

static void free_out(ferrule_call *call) { free(call->out); }

// The room of a long result: the host's, or, of one that has none, memory of the library's own, which release gives back.
static int long_room(ferrule_call *call, size_t n) {
    uint8_t *own;
    if (FERRULE_HAS(call->host, room) && call->host->room(call, n) == FERRULE_OK) return 1;
    own = malloc(n);
    if (!own) return 0;
    call->out = own;
    call->release = free_out;
    return 1;
}

static const uint32_t *cancel_word(ferrule_call *call) { return FERRULE_HAS(call, cancel) ? call->cancel : NULL; }
*/
import "C"

import (
	"sync/atomic"
	"unsafe"

	"github.com/ferrule-dev/ferrule/sdk-go/internal/frame"
	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// Call runs the function, or the hook, with this number (plugin.Plugin.Function) for the frame of a call, a ferrule_call, and returns its status. It is
// called by a function that the library exports, on the host's thread.
func Call(p *plugin.Plugin, n int, call unsafe.Pointer) int32 { return frame.Call(p, n, of(call)) }

// Start is ferrule_start, as Call is a function.
func Start(p *plugin.Plugin, call unsafe.Pointer) int32 { return frame.Start(p, of(call)) }

// Stop is ferrule_stop. A library that exports ferrule_start exports it.
func Stop(p *plugin.Plugin, call unsafe.Pointer) int32 { return frame.Stop(p, of(call)) }

// Configure is ferrule_configure.
func Configure(p *plugin.Plugin, call unsafe.Pointer) int32 { return frame.Configure(p, of(call)) }

// Save is ferrule_save.
func Save(p *plugin.Plugin, call unsafe.Pointer) int32 { return frame.Save(p, of(call)) }

// Resume is ferrule_resume.
func Resume(p *plugin.Plugin, call unsafe.Pointer) int32 { return frame.Resume(p, of(call)) }

// inC is a frame in the host's memory. It is valid until the exported function returns (R6), and package frame does not use it after that. What Go has in its own memory
// is handed to C for as long as one service runs, and no service keeps any of it (ferrule.h says so of each).
type inC C.ferrule_call

func of(call unsafe.Pointer) *inC { return (*inC)(call) }

func (f *inC) c() *C.ferrule_call { return (*C.ferrule_call)(f) }

func (f *inC) State() uintptr { return uintptr(f.state) }

// SetState stores a number where the contract has a pointer: the host hands it back, and looks at nothing behind it (R15).
func (f *inC) SetState(n uintptr) { *(*uintptr)(unsafe.Pointer(&f.state)) = n }

func (f *inC) Input() []byte { return unsafe.Slice((*byte)(f.in), int(f.in_len)) }

func (f *inC) Reply(out []byte) bool {
	if C.size_t(len(out)) > f.out_cap && C.long_room(f.c(), C.size_t(len(out))) == 0 {
		return false
	}
	if len(out) > 0 {
		copy(unsafe.Slice((*byte)(f.out), len(out)), out)
	}
	f.out_len = C.size_t(len(out))
	return true
}

func (f *inC) Cancelled() bool {
	word := C.cancel_word(f.c())
	return word != nil && atomic.LoadUint32((*uint32)(word)) != 0
}

func (f *inC) Progress(done, total uint64) {
	C.set_progress(f.c(), C.uint64_t(done), C.uint64_t(total))
}

func (f *inC) Ask(s frame.Service, ordinal uint32, in, room []byte, kept uint32) (int, int32, uint32) {
	a := C.ask(C.int32_t(s), f.c(), C.uint32_t(ordinal), (*C.uint8_t)(unsafe.SliceData(in)), C.size_t(len(in)),
		(*C.uint8_t)(unsafe.SliceData(room)), C.size_t(len(room)), C.uint32_t(kept))
	return int(a.n), int32(a.status), uint32(a.kept)
}

func (f *inC) Log(level int32, text string, fields []byte) {
	C.log_line(f.c(), C.uint32_t(level), (*C.char)(unsafe.Pointer(unsafe.StringData(text))), C.size_t(len(text)),
		(*C.char)(unsafe.Pointer(unsafe.SliceData(fields))), C.size_t(len(fields)))
}

func (f *inC) Piece() ([]byte, int32) {
	p := C.next_piece(f.c())
	if p.status != 0 || p.n == 0 {
		return nil, int32(p.status)
	}
	return unsafe.Slice((*byte)(p.piece), int(p.n)), 0
}

func (f *inC) Write(piece []byte) int32 {
	return int32(C.write_piece(f.c(), (*C.uint8_t)(unsafe.SliceData(piece)), C.size_t(len(piece))))
}

func (f *inC) Background() frame.Frame {
	if b := C.background(f.c()); b != nil {
		return (*inC)(b)
	}
	return nil
}
