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
 */
#ifndef FERRULE_SDK_HPP
#define FERRULE_SDK_HPP

#if !(__cplusplus >= 201703L || (defined(_MSVC_LANG) && _MSVC_LANG >= 201703L))
#error "ferrule/sdk.hpp needs C++17: build with -std=c++17 or later, or use ferrule/sdk.h"
#endif
#if !(defined(__cpp_exceptions) || defined(_CPPUNWIND))
#error "ferrule/sdk.hpp makes statuses of exceptions: build without -fno-exceptions, or use ferrule/sdk.h"
#endif

#include <ferrule/sdk.h>

#include <cstddef>
#include <exception>
#include <functional>
#include <iterator>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

/* What the header defines for itself stays inside the plug-in: exported variables of templates and of inline functions
 * would be one for all plug-ins of a process, and keep each from being unloaded. gcc does not extend the
 * namespace's visibility to variables, which therefore have it once more. */
#if defined(__GNUC__) && !defined(_WIN32)
#define FERRULE_HIDDEN_ __attribute__((visibility("hidden")))
#else
#define FERRULE_HIDDEN_
#endif

namespace ferrule {

/* A failure with a status of the author's choice: one of FERRULE_…, or 1000 and more (R10). */
class error : public std::runtime_error {
public:
    error(int32_t status, const std::string &message) : std::runtime_error(message), status_(status) {}
    int32_t status() const noexcept { return status_; }

private:
    int32_t status_;
};

namespace detail FERRULE_HIDDEN_ {

/* What makes an address for each type, without RTTI. */
template <class T> FERRULE_HIDDEN_ inline char type_mark = 0;

/* What call->state points to. The mark tells when a function is a member of another type than the state's. */
struct instance_base {
    explicit instance_base(const void *of) : type(of) {}
    instance_base(const instance_base &) = delete;
    instance_base &operator=(const instance_base &) = delete;
    virtual ~instance_base() = default;
    const void *type;
};

template <class T> struct instance final : instance_base {
    template <class... Args>
    explicit instance(Args &&...args) : instance_base(&type_mark<T>), value(std::forward<Args>(args)...) {}
    T value;
};

} // namespace detail

/* One call, for as long as it runs: keep no reference to it. [thread] any, while the call runs (R14). */
class context {
public:
    explicit context(ferrule_call *call) noexcept : call_(call) {}
    context(const context &) = delete;
    context &operator=(const context &) = delete;

    /* Has the host lost interest in the result (R17)? Costs some loads: ask often. */
    bool cancelled() const noexcept { return ferrule_cancelled(call_) != 0; }

    /* Ends the call with FERRULE_CANCELLED, by an exception, when the host has lost interest. */
    void throw_if_cancelled() const {
        if (cancelled()) throw error(FERRULE_CANCELLED, "cancelled");
    }

    /* Hands a line to the host's logger; level is one of FERRULE_LOG_…. */
    void log(uint32_t level, std::string_view text) const noexcept {
        while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
        ferrule_log_text_(call_, level, text.empty() ? "" : text.data(), text.size());
    }
    void log_error(std::string_view text) const noexcept { log(FERRULE_LOG_ERROR, text); }
    void log_warn(std::string_view text) const noexcept { log(FERRULE_LOG_WARN, text); }
    void log_info(std::string_view text) const noexcept { log(FERRULE_LOG_INFO, text); }
    void log_debug(std::string_view text) const noexcept { log(FERRULE_LOG_DEBUG, text); }
    void log_trace(std::string_view text) const noexcept { log(FERRULE_LOG_TRACE, text); }

    /* Calls a host function by its ordinal and returns its result; a status of its other than FERRULE_OK is thrown as
     * an error, which the host gets back unless the author catches it. FERRULE_CPP_IMPORT gives it a name. */
    std::string call_host(uint32_t ordinal, std::string_view in) const {
        struct guard {
            ferrule_buffer buffer = FERRULE_BUFFER_INIT;
            ~guard() { ferrule_buffer_free(&buffer); }
        } result;
        const int32_t status = ferrule_import(call_, ordinal, in.data(), in.size(), &result.buffer);
        std::string bytes(ferrule_buffer_text(&result.buffer), result.buffer.len);
        if (status == FERRULE_OK) return bytes;
        throw error(status, bytes.empty() ? "a host function failed without a message" : bytes);
    }

    /* The instance's state, an object of the type that FERRULE_CPP_STATE names. */
    template <class T> T &state() const {
        auto *const base = static_cast<detail::instance_base *>(call_->state);
        if (!base || base->type != &detail::type_mark<T>)
            throw error(
                FERRULE_FAILED,
                "the instance has no state of this function's type, expected the one that FERRULE_CPP_STATE names");
        return static_cast<detail::instance<T> *>(base)->value;
    }

    /* The frame itself, for the helpers of ferrule/sdk.h. */
    ferrule_call *frame() const noexcept { return call_; }

private:
    ferrule_call *call_;
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

/* Replies with what an author's function returned: in the host's room when it fits there, moved to the heap when it owns
 * its bytes, copied otherwise. */
template <class Result> int32_t reply(ferrule_call *call, Result &&result) {
    using type = std::remove_cv_t<std::remove_reference_t<Result>>;
    if constexpr (is_bytes<type>::value && !std::is_array_v<type>) {
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
                                     "or bytes such as std::vector<unsigned char>");
    }
}

/* ---- The entry before each function ---------------------------------------------------------------------------- */

/* To be called in a catch block. Makes a status and a message of the exception. */
inline int32_t fail(ferrule_call *call) noexcept {
    try {
        throw;
    } catch (const error &e) {
        return ferrule_fail(call, e.status(), "%s", e.what());
    } catch (const std::invalid_argument &e) {
        return ferrule_fail(call, FERRULE_INVALID, "%s", e.what());
    } catch (const std::bad_alloc &) {
        return ferrule_fail(call, FERRULE_NO_MEMORY, "out of memory");
    } catch (const std::exception &e) {
        return ferrule_fail(call, FERRULE_FAILED, "%s", e.what());
    } catch (...) {
        return ferrule_fail(call, FERRULE_PANIC, "an exception that is no std::exception");
    }
}

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

template <class Function> decltype(auto) run_any(context &ctx, std::string_view in, Function &function) {
    if constexpr (std::is_member_function_pointer_v<Function>)
        return run(ctx, in, function, ctx.state<typename class_of<Function>::type>());
    else
        return run(ctx, in, function);
}

template <class Function> int32_t enter(ferrule_call *call, Function function) noexcept {
    try {
        context ctx(call);
        const std::string_view in(reinterpret_cast<const char *>(call->in), call->in_len);
        if constexpr (std::is_void_v<decltype(run_any(ctx, in, function))>) {
            run_any(ctx, in, function);
            return FERRULE_OK;
        } else {
            return reply(call, run_any(ctx, in, function));
        }
    } catch (...) {
        return fail(call);
    }
}

template <class T> int32_t start(ferrule_call *call) noexcept {
    return enter(call, [call](context &ctx, std::string_view config) {
        instance_base *made = nullptr;
        if constexpr (std::is_constructible_v<T, context &, std::string_view>)
            made = new instance<T>(ctx, config);
        else if constexpr (std::is_constructible_v<T, std::string_view>)
            made = new instance<T>(config);
        else if constexpr (std::is_default_constructible_v<T>)
            made = new instance<T>();
        else
            static_assert(never<T>, "a state's constructor takes (ferrule::context &, std::string_view), "
                                    "(std::string_view) or nothing");
        call->state = made;
    });
}

inline int32_t stop(ferrule_call *call) noexcept {
    return enter(call, [call] { delete static_cast<instance_base *>(call->state); });
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

/* FERRULE_CPP_STATE(type); once in each library: every instance gets an object of this type. Its constructor takes
 * (ferrule::context &, std::string_view config), (std::string_view config) or nothing, and makes the start fail by an
 * exception; its destructor runs when the instance stops. */
#define FERRULE_CPP_STATE(...)                                                                                         \
    FERRULE_START { return ::ferrule::detail::start<__VA_ARGS__>(call); }                                              \
    FERRULE_STOP { return ::ferrule::detail::stop(call); }                                                             \
    static_assert(true, "takes the semicolon")

/* FERRULE_CPP_IMPORT(name); a host function this library needs, as a function of the enclosing namespace:
 *
 *     namespace host { FERRULE_CPP_IMPORT(loyalty_points); }
 *     std::string points = host::loyalty_points(ctx, "ada");
 *
 * See ferrule::context::call_host. In a namespace of its own it clashes with no function of the C library. */
#define FERRULE_CPP_IMPORT(name)                                                                                       \
    FERRULE_IMPORT(name);                                                                                              \
    [[maybe_unused]] static inline std::string name(const ::ferrule::context &ctx, std::string_view in) {              \
        return ctx.call_host(FERRULE_ORDINAL(name), in);                                                               \
    }                                                                                                                  \
    static_assert(true, "takes the semicolon")

#endif /* FERRULE_SDK_HPP */
