// A plug-in in Go without an SDK, over ferrule.h by cgo: built with -buildmode=c-shared it has a Go runtime of its own,
// so a host in Go runs it isolated only.
package main

/*
#include <stdlib.h>
#include "../../include/ferrule.h"

// Go cannot export data. Other files of the package see this comment, too, so the texts are weak: one of each stays.
#define TEXT(symbol) FERRULE_EXPORT extern const char symbol[]; __attribute__((weak)) const char symbol[]
TEXT(ferrule_manifest) = "ferrule=1\0name=vowels\0version=1.0.0\0threads=concurrent\0";
TEXT(ferrule_meta_fn_count_vowels) = "doc=Counts the vowels of a text.\0";

static void free_out(ferrule_call *call) { free(call->out); }
static void set_release(ferrule_call *call) { call->release = free_out; }
static int cancelled(ferrule_call *call) { return ferrule_cancelled(call); }
*/
import "C"

import (
	"bytes"
	"strconv"
	"unsafe"
)

//export ferrule_fn_count_vowels
func ferrule_fn_count_vowels(call *C.ferrule_call) C.int32_t {
	text := unsafe.Slice((*byte)(call.in), int(call.in_len)) // borrowed until return (R7)
	n := 0
	for len(text) > 0 {
		if C.cancelled(call) != 0 { // R17
			return C.FERRULE_CANCELLED
		}
		part := text[:min(len(text), 1<<16)]
		text = text[len(part):]
		for _, c := range part {
			if bytes.IndexByte([]byte("aeiouAEIOU"), c) >= 0 {
				n++
			}
		}
	}
	return reply(call, strconv.AppendInt(nil, int64(n), 10))
}

// reply replies with a copy (R8): in the host's room where it fits there, else in memory that release gives back (R9).
func reply(call *C.ferrule_call, b []byte) C.int32_t {
	if C.size_t(len(b)) > call.out_cap {
		call.out = (*C.uint8_t)(C.CBytes(b))
		C.set_release(call)
	} else {
		copy(unsafe.Slice((*byte)(call.out), int(call.out_cap)), b)
	}
	call.out_len = C.size_t(len(b))
	return C.FERRULE_OK
}

func main() {}
