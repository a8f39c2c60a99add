/* A plug-in with a function for each thing that a helper of ferrule/sdk.h does; test_helpers.c runs them. Valid as C99
 * and as C++11. Memory is counted, and can be made to run out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

/* Blocks that are allocated and not freed, and how many more allocations succeed (less than 0: all). */
static long live_blocks;
static long allocations_left = -1;

static int may_allocate(size_t size) {
    if (size > (size_t)1 << 40 || allocations_left == 0) return 0;
    if (allocations_left > 0) allocations_left--;
    return 1;
}
static void *counted_malloc(size_t size) {
    void *block = may_allocate(size) ? malloc(size) : NULL;
    if (block) live_blocks++;
    return block;
}
static void *counted_realloc(void *old, size_t size) {
    void *block = may_allocate(size) ? realloc(old, size) : NULL;
    if (block && !old) live_blocks++;
    return block;
}
static void counted_free(void *block) {
    if (block) live_blocks--;
    free(block);
}
#define malloc counted_malloc
#define realloc counted_realloc
#define free counted_free

#include <ferrule/sdk.h>

#if defined(__cplusplus)
#define TEST_C extern "C"
#else
#define TEST_C extern
#endif
TEST_C FERRULE_EXPORT long test_live_blocks(void);
long test_live_blocks(void) { return live_blocks; }
TEST_C FERRULE_EXPORT void test_allow_allocations(long count);
void test_allow_allocations(long count) { allocations_left = count; }

FERRULE_PLUGIN(FERRULE_NAME("helpers") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent"));

/* ---- Replies --------------------------------------------------------------------------------------------------- */

FERRULE_FN(reply) { return ferrule_reply(call, call->in, call->in_len); }
FERRULE_FN(reply_nothing) { return ferrule_reply(call, NULL, 0); }
FERRULE_FN(reply_not_at_all) { return FERRULE_OK; }
FERRULE_FN(reply_text) { return ferrule_reply_text(call, "Grüße"); }
FERRULE_FN(reply_tail) { return ferrule_reply(call, call->in + 1, call->in_len - 1); }

/* Longer than any memory; volatile, because a compiler that sees the number refuses the program. */
static volatile size_t too_long = SIZE_MAX;
FERRULE_FN(reply_too_long) { return ferrule_reply(call, call->in, too_long); }
FERRULE_FN(reply_over_ptrdiff) { return ferrule_reply(call, call->in, (size_t)PTRDIFF_MAX + too_long / too_long); }

FERRULE_FN(replyf) { return ferrule_replyf(call, "%zu bytes: %.*s", call->in_len, (int)call->in_len, call->in); }
FERRULE_FN(replyf_unprintable) { return ferrule_replyf(call, "%ls", L"\x7fffffff"); }

/* Every reply takes the place of the one before, and may be made of it. */
FERRULE_FN(reply_again) {
    int32_t status = ferrule_reply(call, call->in, call->in_len);
    if (!status) status = ferrule_reply(call, call->out + 1, call->out_len - 1);
    if (!status) status = ferrule_replyf(call, "<%.*s>", (int)call->out_len, call->out);
    return status ? status : ferrule_reply(call, call->out, call->out_len - 1);
}

FERRULE_FN(reply_owned) {
    char *copy = (char *)malloc(call->in_len + 1);
    if (copy) memcpy(copy, call->in, call->in_len);
    return ferrule_reply_owned(call, copy, call->in_len, NULL);
}
FERRULE_FN(reply_owned_nothing) { return ferrule_reply_owned(call, NULL, 0, NULL); }
FERRULE_FN(reply_owned_too_long) { return ferrule_reply_owned(call, malloc(1), too_long, NULL); }

/* Memory with a header of its own before the bytes, as a pool would have it. */
static void give_back(ferrule_call *call) {
    if (memcmp(call->out - 8, &call->out_len, sizeof call->out_len)) abort(); /* not the length that it was made with */
    free(call->out - 8);
}
static int32_t reply_pooled(ferrule_call *call) {
    uint8_t *block = (uint8_t *)malloc(8 + call->in_len);
    if (!block) return ferrule_reply_owned(call, NULL, call->in_len, give_back);
    memcpy(block, &call->in_len, sizeof call->in_len);
    memcpy(block + 8, call->in, call->in_len);
    return ferrule_reply_owned(call, block + 8, call->in_len, give_back);
}
FERRULE_FN(reply_pooled) { return reply_pooled(call); }
FERRULE_FN(reply_pooled_twice) {
    int32_t status = reply_pooled(call);
    return status == FERRULE_OK ? reply_pooled(call) : status;
}
FERRULE_FN(reply_pooled_then_copied) {
    int32_t status = reply_pooled(call);
    return status == FERRULE_OK ? ferrule_reply(call, call->out + 1, call->out_len - 1) : status;
}

FERRULE_FN(reply_pooled_then_failed) {
    int32_t status = reply_pooled(call);
    return status == FERRULE_OK ? ferrule_fail(call, FERRULE_FAILED, "failed after %zu bytes", call->out_len) : status;
}
FERRULE_FN(reply_pooled_then_reserved) {
    int32_t status = reply_pooled(call);
    return status == FERRULE_OK && !ferrule_reserve(call, 1000) ? FERRULE_NO_MEMORY : status;
}

FERRULE_FN(reserve) {
    uint8_t *room = ferrule_reserve(call, call->in_len);
    if (!room) return FERRULE_NO_MEMORY;
    memcpy(room, call->in, call->in_len);
    call->out_len = call->in_len - 1;
    return FERRULE_OK;
}
FERRULE_FN(reserve_again) {
    uint8_t *room = ferrule_reserve(call, call->in_len);
    if (room) room = ferrule_reserve(call, 2 * call->in_len);
    if (!room) return FERRULE_NO_MEMORY;
    memcpy(room, call->in, call->in_len);
    memcpy(room + call->in_len, call->in, call->in_len);
    call->out_len = 2 * call->in_len;
    return FERRULE_OK;
}
FERRULE_FN(reserve_too_much) {
    ferrule_reply(call, call->in, call->in_len);
    return ferrule_reserve(call, too_long) ? FERRULE_OK : FERRULE_NO_MEMORY;
}

/* ---- Failures -------------------------------------------------------------------------------------------------- */

FERRULE_FN(fail) { return ferrule_fail(call, FERRULE_INVALID, "line %d: %.*s", 3, (int)call->in_len, call->in); }
FERRULE_FN(fail_newline) { return ferrule_fail(call, 1234, "two newlines\n\n"); }
FERRULE_FN(fail_empty) { return ferrule_fail(call, FERRULE_UNSUPPORTED, "%s", ""); }
FERRULE_FN(fail_with_ok) { return ferrule_fail(call, FERRULE_OK, "not ok"); }
FERRULE_FN(fail_negative) { return ferrule_fail(call, -1, "not ok"); }
FERRULE_FN(fail_unprintable) { return ferrule_fail(call, FERRULE_INVALID, "name %ls", L"\x7fffffff"); }
FERRULE_FN(fail_after_reply) {
    int32_t status = ferrule_reply(call, call->in, call->in_len);
    if (status != FERRULE_OK) return status;
    return ferrule_fail(call, FERRULE_FAILED, "lost after %.*s", (int)call->out_len, call->out);
}

/* ---- Input and state ------------------------------------------------------------------------------------------- */

FERRULE_FN(in_text) {
    char text[8];
    int32_t status = ferrule_in_text(call, text, sizeof text);
    return status ? status : ferrule_reply_text(call, text);
}
FERRULE_FN(in_text_nowhere) { return ferrule_in_text(call, NULL, 0); }

typedef struct counter {
    long count;
} counter;
FERRULE_START {
    counter *made;
    if (call->in_len) return ferrule_fail(call, FERRULE_INVALID, "expected no configuration");
    made = (counter *)malloc(sizeof(counter));
    if (!made) return FERRULE_NO_MEMORY;
    made->count = 40;
    call->state = made;
    return FERRULE_OK;
}
FERRULE_FN(count) { return ferrule_replyf(call, "%ld", ++FERRULE_STATE(call, counter)->count); }
FERRULE_STOP {
    free(FERRULE_STATE(call, counter));
    return FERRULE_OK;
}

/* ---- Buffers --------------------------------------------------------------------------------------------------- */

FERRULE_FN(buffer) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    int i;
    for (i = 0; i < 100; i++) ferrule_buffer_appendf(&b, "%d,", i);
    ferrule_buffer_append(&b, call->in, call->in_len);
    return ferrule_reply_buffer(call, &b);
}
FERRULE_FN(buffer_doubles_itself) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    ferrule_buffer_append(&b, call->in, call->in_len);
    while (b.status == FERRULE_OK && b.len < 1000) ferrule_buffer_append(&b, b.data, b.len);
    ferrule_buffer_appendf(&b, "%.3s", ferrule_buffer_text(&b));
    return ferrule_reply_buffer(call, &b);
}
FERRULE_FN(buffer_reserve) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    if (ferrule_buffer_reserve(&b, call->in_len) == FERRULE_OK) {
        memcpy(b.data, call->in, call->in_len);
        b.len = call->in_len;
    }
    return ferrule_reply_buffer(call, &b);
}
FERRULE_FN(buffer_text) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    int32_t status;
    if (ferrule_buffer_text(&b)[0]) return ferrule_fail(call, FERRULE_FAILED, "a new buffer has text");
    ferrule_buffer_append(&b, call->in, call->in_len);
    if (b.len) b.len--;
    status = b.status ? b.status : ferrule_reply_text(call, ferrule_buffer_text(&b));
    ferrule_buffer_free(&b);
    return b.data || b.len || b.cap ? ferrule_fail(call, FERRULE_FAILED, "a freed buffer is not as new") : status;
}
FERRULE_FN(buffer_empty) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    return ferrule_reply_buffer(call, &b);
}
FERRULE_FN(buffer_too_long) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    ferrule_reply(call, call->in, call->in_len);
    ferrule_buffer_append(&b, call->in, call->in_len);
    ferrule_buffer_append(&b, call->in, too_long);
    ferrule_buffer_append(&b, "more", 4);
    return ferrule_reply_buffer(call, &b);
}
FERRULE_FN(buffer_over_ptrdiff) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    ferrule_buffer_append(&b, call->in, 2);
    ferrule_buffer_reserve(&b, (size_t)PTRDIFF_MAX - 2);
    return ferrule_reply_buffer(call, &b);
}
FERRULE_FN(buffer_unprintable) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    ferrule_buffer_appendf(&b, "%ls", L"\x7fffffff");
    return ferrule_reply_buffer(call, &b);
}

/* ---- Services -------------------------------------------------------------------------------------------------- */

FERRULE_IMPORT(echo);
FERRULE_IMPORT(repeat);
FERRULE_IMPORT(refuse);
FERRULE_IMPORT(silent);
FERRULE_IMPORT(greedy);
FERRULE_IMPORT(hollow);
FERRULE_IMPORT(stuck);
FERRULE_IMPORT(growing);
FERRULE_IMPORT(forgetful);

/* The result, or the message, of a host function as this one's. */
static int32_t pass_on(ferrule_call *call, uint32_t ordinal) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_import(call, ordinal, call->in, call->in_len, &b);
    int32_t sent = ferrule_reply_buffer(call, &b);
    return status ? status : sent;
}
FERRULE_FN(import_echo) { return pass_on(call, FERRULE_ORDINAL(echo)); }
FERRULE_FN(import_repeat) { return pass_on(call, FERRULE_ORDINAL(repeat)); }
FERRULE_FN(import_refuse) { return pass_on(call, FERRULE_ORDINAL(refuse)); }
FERRULE_FN(import_silent) { return pass_on(call, FERRULE_ORDINAL(silent)); }
FERRULE_FN(import_greedy) { return pass_on(call, FERRULE_ORDINAL(greedy)); }
FERRULE_FN(import_hollow) { return pass_on(call, FERRULE_ORDINAL(hollow)); }
FERRULE_FN(import_stuck) { return pass_on(call, FERRULE_ORDINAL(stuck)); }
FERRULE_FN(import_growing) { return pass_on(call, FERRULE_ORDINAL(growing)); }
FERRULE_FN(import_forgetful) { return pass_on(call, FERRULE_ORDINAL(forgetful)); }
FERRULE_FN(import_wrong) { return pass_on(call, 4711); }

/* A buffer that has failed is no input, and no host function runs for it. */
FERRULE_FN(import_into_failed) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    ferrule_buffer_append(&b, call->in, call->in_len);
    ferrule_buffer_append(&b, call->in, too_long);
    ferrule_import(call, FERRULE_ORDINAL(echo), b.data, b.len, &b);
    return ferrule_reply_buffer(call, &b);
}

/* The input is in the buffer that the result replaces, which has to grow for it. */
FERRULE_FN(import_own_content) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_buffer_append(&b, call->in, call->in_len);
    if (!status) status = ferrule_import(call, FERRULE_ORDINAL(echo), b.data, b.len, &b);
    if (!status) return ferrule_reply_buffer(call, &b);
    ferrule_buffer_free(&b);
    return status;
}

/* The same buffer for one host function after the other, its content the input of the next. */
FERRULE_FN(import_chain) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_import(call, FERRULE_ORDINAL(repeat), "300", 3, &b);
    if (!status) status = ferrule_import(call, FERRULE_ORDINAL(echo), b.data + 290, 10, &b);
    if (!status) status = ferrule_buffer_append(&b, call->in, call->in_len);
    if (!status) status = ferrule_import(call, FERRULE_ORDINAL(echo), b.data, b.len, &b);
    if (!status) return ferrule_reply_buffer(call, &b);
    ferrule_buffer_free(&b);
    return status;
}

FERRULE_FN(log) {
    ferrule_log(call, FERRULE_LOG_WARN, "%.*s\n", (int)call->in_len, call->in);
    return ferrule_reply_text(call, "logged");
}
FERRULE_FN(log_error) { return ferrule_log_error(call, "%s", "e"), FERRULE_OK; }
FERRULE_FN(log_warn) { return ferrule_log_warn(call, "w"), FERRULE_OK; }
FERRULE_FN(log_info) { return ferrule_log_info(call, "i"), FERRULE_OK; }
FERRULE_FN(log_debug) { return ferrule_log_debug(call, "d"), FERRULE_OK; }
FERRULE_FN(log_trace) { return ferrule_log_trace(call, "t"), FERRULE_OK; }

FERRULE_FN(log_fields) {
    ferrule_log_fields(call, FERRULE_LOG_WARN, "a line\n", "text=%.*s\nnumber=%d\nlast=%s", (int)call->in_len, call->in, 7,
                       "end");
    return FERRULE_OK;
}
FERRULE_FN(log_fields_newlines) {
    ferrule_log_fields(call, FERRULE_LOG_INFO, "\n", "one=\n%s\n\n", "\n");
    return FERRULE_OK;
}
FERRULE_FN(log_no_fields) {
    const char *nothing = "";
    ferrule_log_fields(call, FERRULE_LOG_INFO, "alone", "%s", nothing);
    return FERRULE_OK;
}
FERRULE_FN(log_fields_unprintable) {
    ferrule_log_fields(call, FERRULE_LOG_INFO, "bare", "wide=%ls", L"\x7fffffff");
    return FERRULE_OK;
}

/* ---- Since version 1.1 of the contract ------------------------------------------------------------------------- */

FERRULE_FN(pass) {
    ferrule_reply(call, call->in, call->in_len);
    return ferrule_pass(call);
}
FERRULE_FN(pass_after_pooled) {
    int32_t status = reply_pooled(call);
    return status ? status : ferrule_pass(call);
}
FERRULE_FN(pass_with_reason) { return ferrule_fail(call, FERRULE_PASS, "not for %.*s", (int)call->in_len, call->in); }

FERRULE_WANT(cache);
FERRULE_WANT(mail);
FERRULE_FN(want_cache) { return pass_on(call, FERRULE_WANT_ORDINAL(cache)); }
FERRULE_FN(want_mail) { return pass_on(call, FERRULE_WANT_ORDINAL(mail)); }
FERRULE_FN(offered) {
    char name[200];
    int32_t status = ferrule_in_text(call, name, sizeof name);
    return status ? status : ferrule_reply_text(call, ferrule_offered(call, name) ? "yes" : "no");
}

FERRULE_FN(info) {
    ferrule_buffer key = FERRULE_BUFFER_INIT, b = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_buffer_append(&key, call->in, call->in_len), sent;
    if (!status) status = ferrule_info(call, ferrule_buffer_text(&key), &b);
    sent = ferrule_reply_buffer(call, &b);
    ferrule_buffer_free(&key);
    return status ? status : sent;
}
FERRULE_FN(info_text) {
    char key[64], text[14];
    int32_t status = ferrule_in_text(call, key, sizeof key);
    if (status) return status;
    memset(text, 'x', sizeof text);
    status = ferrule_info_text(call, key, text, sizeof text);
    return status ? ferrule_fail(call, status, "\"%s\"", text) : ferrule_reply_text(call, text);
}
FERRULE_FN(info_text_nowhere) { return ferrule_info_text(call, "path", NULL, 0); }
FERRULE_FN(remaining) {
    const uint64_t ns = ferrule_remaining(call);
    return ns == UINT64_MAX ? ferrule_reply_text(call, "for ever") : ferrule_replyf(call, "%.1f s", (double)ns / 1e9);
}

/* As many bytes as the input has, by rooms that grow by 100 bytes. */
FERRULE_FN(room_grows) {
    size_t i;
    for (i = 0; i < call->in_len; i++) {
        if (i == call->out_cap) {
            int32_t status = ferrule_room(call, i + 100);
            if (status) return ferrule_fail(call, status, "no room for %zu bytes", i + 100);
        }
        call->out[i] = call->in[i];
        call->out_len = i + 1;
    }
    return FERRULE_OK;
}
FERRULE_FN(room_after_owned) {
    int32_t status = reply_pooled(call);
    return status ? status : ferrule_room(call, 1) == FERRULE_OK ? FERRULE_FAILED : FERRULE_OK;
}

FERRULE_FN_META(stream_count, FERRULE_STREAM("in"));
FERRULE_FN(stream_count) {
    const uint8_t *piece;
    size_t len, pieces = 0, bytes = 0;
    int32_t status;
    while ((status = ferrule_read(call, &piece, &len)) == FERRULE_OK && len) {
        pieces++;
        bytes += len;
    }
    if (len) return ferrule_fail(call, FERRULE_FAILED, "a failed read left a piece of %zu bytes", len);
    return status ? ferrule_fail(call, status, "broke off after %zu bytes", bytes)
                  : ferrule_replyf(call, "%zu pieces, %zu bytes", pieces, bytes);
}
FERRULE_FN_META(stream_copy, FERRULE_STREAM("both"));
FERRULE_FN(stream_copy) {
    const uint8_t *piece;
    size_t len;
    int32_t status;
    while ((status = ferrule_read(call, &piece, &len)) == FERRULE_OK && len)
        if ((status = ferrule_write(call, piece, len)) != FERRULE_OK) break;
    return status;
}
FERRULE_FN_META(stream_print, FERRULE_STREAM("out"));
FERRULE_FN(stream_print) {
    int32_t status = ferrule_writef(call, "%zu bytes: %.*s\n", call->in_len, (int)call->in_len, call->in);
    if (!status) status = ferrule_write(call, NULL, 0);
    return status ? status : ferrule_writef(call, "%s", "end");
}
FERRULE_FN(stream_unprintable) { return ferrule_writef(call, "%ls", L"\x7fffffff"); }
FERRULE_FN_META(stream_fives, FERRULE_STREAM("in"));
/* Reads five bytes at a time, and says how much there was in all, and of the last five. */
FERRULE_FN(stream_fives) {
    ferrule_reader reader = FERRULE_READER_INIT(call);
    char five[5];
    size_t got, bytes = 0;
    while ((got = ferrule_reader_read(&reader, five, sizeof five)) == sizeof five) bytes += got;
    if (ferrule_reader_read(&reader, five + got, sizeof five - got))
        return ferrule_fail(call, FERRULE_FAILED, "there was more after the end");
    if (reader.status) return ferrule_fail(call, reader.status, "%zu bytes, then none", bytes + got);
    return ferrule_replyf(call, "%zu bytes, at last %.*s", bytes + got, (int)got, five);
}

/* A wrapper, which changes what goes in and what comes out. */
FERRULE_HOOK(wrapper) {
    ferrule_buffer b = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_next(call, call->in, call->in_len, &b), sent;
    if (!status) ferrule_buffer_append(&b, "!", 1);
    sent = ferrule_reply_buffer(call, &b);
    return status ? status : sent;
}
FERRULE_HOOK_META(wrapper, FERRULE_KEY("wrap", "yes"));

FERRULE_FN(progress) {
    ferrule_set_progress(call, call->in_len, 0);
    ferrule_set_progress(call, call->in_len, 1000);
    return FERRULE_OK;
}
FERRULE_FN(background_outside) {
    return ferrule_background(call) ? FERRULE_OK : ferrule_reply_text(call, "only in ferrule_start");
}

FERRULE_FN(cancelled) { return ferrule_cancelled(call) ? FERRULE_CANCELLED : ferrule_reply_text(call, "wanted"); }
