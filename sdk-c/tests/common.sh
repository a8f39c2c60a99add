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

# run COMMAND…: shows the command when it fails.
run() {
    "$@" || {
        status=$?
        echo "failed ($status): $*" >&2
        exit 1
    }
}

# readme LANGUAGE: the code of that language in README.md, in its order.
readme() { awk -v fence="\`\`\`$1" '$0 == fence { on = 1; next } /^```/ { on = 0 } on' "$here/README.md"; }
