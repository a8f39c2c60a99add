/* Runs the plug-in of helpers.c: each function with every size of room, on older and newer frames and tables, and with
 * memory that runs out at each of its allocations. Usage: test_helpers PLUGIN */
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_replies(void) {
    static const char nuls[] = "a\0b\0";
    char formatted[6000];
    check("reply", "some bytes", FERRULE_OK, "some bytes", ROOM);
    check("reply", "", FERRULE_OK, "", ROOM);
    check("reply", times(5000, 'x'), FERRULE_OK, times(5000, 'x'), ROOM);
    check_bytes("reply", nuls, 4, FERRULE_OK, nuls, 4, ROOM);
    check("reply_nothing", "", FERRULE_OK, "", ROOM);
    check("reply_not_at_all", "", FERRULE_OK, "", ROOM);
    check("reply_text", "", FERRULE_OK, "Grüße", ROOM);
    check("reply_too_long", "x", FERRULE_NO_MEMORY, "", ROOM);
    check("reply_over_ptrdiff", "x", FERRULE_NO_MEMORY, "", ROOM);
    check("replyf", "abc", FERRULE_OK, "3 bytes: abc", ROOM);
    snprintf(formatted, sizeof formatted, "5000 bytes: %s", times(5000, 'x'));
    check("replyf", times(5000, 'x'), FERRULE_OK, formatted, ROOM);
    check("replyf_unprintable", "", FERRULE_INVALID, "cannot print \"%ls\"", ROOM);
    check("reply_owned", "some bytes", FERRULE_OK, "some bytes", OWN);
    check("reply_owned_nothing", "", FERRULE_OK, "", OWN);
    check("reply_owned_too_long", "", FERRULE_NO_MEMORY, "", OWN);
    check("reply_pooled", "some bytes", FERRULE_OK, "some bytes", OWN);
    check("reply_pooled_twice", "some bytes", FERRULE_OK, "some bytes", OWN);
    check("reply_pooled_then_copied", "some bytes", FERRULE_OK, "ome bytes", OWN);
    check("reply_pooled_then_failed", "some bytes", FERRULE_FAILED, "failed after 10 bytes", OWN);
    check("reply_pooled_then_reserved", "some bytes", FERRULE_OK, "", OWN);
}

/* Where the result goes to depends on the room for what came before, too: the rooms here are not tied to the result. */
static void test_replies_after_replies(void) {
    size_t room;
    for (room = 0; room < 20; room++) {
        check_run(running("ferrule_fn_reply_again", "0123456789", room), FERRULE_OK, "<123456789");
        check_without_memory(running("ferrule_fn_reply_again", "0123456789", room), FERRULE_OK, "<123456789", 10);
        check_run(running("ferrule_fn_reserve", "0123456789", room), FERRULE_OK, "012345678");
        check_run(running("ferrule_fn_reserve_again", "0123456789", room), FERRULE_OK, "01234567890123456789");
        check_without_memory(running("ferrule_fn_reserve_again", "0123456789", room), FERRULE_OK,
                             "01234567890123456789", 20);
        check_run(running("ferrule_fn_reserve_too_much", "0123456789", room), FERRULE_NO_MEMORY, "");
        check_run(running("ferrule_fn_fail_after_reply", "0123456789", room), FERRULE_FAILED, "lost after 0123456789");
    }
}

static void test_failures(void) {
    char message[6000];
    host_run run = running("ferrule_fn_fail", times(500, 'x'), 10);
    host_result r;
    check("fail", "no colon", FERRULE_INVALID, "line 3: no colon", ROOM);
    snprintf(message, sizeof message, "line 3: %s", times(5000, 'x'));
    check("fail", times(5000, 'x'), FERRULE_INVALID, message, ROOM);
    check("fail_newline", "", 1234, "two newlines", ROOM);
    check("fail_empty", "", FERRULE_UNSUPPORTED, "", ROOM);
    check("fail_with_ok", "", FERRULE_FAILED, "not ok", ROOM);
    check("fail_negative", "", FERRULE_FAILED, "not ok", ROOM);
    check("fail_unprintable", "", FERRULE_INVALID, "name %ls", ROOM);
    run.in = times(500, 'x');
    run.no_room = 1;
    allow_allocations(0);
    r = host_call(&run);
    allow_allocations(-1);
    CHECK(host_same(&r, FERRULE_INVALID, "line 3: xx", 10), "a message without memory is cut to the room, found \"%s\"",
          r.out);
    free(r.out);
}

static void test_input(void) {
    static const char nul[] = "the input has a NUL among its 3 bytes, expected text";
    check("in_text", "seven..", FERRULE_OK, "seven..", ROOM);
    check("in_text", "", FERRULE_OK, "", ROOM);
    check("in_text", "eight...", FERRULE_INVALID, "the input has 8 bytes, expected a text of less than 8", ROOM);
    check_bytes("in_text", "a\0b", 3, FERRULE_INVALID, nul, strlen(nul), ROOM);
    check("in_text_nowhere", "", FERRULE_INVALID, "the input has 0 bytes, expected a text of less than 0", ROOM);
}

static void test_state(void) {
    const long before = live_blocks();
    host_run run = running("ferrule_start", "surprise", 64);
    host_result r = host_call(&run);
    CHECK(host_same(&r, FERRULE_INVALID, "expected no configuration", 25), "start with configuration: %s", r.out);
    CHECK(!r.state && live_blocks() == before, "a start that failed left %ld blocks", live_blocks() - before);
    free(r.out);
    run.in_len = 0;
    r = host_call(&run);
    CHECK(r.status == FERRULE_OK && r.state, "start: status %d", (int)r.status);
    free(r.out);
    run.state = r.state;
    run.symbol = "ferrule_fn_count";
    check_run(run, FERRULE_OK, "41");
    check_run(run, FERRULE_OK, "42");
    run.symbol = "ferrule_stop";
    r = host_call(&run);
    CHECK(r.status == FERRULE_OK && live_blocks() == before, "stop left %ld blocks", live_blocks() - before);
    free(r.out);
}

static void test_buffers(void) {
    char listed[512] = "";
    char doubled[2048] = "";
    int i;
    for (i = 0; i < 100; i++) snprintf(listed + strlen(listed), sizeof listed - strlen(listed), "%d,", i);
    strcat(listed, "end");
    check("buffer", "end", FERRULE_OK, listed, ROOM);
    for (i = 0; i < 128; i++) strcat(doubled, "12345678");
    strcat(doubled, "123");
    check("buffer_doubles_itself", "12345678", FERRULE_OK, doubled, ROOM);
    check("buffer_reserve", times(5000, 'x'), FERRULE_OK, times(5000, 'x'), ROOM);
    check("buffer_reserve", "", FERRULE_OK, "", ROOM);
    check("buffer_text", "abc", FERRULE_OK, "ab", ROOM);
    check("buffer_text", "", FERRULE_OK, "", ROOM);
    check("buffer_empty", "", FERRULE_OK, "", ROOM);
    check("buffer_too_long", "x", FERRULE_NO_MEMORY, "", ROOM);
    check("buffer_over_ptrdiff", "xy", FERRULE_NO_MEMORY, "", ROOM);
    check("buffer_unprintable", "", FERRULE_INVALID, "", ROOM);
}

static void check_import(const char *name, const char *in, int32_t status, const char *out, unsigned fetches) {
    char symbol[64];
    snprintf(symbol, sizeof symbol, "ferrule_fn_%s", name);
    check(name, in, status, out, ROOM);
    check_run(running(symbol, in, 64), status, out);
    CHECK(seen.runs == 1 && seen.fetches == fetches, "%s: the function ran %u times, %u fetches; expected 1 and %u",
          name, seen.runs, seen.fetches, fetches);
}

static void test_imports(void) {
    check_import("import_echo", "ada", FERRULE_OK, "ada", 0);
    check_import("import_echo", "", FERRULE_OK, "", 0);
    check_import("import_echo", times(5000, 'x'), FERRULE_OK, times(5000, 'x'), 1);
    check_import("import_refuse", "no", 1001, "nonono", 0);
    check_import("import_refuse", times(500, 'n'), 1001, times(1500, 'n'), 1);
    check_import("import_silent", "", FERRULE_FAILED, "", 0);
    /* Around the room that the helper starts with. */
    check_import("import_repeat", "255", FERRULE_OK, times(255, 'x'), 0);
    check_import("import_repeat", "256", FERRULE_OK, times(256, 'x'), 1);
    check_import("import_growing", "", FERRULE_OK, times(4000, 'g'), 3);
    check("import_own_content", "ada", FERRULE_OK, "ada", ROOM);
    check("import_own_content", times(500, 'x'), FERRULE_OK, times(500, 'x'), ROOM);
    check("import_chain", "-end", FERRULE_OK, "xxxxxxxxxx-end", ROOM);
    /* Hosts that break the contract are believed nothing. */
    check_import("import_greedy", "", FERRULE_MISUSE, "", 0);
    check_import("import_hollow", "", FERRULE_MISUSE, "", 0);
    check_import("import_stuck", "", FERRULE_MISUSE, "", 0);
    check_import("import_forgetful", "", FERRULE_MISUSE, "", 1);
    check("import_into_failed", "ada", FERRULE_NO_MEMORY, "", ROOM);
    CHECK(seen.runs == 0, "a host function ran %u times for a buffer that had failed", seen.runs);
    check("import_wrong", "", FERRULE_MISUSE, "", ROOM);
}

static void test_log(void) {
    static const char *const names[] = {"ferrule_fn_log_error", "ferrule_fn_log_warn", "ferrule_fn_log_info",
                                        "ferrule_fn_log_debug", "ferrule_fn_log_trace"};
    static const char lines[] = "ewidt";
    host_run run = running("ferrule_fn_log", "a line", 64);
    uint32_t i;
    check("log", "a line", FERRULE_OK, "logged", ROOM);
    CHECK(seen.lines > 0 && seen.level == FERRULE_LOG_WARN && !strcmp(seen.line, "a line"), "logged \"%s\"", seen.line);
    run.in = times(2000, 'x');
    run.in_len = 2000;
    check_run(run, FERRULE_OK, "logged");
    CHECK(strlen(seen.line) == 2000, "logged %zu bytes of 2000", strlen(seen.line));
    allow_allocations(0);
    check_run(run, FERRULE_OK, "logged");
    allow_allocations(-1);
    CHECK(strlen(seen.line) == 255, "without memory, logged %zu bytes", strlen(seen.line));
    for (i = 0; i < 5; i++) {
        check_run(running(names[i], "", 0), FERRULE_OK, "");
        CHECK(seen.lines == 1 && seen.level == i + 1 && seen.line[0] == lines[i] && !seen.line[1],
              "%s: level %u, \"%s\"", names[i], (unsigned)seen.level, seen.line);
    }
}

/* ---- Since version 1.1 of the contract ------------------------------------------------------------------------- */

/* A run under a host of version 1.0, whose frame and table end at guard pages. */
static host_run older(host_run run) {
    run.frame_size = FRAME_1_0;
    run.table_size = TABLE_1_0;
    return run;
}

/* The same run, with a result of its own under each of the two hosts, and without memory. */
static void check_both(host_run run, int32_t status, const char *out, int32_t old_status, const char *old_out) {
    check_run(run, status, out);
    check_without_memory(run, status, out, strlen(out));
    check_run(older(run), old_status, old_out);
    check_without_memory(older(run), old_status, old_out, strlen(old_out));
}

static void test_pass(void) {
    static const char nothing[] = "nothing to say to this input";
    check_both(running("ferrule_fn_pass", "some bytes", 0), FERRULE_PASS, "", FERRULE_PASS, nothing);
    check_both(running("ferrule_fn_pass", "some bytes", 64), FERRULE_PASS, "", FERRULE_PASS, nothing);
    check_run(running("ferrule_fn_pass_after_pooled", "some bytes", 64), FERRULE_PASS, "");
    check_run(older(running("ferrule_fn_pass_after_pooled", "some bytes", 64)), FERRULE_PASS, nothing);
    check("pass_with_reason", "us", FERRULE_PASS, "not for us", ROOM);
}

static void test_wants(void) {
    const char *name = times(128, 'n');
    check_both(running("ferrule_fn_want_cache", "ada", 64), FERRULE_OK, "ada", FERRULE_UNSUPPORTED, "");
    check_both(running("ferrule_fn_want_mail", "ada", 64), FERRULE_UNSUPPORTED, "", FERRULE_UNSUPPORTED, "");
    check_run(older(running("ferrule_fn_want_cache", "ada", 64)), FERRULE_UNSUPPORTED, "");
    CHECK(seen.runs == 0, "an older host was called %u times for a want", seen.runs);
    check_both(running("ferrule_fn_offered", "cache", 64), FERRULE_OK, "yes", FERRULE_OK, "no");
    check_both(running("ferrule_fn_offered", "mail", 64), FERRULE_OK, "no", FERRULE_OK, "no");
    check_run(running("ferrule_fn_offered", name, 64), FERRULE_OK, "no");
    CHECK(seen.infos == 1, "the longest name was asked for %u times", seen.infos);
    check_run(running("ferrule_fn_offered", times(129, 'n'), 64), FERRULE_OK, "no");
    CHECK(seen.infos == 0, "a name that is too long was asked for %u times", seen.infos);
}

static void test_info(void) {
    check_both(running("ferrule_fn_info", "path", 64), FERRULE_OK, "/opt/plug-ins", FERRULE_UNSUPPORTED, "");
    check_both(running("ferrule_fn_info", "shop.tenant", 64), FERRULE_OK, times(1000, 't'), FERRULE_UNSUPPORTED, "");
    check_run(running("ferrule_fn_info", "shop.tenant", 64), FERRULE_OK, times(1000, 't'));
    CHECK(seen.infos == 1 && seen.fetches == 1, "asked %u times, fetched %u times", seen.infos, seen.fetches);
    check_both(running("ferrule_fn_info", "shop.unknown", 64), FERRULE_UNSUPPORTED, "", FERRULE_UNSUPPORTED, "");
    check_both(running("ferrule_fn_info", "", 64), FERRULE_MISUSE, "", FERRULE_UNSUPPORTED, "");
    /* 13 bytes, for which there is just room. */
    check_both(running("ferrule_fn_info_text", "path", 64), FERRULE_OK, "/opt/plug-ins", FERRULE_UNSUPPORTED, "\"\"");
    check_run(running("ferrule_fn_info_text", "shop.tenant", 64), FERRULE_NO_MEMORY, "\"\"");
    check_run(running("ferrule_fn_info_text", "shop.unknown", 64), FERRULE_UNSUPPORTED, "\"\"");
    check_run(running("ferrule_fn_info_text_nowhere", "", 64), FERRULE_NO_MEMORY, "");
    check_both(running("ferrule_fn_remaining", "", 64), FERRULE_OK, "1.5 s", FERRULE_OK, "for ever");
}

static void test_room(void) {
    host_run run = running("ferrule_fn_room_grows", times(650, 'r'), 50);
    host_result r;
    check_run(run, FERRULE_OK, times(650, 'r'));
    CHECK(seen.rooms == 6, "found %u rooms, expected 6", seen.rooms);
    check_run(older(run), FERRULE_UNSUPPORTED, "no room for 150 bytes");
    run.no_room = 1;
    check_run(run, FERRULE_NO_MEMORY, "no room for 150 bytes");
    run.no_room = 0;
    run.room = 650;
    check_run(run, FERRULE_OK, times(650, 'r'));
    CHECK(seen.rooms == 0, "%u rooms for what there is room for", seen.rooms);
    check_run(running("ferrule_fn_room_after_owned", "pooled", 64), FERRULE_OK, "pooled");

    /* A reply takes the host's memory where there is some, and its own where there is none. */
    run = running("ferrule_fn_reply", times(5000, 'x'), 10);
    host_forget();
    r = host_call(&run);
    CHECK(host_same(&r, FERRULE_OK, times(5000, 'x'), 5000) && !r.released && seen.rooms == 1,
          "status %d, %zu bytes, released %d times, %u rooms", (int)r.status, r.len, r.released, seen.rooms);
    free(r.out);
    run.no_room = 1;
    r = host_call(&run);
    CHECK(host_same(&r, FERRULE_OK, times(5000, 'x'), 5000) && r.released, "released %d times", r.released);
    free(r.out);
    run = older(run);
    r = host_call(&run);
    CHECK(host_same(&r, FERRULE_OK, times(5000, 'x'), 5000) && r.released, "released %d times", r.released);
    free(r.out);
}

static void test_streams(void) {
    host_run run = running("ferrule_fn_stream_count", "", 64);
    size_t piece_len;
    check_both(run, FERRULE_UNSUPPORTED, "broke off after 0 bytes", FERRULE_UNSUPPORTED, "broke off after 0 bytes");
    run.stream = "";
    run.piece_len = 4;
    check_both(run, FERRULE_OK, "0 pieces, 0 bytes", FERRULE_UNSUPPORTED, "broke off after 0 bytes");
    run.stream = "0123456789";
    check_run(run, FERRULE_OK, "3 pieces, 10 bytes");
    run.stream_breaks = 3;
    check_run(run, FERRULE_FAILED, "broke off after 8 bytes");
    run.stream_status = FERRULE_CANCELLED;
    check_run(run, FERRULE_CANCELLED, "broke off after 8 bytes");

    run.symbol = "ferrule_fn_stream_fives";
    check_run(run, FERRULE_CANCELLED, "8 bytes, then none");
    run.stream_breaks = 0;
    for (piece_len = 1; piece_len < 14; piece_len++) {
        run.piece_len = piece_len;
        run.stream = "0123456789abc";
        check_run(run, FERRULE_OK, "13 bytes, at last abc");
        run.stream = "0123456789";
        check_run(run, FERRULE_OK, "10 bytes, at last ");
    }
    check_run(older(run), FERRULE_UNSUPPORTED, "0 bytes, then none");

    run.symbol = "ferrule_fn_stream_copy";
    run.piece_len = 4;
    check_run(run, FERRULE_UNSUPPORTED, "");
    run.sink = 1;
    check_run(run, FERRULE_OK, "");
    CHECK(!strcmp(seen.written, "0123456789"), "written: \"%s\"", seen.written);
    run.sink_takes = 9;
    run.stream_status = 0;
    check_run(run, FERRULE_FAILED, "");
    CHECK(!strcmp(seen.written, "01234567"), "written: \"%s\"", seen.written);
    run.cancelled = 1;
    check_run(run, FERRULE_CANCELLED, "");

    run = running("ferrule_fn_stream_print", "ada", 64);
    check_both(run, FERRULE_UNSUPPORTED, "", FERRULE_UNSUPPORTED, "");
    run.sink = 1;
    check_run(run, FERRULE_OK, "");
    CHECK(!strcmp(seen.written, "3 bytes: ada\nend"), "written: \"%s\"", seen.written);
    run.in = times(3000, 'x');
    run.in_len = 3000;
    check_run(run, FERRULE_OK, "");
    CHECK(seen.written_len == 3000 + strlen("3000 bytes: \nend"), "%zu bytes written", seen.written_len);
    check_without_memory(run, FERRULE_OK, "", 0);
    run.symbol = "ferrule_fn_stream_unprintable";
    check_run(run, FERRULE_INVALID, "");
    CHECK(!seen.written_len, "written: \"%s\"", seen.written);
}

static void test_wrapper(void) {
    host_run run = running("ferrule_hook_wrapper", "hey", 64);
    char long_result[502] = {0};
    long_result[500] = '!';
    check_both(run, FERRULE_UNSUPPORTED, "", FERRULE_UNSUPPORTED, "");
    run.wraps = 1;
    check_run(run, FERRULE_OK, "hey!");
    run.in = times(500, 'x');
    run.in_len = 500;
    memset(long_result, 'x', 500);
    check_run(run, FERRULE_OK, long_result);
    CHECK(seen.runs == 1 && seen.fetches == 1, "ran %u times, fetched %u times", seen.runs, seen.fetches);
}

static void test_progress(void) {
    host_run run = running("ferrule_fn_progress", "12345", 0);
    host_result r = host_call(&run);
    CHECK(r.done == 5 && r.total == 1000, "progress %d of %d", (int)r.done, (int)r.total);
    free(r.out);
    run.no_progress = 1;
    r = host_call(&run);
    CHECK(r.status == FERRULE_OK && r.done == 0, "progress %d without words for it", (int)r.done);
    free(r.out);
    check_run(older(run), FERRULE_OK, "");
    check_both(running("ferrule_fn_background_outside", "", 64), FERRULE_OK, "only in ferrule_start", FERRULE_OK,
               "only in ferrule_start");
}

static void check_fields(const char *name, const char *in, const char *line, const char *fields, const char *joined) {
    char symbol[64];
    snprintf(symbol, sizeof symbol, "ferrule_fn_%s", name);
    check_run(running(symbol, in, 64), FERRULE_OK, "");
    CHECK(seen.lines == 1 && !strcmp(seen.line, line) && !strcmp(seen.fields, fields), "%s: \"%s\", fields \"%s\"", name,
          seen.line, seen.fields);
    check_run(older(running(symbol, in, 64)), FERRULE_OK, "");
    CHECK(seen.lines == 1 && !strcmp(seen.line, joined), "%s under an older host: \"%s\"", name, seen.line);
    check_without_memory(running(symbol, in, 64), FERRULE_OK, "", 0);
    check_without_memory(older(running(symbol, in, 64)), FERRULE_OK, "", 0);
    CHECK(seen.lines == 1 && !strcmp(seen.line, joined), "%s under an older host: \"%s\"", name, seen.line);
}

static void test_fields(void) {
    char fields[2048], joined[2048];
    check_fields("log_fields", "ada", "a line", "text=ada;number=7;last=end;", "a line text=ada number=7 last=end");
    check_fields("log_fields", "a\nb", "a line", "text=a\nb;number=7;last=end;", "a line text=a\nb number=7 last=end");
    snprintf(fields, sizeof fields, "text=%s;number=7;last=end;", times(500, 'x'));
    snprintf(joined, sizeof joined, "a line text=%s number=7 last=end", times(500, 'x'));
    check_fields("log_fields", times(500, 'x'), "a line", fields, joined);
    /* The format's own newlines close fields, those at its end close none. */
    check_fields("log_fields_newlines", "", "", "one=;\n;", " one= \n");
    check_fields("log_no_fields", "", "alone", "", "alone");
    check_fields("log_fields_unprintable", "", "bare", "", "bare");

    allow_allocations(0);
    check_run(running("ferrule_fn_log_fields", "ada", 64), FERRULE_OK, "");
    CHECK(seen.lines == 1 && !strcmp(seen.line, "a line") && !seen.fields[0], "without memory: \"%s\", \"%s\"", seen.line,
          seen.fields);
    allow_allocations(1);
    check_run(running("ferrule_fn_log_fields", times(500, 'x'), 64), FERRULE_OK, "");
    allow_allocations(-1);
    CHECK(seen.lines == 1 && strlen(seen.fields) == 256 && seen.fields[255] == ';', "cut fields: \"%s\"", seen.fields);
}

static void test_cancellation(void) {
    host_run run = running("ferrule_fn_cancelled", "", 64);
    check_run(run, FERRULE_OK, "wanted");
    run.no_cancel_word = 1;
    check_run(run, FERRULE_OK, "wanted");
    run.no_cancel_word = 0;
    run.cancelled = 1;
    check_run(run, FERRULE_CANCELLED, "");
}

/* ferrule_batch, as FERRULE_PLUGIN defines it, over frames that are longer than this header's: the helpers fill the
 * room that the records share, and take memory of their own when it is used up. */
static void test_batch(void) {
    enum { COUNT = 6, STRIDE = sizeof(ferrule_call) + 16, ROOM_FOR = 25 };
    static uint64_t frames[COUNT * STRIDE / 8];
    static const char *const in = "0123456789";
    static ferrule_host host; /* of version 1.0, so that the helpers use memory of their own */
    int32_t (*batch)(ferrule_frames *);
    void *found = host_symbol("ferrule_batch");
    void *fn = host_symbol("ferrule_fn_reply");
    const long before = live_blocks();
    int32_t statuses[COUNT];
    uint8_t room[ROOM_FOR];
    ferrule_frames f;
    size_t i;
    memcpy(&batch, &found, sizeof batch);
    memset(&f, 0, sizeof f);
    memset(frames, 0, sizeof frames);
    f.size = sizeof f;
    host.size = TABLE_1_0;
    memcpy(&f.fn, &fn, sizeof f.fn);
    f.calls = (ferrule_call *)(void *)frames;
    f.stride = STRIDE;
    f.count = COUNT;
    f.statuses = statuses;
    for (i = 0; i < COUNT; i++) {
        ferrule_call *call = (ferrule_call *)(void *)((char *)frames + i * STRIDE);
        call->size = STRIDE;
        call->host = &host;
        call->in = (const uint8_t *)in;
        call->in_len = i == 3 ? 5 : 10;
    }
    f.calls->out = room;
    f.calls->out_cap = sizeof room;
    CHECK(batch(&f) == FERRULE_OK && f.done == COUNT, "%zu of %d records ran", f.done, COUNT);
    for (i = 0; i < COUNT; i++) {
        ferrule_call *call = (ferrule_call *)(void *)((char *)frames + i * STRIDE);
        const int in_room = i < 2 || i == 3;
        CHECK(statuses[i] == FERRULE_OK && call->out_len == call->in_len && !memcmp(call->out, in, call->in_len),
              "record %zu: status %d, %zu bytes", i, (int)statuses[i], call->out_len);
        CHECK(in_room == !call->release, "record %zu: release is %s", i, call->release ? "set" : "not set");
        if (call->release) call->release(call);
    }
    CHECK(live_blocks() == before, "a batch left %ld blocks", live_blocks() - before);
}

int main(int argc, char **argv) {
    host_open(argc, argv);
    test_replies();
    test_replies_after_replies();
    test_failures();
    test_input();
    test_state();
    test_buffers();
    test_imports();
    test_log();
    test_pass();
    test_wants();
    test_info();
    test_room();
    test_streams();
    test_wrapper();
    test_progress();
    test_fields();
    test_cancellation();
    test_batch();
    return host_close();
}
