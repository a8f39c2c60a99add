/* Runs the plug-in of entries.cpp. Usage: test_entries PLUGIN */
#include "host.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_arguments(void) {
    host_run run = running("ferrule_fn_takes_context", "", 64);
    check("echo", "some text", FERRULE_OK, "some text", ROOM);
    check("echo", "", FERRULE_OK, "", ROOM);
    check_bytes("echo", "a\0b", 3, FERRULE_OK, "a\0b", 3, ROOM);
    check("takes_nothing", "x", FERRULE_OK, "nothing", ROOM);
    check_run(run, FERRULE_OK, "wanted");
    check("takes_const_context", "", FERRULE_OK, "", ROOM);
    CHECK(seen.lines == 1 && !strcmp(seen.line, "seen"), "logged \"%s\"", seen.line);
    run.cancelled = 1;
    check_run(run, FERRULE_OK, "cancelled");
    run.symbol = "ferrule_fn_takes_both";
    check_run(run, FERRULE_CANCELLED, "cancelled");
    check_run(running("ferrule_fn_takes_both", "in", 64), FERRULE_OK, "both: in");
    check_run(running("ferrule_hook_before", "checkout", 64), FERRULE_OK, "before checkout");
}

static void test_results(void) {
    check("returns_nothing", "x", FERRULE_OK, "", ROOM);
    check("returns_view", "abc", FERRULE_OK, "bc", ROOM);
    check("returns_view", "a", FERRULE_OK, "", ROOM);
    check("returns_vector", "abc", FERRULE_OK, "abc", ROOM);
    check("returns_vector", "", FERRULE_OK, "", ROOM);
    check("returns_array", "", FERRULE_OK, "abc", ROOM);
    check("returns_const_reference", "", FERRULE_OK, times(300, 'k'), ROOM);
    check("returns_unique", "abc", FERRULE_OK, "abc", ROOM);
    check("returns_long_string", times(5000, 'x'), FERRULE_OK, times(5000, 'x'), ROOM);
    check("replies_by_hand", "abc", FERRULE_OK, "by hand: abc", ROOM);
    check("replies_twice", "abc", FERRULE_OK, "abc!", ROOM);
}

/* A long string is moved, not copied, when it does not fit. */
static void test_no_copy(void) {
    const void *(*last_bytes)(void);
    void *found = host_symbol("test_last_bytes");
    host_run run = running("ferrule_fn_returns_long_string", times(1000, 'x'), 999);
    host_result r = host_call(&run);
    memcpy(&last_bytes, &found, sizeof last_bytes);
    CHECK(r.released && r.at == last_bytes(), "the string's bytes moved");
    free(r.out);
}

static void test_exceptions(void) {
    check("throws", "", FERRULE_OK, "partial", ANYWHERE);
    check("throws", "error", FERRULE_UNSUPPORTED, "not %s", ANYWHERE);
    check("throws", "own error", 1234, "of a class of its own", ANYWHERE);
    check("throws", "ok", FERRULE_FAILED, "not ok", ANYWHERE);
    check("throws", "panic", FERRULE_PANIC, "state is broken", ANYWHERE);
    check("throws", "invalid", FERRULE_INVALID, "expected %d", ANYWHERE);
    check("throws", "memory", FERRULE_NO_MEMORY, "out of memory", ANYWHERE);
    check("throws", "length", FERRULE_FAILED, "too long", ANYWHERE);
    check("throws", "format", FERRULE_FAILED, "100%s", ANYWHERE);
    check("throws", "long", FERRULE_FAILED, times(2000, 'w'), ANYWHERE);
    check("throws", "int", FERRULE_PANIC, "an exception that is no std::exception", ANYWHERE);
    check("throws", "nothing", FERRULE_FAILED, "std::exception", ANYWHERE);
}

static void test_state(void) {
    static const char no_state[] = "the instance has no state, expected one: its constructor has to come back first";
    const long before = live_blocks();
    host_run run = running("ferrule_start", "bad", 64);
    host_result r;
    check_run(run, FERRULE_INVALID, "expected another configuration");
    check_without_memory(run, FERRULE_INVALID, "expected another configuration", 30);
    run.in = "a name that is longer than any string holds in itself";
    run.in_len = strlen((const char *)run.in);
    host_forget();
    r = host_call(&run);
    CHECK(r.status == FERRULE_OK && r.len == 0 && r.state, "start: status %d, \"%s\"", (int)r.status, r.out);
    CHECK(!strncmp(seen.line, "started a name", 14), "the constructor logged \"%s\"", seen.line);
    free(r.out);

    run = running("ferrule_fn_add", "40", 64);
    run.state = r.state;
    check_run(run, FERRULE_OK, "40");
    check_run(run, FERRULE_OK, "80");
    run.symbol = "ferrule_fn_reset";
    check_run(run, FERRULE_OK, "");
    run.symbol = "ferrule_fn_add";
    check_run(run, FERRULE_OK, "40");
    run.symbol = "ferrule_fn_get";
    check_run(run, FERRULE_OK, "a name that is longer than any string holds in itself");
    run.room = 0;
    check_run(run, FERRULE_OK, "a name that is longer than any string holds in itself");
    run.symbol = "ferrule_fn_get_by_context";
    check_run(run, FERRULE_OK, "a name that is longer than any string holds in itself");
    run.state = NULL;
    run.symbol = "ferrule_fn_get";
    check_run(run, FERRULE_FAILED, no_state);

    run.symbol = "ferrule_stop";
    run.state = r.state;
    r = host_call(&run);
    CHECK(r.status == FERRULE_OK && live_blocks() == before, "stop left %ld blocks", live_blocks() - before);
    free(r.out);
}

static void test_services(void) {
    static const char lines[] = "ewid";
    host_run run = running("ferrule_fn_logs", "", 0);
    check("import_echo", times(5000, 'x'), FERRULE_OK, times(5000, 'x'), ROOM);
    check("import_repeat", "1000", FERRULE_OK, times(1000, 'x'), ROOM);
    check("import_refuse", "no", 1001, "nonono", ROOM);
    check("import_silent", "", FERRULE_FAILED, "a host function failed without a message", ROOM);
    check("import_caught", "no", FERRULE_OK, "1001 nonono", ROOM);
    check_run(run, FERRULE_OK, "");
    CHECK(seen.lines == 6 && seen.level == FERRULE_LOG_TRACE, "%u lines", seen.lines);
    CHECK(!strcmp(seen.line, "two newlines"), "logged \"%s\"", seen.line);
    CHECK(seen.levels[0] == FERRULE_LOG_DEBUG && !seen.firsts[0], "level %u", (unsigned)seen.levels[0]);
    for (uint32_t i = 0; i < 4; i++)
        CHECK(seen.levels[i + 1] == i + 1 && seen.firsts[i + 1] == lines[i], "line %u: level %u, %c", (unsigned)i + 1,
              (unsigned)seen.levels[i + 1], seen.firsts[i + 1]);
}

/* ---- Since version 1.1 of the contract ------------------------------------------------------------------------- */

static host_run older(host_run run) {
    run.frame_size = FRAME_1_0;
    run.table_size = TABLE_1_0;
    return run;
}

/* A run of ferrule_fn_<name> under a host of this version and under one of version 1.0. */
static void check_both(host_run run, int32_t status, const char *out, int32_t old_status, const char *old_out) {
    check_run(run, status, out);
    check_without_memory(run, status, out, strlen(out));
    check_run(older(run), old_status, old_out);
}

static void test_optional_results(void) {
    static const char nothing[] = "nothing to say to this input";
    check_both(running("ferrule_fn_results", "pass", 64), FERRULE_PASS, "", FERRULE_PASS, nothing);
    check("results", "reason", FERRULE_PASS, "not for us", ROOM);
    check("results", "error", 1234, "of its own", ROOM);
    check("results", "view", FERRULE_OK, "a view", ROOM);
    check("results", times(500, 'x'), FERRULE_OK, times(500, 'x'), ROOM);
    check("results_unique", "unique", FERRULE_OK, "unique", ROOM);
    check_both(running("ferrule_fn_results_void", "pass", 64), FERRULE_PASS, "", FERRULE_PASS, nothing);
    check("results_void", "", FERRULE_OK, "", ROOM);
    check("throws_pass", "", FERRULE_PASS, "thrown", ROOM);
    check("values", "no", 1001, "nonono", ROOM);
}

static void test_wants_and_info(void) {
    static const char silent[] = "a host function failed without a message";
    check_both(running("ferrule_fn_want_cache", "ada", 64), FERRULE_OK, "ada", FERRULE_UNSUPPORTED, silent);
    check_both(running("ferrule_fn_want_mail", "ada", 64), FERRULE_UNSUPPORTED, silent, FERRULE_UNSUPPORTED, silent);
    check_both(running("ferrule_fn_offers", "", 64), FERRULE_OK, "cache ", FERRULE_OK, "");
    check_both(running("ferrule_fn_knows", "path", 64), FERRULE_OK, "/opt/plug-ins", FERRULE_UNSUPPORTED, "");
    check_both(running("ferrule_fn_knows", "shop.unknown", 64), FERRULE_UNSUPPORTED, "", FERRULE_UNSUPPORTED, "");
    check_both(running("ferrule_fn_remains", "", 64), FERRULE_OK, "1500000000", FERRULE_OK, "for ever");
}

static void test_streams(void) {
    static const char reading[] = "reading the input stream failed", writing[] = "writing the output stream failed";
    host_run run = running("ferrule_fn_copies", "", 64);
    check_both(run, FERRULE_UNSUPPORTED, reading, FERRULE_UNSUPPORTED, reading);
    run.stream = "one\ntwo, which is longer\nthree";
    for (run.piece_len = 1; run.piece_len < 40; run.piece_len++) {
        run.symbol = "ferrule_fn_copies";
        run.sink = 1;
        run.stream_breaks = 0;
        check_run(run, FERRULE_OK, "");
        CHECK(!strcmp(seen.written, run.stream), "written: \"%s\"", seen.written);
        run.symbol = "ferrule_fn_lines";
        check_run(run, FERRULE_OK, "3");
        CHECK(!strcmp(seen.written, "0:one\n1:two, which is longer\n2:three\n"), "written: \"%s\"", seen.written);
        run.stream_breaks = 2;
        check_run(run, FERRULE_FAILED, reading);
        run.sink = 0;
        run.stream_breaks = 0;
        check_run(run, FERRULE_UNSUPPORTED, writing);
    }
    run.sink = 1;
    run.cancelled = 1;
    check_run(run, FERRULE_CANCELLED, reading);
    run = running("ferrule_fn_floods", times(6000, 'x'), 64);
    run.sink = 1;
    check_run(run, FERRULE_OK, "");
    CHECK(!strcmp(seen.written, times(6000, 'x')), "%zu bytes written", seen.written_len);
    run.sink_takes = 4500;
    check_run(run, FERRULE_FAILED, writing);
    check_run(older(run), FERRULE_UNSUPPORTED, writing);
}

static void test_other_services(void) {
    host_run run = running("ferrule_hook_wrapper", "hey", 64);
    host_result r;
    check_both(run, FERRULE_UNSUPPORTED, "", FERRULE_UNSUPPORTED, "");
    run.wraps = 1;
    check_run(run, FERRULE_OK, "hey!");

    run = running("ferrule_fn_progresses", "12345", 64);
    r = host_call(&run);
    CHECK(r.done == 5 && r.total == 1000, "progress %d of %d", (int)r.done, (int)r.total);
    free(r.out);
    check_run(older(run), FERRULE_OK, "");

    run = running("ferrule_fn_logs_fields", "a b", 64);
    check_run(run, FERRULE_OK, "");
    CHECK(seen.lines == 1 && !strcmp(seen.line, "fields") && !strcmp(seen.fields, "text=a b;number=7;yes=true;literal=x;"),
          "\"%s\", fields \"%s\"", seen.line, seen.fields);
    check_run(older(run), FERRULE_OK, "");
    CHECK(!strcmp(seen.line, "fields text=a b number=7 yes=true literal=x"), "\"%s\"", seen.line);
    run.in = "a\0b";
    check_run(run, FERRULE_OK, "");
    CHECK(!strcmp(seen.fields, "text=a;number=7;yes=true;literal=x;"), "a NUL in a value: \"%s\"", seen.fields);
}

static host_run of_instance(const char *symbol, const char *in, void *state) {
    host_run run = running(symbol, in, 64);
    run.state = state;
    return run;
}

static void *started(const char *config) {
    host_run run = running("ferrule_start", config, 64);
    host_result r;
    run.background = 1;
    r = host_call(&run);
    CHECK(r.status == FERRULE_OK && r.state, "start: status %d, \"%s\"", (int)r.status, r.out);
    free(r.out);
    return r.state;
}

static void stopped(void *state) {
    const host_run run = of_instance("ferrule_stop", "", state);
    const host_result r = host_call(&run);
    CHECK(host_same(&r, FERRULE_OK, "", 0), "stop: status %d, \"%s\"", (int)r.status, r.out);
    free(r.out);
}

/* New settings, and a state that another instance takes over. */
static void test_settings_and_handing_over(void) {
    const long before = live_blocks();
    void *const old = started("old"), *const successor = started("successor");
    check_run(of_instance("ferrule_fn_add", "40", old), FERRULE_OK, "40");
    check_run(of_instance("ferrule_configure", "renamed", old), FERRULE_OK, "");
    check_run(of_instance("ferrule_configure", "", old), FERRULE_INVALID, "expected a name");
    check_run(of_instance("ferrule_fn_get", "", old), FERRULE_OK, "renamed");
    check_run(of_instance("ferrule_save", "", old), FERRULE_OK, "renamed:40");
    check_run(of_instance("ferrule_fn_add", "1", old), FERRULE_OK, "41");
    check_run(of_instance("ferrule_resume", "renamed", successor), FERRULE_INVALID, "expected a name and a number");
    check_run(of_instance("ferrule_resume", "renamed:40", successor), FERRULE_OK, "");
    check_run(of_instance("ferrule_fn_add", "2", successor), FERRULE_OK, "42");
    stopped(old);
    stopped(successor);
    CHECK(live_blocks() == before, "%ld blocks are left", live_blocks() - before);
}

/* A thread of the plug-in's logs and calls between calls, until its frame is cancelled; the stop joins it. */
static void test_between_calls(void) {
    host_run run = running("ferrule_start", "watch", 64);
    void *state;
    check_run(run, FERRULE_UNSUPPORTED, "no calls between calls");
    run.background = 1;
    check_run(older(run), FERRULE_UNSUPPORTED, "no calls between calls");
    host_forget();
    state = started("watch");
    host_wait_lines(2);
    CHECK(!strcmp(seen.fields, "cache=hi;"), "fields \"%s\"", seen.fields);
    host_end_background(1);
    stopped(state);
    CHECK(seen.lines == 3 && !strcmp(seen.line, "ended"), "%u lines, \"%s\"", seen.lines, seen.line);
    host_end_background(0);
}

/* ---- Results that wait for their release ----------------------------------------------------------------------- */

typedef struct waiting {
    ferrule_call call;
    char in[64];
} waiting;

static void enter(waiting *w, ferrule_function fn, unsigned number) {
    static uint8_t room[1];
    memset(&w->call, 0, sizeof w->call);
    w->call.size = sizeof w->call;
    snprintf(w->in, sizeof w->in, "a text that is longer than a string holds in itself: %u", number);
    w->call.in = (const uint8_t *)w->in;
    w->call.in_len = strlen(w->in);
    w->call.out = room;
    CHECK(fn(&w->call) == FERRULE_OK && w->call.release, "result %u has no memory of its own", number);
}

static void leave(waiting *w, const char *expected) {
    CHECK(w->call.out_len == strlen(expected) && !memcmp(w->call.out, expected, w->call.out_len),
          "found \"%.*s\", expected \"%s\"", (int)w->call.out_len, w->call.out, expected);
    w->call.release(&w->call);
}

static ferrule_function find(const char *symbol) {
    void *found = host_symbol(symbol);
    ferrule_function fn;
    memcpy(&fn, &found, sizeof fn);
    return fn;
}

/* More at a time than there are places for, given back in another order. */
static void test_many_waiting(void) {
    enum { COUNT = 150 };
    static waiting all[COUNT];
    const ferrule_function echo = find("ferrule_fn_echo");
    const long before = live_blocks();
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT; i++) enter(&all[i], echo, i);
        for (unsigned i = 0; i < COUNT; i++) leave(&all[i * 7 % COUNT], all[i * 7 % COUNT].in);
    }
    CHECK(live_blocks() == before, "%ld blocks are left", live_blocks() - before);
}

/* Results of their own, and results that all have the same bytes. */
static void *enter_and_leave(void *arg) {
    enum { HELD = 20 };
    static const char shared[] = "the same bytes for everybody, kept alive by a reference count";
    const ferrule_function echo = find("ferrule_fn_echo"), share = find("ferrule_fn_returns_shared");
    waiting held[HELD];
    (void)arg;
    for (unsigned i = 0; i < 500; i++) {
        for (unsigned j = 0; j < HELD; j++) enter(&held[j], j % 2 ? echo : share, i * HELD + j);
        for (unsigned j = 0; j < HELD; j++) leave(&held[j], j % 2 ? held[j].in : shared);
    }
    return NULL;
}

static void test_threads(void) {
    enum { COUNT = 4 };
    const long before = live_blocks();
    pthread_t threads[COUNT];
    for (int i = 0; i < COUNT; i++)
        if (pthread_create(&threads[i], NULL, enter_and_leave, NULL)) abort();
    for (int i = 0; i < COUNT; i++) pthread_join(threads[i], NULL);
    CHECK(live_blocks() == before, "%ld blocks are left", live_blocks() - before);
}

int main(int argc, char **argv) {
    host_open(argc, argv);
    no_memory_message = "out of memory";
    test_arguments();
    test_results();
    test_no_copy();
    test_exceptions();
    test_state();
    test_services();
    test_optional_results();
    test_wants_and_info();
    test_streams();
    test_other_services();
    test_settings_and_handing_over();
    test_between_calls();
    test_many_waiting();
    test_threads();
    return host_close();
}
