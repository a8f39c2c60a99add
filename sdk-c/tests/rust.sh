# The same of a plug-in over the Rust SDK: its symbols survive every level of optimization, link-time optimization and
# strip, with the cargo of PATH and with the oldest rustc that the crate promises. It stands here for what it shares
# with symbols.sh.
. tests/exports.sh

need cargo "cargo, or see https://rustup.rs" || exit 0
source=../sdk-rust/fixtures/counter/src/lib.rs
# The names come from the source. There is a text about each function and import, which is empty, and so not shown, where
# there is nothing to say: no documentation, no result.
{
    printf 'ferrule_manifest\nferrule_batch\n'
    if grep -q 'state: Counter' $source; then printf 'ferrule_start\nferrule_stop\n'; fi
    awk '/^#\[ferrule::(export|import)\]/ { kind = /export/ ? "fn" : "import"; next }
        kind && /^fn / {
            name = $2
            sub(/[(<].*/, "", name)
            print "ferrule_" kind "_" name
            print "ferrule_meta_" kind "_" name (/->/ ? "" : " empty")
            kind = ""
        }' $source
} | sort >"$BUILD/names"
sed 's/ empty$//' "$BUILD/names" >"$BUILD/expected"
grep -v ' empty$' "$BUILD/names" >"$BUILD/shown"
if [ "$(wc -l <"$BUILD/expected")" -lt 16 ]; then
    echo "$source has lost functions: $(tr '\n' ' ' <"$BUILD/expected")" >&2
    exit 1
fi

# survives WHAT LEVEL LTO: builds and strips in each way; the library exports nothing else at all, and runs.
survives() {
    what="$1, opt-level $2, lto $3"
    CARGO_PROFILE_RELEASE_OPT_LEVEL=$2 CARGO_PROFILE_RELEASE_LTO=$3 CARGO_TARGET_DIR=$BUILD/target \
        run cargo build --quiet --locked --release --manifest-path ../sdk-rust/Cargo.toml -p fixture-counter
    for how in none default -s --strip-unneeded; do
        file=$BUILD/counter.so
        case $how in
        none) cp "$BUILD/target/release/libfixture_counter.so" "$file" ;;
        default) run strip -o "$file" "$BUILD/target/release/libfixture_counter.so" ;;
        *) run strip $how -o "$file" "$BUILD/target/release/libfixture_counter.so" ;;
        esac
        elf_exports "$file" | same "$BUILD/expected" "$what, strip: $how"
        exports "$file" "$BUILD/expected" "$what, strip: $how" "$BUILD/shown"
        answers "$file" 42 "$what, strip: $how" add --in 2 --config a=40 --import call_me=cat
    done
    echo "ok: $what, as it is and stripped"
}
for level in 0 2 3 s; do survives "$(rustc --version)" $level off; done
survives "$(rustc --version)" 3 fat

# The old cargo cannot read the registry's index: the sources come by way of the new one, as in sdk-rust/check-msrv.sh.
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' ../sdk-rust/ferrule/Cargo.toml)
case $(/usr/bin/rustc --version 2>/dev/null && command -v /usr/bin/cargo) in
"rustc $oldest."*cargo)
    mkdir -p "$BUILD/home"
    run cargo vendor --quiet --locked --manifest-path ../sdk-rust/Cargo.toml "$BUILD/vendor" >/dev/null
    printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "%s"\n' "$BUILD/vendor" \
        >"$BUILD/home/config.toml"
    CARGO_HOME=$BUILD/home CARGO_NET_OFFLINE=true PATH=/usr/bin:$PATH
    export CARGO_HOME CARGO_NET_OFFLINE PATH
    survives "$(rustc --version)" 3 off
    survives "$(rustc --version)" 3 fat
    ;;
*) echo "left out: rustc $oldest is not in /usr/bin; on Debian 12 install it with: apt-get install rustc cargo" >&2 ;;
esac
