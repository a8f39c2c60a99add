#!/bin/sh
# Builds plug-ins of the examples into build/examples, and prints where each is. By name, or all of them:
#
#     sh examples/build.sh countvowels-c newcomer
#
# CC, CXX, CARGO and GO in the environment name other compilers, CFLAGS and CXXFLAGS add flags. The status is 3 when
# something is missing that a plug-in needs; it is named with how to get it.
set -eu
cd "$(dirname "$0")/.."

CC=${CC:-cc} CXX=${CXX:-c++} CARGO=${CARGO:-cargo} GO=${GO:-go}
rustup="apt-get install cargo, or see https://rustup.rs"
pic=-fPIC prefix=lib safe= exports=
case $(uname -s) in
Darwin) ext=dylib ;;
MINGW* | MSYS* | CYGWIN*) ext=dll pic='' prefix='' ;;
*) ext=so safe="-Wl,--no-undefined -Wl,-z,relro -Wl,-z,now" exports=-Wl,--version-script=sdk-c/include/ferrule/exports.map ;;
esac
# Nothing is exported but the contract's symbols, which say so themselves: no host or other library can take a name's place.
# Templates of C++ are kept in by the version script.
hidden=-fvisibility=hidden

missing() { # WHAT INSTALL
    echo "examples/build.sh: $name: $1 is missing: $2" >&2
    exit 3
}
need() { # PROGRAM INSTALL
    command -v "${1%% *}" >/dev/null 2>&1 || missing "$1" "$2"
}

# A file that a running host has open keeps its content: the new one takes its place.
place() { # BUILT [ENDING]
    mv -f "$1" "build/examples/$name${2-.$ext}"
    echo "build/examples/$name${2-.$ext}"
}

c() { # SOURCE FLAG...
    need "$CC" "apt-get install gcc"
    # shellcheck disable=SC2086 # both are lists of words
    $CC -std=c11 -O2 -Wall -Wextra $pic $hidden -shared -Iinclude -Isdk-c/include $safe ${CFLAGS:-} -o "$tmp" "$@"
    place "$tmp"
}

over() { # LIBRARY HEADER PACKAGES SOURCE: in C, over a library of the system's
    need "$CC" "apt-get install gcc"
    flags=$(pkg-config --cflags --libs "$1" 2>/dev/null) || flags=-l${1#lib}
    # shellcheck disable=SC2086
    echo "#include <$2>" | $CC $flags -E -x c - >/dev/null 2>&1 || missing "$2" "apt-get install $3"
    # shellcheck disable=SC2086
    c "$4" $flags
}

cpp() { # SOURCE FLAG...
    need "$CXX" "apt-get install g++"
    # shellcheck disable=SC2086
    $CXX -std=c++17 -O2 -Wall -Wextra $pic $hidden -fvisibility-inlines-hidden -shared -Iinclude -Isdk-c/include $safe $exports ${CXXFLAGS:-} -o "$tmp" "$@"
    place "$tmp"
}

nlohmann() { # SOURCE: in C++, over nlohmann/json
    need "$CXX" "apt-get install g++"
    # shellcheck disable=SC2086
    echo "#include <nlohmann/json.hpp>" | $CXX ${CXXFLAGS:-} -E -x c++ - >/dev/null 2>&1 || missing nlohmann/json.hpp "apt-get install nlohmann-json3-dev"
    cpp "$1"
}

rust() { # CRATE
    need "$CARGO" "$rustup"
    $CARGO build --quiet --locked --release --manifest-path examples/Cargo.toml --target-dir examples/target -p "$1"
    cp "examples/target/release/$prefix$1.$ext" "$tmp"
    place "$tmp"
}

module() { # MANIFEST TARGET-FOLDER CRATE: in Rust, for WebAssembly
    need "$CARGO" "$rustup"
    need rustc "$rustup"
    [ -d "$(rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null)" ] ||
        missing "Rust's library for wasm32-unknown-unknown" "rustup target add wasm32-unknown-unknown, or apt-get install libstd-rust-dev-wasm32"
    $CARGO build --quiet --locked --release --manifest-path "$1" --target wasm32-unknown-unknown --target-dir "$2" -p "$3"
    cp "$2/wasm32-unknown-unknown/release/$(echo "$3" | tr - _).wasm" "$tmp"
    place "$tmp" .wasm
}

mkdir -p build/examples/merchants build/examples/market build/examples/everywhere
[ $# -gt 0 ] || set -- countvowels-c countvowels-cpp countvowels-rust newcomer loyal zstd digest thumbnail untrusted sql seal xml basket-c basket-cpp watch \
    merchants/welcome merchants/regulars merchants/shipping merchants/scrutiny regulars-2 regulars-3 market/sample-plugin market/advance-plugin \
    everywhere/c everywhere/cpp everywhere/rust everywhere/wasm everywhere/extism everywhere/go-module everywhere/go-library everywhere/go-program
for name in "$@"; do
    tmp=build/examples/$name.$$.tmp
    case $name in
    countvowels-c) c examples/countvowels/c/countvowels.c ;;
    untrusted) c examples/untrusted/c/sum.c ;;
    countvowels-cpp) cpp examples/countvowels/cpp/countvowels.cpp ;;
    countvowels-rust) rust countvowels ;;
    newcomer | loyal | watch) rust "$name" ;;
    merchants/welcome) rust welcome ;;
    merchants/regulars) c examples/shop/c/regulars.c ;;
    merchants/shipping) cpp examples/shop/cpp/shipping.cpp ;;
    merchants/scrutiny) c examples/shop/c/scrutiny.c ;;
    regulars-2) c examples/shop/c/regulars.c '-DVERSION="2.0.0"' -DPERCENT=15 ;;
    regulars-3) c examples/shop/c/regulars.c '-DVERSION="3.0.0"' -DPERCENT=50 -DBROKEN ;;
    market/sample-plugin) c examples/market/c/sample.c ;;
    market/advance-plugin) c examples/market/c/advance.c ;;
    zstd) over libzstd zstd.h "libzstd-dev zstd" examples/zstd/c/zstd.c ;;
    sql) over sqlite3 sqlite3.h libsqlite3-dev examples/sql/c/sql.c ;;
    seal) over libsodium sodium.h libsodium-dev examples/seal/c/seal.c ;;
    xml) over libxml-2.0 libxml/parser.h libxml2-dev examples/xml/c/xml.c ;;
    basket-c) over jansson jansson.h libjansson-dev examples/basket/c/basket.c ;;
    basket-cpp) nlohmann examples/basket/cpp/basket.cpp ;;
    everywhere/c) over jansson jansson.h libjansson-dev examples/everywhere/c/discount.c ;;
    everywhere/cpp) nlohmann examples/everywhere/cpp/discount.cpp ;;
    everywhere/rust) rust everywhere ;;
    everywhere/wasm) module examples/Cargo.toml examples/target everywhere ;;
    everywhere/extism) module examples/everywhere/extism/Cargo.toml examples/target/extism everywhere-extism ;;
    everywhere/go-*)
        need "$GO" "see https://go.dev/dl"
        main=./examples/everywhere/discount/cmd/discount
        # shellcheck disable=SC2086 # GO is a list of words
        case $name in
        *module)
            env GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 $GO build -buildmode=c-shared -o "$tmp" $main
            place "$tmp" .wasm
            ;;
        *library)
            need "$CC" "apt-get install gcc"
            env CGO_ENABLED=1 CC="$CC" $GO build -buildmode=c-shared -o "$tmp" $main
            rm "${tmp%.tmp}.h" # which says what ferrule.h says
            place "$tmp"
            ;;
        *program)
            env CGO_ENABLED=0 $GO build -o "$tmp" $main
            place "$tmp" "$($GO env GOEXE)"
            ;;
        esac
        ;;
    digest) over libcrypto openssl/evp.h libssl-dev examples/digest/c/digest.c ;;
    thumbnail)
        need "$CARGO" "$rustup"
        minor=$(rustc --version | cut -d. -f2)
        [ "$minor" -ge 70 ] || missing "Rust 1.70 (found 1.$minor)" "see https://rustup.rs"
        rust thumbnail
        ;;
    *)
        echo "examples/build.sh: there is no plug-in $name" >&2
        exit 2
        ;;
    esac
done
