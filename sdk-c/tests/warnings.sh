# Compiles the headers, alone and in a plug-in, in every language version with every warning on: gcc, clang, MinGW,
# Zig, for 64 bits and for 32.
. tests/common.sh

echo '#include <ferrule.h>' >"$BUILD/contract.c"
echo '#include <ferrule/sdk.h>' >"$BUILD/sdk.c"
echo '#include <ferrule/sdk.hpp>' >"$BUILD/sdkpp.cpp"
for name in contract sdk; do cp "$BUILD/$name.c" "$BUILD/$name.cpp"; done
# A plug-in over the contract alone that uses each macro.
cp tests/every.c "$BUILD/plugin.c"
cp "$BUILD/plugin.c" "$BUILD/plugin.cpp"
# A schema as bytes, some of them over 127, and from a file where the compiler can.
cat >"$BUILD/schema.c" <<'END'
#include <ferrule.h>
FERRULE_CONFIG_SCHEMA = {0x22, 0xC3, 0xA4, 0x22, 0};
END
cp "$BUILD/schema.c" "$BUILD/schema.cpp"
printf '"the schema in a file"' >"$BUILD/schema.json"
cat >"$BUILD/embed.c" <<'END'
#include <ferrule.h>
FERRULE_CONFIG_SCHEMA = {
#embed "schema.json" suffix(, 0)
};
END
readme c >"$BUILD/readme.c"
readme cpp >"$BUILD/readme.cpp"
# The helpers, in a plug-in that is valid as C++11, too.
sed -n '1,/^}/p' "$BUILD/readme.c" >"$BUILD/vowels.c"
cp "$BUILD/vowels.c" "$BUILD/vowels.cpp"

cp tests/noexceptions.cpp "$BUILD/noexceptions.cpp"

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
        compile "$1" $std -Wpadded contract.c plugin.c schema.c
        compile "$1" $std "" sdk.c vowels.c readme.c
    done
    echo "ok: $1, c99 to $newest_c"
    [ -n "$2" ] || return 0
    newest_cpp=$(newest "$2" c++ c++23 c++2b)
    for std in c++11 c++14 c++17 c++20 $newest_cpp; do
        compile "$2" $std "-Wpadded -Wold-style-cast" contract.cpp plugin.cpp schema.cpp
        compile "$2" $std -Wold-style-cast sdk.cpp vowels.cpp
    done
    for std in c++17 c++20 $newest_cpp gnu++17; do compile "$2" $std -Wold-style-cast sdkpp.cpp readme.cpp; done
    compile "$2" c++17 "-fno-rtti -fno-exceptions" sdkpp.cpp noexceptions.cpp
    echo "ok: $2, c++11 to $newest_cpp"
}

if need gcc gcc && need g++ g++; then family gcc g++; fi
if need clang clang; then family clang clang++; fi
mingw=x86_64-w64-mingw32
if need $mingw-gcc gcc-mingw-w64-x86-64 && need $mingw-g++ g++-mingw-w64-x86-64; then family $mingw-gcc $mingw-g++; fi
if need i686-linux-gnu-gcc gcc-i686-linux-gnu; then family i686-linux-gnu-gcc ""; fi
if have_zig; then family "$zig cc" "$zig c++"; fi
# C23's #embed, which gcc 15 and clang 19 know first; left out where neither is there, also in CI.
embedding=
for c in gcc clang gcc-15 clang-19; do
    command -v $c >/dev/null 2>&1 || continue
    printf '#ifndef __has_embed\n#error none\n#endif\n' | $c -x c -E - >/dev/null 2>&1 || continue
    compile $c c23 "" embed.c
    tr '\0' '\n' <"$BUILD/out.o" | grep -a -q '"the schema in a file"$' || {
        echo "$c: the schema is not in the file" >&2
        exit 1
    }
    embedding=$c
    echo "ok: $c, #embed"
done
if [ -z "$embedding" ]; then echo "left out: no compiler knows #embed; install one with: apt-get install clang-19" >&2; fi
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
