#!/bin/sh
# Runs a Windows program in Wine: wine.sh ROOT PROGRAM [ARGUMENT…]. ROOT is a folder with a Debian that has Wine
# (tools.go makes it), in which the program sees this checkout and the folder for temporary files where they are here. It
# needs root, for the mounts; they are in a namespace of their own and go with it.
set -eu
checkout=$(cd "$(dirname "$0")/../.." && pwd)
ROOT=$1 CHECKOUT=$checkout TEMP_HERE=${TMPDIR:-/tmp}
export ROOT CHECKOUT TEMP_HERE WINEPREFIX=/var/lib/wine WINEDEBUG=-all XDG_RUNTIME_DIR=/run
unset TMPDIR # with it Wine aborts before it begins
shift
exec unshare --mount sh -c '
    for dir in /proc /dev "$TEMP_HERE" "$CHECKOUT"; do
        mkdir -p "$ROOT$dir"
        mount --rbind "$dir" "$ROOT$dir"
    done
    FOLDER=$PWD
    export FOLDER
    exec chroot "$ROOT" sh -c "cd \"\$FOLDER\"; exec /usr/lib/wine/wine64 \"\$@\"" sh "$@"' sh "$@"
