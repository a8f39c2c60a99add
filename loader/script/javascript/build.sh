#!/bin/sh
# Builds the adapter of JavaScript from quickjs-ng's sources: build.sh so|wasm FILE. The sources are those of the crate rquickjs-sys, which cargo fetches.
set -eu
cd "$(dirname "$0")"
root=../../..
form=$1 out=$2
mkdir -p ../../../build/quickjs
(cd ../../../build/quickjs && printf '[package]\nname = "sources"\nversion = "0.0.0"\nedition = "2021"\n[lib]\npath = "lib.rs"\n[dependencies]\nrquickjs-sys = "=0.14.0"\n[workspace]\n' >Cargo.toml && : >lib.rs && cargo fetch -q)
q=$(cargo metadata --manifest-path ../../../build/quickjs/Cargo.toml --format-version 1 | sed -n 's/.*"manifest_path":"\([^"]*rquickjs-sys-[^"]*\)Cargo\.toml".*/\1/p' | head -1)quickjs
# quickjs-ng has no limit of the stack in WebAssembly, where an overflow would be a trap: it gets the one that it has elsewhere.
build=../../../build/quickjs
sed '/^static void update_stack_limit/,/^}/s/#if defined(__wasi__)/#if 0/' "$q/quickjs.c" >$build/quickjs.c
sources="adapter.c $build/quickjs.c $q/libregexp.c $q/libunicode.c $q/dtoa.c"
flags="-O2 -DNDEBUG -D_GNU_SOURCE -fvisibility=hidden -I$root/include -I$root/sdk-c/include -isystem $q"
case $form in
so) ${CC:-cc} $flags -w -shared -fPIC -o "$out" $sources -lm -lpthread ;;
wasm)
	${WASM_CC:-clang} --target=wasm32-wasi -mexec-model=reactor $flags -w -D_WASI_EMULATED_SIGNAL -mbulk-memory \
		-Wl,--export-dynamic -Wl,-z,stack-size=1048576 -Wl,--strip-all -o "$out" $sources -lwasi-emulated-signal
	;;
esac
