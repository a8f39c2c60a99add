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

static void test_c(void) {
    host_run run = running("ferrule_fn_count", "", 0);
    run.state = started("");
    check_run(run, FERRULE_OK, "1");
    check_run(run, FERRULE_OK, "2");
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
    CHECK(seen.lines == 2 && !strcmp(seen.line, "the sum is 195"), "logged \"%s\"", seen.line);
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
    stop(run.state);
    check("shout", "hey", FERRULE_OK, "hey!", ROOM);
    check("shout", "", FERRULE_INVALID, "expected a word", ROOM);
    check("first", "one two", FERRULE_OK, "one", ROOM);
    check("forbidden", "", 1001, "not on Sundays", ROOM);
    check("measure", "abc", FERRULE_OK, "3 bytes", ROOM);
    check_run(running("ferrule_hook_before_print", "hey", 1), FERRULE_OK, "hey!");
    run = running("ferrule_fn_ask", times(500, 'q'), 0);
    check_run(run, FERRULE_OK, times(500, 'q'));
    CHECK(seen.lines == 1 && !strcmp(seen.line, "asking the host"), "logged \"%s\"", seen.line);
    run.cancelled = 1;
    check_run(run, FERRULE_CANCELLED, "cancelled");
}

int main(int argc, char **argv) {
    host_open(argc, argv);
    if (!strcmp((const char *)host_symbol("ferrule_manifest") + strlen("ferrule=1") + 1, "name=words"))
        test_cpp();
    else
        test_c();
    return host_close();
}
