#!/bin/sh
# Builds and tests the crate with the oldest compiler it supports, the rust-version of its Cargo.toml, which is that of
# Debian 12: apt-get install rustc cargo. Usage: ./check-msrv.sh [the folder of its cargo and rustc, /usr/bin if not
# given]. The dependencies are vendored first, with the cargo of PATH: the old one cannot read the registry's index.
#
# Left out are the tests of the layout (offset_of! came with Rust 1.77), those that build packages of their own (edition
# 2024), and those of the compiler's messages. check-package.sh builds from the packages for the registry.
set -eu
cd "$(dirname "$0")"
bin=${1:-/usr/bin}

want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' ferrule/Cargo.toml)
found=$("$bin/rustc" --version || true)
case $found in
"rustc $want."*) ;;
*)
    echo "check-msrv: found '$found' in $bin, expected rustc $want: on Debian 12 apt-get install rustc cargo" >&2
    exit 1
    ;;
esac

work=target/msrv
mkdir -p $work/home
cargo vendor --quiet --locked $work/vendor >/dev/null
cat >$work/home/config.toml <<'END'
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "vendor"
END

# In the environment, so that the cargo which the tests run for the fixtures is the old one with the old sources, too.
CARGO_HOME=$PWD/$work/home PATH=$bin:$PATH
CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=$work/target
export CARGO_HOME PATH CARGO_NET_OFFLINE CARGO_TARGET_DIR
cargo build --locked -p ferrule-plugin --no-default-features
cargo test --locked -p ferrule-plugin --all-features --lib --test plugins --test since_1_1
./check-package.sh
