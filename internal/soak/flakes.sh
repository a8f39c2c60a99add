#!/bin/sh
# Whether tests fail once in a while: `make flakes`, from the root of the tree. It builds the tests of PKG once, and runs them ROUNDS times, each in a
# process of its own and in another order, JOBS packages at a time, beside BUSY processes that do nothing but take processors. Without PKG all are run,
# which takes as many times as long as `make test` and `make rest`. It says how often each test failed, with what it wrote, and fails where one did.
set -eu
GO=${GO:-go} ROUNDS=${ROUNDS:-20} BUSY=${BUSY:-2} JOBS=${JOBS:-2} SKIP=${SKIP:-'^$'}
[ -n "${PKG:-}" ] || { echo "flakes: found no PKG, expected the packages to test, such as ./loader/..." >&2; exit 1; }
case $ROUNDS:$BUSY:$JOBS in
*[!0-9:]* | :* | *: | *::* | 0:* | *:0) echo "flakes: found ROUNDS=$ROUNDS, BUSY=$BUSY and JOBS=$JOBS, expected numbers, of rounds and jobs one at least" >&2 && exit 1 ;;
esac

kept=$(mktemp -d) busy=
trap 'kill $busy 2>/dev/null || true; rm -rf "$kept"' EXIT
trap 'exit 130' INT TERM HUP

# A package each: its folder, and in it the program of its tests.
# shellcheck disable=SC2086 # there may be several packages
$GO list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}' $PKG >"$kept/list"
grep -q . "$kept/list" || { echo "flakes: found no tests in $PKG" >&2; exit 1; }
count=0
while read -r path dir; do
	count=$((count + 1))
	mkdir "$kept/$count"
	$GO test -c -vet=off -ldflags=-w -o "$kept/$count/tests" "$path" || { echo "flakes: the tests of $path do not build" >&2; exit 1; }
	echo "$path" >"$kept/$count/path"
	echo "$dir" >"$kept/$count/dir"
done <"$kept/list"

i=0
while [ $i -lt "$BUSY" ]; do
	sh -c 'while :; do :; done' &
	busy="$busy $!" i=$((i + 1))
done

export SKIP kept
# What runs the tests of one package: it leaves what they wrote in said, and failed where they did.
# shellcheck disable=SC2016 # for the other shell
one='cd "$kept/$1" && rm -f failed && tests=$PWD/tests && at=$PWD && cd "$(cat dir)" &&
	"$tests" -test.paniconexit0 -test.count=1 -test.shuffle=on -test.timeout=60m -test.skip="$SKIP" >"$at/said" 2>&1 </dev/null || touch "$at/failed"'

round=0 bad=0 ran='' begin=$(date +%s)
: >"$kept/failures"
while [ $round -lt "$ROUNDS" ]; do
	round=$((round + 1)) failed=0
	seq "$count" | xargs -P "$JOBS" -I '{}' sh -c "$one" sh '{}'
	for i in $(seq "$count"); do
		[ $round -gt 1 ] || grep -q 'no tests to run' "$kept/$i/said" || ran=1
		[ -e "$kept/$i/failed" ] || continue
		failed=1
		echo "round $round: $(cat "$kept/$i/path")"
		# What is said of a failure may stand before much that other tests wrote.
		grep -n -A 40 -e '--- FAIL: ' -e '^panic: ' -e '^fatal error: ' -e '^WARNING: DATA RACE' "$kept/$i/said" | head -n 1000 || true
		tail -n 100 "$kept/$i/said"
		path=$(cat "$kept/$i/path")
		# The tests that failed, or the package, where it ended in the middle.
		grep -o -e '--- FAIL: [^ ]*' "$kept/$i/said" | sort -u >"$kept/some"
		[ -s "$kept/some" ] || echo "--- FAIL:" >"$kept/some"
		sed "s|\$| $path|" "$kept/some" >>"$kept/failures"
	done
	[ -n "$ran" ] || { echo "flakes: no test ran in the first round: $PKG" >&2; exit 1; }
	bad=$((bad + failed))
	echo "round $round of $ROUNDS, $count packages: $bad with failures ($(($(date +%s) - begin)) s)"
done
sort "$kept/failures" | uniq -c | sort -rn
[ "$bad" = 0 ] || { echo "flakes: $bad of $ROUNDS rounds failed" >&2; exit 1; }
echo "flakes: none of $ROUNDS rounds failed"
