#!/bin/sh
# What `make demo` runs: the main job on real input, step by step. GO, CC and CARGO in the environment name the tools.
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go} CARGO=${CARGO:-cargo}

bold='' plain=''
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$(printf '\033[1m') plain=$(printf '\033[0m')
fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
run() {
    echo "\$ $*"
    "$@"
}
build() { # PLUG-IN: compiles it, and sets library
    echo "\$ sh examples/build.sh $1"
    library=$(sh examples/build.sh "$1")
    echo "$library"
}

say "A plug-in in C: eight lines in examples/countvowels/c/countvowels.c"
build countvowels-c
say "A host in Go opens the library and calls it"
run "$GO" build -o build/examples/ ./examples/countvowels
run build/examples/countvowels "$library" README.md

if ! command -v "${CARGO%% *}" >/dev/null 2>&1; then
    say "Skipped: plug-ins in Rust, because $CARGO is missing: apt-get install cargo, or see https://rustup.rs"
else
    say "A plug-in in Rust for a shop: this merchant wants new customers (the first build takes a minute)"
    build newcomer
    run "$GO" build -o build/examples/ ./examples/checkout
    run build/examples/checkout "$library" examples/checkout/carts/ada.json
    say "Another merchant's plug-in, the same host: nothing is built but the library"
    build loyal
    run build/examples/checkout "$library" examples/checkout/carts/grace.json
fi
say "More: examples/README.md"
