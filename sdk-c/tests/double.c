/* The host of ferrule/testing.h over README.md's plug-in in C, which this program is linked with, and over functions
 * that break the contract. */
#undef NDEBUG
#include <ferrule/testing.h>

#include <assert.h>

FERRULE_TEST_FN(echo);
FERRULE_TEST_FN(greet);
FERRULE_TEST_FN(half);
FERRULE_TEST_FN(ask);
FERRULE_TEST_FN(look_up);
FERRULE_TEST_FN(pass_on);
FERRULE_TEST_FN(spell);
FERRULE_TEST_FN(sum);
FERRULE_TEST_FN(tail);
FERRULE_TEST_FN(upper);
FERRULE_TEST_FN(where);
FERRULE_TEST_FN(count);
FERRULE_TEST_HOOK(around_print);
FERRULE_TEST_HOOK(before_print);
FERRULE_TEST_IMPORT(echo);
FERRULE_TEST_WANT(cache);

static void is(ferrule_test_result r, int32_t status, const char *out) {
    if (r.status == status && r.len == strlen(out) && !strcmp(r.out, out)) return;
    fprintf(stderr, "found status %d, \"%s\"; expected %d, \"%s\"\n", (int)r.status, r.out, (int)status, out);
    abort();
}

static ferrule_test_result run(ferrule_test_host *host, ferrule_function function, const char *in) {
    return ferrule_test_call(host, function, in, strlen(in));
}

/* Answers as many times its input as data says; with 0 refuses. */
static int32_t repeat(void *data, const char *in, size_t in_len, ferrule_buffer *result) {
    int times = *(const int *)data;
    if (!times) {
        ferrule_buffer_appendf(result, "no %.*s today", (int)in_len, in);
        return 1001;
    }
    while (times--) ferrule_buffer_append(result, in, in_len);
    return FERRULE_OK;
}

static void test_calls(void) {
    ferrule_test_host *host = ferrule_test_new();
    size_t room;
    for (room = 0; room <= 16; room += 4) { /* each result is in the room, in a longer one, or the plug-in's */
        ferrule_test_room(host, room);
        is(run(host, ferrule_fn_echo, "hello"), FERRULE_OK, "hello");
        is(run(host, ferrule_fn_echo, ""), FERRULE_OK, "");
        is(run(host, ferrule_fn_upper, "hello"), FERRULE_OK, "HELLO");
        is(run(host, ferrule_fn_tail, "hello"), FERRULE_OK, "hello");
        is(run(host, ferrule_fn_spell, "1212"), FERRULE_OK, "one two one two ");
        is(run(host, ferrule_fn_spell, "12x"), FERRULE_INVALID, "expected digits");
    }
    is(run(host, ferrule_fn_half, "abc"), FERRULE_INVALID, "expected pairs, found 3 bytes");
    is(run(host, ferrule_hook_before_print, ""), FERRULE_PASS, "");
    is(run(host, ferrule_hook_before_print, "x"), FERRULE_OK, "loud");
    is(ferrule_test_call(host, ferrule_fn_greet, "a\0b", 3), FERRULE_INVALID,
       "the input has a NUL among its 3 bytes, expected text");
    is(ferrule_test_call(host, ferrule_fn_greet, "", 1), FERRULE_INVALID,
       "the input has a NUL among its 1 byte, expected text");
    ferrule_test_free(host);
}

static void test_host_functions(void) {
    ferrule_test_host *host = ferrule_test_new(), *other = ferrule_test_new();
    int times = 2;
    is(run(host, ferrule_fn_ask, "hi"), FERRULE_UNSUPPORTED, "");
    is(run(host, ferrule_fn_look_up, "hi"), FERRULE_OK, "computed");
    assert(ferrule_test_requests(host) == 0 && !ferrule_test_request_at(host, 0).name);

    ferrule_test_offer(host, FERRULE_TEST_SLOT(echo), repeat, &times);
    ferrule_test_offer(host, FERRULE_TEST_WANT_SLOT(cache), repeat, &times);
    is(run(host, ferrule_fn_ask, "hi"), FERRULE_OK, "hihi");
    is(run(host, ferrule_fn_look_up, "ho"), FERRULE_OK, "hoho");
    times = 100; /* longer than the plug-in has room for: it is kept, and fetched */
    assert(run(host, ferrule_fn_ask, "hi you").len == 600);
    times = 0;
    is(run(host, ferrule_fn_ask, "luck"), 1001, "no luck today");
    assert(ferrule_test_requests(host) == 4);
    assert(!strcmp(ferrule_test_request_at(host, 1).name, "cache") && ferrule_test_request_at(host, 3).in_len == 4);
    assert(!strcmp(ferrule_test_request_at(host, 3).in, "luck"));

    is(run(host, ferrule_hook_around_print, "x"), FERRULE_UNSUPPORTED, "");
    times = 3;
    ferrule_test_next(host, repeat, &times);
    is(run(host, ferrule_hook_around_print, "x"), FERRULE_OK, "xxx!");

    is(run(host, ferrule_fn_where, ""), FERRULE_UNSUPPORTED, "the host does not say");
    ferrule_test_info(host, "path", "/plug-ins");
    is(run(host, ferrule_fn_where, ""), FERRULE_OK, "/plug-ins");

    is(run(other, ferrule_fn_ask, "hi"), FERRULE_UNSUPPORTED, ""); /* what one host offers another does not */
    ferrule_test_free(host);
    ferrule_test_free(other);
}

static void test_log_and_cancellation(void) {
    ferrule_test_host *host = ferrule_test_new();
    char *zeros = (char *)calloc(5000, 1);
    ferrule_test_result r = ferrule_test_call(host, ferrule_fn_sum, zeros, 5000);
    ferrule_test_line line;
    is(r, FERRULE_OK, "0");
    assert(r.done == 4096 && r.total == 5000);
    assert(ferrule_test_lines(host) == 2 && !ferrule_test_line_at(host, 2).text);
    line = ferrule_test_line_at(host, 0);
    assert(line.level == FERRULE_LOG_DEBUG && !strcmp(line.text, "summed 5000 bytes") && !*line.fields);
    line = ferrule_test_line_at(host, 1);
    assert(line.level == FERRULE_LOG_INFO && !strcmp(line.text, "summed") && !strcmp(line.fields, "bytes=5000\nsum=0"));
    ferrule_test_cancel(host, 1);
    is(ferrule_test_call(host, ferrule_fn_sum, zeros, 5000), FERRULE_CANCELLED, "");
    ferrule_test_cancel(host, 0);
    is(ferrule_test_call(host, ferrule_fn_sum, zeros, 5000), FERRULE_OK, "0");
    free(zeros);
    ferrule_test_free(host);
}

static void test_streams(void) {
    static const char text[] = "a stream of some bytes";
    ferrule_test_host *host = ferrule_test_new();
    size_t piece, len;
    is(run(host, ferrule_fn_pass_on, ""), FERRULE_UNSUPPORTED, "");
    for (piece = 1; piece < sizeof text + 1; piece++) {
        ferrule_test_stream(host, text, strlen(text), piece);
        is(run(host, ferrule_fn_pass_on, ""), FERRULE_OK, "22");
        assert(!strcmp(ferrule_test_written(host, &len), text) && len == strlen(text));
    }
    ferrule_test_stream(host, text, strlen(text), 5);
    ferrule_test_limit_output(host, 12);
    is(run(host, ferrule_fn_pass_on, ""), FERRULE_FAILED, "");
    assert(!strcmp(ferrule_test_written(host, NULL), "a stream o"));
    ferrule_test_cancel(host, 1);
    is(run(host, ferrule_fn_pass_on, ""), FERRULE_CANCELLED, "");
    ferrule_test_free(host);
}

static void test_state(void) {
    ferrule_test_host *host = ferrule_test_new(), *successor = ferrule_test_new();
    ferrule_test_result saved;
    is(ferrule_test_start(host, ferrule_start, "x", 1), FERRULE_INVALID, "expected a number, found \"x\"");
    is(ferrule_test_start(host, ferrule_start, "41", 2), FERRULE_OK, "");
    is(run(host, ferrule_fn_count, ""), FERRULE_OK, "42");
    is(run(host, ferrule_configure, "7"), FERRULE_OK, "");
    is(run(host, ferrule_fn_count, ""), FERRULE_OK, "8");
    saved = run(host, ferrule_save, "");
    assert(saved.status == FERRULE_OK);
    is(ferrule_test_start(successor, ferrule_start, NULL, 0), FERRULE_OK, "");
    is(ferrule_test_resume(successor, ferrule_resume, saved.out, saved.len), FERRULE_OK, "");
    is(run(successor, ferrule_fn_count, ""), FERRULE_OK, "9");
    is(run(host, ferrule_fn_count, ""), FERRULE_OK, "9");
    is(ferrule_test_stop(host, ferrule_stop), FERRULE_OK, "");
    is(ferrule_test_stop(successor, ferrule_stop), FERRULE_OK, "");
    ferrule_test_free(host);
    ferrule_test_free(successor);
}

/* ---- What breaks the contract ---------------------------------------------------------------------------------- */

static char elsewhere[] = "elsewhere";
static ferrule_call *late;
static int released;

static int32_t negative(ferrule_call *call) { return (void)call, -1; }
static int32_t reserved(ferrule_call *call) { return (void)call, 500; }
static int32_t too_long(ferrule_call *call) { return call->out_len = call->out_cap + 1, FERRULE_OK; }
static int32_t huge(ferrule_call *call) { return call->out_len = SIZE_MAX, FERRULE_OK; }
static int32_t null_out(ferrule_call *call) { return call->out = NULL, call->out_len = 1, FERRULE_OK; }
static int32_t no_release(ferrule_call *call) {
    call->out = (uint8_t *)elsewhere;
    return call->out_len = 1, FERRULE_OK;
}
static int32_t capacity(ferrule_call *call) { return call->out_cap++, FERRULE_OK; }
static int32_t keeps_state(ferrule_call *call) { return call->state = elsewhere, FERRULE_OK; }
static int32_t writes_input(ferrule_call *call) {
    uint8_t *in;
    memcpy(&in, &call->in, sizeof in);
    in[0] = 'X';
    return FERRULE_OK;
}
#ifndef SANITIZED
static int32_t beyond(ferrule_call *call) { return call->out[call->out_cap] = 0, FERRULE_OK; }
#endif
static void asks_the_host(ferrule_call *call) {
    released++;
    assert(call->host->log(call, FERRULE_LOG_INFO, "from release", 12) == FERRULE_MISUSE);
}
static int32_t hands_over(ferrule_call *call) { return ferrule_reply_owned(call, elsewhere, 4, asks_the_host); }
static int32_t keeps_frame(ferrule_call *call) { return late = call, FERRULE_OK; }
static int32_t wants_background(ferrule_call *call) {
    return ferrule_background(call) ? FERRULE_OK : ferrule_fail(call, FERRULE_FAILED, "no background");
}
static int32_t keeps_background(ferrule_call *call) {
    late = ferrule_background(call);
    return late && late == ferrule_background(call) ? FERRULE_OK : FERRULE_FAILED;
}
static int32_t ends(ferrule_call *call) {
    (void)call;
    return ferrule_cancelled(late) && late->host->room(late, 10) == FERRULE_MISUSE &&
                   late->host->log(late, FERRULE_LOG_INFO, "ends", 4) == FERRULE_OK
               ? FERRULE_OK
               : FERRULE_FAILED;
}
static int32_t fails(ferrule_call *call) { return keeps_background(call) ? FERRULE_FAILED : FERRULE_INVALID; }

static void breaks(ferrule_function function, const char *message) {
    ferrule_test_host *host = ferrule_test_new();
    is(run(host, function, "hello"), FERRULE_MISUSE, message);
    ferrule_test_free(host);
}

static void test_broken_rules(void) {
    ferrule_test_host *host = ferrule_test_new();
    ferrule_request request;
    breaks(negative, "rule R10: the status is negative, expected 0 or more");
    breaks(too_long, "rule R8: out_len is over out_cap, and release is not set");
    breaks(huge, "rule R8: out_len is over PTRDIFF_MAX");
    breaks(null_out, "rule R8: out is NULL, and out_len is not 0");
    breaks(no_release, "rule R8: out points at the plug-in's memory, and release is not set");
    breaks(capacity, "rule R6: out_cap was changed, and release is not set");
    breaks(keeps_state, "rule R6: a member of the frame was changed that is the host's");
    breaks(writes_input, "rule R7: the input was written to");
#ifndef SANITIZED
    breaks(beyond, "rule R8: more than out_cap bytes were written to the host's room");
#endif
    is(run(host, reserved, ""), FERRULE_FAILED, "");
    is(run(host, hands_over, ""), FERRULE_OK, "else");
    assert(released == 1);

    /* Frames that are used too late, requests that are none, and the frame for between calls. */
    is(run(host, keeps_frame, ""), FERRULE_OK, "");
    memset(&request, 0, sizeof request);
    request.size = sizeof request;
    assert(late->host->call(late, &request) == FERRULE_MISUSE && late->host->info(late, &request) == FERRULE_MISUSE);
    assert(late->host->log(late, FERRULE_LOG_INFO, "late", 4) == FERRULE_MISUSE && !ferrule_test_lines(host));
    is(run(host, wants_background, ""), FERRULE_FAILED, "no background");
    is(ferrule_test_start(host, keeps_background, NULL, 0), FERRULE_OK, "");
    assert(!ferrule_cancelled(late) && late->host->call(late, &request) == FERRULE_UNSUPPORTED);
    request.size--;
    assert(late->host->call(late, &request) == FERRULE_MISUSE && late->host->next(late, &request) == FERRULE_MISUSE);
    is(ferrule_test_stop(host, ends), FERRULE_OK, "");
    assert(ferrule_test_lines(host) == 1 && late->host->log(late, FERRULE_LOG_INFO, "late", 4) == FERRULE_MISUSE);
    is(ferrule_test_start(host, fails, NULL, 0), FERRULE_INVALID, "");
    assert(late->host->log(late, FERRULE_LOG_INFO, "late", 4) == FERRULE_MISUSE);
    ferrule_test_free(host);
}

int main(void) {
    test_calls();
    test_host_functions();
    test_log_and_cancellation();
    test_streams();
    test_state();
    test_broken_rules();
    return 0;
}
