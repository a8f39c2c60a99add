#!/bin/sh
# Builds the adapter of Python: build.sh FILE, with FILE's path from the root. PYTHON_CONFIG names the command that says how the Python that it embeds is linked;
# without it, it is the first python3-config of PATH whose Python can be embedded: one without a shared library cannot.
# FERRULE_INCLUDE is a folder with the headers of the contract and of the SDK in C; without it they are this tree's.
set -eu
cd "$(dirname "$0")"
if [ -n "${FERRULE_INCLUDE:-}" ]; then
	headers="-I$FERRULE_INCLUDE"
else
	headers='-I../../../include -I../../../sdk-c/include'
fi

# adapter CONFIG FILE
adapter() {
	# The library stays: threads of Python run in it, and end in it.
	case $(uname -s) in Darwin) stays= ;; *) stays=-Wl,-z,nodelete ;; esac
	# shellcheck disable=SC2046,SC2086 # these are words
	${CC:-cc} -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden $headers $("$1" --includes | sed 's/-I/-isystem /g') \
		-DPREFIX="\"$("$1" --exec-prefix)\"" $stays -o "$2" adapter.c $("$1" --ldflags --embed) -ldl -lpthread
}

if [ -n "${PYTHON_CONFIG:-}" ]; then
	adapter "$PYTHON_CONFIG" "$1"
	exit
fi
said=$(mktemp)
trap 'rm -f "$said"' EXIT
trap 'exit 130' INT TERM HUP
IFS=:
for dir in $PATH; do
	unset IFS
	[ -x "$dir/python3-config" ] || continue
	if adapter "$dir/python3-config" "$1" 2>"$said.one"; then rm -f "$said.one"; exit; fi
	{ echo "build.sh: with $dir/python3-config:"; cat "$said.one"; } >>"$said"
	rm -f "$said.one"
done
cat "$said" >&2
[ -s "$said" ] || echo "build.sh: found no python3-config in PATH, expected that of the Python that is to run scripts: on Debian, apt-get install python3-dev" >&2
exit 1
