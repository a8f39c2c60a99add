/* Runs the plug-in that the C code of "More than one call" in docs/author-guide.md is. Usage: test_guide PLUGIN */
#include "host.h"

#include <stdlib.h>
#include <string.h>

static host_run older(host_run run) {
    run.frame_size = FRAME_1_0;
    run.table_size = TABLE_1_0;
    return run;
}

static void test_functions(void) {
    host_run run = running("ferrule_fn_adler32", "", 64);
    check_run(run, FERRULE_UNSUPPORTED, "expected an input stream");
    check_run(older(run), FERRULE_UNSUPPORTED, "expected an input stream");
    run.stream = "Wikipedia";
    run.piece_len = 4;
    check_run(run, FERRULE_OK, "11e60398");
    run.stream_breaks = 2;
    check_run(run, FERRULE_FAILED, "the stream broke off");

    check_run(running("ferrule_fn_unfold", "a3b2", 2), FERRULE_OK, "aaabb");
    check_run(older(running("ferrule_fn_unfold", "a3b2", 2)), FERRULE_UNSUPPORTED, "no room for more than 2 bytes");
    check_run(older(running("ferrule_fn_unfold", "a3b2", 8)), FERRULE_OK, "aaabb");
    check_run(running("ferrule_fn_unfold", "ab", 64), FERRULE_INVALID, "expected a digit behind each letter");

    check_run(running("ferrule_hook_before_save", "x", 64), FERRULE_PASS, "");
    check_run(running("ferrule_hook_before_save", "", 64), FERRULE_INVALID, "expected a text, found nothing");

    check_run(running("ferrule_fn_title", "Titel", 64), FERRULE_OK, "Titel"); /* the host's translation is an echo */
    CHECK(seen.runs == 1, "the want was called %u times", seen.runs);
    check_run(older(running("ferrule_fn_title", "Titel", 64)), FERRULE_OK, "Titel");
    CHECK(seen.runs == 0, "an older host was called %u times for a want", seen.runs);

    check_run(running("ferrule_fn_refresh", "abc", 64), FERRULE_OK, "3 of 3");
    CHECK(!strcmp(seen.fields, "path=/opt/plug-ins;feeds=3;"), "fields \"%s\"", seen.fields);
    check_run(older(running("ferrule_fn_refresh", "abc", 64)), FERRULE_OK, "3 of 3");
    CHECK(!strcmp(seen.line, "refreshing path=unknown feeds=3"), "logged \"%s\"", seen.line);
    run = running("ferrule_fn_refresh", "abc", 64);
    run.cancelled = 1;
    check_run(run, FERRULE_CANCELLED, "");
}

/* Starts an instance, with the frame for between calls or in an older host, lets it take settings and stops it. */
static void test_instance(int is_older) {
    static const char refused[] = "expected 1 to 1000 ms, found \"0\"";
    host_run run = running("ferrule_start", "", 64);
    host_result r;
    host_forget();
    run.background = 1;
    if (is_older) run = older(run);
    r = host_call(&run);
    CHECK(r.status == FERRULE_OK && r.state, "start: status %d, \"%s\"", (int)r.status, r.out);
    free(r.out);
    if (!is_older) host_wait_lines(2);
    run.symbol = "ferrule_configure";
    run.state = r.state;
    run.in = "5";
    run.in_len = 1;
    r = host_call(&run);
    CHECK(host_same(&r, FERRULE_OK, "", 0), "configure: status %d, \"%s\"", (int)r.status, r.out);
    free(r.out);
    run.in = "0";
    r = host_call(&run);
    CHECK(host_same(&r, FERRULE_INVALID, refused, strlen(refused)), "configure: \"%s\"", r.out);
    free(r.out);
    host_end_background(1);
    run.symbol = "ferrule_stop";
    run.in_len = 0;
    r = host_call(&run);
    CHECK(host_same(&r, FERRULE_OK, "", 0), "stop: status %d, \"%s\"", (int)r.status, r.out);
    CHECK(!is_older || seen.lines == 0, "%u lines between calls in an older host", seen.lines);
    free(r.out);
    host_end_background(0);
}

int main(int argc, char **argv) {
    host_open(argc, argv);
    test_functions();
    test_instance(0);
    test_instance(1);
    return host_close();
}
