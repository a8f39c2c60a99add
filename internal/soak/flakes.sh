#!/bin/sh
# Whether tests fail once in a while: `make flakes`, from the root of the tree. It runs the tests of PKG, ROUNDS times, in another order each time,
# beside BUSY processes that do nothing but take processors; without PKG all of them, which takes as many times as long as `make test`.
# It says how often each test failed, with what it wrote, and fails where one did.
set -eu
GO=${GO:-go} GOTEST=${GOTEST:-$GO test} ROUNDS=${ROUNDS:-20} BUSY=${BUSY:-2} SKIP=${SKIP:-'^$'}
[ -n "${PKG:-}" ] || { echo "flakes: found no PKG, expected the packages to test, such as ./loader/..." >&2; exit 1; }
case $ROUNDS$BUSY in
0* | *[!0-9]*) echo "flakes: found ROUNDS=$ROUNDS and BUSY=$BUSY, expected numbers, of rounds one at least" >&2 && exit 1 ;;
esac

kept=$(mktemp -d) busy=
trap 'kill $busy 2>/dev/null || true; rm -rf "$kept"' EXIT
trap 'exit 130' INT TERM HUP
i=0
while [ $i -lt "$BUSY" ]; do
	sh -c 'while :; do :; done' &
	busy="$busy $!" i=$((i + 1))
done

round=0 bad=0 begin=$(date +%s)
: >"$kept/failed"
while [ $round -lt "$ROUNDS" ]; do
	round=$((round + 1))
	# shellcheck disable=SC2086 # there may be several packages
	if $GOTEST -vet=off -count=1 -shuffle=on -timeout 60m -skip "$SKIP" $PKG >"$kept/said" 2>&1; then
		[ $round -gt 1 ] || grep -q ' [1-9][0-9]* passed' "$kept/said" || grep '^ok  ' "$kept/said" | grep -qv 'no tests to run' || { echo "flakes: no test passed in the first round: $PKG" >&2; exit 1; }
	else
		bad=$((bad + 1))
		echo "round $round:"
		cat "$kept/said"
		# The line of each test that failed, or of a package that has no such line: it did not build, or ended in the middle.
		grep -o -e '--- FAIL: [^ ]*' "$kept/said" >>"$kept/failed" || sed -n 's/^FAIL[[:space:]]\([^[:space:]]*\).*/--- FAIL: \1/p' "$kept/said" >>"$kept/failed"
	fi
	echo "round $round of $ROUNDS: $bad with failures ($(($(date +%s) - begin)) s)"
done
sort "$kept/failed" | uniq -c | sort -rn
[ "$bad" = 0 ] || { echo "flakes: $bad of $ROUNDS rounds failed" >&2; exit 1; }
echo "flakes: none of $ROUNDS rounds failed"
