/* The plug-in's own tests, which `make test` builds with the sources and runs: of what it does, and of what a host sees,
 * whom ferrule/testing.h stands in for. Sanitizers and debuggers work as with any program. */
#undef NDEBUG
#include <assert.h>
#include <ferrule/testing.h>
#include <stdio.h>

#include "../src/greeting.h"

FERRULE_TEST_FN(greet);

static void test_greeting(void) {
    char out[8] = "........";
    assert(greeting(out, 5, "Ada", 3) == 11 && !memcmp(out, "Hello...", 8));
    assert(greeting(NULL, 0, NULL, 0) == 13);
}

static void test_greet(void) {
    ferrule_test_host *host = ferrule_test_new();
    ferrule_test_result r = ferrule_test_call(host, ferrule_fn_greet, "Ada", 3);
    assert(r.status == FERRULE_OK && !strcmp(r.out, "Hello, Ada!"));
    r = ferrule_test_call(host, ferrule_fn_greet, "", 0);
    assert(r.status == FERRULE_OK && !strcmp(r.out, "Hello, world!"));
    ferrule_test_free(host);
}

int main(void) {
    test_greeting();
    test_greet();
    puts("the plug-in's own tests have passed");
}
