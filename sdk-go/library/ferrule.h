/* ferrule.h: the contract between a native plug-in and its host. SPDX-License-Identifier: MIT
 *
 * A plug-in is a shared library (.so, .dylib, .dll) that exports the symbols described here. This one file is the
 * whole contract: if you read it, you need nothing else to write a correct plug-in. The helpers in ferrule/sdk.h (C),
 * ferrule/sdk.hpp (C++) and the crate `ferrule` (Rust) are conveniences over it.
 *
 *     #include <string.h>
 *     #include "ferrule.h"
 *
 *     FERRULE_PLUGIN(FERRULE_NAME("greeter") FERRULE_VERSION("1.0.0"));
 *
 *     FERRULE_FN(greet) {
 *         if (call->out_cap < 5) return FERRULE_NO_MEMORY;
 *         memcpy(call->out, "hello", 5);
 *         call->out_len = 5;
 *         return FERRULE_OK;
 *     }
 *
 *     cc -shared -fPIC -o greeter.so greeter.c
 *
 * WORDS. The host is the program that opens the library. The library exports functions, which the host calls, and
 * imports host functions, which the host offers. An instance is one plug-in state, made by ferrule_start. A call is
 * one run of one function; everything about it is in its call frame, struct ferrule_call.
 *
 * TAGS. Each member and service says who may use it and when:
 *   [owner]    who owns the memory it points to
 *   [lifetime] how long it stays valid
 *   [thread]   on which threads it may be used: "calling" is the thread on which the host entered the plug-in,
 *              "any" is every thread, while the call runs (R14)
 *
 * RULES. R1 to R34 below are the contract in sentences; each says what the host does when it is broken. Error
 * messages and the conformance kit cite these numbers. They never change their meaning.
 *
 * GROWTH. What is released keeps its meaning for ever. A struct with a `size` grows at its end only: test
 * FERRULE_HAS before you touch a member that is marked "since 1.1"; one that the other side has is never NULL, unless
 * its comment says so. New abilities are new symbols, new keys, new statuses or new members. An incompatible contract
 * would be exported as `ferrule2_manifest` with other symbols, so that one library can export both.
 *
 * CALLS. Every function and every function pointer here has the C calling convention that the platform's compilers use
 * by default (on 32-bit x86 it is cdecl).
 *
 * WEBASSEMBLY. The same source is a plug-in as a WebAssembly module for wasm32, where a host has an engine for these:
 *
 *     clang --target=wasm32-wasi -mexec-model=reactor -mbulk-memory -O2 -fvisibility=hidden -Wl,--export-dynamic \
 *         -o greeter.wasm greeter.c
 *
 * size_t and pointers have 32 bits, and point into the module's own memory, which it exports as `memory`. Functions are
 * exported functions; what is an object in a library (manifest, texts, slots) is an exported global, constant, whose
 * value is the object's address. FERRULE_PLUGIN exports in addition:
 *   ferrule_services  the module's ferrule_host (R18), whose functions are imports: `call`, `log` … of the module
 *                     `ferrule`, with the parameters that they have here
 *   ferrule_alloc     void *(size_t): memory for the host's frames, inputs and rooms, aligned for any object; NULL where
 *                     there is none
 *   ferrule_free      void (void *): has it back
 * A compiler that exports functions alone, such as Go's, writes what an object has into a name: an exported function
 * without parameters and results, `SYMBOL=TEXT`, is the object SYMBOL, whose bytes are TEXT and a NUL; `%` and two
 * hexadecimal digits are a byte. With an empty TEXT it is a slot, which the host does not set: R5 and R23 say what it
 * would hold. Such a module need not export ferrule_services; where it does not, call->host is NULL.
 * A module may also export `ferrule_panic`, an object of two uint32_t: the address and the length of the text that it
 * leaves there before it traps; 0 before that. `_initialize`, where exported, is called first.
 * An instance of the module is an instance of the plug-in, and takes one call at a time, whatever `threads` says (R13).
 * A trap counts as FERRULE_PANIC, but that nothing of the instance runs any more, not even ferrule_stop. An endless loop
 * is ended a grace period after the host has asked it to stop (R17). There are no threads: host->background returns
 * NULL (R27). ferrule_batch is not called (R19); quick means nothing (R34).
 *
 * ---------------------------------------------------------------------------------------------------------------
 *
 * R1  MANIFEST. The library exports `ferrule_manifest`, a constant array of NUL-terminated `key=value` texts in
 *     UTF-8, closed by an empty text, 65,536 bytes at most. Its first bytes are `ferrule=1` and a NUL: the major
 *     version of this contract. `name=` (letters, digits, `_`, `-`, `.`; 1 to 128 of them) and `version=` must be
 *     there. The bytes stand in the file as they are: no relocation, no constructor makes them.
 *     Broken: the library is not loaded; the error says what is wrong with which key.
 * R2  NAMES. A function is exported as `ferrule_fn_<name>`, a hook as `ferrule_hook_<point>`, an import slot as
 *     `ferrule_import_<name>`, an optional one as `ferrule_want_<name>`, text about one of them as
 *     `ferrule_meta_fn_<name>` and so on. <name> is a C identifier of 1 to 128 bytes. No symbol is exported twice; a
 *     function and a hook may have one name, an import and a want may not. Every other symbol that begins with
 *     `ferrule_`, or with `ferrule`, digits and `_`, is reserved.
 *     Broken: an invalid or repeated name is refused at open; a reserved symbol, and a text about a symbol that is not
 *     there, are ignored, and the checker warns.
 * R3  KEYS. A key is 1 to 64 bytes of `a-z 0-9 _ - .`, and stands once. Values are any UTF-8 without NUL. An empty
 *     value is as good as no key. Keys that a host does not know are kept and shown, never refused; those that begin
 *     with `x-` are yours, and no later version gives them a meaning. R32 lists those that this version knows.
 *     Broken: the library is not loaded; the error names the key.
 * R4  LOADING runs nothing of the plug-in's but its static constructors, and those have no host: there is no frame
 *     outside a call. The manifest, names and meta texts are read from the file, before any code of it runs.
 *     Broken: a constructor that crashes takes the process that loads it along.
 * R5  IMPORTS. Each `ferrule_import_<name>` is a `uint32_t` that the host sets before it calls the first exported
 *     function (constructors run earlier, R4, and find FERRULE_UNBOUND): the ordinal to pass as
 *     ferrule_request.ordinal. It is the index, from 0, of <name> in this library's import names sorted by byte
 *     values, so it is the same in every host. The plug-in only reads it.
 *     Broken: an import that the host does not offer fails at open, by name. A wrong ordinal gets FERRULE_MISUSE.
 * R6  FRAME. The frame is the host's and lives until the function returns. The plug-in may set out, out_len and
 *     release, and in ferrule_start and ferrule_resume also state; once it has set release, the plug-in may store a
 *     value of its own in out_cap, which release finds as it was left. It leaves every other member as it is.
 *     Broken: the host reads no other member back, so what was written there has no effect on it.
 * R7  INPUT. in_len bytes at `in` are readable until the function returns, and never written by the plug-in. `in` is
 *     never NULL, also when in_len is 0. It never overlaps the room (R8). No alignment is promised, and no NUL follows
 *     the last byte.
 *     Broken: reading further, later, or writing is undefined, and may end the process.
 * R8  OUTPUT. On entry `out` is room for out_cap bytes of the host's; `out` is not NULL, out_cap may be 0, out_len
 *     is 0. Either the plug-in writes at most out_cap bytes there and sets out_len; or it points `out` at out_len
 *     bytes of its own memory and sets `release`; with out_len 0 `out` may be NULL then. What is in the room beyond
 *     out_len does not matter. A plug-in that sets neither has an empty result.
 *     Broken: out_len over out_cap without release, another pointer in `out` without release, a NULL `out` with
 *     an out_len over 0, or an out_len over PTRDIFF_MAX, makes the call fail with an error that cites this rule; no
 *     byte is read.
 * R9  RELEASE. When the function returned with `release` set, whatever its status, and also when the call broke a rule,
 *     the host calls it once, after it has taken the bytes, with a frame whose state, out, out_len, out_cap and release
 *     are as the function left them. It may run on any thread, while another call of the same instance runs, and after
 *     the ferrule_stop of an instance that panicked, so it relies on nothing but the bytes it releases; it never runs
 *     after the ferrule_stop of a healthy one, or after unloading. It must not use `host`, and must come back soon.
 *     Whoever allocates, releases: never free the host's room, or let the host free yours.
 *     Broken: a host service called from it gets FERRULE_MISUSE.
 * R10 STATUS. The return value is 0 for a result, otherwise one of the statuses below or a number of the plug-in's
 *     own, 1000 or more. Numbers from 10 to 999 are reserved for later versions, and read as FAILED. A host function's
 *     status is of the same numbers: a host passes no reserved one on.
 *     Broken: a negative status makes the call fail with an error that cites this rule and shows the number.
 * R11 MESSAGE. With a status other than 0, `out` (as in R8) is a message for people, in UTF-8, without a newline at
 *     its end. It may be empty, and of any length; it may have newlines and NULs within.
 *     Broken: bytes that are not UTF-8 are replaced by U+FFFD. A host that shows it escapes what is not text.
 * R12 NOTHING UNWINDS. No C++ exception, Rust panic, longjmp or thread exit leaves an exported function or release, and
 *     none of them calls exit or abort: they would end the host.
 *     Broken: the process ends. The SDKs for C++ and Rust catch what unwinds and return FERRULE_PANIC.
 * R13 THREADS are declared by `threads=` in the manifest, and the host keeps to it:
 *       serial      (also when the key is missing) one call at a time for each instance, on any thread, with a
 *                   happens-before edge from each call to the next
 *       concurrent  any number of calls at a time for each instance
 *       pinned      one call at a time for each instance, always on the thread that ran its ferrule_start
 *     Different instances run at the same time in all three: a library without static mutable state needs no lock.
 *     Broken: another word is refused at open.
 * R14 OTHER THREADS, the plug-in's own or a pool's, may use the frame, and the host's services with it, while the call
 *     that handed it to them runs. When the function returns, they must have stopped using it. R27 is how threads reach
 *     the host between calls.
 *     Broken: the host refuses a service with FERRULE_MISUSE where it can tell, and never crashes because
 *     of it. It cannot tell when the frame serves another call by then.
 * R15 STATE. Where exported, `ferrule_start` is called once for each instance before any other call, with the
 *     configuration's bytes as input. It sets call->state to what it likes; the host hands that to every later call
 *     of the instance and never looks into it. Where exported, `ferrule_stop` is called once for each instance that
 *     started, when no other call of it runs; without a ferrule_start, once for each instance, with a state of NULL. A
 *     start that fails must clean up after itself: no stop follows. Two calls may meet two instances; what belongs
 *     together across calls (a cursor, begin and end) needs a host that keeps an instance for it, called a session.
 *     Broken: start's failure makes open fail with its message; stop's is logged.
 * R16 PANIC. After FERRULE_PANIC the instance is poisoned: the host lets its running calls end, calls nothing more of
 *     it but ferrule_stop, and makes a new instance with ferrule_start, where exported, before the next call. A start
 *     that returns it has failed like any (R15); after a stop that returns it, the instance is gone all the same.
 *     Broken: a plug-in cannot break this rule; it binds the host.
 * R17 CANCELLATION. `cancel` is NULL or points at a word that turns from 0 to non-zero when the host no longer wants
 *     the result; it may be set on entry, and never falls back while the call runs. Functions that may run for more
 *     than some milliseconds poll it (ferrule_cancelled), and return FERRULE_CANCELLED soon after. A complete result
 *     that comes all the same, with FERRULE_OK, counts.
 *     Broken: in-process the host waits for the function to return; an isolated one is killed after a grace period.
 * R18 SERVICES. `host` is the table of what the host offers, size-first. Every service takes the frame of the running
 *     call. A service that finds a bad argument returns FERRULE_MISUSE and does nothing.
 *     Broken: a frame that is not the host's, or whose call is over, gets FERRULE_MISUSE.
 * R19 BATCHES. `ferrule_batch`, where exported, runs one function over many frames; FERRULE_PLUGIN defines it.
 *     It stops when the batch is cancelled (R17), and after a record that returned FERRULE_PANIC (R16). `done` and the
 *     statuses say what ran; its return value does not count. Where it is missing the host calls the function for each
 *     frame; the results are the same.
 *     Broken: the record fails as a single call would.
 * R20 THE PROCESS is the host's: a plug-in leaves signal handlers, the signal mask, the working directory, the umask,
 *     the resource limits, the locale, the floating-point environment, the environment and the standard streams as it
 *     finds them. It registers nothing with atexit, and when ferrule_stop has returned, no thread and no child process
 *     of its own is left.
 *     Broken: the conformance kit reports it; in-process the host cannot repair it.
 * R21 SIZES. The side that reads a struct trusts no member that lies beyond its `size`. A host never passes a struct
 *     that is shorter than in version 1.0: its members need no FERRULE_HAS.
 *     Broken: a request with a smaller size is refused with FERRULE_MISUSE.
 *
 * The rules that follow, and the members marked "since 1.1", came with version 1.1. An older host knows none of them.
 *
 * R22 PASS. A function or a hook that has nothing to say to this input returns FERRULE_PASS: it is no failure, and the
 *     host goes on as if it had not called. `out` may have a message (R11); an older host reads FAILED with it.
 *     Broken: a plug-in cannot break this rule; it binds the host.
 * R23 WANTS. Each `ferrule_want_<name>` is an import slot that need not be offered. Its ordinal is the number of imports
 *     plus the index, from 0, of <name> in this library's want names sorted by byte values. Every host that knows
 *     wants sets the slot, also where it does not offer the function: a library may be opened twice, with different
 *     offers. host->call returns FERRULE_UNSUPPORTED then; host->info("offers.<name>") asks beforehand. A slot that
 *     holds FERRULE_UNBOUND says that the host is older than wants.
 *     Broken: one name as import and as want is refused at open.
 * R24 STREAMS. A function whose meta text says `stream=in`, `stream=out` or `stream=both` takes data, or gives it, piece
 *     by piece while it runs, beside `in` and `out`, which stay its parameters and its result. host->read lends it the
 *     next piece of the input stream, host->write passes a piece on; both wait, until the call is cancelled at most.
 *     A call without the stream, as a plain call or a batch is, gets FERRULE_UNSUPPORTED from them. A function need not
 *     read to the end. Several threads may write: each piece stays whole, in no order among them. Threads that read take
 *     turns, because each read ends the piece that the read before it lent.
 *     Broken: to use a piece after the next read, or to write to it, is undefined.
 * R25 ROOM. host->room gives a call more of the host's memory as `out`, so that a long result needs neither memory of
 *     the plug-in's nor release. It may be asked again for more; what it gave before is no longer used then. The first
 *     out_len bytes are kept; what is in it beyond them is not defined. It is the room that R8 speaks of from then on.
 *     Broken: as R8. Where release is set, or out_len is over out_cap, it returns FERRULE_MISUSE.
 * R26 INFO. host->info answers a key, in UTF-8 of 1 to 256 bytes, with text. `path`: the folder that the library came
 *     from. `data`: a folder of the plug-in's own, where the host grants one. `remaining`: the time that the call still
 *     has, in ns, a decimal number of at least 0. `traceparent`: as in W3C Trace Context. `instance`: the number of the
 *     instance, from 0. `offers.<name>`: `yes` or `no`, for the library's own imports and wants. Other names with a dot
 *     are the application's. What is not known, not granted or not set is FERRULE_UNSUPPORTED.
 *     Broken: a key that is not such text gets FERRULE_MISUSE.
 * R27 BETWEEN CALLS. In ferrule_start, host->background gives a frame for what the plug-in does while no call runs:
 *     with host->call, host->log, host->log_fields and host->info, on any thread, until ferrule_stop returns; with every
 *     other service it gets FERRULE_MISUSE. Its cancellation word is set before ferrule_stop begins; calls through it
 *     that would need this instance fail from then on. ferrule_stop joins the threads that use it. When ferrule_start
 *     fails, the frame ends with it.
 *     Broken: a frame that is used later gets FERRULE_MISUSE, as R14 says.
 * R28 SETTINGS. Where exported, `ferrule_configure` takes new configuration bytes as input, while no other call of the
 *     instance runs: all that ferrule_start takes, such as none. It succeeds, or fails and leaves the instance as it
 *     was. Of several instances either all take them or none does: those that did are configured with the old ones
 *     again. Where it is missing the host makes new instances.
 *     Broken: an instance that fails to take the old ones back is poisoned, as R16 says.
 * R29 HANDING OVER. A library that exports `ferrule_save` and `ferrule_resume`, and says `state=<format>` in its
 *     manifest, can hand an instance's state to its successor. ferrule_save returns it as bytes, while no other call
 *     runs; the instance stays as it is, and may go on. ferrule_resume gets them as input in the successor, right after
 *     its ferrule_start. A successor that says another format does not get them. When ferrule_resume fails, the
 *     successor is dropped.
 *     Broken: `state=` without both functions, or one of them without it, is refused at open.
 * R30 PROGRESS. `progress` is NULL, or points at two uint64_t that the function sets as it goes: how much is done, and
 *     of how much in all, in a unit of the function's own; a total of 0 says that it is not known. Plain stores are
 *     enough; the host reads the two now and then.
 *     Broken: a plug-in cannot break this rule: what it writes is only shown.
 * R31 FIELDS. host->log_fields takes a log line with fields: `key=value` texts in UTF-8, each closed by a NUL.
 *     Broken: what has no `=` is a field with an empty value; bytes that are not UTF-8 are replaced by U+FFFD.
 * R32 WORDS. The keys that this version knows; a list has one item a line, 64 items at most, each 1 to 256 bytes.
 *     Manifest: ferrule, name, version, threads, description, homepage, license, authors; state (a word, R29); health
 *     (the name of a function); provides, requires, conflicts (lists); host.<application> (a range of versions);
 *     permit.read, permit.write, permit.connect, permit.listen (lists), permit.memory (bytes).
 *     Meta text of a function: doc, in, out (media types), schema, in-schema, out-schema, stream (R24), since,
 *     deprecated, idempotent (`yes`), quick (`yes`, R34). Of a hook these, and order (`first` or `last`), before, after
 *     (lists), priority (an integer), wrap (`yes`, R33), optional (`yes`). Of an import or a want: doc, from, why,
 *     version. `ferrule_meta_config` is the schema of the configuration: UTF-8 closed by a NUL, 1 MiB at most. Keys that
 *     begin with `draft.` are tried out, and may change; no host relies on one.
 *     Broken: a value that a key cannot have is refused at open, where the rule of that key says so; otherwise it is
 *     shown as it is, and the checker warns.
 * R33 WRAPPERS. A hook whose meta text says `wrap=yes` stands around the ones behind it: host->next runs them with the
 *     request's input and gives their result, as host->call does. It may call it once, several times, or not at all.
 *     Broken: where nothing stands behind, as in the call of a function, host->next returns FERRULE_UNSUPPORTED.
 * R34 QUICK. A function or a hook whose meta text says `quick=yes` returns within 10 us, waits for nothing, uses no host
 *     service, and needs no more stack than others. To wait is to join a thread, to sleep, to read or write a file, or
 *     to take a lock that may be held for longer than that: most of all, one that a thread holds while it is in a host
 *     service. A host that trusts the word may stand still until the function returns: `cancel` and `progress` are
 *     NULL then.
 *     Broken: a host service gets FERRULE_MISUSE, host->background NULL. What is found to be too slow is called as any
 *     other function. What waits for the host may stop the process for good.
 */
#ifndef FERRULE_H
#define FERRULE_H

#include <stddef.h>
#include <stdint.h>

/* The major version of this contract: the `1` of the manifest's `ferrule=1`. */
#define FERRULE_ABI 1

/* What the macros below are made of. Names that end in an underscore are not for authors. */
#if defined(_WIN32)
#define FERRULE_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define FERRULE_EXPORT __attribute__((visibility("default")))
#else
#define FERRULE_EXPORT
#endif
#if defined(__GNUC__) || defined(__clang__)
#define FERRULE_UNUSED_ __attribute__((unused))
#else
#define FERRULE_UNUSED_
#endif
#if defined(__cplusplus)
#define FERRULE_C_ extern "C"
#define FERRULE_CAST_(type, value) reinterpret_cast<type>(value)
#define FERRULE_SIZE_(value) static_cast<size_t>(value)
#define FERRULE_NULL_ nullptr
#else
#define FERRULE_C_ extern
#define FERRULE_CAST_(type, value) ((type)(value))
#define FERRULE_SIZE_(value) ((size_t)(value))
#define FERRULE_NULL_ NULL
#endif

#if defined(__cplusplus)
extern "C" {
#endif

/* Statuses (R10): what a function, a hook, start, stop and a host service return, as int32_t. */
enum {
    FERRULE_OK = 0,          /* out is the result */
    FERRULE_FAILED = 1,      /* it did not work; out says why */
    FERRULE_INVALID = 2,     /* the input is not what the function takes */
    FERRULE_UNSUPPORTED = 3, /* understood, but not to be had here */
    FERRULE_CANCELLED = 4,   /* the host no longer wants it (R17) */
    FERRULE_PANIC = 5,       /* the plug-in's code failed in a way that leaves its state unknown (R16) */
    FERRULE_NO_MEMORY = 6,   /* memory or room was not enough */
    FERRULE_MISUSE = 7,      /* a rule of this contract was broken by the caller; from a host service */
    FERRULE_MORE = 8,        /* from a host service: the result is longer than out_cap; fetch it with more room */
    FERRULE_PASS = 9         /* since 1.1: nothing to say to this input (R22) */
};

/* The first status that is a plug-in's own (R10). */
#define FERRULE_STATUS_OWN 1000

/* Levels of a log line, for host->log. Another number reads as FERRULE_LOG_INFO. */
enum {
    FERRULE_LOG_ERROR = 1,
    FERRULE_LOG_WARN = 2,
    FERRULE_LOG_INFO = 3,
    FERRULE_LOG_DEBUG = 4,
    FERRULE_LOG_TRACE = 5
};

/* What an import slot holds until the host has set it (R5); never a valid ordinal. */
#define FERRULE_UNBOUND 0xFFFFFFFFu

typedef struct ferrule_call ferrule_call;
typedef struct ferrule_host ferrule_host;
typedef struct ferrule_request ferrule_request;
typedef struct ferrule_frames ferrule_frames;

/* The one signature: functions, hooks, ferrule_start, ferrule_stop and the like. Returns a status. */
typedef int32_t (*ferrule_function)(ferrule_call *call);

/* ferrule_call: the call frame, everything about one call. Grows at the end only.
 * [owner] host. [lifetime] until the function returns (R6). [thread] any. */
struct ferrule_call {
    /* Bytes of this struct as the host knows it; FERRULE_HAS reads it. Set by the host. */
    size_t size;
    /* What ferrule_start set for this instance, else NULL (R15). [owner] plug-in. [lifetime] until ferrule_stop. */
    void *state;
    /* The input (R7). [owner] host, read-only. [lifetime] until return. [thread] any. */
    const uint8_t *in;
    size_t in_len;
    /* The result, or the message when the status is not 0 (R8, R11). On entry the host's room of out_cap bytes;
     * [owner] host, or the plug-in once it has set release. [lifetime] until return, or until release ran.
     * [thread] any, one at a time. */
    uint8_t *out;
    size_t out_len;
    size_t out_cap;
    /* NULL on entry. Set it together with `out`, to have your own memory back (R9). [thread] set on any; run on any. */
    void (*release)(ferrule_call *call);
    /* The host's services (R18). Never NULL. [owner] host. [lifetime] the process. [thread] any. */
    const ferrule_host *host;
    /* The cancellation word, or NULL (R17); read it with ferrule_cancelled. [owner] host. [lifetime] until return.
     * [thread] any. */
    const uint32_t *cancel;
    /* Since 1.1. NULL, or two numbers, both 0 on entry: how much is done, and of how much (R30); set them with
     * ferrule_set_progress. [owner] host. [lifetime] until return. [thread] any. */
    uint64_t *progress;
};

/* ferrule_request: one call of a host function. Grows at the end only. The plug-in fills it, all bytes of it: set
 * what you do not use to 0. [owner] plug-in. [lifetime] until host->call returns. [thread] one at a time. */
struct ferrule_request {
    /* sizeof(ferrule_request), as the plug-in knows it. */
    size_t size;
    /* The input for the host function; may be NULL when in_len is 0. [owner] plug-in. The host keeps none of it. */
    const uint8_t *in;
    size_t in_len;
    /* Room for the result, or the message when the status is not 0; may be NULL when out_cap is 0. [owner] plug-in.
     * The host sets out_len, and does not read it: how many bytes the result has, written to out unless the status is
     * FERRULE_MORE. */
    uint8_t *out;
    size_t out_len;
    size_t out_cap;
    /* Which host function: the value of a ferrule_import_<name> slot (R5), or of a ferrule_want_<name> slot (R23). */
    uint32_t ordinal;
    /* 0 to call. When a service returned FERRULE_MORE the host has set it to a non-zero number: the result is kept,
     * it has out_len bytes, nothing was written. Give `out` that much room and pass the request again to fetch it; the
     * function does not run again, and the status is the function's own. Only out, out_cap and kept are read then: `in`
     * may be gone. Any thread of the call may fetch, by the service that kept it. A kept result that is not fetched is
     * dropped when the frame's call ends. */
    uint32_t kept;
};

/* ferrule_host: what the host offers (R18). Grows at the end only.
 * [owner] host. [lifetime] the process. [thread] any: every service may be called from several threads at a time. */
struct ferrule_host {
    /* Bytes of this struct as the host knows it. */
    size_t size;
    /* Calls the host function request->ordinal, and waits for it. Returns its status; FERRULE_MORE as `kept` says;
     * FERRULE_UNSUPPORTED, with no output, for a want that is not offered (R23); FERRULE_MISUSE when the frame, the
     * ordinal or the request is not valid, with nothing written. */
    int32_t (*call)(ferrule_call *call, ferrule_request *request);
    /* Hands a line of text_len bytes of UTF-8, without a newline at its end, to the host's logger, which knows the
     * plug-in's name. level is one of FERRULE_LOG_…. The text is copied. Returns FERRULE_OK or FERRULE_MISUSE. */
    int32_t (*log)(ferrule_call *call, uint32_t level, const char *text, size_t text_len);

    /* All that follows: since 1.1. Where `call` is valid, arguments that cannot be are FERRULE_MISUSE. */

    /* log with fields (R31): fields_len bytes of `key=value` texts, each closed by a NUL. All is copied. */
    int32_t (*log_fields)(ferrule_call *call, uint32_t level, const char *text, size_t text_len, const char *fields,
                          size_t fields_len);
    /* Answers the key that is the request's input (R26). The request is as for `call`, its ordinal is not read. Returns
     * FERRULE_OK, FERRULE_MORE as `kept` says, FERRULE_UNSUPPORTED with no output, or FERRULE_MISUSE. */
    int32_t (*info)(ferrule_call *call, ferrule_request *request);
    /* Makes `out` a room of n bytes at least, sets out_cap, and keeps the first out_len bytes (R25). [owner] host.
     * [lifetime] until return, or the next room. [thread] any, one at a time. Returns FERRULE_OK; FERRULE_NO_MEMORY,
     * with everything as it was; or FERRULE_MISUSE. */
    int32_t (*room)(ferrule_call *call, size_t n);
    /* Lends the next piece of the input stream (R24): sets *piece and *piece_len, which is 0 at the end of the stream,
     * now and from then on, and not before. [owner] host, read-only. [lifetime] until the next read on this call, by any
     * thread, or return. [thread] any. Waits. Returns FERRULE_OK; FERRULE_FAILED, now and from then on, when the stream
     * broke off; FERRULE_CANCELLED; FERRULE_UNSUPPORTED without an input stream; or FERRULE_MISUSE. */
    int32_t (*read)(ferrule_call *call, const uint8_t **piece, size_t *piece_len);
    /* Passes piece_len bytes on to the output stream (R24), all of them. They are copied. With a piece_len of 0 `piece`
     * may be NULL, and nothing is passed on. [thread] any. Waits. Returns FERRULE_OK; FERRULE_FAILED, now and from then
     * on, when nobody takes more; FERRULE_CANCELLED; FERRULE_UNSUPPORTED without an output stream; or FERRULE_MISUSE. */
    int32_t (*write)(ferrule_call *call, const uint8_t *piece, size_t piece_len);
    /* Runs what stands behind a wrapper (R33), with the request's input, and waits for it. The ordinal is not read. Returns
     * what `call` does, and FERRULE_UNSUPPORTED where nothing stands behind. */
    int32_t (*next)(ferrule_call *call, ferrule_request *request);
    /* Gives ferrule_start a frame for what happens between calls (R27); the same one each time. [owner] host.
     * [lifetime] until ferrule_stop returns. [thread] any. NULL outside ferrule_start, and where there is no memory. */
    ferrule_call *(*background)(ferrule_call *call);
};

/* ferrule_frames: the argument of ferrule_batch (R19). Grows at the end only.
 * [owner] host, frames and all. [lifetime] until return. [thread] calling. */
struct ferrule_frames {
    /* Bytes of this struct as the host knows it. */
    size_t size;
    /* What to run: an address of one of this library's own ferrule_fn_… or ferrule_hook_… */
    ferrule_function fn;
    /* count frames, stride bytes from one to the next (a host's frame may be longer than this header's). Only the
     * first one's out and out_cap are set: room for all, which each record passes on to the next. */
    ferrule_call *calls;
    size_t stride;
    size_t count;
    /* count statuses, one for each record. [owner] host; written by the plug-in. */
    int32_t *statuses;
    /* How many records have run, from the first on; less than count when the batch was cancelled or a record
     * panicked. Written by the plug-in. */
    size_t done;
};

/* FERRULE_HAS(p, member): does the other side know this member of *p? p is evaluated more than once. */
#define FERRULE_HAS(p, member)                                                                                         \
    (FERRULE_SIZE_(FERRULE_CAST_(const char *, &(p)->member + 1) - FERRULE_CAST_(const char *, (p))) <= (p)->size)

/* Does the host still want the result (R17)? 1 when it does not. [thread] any. Costs some loads: poll it often. */
static inline int FERRULE_UNUSED_ ferrule_cancelled(const ferrule_call *call) {
    if (!FERRULE_HAS(call, cancel) || !call->cancel) return 0;
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_load_n(call->cancel, __ATOMIC_ACQUIRE) != 0;
#else
    return *FERRULE_CAST_(const volatile uint32_t *, call->cancel) != 0; /* MSVC: volatile reads acquire */
#endif
}

/* Says how far the call is (R30); does nothing where nobody looks. [thread] any. Costs some stores: use it often. */
static inline void FERRULE_UNUSED_ ferrule_set_progress(const ferrule_call *call, uint64_t done, uint64_t total) {
    if (!FERRULE_HAS(call, progress) || !call->progress) return;
    FERRULE_CAST_(volatile uint64_t *, call->progress)[1] = total;
    FERRULE_CAST_(volatile uint64_t *, call->progress)[0] = done;
}

/* The body of ferrule_batch; FERRULE_PLUGIN uses it. */
static inline int32_t FERRULE_UNUSED_ ferrule_run_frames(ferrule_frames *frames) {
    char *at;
    uint8_t *room;
    size_t left;
    if (!FERRULE_HAS(frames, done)) return FERRULE_MISUSE; /* R21 */
    at = FERRULE_CAST_(char *, frames->calls);
    room = frames->count ? frames->calls->out : FERRULE_NULL_;
    left = frames->count ? frames->calls->out_cap : 0;
    for (frames->done = 0; frames->done < frames->count; frames->done++, at += frames->stride) {
        ferrule_call *call = FERRULE_CAST_(ferrule_call *, FERRULE_CAST_(void *, at));
        if (ferrule_cancelled(call)) return FERRULE_CANCELLED;
        call->out = room;
        call->out_cap = left;
        frames->statuses[frames->done] = frames->fn(call);
        if (!call->release && call->out == room && call->out_len <= left) {
            room += call->out_len;
            left -= call->out_len;
        }
        if (frames->statuses[frames->done] == FERRULE_PANIC) {
            frames->done++;
            return FERRULE_PANIC;
        }
    }
    return FERRULE_OK;
}

#if defined(__cplusplus)
}
#endif

/* ---- What an author writes ------------------------------------------------------------------------------------- */

#define FERRULE_TEXT_(symbol, text)                                                                                    \
    FERRULE_C_ FERRULE_EXPORT const char symbol[];                                                                     \
    const char symbol[] = text
#define FERRULE_DEFINE_(symbol)                                                                                        \
    FERRULE_C_ FERRULE_EXPORT int32_t symbol(ferrule_call *call);                                                      \
    int32_t symbol(ferrule_call *call FERRULE_UNUSED_)

/* What a module has beside what a library has: the host's table, made of imports, and an allocator for the host. */
#if defined(__wasm__)
#define FERRULE_SERVICE_(service) __attribute__((import_module("ferrule"), import_name(#service)))
FERRULE_C_ int32_t ferrule_wasm_call_(ferrule_call *call, ferrule_request *request) FERRULE_SERVICE_(call);
FERRULE_C_ int32_t ferrule_wasm_log_(ferrule_call *call, uint32_t level, const char *text, size_t text_len)
    FERRULE_SERVICE_(log);
FERRULE_C_ int32_t ferrule_wasm_log_fields_(ferrule_call *call, uint32_t level, const char *text, size_t text_len,
                                            const char *fields, size_t fields_len) FERRULE_SERVICE_(log_fields);
FERRULE_C_ int32_t ferrule_wasm_info_(ferrule_call *call, ferrule_request *request) FERRULE_SERVICE_(info);
FERRULE_C_ int32_t ferrule_wasm_room_(ferrule_call *call, size_t n) FERRULE_SERVICE_(room);
FERRULE_C_ int32_t ferrule_wasm_read_(ferrule_call *call, const uint8_t **piece, size_t *piece_len)
    FERRULE_SERVICE_(read);
FERRULE_C_ int32_t ferrule_wasm_write_(ferrule_call *call, const uint8_t *piece, size_t piece_len)
    FERRULE_SERVICE_(write);
FERRULE_C_ int32_t ferrule_wasm_next_(ferrule_call *call, ferrule_request *request) FERRULE_SERVICE_(next);
FERRULE_C_ ferrule_call *ferrule_wasm_background_(ferrule_call *call) FERRULE_SERVICE_(background);
#define FERRULE_MODULE_                                                                                                \
    FERRULE_C_ FERRULE_EXPORT const ferrule_host ferrule_services;                                                     \
    const ferrule_host ferrule_services = {sizeof(ferrule_host),    ferrule_wasm_call_,  ferrule_wasm_log_,            \
                                           ferrule_wasm_log_fields_, ferrule_wasm_info_,  ferrule_wasm_room_,          \
                                           ferrule_wasm_read_,       ferrule_wasm_write_, ferrule_wasm_next_,          \
                                           ferrule_wasm_background_};                                                  \
    FERRULE_C_ FERRULE_EXPORT void *ferrule_alloc(size_t n);                                                           \
    void *ferrule_alloc(size_t n) { return FERRULE_ALLOC_(n); }                                                        \
    FERRULE_C_ FERRULE_EXPORT void ferrule_free(void *at);                                                             \
    void ferrule_free(void *at) { FERRULE_FREE_(at); }
#if defined(__wasi__)
#define FERRULE_ALLOC_(n) __builtin_malloc(n)
#define FERRULE_FREE_(at) __builtin_free(at)
#else
/* Without a C library: whole pages of their own, of which those that came back are used again. Four words stand before
 * each run of pages: how many they are, and the address of the next free run; as much as any object's alignment. */
static size_t *FERRULE_UNUSED_ ferrule_free_pages_;
static inline void *FERRULE_UNUSED_ ferrule_take_pages_(size_t n) {
    size_t pages = n / 65536 + 1 + (n % 65536 + 4 * sizeof(size_t)) / 65536, at, *run, *last = FERRULE_NULL_;
    for (run = ferrule_free_pages_; run; last = run, run = FERRULE_CAST_(size_t *, run[1])) {
        if (run[0] < pages) continue;
        if (last) {
            last[1] = run[1];
        } else {
            ferrule_free_pages_ = FERRULE_CAST_(size_t *, run[1]);
        }
        return run + 4;
    }
    at = __builtin_wasm_memory_grow(0, pages);
    if (at == ~FERRULE_SIZE_(0)) return FERRULE_NULL_;
    run = FERRULE_CAST_(size_t *, at * 65536);
    run[0] = pages;
    return run + 4;
}
static inline void FERRULE_UNUSED_ ferrule_give_pages_(void *at) {
    size_t *run;
    if (!at) return;
    run = FERRULE_CAST_(size_t *, at) - 4;
    run[1] = FERRULE_CAST_(size_t, ferrule_free_pages_);
    ferrule_free_pages_ = run;
}
#define FERRULE_ALLOC_(n) ferrule_take_pages_(n)
#define FERRULE_FREE_(at) ferrule_give_pages_(at)
#endif
#else
#define FERRULE_MODULE_
#endif

/* FERRULE_PLUGIN(keys); once in each library, at file scope: the manifest (R1) and ferrule_batch (R19). `keys` is a
 * sequence of the FERRULE_KEY family without commas, in any order:
 *
 *     FERRULE_PLUGIN(FERRULE_NAME("resize") FERRULE_VERSION("2.1.0") FERRULE_THREADS("concurrent"));
 */
#define FERRULE_PLUGIN(keys)                                                                                           \
    FERRULE_MODULE_                                                                                                    \
    FERRULE_TEXT_(ferrule_manifest, "ferrule=1\0" keys);                                                               \
    FERRULE_C_ FERRULE_EXPORT int32_t ferrule_batch(ferrule_frames *frames);                                           \
    int32_t ferrule_batch(ferrule_frames *frames) { return ferrule_run_frames(frames); }                               \
    FERRULE_C_ FERRULE_EXPORT const char ferrule_manifest[]

/* One key with its value, both string literals (R3). */
#define FERRULE_KEY(key, value) key "=" value "\0"
#define FERRULE_NAME(text) FERRULE_KEY("name", text)
#define FERRULE_VERSION(text) FERRULE_KEY("version", text)
#define FERRULE_DESCRIPTION(text) FERRULE_KEY("description", text)
/* "serial", "concurrent" or "pinned" (R13). */
#define FERRULE_THREADS(word) FERRULE_KEY("threads", word)
/* The format of the state that ferrule_save gives and ferrule_resume takes: a word (R29). */
#define FERRULE_STATE_FORMAT(word) FERRULE_KEY("state", word)

/* FERRULE_FN(name) { … }: a function the host may call. Inside, `call` is the frame. Returns a status. */
#define FERRULE_FN(name) FERRULE_DEFINE_(ferrule_fn_##name)
/* FERRULE_HOOK(point) { … }: attaches to the host's extension point. */
#define FERRULE_HOOK(point) FERRULE_DEFINE_(ferrule_hook_##point)
/* FERRULE_START { … } and FERRULE_STOP { … }: make and drop one instance's state (R15). */
#define FERRULE_START FERRULE_DEFINE_(ferrule_start)
#define FERRULE_STOP FERRULE_DEFINE_(ferrule_stop)
/* FERRULE_CONFIGURE { … }: takes new settings (R28). FERRULE_SAVE { … } and FERRULE_RESUME { … } hand the state over
 * (R29); the manifest says FERRULE_STATE_FORMAT then. */
#define FERRULE_CONFIGURE FERRULE_DEFINE_(ferrule_configure)
#define FERRULE_SAVE FERRULE_DEFINE_(ferrule_save)
#define FERRULE_RESUME FERRULE_DEFINE_(ferrule_resume)
/* FERRULE_IMPORT(name); a host function this library needs (R5); FERRULE_ORDINAL(name) is its ordinal. */
#define FERRULE_IMPORT(name)                                                                                           \
    FERRULE_C_ FERRULE_EXPORT uint32_t ferrule_import_##name;                                                          \
    uint32_t ferrule_import_##name = FERRULE_UNBOUND
#define FERRULE_ORDINAL(name) (ferrule_import_##name)
/* FERRULE_WANT(name); a host function this library uses where it is offered (R23); FERRULE_WANT_ORDINAL(name) is its
 * ordinal, or FERRULE_UNBOUND in a host that is older than wants. */
#define FERRULE_WANT(name)                                                                                             \
    FERRULE_C_ FERRULE_EXPORT uint32_t ferrule_want_##name;                                                            \
    uint32_t ferrule_want_##name = FERRULE_UNBOUND
#define FERRULE_WANT_ORDINAL(name) (ferrule_want_##name)

/* Text about one symbol, for people and tools: FERRULE_FN_META(resize, FERRULE_DOC("Halves a picture.") FERRULE_IN(
 * "image/png") FERRULE_OUT("image/png")); likewise for hooks and imports. */
#define FERRULE_FN_META(name, keys) FERRULE_TEXT_(ferrule_meta_fn_##name, keys)
#define FERRULE_HOOK_META(point, keys) FERRULE_TEXT_(ferrule_meta_hook_##point, keys)
#define FERRULE_IMPORT_META(name, keys) FERRULE_TEXT_(ferrule_meta_import_##name, keys)
#define FERRULE_WANT_META(name, keys) FERRULE_TEXT_(ferrule_meta_want_##name, keys)
#define FERRULE_DOC(text) FERRULE_KEY("doc", text)
#define FERRULE_IN(media_type) FERRULE_KEY("in", media_type)
#define FERRULE_OUT(media_type) FERRULE_KEY("out", media_type)
#define FERRULE_SCHEMA(text) FERRULE_KEY("schema", text)
/* "in", "out" or "both" (R24). */
#define FERRULE_STREAM(word) FERRULE_KEY("stream", word)
/* FERRULE_CONFIG_SCHEMA = initialiser; the schema of the configuration (R32). The initialiser is a string literal, or
 * bytes that end in a NUL. Strict C allows 4,095 bytes in a literal, so a long schema is bytes; C23 takes them from a
 * file:
 *
 *     FERRULE_CONFIG_SCHEMA = {
 *     #embed "schema.json" suffix(, 0)
 *     };
 */
#define FERRULE_CONFIG_SCHEMA                                                                                          \
    FERRULE_C_ FERRULE_EXPORT const unsigned char ferrule_meta_config[];                                               \
    const unsigned char ferrule_meta_config[]

#endif /* FERRULE_H */
