# The host for authors' own tests, ferrule/testing.h and testing.hpp: over README.md's plug-ins, with sanitizers, and
# README.md's own test. With the first family of compilers that is there, or with each where EVERY is set.
. tests/common.sh

readme c >"$BUILD/readme.c"
readme cpp >"$BUILD/readme.cpp"
readme "c tests.c" >"$BUILD/tests.c"
readme "c greeter.c" >"$BUILD/greeter.c"
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1
asan="-DSANITIZED -fsanitize=address,undefined -fno-sanitize-recover=all"

# double COMPILER FLAGS SOURCE…: builds a test program of these, and runs it.
double() {
    compiler=$1
    flags=$2
    shift 2
    run $compiler -g -O1 $flags $warnings $INCLUDES -o "$BUILD/double" "$@" -pthread
    run $fixed_addresses "$BUILD/double"
    echo "ok: $compiler $flags"
}
fixed_addresses="setarch $(uname -m) -R"
if ! $fixed_addresses true 2>/dev/null; then fixed_addresses=; fi

family() {
    c=$1
    cpp=$2
    double $c "-std=c11 -UNDEBUG" "$BUILD/tests.c" "$BUILD/greeter.c"
    double $c "-std=c99 $asan" tests/double.c "$BUILD/readme.c"
    [ -n "$cpp" ] || return 0
    double $cpp "-std=c++17 -fsanitize=thread" tests/double.cpp "$BUILD/readme.cpp"
    [ -n "${EVERY-}" ] || return 0
    double $c -std=c99 tests/double.c "$BUILD/readme.c"
    double $cpp -std=c++17 tests/double.cpp "$BUILD/readme.cpp"
    double $cpp "-std=c++20 $asan" tests/double.cpp "$BUILD/readme.cpp"
}
each_family family
