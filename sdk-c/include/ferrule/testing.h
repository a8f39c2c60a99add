/* ferrule/testing.h: a host for a plug-in's own tests, in C99 or later. SPDX-License-Identifier: MIT
 *
 * A test program is linked from the plug-in's source files and its own. There this host runs the plug-in's functions,
 * answers its host functions, and keeps what it was asked and told:
 *
 *     #include <ferrule/testing.h>
 *
 *     FERRULE_TEST_FN(greet);
 *     FERRULE_TEST_IMPORT(points);
 *
 *     static int32_t points(void *data, const char *in, size_t in_len, ferrule_buffer *result) {
 *         (void)data;
 *         return in_len == 3 && !memcmp(in, "ada", 3) ? ferrule_buffer_append(result, "7", 1) : FERRULE_INVALID;
 *     }
 *
 *     int main(void) {
 *         ferrule_test_host *host = ferrule_test_new();
 *         ferrule_test_result r;
 *         ferrule_test_offer(host, FERRULE_TEST_SLOT(points), points, NULL);
 *         r = ferrule_test_call(host, ferrule_fn_greet, "ada", 3);
 *         assert(r.status == FERRULE_OK && !strcmp(r.out, "Hello ada, you have 7 points."));
 *         ferrule_test_free(host);
 *     }
 *
 *     cc -g -fsanitize=address,undefined -Iinclude -o tests tests.c greeter.c && ./tests
 *
 * What holds for all of it:
 *   - A plug-in that breaks rule R6, R7, R8 or R10 gets the status FERRULE_MISUSE, with a message that cites the rule.
 *   - Input, room and stream pieces have just their size, and are given back as soon as the contract allows: sanitizers
 *     and valgrind find what is read or written beyond them, or too late. The room begins with 256 bytes.
 *   - A host function that the test does not offer is FERRULE_UNSUPPORTED, also where it is an import.
 *   - After FERRULE_PANIC the test goes on with the same instance, unless it starts another one.
 *   - What a function here returns by pointer is the host's, and stays until ferrule_test_free.
 *   - [thread] Functions that set the host up belong to one thread, before calls run. Calls may run at the same time,
 *     and ferrule_test_cancel and what reads the records may run beside them; answers run on the thread that asks.
 *   - When there is no memory the process is aborted.
 * Names that end in an underscore are not for authors. The header is for test programs: a plug-in never includes it.
 */
#ifndef FERRULE_TESTING_H
#define FERRULE_TESTING_H

#include <ferrule/sdk.h>

/* ---- What a test names ----------------------------------------------------------------------------------------- */

/* Each declares what a source file of the plug-in defines, for a test that is in another file; at file scope. */
#define FERRULE_TEST_FN(name) FERRULE_C_ FERRULE_EXPORT int32_t ferrule_fn_##name(ferrule_call *call)
#define FERRULE_TEST_HOOK(point) FERRULE_C_ FERRULE_EXPORT int32_t ferrule_hook_##point(ferrule_call *call)
#define FERRULE_TEST_IMPORT(name) FERRULE_C_ FERRULE_EXPORT uint32_t ferrule_import_##name
#define FERRULE_TEST_WANT(name) FERRULE_C_ FERRULE_EXPORT uint32_t ferrule_want_##name

/* An import or a want, as two arguments of ferrule_test_offer: its name, and where its ordinal goes. */
#define FERRULE_TEST_SLOT(name) #name, &ferrule_import_##name
#define FERRULE_TEST_WANT_SLOT(name) #name, &ferrule_want_##name

#if defined(__cplusplus)
extern "C" {
#endif

/* Of a plug-in that has them. */
FERRULE_EXPORT int32_t ferrule_start(ferrule_call *call);
FERRULE_EXPORT int32_t ferrule_stop(ferrule_call *call);
FERRULE_EXPORT int32_t ferrule_configure(ferrule_call *call);
FERRULE_EXPORT int32_t ferrule_save(ferrule_call *call);
FERRULE_EXPORT int32_t ferrule_resume(ferrule_call *call);

/* Answers a host function, or what stands behind a wrapper: puts its result, or its message, into `result`, and returns
 * its status. The input is there until it returns, without a NUL behind it. data is what came with the offer. */
typedef int32_t (*ferrule_test_answer)(void *data, const char *in, size_t in_len, ferrule_buffer *result);

/* What a call came to. */
typedef struct ferrule_test_result {
    int32_t status;
    const char *out; /* the result or the message, with a NUL behind it */
    size_t len;      /* its bytes, without that NUL */
    uint64_t done;   /* what the function said of its progress last (R30); 0 and 0 when nothing */
    uint64_t total;
} ferrule_test_result;

/* A line of the log. */
typedef struct ferrule_test_line {
    uint32_t level;     /* one of FERRULE_LOG_… */
    const char *text;   /* as the plug-in handed it over */
    const char *fields; /* `key=value` texts with a newline between them; "" without fields */
} ferrule_test_line;

/* A call of a host function, or, with the name "next", of what stands behind a wrapper. */
typedef struct ferrule_test_request {
    const char *name;
    const char *in; /* the input, with a NUL behind it */
    size_t in_len;  /* its bytes, without that NUL */
} ferrule_test_request;

/* ---- Within ---------------------------------------------------------------------------------------------------- */

typedef struct ferrule_test_offer_ {
    char *name;
    uint32_t ordinal;
    ferrule_test_answer answer;
    void *data;
} ferrule_test_offer_;

typedef struct ferrule_test_kept_ {
    ferrule_buffer result;
    int32_t status;
    int fetched;
} ferrule_test_kept_;

/* Pointers to blocks of memory, each from malloc. */
typedef struct ferrule_test_list_ {
    void **at;
    size_t len;
} ferrule_test_list_;

/* The host. Its members are not for authors. */
typedef struct ferrule_test_host {
    ferrule_test_list_ offers, told, lines, requests, frames, memory;
    ferrule_test_answer behind;
    void *behind_data;
    size_t room;
    const uint8_t *stream;
    size_t stream_len, piece_len, output_limit;
    int streaming;
    ferrule_buffer output;
    void *state;
    struct ferrule_test_frame_ *between; /* the frame for between calls */
    uint32_t cancelled, ended;
    char locked;
} ferrule_test_host;

/* Frames stay until the host ends, so that one that is used too late is known as such. */
typedef struct ferrule_test_frame_ {
    ferrule_call call; /* the first member: a service gets its address */
    ferrule_test_host *host;
    int open;       /* do the services serve it? */
    int starting;   /* is this the call of ferrule_start? */
    int sets_state; /* may it set the state? */
    void *data;     /* of who made the frame */
    uint64_t progress[2];
    uint8_t *room;
    size_t room_cap;
    uint8_t *piece;
    size_t streamed;
    ferrule_test_list_ kept;
} ferrule_test_frame_;

#if defined(__cplusplus)
#define FERRULE_TEST_WORD_(value) static_cast<uint32_t>(value)
#else
#define FERRULE_TEST_WORD_(value) ((uint32_t)(value))
#endif

#define FERRULE_TEST_CANARY_ 16
#define FERRULE_TEST_FILL_ 0xA5

static inline void *FERRULE_UNUSED_ ferrule_test_alloc_(size_t len) {
    void *block = ferrule_alloc_(len);
    if (!block) {
        fprintf(stderr, "ferrule/testing.h: no memory for %zu bytes\n", len);
        abort();
    }
    return block;
}

static inline void FERRULE_UNUSED_ ferrule_test_push_(ferrule_test_list_ *list, void *item) {
    if (!(list->len & (list->len - 1))) { /* full: its room is the next power of two */
        void **more = FERRULE_CAST_(void **, ferrule_test_alloc_((list->len * 2 + 1) * sizeof(void *)));
        if (list->len) memcpy(more, list->at, list->len * sizeof(void *));
        free(list->at);
        list->at = more;
    }
    list->at[list->len++] = item;
}

static inline void FERRULE_UNUSED_ ferrule_test_drop_(ferrule_test_list_ *list) {
    size_t i;
    for (i = 0; i < list->len; i++) free(list->at[i]);
    free(list->at);
    list->at = NULL;
    list->len = 0;
}

/* A lock that C99 has without a library. It is held for some stores, never while an answer or the plug-in runs. */
static inline void FERRULE_UNUSED_ ferrule_test_lock_(ferrule_test_host *host) {
#if defined(__GNUC__)
    while (__atomic_test_and_set(&host->locked, __ATOMIC_ACQUIRE)) {}
#else
    (void)host; /* one thread only */
#endif
}

static inline void FERRULE_UNUSED_ ferrule_test_unlock_(ferrule_test_host *host) {
#if defined(__GNUC__)
    __atomic_clear(&host->locked, __ATOMIC_RELEASE);
#else
    (void)host;
#endif
}

static inline void FERRULE_UNUSED_ ferrule_test_set_(uint32_t *word, uint32_t to) {
#if defined(__GNUC__)
    __atomic_store_n(word, to, __ATOMIC_RELEASE);
#else
    *FERRULE_CAST_(volatile uint32_t *, word) = to;
#endif
}

/* A copy with a NUL behind it, which is the host's. */
static inline char *FERRULE_UNUSED_ ferrule_test_copy_(ferrule_test_host *host, const void *bytes, size_t len) {
    char *copy = FERRULE_CAST_(char *, ferrule_test_alloc_(len + 1));
    if (len) memcpy(copy, bytes, len);
    copy[len] = '\0';
    ferrule_test_lock_(host);
    ferrule_test_push_(&host->memory, copy);
    ferrule_test_unlock_(host);
    return copy;
}

/* The frame that a service was called with; NULL when it is none that may be used now. */
static inline ferrule_test_frame_ *FERRULE_UNUSED_ ferrule_test_frame_of_(ferrule_call *call, int between_calls) {
    ferrule_test_frame_ *frame = FERRULE_CAST_(ferrule_test_frame_ *, FERRULE_CAST_(void *, call));
    int open;
    if (!frame) return NULL;
    ferrule_test_lock_(frame->host);
    open = frame->open && (between_calls || frame != frame->host->between);
    ferrule_test_unlock_(frame->host);
    return open ? frame : NULL;
}

static inline int FERRULE_UNUSED_ ferrule_test_valid_(const ferrule_request *request) {
    return request && request->size >= sizeof *request && (request->kept || request->in || !request->in_len) &&
           (request->out || !request->out_cap);
}

/* Gives a result to the plug-in, or keeps it as the contract has it. */
static inline int32_t FERRULE_UNUSED_ ferrule_test_give_(ferrule_test_frame_ *frame, ferrule_request *request,
                                                         int32_t status, ferrule_buffer *result) {
    ferrule_test_kept_ *kept;
    if (result->status != FERRULE_OK) status = result->status;
    if (status < 0 || (status > FERRULE_PASS && status < FERRULE_STATUS_OWN)) status = FERRULE_FAILED;
    request->out_len = result->len;
    request->kept = 0;
    if (result->len <= request->out_cap) {
        if (result->len) memcpy(request->out, result->data, result->len);
        ferrule_buffer_free(result);
        return status;
    }
    kept = FERRULE_CAST_(ferrule_test_kept_ *, ferrule_test_alloc_(sizeof *kept));
    kept->result = *result;
    kept->status = status;
    kept->fetched = 0;
    ferrule_test_lock_(frame->host);
    ferrule_test_push_(&frame->kept, kept);
    request->kept = FERRULE_TEST_WORD_(frame->kept.len);
    ferrule_test_unlock_(frame->host);
    return FERRULE_MORE;
}

static inline int32_t FERRULE_UNUSED_ ferrule_test_fetch_(ferrule_test_frame_ *frame, ferrule_request *request) {
    int32_t status = FERRULE_MISUSE;
    ferrule_test_lock_(frame->host);
    if (request->kept <= frame->kept.len) {
        ferrule_test_kept_ *kept = FERRULE_CAST_(ferrule_test_kept_ *, frame->kept.at[request->kept - 1]);
        if (!kept->fetched) {
            request->out_len = kept->result.len;
            status = FERRULE_MORE;
            if (kept->result.len <= request->out_cap) {
                if (kept->result.len) memcpy(request->out, kept->result.data, kept->result.len);
                status = kept->status;
                kept->fetched = 1;
                request->kept = 0;
                ferrule_buffer_free(&kept->result);
            }
        }
    }
    ferrule_test_unlock_(frame->host);
    return status;
}

/* Runs an answer, and writes down what it was asked. */
static inline int32_t FERRULE_UNUSED_ ferrule_test_run_(ferrule_test_frame_ *frame, ferrule_request *request,
                                                        const char *name, ferrule_test_answer answer, void *data) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    ferrule_test_request *asked = FERRULE_CAST_(ferrule_test_request *, ferrule_test_alloc_(sizeof *asked));
    const char *in = ferrule_test_copy_(frame->host, request->in, request->in_len);
    int32_t status;
    asked->name = name;
    asked->in = in;
    asked->in_len = request->in_len;
    ferrule_test_lock_(frame->host);
    ferrule_test_push_(&frame->host->requests, asked);
    ferrule_test_unlock_(frame->host);
    status = answer(data, in, request->in_len, &result);
    return ferrule_test_give_(frame, request, status, &result);
}

static inline int32_t FERRULE_UNUSED_ ferrule_test_service_call_(ferrule_call *call, ferrule_request *request) {
    ferrule_test_frame_ *frame = ferrule_test_frame_of_(call, 1);
    size_t i;
    if (!frame || !ferrule_test_valid_(request)) return FERRULE_MISUSE;
    if (request->kept) return ferrule_test_fetch_(frame, request);
    for (i = frame->host->offers.len; i--;) {
        const ferrule_test_offer_ *offer = FERRULE_CAST_(const ferrule_test_offer_ *, frame->host->offers.at[i]);
        if (offer->ordinal == request->ordinal)
            return ferrule_test_run_(frame, request, offer->name, offer->answer, offer->data);
    }
    request->out_len = 0;
    return FERRULE_UNSUPPORTED;
}

static inline int32_t FERRULE_UNUSED_ ferrule_test_service_next_(ferrule_call *call, ferrule_request *request) {
    ferrule_test_frame_ *frame = ferrule_test_frame_of_(call, 0);
    if (!frame || !ferrule_test_valid_(request)) return FERRULE_MISUSE;
    if (request->kept) return ferrule_test_fetch_(frame, request);
    request->out_len = 0;
    if (!frame->host->behind) return FERRULE_UNSUPPORTED;
    return ferrule_test_run_(frame, request, "next", frame->host->behind, frame->host->behind_data);
}

static inline int32_t FERRULE_UNUSED_ ferrule_test_service_log_fields_(ferrule_call *call, uint32_t level,
                                                                       const char *text, size_t text_len,
                                                                       const char *fields, size_t fields_len) {
    ferrule_test_frame_ *frame = ferrule_test_frame_of_(call, 1);
    ferrule_test_line *line;
    char *joined;
    size_t i;
    if (!frame || (!text && text_len) || (!fields && fields_len) || (fields_len && fields[fields_len - 1]))
        return FERRULE_MISUSE;
    line = FERRULE_CAST_(ferrule_test_line *, ferrule_test_alloc_(sizeof *line));
    joined = ferrule_test_copy_(frame->host, fields, fields_len);
    for (i = 0; i + 1 < fields_len; i++)
        if (!joined[i]) joined[i] = '\n';
    line->level = level;
    line->text = ferrule_test_copy_(frame->host, text, text_len);
    line->fields = joined;
    ferrule_test_lock_(frame->host);
    ferrule_test_push_(&frame->host->lines, line);
    ferrule_test_unlock_(frame->host);
    return FERRULE_OK;
}

static inline int32_t FERRULE_UNUSED_ ferrule_test_service_log_(ferrule_call *call, uint32_t level, const char *text,
                                                                size_t text_len) {
    return ferrule_test_service_log_fields_(call, level, text, text_len, NULL, 0);
}

static inline int32_t FERRULE_UNUSED_ ferrule_test_service_info_(ferrule_call *call, ferrule_request *request) {
    static const char offers[] = "offers.";
    ferrule_test_frame_ *frame = ferrule_test_frame_of_(call, 1);
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    const char *value = NULL, *key;
    size_t i;
    if (!frame || !ferrule_test_valid_(request)) return FERRULE_MISUSE;
    if (request->kept) return ferrule_test_fetch_(frame, request);
    if (!request->in_len || request->in_len > 256) return FERRULE_MISUSE;
    key = ferrule_test_copy_(frame->host, request->in, request->in_len);
    for (i = 0; i + 1 < frame->host->told.len; i += 2)
        if (!strcmp(key, FERRULE_CAST_(const char *, frame->host->told.at[i])))
            value = FERRULE_CAST_(const char *, frame->host->told.at[i + 1]);
    if (!value && !strncmp(key, offers, sizeof offers - 1)) {
        value = "no";
        for (i = 0; i < frame->host->offers.len; i++)
            if (!strcmp(key + sizeof offers - 1,
                        FERRULE_CAST_(const ferrule_test_offer_ *, frame->host->offers.at[i])->name))
                value = "yes";
    }
    request->out_len = 0;
    if (!value) return FERRULE_UNSUPPORTED;
    ferrule_buffer_append(&result, value, strlen(value));
    return ferrule_test_give_(frame, request, FERRULE_OK, &result);
}

static inline uint8_t *FERRULE_UNUSED_ ferrule_test_make_room_(size_t len) {
    uint8_t *room = FERRULE_CAST_(uint8_t *, ferrule_test_alloc_(len + FERRULE_TEST_CANARY_));
    memset(room, FERRULE_TEST_FILL_, len + FERRULE_TEST_CANARY_);
    return room;
}

static inline int FERRULE_UNUSED_ ferrule_test_room_whole_(const ferrule_test_frame_ *frame) {
    size_t i;
    for (i = 0; i < FERRULE_TEST_CANARY_; i++)
        if (frame->room[frame->room_cap + i] != FERRULE_TEST_FILL_) return 0;
    return 1;
}

static inline int32_t FERRULE_UNUSED_ ferrule_test_service_room_(ferrule_call *call, size_t n) {
    ferrule_test_frame_ *frame = ferrule_test_frame_of_(call, 0);
    uint8_t *room;
    if (!frame || call->release || call->out != frame->room || call->out_len > frame->room_cap ||
        !ferrule_test_room_whole_(frame))
        return FERRULE_MISUSE;
    if (n > PTRDIFF_MAX / 2) return FERRULE_NO_MEMORY;
    room = ferrule_test_make_room_(n);
    if (call->out_len) memcpy(room, call->out, call->out_len < n ? call->out_len : n);
    free(frame->room);
    frame->room = room;
    frame->room_cap = n;
    call->out = room;
    call->out_cap = n;
    return FERRULE_OK;
}

static inline int32_t FERRULE_UNUSED_ ferrule_test_service_read_(ferrule_call *call, const uint8_t **piece,
                                                                 size_t *piece_len) {
    ferrule_test_frame_ *frame = ferrule_test_frame_of_(call, 0);
    uint8_t *next;
    size_t len;
    if (!frame || !piece || !piece_len) return FERRULE_MISUSE;
    if (!frame->host->streaming) return FERRULE_UNSUPPORTED;
    if (ferrule_cancelled(call)) return FERRULE_CANCELLED;
    ferrule_test_lock_(frame->host);
    len = frame->host->stream_len - frame->streamed;
    if (len > frame->host->piece_len) len = frame->host->piece_len;
    next = FERRULE_CAST_(uint8_t *, ferrule_test_alloc_(len));
    if (len) memcpy(next, frame->host->stream + frame->streamed, len);
    free(frame->piece);
    frame->piece = next;
    frame->streamed += len;
    ferrule_test_unlock_(frame->host);
    *piece = next;
    *piece_len = len;
    return FERRULE_OK;
}

static inline int32_t FERRULE_UNUSED_ ferrule_test_service_write_(ferrule_call *call, const uint8_t *piece,
                                                                  size_t piece_len) {
    ferrule_test_frame_ *frame = ferrule_test_frame_of_(call, 0);
    int32_t status = FERRULE_FAILED;
    if (!frame || (!piece && piece_len)) return FERRULE_MISUSE;
    if (!frame->host->streaming) return FERRULE_UNSUPPORTED;
    if (ferrule_cancelled(call)) return FERRULE_CANCELLED;
    ferrule_test_lock_(frame->host);
    if (piece_len <= frame->host->output_limit - frame->host->output.len)
        status = ferrule_buffer_append(&frame->host->output, piece, piece_len);
    ferrule_test_unlock_(frame->host);
    return status;
}

static inline ferrule_call *FERRULE_UNUSED_ ferrule_test_service_background_(ferrule_call *call);

/* In the order of its members: C++11 has no names in initialisers. */
static const ferrule_host ferrule_test_services_ = {
    sizeof(ferrule_host),
    ferrule_test_service_call_,
    ferrule_test_service_log_,
    ferrule_test_service_log_fields_,
    ferrule_test_service_info_,
    ferrule_test_service_room_,
    ferrule_test_service_read_,
    ferrule_test_service_write_,
    ferrule_test_service_next_,
    ferrule_test_service_background_,
};

static inline ferrule_test_frame_ *FERRULE_UNUSED_ ferrule_test_frame_new_(ferrule_test_host *host) {
    ferrule_test_frame_ *frame = FERRULE_CAST_(ferrule_test_frame_ *, ferrule_test_alloc_(sizeof *frame));
    memset(frame, 0, sizeof *frame);
    frame->host = host;
    frame->open = 1;
    frame->room = ferrule_test_make_room_(host->room);
    frame->room_cap = host->room;
    frame->call.size = sizeof frame->call;
    frame->call.state = host->state;
    frame->call.out = frame->room;
    frame->call.out_cap = frame->room_cap;
    frame->call.host = &ferrule_test_services_;
    frame->call.cancel = &host->cancelled;
    frame->call.progress = frame->progress;
    ferrule_test_lock_(host);
    ferrule_test_push_(&host->frames, frame);
    ferrule_test_unlock_(host);
    return frame;
}

/* From now on the frame serves nothing. */
static inline void FERRULE_UNUSED_ ferrule_test_frame_close_(ferrule_test_frame_ *frame) {
    size_t i;
    ferrule_test_lock_(frame->host);
    frame->open = 0;
    for (i = 0; i < frame->kept.len; i++) {
        ferrule_test_kept_ *kept = FERRULE_CAST_(ferrule_test_kept_ *, frame->kept.at[i]);
        if (!kept->fetched) ferrule_buffer_free(&kept->result);
    }
    ferrule_test_drop_(&frame->kept);
    free(frame->piece);
    free(frame->room);
    frame->piece = frame->room = NULL;
    ferrule_test_unlock_(frame->host);
}

static inline ferrule_call *FERRULE_UNUSED_ ferrule_test_service_background_(ferrule_call *call) {
    ferrule_test_frame_ *frame = ferrule_test_frame_of_(call, 0);
    if (!frame || !frame->starting) return NULL;
    if (!frame->host->between) {
        frame->host->between = ferrule_test_frame_new_(frame->host);
        frame->host->between->call.cancel = &frame->host->ended;
    }
    return &frame->host->between->call;
}

static inline void FERRULE_UNUSED_ ferrule_test_end_between_(ferrule_test_host *host) {
    if (host->between) ferrule_test_frame_close_(host->between);
    host->between = NULL;
}

/* Which rule the plug-in broke, "" for none. `was` is the frame as it was handed over. */
static inline const char *FERRULE_UNUSED_ ferrule_test_broken_(const ferrule_test_frame_ *frame,
                                                               const ferrule_call *was, const void *in,
                                                               int32_t status) {
    const ferrule_call *call = &frame->call;
    if (status < 0) return "rule R10: the status is negative, expected 0 or more";
    if (call->size != was->size || call->in != was->in || call->in_len != was->in_len || call->host != was->host ||
        call->cancel != was->cancel || call->progress != was->progress ||
        (call->state != was->state && !frame->sets_state))
        return "rule R6: a member of the frame was changed that is the host's";
    if (call->in_len && memcmp(call->in, in, call->in_len)) return "rule R7: the input was written to";
    if (!ferrule_test_room_whole_(frame)) return "rule R8: more than out_cap bytes were written to the host's room";
    if (call->out_len > PTRDIFF_MAX) return "rule R8: out_len is over PTRDIFF_MAX";
    if (!call->out && call->out_len) return "rule R8: out is NULL, and out_len is not 0";
    if (call->release) return "";
    if (call->out_cap != frame->room_cap) return "rule R6: out_cap was changed, and release is not set";
    if (call->out != frame->room) return "rule R8: out points at the plug-in's memory, and release is not set";
    if (call->out_len > frame->room_cap) return "rule R8: out_len is over out_cap, and release is not set";
    return "";
}

/* Runs a function. `state`, where it is not NULL, gets the state that it set. */
static inline ferrule_test_result FERRULE_UNUSED_ ferrule_test_call_(ferrule_test_host *host, ferrule_function function,
                                                                     const void *in, size_t in_len, void *data,
                                                                     int starting, void **state) {
    ferrule_test_frame_ *frame = ferrule_test_frame_new_(host);
    uint8_t *copy = FERRULE_CAST_(uint8_t *, ferrule_test_alloc_(in_len));
    ferrule_test_result result;
    ferrule_call was;
    const char *broken;
    if (in_len) memcpy(copy, in, in_len);
    frame->call.in = copy;
    frame->call.in_len = in_len;
    frame->data = data;
    frame->starting = starting;
    frame->sets_state = state != NULL;
    was = frame->call;

    result.status = function(&frame->call);

    broken = ferrule_test_broken_(frame, &was, in, result.status);
    if (result.status > FERRULE_PASS && result.status < FERRULE_STATUS_OWN) result.status = FERRULE_FAILED; /* R10 */
    if (*broken) {
        result.status = FERRULE_MISUSE;
        result.len = strlen(broken);
        result.out = ferrule_test_copy_(host, broken, result.len);
    } else {
        result.len = frame->call.out_len;
        result.out = ferrule_test_copy_(host, frame->call.out, result.len);
    }
    result.done = frame->progress[0];
    result.total = frame->progress[1];
    if (state) *state = frame->call.state;
    if (frame->call.release) {
        ferrule_test_lock_(host);
        frame->open = 0; /* R9: no service for it */
        ferrule_test_unlock_(host);
        frame->call.release(&frame->call);
    }
    free(copy);
    ferrule_test_frame_close_(frame);
    return result;
}

/* What the caller of ferrule_test_call_ gave along. */
static inline void *FERRULE_UNUSED_ ferrule_test_data_(ferrule_call *call) {
    return FERRULE_CAST_(ferrule_test_frame_ *, FERRULE_CAST_(void *, call))->data;
}

/* ---- The host -------------------------------------------------------------------------------------------------- */

/* A host that offers nothing. Free it with ferrule_test_free. */
static inline ferrule_test_host *FERRULE_UNUSED_ ferrule_test_new(void) {
    ferrule_test_host *host = FERRULE_CAST_(ferrule_test_host *, ferrule_test_alloc_(sizeof *host));
    memset(host, 0, sizeof *host);
    host->room = 256;
    host->output_limit = PTRDIFF_MAX;
    return host;
}

/* Ends the host, and all that it has returned. A state that was started is to be stopped before. */
static inline void FERRULE_UNUSED_ ferrule_test_free(ferrule_test_host *host) {
    size_t i;
    ferrule_test_end_between_(host);
    for (i = 0; i < host->offers.len; i++) free(FERRULE_CAST_(ferrule_test_offer_ *, host->offers.at[i])->name);
    ferrule_test_drop_(&host->offers);
    ferrule_test_drop_(&host->told);
    ferrule_test_drop_(&host->lines);
    ferrule_test_drop_(&host->requests);
    ferrule_test_drop_(&host->frames);
    ferrule_test_drop_(&host->memory);
    ferrule_buffer_free(&host->output);
    free(host);
}

/* Offers a host function: ferrule_test_offer(host, FERRULE_TEST_SLOT(points), answer, data), or with
 * FERRULE_TEST_WANT_SLOT. A second offer of the same one takes the first one's place. The ordinal is made of the slot's
 * address, so that it is the same in each host of the process. */
static inline void FERRULE_UNUSED_ ferrule_test_offer(ferrule_test_host *host, const char *name, uint32_t *slot,
                                                      ferrule_test_answer answer, void *data) {
    ferrule_test_offer_ *offer = FERRULE_CAST_(ferrule_test_offer_ *, ferrule_test_alloc_(sizeof *offer));
    offer->name = FERRULE_CAST_(char *, ferrule_test_alloc_(strlen(name) + 1));
    strcpy(offer->name, name);
    offer->ordinal = FERRULE_TEST_WORD_(FERRULE_CAST_(uintptr_t, slot) / sizeof *slot);
    offer->answer = answer;
    offer->data = data;
    *slot = offer->ordinal;
    ferrule_test_push_(&host->offers, offer);
}

/* Sets what host->info answers to a key (R26), such as "path". */
static inline void FERRULE_UNUSED_ ferrule_test_info(ferrule_test_host *host, const char *key, const char *value) {
    char *k = FERRULE_CAST_(char *, ferrule_test_alloc_(strlen(key) + 1));
    char *v = FERRULE_CAST_(char *, ferrule_test_alloc_(strlen(value) + 1));
    ferrule_test_push_(&host->told, strcpy(k, key));
    ferrule_test_push_(&host->told, strcpy(v, value));
}

/* Sets what stands behind a wrapper (R33); NULL for nothing. */
static inline void FERRULE_UNUSED_ ferrule_test_next(ferrule_test_host *host, ferrule_test_answer answer, void *data) {
    host->behind = answer;
    host->behind_data = data;
}

/* Sets the bytes of the room that a call finds: with 0 each result needs more room, or memory of the plug-in's. */
static inline void FERRULE_UNUSED_ ferrule_test_room(ferrule_test_host *host, size_t len) { host->room = len; }

/* From now on calls have both streams (R24): each reads these len bytes, in pieces of piece_len bytes, not 0, and
 * writes to one output, which begins empty. The bytes are to stay while calls run. */
static inline void FERRULE_UNUSED_ ferrule_test_stream(ferrule_test_host *host, const void *bytes, size_t len,
                                                       size_t piece_len) {
    host->streaming = 1;
    host->stream = FERRULE_CAST_(const uint8_t *, bytes);
    host->stream_len = len;
    host->piece_len = piece_len;
    host->output.len = 0;
}

/* From now on nobody takes more than this many bytes of the output stream: a write beyond fails. */
static inline void FERRULE_UNUSED_ ferrule_test_limit_output(ferrule_test_host *host, size_t len) {
    host->output_limit = len;
}

/* What calls wrote to the output stream, with a NUL behind it, since ferrule_test_stream; its bytes in *len, which may
 * be NULL. [lifetime] until the next write. */
static inline const char *FERRULE_UNUSED_ ferrule_test_written(ferrule_test_host *host, size_t *len) {
    if (len) *len = host->output.len;
    return ferrule_buffer_text(&host->output);
}

/* Cancels all calls of this host from now on, or, with 0, no longer. [thread] any. */
static inline void FERRULE_UNUSED_ ferrule_test_cancel(ferrule_test_host *host, int cancelled) {
    ferrule_test_set_(&host->cancelled, cancelled ? 1 : 0);
}

/* Runs a function or a hook, such as ferrule_fn_greet, with in_len bytes at `in`. */
static inline ferrule_test_result FERRULE_UNUSED_ ferrule_test_call(ferrule_test_host *host, ferrule_function function,
                                                                    const void *in, size_t in_len) {
    return ferrule_test_call_(host, function, in, in_len, NULL, 0, NULL);
}

/* Runs ferrule_start with a configuration. Where it succeeds, calls have its state from then on; where it fails, they
 * have none. */
static inline ferrule_test_result FERRULE_UNUSED_ ferrule_test_start(ferrule_test_host *host, ferrule_function start,
                                                                     const void *config, size_t len) {
    ferrule_test_result result;
    void *state = NULL;
    host->state = NULL;
    ferrule_test_set_(&host->ended, 0);
    result = ferrule_test_call_(host, start, config, len, NULL, 1, &state);
    if (result.status == FERRULE_OK)
        host->state = state;
    else
        ferrule_test_end_between_(host);
    return result;
}

/* Runs ferrule_resume with what ferrule_save gave. */
static inline ferrule_test_result FERRULE_UNUSED_ ferrule_test_resume(ferrule_test_host *host, ferrule_function resume,
                                                                      const void *saved, size_t len) {
    void *state = NULL;
    ferrule_test_result result = ferrule_test_call_(host, resume, saved, len, NULL, 0, &state);
    if (result.status == FERRULE_OK) host->state = state;
    return result;
}

/* Runs ferrule_stop as a host does: the frame for between calls is cancelled before, and ends with it (R27). */
static inline ferrule_test_result FERRULE_UNUSED_ ferrule_test_stop(ferrule_test_host *host, ferrule_function stop) {
    ferrule_test_result result;
    ferrule_test_set_(&host->ended, 1);
    result = ferrule_test_call_(host, stop, NULL, 0, NULL, 0, NULL);
    ferrule_test_end_between_(host);
    host->state = NULL;
    return result;
}

/* The line number `index`, from 0, of the log; with NULL for its text where there is none. */
static inline ferrule_test_line FERRULE_UNUSED_ ferrule_test_line_at(ferrule_test_host *host, size_t index) {
    ferrule_test_line line = {0, NULL, NULL};
    ferrule_test_lock_(host);
    if (index < host->lines.len) line = *FERRULE_CAST_(ferrule_test_line *, host->lines.at[index]);
    ferrule_test_unlock_(host);
    return line;
}

/* How many lines the log has. */
static inline size_t FERRULE_UNUSED_ ferrule_test_lines(ferrule_test_host *host) {
    size_t len;
    ferrule_test_lock_(host);
    len = host->lines.len;
    ferrule_test_unlock_(host);
    return len;
}

/* The call number `index`, from 0, of a host function; with NULL for its name where there is none. */
static inline ferrule_test_request FERRULE_UNUSED_ ferrule_test_request_at(ferrule_test_host *host, size_t index) {
    ferrule_test_request request = {NULL, NULL, 0};
    ferrule_test_lock_(host);
    if (index < host->requests.len) request = *FERRULE_CAST_(ferrule_test_request *, host->requests.at[index]);
    ferrule_test_unlock_(host);
    return request;
}

/* How many times host functions were called. */
static inline size_t FERRULE_UNUSED_ ferrule_test_requests(ferrule_test_host *host) {
    size_t len;
    ferrule_test_lock_(host);
    len = host->requests.len;
    ferrule_test_unlock_(host);
    return len;
}

#if defined(__cplusplus)
}
#endif

#endif /* FERRULE_TESTING_H */
