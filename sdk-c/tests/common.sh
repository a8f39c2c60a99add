# What the test scripts share. Run by make, which sets BUILD (a folder of the test's own), INCLUDES and VERSION.
set -eu
: "${BUILD:?run this through make}"
here=$PWD

warnings="-Wall -Wextra -pedantic -Werror -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wmissing-declarations
    -Wundef"

# need TOOL PACKAGE: is the tool there? Without it what needs it is skipped; in CI that is a failure.
need() {
    if command -v "$1" >/dev/null 2>&1; then return 0; fi
    echo "$1 is missing; install it with: apt-get install $2" >&2
    if [ "${CI:-}" = true ]; then exit 1; fi
    return 1
}

# have_zig: is there a Zig? Then $zig is its command: the words of ZIG in the environment, or the program in PATH. Debian
# has no package of it, so it is left out where there is none, also in CI; a ZIG that does not run is a failure.
have_zig() {
    zig=${ZIG:-zig}
    if $zig version >/dev/null 2>&1; then return 0; fi
    if [ -n "${ZIG:-}" ]; then
        echo "ZIG is \"$ZIG\", which does not run; expected a command such as \"python3 -m ziglang\"" >&2
        exit 1
    fi
    echo "left out: zig is missing; install it with: pip install ziglang, and set ZIG=\"python3 -m ziglang\"" >&2
    return 1
}

# newest COMPILER LANGUAGE NAME…: the first name of a language version that the compiler knows.
newest() {
    newest_of="$1 -x $2"
    shift 2
    for name in "$@"; do
        if $newest_of -std="$name" -c /dev/null -o "$BUILD/newest.o" >/dev/null 2>&1; then
            echo "$name"
            return 0
        fi
    done
    echo "${newest_of%% *} knows none of: $*" >&2
    return 1
}

# run COMMAND…: shows the command when it fails.
run() {
    "$@" || {
        status=$?
        echo "failed ($status): $*" >&2
        exit 1
    }
}

# guide: the plug-in of which the author's guide shows the code, but for the head that `ferrule new` makes.
guide() {
    echo '#include <ferrule/sdk.h>'
    echo 'FERRULE_PLUGIN(FERRULE_NAME("feeds") FERRULE_VERSION("0.1.0"));'
    awk '$0 == "Add to `feeds/feeds.c`:" { here = 1 } here && $0 == "```c" { on = 1; next } /^```/ { on = here = 0 } on' \
        "$here/../docs/author-guide.md"
}

# readme LANGUAGE: the code of that language in README.md, in its order.
readme() { awk -v fence="\`\`\`$1" '$0 == fence { on = 1; next } /^```/ { on = 0 } on' "$here/README.md"; }

# compilers: sets pairs to the C and C++ compilers that are there, as "gcc:g++": the first pair, or each where EVERY is set. Where no
# C++ compiler is there it is a C compiler with none, "gcc:", and what is in C++ is left out.
compilers() {
    pairs= alone=
    for family in gcc:g++:g++ clang:clang++:clang; do
        if [ -n "$pairs" ] && [ -z "${EVERY-}" ]; then break; fi
        c=${family%%:*}
        cpp=${family#*:}
        cpp=${cpp%:*}
        need "$c" "$c" || continue
        alone=${alone:-$c}
        if need "$cpp" "${family##*:}"; then pairs="$pairs $c:$cpp"; fi
    done
    [ -z "$pairs" ] || return 0
    if [ -z "$alone" ]; then
        echo "found neither gcc nor clang, expected one of them" >&2
        exit 1
    fi
    echo "left out: what is in C++" >&2
    pairs=$alone:
}

# each_family COMMAND…: runs it with each of these pairs behind it: the name of the C++ compiler is empty where there is none.
each_family() {
    compilers
    for pair in $pairs; do "$@" "${pair%:*}" "${pair#*:}"; done
}
