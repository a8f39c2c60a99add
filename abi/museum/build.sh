#!/bin/sh
# Builds exhibits of the museum into build/museum, and puts those that are not in the museum yet beside their sources.
# What is there stays as it is; the script says where a new build differs from it. By name, or all of them:
#
#     sh abi/museum/build.sh c-1.0 rust-1.0
#
# On Debian 12, amd64:
#
#     apt-get install gcc gcc-aarch64-linux-gnu gcc-mingw-w64-x86-64-win32 clang lld musl-dev wasi-libc \
#         libclang-rt-dev-wasm32 rustc libstd-rust-dev-windows libstd-rust-dev-wasm32
#     dpkg --add-architecture arm64 && apt-get update    # for apt-get download of the standard library for arm64
#
# and a newer cargo in PATH, for the crates that the macros of the Rust SDK are made with: Debian's cannot read the
# registry's index. It only fetches them; Debian's rustc and cargo compile everything.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
museum=abi/museum
work=$root/build/museum
mkdir -p "$work"

need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || {
        echo "build.sh: $1 is missing: apt-get install $2" >&2
        exit 1
    }
}

# place EXHIBIT FILE: into the museum, unless it is there.
place() {
    if [ ! -e "$museum/$1/$2" ]; then
        cp "$work/$1/$2" "$museum/$1/$2"
        chmod 644 "$museum/$1/$2"
        echo "$1/$2: new"
    elif cmp -s "$work/$1/$2" "$museum/$1/$2"; then
        echo "$1/$2: the same"
    else
        echo "$1/$2: differs from the exhibit, which stays"
    fi
}

# ---- C ---------------------------------------------------------------------------------------------------------------

# macOS's C library, as far as plug-ins in C may use it: nothing of its own is to be had on Debian. The headers are
# musl's, of which only declarations of standard functions are used; they are the same everywhere.
libsystem() {
    cat <<'EOF'
--- !tapi-tbd
tbd-version: 4
targets: [ x86_64-macos, arm64-macos ]
install-name: '/usr/lib/libSystem.B.dylib'
exports:
  - targets: [ x86_64-macos, arm64-macos ]
    symbols: [ dyld_stub_binder, ___bzero, _abort, _bzero, _calloc, _free, _malloc, _memchr, _memcmp, _memcpy, _memmove, _memset,
               _realloc, _snprintf, _strchr, _strcmp, _strcpy, _strlen, _strrchr, _strtol, _vsnprintf ]
...
EOF
}

module() { # EXHIBIT
    need clang clang
    need wasm-ld lld
    [ -e /usr/include/wasm32-wasi/stdlib.h ] || need headers-of-wasi "wasi-libc libclang-rt-dev-wasm32"
    mkdir -p "$work/$1"
    clang --target=wasm32-wasi -mexec-model=reactor -mbulk-memory -std=c99 -O2 -Wall -Wextra -Werror -fvisibility=hidden \
        -Wl,--export-dynamic -Wl,--strip-all -Iinclude -Isdk-c/include -o "$work/$1/any.wasm" "$museum/$1/plugin.c"
    place "$1" any.wasm
}

c() { # EXHIBIT
    need gcc gcc
    need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
    need x86_64-w64-mingw32-gcc-win32 gcc-mingw-w64-x86-64-win32
    need clang clang
    need wasm-ld lld
    [ -e /usr/include/x86_64-linux-musl/stdio.h ] || need musl-gcc musl-dev
    out=$work/$1
    mkdir -p "$out"
    flags="-std=c99 -O2 -Wall -Wextra -pedantic -Werror -Iinclude -Isdk-c/include -shared"
    elf="-fPIC -fvisibility=hidden -Wl,--build-id=none -s"
    # shellcheck disable=SC2086 # they are lists of words
    {
        gcc $flags $elf -o "$out/linux-amd64.so" "$museum/$1/plugin.c"
        aarch64-linux-gnu-gcc $flags $elf -o "$out/linux-arm64.so" "$museum/$1/plugin.c"
        x86_64-w64-mingw32-gcc-win32 $flags -static -s -Wl,--no-insert-timestamp -o "$out/windows-amd64.dll" \
            "$museum/$1/plugin.c"
        libsystem >"$out/libSystem.tbd"
        for arch in x86_64:amd64 arm64:arm64; do
            dylib=darwin-${arch#*:}.dylib
            clang -target "${arch%:*}-apple-macos11" $flags -nostdlibinc -isystem /usr/include/x86_64-linux-musl \
                -fvisibility=hidden -fno-stack-protector -fuse-ld=lld -nostdlib \
                -Wl,-install_name,"@rpath/$dylib" -o "$out/$dylib" "$museum/$1/plugin.c" "$out/libSystem.tbd"
        done
    }
    for file in linux-amd64.so linux-arm64.so windows-amd64.dll darwin-amd64.dylib darwin-arm64.dylib; do
        place "$1" $file
    done
}

# ---- Rust ------------------------------------------------------------------------------------------------------------

# crates EXHIBIT: what it depends on, where Debian's cargo finds it.
crates() {
    need cargo "cargo, or see https://rustup.rs"
    for bin in rustc cargo; do [ -x /usr/bin/$bin ] || need /usr/bin/$bin $bin; done
    out=$work/$1
    mkdir -p "$out/home"
    (cd "$museum/$1" && cargo vendor --quiet --locked "$out/vendor") >/dev/null
    cat >"$out/home/config.toml" <<EOF
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "$out/vendor"
[target.aarch64-unknown-linux-gnu]
linker = "aarch64-linux-gnu-gcc"
[target.x86_64-pc-windows-gnu]
linker = "x86_64-w64-mingw32-gcc-win32"
[target.wasm32-unknown-unknown]
linker = "wasm-ld"
EOF
}

# build EXHIBIT TRIPLE BUILT FILE FLAG...; no path of this machine's gets into the library.
build() {
    exhibit=$1 triple=$2 built=$3 file=$4
    shift 4
    (
        cd "$museum/$exhibit"
        PATH=/usr/bin:$PATH CARGO_HOME=$out/home CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=$out/target \
            RUSTFLAGS="--remap-path-prefix=$out/vendor=vendor --remap-path-prefix=$root= $*" \
            /usr/bin/cargo build --quiet --locked --release --target "$triple"
    )
    cp "$out/target/$triple/release/$built" "$out/$file"
    place "$exhibit" "$file"
}

module_in_rust() { # EXHIBIT
    need wasm-ld lld
    [ -d /usr/lib/rustlib/wasm32-unknown-unknown ] || need rustlib-for-wasm32 libstd-rust-dev-wasm32
    crates "$1"
    build "$1" wasm32-unknown-unknown museum.wasm any.wasm
}

rust() { # EXHIBIT
    need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
    need x86_64-w64-mingw32-gcc-win32 gcc-mingw-w64-x86-64-win32
    [ -d /usr/lib/rustlib/x86_64-pc-windows-gnu ] || need rustlib-for-windows libstd-rust-dev-windows
    crates "$1"

    # Only the standard library of arm64, from the package that an arm64 machine would have, of the compiler's version.
    if [ ! -d "$work/arm64" ]; then
        version=$(dpkg-query -W -f '${Version}' libstd-rust-dev)
        (cd "$work" && apt-get download "libstd-rust-dev:arm64=$version")
        dpkg -x "$work"/libstd-rust-dev_*_arm64.deb "$work/arm64.tmp"
        mv "$work/arm64.tmp" "$work/arm64"
    fi
    build "$1" x86_64-unknown-linux-gnu libmuseum.so linux-amd64.so
    build "$1" aarch64-unknown-linux-gnu libmuseum.so linux-arm64.so \
        "-L $work/arm64/usr/lib/rustlib/aarch64-unknown-linux-gnu/lib"
    build "$1" x86_64-pc-windows-gnu museum.dll windows-amd64.dll \
        "-C link-arg=-static -C link-arg=-Wl,--no-insert-timestamp"
}

if [ $# -eq 0 ]; then
    set -- "$museum"/*/
fi
for exhibit in "$@"; do
    exhibit=$(basename "$exhibit")
    # The source of c-1.0 is both.
    case $exhibit in
    c-wasm-*) module "$exhibit" ;;
    rust-wasm-*) module_in_rust "$exhibit" ;;
    c-*) c "$exhibit" ;;
    rust-*) rust "$exhibit" ;;
    *)
        echo "build.sh: found an exhibit called $exhibit, expected c-VERSION, rust-VERSION, c-wasm-VERSION or rust-wasm-VERSION" >&2
        exit 2
        ;;
    esac
    [ "$exhibit" != c-1.0 ] || module "$exhibit"
done
