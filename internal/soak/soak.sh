#!/bin/sh
# What has no end of its own: `make stress`, `make fuzz` and `make rounds`, from the root of the tree.
#
#     DURATION=8h sh internal/soak/soak.sh stress|fuzz|rounds
#
# DURATION is a number with s, m or h, seconds without. Rounds are done until it is over; what has begun is brought to its
# end. Without it there is one round. The first failure ends it. Ratios and counts are printed, none of them fails.
set -eu
GO=${GO:-go} GOTEST=${GOTEST:-$GO test}

fail() {
	echo "soak: $*" >&2
	exit 1
}

now() { date +%s; }
begin=$(now)
duration=${DURATION:-0}
case $duration in
*[!0-9smh]* | ?*[smh]?* | [smh]*) fail "found DURATION=$duration, expected a number with s, m or h" ;;
*h) end=$((begin + ${duration%h} * 3600)) ;;
*m) end=$((begin + ${duration%m} * 60)) ;;
*) end=$((begin + ${duration%s})) ;;
esac
left() { [ "$(now)" -lt "$end" ]; }

say() { printf '%s (%d s)\n' "$*" $(($(now) - begin)); }

# Each is something that no round leaves out; how much is in it grows only by rounds.
stress_parts="kills quick direct cgo-off portable back system engines index store nodes"
stress() { # PART
	case $1 in
	kills) FERRULE_TEST_KILLS=1000 FERRULE_TEST_LARGE=1024 $GOTEST -count=1 -run 'KilledUnderLoad|Large' ./loader/isolate ;;
	quick)
		FERRULE_STRESS=30s $GOTEST -count=1 -v -timeout 20m -run QuickTorture ./loader &&
			CGO_ENABLED=0 FERRULE_STRESS=30s $GOTEST -count=1 -v -timeout 20m -run QuickTorture ./loader
		;;
	direct) $GOTEST -count=1 -tags ferrule_stress -timeout 20m ./loader ;;
	cgo-off) CGO_ENABLED=0 $GOTEST -count=1 -tags ferrule_stress -timeout 20m ./loader ;;
	system) FERRULE_REPLACEMENTS=200 FERRULE_STRESS=30s $GOTEST -race -count=1 -timeout 20m -run 'Stress|UnderLoad|HandedOver' ./plugins ;;
	engines) FERRULE_SOAK=30s $GOTEST -count=1 -timeout 20m -run '^TestSoak$' ./internal/soak ;;
	index) FERRULE_INDEX=100000 $GOTEST -count=1 -v -timeout 20m -run TestOfMany ./plugins/index ;;
	store) FERRULE_STRESS=30s $GOTEST -race -count=1 -timeout 20m -run 'Kill|FoundStays' ./plugins/lock ./plugins/store ;;
	nodes) FERRULE_TEST_SOAK=30s $GOTEST -race -count=1 -v -timeout 20m -run '^(TestFaults.*|TestBrokers)$/^/^(Faults|)$' ./loader/remote ;;
	portable) $GOTEST -count=1 -tags ferrule_stress,ferrule_portable -timeout 20m ./loader ;;
	back)
		FERRULE_STRESS=30s $GOTEST -race -count=1 -v -timeout 20m -run Torture ./loader &&
			CGO_ENABLED=0 FERRULE_STRESS=30s $GOTEST -count=1 -v -timeout 20m -run Torture ./loader
		;;
	esac
}

# Executions rather than seconds: at the end of a time Go may call the last execution a failure. FuzzHostile plays a whole
# worker in each, and takes a hundred times as long as the others.
targets() { # lines of "TARGET FOLDER"
	$GO list -f '{{.Dir}}' work | while read -r dir; do
		cat "$dir"/*_test.go 2>/dev/null | sed -n "s|^func \(Fuzz[A-Za-z0-9_]*\).*|\1 $dir|p"
	done
}
executions=${EXECUTIONS:-5000}
fuzz() { # TARGET FOLDER
	x=$executions
	[ "$1" != FuzzHostile ] || x=$((executions / 50))
	say "$1: $x executions"
	out=$($GO test -run '^$' -fuzz "^$1\$" -fuzztime "${x}x" -fuzzminimizetime 10x "$2" 2>&1) || {
		printf '%s\n' "$out"
		fail "$1 in $2 failed"
	}
}

round=0
all=$(targets)
count=$(printf '%s\n' "$all" | grep -c .) || fail "found no fuzz target"
while [ $round = 0 ] || left; do
	round=$((round + 1))
	case $1 in
	stress | rounds)
		for part in $stress_parts; do
			[ $round = 1 ] || left || break
			say "stress: $part"
			stress "$part"
		done
		;;
	esac
	case $1 in
	fuzz | rounds)
		n=0
		while read -r target dir; do
			[ $round = 1 ] || left || break
			fuzz "$target" "$dir"
			n=$((n + 1))
		done <<END
$all
END
		echo "ok: $n of $count fuzz targets with $executions executions"
		[ $executions -ge 5000000 ] || executions=$((executions * 4))
		;;
	stress) ;;
	*) fail "found '$1', expected stress, fuzz or rounds" ;;
	esac
done
say "$1: rounds: $round"
