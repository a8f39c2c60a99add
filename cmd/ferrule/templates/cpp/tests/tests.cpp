// The plug-in's own tests, which `make test` builds with the sources and runs: of what it does, and of what a host sees,
// whom ferrule/testing.hpp stands in for. Sanitizers and debuggers work as with any program.
#undef NDEBUG
#include <cassert>
#include <cstdio>
#include <ferrule/testing.hpp>

#include "../src/greeting.hpp"

FERRULE_TEST_FN(greet);

static void test_greeting() {
    assert(greeting("Ada") == "Hello, Ada!");
    assert(greeting("") == "Hello, world!");
}

static void test_greet() {
    ferrule::testing::host host;
    assert(host.call(ferrule_fn_greet, "Ada").value() == "Hello, Ada!");
    assert(host.call(ferrule_fn_greet).value() == "Hello, world!");
}

int main() {
    test_greeting();
    test_greet();
    std::puts("the plug-in's own tests have passed");
}
