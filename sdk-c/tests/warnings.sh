# Compiles the headers, alone and in a plug-in, in every language version with every warning on: gcc, clang, MinGW,
# Zig, for 64 bits and for 32.
. tests/common.sh

echo '#include <ferrule.h>' >"$BUILD/contract.c"
echo '#include <ferrule/sdk.h>' >"$BUILD/sdk.c"
echo '#include <ferrule/sdk.hpp>' >"$BUILD/sdkpp.cpp"
for name in contract sdk; do cp "$BUILD/$name.c" "$BUILD/$name.cpp"; done
# A plug-in over the contract alone that uses each macro; valid as C99 and as C++11.
cat >"$BUILD/plugin.c" <<'END'
#include <ferrule.h>
FERRULE_PLUGIN(FERRULE_NAME("every") FERRULE_VERSION("1") FERRULE_DESCRIPTION("d") FERRULE_THREADS("serial"));
FERRULE_IMPORT(points);
FERRULE_IMPORT_META(points, FERRULE_DOC("d"));
FERRULE_FN(one) { return FERRULE_HAS(call, cancel) && ferrule_cancelled(call) ? FERRULE_CANCELLED : FERRULE_OK; }
FERRULE_FN_META(one, FERRULE_DOC("d") FERRULE_IN("text/plain") FERRULE_OUT("text/plain") FERRULE_SCHEMA("{}"));
FERRULE_HOOK(two) { return FERRULE_ORDINAL(points) == FERRULE_UNBOUND ? FERRULE_FAILED : FERRULE_STATUS_OWN; }
FERRULE_HOOK_META(two, FERRULE_KEY("x-own", "y"));
FERRULE_START { return FERRULE_OK; }
FERRULE_STOP { return FERRULE_OK; }
END
cp "$BUILD/plugin.c" "$BUILD/plugin.cpp"
readme c >"$BUILD/readme.c"
readme cpp >"$BUILD/readme.cpp"
# The helpers, in a plug-in that is valid as C++11, too.
sed -n '1,/^}/p' "$BUILD/readme.c" >"$BUILD/vowels.c"
cp "$BUILD/vowels.c" "$BUILD/vowels.cpp"

# compile COMPILER STANDARD FLAGS FILE…
compile() {
    compiler=$1
    std=$2
    flags=$3
    shift 3
    for file in "$@"; do
        run $compiler -std=$std -O2 $warnings $flags $INCLUDES -c "$BUILD/$file" -o "$BUILD/out.o"
    done
}

# family C CPP: compiles everything with a C and a C++ compiler, each a command of one word or more.
family() {
    newest_c=$(newest "$1" c c23 c2x)
    for std in c99 c11 c17 $newest_c gnu17; do
        compile "$1" $std -Wpadded contract.c plugin.c
        compile "$1" $std "" sdk.c vowels.c readme.c
    done
    echo "ok: $1, c99 to $newest_c"
    [ -n "$2" ] || return 0
    newest_cpp=$(newest "$2" c++ c++23 c++2b)
    for std in c++11 c++14 c++17 c++20 $newest_cpp; do
        compile "$2" $std "-Wpadded -Wold-style-cast" contract.cpp plugin.cpp
        compile "$2" $std -Wold-style-cast sdk.cpp vowels.cpp
    done
    for std in c++17 c++20 $newest_cpp gnu++17; do compile "$2" $std -Wold-style-cast sdkpp.cpp readme.cpp; done
    compile "$2" c++17 -fno-rtti sdkpp.cpp
    echo "ok: $2, c++11 to $newest_cpp"
}

if need gcc gcc && need g++ g++; then family gcc g++; fi
if need clang clang; then family clang clang++; fi
mingw=x86_64-w64-mingw32
if need $mingw-gcc gcc-mingw-w64-x86-64 && need $mingw-g++ g++-mingw-w64-x86-64; then family $mingw-gcc $mingw-g++; fi
if need i686-linux-gnu-gcc gcc-i686-linux-gnu; then family i686-linux-gnu-gcc ""; fi
if have_zig; then family "$zig cc" "$zig c++"; fi
# The contract needs no C library, nor its headers.
for c in gcc clang; do
    need $c $c || continue
    for bits in -m32 -m64; do
        for std in c99 $(newest $c c c23 c2x); do
            compile $c $std "$bits -ffreestanding -Wpadded" contract.c plugin.c
        done
    done
    echo "ok: $c -ffreestanding, 32 and 64 bits"
done

# Left out of -Weverything, because no header for old and new compilers can be without them:
#   unused-macros             a header's macros are for its readers
#   used-but-marked-unused    means functions and parameters that an author may leave unused
#   c++98-compat(-pedantic)   C++11 is the oldest version that counts
#   unsafe-buffer-usage       wants std::span
everything="-Weverything -Wno-unused-macros -Wno-used-but-marked-unused -Wno-c++98-compat -Wno-c++98-compat-pedantic \
    -Wno-unknown-warning-option -Wno-unsafe-buffer-usage"
if need clang clang; then
    for std in c99 c11 c17 $(newest clang c c23 c2x); do
        compile clang $std "$everything" contract.c plugin.c
        compile clang $std "$everything -Wno-padded" sdk.c vowels.c
    done
    for std in c++11 c++14 c++17 c++20 $(newest clang++ c++ c++23 c++2b); do
        compile clang++ $std "$everything" contract.cpp plugin.cpp
    done
    echo "ok: clang -Weverything"
fi

# refused WHAT MESSAGE COMPILER FLAGS <SOURCE: does not compile, and says why.
refused() {
    if $3 $4 $INCLUDES -fsyntax-only - >"$BUILD/refused" 2>&1; then
        echo "$3 takes $1" >&2
        exit 1
    fi
    if ! grep -q -e "$2" "$BUILD/refused"; then
        cat "$BUILD/refused" >&2
        echo "$3 refuses $1 without saying \"$2\"" >&2
        exit 1
    fi
}

for family in gcc:g++ clang:clang++; do
    c=${family%:*}
    cpp=${family#*:}
    need $c $c || continue
    need $cpp $cpp || continue
    c="$c -x c"
    cpp="$cpp -x c++"
    refused "a wrong argument for a format" 'format.*int' "$c" "-std=c99 -Wall -Werror" <<'END'
#include <ferrule/sdk.h>
FERRULE_FN(bad) { return ferrule_replyf(call, "%d", "text"); }
END
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
    refused "no exceptions" 'build without -fno-exceptions' "$cpp" "-std=c++17 -fno-exceptions" <<'END'
#include <ferrule/sdk.hpp>
END
    echo "ok: ${family%:*} refuses what is wrong"
done
