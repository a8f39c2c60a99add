#!/bin/sh
# README's two commands where nothing else is: `make fresh`. It makes a bare Debian with Go, a C compiler and make, and nothing that a Debian has not
# by itself, clones the last commit into it, and runs there what README says first: make demo and make test. COMMANDS are others.
# It has no network: modules come from the caller's cache of them, which is filled before where something is missing.
#
# It needs root, debootstrap, git, and a Debian whose apt says where packages come from.
set -eu
cd "$(dirname "$0")/../.."
GO=${GO:-go} COMMANDS=${COMMANDS:-make demo;make test}

fail() {
	echo "fresh: $*" >&2
	exit 1
}
need() { command -v "$1" >/dev/null 2>&1 || fail "$1 is missing: $2"; }
need "$GO" "see https://go.dev/dl"
need debootstrap "apt-get install debootstrap"
need unshare "apt-get install util-linux"
need ip "apt-get install iproute2"
need git "apt-get install git"
[ "$(id -u)" = 0 ] || fail "found the user $(id -un), expected root, who may change the root folder. Run it by sudo"

source=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | head -n 1)
[ -n "$source" ] || fail "found no source of packages in apt's configuration, expected one: apt-get update"
"$GO" mod download || fail "the modules are not to be had"
goroot=$("$GO" env GOROOT) modules=$("$GO" env GOMODCACHE)/cache/download

root=$(mktemp -d)
chmod 755 "$root" # it is the root of everybody there
trap 'rm -rf "$root" "$root.log"' EXIT # what is mounted below it is so in a namespace of its own
trap 'exit 130' INT TERM HUP
echo "a bare ${source##* } with a C compiler and make:"
debootstrap --variant=minbase --include=gcc,libc6-dev,make,mount "${source##* }" "$root" "${source%% *}" >"$root.log" 2>&1 || {
	tail -n 20 "$root.log" >&2
	fail "debootstrap failed"
}
[ ! -L "$root/proc" ] || rm "$root/proc" # in a container debootstrap leaves a link to the outer one
mkdir -p "$root/proc" "$root/go" "$root/modules"
echo '127.0.0.1 localhost' >"$root/etc/hosts" # what an installed Debian has
git clone --quiet --no-hardlinks . "$root/ferrule"
cat >"$root/fresh.sh" <<'INSIDE'
set -eu
for tool in cargo rustc g++ clang git node python3 pkg-config; do
	if command -v "$tool"; then
		echo "fresh: found $tool, expected Go, a C compiler and make" >&2
		exit 1
	fi
done
cd /ferrule
printf '%s\n' "$1" | tr ';' '\n' | while read -r command; do
	echo "\$ $command"
	begin=$(date +%s)
	sh -c "$command" </dev/null || exit
	echo "$command: $(($(date +%s) - begin)) s"
done
INSIDE
unshare --mount --net --pid --fork sh -euc '
	root=$1
	mount --bind "$root" "$root" # a mount of its own, and the root of everything afterwards: in a chroot alone nothing is shut in
	mount --bind "$2" "$root/go" && mount -o remount,bind,ro "$root/go"
	mount --bind "$3" "$root/modules" && mount -o remount,bind,ro "$root/modules"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	ip link set lo up
	cd "$root"
	mkdir old
	pivot_root . old
	exec chroot . sh -euc '\''
		umount --lazy /old
		rmdir /old
		exec env -i PATH=/go/bin:/usr/bin:/bin HOME=/root GOROOT=/go GOTOOLCHAIN=local GOPROXY=file:///modules GOSUMDB=off sh /fresh.sh "$1"
	'\'' sh "$4"
' sh "$root" "$goroot" "$modules" "$COMMANDS"
