# What authors do wrong, and what compilers and linkers say of it. With the first family of compilers that is there, or
# with each where EVERY is set.
. tests/common.sh

# refused WHAT MESSAGE COMPILER FLAGS <SOURCE: does not compile, and says why.
refused() {
    if $3 $4 $INCLUDES -fsyntax-only - >"$BUILD/refused" 2>&1; then
        echo "$3 takes $1" >&2
        exit 1
    fi
    says "$2" "$3" "$1"
}

# unlinked WHAT MESSAGE COMPILER FLAGS <SOURCE: compiles, does not link as a library, and says why.
unlinked() {
    run $3 $4 -fPIC $INCLUDES -c -o "$BUILD/mistake.o" -
    if ${3%% *} $4 -shared -o "$BUILD/mistake.so" "$BUILD/mistake.o" >"$BUILD/refused" 2>&1; then
        echo "$3 links $1" >&2
        exit 1
    fi
    says "$2" "$3" "$1"
}

says() { # MESSAGE WHO WHAT
    grep -q -e "$1" "$BUILD/refused" && return 0
    cat "$BUILD/refused" >&2
    echo "$2 refuses $3 without saying \"$1\"" >&2
    exit 1
}

family() {
    c="$1 -x c"
    cpp="$2 -x c++"
    refused "a wrong argument for a format" 'format.*int' "$c" "-std=c99 -Wall -Werror" <<'END'
#include <ferrule/sdk.h>
FERRULE_FN(bad) { return ferrule_replyf(call, "%d", "text"); }
END
    unlinked "a name that nothing defines" 'nobody_defines' "$c" "-std=c99 -Wl,--no-undefined" <<'END'
#include <ferrule/sdk.h>
FERRULE_PLUGIN(FERRULE_NAME("bad") FERRULE_VERSION("1.0.0"));
int nobody_defines(void);
FERRULE_FN(bad) { return ferrule_replyf(call, "%d", nobody_defines()); }
END
    [ -z "$2" ] || in_cpp
    echo "ok: $1 refuses what is wrong"
}

in_cpp() {
    refused "a number as a result" 'returns void, text such as std::string' "$cpp" -std=c++17 <<'END'
#include <ferrule/sdk.hpp>
FERRULE_CPP_FN(bad, [] { return 42; });
END
    refused "a number as an input" 'takes (std::string_view), (ferrule::context &)' "$cpp" -std=c++17 <<'END'
#include <ferrule/sdk.hpp>
FERRULE_CPP_FN(bad, [](int) {});
END
    refused "a state that is made of a number" "state's constructor takes" "$cpp" -std=c++17 <<'END'
#include <ferrule/sdk.hpp>
struct bad { explicit bad(int) {} };
FERRULE_CPP_STATE(bad);
END
    refused "C++14" 'needs C++17' "$cpp" -std=c++14 <<'END'
#include <ferrule/sdk.hpp>
END
    refused "a failure that nobody looks at" 'nodiscard' "$cpp" "-std=c++17 -Werror" <<'END'
#include <ferrule/sdk.hpp>
FERRULE_CPP_FN(bad, [](ferrule::context &ctx, std::string_view in) { ctx.try_write(in); });
END
    refused "an exception where there are none" 'read' "$cpp" "-std=c++17 -fno-exceptions" <<'END'
#include <ferrule/sdk.hpp>
FERRULE_CPP_FN(bad, [](ferrule::context &ctx) { return ctx.read(); });
END
    for level in -O0 -O2; do # without --no-undefined
        unlinked "a member function without a state" 'FERRULE_CPP_STATE_names(.*state_type<mine>)' "$cpp" \
            "-std=c++17 $level" <<'END'
#include <ferrule/sdk.hpp>
FERRULE_PLUGIN(FERRULE_NAME("bad") FERRULE_VERSION("1.0.0"));
class mine { public: std::string get() const { return "x"; } };
FERRULE_CPP_FN(get, &mine::get);
END
    done
    unlinked "a state by the context without a state" 'FERRULE_CPP_STATE_names(.*state_type<mine>)' "$cpp" \
        -std=c++17 <<'END'
#include <ferrule/sdk.hpp>
FERRULE_PLUGIN(FERRULE_NAME("bad") FERRULE_VERSION("1.0.0"));
struct mine { std::string get() const { return "x"; } };
FERRULE_CPP_FN(get, [](ferrule::context &ctx) { return ctx.state<const mine>().get(); });
END
    unlinked "a member function of the state's base" 'FERRULE_CPP_STATE_names(.*state_type<base>)' "$cpp" \
        -std=c++17 <<'END'
#include <ferrule/sdk.hpp>
FERRULE_PLUGIN(FERRULE_NAME("bad") FERRULE_VERSION("1.0.0"));
struct base { std::string get() const { return "x"; } };
struct mine : base {};
FERRULE_CPP_STATE(mine);
FERRULE_CPP_FN(get, &mine::get);
END
    # A state that is named in another source file, or in another namespace, or behind its uses, is one all the same.
    printf '%s\n' '#include <ferrule/sdk.hpp>' 'struct mine { std::string get() const { return "x"; } };' \
        >"$BUILD/mine.hpp"
    printf '%s\n' '#include "mine.hpp"' 'FERRULE_CPP_FN(get, &mine::get);' >"$BUILD/uses.cpp"
    printf '%s\n' '#include "mine.hpp"' 'FERRULE_PLUGIN(FERRULE_NAME("good") FERRULE_VERSION("1.0.0"));' \
        'namespace elsewhere { FERRULE_CPP_STATE(mine); }' >"$BUILD/names.cpp"
    { cat "$BUILD/uses.cpp"; tail -n +2 "$BUILD/names.cpp"; } >"$BUILD/both.cpp"
    for sources in "$BUILD/uses.cpp $BUILD/names.cpp" "$BUILD/both.cpp"; do
        run ${cpp%% *} -std=c++17 -O2 $warnings $INCLUDES -shared -fPIC -o "$BUILD/good.so" $sources
    done
}
each_family family

# Views of what is gone when the function returns: clang knows, gcc 12 does not.
if need clang++ clang; then
    dangling="-std=c++17 -Wall -Werror"
    refused "a view of a local text" 'address of stack memory' "clang++ -x c++" "$dangling" <<'END'
#include <ferrule/sdk.hpp>
static std::string_view bad(std::string_view in) { std::string s(in); s += "!"; return s; }
FERRULE_CPP_FN(bad, bad);
END
    refused "a result with a view of a local text" 'address of stack memory' "clang++ -x c++" "$dangling" <<'END'
#include <ferrule/sdk.hpp>
FERRULE_CPP_FN(bad, [](std::string_view in) -> ferrule::result<std::string_view> { std::string s(in); return s; });
END
    refused "a view of a host function's result" 'end of the full-expression' "clang++ -x c++" "$dangling" <<'END'
#include <ferrule/sdk.hpp>
FERRULE_CPP_FN(bad, [](ferrule::context &ctx) { std::string_view in = *ctx.info("path"); return std::string(in); });
END
    refused "the message of a result that is gone" 'end of the full-expression' "clang++ -x c++" "$dangling" <<'END'
#include <ferrule/sdk.hpp>
FERRULE_CPP_FN(bad, [](ferrule::context &ctx) { const char *m = ctx.info("path").message(); return std::string(m); });
END
    clang++ -x c++ $dangling $INCLUDES -fsyntax-only - <<'END' || { echo "clang warns of what is right" >&2; exit 1; }
#include <ferrule/sdk.hpp>
static const std::string kept = "kept";
FERRULE_CPP_FN(a, [](std::string_view in) -> ferrule::result<std::string_view> { return in.substr(0, in.find(' ')); });
FERRULE_CPP_FN(b, []() -> ferrule::result<std::string_view> { return kept; });
FERRULE_CPP_FN(c, [](ferrule::context &ctx) -> std::string {
    if (auto path = ctx.info("path")) return *path;
    return "";
});
FERRULE_CPP_FN(d, [](ferrule::context &ctx) { auto path = ctx.info("path"); return std::string(path.message()); });
FERRULE_CPP_FN(e, [](std::string_view in) -> ferrule::result<std::string> { std::string s(in); return s; });
FERRULE_CPP_FN(f, [](ferrule::context &ctx) -> ferrule::result<std::string> { return *ctx.info("path"); });
END
    echo "ok: clang warns of views of what is gone"
fi
