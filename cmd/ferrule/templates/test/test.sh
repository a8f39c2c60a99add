#!/bin/sh
# Calls the library as a host does, compares the results, and checks it against the contract:
#
#     sh test.sh LIBRARY
#
# FERRULE in the environment names the command where it is not in the path.
set -eu
library=$1 ferrule=${FERRULE:-ferrule}
command -v "$ferrule" >/dev/null 2>&1 || {
    echo "test.sh: $ferrule is missing: go install github.com/ferrule-dev/ferrule/cmd/ferrule@latest" >&2
    exit 3
}

expect() { # FUNCTION INPUT RESULT
    found=$("$ferrule" call "$library" "$1" --in "$2")
    [ "$found" = "$3" ] || {
        echo "test.sh: $1 of '$2': found '$found', expected '$3'" >&2
        exit 1
    }
}

expect greet Ada "Hello, Ada!"
expect greet "" "Hello, world!"
"$ferrule" check --strict "$library"
