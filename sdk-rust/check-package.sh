#!/bin/sh
# Packages the two crates as the registry gets them, and builds a plug-in from nothing but what is in the packages.
# Usage: ./check-package.sh, with the cargo of PATH: the newest one, and the oldest that check-msrv.sh runs it with.
#
# Cargo's own check (`cargo package` without --no-verify) wants the macros from the registry first, up to 1.89. Here
# they come out of their package, for every cargo.
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$target/check-package
rm -rf "$work" "$target/package"
mkdir -p "$work/plugin/src"

fail() {
    echo "check-package: $*" >&2
    exit 1
}

# A cargo that is neither the newest nor the oldest looks the macros up for the package's Cargo.lock.
cargo package --locked --allow-dirty --no-verify -p ferrule-plugin-macros -p ferrule-plugin \
    --config 'patch.crates-io.ferrule-plugin-macros.path="ferrule-macros"' >"$work/said" 2>&1 || {
    cat "$work/said" >&2
    exit 1
}
# Such as "manifest has no description, license, …", which the registry refuses.
if grep 'manifest has no' "$work/said" >&2; then
    fail "found a Cargo.toml without what the registry wants, expected all of it"
fi

# same PACKAGE FILE ORIGINAL
same() {
    [ -e "$work/$1/$2" ] || fail "found no $2 in the package $1, expected a copy of $3: is it in include of its Cargo.toml?"
    diff -r "$work/$1/$2" "$3" >&2 || fail "found another $2 in the package $1, expected that of $3"
}

# unpack FOLDER PACKAGE README
unpack() {
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$1/Cargo.toml")
    [ -e "$target/package/$2-$version.crate" ] || fail "found no $2-$version.crate in $target/package"
    tar -xzf "$target/package/$2-$version.crate" -C "$work"
    mv "$work/$2-$version" "$work/$2"
    same "$2" src "$1/src"
    same "$2" LICENSE ../LICENSE
    same "$2" README.md "$3"
}
unpack ferrule-macros ferrule-plugin-macros ferrule-macros/README.md
unpack ferrule ferrule-plugin README.md
same ferrule-plugin build.rs ferrule/build.rs

cp Cargo.lock "$work/plugin/"
cat >"$work/plugin/Cargo.toml" <<'END'
[package]
name = "from-packages"
version = "0.1.0"
edition = "2021"

[lib]
crate-type = ["cdylib"]

[dependencies]
ferrule-plugin = { path = "../ferrule-plugin", features = ["log"] }

[dev-dependencies]
ferrule-plugin = { path = "../ferrule-plugin", features = ["testing"] }

[patch.crates-io]
ferrule-plugin-macros = { path = "../ferrule-plugin-macros" }

[workspace]
END
cat >"$work/plugin/src/lib.rs" <<'END'
ferrule::plugin!(name: "from-packages", version: env!("CARGO_PKG_VERSION"));

#[ferrule::import]
fn double(number: ferrule::Json<u32>) -> ferrule::Result<ferrule::Json<u32>>;

#[ferrule::export]
fn quadruple(number: ferrule::Json<u32>) -> ferrule::Result<ferrule::Json<u32>> {
    double(double(number)?)
}

#[test]
fn works() {
    let host = ferrule::testing::Host::new().import("double", |text| {
        let number: u32 = std::str::from_utf8(text)?.parse()?;
        Ok((2 * number).to_string().into_bytes())
    });
    assert_eq!(host.run(|_| quadruple(ferrule::Json(3))).unwrap(), ferrule::Json(12));
}
END
# No --locked: the plug-in and its packages are not in the lock file yet. It holds the rest to the versions there.
cargo test --quiet --offline --manifest-path "$work/plugin/Cargo.toml" --target-dir "$target"
cargo build --quiet --offline --manifest-path "$work/plugin/Cargo.toml" --target-dir "$target"
