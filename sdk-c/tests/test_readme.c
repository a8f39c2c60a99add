/* Runs the plug-ins that README.md's code is: all of its C, or all of its C++. Usage: test_readme PLUGIN */
#include "host.h"

#include <stdlib.h>
#include <string.h>

static void *started(const char *config) {
    host_run run = running("ferrule_start", config, 0);
    host_result r = host_call(&run);
    CHECK(r.status == FERRULE_OK && r.state, "start: status %d, \"%s\"", (int)r.status, r.out);
    free(r.out);
    return r.state;
}

static void stop(void *state) {
    host_run run = running("ferrule_stop", "", 0);
    run.state = state;
    check_run(run, FERRULE_OK, "");
}

/* Settings that are none leave what was there. */
static void configure(void *state) {
    host_run run = running("ferrule_configure", "40", 0);
    run.state = state;
    check_run(run, FERRULE_OK, "");
    run.in = "x";
    run.in_len = 1;
    check_run(run, FERRULE_INVALID, "expected a number, found \"x\"");
}

/* What one instance saves, another one, which takes its place in the run, resumes. */
static void hand_over(host_run *run) {
    host_run save = running("ferrule_save", "", 64), resume = running("ferrule_resume", "", 64);
    host_result r;
    save.state = run->state;
    r = host_call(&save);
    CHECK(r.status == FERRULE_OK && r.len, "save: status %d, %zu bytes", (int)r.status, r.len);
    stop(run->state);
    run->state = resume.state = started("");
    resume.in = r.out;
    resume.in_len = r.len;
    check_run(resume, FERRULE_OK, "");
    free(r.out);
}

static void check_progress(host_run run, uint64_t done, uint64_t total) {
    host_result r = host_call(&run);
    CHECK(r.status == FERRULE_OK && r.done == done && r.total == total, "status %d, progress %d of %d", (int)r.status,
          (int)r.done, (int)r.total);
    free(r.out);
}

/* In a host that is older than the service that the function needs. */
static host_run older(host_run run) {
    run.frame_size = FRAME_1_0;
    run.table_size = TABLE_1_0;
    return run;
}

static void test_c_since_1_1(void) {
    host_run run = running("ferrule_hook_before_print", "", 64);
    check_run(run, FERRULE_PASS, "");
    check_run(older(run), FERRULE_PASS, "nothing to say to this input");
    check_run(running("ferrule_hook_before_print", "x", 64), FERRULE_OK, "loud");

    check_run(running("ferrule_fn_spell", "90210", 0), FERRULE_OK, "nine zero two one zero ");
    check_run(older(running("ferrule_fn_spell", "90210", 64)), FERRULE_OK, "nine zero two one zero ");
    check_run(older(running("ferrule_fn_spell", "90210", 8)), FERRULE_UNSUPPORTED, "no room for the names of 5 digits");

    check_run(running("ferrule_fn_look_up", "cached", 64), FERRULE_OK, "cached");
    check_run(older(running("ferrule_fn_look_up", "cached", 64)), FERRULE_OK, "computed");

    run = running("ferrule_hook_around_print", "hey", 64);
    check_run(run, FERRULE_UNSUPPORTED, "");
    run.wraps = 1;
    check_run(run, FERRULE_OK, "hey!");

    run = running("ferrule_fn_pass_on", "", 64);
    check_run(run, FERRULE_UNSUPPORTED, "");
    check_run(older(run), FERRULE_UNSUPPORTED, "");
    run.stream = " a bc  def ";
    run.piece_len = 3;
    run.sink = 1;
    check_run(run, FERRULE_OK, "11");
    CHECK(!strcmp(seen.written, " a bc  def "), "written: \"%s\"", seen.written);
    run.sink_takes = 3;
    check_run(run, FERRULE_FAILED, "");
    run.symbol = "ferrule_fn_magic";
    check_run(run, FERRULE_OK, " a b");

    check_run(running("ferrule_fn_where", "", 64), FERRULE_OK, "/opt/plug-ins");
    check_run(older(running("ferrule_fn_where", "", 64)), FERRULE_UNSUPPORTED, "the host does not say");
    check_run(running("ferrule_fn_thorough", "", 64), FERRULE_OK, "no");
    check_run(older(running("ferrule_fn_thorough", "", 64)), FERRULE_OK, "yes");

    run = running("ferrule_fn_sum", times(5000, 'a'), 64);
    check_progress(run, 4096, 5000);
    check_run(older(running("ferrule_fn_sum", "ab", 64)), FERRULE_OK, "195");
    CHECK(!strcmp(seen.line, "summed bytes=2 sum=195"), "logged \"%s\"", seen.line);
}

static void test_c(void) {
    host_run run = running("ferrule_fn_count", "", 0);
    run.state = started("");
    check_run(run, FERRULE_OK, "1");
    check_run(run, FERRULE_OK, "2");
    configure(run.state);
    check_run(run, FERRULE_OK, "41");
    hand_over(&run);
    check_run(run, FERRULE_OK, "42");
    stop(run.state);
    check("count_vowels", "An Apple", FERRULE_OK, "3", ROOM);
    check_bytes("count_vowels", "a\0e", 3, FERRULE_OK, "2", 1, ROOM);
    check("echo", "abc", FERRULE_OK, "abc", ROOM);
    check("hello", "", FERRULE_OK, "hello", ROOM);
    check("measure", "abc", FERRULE_OK, "3 bytes", ROOM);
    check("upper", "abc", FERRULE_OK, "ABC", ROOM);
    check("tail", "abc", FERRULE_OK, "abc", OWN);
    check("half", "abcd", FERRULE_OK, "ab", ROOM);
    check("half", "abc", FERRULE_INVALID, "expected pairs, found 3 bytes", ROOM);
    check("greet", "Ada", FERRULE_OK, "Hello, Ada!", ROOM);
    check("greet", times(64, 'a'), FERRULE_INVALID, "the input has 64 bytes, expected a text of less than 64", ROOM);
    check("hex", "az", FERRULE_OK, "617a", ROOM);
    check("join", "abc", FERRULE_OK, "[abc]", ROOM);
    check("ask", times(500, 'q'), FERRULE_OK, times(500, 'q'), ROOM);
    check_run(running("ferrule_fn_sum", "ab", 64), FERRULE_OK, "195");
    CHECK(seen.lines == 2 && !strcmp(seen.line, "summed") && !strcmp(seen.fields, "bytes=2;sum=195;"),
          "logged \"%s\", fields \"%s\"", seen.line, seen.fields);
    run = running("ferrule_fn_sum", "ab", 64);
    run.cancelled = 1;
    check_run(run, FERRULE_CANCELLED, "");
}

static void test_cpp(void) {
    host_run run = running("ferrule_fn_next", "", 0);
    run.state = started("apples");
    check_run(run, FERRULE_OK, "1 apples");
    run.symbol = "ferrule_fn_skip";
    check_run(run, FERRULE_OK, "");
    run.symbol = "ferrule_fn_next";
    check_run(run, FERRULE_OK, "3 apples");
    hand_over(&run);
    check_run(run, FERRULE_OK, "4 ");
    run.symbol = "ferrule_configure";
    run.in = "pears";
    run.in_len = 5;
    check_run(run, FERRULE_OK, "");
    run.symbol = "ferrule_fn_next";
    run.room = 16;
    check_run(run, FERRULE_OK, "5 pears");
    stop(run.state);
    check("shout", "hey", FERRULE_OK, "hey!", ROOM);
    check("shout", "", FERRULE_INVALID, "expected a word", ROOM);
    check("first", "one two", FERRULE_OK, "one", ROOM);
    check("forbidden", "Sunday", 1001, "not on Sundays", ROOM);
    check("forbidden", "Monday", FERRULE_OK, "", ROOM);
    check("measure", "abc", FERRULE_OK, "3 bytes", ROOM);
    check_run(running("ferrule_hook_before_print", "hey", 1), FERRULE_OK, "hey!");
    run = running("ferrule_fn_ask", times(500, 'q'), 0);
    check_run(run, FERRULE_OK, times(500, 'q'));
    CHECK(seen.lines == 1 && !strcmp(seen.line, "asking the host") && !strcmp(seen.fields, "bytes=500;path=/opt/plug-ins;"),
          "logged \"%s\", fields \"%s\"", seen.line, seen.fields);
    check_run(older(run), FERRULE_OK, times(500, 'q'));
    CHECK(!strcmp(seen.line, "asking the host bytes=500 path=unknown"), "logged \"%s\"", seen.line);
    run.cancelled = 1;
    check_run(run, FERRULE_CANCELLED, "cancelled");

    check_run(running("ferrule_hook_after_print", "it", 64), FERRULE_OK, "it was printed");
    check_run(running("ferrule_hook_after_print", "", 64), FERRULE_PASS, "");
    run = running("ferrule_hook_around_print", "hey", 64);
    check_run(run, FERRULE_UNSUPPORTED, "");
    run.wraps = 1;
    check_run(run, FERRULE_OK, "hey");
    run = running("ferrule_fn_number", "", 64);
    run.stream = "a\nb";
    run.piece_len = 2;
    run.sink = 1;
    check_run(run, FERRULE_OK, "2");
    CHECK(!strcmp(seen.written, "1 a\n2 b\n"), "written: \"%s\"", seen.written);
}

int main(int argc, char **argv) {
    host_open(argc, argv);
    if (!strcmp((const char *)host_symbol("ferrule_manifest") + strlen("ferrule=1") + 1, "name=words"))
        test_cpp();
    else {
        test_c();
        test_c_since_1_1();
    }
    return host_close();
}
