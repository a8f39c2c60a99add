# Compiles the contract and both SDKs for wasm32, from the same sources as for machines, and runs what comes out: the
# contract without a C library, the SDKs with that of WASI.
. tests/common.sh

need clang clang && need wasm-ld lld || exit 0
need node nodejs || exit 0
# have FILE PACKAGE: is the header or library there, for which there is no command?
have() {
    printf '#include <%s>\n' "$1" | clang++ --target=wasm32-wasi -x c++ -fsyntax-only - 2>/dev/null && return 0
    echo "<$1> for wasm32 is missing; install it with: apt-get install $2" >&2
    if [ "${CI:-}" = true ]; then exit 1; fi
    return 1
}

# names FILE…: what the macros of the sources say is to be exported.
names() {
    sed -n -e 's/^FERRULE_PLUGIN.*/ferrule_manifest\nferrule_batch\nferrule_services\nferrule_alloc\nferrule_free/p' \
        -e 's/.*FERRULE_\(CPP_\)\{0,1\}\(FN\|HOOK\|IMPORT\|WANT\)(\([a-z_]*\)).*/\2 \3/p' \
        -e 's/^FERRULE_\(CPP_\)\{0,1\}\(FN\|HOOK\)(\([a-z_]*\),.*/\2 \3/p' \
        -e 's/^FERRULE_\(FN\|HOOK\|IMPORT\|WANT\)_META(\([a-z_]*\),.*/META_\1 \2/p' \
        -e 's/^FERRULE_\(START\|STOP\|CONFIGURE\|SAVE\|RESUME\) .*/\1/p' \
        -e 's/^FERRULE_CPP_STATE.*/START\nSTOP/p' -e 's/^FERRULE_CONFIG_SCHEMA.*/META_CONFIG/p' "$1" |
        awk '/^ferrule/ { print; next } { print "ferrule_" tolower($1) (NF > 1 ? "_" $2 : "") }' | LC_ALL=C sort
}

# linked WHAT FILE SOURCE: the module exports the contract's symbols, and no others that begin like them.
linked() {
    node tests/wasm.mjs exports "$2" | grep '^ferrule' | LC_ALL=C sort >"$BUILD/found"
    names "$3" >"$BUILD/expected"
    if ! diff -u "$BUILD/expected" "$BUILD/found" >&2; then
        echo "$1: the exports of $2 differ from what $3 says" >&2
        exit 1
    fi
    echo "ok: $1"
}

# What a module needs to be a plug-in: its symbols and its memory. This host, in JavaScript, also needs the table, to call release.
export="-fvisibility=hidden -Wl,--export-dynamic -Wl,--export-table"

for std in c99 c11 $(newest clang c c23 c2x); do
    run clang --target=wasm32 -ffreestanding -nostdlib -std=$std -O2 $warnings -Wpadded $INCLUDES $export -Wl,--no-entry \
        -o "$BUILD/every.wasm" tests/every.c
    linked "contract, clang -ffreestanding, $std" "$BUILD/every.wasm" tests/every.c
done
for std in c++11 $(newest clang++ c++ c++23 c++2b); do
    run clang++ --target=wasm32 -ffreestanding -nostdlib -std=$std -O2 $warnings $INCLUDES $export -Wl,--no-entry \
        -x c++ -o "$BUILD/every.wasm" tests/every.c
    linked "contract, clang++ -ffreestanding, $std" "$BUILD/every.wasm" tests/every.c
done

have stdlib.h "wasi-libc libclang-rt-dev-wasm32" || exit 0
readme c >"$BUILD/readme.c"
for std in c99 $(newest clang c c23 c2x); do
    run clang --target=wasm32-wasi -mexec-model=reactor -std=$std -O2 $warnings $INCLUDES $export \
        -o "$BUILD/readme.wasm" "$BUILD/readme.c"
    linked "sdk.h, clang, $std" "$BUILD/readme.wasm" "$BUILD/readme.c"
    run node tests/wasm.mjs readme "$BUILD/readme.wasm" ../abi/layout.golden
done

have string "libc++-dev-wasm32" || exit 0
for std in c++17 $(newest clang++ c++ c++23 c++2b); do
    run clang++ --target=wasm32-wasi -mexec-model=reactor -std=$std -fno-exceptions -O2 $warnings $INCLUDES $export \
        -o "$BUILD/noexceptions.wasm" tests/noexceptions.cpp
    linked "sdk.hpp, clang++ -fno-exceptions, $std" "$BUILD/noexceptions.wasm" tests/noexceptions.cpp
    run node tests/wasm.mjs noexceptions "$BUILD/noexceptions.wasm" ../abi/layout.golden
done
