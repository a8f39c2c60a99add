#!/bin/sh
# go mod tidy for every module of go.work. The modules require each other at a version that need not be published, and
# `go mod tidy` does not look at go.work: so it works on a copy of each go.mod in which the tree's modules stand in for them.
#
#     sh internal/modules/tidy.sh         writes what has changed to go.mod and go.sum
#     sh internal/modules/tidy.sh -diff   writes nothing, and fails where there is a difference
set -eu
cd "$(dirname "$0")/../.."
GO=${GO:-go} root=$PWD
unset GOWORK # the modules are those of this tree's go.work
[ $# = 0 ] || [ "$*" = -diff ] || { echo "tidy.sh: found '$*', expected nothing or -diff" >&2; exit 2; }

all=$("$GO" list -m -f '{{.Path}} {{.Dir}}')
mkdir -p build
tmp=$(mktemp -d "$root/build/tidy.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP # of which a shell may know no EXIT: dash
failed=0
IFS='
' # a folder's name may have a space in it
set -f
for dir in $(echo "$all" | cut -d' ' -f2-); do
    cp "$dir/go.mod" "$tmp/alt.mod"
    rm -f "$tmp/alt.sum"
    [ ! -e "$dir/go.sum" ] || cp "$dir/go.sum" "$tmp/alt.sum"
    replaced=$(echo "$all" | while IFS=' ' read -r path other; do [ "$other" = "$dir" ] || echo "$path=$other"; done)
    for r in $replaced; do "$GO" mod edit -replace "$r" "$tmp/alt.mod"; done
    if ! (cd "$dir" && GOWORK=off "$GO" mod tidy "$@" -modfile="$tmp/alt.mod"); then
        echo "tidy.sh: the requirements of $dir are not tidy: make tidy" >&2
        failed=1
    elif [ $# = 0 ]; then
        for r in $replaced; do "$GO" mod edit -dropreplace "${r%%=*}" "$tmp/alt.mod"; done
        cmp -s "$tmp/alt.mod" "$dir/go.mod" || cp "$tmp/alt.mod" "$dir/go.mod"
        [ ! -e "$tmp/alt.sum" ] || cmp -s "$tmp/alt.sum" "$dir/go.sum" || cp "$tmp/alt.sum" "$dir/go.sum"
    fi
done
exit $failed
