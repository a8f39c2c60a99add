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

say "The core system: a shop with four merchants' plug-ins, which are found, ordered, granted what they may have, and replaced while it is open"
CXX=${CXX:-c++} merchants="merchants/regulars merchants/scrutiny regulars-2 regulars-3"
if command -v "${CXX%% *}" >/dev/null 2>&1; then merchants="merchants/shipping $merchants"; fi
if command -v "${CARGO%% *}" >/dev/null 2>&1; then merchants="merchants/welcome $merchants"; fi
# shellcheck disable=SC2086 # it is a list of words
run sh examples/build.sh $merchants
run "$GO" build -o build/examples/ ./examples/shop
echo "\$ build/examples/shop examples/shop/config.yaml <examples/shop/day.txt"
build/examples/shop examples/shop/config.yaml <examples/shop/day.txt 2>build/examples/shop.log
echo "what happened to the plug-ins is in build/examples/shop.log"
say "A registry: two plug-ins are signed and published on a release page, here on this machine"
run sh examples/build.sh market/sample-plugin market/advance-plugin
run "$GO" build -o build/examples/market/ ./cmd/ferrule ./examples/market ./examples/market/pages
cd build/examples/market
rm -rf acme.key* releases store ferrule.lock
run ./ferrule keygen --no-password acme.key
run ./ferrule push --to releases --key acme.key --tag v1.0.0 sample-plugin.*
run ./ferrule push --to releases --key acme.key --tag v1.0.0 advance-plugin.*
say "A shop whose config.yaml only names them: they are fetched, verified, locked, granted what all may have, and run"
sed "s|KEY|$(tail -n 1 acme.key.pub)|" ../../../examples/market/config.yaml >config.yaml
cat config.yaml
run ./pages releases config.yaml ./market config.yaml
say "The second time it needs nobody: lock and store have it all"
run ./market config.yaml
say "More: examples/README.md"
