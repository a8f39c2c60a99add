# What symbols.sh and rust.sh share: reading what a library exports, calling it.
. tests/common.sh
LC_ALL=C
export LC_ALL

# The project's own reader and host. It is missing where Go is, and what it tells is left out.
ferrule=
if need go "golang, or see https://go.dev/dl"; then
    ferrule=$BUILD/ferrule
    (cd .. && run go build -o "$ferrule" ./cmd/ferrule)
fi

elf_exports() { nm -D --defined-only "$1" | awk '{ print $NF }' | sort; }
pe_exports() {
    x86_64-w64-mingw32-objdump -p "$1" |
        awk '/Ordinal\/Name Pointer/ { on = 1; next } on && !NF { exit } on { print $NF }' | sort
}

# inspected FILE: the contract's symbols, as `ferrule inspect` finds them.
inspected() {
    run "$ferrule" inspect --json "$1" | awk -F'"' '
        /^  "/ { kind = "" }
        /^  "functions": / { kind = "fn" }
        /^  "hooks": / { kind = "hook" }
        /^  "imports": / { kind = "import" }
        /^  "wants": / { kind = "want" }
        /^  "configSchema": / { print "ferrule_meta_config" }
        /^  "reserved": / { kind = "reserved" }
        /^  "name": / { print "ferrule_manifest" }
        /^  "(start|stop|batch|configure|save|resume)": true/ { print "ferrule_" $2 }
        /^    "/ && kind == "reserved" { print $2 }
        /^      "name": / && kind { name = $4; print "ferrule_" kind "_" name }
        /^      "keys": / && kind { print "ferrule_meta_" kind "_" name }' | sort
}

# same EXPECTED WHAT: compares the names on standard input with those expected.
same() {
    if ! diff -u "$1" - >"$BUILD/diff"; then
        echo "$2: the exports differ from what the source says:" >&2
        cat "$BUILD/diff" >&2
        exit 1
    fi
}

# exports FILE EXPECTED WHAT [SHOWN]: the library has the contract's symbols, and no other with their prefix. C++ and
# sanitizers leave others in the table. SHOWN is what `ferrule inspect` shows, where that is less.
exports() {
    case $1 in
    *.so) elf_exports "$1" | grep '^ferrule_' | same "$2" "$3" ;;
    *.dll) pe_exports "$1" | grep '^ferrule_' | same "$2" "$3" ;;
    esac
    if [ -n "$ferrule" ]; then inspected "$1" | same "${4:-$2}" "$3"; fi
    # The manifest is to be read from the file, without running anything: its bytes stand there.
    if ! tr '\0' '\n' <"$1" | grep -a -A2 'ferrule=1$' | grep -a -q '^version=1.0.0$'; then
        echo "$3: the manifest's text is not in the file" >&2
        exit 1
    fi
}

# answers FILE WANT WHAT ARGUMENT…: a call with these arguments of `ferrule call` gives that result.
answers() {
    called=$1
    want=$2
    case_=$3
    shift 3
    [ -n "$ferrule" ] || return 0
    found=$(run "$ferrule" call "$called" "$@" --log-level error)
    if [ "$found" != "$want" ]; then
        echo "$case_: ferrule call $called $*: found \"$found\", expected \"$want\"" >&2
        exit 1
    fi
}
