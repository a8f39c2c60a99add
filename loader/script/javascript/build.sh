#!/bin/sh
# Builds the adapter of JavaScript from quickjs-ng's sources: build.sh so|wasm FILE, with FILE's path from the root. The sources are those of the crate
# rquickjs-sys, which cargo fetches; quickjs.LICENSE is theirs, and goes where the module goes. FERRULE_INCLUDE is a folder with the headers of the contract and of the SDK in C; without it they are this tree's.
set -eu
cd "$(dirname "$0")"
form=$1 out=$2
for program in "${CARGO:=cargo}" sed; do
	command -v "$program" >/dev/null || { echo "build.sh: $program is missing" >&2; exit 1; }
done
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
trap 'exit 130' INT TERM HUP
printf '[package]\nname = "sources"\nversion = "0.0.0"\nedition = "2021"\n[lib]\npath = "lib.rs"\n[dependencies]\nrquickjs-sys = "=0.14.0"\n[workspace]\n' >"$build/Cargo.toml"
: >"$build/lib.rs"
q=$("$CARGO" metadata -q --manifest-path "$build/Cargo.toml" --format-version 1 | sed -n 's/.*"manifest_path":"\([^"]*rquickjs-sys-[^"]*\)Cargo\.toml".*/\1/p' | head -1)quickjs
[ -e "$q/quickjs.c" ] || { echo "build.sh: found no sources of quickjs-ng where cargo has put the crate rquickjs-sys: $q" >&2; exit 1; }
# quickjs-ng has no limit of the stack in WebAssembly, where an overflow would be a trap: it gets the one that it has elsewhere.
# Where there is neither stack nor memory to settle a promise of an async function, it would end the process: that is an exception of who called it.
sed -e '/^static void update_stack_limit/,/^}/s/#if defined(__wasi__)/#if 0/' -e '/^static bool js_async_function_resume/,/^}/s/abort(); .*BUG .*/is_success = false;/' "$q/quickjs.c" >"$build/quickjs.c"
# Nor does it let go of jobs that nobody wants any more, but by running them: adapter.c has this function do it.
cat >>"$build/quickjs.c" <<'END'
void ferrule_drop_jobs(JSRuntime *rt);
void ferrule_drop_jobs(JSRuntime *rt)
{
    while (!list_empty(&rt->job_list)) {
        JSJobEntry *e = list_entry(rt->job_list.next, JSJobEntry, link);
        int i;
        list_del(&e->link);
        for (i = 0; i < e->argc; i++)
            JS_FreeValueRT(rt, e->argv[i]);
        js_free_rt(rt, e);
    }
}
END
warnings='-Wall -Wextra -Werror'
if [ -n "${FERRULE_INCLUDE:-}" ]; then
	headers="-I$FERRULE_INCLUDE"
else
	headers='-I../../../include -I../../../sdk-c/include'
fi
flags="-O2 -DNDEBUG -D_GNU_SOURCE -fvisibility=hidden -isystem $q"
case $form in
so)
	compile="${CC:-cc} $flags -fPIC"
	link="${CC:-cc} -shared"
	libraries='-lm -lpthread'
	;;
wasm)
	compile="${WASM_CC:-clang} --target=wasm32-wasi $flags -D_WASI_EMULATED_SIGNAL -mbulk-memory"
	link="${WASM_CC:-clang} --target=wasm32-wasi -mexec-model=reactor -Wl,--export-dynamic -Wl,-z,stack-size=1048576 -Wl,--strip-all"
	libraries=-lwasi-emulated-signal
	;;
*)
	echo "build.sh: found $form, expected so or wasm" >&2
	exit 2
	;;
esac
# shellcheck disable=SC2086 # these are words
{
	$compile $warnings $headers -c -o "$build/adapter.o" adapter.c &
	for source in "$build/quickjs.c" "$q/libregexp.c" "$q/libunicode.c" "$q/dtoa.c"; do
		$compile -w -c -o "$build/$(basename "$source").o" "$source"
	done
	wait $!
	$link -o "$out" "$build"/*.o $libraries
}
