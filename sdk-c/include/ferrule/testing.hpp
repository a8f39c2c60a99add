/* ferrule/testing.hpp: the host of ferrule/testing.h for tests in C++17 or later. SPDX-License-Identifier: MIT
 *
 *     #include <ferrule/testing.hpp>
 *
 *     FERRULE_TEST_FN(greet);
 *     FERRULE_TEST_IMPORT(points);
 *
 *     int main() {
 *         ferrule::testing::host host;
 *         host.offer(FERRULE_TEST_SLOT(points), [](std::string_view customer) -> ferrule::result<std::string> {
 *             if (customer != "ada") return ferrule::error(FERRULE_INVALID, "no such customer");
 *             return "7";
 *         });
 *         assert(host.call(ferrule_fn_greet, "ada").value() == "Hello ada, you have 7 points.");
 *         assert(host.call(ferrule_fn_greet, "bob").status() == FERRULE_INVALID);
 *     }
 *
 * A function that is not exported is run by host.run, which hands it a context: host.run([](ferrule::context &ctx) {
 * return greet(ctx, "ada"); }). The head of ferrule/testing.h says what holds for all of it.
 */
#ifndef FERRULE_TESTING_HPP
#define FERRULE_TESTING_HPP

#include <ferrule/sdk.hpp>
#include <ferrule/testing.h>

#include <memory>
#include <mutex>
#include <vector>

namespace ferrule {
namespace testing {

/* A line of the log. */
struct line {
    uint32_t level; /* one of FERRULE_LOG_… */
    std::string text;
    std::string fields; /* `key=value` texts with a newline between them */
};

/* A call of a host function, or, with the name "next", of what stands behind a wrapper. */
struct request {
    std::string name;
    std::string in;
};

/* A host for tests. Throws nothing itself; what an answer throws is its failure, as with an exported function. */
class host {
public:
    /* What a host function does: its result, or the failure that the plug-in gets. */
    using answer = std::function<result<std::string>(std::string_view in)>;

    host() : host_(ferrule_test_new()) {}
    ~host() { ferrule_test_free(host_); }
    host(const host &) = delete;
    host &operator=(const host &) = delete;

    /* Offers a host function: host.offer(FERRULE_TEST_SLOT(points), …), or with FERRULE_TEST_WANT_SLOT. */
    void offer(const char *name, uint32_t *slot, answer does) {
        ferrule_test_offer(host_, name, slot, run_answer, keep(std::move(does)));
    }
    /* Sets what stands behind a wrapper (R33). */
    void next(answer does) { ferrule_test_next(host_, run_answer, keep(std::move(does))); }
    /* Sets what ctx.info answers to a key. */
    void info(const std::string &key, const std::string &value) {
        ferrule_test_info(host_, key.c_str(), value.c_str());
    }
    /* Sets the bytes of the room that a call finds; 256 at first. */
    void room(std::size_t len) noexcept { ferrule_test_room(host_, len); }
    /* From now on each call reads this input in pieces of piece_len bytes, not 0, and writes to one output. */
    void stream(std::string input, std::size_t piece_len) {
        input_ = std::move(input);
        ferrule_test_stream(host_, input_.data(), input_.size(), piece_len);
    }
    /* From now on writes beyond so many bytes of output fail. */
    void limit_output(std::size_t len) noexcept { ferrule_test_limit_output(host_, len); }
    /* What calls wrote to the output stream. */
    std::string written() const {
        std::size_t len = 0;
        const char *const bytes = ferrule_test_written(host_, &len);
        return std::string(bytes, len);
    }
    /* Cancels all calls from now on, or no longer. [thread] any. */
    void cancel(bool cancelled = true) noexcept { ferrule_test_cancel(host_, cancelled); }

    /* Runs an exported function or hook, such as ferrule_fn_greet: its result, or its status with its message. */
    result<std::string> call(ferrule_function function, std::string_view in = {}) {
        return result_of(ferrule_test_call(host_, function, in.data(), in.size()));
    }
    /* Makes the state as a host does, with a configuration; an error leaves calls without a state. */
    result<std::string> start(std::string_view config = {}, ferrule_function function = ferrule_start) {
        return result_of(ferrule_test_start(host_, function, config.data(), config.size()));
    }
    /* Makes the state of what ferrule_save gave, which host.call(ferrule_save) returns. */
    result<std::string> resume(std::string_view saved, ferrule_function function = ferrule_resume) {
        return result_of(ferrule_test_resume(host_, function, saved.data(), saved.size()));
    }
    /* Drops the state. A host that has one is stopped before it is destroyed. */
    result<std::string> stop(ferrule_function function = ferrule_stop) {
        return result_of(ferrule_test_stop(host_, function));
    }

    /* Runs f(ctx) as a call of this host, and returns what it returns; what it throws passes through. */
    template <class F> std::invoke_result_t<F &, context &> run(F &&f) {
        using type = std::invoke_result_t<F &, context &>;
        static_assert(!std::is_reference_v<type>, "return a value: what the call had is gone");
        if constexpr (std::is_void_v<type>) {
            run_any([&](context &ctx) { f(ctx); });
        } else {
            std::optional<type> returned;
            run_any([&](context &ctx) { returned.emplace(f(ctx)); });
            return std::move(*returned);
        }
    }

    /* The log so far. [thread] any. */
    std::vector<line> lines() const {
        std::vector<line> all;
        for (std::size_t i = 0, n = ferrule_test_lines(host_); i < n; i++) {
            const ferrule_test_line one = ferrule_test_line_at(host_, i);
            all.push_back({one.level, one.text, one.fields});
        }
        return all;
    }
    /* The calls of host functions so far. [thread] any. */
    std::vector<request> requests() const {
        std::vector<request> all;
        for (std::size_t i = 0, n = ferrule_test_requests(host_); i < n; i++) {
            const ferrule_test_request one = ferrule_test_request_at(host_, i);
            all.push_back({one.name, std::string(one.in, one.in_len)});
        }
        return all;
    }
    /* What the call that ended last said of its progress: how much is done, and of how much. [thread] any. */
    std::pair<uint64_t, uint64_t> progress() const {
        const std::lock_guard<std::mutex> lock(mutex_);
        return progress_;
    }

private:
    static int32_t run_answer(void *data, const char *in, std::size_t in_len, ferrule_buffer *to) noexcept {
        const answer &does = *static_cast<const answer *>(data);
#if FERRULE_EXCEPTIONS_
        try {
            return put(does(std::string_view(in, in_len)), to);
        } catch (...) {
            return detail::caught([to](int32_t status, const char *text) { return give(status, text, to); });
        }
#else
        return put(does(std::string_view(in, in_len)), to);
#endif
    }
    static int32_t put(const result<std::string> &from, ferrule_buffer *to) {
        return give(from.status(), from ? std::string_view(*from) : std::string_view(from.message()), to);
    }
    static int32_t give(int32_t status, std::string_view bytes, ferrule_buffer *to) noexcept {
        const int32_t appended = ferrule_buffer_append(to, bytes.data(), bytes.size());
        return appended == FERRULE_OK ? status : appended;
    }
    void *keep(answer does) {
        answers_.push_back(std::make_unique<answer>(std::move(does)));
        return answers_.back().get();
    }
    void set_progress(const ferrule_test_result &from) {
        const std::lock_guard<std::mutex> lock(mutex_);
        progress_ = {from.done, from.total};
    }
    result<std::string> result_of(const ferrule_test_result &from) {
        set_progress(from);
        std::string bytes(from.out, from.len);
        if (from.status == FERRULE_OK) return bytes;
        return error(from.status, bytes);
    }
    template <class Call> void run_any(Call call) {
        struct carried {
            std::function<void(context &)> call;
#if FERRULE_EXCEPTIONS_
            std::exception_ptr thrown = nullptr;
#endif
        } carry;
        carry.call = std::ref(call);
        const ferrule_test_result from = ferrule_test_call_(
            host_,
            [](ferrule_call *frame) noexcept -> int32_t {
                context ctx(frame);
                carried &here = *static_cast<carried *>(ferrule_test_data_(frame));
#if FERRULE_EXCEPTIONS_
                try {
                    here.call(ctx);
                } catch (...) {
                    here.thrown = std::current_exception();
                }
#else
                here.call(ctx);
#endif
                return FERRULE_OK;
            },
            "", 0, &carry, 0, nullptr);
        set_progress(from);
#if FERRULE_EXCEPTIONS_
        if (carry.thrown) std::rethrow_exception(carry.thrown);
#endif
    }

    ferrule_test_host *host_;
    std::vector<std::unique_ptr<answer>> answers_;
    std::string input_;
    mutable std::mutex mutex_; /* of progress_: calls may end at the same time */
    std::pair<uint64_t, uint64_t> progress_{};
};

} // namespace testing
} // namespace ferrule

#endif /* FERRULE_TESTING_HPP */
