# The layout of the contract as each compiler sees it, in C and in C++, for 64 bits and for 32: that of
# abi/layout.golden.
. tests/common.sh

# asserts GOLDEN: a source, valid as C11 and as C++11, that compiles where the layout is what the golden says.
asserts() {
    awk '
        BEGIN {
            print "#include <ferrule.h>"
            print "#ifdef __cplusplus\n#define ASSERT static_assert\n#else\n#define ASSERT _Static_assert\n#endif"
        }
        function is(text, what, wide, narrow) {
            printf "ASSERT((%s) == (sizeof(void *) == 8 ? %sull : %sull), \"%s\");\n", what, wide, narrow, text
        }
        $1 == "const" { is($2, $2, $3, $3) }
        $1 == "struct" { is("the size of " $2, "sizeof(struct " $2 ")", $3, $4) }
        $1 == "field" {
            is("the offset of " $2 "." $3, "offsetof(struct " $2 ", " $3 ")", $4, $6)
            is("the size of " $2 "." $3, "sizeof(((struct " $2 " *)0)->" $3 ")", $5, $7)
        }' "$1"
}
asserts ../abi/layout.golden >"$BUILD/layout.c"
if [ "$(grep -c '^ASSERT' "$BUILD/layout.c")" -lt 86 ]; then
    echo "abi/layout.golden: found fewer facts than 86 in it, expected those of four structs and all numbers" >&2
    exit 1
fi
cp "$BUILD/layout.c" "$BUILD/layout.cpp"
# One offset is another, and only with pointers of that size.
for bits in 64 32; do
    wrong='17 8 8 4'
    if [ $bits = 32 ]; then wrong='16 8 9 4'; fi
    sed "s/^\(field ferrule_call in\) .*/\1 $wrong/" ../abi/layout.golden >"$BUILD/wrong.golden"
    asserts "$BUILD/wrong.golden" >"$BUILD/wrong$bits.c"
    cp "$BUILD/wrong$bits.c" "$BUILD/wrong$bits.cpp"
done

# layout BITS STANDARD COMPILER: holds the compiler to the layout, and sees that it notices a wrong one.
layout() {
    ext=c
    case $2 in c++*) ext=cpp ;; esac
    run $3 -std=$2 -Wall -Wextra -Werror $INCLUDES -c -o "$BUILD/layout.o" "$BUILD/layout.$ext"
    if $3 -std=$2 $INCLUDES -c -o "$BUILD/layout.o" "$BUILD/wrong$1.$ext" >"$BUILD/wrong.log" 2>&1 ||
        ! grep -q 'the offset of ferrule_call.in' "$BUILD/wrong.log"; then
        echo "$3 for $1 bits does not notice a wrong offset of ferrule_call.in" >&2
        cat "$BUILD/wrong.log" >&2
        exit 1
    fi
    echo "ok: $3, $2, $1 bits"
}

for family in gcc:g++:g++ clang:clang++:clang; do
    c=${family%%:*}
    cpp=${family#*:}
    cpp=${cpp%:*}
    need $c $c || continue
    layout 64 c11 $c
    # No C library is needed for 32 bits: the contract's headers are those of a freestanding compiler.
    layout 32 c11 "$c -m32 -ffreestanding"
    need $cpp ${family##*:} || continue
    layout 64 c++11 $cpp
    layout 32 c++11 "$cpp -m32 -ffreestanding"
done
if need i686-linux-gnu-gcc gcc-i686-linux-gnu; then layout 32 c11 i686-linux-gnu-gcc; fi
c=x86_64-w64-mingw32-gcc
cpp=x86_64-w64-mingw32-g++
if need $c gcc-mingw-w64-x86-64 && need $cpp g++-mingw-w64-x86-64; then
    layout 64 c11 $c
    layout 64 c++11 $cpp
fi
if have_zig; then
    for target in x86_64-linux-gnu aarch64-linux-musl aarch64-macos x86_64-macos x86_64-windows-gnu s390x-linux-gnu; do
        layout 64 c11 "$zig cc -target $target"
    done
    for target in x86-linux-gnu arm-linux-musleabihf x86-windows-gnu; do layout 32 c11 "$zig cc -target $target"; done
fi
