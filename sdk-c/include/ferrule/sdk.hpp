/* ferrule/sdk.hpp: plug-ins in C++17 or later, over ferrule/sdk.h. SPDX-License-Identifier: MIT
 *
 *     #include <ferrule/sdk.hpp>
 *
 *     FERRULE_PLUGIN(FERRULE_NAME("greeter") FERRULE_VERSION("1.0.0"));
 *
 *     static std::string greet(std::string_view name) {
 *         if (name.empty()) throw std::invalid_argument("expected a name");
 *         return "Hello, " + std::string(name) + "!";
 *     }
 *     FERRULE_CPP_FN(greet, greet);
 *
 *     c++ -std=c++17 -shared -fPIC -o greeter.so greeter.cpp
 *
 * The author's functions are ordinary C++, to be tested as such: the macros put one noexcept entry before each, which
 * makes a result or a status of what comes out of it. No exception passes it (R12):
 *
 *     ferrule::error         its status                 the author chose it
 *     std::invalid_argument  FERRULE_INVALID
 *     std::bad_alloc         FERRULE_NO_MEMORY
 *     other std::exception   FERRULE_FAILED
 *     anything else          FERRULE_PANIC
 *
 * with what() as the message. Why only the last is a panic: a std::exception is how C++ code says that something did
 * not work; the stack was unwound, and what destructors guard is whole, so that the instance can go on. An int or a
 * foreign exception was meant for no caller, and nobody vouches for the state it left: FERRULE_PANIC has the host make
 * a new instance (R16). Throw ferrule::error(FERRULE_PANIC, …) where you know that the state is broken.
 *
 * A function that may have nothing to say, or that fails without an exception, returns a ferrule::result<std::string>:
 * a value, ferrule::pass (R22), or a ferrule::error. That is also how a plug-in works that is built without exceptions
 * (-fno-exceptions, as for WebAssembly): what throws in this header is not there then, and memory that runs out ends the
 * process.
 */
#ifndef FERRULE_SDK_HPP
#define FERRULE_SDK_HPP

#if !(__cplusplus >= 201703L || (defined(_MSVC_LANG) && _MSVC_LANG >= 201703L))
#error "ferrule/sdk.hpp needs C++17: build with -std=c++17 or later, or use ferrule/sdk.h"
#endif
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define FERRULE_EXCEPTIONS_ 1
#else
#define FERRULE_EXCEPTIONS_ 0
#endif

#include <ferrule/sdk.h>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <functional>
#include <initializer_list>
#include <istream>
#include <iterator>
#include <new>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

/* What the header defines for itself stays inside the plug-in: exported variables of templates and of inline functions
 * would be one for all plug-ins of a process, and keep each from being unloaded. gcc does not extend the
 * namespace's visibility to variables, which therefore have it once more. */
#if defined(__GNUC__) && !defined(_WIN32)
#define FERRULE_HIDDEN_ __attribute__((visibility("hidden")))
#else
#define FERRULE_HIDDEN_
#endif

/* What is returned points into the object, or into the argument, before it: compilers that know warn when it outlives
 * that. */
#if defined(__has_cpp_attribute)
#if __has_cpp_attribute(clang::lifetimebound)
#define FERRULE_LIFETIMEBOUND_ [[clang::lifetimebound]]
#elif __has_cpp_attribute(msvc::lifetimebound)
#define FERRULE_LIFETIMEBOUND_ [[msvc::lifetimebound]]
#endif
#endif
#if !defined(FERRULE_LIFETIMEBOUND_)
#define FERRULE_LIFETIMEBOUND_
#endif

/* Keeps an inline function that other source files call, though every call here is compiled in place. */
#if defined(__GNUC__)
#define FERRULE_KEPT_ __attribute__((used))
#elif defined(_MSC_VER)
#define FERRULE_KEPT_ __declspec(noinline)
#else
#define FERRULE_KEPT_
#endif

namespace ferrule {

/* A failure with a status of the author's choice: one of FERRULE_…, or 1000 and more (R10). To be thrown, or returned as
 * a result. */
class error : public std::runtime_error {
public:
    error(int32_t status, const std::string &message) : std::runtime_error(message), status_(status) {}
    int32_t status() const noexcept { return status_; }

private:
    int32_t status_;
};

/* What a function returns, as a result, that has nothing to say to its input (R22): return ferrule::pass; */
struct pass_t {};
FERRULE_HIDDEN_ inline constexpr pass_t pass{};

/* A value, or the status and the message that came in its place. Made of any of these; T may be void. Like std::optional
 * it is true where there is a value, which * and -> reach. */
template <class T> class [[nodiscard]] result {
public:
    using value_type = T;
    template <class U, class = std::enable_if_t<std::is_constructible_v<T, U &&> &&
                                                !std::is_base_of_v<error, std::decay_t<U>> &&
                                                !std::is_same_v<std::decay_t<U>, result> &&
                                                !(std::is_same_v<T, std::string_view> &&
                                                  std::is_same_v<std::decay_t<U>, std::string>)>>
    result(U &&value) : held_(std::in_place_index<0>, std::forward<U>(value)) {}
    /* A view of a text, which is not to be a local one. */
    template <class U,
              std::enable_if_t<std::is_same_v<T, std::string_view> && std::is_same_v<std::decay_t<U>, std::string>,
                               int> = 0>
    result(U &&value FERRULE_LIFETIMEBOUND_) : held_(std::in_place_index<0>, value) {}
    result(error failure) : held_(std::in_place_index<1>, std::move(failure)) {}
    result(pass_t) : result(error(FERRULE_PASS, "")) {}

    explicit operator bool() const noexcept { return held_.index() == 0; }
    /* Only where there is a value. */
    T &operator*() & noexcept FERRULE_LIFETIMEBOUND_ { return *std::get_if<0>(&held_); }
    const T &operator*() const & noexcept FERRULE_LIFETIMEBOUND_ { return *std::get_if<0>(&held_); }
    T operator*() && { return std::move(*std::get_if<0>(&held_)); }
    T *operator->() noexcept FERRULE_LIFETIMEBOUND_ { return std::get_if<0>(&held_); }
    const T *operator->() const noexcept FERRULE_LIFETIMEBOUND_ { return std::get_if<0>(&held_); }

    template <class U> T value_or(U &&other) && {
        return *this ? std::move(**this) : static_cast<T>(std::forward<U>(other));
    }
    /* FERRULE_OK where there is a value. */
    int32_t status() const noexcept { return *this ? int32_t{FERRULE_OK} : std::get_if<1>(&held_)->status(); }
    /* The message for people; "" where there is a value. [lifetime] the result's. */
    const char *message() const noexcept FERRULE_LIFETIMEBOUND_ { return *this ? "" : std::get_if<1>(&held_)->what(); }
#if FERRULE_EXCEPTIONS_
    /* The value; throws the failure where there is none. */
    T value() && {
        if (!*this) throw *std::get_if<1>(&held_);
        return std::move(**this);
    }
#endif

private:
    std::variant<T, error> held_;
};

template <> class [[nodiscard]] result<void> {
public:
    using value_type = void;
    result() noexcept = default;
    result(error failure) : failure_(std::move(failure)) {}
    result(pass_t) : result(error(FERRULE_PASS, "")) {}
    explicit operator bool() const noexcept { return !failure_; }
    int32_t status() const noexcept { return failure_ ? failure_->status() : int32_t{FERRULE_OK}; }
    const char *message() const noexcept FERRULE_LIFETIMEBOUND_ { return failure_ ? failure_->what() : ""; }
#if FERRULE_EXCEPTIONS_
    void value() const {
        if (failure_) throw *failure_;
    }
#endif

private:
    std::optional<error> failure_;
};

/* A field of a log line: a key, and text or a number as its value. */
class field {
public:
    field(std::string_view key, std::string_view value) : text_(std::string(key) + "=" + std::string(value)) {}
    field(std::string_view key, const char *value) : field(key, std::string_view(value)) {}
    field(std::string_view key, bool value) : field(key, std::string_view(value ? "true" : "false")) {}
    template <class Number, class = std::enable_if_t<std::is_arithmetic_v<Number>>>
    field(std::string_view key, Number value) : field(key, std::string_view(std::to_string(value))) {}
    /* `key=value` */
    const std::string &text() const noexcept { return text_; }

private:
    std::string text_;
};

namespace detail FERRULE_HIDDEN_ {

FERRULE_HIDDEN_ inline constexpr char no_state[] =
    "the instance has no state, expected one: its constructor has to come back first";

/* Says that FERRULE_CPP_STATE names T. What needs a state of type T calls it, and only FERRULE_CPP_STATE(T) defines it,
 * in this source file or in another one. So a library without does not link, and the linker's message has the macro's
 * name and the type; hidden, because undefined names that are hidden are errors of each linker. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wnon-template-friend" /* a function for each T is what is wanted */
#endif
template <class T> struct state_type {
    friend FERRULE_HIDDEN_ void FERRULE_CPP_STATE_names(state_type<T>) noexcept;
};
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
template <class T> struct state_is_named {
    friend FERRULE_HIDDEN_ FERRULE_KEPT_ void FERRULE_CPP_STATE_names(state_type<T>) noexcept {}
};

/* The instance's state; NULL while its constructor runs. */
template <class T> T *state_of(ferrule_call *call) noexcept {
    FERRULE_CPP_STATE_names(state_type<std::remove_cv_t<T>>());
    return static_cast<T *>(call->state);
}

} // namespace detail

class background;

/* One call, for as long as it runs: keep no reference to it. [thread] any, while the call runs (R14). What an older host
 * does not have is FERRULE_UNSUPPORTED, or does nothing, as the C helper of the same name says. */
class context {
public:
    explicit context(ferrule_call *call) noexcept : call_(call) {}
    context(const context &) = delete;
    context &operator=(const context &) = delete;

    /* Has the host lost interest in the result (R17)? Costs some loads: ask often. */
    bool cancelled() const noexcept { return ferrule_cancelled(call_) != 0; }

    /* Says how far the call is (R30), in a unit of its own; a total of 0 is not known. Costs some stores. */
    void progress(uint64_t done, uint64_t total) const noexcept { ferrule_set_progress(call_, done, total); }

    /* Hands a line to the host's logger, with fields (R31); level is one of FERRULE_LOG_….
     *
     *     ctx.log_info("read the file", { {"path", path}, {"lines", 3} }); */
    void log(uint32_t level, std::string_view text, std::initializer_list<field> fields = {}) const {
        std::string joined;
        for (const field &f : fields) joined.append(f.text().c_str()).push_back('\0');
        while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
        ferrule_log_fields_(call_, level, text.empty() ? "" : text.data(), text.size(), joined.data(), joined.size());
    }
    void log_error(std::string_view text, std::initializer_list<field> fields = {}) const {
        log(FERRULE_LOG_ERROR, text, fields);
    }
    void log_warn(std::string_view text, std::initializer_list<field> fields = {}) const {
        log(FERRULE_LOG_WARN, text, fields);
    }
    void log_info(std::string_view text, std::initializer_list<field> fields = {}) const {
        log(FERRULE_LOG_INFO, text, fields);
    }
    void log_debug(std::string_view text, std::initializer_list<field> fields = {}) const {
        log(FERRULE_LOG_DEBUG, text, fields);
    }
    void log_trace(std::string_view text, std::initializer_list<field> fields = {}) const {
        log(FERRULE_LOG_TRACE, text, fields);
    }

    /* Calls a host function by its ordinal and waits for it. FERRULE_CPP_IMPORT and FERRULE_CPP_WANT give it a name. */
    result<std::string> try_call_host(uint32_t ordinal, std::string_view in) const {
        return ask([&](ferrule_buffer *b) { return ferrule_import(call_, ordinal, in.data(), in.size(), b); },
                   "a host function failed without a message");
    }

    /* In a wrapper (R33): runs what stands behind it. */
    result<std::string> next(std::string_view in) const {
        return ask([&](ferrule_buffer *b) { return ferrule_next(call_, in.data(), in.size(), b); }, "");
    }

    /* The answer to a key, such as "path" (R26); FERRULE_UNSUPPORTED where the host does not know. */
    result<std::string> info(const char *key) const {
        return ask([&](ferrule_buffer *b) { return ferrule_info(call_, key, b); }, "");
    }

    /* How long the call may still run; nothing where it has no deadline. Asks the host each time. */
    std::optional<std::chrono::nanoseconds> remaining() const noexcept {
        const uint64_t ns = ferrule_remaining(call_);
        if (ns > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
        return std::chrono::nanoseconds(static_cast<int64_t>(ns));
    }

    /* In the constructor of the state: what reaches the host while no call runs (R27). See class background. */
    inline ferrule::background background() const noexcept;

    /* The next piece of the input stream, empty at its end (R24). [lifetime] until the next read, or the call's end. */
    result<std::string_view> try_read() const {
        const uint8_t *piece = nullptr;
        std::size_t len = 0;
        const int32_t status = ferrule_read(call_, &piece, &len);
        if (status != FERRULE_OK) return error(status, "reading the input stream failed");
        return std::string_view(reinterpret_cast<const char *>(piece), len);
    }

    /* Passes a copy of the bytes on to the output stream (R24). */
    result<void> try_write(std::string_view bytes) const {
        const int32_t status = ferrule_write(call_, bytes.data(), bytes.size());
        if (status != FERRULE_OK) return error(status, "writing the output stream failed");
        return {};
    }

#if FERRULE_EXCEPTIONS_
    /* Ends the call with FERRULE_CANCELLED, by an exception, when the host has lost interest. */
    void throw_if_cancelled() const {
        if (cancelled()) throw error(FERRULE_CANCELLED, "cancelled");
    }

    /* try_call_host, try_read and try_write, with what fails thrown as an error, which the host gets unless the author
     * catches it:
     *
     *     for (std::string_view piece; !(piece = ctx.read()).empty();) ctx.write(piece); */
    std::string call_host(uint32_t ordinal, std::string_view in) const { return try_call_host(ordinal, in).value(); }
    std::string_view read() const { return try_read().value(); }
    void write(std::string_view bytes) const { try_write(bytes).value(); }
#endif

    /* The instance's state, an object of the type that FERRULE_CPP_STATE names; with another type the library does not
     * link. In the state's own constructor: throws an error; without exceptions, ends the process. */
    template <class T> T &state() const {
        T *const found = detail::state_of<T>(call_);
        if (found) return *found;
#if FERRULE_EXCEPTIONS_
        throw error(FERRULE_FAILED, detail::no_state);
#else
        std::abort();
#endif
    }

    /* The frame itself, for the helpers of ferrule/sdk.h. */
    ferrule_call *frame() const noexcept { return call_; }

private:
    friend class ferrule::background;

    template <class Ask> result<std::string> ask(Ask &&ask_host, const char *otherwise) const {
        struct guard {
            ferrule_buffer buffer = FERRULE_BUFFER_INIT;
            ~guard() { ferrule_buffer_free(&buffer); }
        } answer;
        const int32_t status = ask_host(&answer.buffer);
        std::string bytes(ferrule_buffer_text(&answer.buffer), answer.buffer.len);
        if (status == FERRULE_OK) return bytes;
        return error(status, bytes.empty() ? otherwise : bytes);
    }

    ferrule_call *call_;
};

/* What reaches the host between calls, on any thread, from the constructor of the state until its destructor returns
 * (R27): host functions, the log, info, and cancelled(), which says when threads are to end. Keep it in the state, and
 * join there. A pointer to a context, in effect: false in an older host, and anywhere but in that constructor.
 *
 *     explicit watcher(ferrule::context &ctx, std::string_view) : host_(ctx.background()) {
 *         if (!host_) throw ferrule::error(FERRULE_UNSUPPORTED, "needs a host that takes calls between calls");
 *         thread_ = std::thread([this] { while (!host_->cancelled()) … });
 *     }
 *     ~watcher() { thread_.join(); } */
class background {
public:
    background() noexcept : background(nullptr) {}
    explicit background(ferrule_call *frame) noexcept : context_(frame) {}
    background(const background &other) noexcept : background(other.context_.frame()) {}
    background &operator=(const background &other) noexcept {
        context_.call_ = other.context_.call_;
        return *this;
    }
    explicit operator bool() const noexcept { return context_.frame() != nullptr; }
    /* Only where it is true. */
    const context *operator->() const noexcept { return &context_; }
    const context &operator*() const noexcept { return context_; }

private:
    context context_;
};

inline background context::background() const noexcept { return ferrule::background(ferrule_background(call_)); }

/* A host function that a plug-in uses where it is offered; FERRULE_CPP_WANT makes one. [lifetime] the library's. */
class want {
public:
    constexpr want(const uint32_t *slot, const char *name) noexcept : slot_(slot), name_(name) {}
    /* Calls it. FERRULE_UNSUPPORTED where it is not offered. */
    result<std::string> operator()(const context &ctx, std::string_view in) const {
        return ctx.try_call_host(*slot_, in);
    }
    /* Is it offered to this plug-in? Asks the host. */
    bool offered(const context &ctx) const noexcept { return ferrule_offered(ctx.frame(), name_) != 0; }

private:
    const uint32_t *slot_;
    const char *name_;
};

/* ---- Streams --------------------------------------------------------------------------------------------------- */

namespace detail FERRULE_HIDDEN_ {

/* The end of the stream, and, without exceptions, its failure, is the end of the file. */
class input_buffer final : public std::streambuf {
public:
    explicit input_buffer(const context &ctx) noexcept : ctx_(ctx) {}
    int32_t status() const noexcept { return status_; }

protected:
    int_type underflow() override {
        const uint8_t *piece = nullptr;
        std::size_t len = 0;
        if (status_ == FERRULE_OK) status_ = ferrule_read(ctx_.frame(), &piece, &len);
#if FERRULE_EXCEPTIONS_
        if (status_ != FERRULE_OK) throw error(status_, "reading the input stream failed");
#endif
        if (!len) return traits_type::eof();
        /* A streambuf wants pointers that it could write through, but only sputbackc and its kind do, which
         * std::streambuf refuses where the character differs. */
        char *const begin = const_cast<char *>(reinterpret_cast<const char *>(piece));
        setg(begin, begin, begin + len);
        return traits_type::to_int_type(*begin);
    }

private:
    const context &ctx_;
    int32_t status_ = FERRULE_OK;
};

class output_buffer final : public std::streambuf {
public:
    explicit output_buffer(const context &ctx) noexcept : ctx_(ctx) { setp(bytes_, bytes_ + sizeof bytes_); }
    int32_t status() const noexcept { return status_; }

protected:
    int sync() override {
        if (status_ == FERRULE_OK && pptr() != pbase())
            status_ = ferrule_write(ctx_.frame(), pbase(), static_cast<std::size_t>(pptr() - pbase()));
        setp(bytes_, bytes_ + sizeof bytes_);
#if FERRULE_EXCEPTIONS_
        if (status_ != FERRULE_OK) throw error(status_, "writing the output stream failed");
#endif
        return status_ == FERRULE_OK ? 0 : -1;
    }
    int_type overflow(int_type c) override {
        if (sync() != 0) return traits_type::eof();
        if (!traits_type::eq_int_type(c, traits_type::eof())) sputc(traits_type::to_char_type(c));
        return traits_type::not_eof(c);
    }

private:
    const context &ctx_;
    int32_t status_ = FERRULE_OK;
    char bytes_[4096];
};

} // namespace detail

/* The call's input stream as a std::istream: ferrule::istream in(ctx); std::getline(in, line). Throws the error of a read
 * that fails; without exceptions the stream ends there, and status() says why. Do not mix it with context::read. */
class FERRULE_HIDDEN_ istream : public std::istream {
public:
    explicit istream(const context &ctx) : std::istream(nullptr), buffer_(ctx) {
        rdbuf(&buffer_);
#if FERRULE_EXCEPTIONS_
        exceptions(std::ios::badbit);
#endif
    }
    int32_t status() const noexcept { return buffer_.status(); }

private:
    detail::input_buffer buffer_;
};

/* The call's output stream as a std::ostream, which passes on 4,096 bytes at a time. Flush it at the end: what is left
 * in it is dropped with it. Throws the error of a write that fails; without exceptions it is bad then, and status() says
 * why. */
class FERRULE_HIDDEN_ ostream : public std::ostream {
public:
    explicit ostream(const context &ctx) : std::ostream(nullptr), buffer_(ctx) {
        rdbuf(&buffer_);
#if FERRULE_EXCEPTIONS_
        exceptions(std::ios::badbit);
#endif
    }
    int32_t status() const noexcept { return buffer_.status(); }

private:
    detail::output_buffer buffer_;
};

namespace detail FERRULE_HIDDEN_ {

/* ---- Results that are handed over ------------------------------------------------------------------------------ */

/* A std::string cannot give up its memory: the object itself lives until the host has the bytes. Its address is kept in
 * out_cap, which is the plug-in's own word once release is set (R6). */
struct held_base {
    held_base() = default;
    held_base(const held_base &) = delete;
    held_base &operator=(const held_base &) = delete;
    virtual ~held_base() = default;
};

template <class T> struct held final : held_base {
    explicit held(T &&from) : value(std::move(from)) {}
    T value;
};

static_assert(sizeof(std::size_t) >= sizeof(held_base *), "out_cap holds an address");

inline void release_held(ferrule_call *call) noexcept { delete reinterpret_cast<held_base *>(call->out_cap); }

template <class T> using element_of = std::remove_pointer_t<decltype(std::data(std::declval<T &>()))>;

template <class T, class = void> struct is_bytes : std::false_type {};
template <class T>
struct is_bytes<T, std::void_t<decltype(sizeof(element_of<T>)), decltype(std::size(std::declval<T &>()))>>
    : std::bool_constant<sizeof(element_of<T>) == 1 && std::is_trivially_copyable_v<element_of<T>>> {};

template <class T> inline constexpr bool never = false;

template <class T> struct is_result : std::false_type {};
template <class T> struct is_result<result<T>> : std::true_type {};

/* Replies with what an author's function returned: in the host's room when it fits there, moved to the heap when it owns
 * its bytes, copied otherwise. */
template <class Result> int32_t reply(ferrule_call *call, Result &&result) {
    using type = std::remove_cv_t<std::remove_reference_t<Result>>;
    if constexpr (is_result<type>::value) {
        if (!result && result.status() == FERRULE_PASS && !*result.message()) return ferrule_pass(call);
        if (!result) return ferrule_fail(call, result.status(), "%s", result.message());
        if constexpr (std::is_void_v<typename type::value_type>)
            return FERRULE_OK;
        else
            return reply(call, std::move(*result));
    } else if constexpr (is_bytes<type>::value && !std::is_array_v<type>) {
        const std::size_t len = std::size(result);
        if constexpr (!std::is_trivially_destructible_v<type>) {
            if (len > call->out_cap) {
                auto *const owner = new held<type>(type(std::forward<Result>(result)));
                const int32_t status =
                    ferrule_reply_owned(call, const_cast<void *>(static_cast<const void *>(std::data(owner->value))),
                                        len, release_held);
                call->out_cap = reinterpret_cast<std::size_t>(static_cast<held_base *>(owner));
                return status;
            }
        }
        return ferrule_reply(call, std::data(result), len);
    } else if constexpr (std::is_convertible_v<Result, std::string_view>) {
        return reply(call, std::string_view(result));
    } else {
        static_assert(never<Result>, "a plug-in's function returns void, text such as std::string or std::string_view, "
                                     "bytes such as std::vector<unsigned char>, or a ferrule::result of one of these");
    }
}

/* ---- The entry before each function ---------------------------------------------------------------------------- */

#if FERRULE_EXCEPTIONS_
/* To be called in a catch block. Hands `say` the status and the message of the exception, and returns what it returns. */
template <class Say> int32_t caught(Say say) noexcept {
    try {
        throw;
    } catch (const error &e) {
        return say(e.status(), e.what());
    } catch (const std::invalid_argument &e) {
        return say(FERRULE_INVALID, e.what());
    } catch (const std::bad_alloc &) {
        return say(FERRULE_NO_MEMORY, "out of memory");
    } catch (const std::exception &e) {
        return say(FERRULE_FAILED, e.what());
    } catch (...) {
        return say(FERRULE_PANIC, "an exception that is no std::exception");
    }
}

inline int32_t fail(ferrule_call *call) noexcept {
    return caught([call](int32_t status, const char *text) { return ferrule_fail(call, status, "%s", text); });
}
#endif

template <class Function> struct class_of;
template <class Class, class Member> struct class_of<Member Class::*> { using type = Class; };

template <class Function, class... State>
decltype(auto) run(context &ctx, std::string_view in, Function &function, State &...state) {
    if constexpr (std::is_invocable_v<Function &, State &..., context &, std::string_view>)
        return std::invoke(function, state..., ctx, in);
    else if constexpr (std::is_invocable_v<Function &, State &..., std::string_view>)
        return std::invoke(function, state..., in);
    else if constexpr (std::is_invocable_v<Function &, State &..., context &>)
        return std::invoke(function, state..., ctx);
    else if constexpr (std::is_invocable_v<Function &, State &...>)
        return std::invoke(function, state...);
    else
        static_assert(never<Function>, "a plug-in's function takes (std::string_view), (ferrule::context &), "
                                       "(ferrule::context &, std::string_view) or nothing");
}

template <class... State, class Function>
int32_t run_and_reply(ferrule_call *call, Function &function, State &...state) {
    context ctx(call);
    const std::string_view in(reinterpret_cast<const char *>(call->in), call->in_len);
    if constexpr (std::is_void_v<decltype(run(ctx, in, function, state...))>) {
        run(ctx, in, function, state...);
        return FERRULE_OK;
    } else {
        return reply(call, run(ctx, in, function, state...));
    }
}

template <class Function> int32_t run_any(ferrule_call *call, Function &function) {
    if constexpr (std::is_member_function_pointer_v<Function>) {
        auto *const state = state_of<typename class_of<Function>::type>(call);
        return state ? run_and_reply(call, function, *state) : ferrule_fail(call, FERRULE_FAILED, "%s", no_state);
    } else {
        return run_and_reply(call, function);
    }
}

template <class Function> int32_t enter(ferrule_call *call, Function function) noexcept {
#if FERRULE_EXCEPTIONS_
    try {
        return run_any(call, function);
    } catch (...) {
        return fail(call);
    }
#else
    return run_any(call, function);
#endif
}

template <class T> int32_t start(ferrule_call *call) noexcept {
    static_assert(sizeof(state_is_named<T>) != 0, "defines FERRULE_CPP_STATE_names for T");
    FERRULE_CPP_STATE_names(state_type<T>());
    return enter(call, [call](context &ctx, std::string_view config) {
        if constexpr (std::is_constructible_v<T, context &, std::string_view>)
            call->state = new T(ctx, config);
        else if constexpr (std::is_constructible_v<T, std::string_view>)
            call->state = new T(config);
        else if constexpr (std::is_default_constructible_v<T>)
            call->state = new T();
        else
            static_assert(never<T>, "a state's constructor takes (ferrule::context &, std::string_view), "
                                    "(std::string_view) or nothing");
    });
}

template <class T> int32_t stop(ferrule_call *call) noexcept {
    return enter(call, [call] { delete static_cast<T *>(call->state); });
}

} // namespace detail
} // namespace ferrule

/* FERRULE_CPP_FN(name, function); exports what the second argument says as the plug-in's function `name`. It may be a
 * function, a lambda, or a member function of the state (&counter::add); it takes (std::string_view in),
 * (ferrule::context &), both in the order (ferrule::context &, std::string_view), or nothing, and returns void, text or
 * bytes. The input is valid until it returns. */
#define FERRULE_CPP_FN(name, ...)                                                                                      \
    FERRULE_FN(name) { return ::ferrule::detail::enter(call, __VA_ARGS__); }                                           \
    static_assert(true, "takes the semicolon")

/* FERRULE_CPP_HOOK(point, function); likewise, attached to the host's extension point. */
#define FERRULE_CPP_HOOK(point, ...)                                                                                   \
    FERRULE_HOOK(point) { return ::ferrule::detail::enter(call, __VA_ARGS__); }                                        \
    static_assert(true, "takes the semicolon")

/* FERRULE_CPP_STATE(type); once in each library, in any of its source files: every instance gets an object of this
 * type. Its constructor takes (ferrule::context &, std::string_view config), (std::string_view config) or nothing, and makes
 * the start fail by an exception; its destructor runs when the instance stops. */
#define FERRULE_CPP_STATE(...)                                                                                         \
    FERRULE_START { return ::ferrule::detail::start<__VA_ARGS__>(call); }                                              \
    FERRULE_STOP { return ::ferrule::detail::stop<__VA_ARGS__>(call); }                                                \
    static_assert(true, "takes the semicolon")

/* FERRULE_CPP_CONFIGURE(function), FERRULE_CPP_SAVE(function) and FERRULE_CPP_RESUME(function); once in each library,
 * likewise, usually with member functions of the state: one takes new settings, and leaves the state as it was when it
 * fails (R28); one returns the state as bytes, and one takes them in a new instance (R29), for which the manifest has
 * FERRULE_STATE_FORMAT. */
#define FERRULE_CPP_CONFIGURE(...)                                                                                     \
    FERRULE_CONFIGURE { return ::ferrule::detail::enter(call, __VA_ARGS__); }                                          \
    static_assert(true, "takes the semicolon")
#define FERRULE_CPP_SAVE(...)                                                                                          \
    FERRULE_SAVE { return ::ferrule::detail::enter(call, __VA_ARGS__); }                                               \
    static_assert(true, "takes the semicolon")
#define FERRULE_CPP_RESUME(...)                                                                                        \
    FERRULE_RESUME { return ::ferrule::detail::enter(call, __VA_ARGS__); }                                             \
    static_assert(true, "takes the semicolon")

/* FERRULE_CPP_IMPORT(name); a host function this library needs, as a function of the enclosing namespace:
 *
 *     namespace host { FERRULE_CPP_IMPORT(loyalty_points); }
 *     std::string points = host::loyalty_points(ctx, "ada");
 *
 * Its failure is thrown as a ferrule::error; without exceptions it returns a ferrule::result<std::string>. In a namespace
 * of its own it clashes with no function of the C library. */
#if FERRULE_EXCEPTIONS_
#define FERRULE_CPP_IMPORT(name)                                                                                       \
    FERRULE_IMPORT(name);                                                                                              \
    [[maybe_unused]] static inline std::string name(const ::ferrule::context &ctx, std::string_view in) {              \
        return ctx.call_host(FERRULE_ORDINAL(name), in);                                                               \
    }                                                                                                                  \
    static_assert(true, "takes the semicolon")
#else
#define FERRULE_CPP_IMPORT(name)                                                                                       \
    FERRULE_IMPORT(name);                                                                                              \
    [[maybe_unused]] static inline ::ferrule::result<std::string> name(const ::ferrule::context &ctx,                  \
                                                                       std::string_view in) {                          \
        return ctx.try_call_host(FERRULE_ORDINAL(name), in);                                                           \
    }                                                                                                                  \
    static_assert(true, "takes the semicolon")
#endif

/* FERRULE_CPP_WANT(name); a host function this library uses where it is offered, as a ferrule::want:
 *
 *     namespace host { FERRULE_CPP_WANT(cache); }
 *     if (auto found = host::cache(ctx, "ada")) return *found; */
#define FERRULE_CPP_WANT(name)                                                                                         \
    FERRULE_WANT(name);                                                                                                \
    [[maybe_unused]] static constexpr ::ferrule::want name(&FERRULE_WANT_ORDINAL(name), #name)

#endif /* FERRULE_SDK_HPP */
