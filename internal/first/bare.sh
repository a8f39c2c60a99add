#!/bin/sh
# The first result without a compiler: `make bare`. It makes a bare Debian in which there is Go and no C compiler, and runs examples/first
# there; and examples/market, whose plug-ins in C are built outside, and which fetches them by the digests in its lock. It has no network but
# for the release page that serves them. Modules come from the caller's cache of them, which is filled before where something is missing.
#
# It needs root, debootstrap, a C compiler, and a Debian whose apt says where packages come from.
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
need ip "apt-get install iproute2"
need cc "apt-get install gcc"
[ "$(id -u)" = 0 ] || fail "found the user $(id -un), expected root, who may change the root folder. Run it by sudo"

source=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | head -n 1)
[ -n "$source" ] || fail "found no source of packages in apt's configuration, expected one: apt-get update"
"$GO" list -deps ./examples/first ./examples/market >/dev/null || fail "the modules of the examples are not to be had"
goroot=$("$GO" env GOROOT) modules=$("$GO" env GOMODCACHE)/cache/download

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT # what is mounted below it is so in a namespace of its own
trap 'exit 130' INT TERM HUP
echo "a bare ${source##* }:"
# Unpacked, and not configured: a shell and the C library need no more, and it is many times as quick.
debootstrap --foreign --variant=minbase "${source##* }" "$root" "${source%% *}" >"$root.log" 2>&1 || {
	tail -n 5 "$root.log" >&2
	fail "debootstrap failed: $root.log"
}
rm -f "$root.log"
[ ! -L "$root/proc" ] || rm "$root/proc" # in a container debootstrap leaves a link to the outer one
mkdir -p "$root/proc" "$root/go" "$root/ferrule" "$root/modules" "$root/app" "$root/published"

# The side of those who have a compiler: plug-ins, which are published, and an application's config.yaml with its lock.
sh examples/build.sh market/sample-plugin market/advance-plugin >/dev/null
mkdir "$root/tools"
"$GO" build -o "$root/tools/" ./cmd/ferrule ./examples/market/pages
for name in sample advance; do
	"$root/tools/ferrule" push --to "$root/published" --tag v1.0.0 "build/examples/market/$name-plugin.so" >/dev/null 2>&1 || fail "ferrule push failed"
done
sed '/keys:/d' examples/market/config.yaml >"$root/app/config.yaml" # no signatures: the digests of the lock alone
cp "$root/app/config.yaml" "$root/tools/config.yaml"
(cd "$root/tools" && ./pages ../published config.yaml ./ferrule install --store store >/dev/null 2>&1) || fail "ferrule install failed"
cp "$root/tools/ferrule.lock" "$root/app/"
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
# try EXPECTED COMMAND...: run a command, whose output is to have a line.
try() {
	expected=$1 begin=$(date +%s)
	shift
	echo "\$ $*"
	"$@" >/tmp/said 2>/tmp/logged || {
		cat /tmp/logged >&2
		exit 1
	}
	cat /tmp/said
	echo "$(($(date +%s) - begin)) s"
	grep -q "$expected" /tmp/said || {
		echo "bare: found no line as $expected, expected one" >&2
		exit 1
	}
}
try '^vowels 1.0.0: 3 vowels$' go run ./examples/first 'Hello, world'
grep digest: /app/ferrule.lock
try '^ada@example.com gets 20 % off' go run ./examples/market /app/config.yaml

echo 'one byte of what is published is another one, and nothing is in the store:'
rm -rf /app/store
printf X | dd of=/published/v1.0.0/sample-plugin-linux-"$(go env GOARCH)".so bs=1 seek=9000 conv=notrunc 2>/tmp/logged
try 'found bytes with the digest sha256:[0-9a-f]*, expected sha256:[0-9a-f]*\. Somebody changed them' go run ./examples/market /app/config.yaml
INSIDE
unshare --mount --net --pid --fork sh -euc '
	root=$1
	mount --bind "$2" "$root/go" && mount -o remount,bind,ro "$root/go"
	mount --bind "$3" "$root/modules" && mount -o remount,bind,ro "$root/modules"
	mount --bind . "$root/ferrule" && mount -o remount,bind,ro "$root/ferrule"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	ip link set lo up
	exec "$root/tools/pages" "$root/published" "$root/app/config.yaml" chroot "$root" env -i PATH=/go/bin:/usr/bin:/bin HOME=/root GOROOT=/go GOTOOLCHAIN=local GOPROXY=file:///modules GOSUMDB=off sh /bare.sh
' sh "$root" "$goroot" "$modules"
