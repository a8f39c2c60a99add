# Runs the test plug-ins under the host of tests/host.c: every language version, plain and with sanitizers. With one family of
# compilers, or with every one that is there where EVERY is set.
. tests/common.sh

asan="-DSANITIZED -fsanitize=address,undefined -fno-sanitize-recover=all"
tsan="-DSANITIZED -fsanitize=thread"
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1
readme c >"$BUILD/readme.c"
readme cpp >"$BUILD/readme.cpp"
guide >"$BUILD/guide.c"

# The thread sanitizer's own map of the process collides with some kernels' random addresses.
fixed_addresses="setarch $(uname -m) -R"
if ! $fixed_addresses true 2>/dev/null; then fixed_addresses=; fi

# host NAME COMPILER LINKER FLAGS: builds the host with each test.
host() {
    for source in host test_helpers test_entries test_readme test_guide; do
        run $2 -std=c11 -D_DEFAULT_SOURCE -g $4 $warnings $INCLUDES -c "tests/$source.c" -o "$BUILD/$source.o"
    done
    for test in helpers entries readme guide; do
        run $3 $4 "$BUILD/host.o" "$BUILD/test_$test.o" -pthread -ldl -o "$BUILD/$test-$1"
    done
}

# plugin HOST TEST COMPILER FLAGS SOURCE: builds a plug-in and runs the test over it, beside as many others as there are
# processors. What fails is told by `finish`, which waits for all.
plugin() {
    n=$((n + 1))
    (
        run $3 -g $4 $warnings $INCLUDES -shared -fPIC -o "$BUILD/plugin-$n.so" "$5"
        run $fixed_addresses "$BUILD/$2-$1" "$BUILD/plugin-$n.so"
        echo "ok: $2, $3 $4"
    ) &
    running="$running $!"
    if [ $(echo $running | wc -w) -ge "$processors" ]; then oldest; fi
}
n=0 running=
processors=$(nproc 2>/dev/null || echo 2)

# oldest waits for the job that began first, and fails as it does.
oldest() {
    first=${running# }
    first=${first%% *}
    running=${running#" $first"}
    wait "$first" || { finish; exit 1; }
}

# finish waits for what still runs.
finish() {
    for job in $running; do wait "$job" || failed=1; done
    running=
    [ -z "${failed-}" ]
}

each() {
    c=$1
    cpp=$2
    host $c $c $c -O2
    for std in c99 c11 c17 $(newest $c c c23 c2x); do plugin $c helpers $c "-std=$std -O2" tests/helpers.c; done
    plugin $c readme $c "-std=c99 -O2" "$BUILD/readme.c"
    # Linked by the C++ compiler, for the sanitizers' own C++ part.
    host $c-asan $c ${cpp:-$c} "-O1 $asan"
    plugin $c-asan helpers $c "-std=c11 -O1 $asan" tests/helpers.c
    plugin $c-asan guide $c "-std=c11 -O1 $asan" "$BUILD/guide.c"
    plugin $c-asan readme $c "-std=c11 -O1 $asan" "$BUILD/readme.c"
    host $c-tsan $c ${cpp:-$c} "-O1 $tsan"
    plugin $c-tsan guide $c "-std=c11 -O1 $tsan" "$BUILD/guide.c"
    [ -n "$cpp" ] || return 0

    newest_cpp=$(newest $cpp c++ c++23 c++2b)
    for std in c++11 $newest_cpp; do plugin $c helpers $cpp "-std=$std -O2 -x c++" tests/helpers.c; done
    for std in c++17 c++20 $newest_cpp; do
        plugin $c entries $cpp "-std=$std -O2 -Wold-style-cast" tests/entries.cpp
    done
    plugin $c readme $cpp "-std=c++17 -O2 -Wold-style-cast" "$BUILD/readme.cpp"
    plugin $c-asan entries $cpp "-std=c++17 -O1 $asan" tests/entries.cpp
    plugin $c-asan readme $cpp "-std=c++20 -O1 $asan" "$BUILD/readme.cpp"
    plugin $c-tsan entries $cpp "-std=c++17 -O1 $tsan" tests/entries.cpp
}
each_family each

# 32 bits, which an x86-64 machine runs. tests/helpers.c asks for more memory than that has addresses.
cross=i686-linux-gnu
if [ "$(uname -m)" = x86_64 ] && need $cross-gcc gcc-i686-linux-gnu; then
    root=/usr/$cross/lib
    for source in host test_readme; do
        run $cross-gcc -std=c11 -D_DEFAULT_SOURCE -O2 $warnings $INCLUDES -c "tests/$source.c" -o "$BUILD/$source.o"
    done
    run $cross-gcc "$BUILD/host.o" "$BUILD/test_readme.o" -pthread -ldl -Wl,--dynamic-linker=$root/ld-linux.so.2 \
        -Wl,-rpath,$root -o "$BUILD/readme-$cross"
    for std in c99 $(newest $cross-gcc c c23 c2x); do
        plugin $cross readme $cross-gcc "-std=$std -O2" "$BUILD/readme.c"
    done
fi

# Zig's C compiler, without and with the checks that it adds to code that is not optimized.
if [ -n "${EVERY-}" ] && have_zig; then
    host=${pairs%%:*}
    host=${host# }
    for std in c99 $(newest "$zig cc" c c23 c2x); do
        plugin $host helpers "$zig cc" "-std=$std -O2" tests/helpers.c
    done
    for level in -O0 -O2; do plugin $host readme "$zig cc" "-std=c99 $level" "$BUILD/readme.c"; done
fi
finish
