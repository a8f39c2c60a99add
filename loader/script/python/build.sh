#!/bin/sh
# Builds the adapter of Python: build.sh FILE. PYTHON_CONFIG names the command of the Python that it embeds.
set -eu
cd "$(dirname "$0")"
config=${PYTHON_CONFIG:-python3-config}
# shellcheck disable=SC2046 # flags are words
${CC:-cc} -O2 -Wall -Wextra -shared -fPIC -fvisibility=hidden -I../../../include -I../../../sdk-c/include $($config --includes) -o "$1" adapter.c $($config --ldflags --embed) -ldl -lpthread
