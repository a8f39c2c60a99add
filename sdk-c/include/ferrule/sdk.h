/* ferrule/sdk.h: helpers for plug-ins written in C99 or later, over ferrule.h. SPDX-License-Identifier: MIT
 *
 *     #include <ferrule/sdk.h>
 *
 *     FERRULE_PLUGIN(FERRULE_NAME("greeter") FERRULE_VERSION("1.0.0"));
 *
 *     FERRULE_FN(greet) {
 *         char name[64];
 *         int32_t status = ferrule_in_text(call, name, sizeof name);
 *         return status ? status : ferrule_replyf(call, "Hello, %s!", name);
 *     }
 *
 *     cc -shared -fPIC -o greeter.so greeter.c
 *
 * Every helper is a static function or a macro: a plug-in exports none of them, links to nothing but the C library, and
 * lives in one process with plug-ins built with other versions of this file. It compiles as C++11, too; there
 * ferrule/sdk.hpp is more pleasant.
 *
 * What holds for all of them:
 *   - A status is returned where something can go wrong, so that `return ferrule_reply(…)` is how a function ends.
 *   - A result is whole or it is not there: when memory runs out, FERRULE_NO_MEMORY comes back and out_len is 0.
 *   - A reply or a failure replaces what an earlier one left in the frame, and gives back its memory. What it is made
 *     of may lie in that earlier reply, in the host's room or in the input.
 *   - Memory that the plug-in hands over comes from malloc and is freed by the plug-in's own C library (R9).
 *   - [thread] Helpers that take the frame may be used on any thread while the call runs (R14); those that write the
 *     result on one at a time. A buffer or a reader belongs to one thread at a time.
 *   - What came with version 1.1 of the contract works with an older host as far as that goes: the comment says what
 *     comes back there, which is FERRULE_UNSUPPORTED for most.
 * Names that end in an underscore are not for authors.
 */
#ifndef FERRULE_SDK_H
#define FERRULE_SDK_H

#include <ferrule.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The compiler checks arguments against a format, as for printf. MinGW's own printf is not the one of the system. */
#if defined(__MINGW_PRINTF_FORMAT)
#define FERRULE_PRINTF_(text, first) __attribute__((__format__(__MINGW_PRINTF_FORMAT, text, first)))
#elif defined(__GNUC__)
#define FERRULE_PRINTF_(text, first) __attribute__((__format__(__printf__, text, first)))
#else
#define FERRULE_PRINTF_(text, first)
#endif

/* Keeps what needs many registers out of a caller that seldom comes to it. */
#if defined(__GNUC__)
#define FERRULE_NOINLINE_ static __attribute__((unused, noinline))
#else
#define FERRULE_NOINLINE_ static
#endif

#if defined(__cplusplus)
extern "C" {
#endif

/* ---- Replies --------------------------------------------------------------------------------------------------- */

static inline void FERRULE_UNUSED_ ferrule_release_free_(ferrule_call *call) { free(call->out); }

/* No object is longer than PTRDIFF_MAX, and malloc(0) may return NULL, which is no failure here. */
static inline uint8_t *FERRULE_UNUSED_ ferrule_alloc_(size_t len) {
    return len <= PTRDIFF_MAX ? FERRULE_CAST_(uint8_t *, malloc(len ? len : 1)) : NULL;
}

/* Hands over len bytes at `bytes` as the result, without a copy. The host calls `release` when it has them (R9); NULL
 * stands for free(). bytes NULL with a len is what a failed allocation looks like, and gives FERRULE_NO_MEMORY; release
 * is never called for NULL. */
static inline int32_t FERRULE_UNUSED_ ferrule_reply_owned(ferrule_call *call, void *bytes, size_t len,
                                                          void (*release)(ferrule_call *call)) {
    int whole = len == 0 || (bytes && len <= PTRDIFF_MAX);
    if (call->release && call->out != bytes) call->release(call);
    call->out = FERRULE_CAST_(uint8_t *, bytes);
    call->out_len = whole ? len : 0;
    call->release = release && bytes ? release : ferrule_release_free_;
    return whole ? FERRULE_OK : FERRULE_NO_MEMORY;
}

/* Leaves an empty result, and gives an earlier reply's memory back while out_len is still what its release expects. */
static inline void FERRULE_UNUSED_ ferrule_drop_(ferrule_call *call) {
    if (call->release) ferrule_reply_owned(call, NULL, 0, NULL);
    call->out_len = 0;
}

/* Makes call->out the host's memory for at least len bytes, sets call->out_cap, and keeps the first call->out_len bytes
 * (R25). Write there and set call->out_len. [lifetime] until the call returns, or the next room; what call->out pointed
 * to before is gone. Returns FERRULE_OK; FERRULE_NO_MEMORY, with everything as it was; FERRULE_MISUSE after a reply that
 * lies in the plug-in's memory; FERRULE_UNSUPPORTED from an older host. Use it to grow a result whose length you do not
 * know; where you know a bound, ferrule_reserve is simpler, and works with every host. */
static inline int32_t FERRULE_UNUSED_ ferrule_room(ferrule_call *call, size_t len) {
    if (len <= call->out_cap && !call->release) return FERRULE_OK;
    if (!FERRULE_HAS(call->host, room)) return FERRULE_UNSUPPORTED;
    return call->host->room(call, len);
}

/* A pointer to room for at least len bytes of result: the host's where that is to be had, otherwise memory of the
 * plug-in's that the host gives back. Write there and set call->out_len to what you wrote. NULL when there is no memory.
 * It keeps nothing of an earlier reply. [lifetime] until the call returns, or the next reply, failure or reserve. */
static inline uint8_t *FERRULE_UNUSED_ ferrule_reserve(ferrule_call *call, size_t len) {
    uint8_t *block;
    if (!call->release) {
        call->out_len = 0; /* so that a new room copies nothing */
        if (ferrule_room(call, len) == FERRULE_OK) return call->out;
    }
    /* With an earlier reply in memory of the plug-in's, the address of the host's room is gone. */
    block = ferrule_alloc_(len);
    if (block)
        ferrule_reply_owned(call, block, 0, NULL);
    else
        ferrule_drop_(call);
    return block;
}

FERRULE_NOINLINE_ int32_t ferrule_reply_copy_(ferrule_call *call, const void *bytes, size_t len) {
    uint8_t *block;
    /* The room is shorter than `bytes`, which therefore do not lie in it: a new one may take its place. */
    if (!call->release) {
        block = ferrule_reserve(call, len);
        if (!block) return FERRULE_NO_MEMORY;
        if (len) memcpy(block, bytes, len);
        call->out_len = len;
        return FERRULE_OK;
    }
    /* Copied before the earlier reply goes, because `bytes` may lie in it. */
    block = ferrule_alloc_(len);
    if (block && len) memcpy(block, bytes, len);
    if (block) return ferrule_reply_owned(call, block, len, NULL);
    ferrule_drop_(call);
    return FERRULE_NO_MEMORY;
}

/* Replies with a copy of len bytes: in the host's room when they fit there, which costs a comparison and a move.
 * FERRULE_NO_MEMORY when they do not, and there is no memory. */
static inline int32_t FERRULE_UNUSED_ ferrule_reply(ferrule_call *call, const void *bytes, size_t len) {
    if (len > call->out_cap || call->release) return ferrule_reply_copy_(call, bytes, len);
    if (len) memmove(call->out, bytes, len);
    call->out_len = len;
    return FERRULE_OK;
}

/* Replies with a copy of a NUL-terminated text, without its NUL. */
static inline int32_t FERRULE_UNUSED_ ferrule_reply_text(ferrule_call *call, const char *text) {
    return ferrule_reply(call, text, strlen(text));
}

/* Replies with memory from malloc: freed here when the host's room takes a copy, otherwise handed over. */
static inline int32_t FERRULE_UNUSED_ ferrule_reply_malloced_(ferrule_call *call, void *bytes, size_t len) {
    int32_t status;
    if (len > call->out_cap || call->release) return ferrule_reply_owned(call, bytes, len, NULL);
    status = ferrule_reply(call, bytes, len);
    free(bytes);
    return status;
}

/* ---- Formatted text -------------------------------------------------------------------------------------------- */

/* A formatted text. It never stands in the host's room or in a buffer while it is made, so that its arguments may. */
typedef struct ferrule_text_ {
    const char *text; /* NUL-terminated */
    size_t len;
    char *heap;     /* the text's memory when `local` was too short for it; free it */
    int32_t status; /* FERRULE_OK; FERRULE_NO_MEMORY: cut; FERRULE_INVALID: not printable, text is the format */
    char local[256];
} ferrule_text_;

static inline void FERRULE_UNUSED_ FERRULE_PRINTF_(2, 0)
    ferrule_print_(ferrule_text_ *out, const char *format, va_list args) {
    va_list again;
    int len;
    va_copy(again, args);
    len = vsnprintf(out->local, sizeof out->local, format, args);
    out->text = out->local;
    out->len = len < 0 ? 0 : FERRULE_SIZE_(len);
    out->heap = NULL;
    out->status = FERRULE_OK;
    if (len < 0) {
        out->status = FERRULE_INVALID;
        out->text = format;
        out->len = strlen(format);
    } else if (out->len >= sizeof out->local) {
        out->heap = FERRULE_CAST_(char *, malloc(out->len + 1));
        if (out->heap) {
            vsnprintf(out->heap, out->len + 1, format, again);
            out->text = out->heap;
        } else {
            out->status = FERRULE_NO_MEMORY;
            out->len = sizeof out->local - 1;
        }
    }
    va_end(again);
}

/* A line for a log and a message have no newline at their end (R11); authors put one there by habit. */
static inline void FERRULE_UNUSED_ FERRULE_PRINTF_(2, 0)
    ferrule_print_line_(ferrule_text_ *out, const char *format, va_list args) {
    ferrule_print_(out, format, args);
    while (out->len && out->text[out->len - 1] == '\n') out->len--;
}

/* Ends a call with a status and a message for people, formatted as by printf: `return ferrule_fail(call,
 * FERRULE_INVALID, "line %d has no colon", line)`. Returns the status; FERRULE_FAILED for one that is none (R10). When
 * memory runs out the message is cut to the host's room, or empty. */
static inline int32_t FERRULE_UNUSED_ FERRULE_PRINTF_(3, 4)
    ferrule_fail(ferrule_call *call, int32_t status, const char *format, ...) {
    ferrule_text_ text;
    va_list args;
    va_start(args, format);
    ferrule_print_line_(&text, format, args);
    va_end(args);
    if (ferrule_reply(call, text.text, text.len) != FERRULE_OK && !call->release)
        ferrule_reply(call, text.text, call->out_cap);
    free(text.heap);
    return status > 0 ? status : FERRULE_FAILED;
}

/* Ends a call with FERRULE_PASS: the function has nothing to say to this input, which is no failure (R22). Returns that
 * status, without a message. An older host takes it for a failure, and gets a message. To say why, use
 * ferrule_fail(call, FERRULE_PASS, "…"). */
static inline int32_t FERRULE_UNUSED_ ferrule_pass(ferrule_call *call) {
    ferrule_drop_(call);
    if (!FERRULE_HAS(call, progress)) ferrule_reply_text(call, "nothing to say to this input");
    return FERRULE_PASS;
}

/* Replies with a text formatted as by printf. FERRULE_INVALID, and a message, when printf cannot. */
static inline int32_t FERRULE_UNUSED_ FERRULE_PRINTF_(2, 3)
    ferrule_replyf(ferrule_call *call, const char *format, ...) {
    ferrule_text_ text;
    va_list args;
    va_start(args, format);
    ferrule_print_(&text, format, args);
    va_end(args);
    if (text.heap) return ferrule_reply_malloced_(call, text.heap, text.len);
    if (text.status == FERRULE_OK) return ferrule_reply(call, text.text, text.len);
    if (text.status == FERRULE_INVALID) return ferrule_fail(call, text.status, "cannot print \"%s\"", format);
    ferrule_drop_(call);
    return text.status;
}

/* ---- Input and state ------------------------------------------------------------------------------------------- */

/* Copies the input into text[size] as a NUL-terminated text. FERRULE_INVALID, with a message to return at once, when it
 * does not fit or has a NUL of its own; text is empty then. For a text of any length append the input to a
 * ferrule_buffer. */
static inline int32_t FERRULE_UNUSED_ ferrule_in_text(ferrule_call *call, char *text, size_t size) {
    const void *nul = memchr(call->in, 0, call->in_len);
    if (size) text[0] = '\0';
    if (call->in_len >= size)
        return ferrule_fail(call, FERRULE_INVALID, "the input has %zu byte%s, expected a text of less than %zu",
                            call->in_len, call->in_len == 1 ? "" : "s", size);
    if (nul)
        return ferrule_fail(call, FERRULE_INVALID, "the input has a NUL among its %zu byte%s, expected text",
                            call->in_len, call->in_len == 1 ? "" : "s");
    if (call->in_len) memcpy(text, call->in, call->in_len);
    text[call->in_len] = '\0';
    return FERRULE_OK;
}

/* What ferrule_start set as call->state, as a pointer to `type`. */
#define FERRULE_STATE(call, type) FERRULE_CAST_(type *, (call)->state)

/* ---- Buffers --------------------------------------------------------------------------------------------------- */

/* Bytes that grow. A failure stays in `status` and makes all that follows do nothing, so that it is enough to test
 * it, or what ferrule_reply_buffer returns, at the end. Free it with ferrule_buffer_free or ferrule_reply_buffer. */
typedef struct ferrule_buffer {
    uint8_t *data;  /* NULL while cap is 0. [lifetime] until the buffer grows */
    size_t len;     /* bytes of content; you may make it smaller */
    size_t cap;     /* bytes of memory at data: more than len, unless both are 0 */
    int32_t status; /* FERRULE_OK, or what went wrong first: FERRULE_NO_MEMORY, FERRULE_INVALID of appendf */
} ferrule_buffer;

/* What a ferrule_buffer starts as. */
#define FERRULE_BUFFER_INIT                                                                                            \
    { NULL, 0, 0, FERRULE_OK }

/* Gives the buffer's memory back and makes it as new. */
static inline void FERRULE_UNUSED_ ferrule_buffer_free(ferrule_buffer *buffer) {
    const ferrule_buffer fresh = FERRULE_BUFFER_INIT;
    free(buffer->data);
    *buffer = fresh;
}

/* Makes room for extra more bytes at data + len. Write there, then add to len. Returns the buffer's status. */
static inline int32_t FERRULE_UNUSED_ ferrule_buffer_reserve(ferrule_buffer *buffer, size_t extra) {
    const size_t most = PTRDIFF_MAX;
    size_t cap;
    uint8_t *data;
    if (buffer->status != FERRULE_OK || extra < buffer->cap - buffer->len) return buffer->status;
    buffer->status = FERRULE_NO_MEMORY;
    if (extra >= most - buffer->len) return buffer->status;
    cap = buffer->cap > most / 2 ? most : buffer->cap * 2;
    if (cap < buffer->len + extra + 1) cap = buffer->len + extra + 1;
    if (cap < 64) cap = 64;
    data = FERRULE_CAST_(uint8_t *, realloc(buffer->data, cap));
    if (!data) return buffer->status;
    buffer->data = data;
    buffer->cap = cap;
    buffer->status = FERRULE_OK;
    return buffer->status;
}

/* Is p in the memory of the buffer? */
static inline int FERRULE_UNUSED_ ferrule_buffer_holds_(const ferrule_buffer *buffer, const void *p) {
    return FERRULE_CAST_(uintptr_t, p) - FERRULE_CAST_(uintptr_t, buffer->data) < buffer->cap;
}

/* Appends a copy of len bytes, which may be the buffer's own. Returns the buffer's status. */
static inline int32_t FERRULE_UNUSED_ ferrule_buffer_append(ferrule_buffer *buffer, const void *bytes, size_t len) {
    const uint8_t *from = FERRULE_CAST_(const uint8_t *, bytes);
    /* As numbers: a compiler that sees through realloc takes the pointers' difference for a use of what was freed. */
    const size_t at = FERRULE_SIZE_(FERRULE_CAST_(uintptr_t, bytes) - FERRULE_CAST_(uintptr_t, buffer->data));
    const int own = at < buffer->cap;
    if (ferrule_buffer_reserve(buffer, len) != FERRULE_OK) return buffer->status;
    if (own) from = buffer->data + at;
    if (len) memmove(buffer->data + buffer->len, from, len);
    buffer->len += len;
    return FERRULE_OK;
}

/* Appends a text formatted as by printf. Returns the buffer's status, FERRULE_INVALID when printf cannot. */
static inline int32_t FERRULE_UNUSED_ FERRULE_PRINTF_(2, 3)
    ferrule_buffer_appendf(ferrule_buffer *buffer, const char *format, ...) {
    ferrule_text_ text;
    va_list args;
    va_start(args, format);
    ferrule_print_(&text, format, args);
    va_end(args);
    if (buffer->status == FERRULE_OK) buffer->status = text.status;
    ferrule_buffer_append(buffer, text.text, text.len);
    free(text.heap);
    return buffer->status;
}

/* The buffer's content as a NUL-terminated text, "" for an empty one. [lifetime] until the buffer changes. */
static inline const char *FERRULE_UNUSED_ ferrule_buffer_text(ferrule_buffer *buffer) {
    if (!buffer->data) return "";
    buffer->data[buffer->len] = 0;
    return FERRULE_CAST_(const char *, buffer->data);
}

/* Replies with the buffer's content and empties the buffer, whose memory needs no ferrule_buffer_free after this.
 * Returns the buffer's status where it is not FERRULE_OK: what could not be built whole is not sent. */
static inline int32_t FERRULE_UNUSED_ ferrule_reply_buffer(ferrule_call *call, ferrule_buffer *buffer) {
    const ferrule_buffer fresh = FERRULE_BUFFER_INIT;
    int32_t status = buffer->status;
    if (status == FERRULE_OK) {
        status = ferrule_reply_malloced_(call, buffer->data, buffer->len);
    } else {
        ferrule_drop_(call);
        free(buffer->data);
    }
    *buffer = fresh;
    return status;
}

/* ---- The host's services --------------------------------------------------------------------------------------- */

typedef int32_t (*ferrule_service_)(ferrule_call *call, ferrule_request *request);

static inline int32_t FERRULE_UNUSED_ ferrule_fetch_(ferrule_call *call, ferrule_service_ service,
                                                     ferrule_request *request, ferrule_buffer *result) {
    size_t room = 255;
    for (;;) {
        int32_t status = ferrule_buffer_reserve(result, room);
        if (status != FERRULE_OK) return status;
        request->out = result->data;
        request->out_len = 0;
        request->out_cap = result->cap - 1;
        status = service(call, request);
        room = request->out_len;
        if (status != FERRULE_MORE && room <= request->out_cap) {
            result->len = room;
            return status;
        }
        /* A host that keeps to the contract writes no more than fits, and asks for room only where there is too
         * little; believing another one would end in a loop or behind the buffer. */
        if (status != FERRULE_MORE || !request->kept || room <= request->out_cap) return FERRULE_MISUSE;
    }
}

/* Asks a service, NULL where the host has none, and has its result in a buffer. */
static inline int32_t FERRULE_UNUSED_ ferrule_ask_(ferrule_call *call, ferrule_service_ service, uint32_t ordinal,
                                                   const void *in, size_t in_len, ferrule_buffer *result) {
    const ferrule_buffer fresh = FERRULE_BUFFER_INIT;
    ferrule_buffer input = FERRULE_BUFFER_INIT;
    ferrule_request request;
    int32_t status;
    if (result->status != FERRULE_OK) return result->status;
    if (ferrule_buffer_holds_(result, in)) {
        input = *result;
        *result = fresh;
    }
    result->len = 0;
    memset(&request, 0, sizeof request);
    request.size = sizeof request;
    request.in = FERRULE_CAST_(const uint8_t *, in);
    request.in_len = in_len;
    request.ordinal = ordinal;
    status = service ? ferrule_fetch_(call, service, &request, result) : FERRULE_UNSUPPORTED;
    ferrule_buffer_free(&input);
    return status;
}

/* Calls the host function of an import, FERRULE_ORDINAL(name), or of a want, FERRULE_WANT_ORDINAL(name), with in_len
 * bytes at `in`, and waits for it. Returns its status, with its result, or its message where that is not FERRULE_OK, as
 * the content of `result`; what was in there before is replaced, and may be the input. The function runs once, however
 * long its result; with a buffer that has failed it does not run at all. A want that the host does not offer, or does
 * not know, is FERRULE_UNSUPPORTED. That, and a status of the helper's own, such as FERRULE_NO_MEMORY, come without a
 * message.
 *
 *     ferrule_buffer points = FERRULE_BUFFER_INIT;
 *     int32_t status = ferrule_import(call, FERRULE_ORDINAL(loyalty_points), "ada", 3, &points);
 *
 * To let a failure through, message and all: ferrule_reply_buffer(call, &points); return status; */
static inline int32_t FERRULE_UNUSED_ ferrule_import(ferrule_call *call, uint32_t ordinal, const void *in,
                                                     size_t in_len, ferrule_buffer *result) {
    return ferrule_ask_(call, ordinal == FERRULE_UNBOUND ? NULL : call->host->call, ordinal, in, in_len, result);
}

/* In a wrapper (R33): runs what stands behind it, with in_len bytes at `in`, and waits for it. Its status and its result
 * are those of ferrule_import. FERRULE_UNSUPPORTED where nothing stands behind, and from an older host. */
static inline int32_t FERRULE_UNUSED_ ferrule_next(ferrule_call *call, const void *in, size_t in_len,
                                                   ferrule_buffer *result) {
    return ferrule_ask_(call, FERRULE_HAS(call->host, next) ? call->host->next : NULL, 0, in, in_len, result);
}

/* ---- What the host knows --------------------------------------------------------------------------------------- */

/* Has the answer to a key, such as "path" (R26), as the content of `result`; what was in there before is replaced.
 * Returns FERRULE_OK; FERRULE_UNSUPPORTED, with no content, when the host does not know, does not tell or is older;
 * FERRULE_MISUSE for what is no key; or the buffer's status when that failed. */
static inline int32_t FERRULE_UNUSED_ ferrule_info(ferrule_call *call, const char *key, ferrule_buffer *result) {
    return ferrule_ask_(call, FERRULE_HAS(call->host, info) ? call->host->info : NULL, 0, key, strlen(key), result);
}

/* Has the answer to a key in text[size], as a NUL-terminated text. Returns what ferrule_info does, and FERRULE_NO_MEMORY
 * when size bytes are too few; text is empty when the status is not FERRULE_OK. */
static inline int32_t FERRULE_UNUSED_ ferrule_info_text(ferrule_call *call, const char *key, char *text, size_t size) {
    ferrule_request request;
    int32_t status = FERRULE_UNSUPPORTED;
    if (!size) return FERRULE_NO_MEMORY;
    memset(&request, 0, sizeof request);
    request.size = sizeof request;
    request.in = FERRULE_CAST_(const uint8_t *, key);
    request.in_len = strlen(key);
    request.out = FERRULE_CAST_(uint8_t *, text);
    request.out_cap = size - 1;
    if (FERRULE_HAS(call->host, info)) status = call->host->info(call, &request);
    if (status == FERRULE_MORE || request.out_len > request.out_cap) status = FERRULE_NO_MEMORY;
    text[status == FERRULE_OK ? request.out_len : 0] = '\0';
    return status;
}

/* How long the call may still run, in nanoseconds; 0 when its time is over, UINT64_MAX when it has no deadline or the
 * host is older. Asks the host each time: not for inner loops. */
static inline uint64_t FERRULE_UNUSED_ ferrule_remaining(ferrule_call *call) {
    char text[24], *end;
    uint64_t ns;
    if (ferrule_info_text(call, "remaining", text, sizeof text) != FERRULE_OK) return UINT64_MAX;
    ns = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end ? ns : UINT64_MAX;
}

/* Does the host offer what FERRULE_WANT(name) names? 1 when it does; 0 when it does not, or is older. name is the text
 * "name". ferrule_import says so, too: ask here only where it matters before the call. */
static inline int FERRULE_UNUSED_ ferrule_offered(ferrule_call *call, const char *name) {
    char key[sizeof "offers." + 128], answer[4];
    const int len = snprintf(key, sizeof key, "offers.%s", name);
    if (len < 0 || FERRULE_SIZE_(len) >= sizeof key) return 0;
    return ferrule_info_text(call, key, answer, sizeof answer) == FERRULE_OK && !strcmp(answer, "yes");
}

/* In ferrule_start: a frame to reach the host with while no call runs, on any thread (R27): for ferrule_import,
 * ferrule_log and its kin, ferrule_info and its kin, and ferrule_cancelled, which says when to end. [owner] host.
 * [lifetime] until ferrule_stop returns, which joins the threads that use it; keep it in the state. NULL elsewhere, from
 * an older host, and when there is no memory: a plug-in that cannot do without fails its start with
 * FERRULE_UNSUPPORTED. */
static inline ferrule_call *FERRULE_UNUSED_ ferrule_background(ferrule_call *call) {
    return FERRULE_HAS(call->host, background) ? call->host->background(call) : NULL;
}

/* ---- Streams --------------------------------------------------------------------------------------------------- */

/* Waits for the next piece of the input stream (R24), and points *piece at it: *len bytes, 0 at the end of the stream.
 *
 *     while ((status = ferrule_read(call, &piece, &len)) == FERRULE_OK && len) …
 *
 * [owner] host, read-only. [lifetime] until the next read on this call, or return. Returns FERRULE_OK; FERRULE_FAILED
 * when the stream broke off; FERRULE_CANCELLED; or FERRULE_UNSUPPORTED in a call without an input stream, and from an
 * older host. *len is 0 when the status is not FERRULE_OK. */
static inline int32_t FERRULE_UNUSED_ ferrule_read(ferrule_call *call, const uint8_t **piece, size_t *len) {
    int32_t status = FERRULE_UNSUPPORTED;
    if (FERRULE_HAS(call->host, read)) status = call->host->read(call, piece, len);
    if (status != FERRULE_OK) *len = 0;
    return status;
}

/* Passes a copy of len bytes on to the output stream (R24), and waits until all are taken. Returns FERRULE_OK;
 * FERRULE_FAILED when nobody takes more; FERRULE_CANCELLED; or FERRULE_UNSUPPORTED in a call without an output stream,
 * and from an older host. */
static inline int32_t FERRULE_UNUSED_ ferrule_write(ferrule_call *call, const void *bytes, size_t len) {
    if (!FERRULE_HAS(call->host, write)) return FERRULE_UNSUPPORTED;
    return call->host->write(call, FERRULE_CAST_(const uint8_t *, bytes), len);
}

/* Passes on a text formatted as by printf. Returns what ferrule_write does; with nothing passed on, FERRULE_INVALID when
 * printf cannot and FERRULE_NO_MEMORY. */
static inline int32_t FERRULE_UNUSED_ FERRULE_PRINTF_(2, 3)
    ferrule_writef(ferrule_call *call, const char *format, ...) {
    ferrule_text_ text;
    va_list args;
    int32_t status;
    va_start(args, format);
    ferrule_print_(&text, format, args);
    va_end(args);
    status = text.status == FERRULE_OK ? ferrule_write(call, text.text, text.len) : text.status;
    free(text.heap);
    return status;
}

/* The input stream for code that wants its bytes copied, as many as it asks for, such as a library with a callback like
 * fread. Make one with FERRULE_READER_INIT(call), for one call; it needs no end. Do not mix it with ferrule_read. */
typedef struct ferrule_reader {
    ferrule_call *call;
    const uint8_t *piece; /* what is left of the last piece */
    size_t left;          /* its bytes */
    int32_t status;       /* FERRULE_OK, also at the end of the stream; or what ferrule_read returned */
} ferrule_reader;

/* What a ferrule_reader starts as. */
#define FERRULE_READER_INIT(call)                                                                                      \
    { call, NULL, 0, FERRULE_OK }

/* Copies the next `size` bytes of the stream to `to`. Returns how many: less than `size` only at the end of the stream,
 * or when it failed, which `status` says. */
static inline size_t FERRULE_UNUSED_ ferrule_reader_read(ferrule_reader *reader, void *to, size_t size) {
    size_t got = 0;
    while (got < size && reader->status == FERRULE_OK) {
        size_t some = reader->left < size - got ? reader->left : size - got;
        if (!some) {
            reader->status = ferrule_read(reader->call, &reader->piece, &reader->left);
            if (!reader->left) break;
            continue;
        }
        memcpy(FERRULE_CAST_(uint8_t *, to) + got, reader->piece, some);
        reader->piece += some;
        reader->left -= some;
        got += some;
    }
    return got;
}

/* ---- Log ------------------------------------------------------------------------------------------------------- */

/* Hands a line, formatted as by printf, to the host's logger; level is one of FERRULE_LOG_…. When memory runs out the
 * line is cut. */
static inline void FERRULE_UNUSED_ FERRULE_PRINTF_(3, 4)
    ferrule_log(ferrule_call *call, uint32_t level, const char *format, ...) {
    ferrule_text_ text;
    va_list args;
    va_start(args, format);
    ferrule_print_line_(&text, format, args);
    va_end(args);
    call->host->log(call, level, text.text, text.len);
    free(text.heap);
}

/* ferrule_log_info(call, "read %d lines", n) and so on: ferrule_log with the level in its name. */
#define ferrule_log_error(call, ...) ferrule_log(call, FERRULE_LOG_ERROR, __VA_ARGS__)
#define ferrule_log_warn(call, ...) ferrule_log(call, FERRULE_LOG_WARN, __VA_ARGS__)
#define ferrule_log_info(call, ...) ferrule_log(call, FERRULE_LOG_INFO, __VA_ARGS__)
#define ferrule_log_debug(call, ...) ferrule_log(call, FERRULE_LOG_DEBUG, __VA_ARGS__)
#define ferrule_log_trace(call, ...) ferrule_log(call, FERRULE_LOG_TRACE, __VA_ARGS__)

/* A host that is older than fields gets them as text, behind the line. */
FERRULE_NOINLINE_ void ferrule_log_joined_(ferrule_call *call, uint32_t level, const char *text, size_t text_len,
                                           const char *fields, size_t fields_len) {
    char *line = FERRULE_CAST_(char *, ferrule_alloc_(text_len + 1 + fields_len));
    size_t i;
    if (!line) {
        call->host->log(call, level, text, text_len);
        return;
    }
    if (text_len) memcpy(line, text, text_len);
    line[text_len] = '\0';
    memcpy(line + text_len + 1, fields, fields_len);
    for (i = text_len; i < text_len + fields_len; i++)
        if (!line[i]) line[i] = ' ';
    call->host->log(call, level, line, text_len + fields_len);
    free(line);
}

/* Hands on a line with fields_len bytes of `key=value` texts, each closed by a NUL. */
static inline void FERRULE_UNUSED_ ferrule_log_fields_(ferrule_call *call, uint32_t level, const char *text,
                                                       size_t text_len, const char *fields, size_t fields_len) {
    if (!fields_len)
        call->host->log(call, level, text, text_len);
    else if (FERRULE_HAS(call->host, log_fields))
        call->host->log_fields(call, level, text, text_len, fields, fields_len);
    else
        ferrule_log_joined_(call, level, text, text_len, fields, fields_len);
}

/* Prints fields, and closes each by a NUL in place of the newline that stands behind it in the format. Where that newline
 * is in the text, the length of what the format makes up to there tells: a newline in a value stays one. Returns the
 * bytes of the fields, 0 when they cannot be printed. */
static inline size_t FERRULE_UNUSED_ FERRULE_PRINTF_(2, 0)
    ferrule_print_fields_(ferrule_text_ *out, const char *format, va_list args) {
    /* By a pointer, because the compiler would warn of a format that is no literal: the head is of one. */
    int (*const print)(char *, size_t, const char *, va_list) = vsnprintf;
    char *head = FERRULE_CAST_(char *, ferrule_alloc_(strlen(format) + 1));
    char *text, *newline;
    va_list again;
    va_copy(again, args);
    ferrule_print_(out, format, again);
    va_end(again);
    text = out->heap ? out->heap : out->local;
    if (!head || out->status == FERRULE_INVALID) out->len = 0;
    if (out->len) {
        size_t last = strlen(strcpy(head, format));
        for (; last && head[last - 1] == '\n'; head[--last] = '\0')
            if (out->status == FERRULE_OK) text[--out->len] = '\0';
        for (newline = strrchr(head, '\n'); newline; newline = strrchr(head, '\n')) {
            int at;
            *newline = '\0';
            va_copy(again, args);
            at = print(NULL, 0, head, again);
            va_end(again);
            if (at >= 0 && FERRULE_SIZE_(at) < out->len) text[at] = '\0';
        }
    }
    free(head);
    return out->len ? out->len + 1 : 0;
}

/* Hands a line with fields to the host's logger (R31). The text is as it is; the fields are formatted as by printf, a
 * line for each:
 *
 *     ferrule_log_fields(call, FERRULE_LOG_INFO, "read the file", "path=%s\nlines=%d", path, lines);
 *
 * A newline in a value belongs to the value. level is one of FERRULE_LOG_…. When memory runs out the fields are cut, or
 * left out. An older host gets one line of text: read the file path=a.txt lines=3. */
static inline void FERRULE_UNUSED_ FERRULE_PRINTF_(4, 5)
    ferrule_log_fields(ferrule_call *call, uint32_t level, const char *text, const char *format, ...) {
    ferrule_text_ fields;
    va_list args;
    size_t len = strlen(text), fields_len;
    while (len && text[len - 1] == '\n') len--;
    va_start(args, format);
    fields_len = ferrule_print_fields_(&fields, format, args);
    va_end(args);
    ferrule_log_fields_(call, level, text, len, fields.heap ? fields.heap : fields.local, fields_len);
    free(fields.heap);
}

#if defined(__cplusplus)
}
#endif

#endif /* FERRULE_SDK_H */
