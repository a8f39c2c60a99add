// Package c calls the work by cgo, as a Go programmer writes it by hand: a plain C function that takes pointers and
// lengths. Lengths of results are the caller's business, as they are in C.
package c

// #cgo CFLAGS: -O2
// #cgo noescape echo_annotated
// #cgo nocallback echo_annotated
// #cgo noescape count_vowels_annotated
// #cgo nocallback count_vowels_annotated
// #include "work.h"
//
// extern size_t bench_host_echo(uint8_t *in, size_t len, uint8_t *out);
//
// static inline void echo_annotated(const uint8_t *in, size_t len, uint8_t *out) { work_echo(in, len, out); }
// static inline uint64_t count_vowels_annotated(const uint8_t *in, size_t len) { return work_count_vowels(in, len); }
import "C"

import "unsafe"

// Echo copies in to out, which is as long as in.
func Echo(in, out []byte) {
	C.work_echo((*C.uint8_t)(unsafe.SliceData(in)), C.size_t(len(in)), (*C.uint8_t)(unsafe.SliceData(out)))
}

// CountVowels counts the vowels of in.
func CountVowels(in []byte) uint64 {
	return uint64(C.work_count_vowels((*C.uint8_t)(unsafe.SliceData(in)), C.size_t(len(in))))
}

// EchoAnnotated is Echo with #cgo noescape and nocallback.
func EchoAnnotated(in, out []byte) {
	C.echo_annotated((*C.uint8_t)(unsafe.SliceData(in)), C.size_t(len(in)), (*C.uint8_t)(unsafe.SliceData(out)))
}

// CountVowelsAnnotated is CountVowels with #cgo noescape and nocallback.
func CountVowelsAnnotated(in []byte) uint64 {
	return uint64(C.count_vowels_annotated((*C.uint8_t)(unsafe.SliceData(in)), C.size_t(len(in))))
}

// Ask has C call an exported Go function, which copies in to out, and returns how many bytes that wrote.
func Ask(in, out []byte) int {
	return int(C.work_ask((*C.uint8_t)(unsafe.SliceData(in)), C.size_t(len(in)), (*C.uint8_t)(unsafe.SliceData(out)),
		(*C.work_host_echo)(C.bench_host_echo)))
}

//export bench_host_echo
func bench_host_echo(in *C.uint8_t, n C.size_t, out *C.uint8_t) C.size_t {
	return C.size_t(copy(unsafe.Slice((*byte)(out), n), unsafe.Slice((*byte)(in), n)))
}
