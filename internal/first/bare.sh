#!/bin/sh
# The first result without a compiler: `make bare`. It makes a bare Debian in which there is Go and no C compiler, and runs examples/first
# there, without a network. Modules come from the caller's cache of them, which is filled before where something is missing.
#
# It needs root, debootstrap, and a Debian whose apt says where packages come from.
set -eu
cd "$(dirname "$0")/../.."
GO=${GO:-go}

fail() {
	echo "bare: $*" >&2
	exit 1
}
need() { command -v "$1" >/dev/null 2>&1 || fail "$1 is missing: $2"; }
need "$GO" "see https://go.dev/dl"
need debootstrap "apt-get install debootstrap"
need unshare "apt-get install util-linux"
[ "$(id -u)" = 0 ] || fail "found the user $(id -un), expected root, who may change the root folder. Run it by sudo"

source=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | head -n 1)
[ -n "$source" ] || fail "found no source of packages in apt's configuration, expected one: apt-get update"
"$GO" list -deps ./examples/first >/dev/null || fail "the modules of examples/first are not to be had"
goroot=$("$GO" env GOROOT) modules=$("$GO" env GOMODCACHE)/cache/download

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT # what is mounted below it is so in a namespace of its own
echo "a bare ${source##* }:"
# Unpacked, and not configured: a shell and the C library need no more, and it is many times as quick.
debootstrap --foreign --variant=minbase "${source##* }" "$root" "${source%% *}" >"$root.log" 2>&1 || {
	tail -n 5 "$root.log" >&2
	fail "debootstrap failed: $root.log"
}
rm -f "$root.log"
mkdir -p "$root/go" "$root/ferrule" "$root/modules"
cat >"$root/bare.sh" <<'INSIDE'
set -eu
for compiler in cc gcc c99 clang tcc; do
	if command -v "$compiler"; then
		echo "bare: found $compiler, expected no C compiler" >&2
		exit 1
	fi
done
echo "no C compiler; go env CGO_ENABLED says $(go env CGO_ENABLED)"
cd /ferrule
echo '$ go run ./examples/first "Hello, world"'
begin=$(date +%s)
go run ./examples/first "Hello, world" >/tmp/said
cat /tmp/said
echo "$(($(date +%s) - begin)) s, with nothing built before"
[ "$(cat /tmp/said)" = "vowels 1.0.0: 3 vowels" ]
INSIDE
unshare --mount --net --pid --fork sh -euc '
	root=$1
	mount --bind "$2" "$root/go" && mount -o remount,bind,ro "$root/go"
	mount --bind "$3" "$root/modules" && mount -o remount,bind,ro "$root/modules"
	mount --bind . "$root/ferrule" && mount -o remount,bind,ro "$root/ferrule"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	exec chroot "$root" env -i PATH=/go/bin:/usr/bin:/bin HOME=/root GOROOT=/go GOTOOLCHAIN=local GOPROXY=file:///modules GOSUMDB=off sh /bare.sh
' sh "$root" "$goroot" "$modules"
