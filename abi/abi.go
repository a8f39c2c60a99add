// Package abi is the plug-in contract, include/ferrule.h, in Go: the layout of what crosses the boundary, its numbers,
// the names of its symbols and the syntax of its texts.
//
// It opens nothing and calls nothing; package loader does. The header is the authority and says who owns what, for how
// long, on which thread, in the rules R1 to R34 that errors cite; layout.golden pins both to the same bytes.
package abi

import "unsafe"

// Major is the version of the contract that this package speaks: the 1 of the manifest's ferrule=1.
const Major = 1

// Call is the call frame, struct ferrule_call: everything about one call of a plug-in's function.
//
// Layout: eleven machine words, no padding; it grows at its end only. Pointers are kept as uintptr because a plug-in
// writes some of them: the garbage collector must never follow what native code left here.
type Call struct {
	Size    uintptr // bytes of this struct as the host knows it
	State   uintptr // void *, the instance's, set by ferrule_start
	In      uintptr // const uint8_t *, borrowed until the function returns; never 0
	InLen   uintptr // bytes
	Out     uintptr // uint8_t *, the host's room, or the plug-in's memory when Release is set; never 0 on entry
	OutLen  uintptr // bytes of the result or message
	OutCap  uintptr // bytes of the host's room
	Release uintptr // void (*)(ferrule_call *), 0 or how to give Out back
	Host    uintptr // const ferrule_host *, never 0
	Cancel  uintptr // const uint32_t *, or 0

	// Since 1.1.

	Progress uintptr // uint64_t *, two words: how much is done, and of how much; or 0
}

// CallSize10 is how many bytes a frame of version 1.0 has: no host passes less.
const CallSize10 = unsafe.Offsetof(Call{}.Progress)

// Request is struct ferrule_request: one call of a host function by a plug-in.
//
// Layout: six machine words and two 32-bit words, no padding; it grows at its end only. The plug-in owns it.
type Request struct {
	Size    uintptr // bytes of this struct as the plug-in knows it
	In      uintptr // const uint8_t *, may be 0 when InLen is 0
	InLen   uintptr // bytes
	Out     uintptr // uint8_t *, the plug-in's room, may be 0 when OutCap is 0
	OutLen  uintptr // bytes of the result, set by the host
	OutCap  uintptr // bytes of room
	Ordinal uint32  // which import: its place among the library's import names, sorted
	Kept    uint32  // 0 to call; otherwise the number of the kept result to fetch
}

// Host is struct ferrule_host: the table of what the host offers.
//
// Layout: ten machine words; it grows at its end only. It lives as long as the process.
type Host struct {
	Size uintptr // bytes of this struct as the host knows it
	Call uintptr // int32_t (*)(ferrule_call *, ferrule_request *)
	Log  uintptr // int32_t (*)(ferrule_call *, uint32_t level, const char *text, size_t text_len)

	// Since 1.1.

	LogFields  uintptr // int32_t (*)(ferrule_call *, uint32_t level, const char *text, size_t text_len, const char *fields, size_t fields_len)
	Info       uintptr // int32_t (*)(ferrule_call *, ferrule_request *)
	Room       uintptr // int32_t (*)(ferrule_call *, size_t n)
	Read       uintptr // int32_t (*)(ferrule_call *, const uint8_t **piece, size_t *piece_len)
	Write      uintptr // int32_t (*)(ferrule_call *, const uint8_t *piece, size_t piece_len)
	Next       uintptr // int32_t (*)(ferrule_call *, ferrule_request *)
	Background uintptr // ferrule_call *(*)(ferrule_call *)
}

// HostSize10 is how many bytes a table of version 1.0 has: no host passes less.
const HostSize10 = unsafe.Offsetof(Host{}.LogFields)

// Frames is struct ferrule_frames, the argument of ferrule_batch.
//
// Layout: seven machine words; it grows at its end only. The host owns it and everything it points to.
type Frames struct {
	Size     uintptr // bytes of this struct as the host knows it
	Fn       uintptr // ferrule_function, one of the library's own
	Calls    uintptr // ferrule_call *, Count of them, Stride bytes apart
	Stride   uintptr // bytes
	Count    uintptr // how many records there are
	Statuses uintptr // int32_t *, Count of them, written by the plug-in
	Done     uintptr // how many records have run, written by the plug-in
}

// Unbound is what an import slot holds until the loader has set it (FERRULE_UNBOUND).
const Unbound uint32 = 0xFFFFFFFF

// Level is the level of a plug-in's log line (FERRULE_LOG_…).
type Level uint32

// The levels of log lines, from the most to the least important.
const (
	LogError Level = 1
	LogWarn  Level = 2
	LogInfo  Level = 3
	LogDebug Level = 4
	LogTrace Level = 5
)
