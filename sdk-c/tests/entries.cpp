/* A plug-in with a function for each thing that ferrule/sdk.hpp does; test_entries.c runs them. Memory is counted, and
 * can be made to run out. */
#include <ferrule/sdk.hpp>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

static std::atomic<long> live{0};
static std::atomic<long> allocations_left{-1};

/* The sanitizers bring allocators of their own, for the whole process, and look for leaks themselves. */
#if !defined(SANITIZED)
static void *counted_new(std::size_t size) {
    if (allocations_left == 0) throw std::bad_alloc();
    if (allocations_left > 0) --allocations_left;
    void *const block = std::malloc(size ? size : 1);
    if (!block) throw std::bad_alloc();
    ++live;
    return block;
}
static void counted_delete(void *block) noexcept {
    if (block) --live;
    std::free(block);
}
void *operator new(std::size_t size) { return counted_new(size); }
void *operator new[](std::size_t size) { return counted_new(size); }
void operator delete(void *block) noexcept { counted_delete(block); }
void operator delete[](void *block) noexcept { counted_delete(block); }
void operator delete(void *block, std::size_t) noexcept { counted_delete(block); }
void operator delete[](void *block, std::size_t) noexcept { counted_delete(block); }
#endif

extern "C" {
FERRULE_EXPORT long test_live_blocks();
long test_live_blocks() { return live; }
FERRULE_EXPORT void test_allow_allocations(long count);
void test_allow_allocations(long count) { allocations_left = count; }
FERRULE_EXPORT const void *test_last_bytes();
}

FERRULE_PLUGIN(FERRULE_NAME("entries") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent")
               FERRULE_STATE_FORMAT("count-1"));

/* ---- What a function takes ------------------------------------------------------------------------------------- */

static std::string echo(std::string_view in) { return std::string(in); }
FERRULE_CPP_FN(echo, echo);
FERRULE_CPP_FN(takes_nothing, [] { return "nothing"; });
FERRULE_CPP_FN(takes_context,
               [](ferrule::context &ctx) { return std::string(ctx.cancelled() ? "cancelled" : "wanted"); });
FERRULE_CPP_FN(takes_const_context, [](const ferrule::context &ctx) { ctx.log_warn("seen"); });
FERRULE_CPP_FN(takes_both, [](ferrule::context &ctx, std::string_view in) {
    ctx.throw_if_cancelled();
    return "both: " + std::string(in);
});
FERRULE_CPP_HOOK(before, [](std::string_view in) { return "before " + std::string(in); });

/* ---- What a function returns ----------------------------------------------------------------------------------- */

FERRULE_CPP_FN(returns_nothing, [](std::string_view) {});
FERRULE_CPP_FN(returns_view, [](std::string_view in) { return in.substr(1); });
FERRULE_CPP_FN(returns_vector, [](std::string_view in) { return std::vector<unsigned char>(in.begin(), in.end()); });
FERRULE_CPP_FN(returns_array, [] { return std::array<char, 3>{'a', 'b', 'c'}; });
static const std::string kept(300, 'k');
FERRULE_CPP_FN(returns_const_reference, []() -> const std::string & { return kept; });

/* Bytes that can be moved but not copied. */
class unique_bytes {
public:
    explicit unique_bytes(std::string_view from) : bytes_(new char[from.size()]), size_(from.size()) {
        std::memcpy(bytes_.get(), from.data(), size_);
    }
    const char *data() const { return bytes_.get(); }
    std::size_t size() const { return size_; }

private:
    std::unique_ptr<char[]> bytes_;
    std::size_t size_;
};
FERRULE_CPP_FN(returns_unique, [](std::string_view in) { return unique_bytes(in); });

/* Bytes that several results have in common. */
class shared_bytes {
public:
    explicit shared_bytes(const char *text) : text_(std::make_shared<std::string>(text)) {}
    const char *data() const { return text_->data(); }
    std::size_t size() const { return text_->size(); }

private:
    std::shared_ptr<const std::string> text_;
};
static const shared_bytes shared("the same bytes for everybody, kept alive by a reference count");
FERRULE_CPP_FN(returns_shared, [] { return shared; });

/* A string whose bytes are on the heap, with no capacity to spare; the host compares addresses. */
static const void *last_bytes;
const void *test_last_bytes() { return last_bytes; }
FERRULE_CPP_FN(returns_long_string, [](std::string_view in) {
    std::string out(in);
    last_bytes = out.data();
    return out;
});

/* What an author may do to the frame by hand gives way to what the function returns. */
FERRULE_CPP_FN(replies_by_hand, [](ferrule::context &ctx, std::string_view in) {
    ferrule_replyf(ctx.frame(), "by hand: %.*s", static_cast<int>(in.size()), in.data());
});
FERRULE_CPP_FN(replies_twice, [](ferrule::context &ctx, std::string_view in) {
    ferrule_reply(ctx.frame(), in.data(), in.size());
    return std::string(in) + "!";
});

/* ---- What a function throws ------------------------------------------------------------------------------------ */

struct own_error : ferrule::error {
    own_error() : ferrule::error(1234, "of a class of its own") {}
};

FERRULE_CPP_FN(throws, [](ferrule::context &ctx, std::string_view in) {
    ferrule_reply(ctx.frame(), "partial", 7);
    if (in == "error") throw ferrule::error(FERRULE_UNSUPPORTED, "not %s");
    if (in == "own error") throw own_error();
    if (in == "ok") throw ferrule::error(FERRULE_OK, "not ok");
    if (in == "panic") throw ferrule::error(FERRULE_PANIC, "state is broken");
    if (in == "invalid") throw std::invalid_argument("expected %d");
    if (in == "memory") throw std::bad_alloc();
    if (in == "length") throw std::length_error("too long");
    if (in == "format") throw std::runtime_error("100%s");
    if (in == "long") throw std::runtime_error(std::string(2000, 'w'));
    if (in == "int") throw 42;
    if (in == "nothing") throw std::exception();
});

/* ---- State ----------------------------------------------------------------------------------------------------- */

namespace host {
FERRULE_CPP_IMPORT(echo);
FERRULE_CPP_IMPORT(repeat);
FERRULE_CPP_IMPORT(refuse);
FERRULE_CPP_IMPORT(silent);
FERRULE_CPP_WANT(cache);
FERRULE_CPP_WANT(mail);
} // namespace host

class counter {
public:
    counter(ferrule::context &ctx, std::string_view config) {
        if (config == "bad") throw std::invalid_argument("expected another configuration");
        name = std::string(config);
        if (config == "watch") watch(ctx.background());
        ctx.log_info("started " + name);
    }
    std::string add(std::string_view by) { return std::to_string(count_ += std::stol(std::string(by))); }
    const std::string &get() const noexcept { return name; }
    void reset() { count_ = 0; }
    ~counter() {
        if (watcher_.joinable()) watcher_.join();
    }
    counter(const counter &) = delete;
    counter &operator=(const counter &) = delete;

    void configure(std::string_view config) {
        if (config.empty()) throw std::invalid_argument("expected a name");
        name = std::string(config);
    }
    std::string save() const { return name + ":" + std::to_string(count_); }
    ferrule::result<void> resume(std::string_view saved) {
        const auto colon = saved.find(':');
        if (colon == saved.npos) return ferrule::error(FERRULE_INVALID, "expected a name and a number");
        name = std::string(saved.substr(0, colon));
        count_ = std::stol(std::string(saved.substr(colon + 1)));
        return {};
    }

private:
    /* Tells the host between calls until it ends; which is before ferrule_stop. */
    void watch(ferrule::background background) {
        if (!background) throw ferrule::error(FERRULE_UNSUPPORTED, "no calls between calls");
        between_ = background;
        watcher_ = std::thread([this] {
            between_->log_info("watching", {{"cache", host::cache(*between_, "hi").value_or("")}});
            while (!between_->cancelled()) std::this_thread::yield();
            between_->log_info("ended");
        });
    }

    std::string name;
    long count_ = 0;
    ferrule::background between_;
    std::thread watcher_;
};
FERRULE_CPP_STATE(counter);
FERRULE_CPP_FN(add, &counter::add);
FERRULE_CPP_FN(get, &counter::get);
FERRULE_CPP_FN(reset, &counter::reset);
FERRULE_CPP_FN(get_by_context, [](ferrule::context &ctx) { return ctx.state<counter>().get(); });

FERRULE_CPP_CONFIGURE(&counter::configure);
FERRULE_CPP_SAVE(&counter::save);
FERRULE_CPP_RESUME(&counter::resume);

/* ---- Services -------------------------------------------------------------------------------------------------- */

FERRULE_CPP_FN(import_echo, host::echo);
FERRULE_CPP_FN(import_repeat, host::repeat);
FERRULE_CPP_FN(import_refuse, host::refuse);
FERRULE_CPP_FN(import_silent, host::silent);
FERRULE_CPP_FN(import_caught, [](ferrule::context &ctx, std::string_view in) {
    try {
        return host::refuse(ctx, in);
    } catch (const ferrule::error &e) {
        return std::to_string(e.status()) + " " + e.what();
    }
});

FERRULE_CPP_FN(logs, [](ferrule::context &ctx) {
    ctx.log(FERRULE_LOG_DEBUG, std::string_view());
    ctx.log_error("e");
    ctx.log_warn("w");
    ctx.log_info("i");
    ctx.log_debug("d");
    ctx.log_trace("two newlines\n\n");
});

/* ---- Since version 1.1 of the contract ------------------------------------------------------------------------- */

FERRULE_CPP_FN(results, [](std::string_view in) -> ferrule::result<std::string> {
    if (in == "pass") return ferrule::pass;
    if (in == "reason") return ferrule::error(FERRULE_PASS, "not for us");
    if (in == "error") return ferrule::error(1234, "of its own");
    if (in == "view") return std::string_view("a view");
    return std::string(in);
});
FERRULE_CPP_FN(results_unique, [](std::string_view in) -> ferrule::result<unique_bytes> { return unique_bytes(in); });
FERRULE_CPP_FN(results_void, [](std::string_view in) -> ferrule::result<void> {
    if (in == "pass") return ferrule::pass;
    return {};
});
FERRULE_CPP_FN(throws_pass, [] { throw ferrule::error(FERRULE_PASS, "thrown"); });
FERRULE_CPP_FN(values, [](ferrule::context &ctx, std::string_view in) {
    return ctx.try_call_host(host::ferrule_import_refuse, in).value();
});

FERRULE_CPP_FN(want_cache, host::cache);
FERRULE_CPP_FN(want_mail, host::mail);
FERRULE_CPP_FN(offers, [](ferrule::context &ctx) {
    return std::string(host::cache.offered(ctx) ? "cache " : "") + (host::mail.offered(ctx) ? "mail" : "");
});

FERRULE_CPP_FN(knows, [](ferrule::context &ctx, std::string_view in) { return ctx.info(std::string(in).c_str()); });
FERRULE_CPP_FN(remains, [](ferrule::context &ctx) {
    const auto left = ctx.remaining();
    return left ? std::to_string(left->count()) : "for ever";
});

FERRULE_FN_META(copies, FERRULE_STREAM("both"));
FERRULE_CPP_FN(copies, [](ferrule::context &ctx) {
    for (std::string_view piece; !(piece = ctx.read()).empty();) ctx.write(piece);
});
FERRULE_FN_META(lines, FERRULE_STREAM("both"));
FERRULE_CPP_FN(lines, [](ferrule::context &ctx) {
    ferrule::istream in(ctx);
    ferrule::ostream out(ctx);
    long count = 0;
    for (std::string line; std::getline(in, line); count++) out << count << ":" << line << '\n';
    out.flush();
    return std::to_string(count);
});
FERRULE_FN_META(floods, FERRULE_STREAM("out"));
FERRULE_CPP_FN(floods, [](ferrule::context &ctx, std::string_view in) {
    ferrule::ostream out(ctx);
    out << in << std::flush;
});

FERRULE_HOOK_META(wrapper, FERRULE_KEY("wrap", "yes"));
FERRULE_CPP_HOOK(wrapper, [](ferrule::context &ctx, std::string_view in) -> ferrule::result<std::string> {
    auto behind = ctx.next(in);
    if (behind) *behind += "!";
    return behind;
});

FERRULE_CPP_FN(progresses, [](ferrule::context &ctx, std::string_view in) { ctx.progress(in.size(), 1000); });
FERRULE_CPP_FN(logs_fields, [](ferrule::context &ctx, std::string_view in) {
    ctx.log_warn("fields\n", {{"text", in}, {"number", 7}, {"yes", true}, {"literal", "x"}});
});
