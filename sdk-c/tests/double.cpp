/* The host of ferrule/testing.hpp over README.md's plug-in in C++, which this program is linked with. */
#undef NDEBUG
#include <ferrule/testing.hpp>

#include <cassert>
#include <thread>

FERRULE_TEST_FN(shout);
FERRULE_TEST_FN(forbidden);
FERRULE_TEST_FN(next);
FERRULE_TEST_FN(ask);
FERRULE_TEST_FN(measure);
FERRULE_TEST_FN(number);
FERRULE_TEST_HOOK(after_print);
FERRULE_TEST_HOOK(around_print);
FERRULE_TEST_IMPORT(echo);
FERRULE_TEST_WANT(cache);

using ferrule::testing::host;

static bool failed(const ferrule::result<std::string> &r, int32_t status, std::string_view message) {
    return !r && r.status() == status && r.message() == message;
}

static void test_calls() {
    host h;
    for (const std::size_t room : {0u, 3u, 256u}) {
        h.room(room);
        assert(h.call(ferrule_fn_shout, "hello").value() == "hello!");
        assert(h.call(ferrule_fn_measure, std::string_view("a\0b", 3)).value() == "3 bytes");
    }
    assert(failed(h.call(ferrule_fn_shout), FERRULE_INVALID, "expected a word"));
    assert(failed(h.call(ferrule_fn_forbidden, "Sunday"), 1001, "not on Sundays"));
    assert(failed(h.call(ferrule_hook_after_print), FERRULE_PASS, ""));
}

static void test_host_functions() {
    host h;
    h.offer(FERRULE_TEST_SLOT(echo), [](std::string_view in) -> ferrule::result<std::string> {
        if (in == "throw") throw std::runtime_error("thrown");
        if (in == "fail") return ferrule::error(1002, "as told");
        return std::string(in) + std::string(1000, '.');
    });
    assert(h.call(ferrule_fn_ask, "x").value().size() == 1001);
    assert(failed(h.call(ferrule_fn_ask, "throw"), FERRULE_FAILED, "thrown"));
    assert(failed(h.call(ferrule_fn_ask, "fail"), 1002, "as told"));
    assert(h.lines().size() == 3 && h.lines()[0].level == FERRULE_LOG_INFO && h.lines()[0].text == "asking the host" &&
           h.lines()[0].fields == "bytes=1\npath=unknown");
    h.info("path", "/plug-ins");
    h.offer(FERRULE_TEST_WANT_SLOT(cache), [](std::string_view) { return "cached"; });
    assert(h.call(ferrule_fn_ask, "x").value() == "cached" && h.lines()[3].fields == "bytes=1\npath=/plug-ins");
    assert(h.requests().size() == 4 && h.requests()[1].name == "echo" && h.requests()[1].in == "throw");
    h.next([](std::string_view in) { return "<" + std::string(in) + ">"; });
    assert(h.call(ferrule_hook_around_print, "x").value() == "<x>" && h.requests()[4].name == "next");
    h.cancel();
    assert(failed(h.call(ferrule_fn_ask, "x"), FERRULE_CANCELLED, "cancelled"));

    host other; /* what an answer throws is what an exported function's is, whatever its type */
    other.offer(FERRULE_TEST_SLOT(echo), [](std::string_view in) -> ferrule::result<std::string> {
        if (in == "invalid") throw std::invalid_argument("not this");
        throw 7;
    });
    assert(failed(other.call(ferrule_fn_ask, "invalid"), FERRULE_INVALID, "not this"));
    assert(failed(other.call(ferrule_fn_ask, "number"), FERRULE_PANIC, "an exception that is no std::exception"));
}

/* Calls at the same time. */
static void test_threads() {
    host h;
    const auto calls = [&] {
        for (int i = 0; i < 100; i++) {
            assert(h.call(ferrule_fn_shout, "hello").value() == "hello!");
            assert(h.progress() == std::make_pair(uint64_t{0}, uint64_t{0}));
        }
    };
    std::thread other(calls);
    calls();
    other.join();
}

static void test_streams_and_state() {
    host h;
    h.stream("one\ntwo\nthree", 2);
    assert(h.call(ferrule_fn_number).value() == "3" && h.written() == "1 one\n2 two\n3 three\n");
    h.stream("one\n", 100);
    h.limit_output(3);
    assert(failed(h.call(ferrule_fn_number), FERRULE_FAILED, "writing the output stream failed"));
    assert(h.start("apples") && h.call(ferrule_fn_next).value() == "1 apples");
    assert(h.call(ferrule_configure, "pears") && h.call(ferrule_fn_next).value() == "2 pears");
    assert(h.resume(h.call(ferrule_save).value()) && h.call(ferrule_fn_next).value() == "3 pears");
    assert(h.stop());
}

/* Functions that are not exported, and threads of the plug-in's own. */
static void test_run() {
    host h;
    assert(h.run([](ferrule::context &ctx) { return ctx.cancelled() ? 1 : 2; }) == 2);
    assert(h.run([](ferrule::context &) { return std::make_unique<int>(7); }) != nullptr);
    h.run([](ferrule::context &ctx) {
        std::thread other([&] { for (int i = 0; i < 100; i++) ctx.log_info("from another thread"); });
        for (int i = 0; i < 100; i++) ctx.log_info("from this one");
        ctx.progress(1, 2);
        other.join();
    });
    assert(h.lines().size() == 200 && h.progress() == std::make_pair(uint64_t{1}, uint64_t{2}));
    try {
        h.run([](ferrule::context &ctx) { ctx.read(); });
        assert(false);
    } catch (const ferrule::error &e) {
        assert(e.status() == FERRULE_UNSUPPORTED);
    }
}

int main() {
    test_calls();
    test_host_functions();
    test_streams_and_state();
    test_run();
    test_threads();
}
