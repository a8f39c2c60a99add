# What a plug-in exports is the contract's symbols and no other, whatever compilers and linkers drop or hide.
. tests/common.sh

readme c >"$BUILD/readme.c"
readme cpp >"$BUILD/readme.cpp"
# The names come from the source: what its macros say is what must be exported.
names() {
    {
        printf 'ferrule_manifest\nferrule_batch\n'
        sed -n -e 's/^FERRULE_\(CPP_\)\{0,1\}FN(\([a-z_]*\).*/ferrule_fn_\2/p' \
            -e 's/^FERRULE_\(CPP_\)\{0,1\}HOOK(\([a-z_]*\).*/ferrule_hook_\2/p' \
            -e 's/.*FERRULE_\(CPP_\)\{0,1\}IMPORT(\([a-z_]*\)).*/ferrule_import_\2/p' \
            -e 's/^FERRULE_START .*/ferrule_start/p' -e 's/^FERRULE_STOP .*/ferrule_stop/p' \
            -e '/^FERRULE_CPP_STATE/{s/.*/ferrule_start/p;s/.*/ferrule_stop/p;}' "$1"
    } | sort
}
names "$BUILD/readme.c" >"$BUILD/c.expected"
names "$BUILD/readme.cpp" >"$BUILD/cpp.expected"
if [ "$(wc -l <"$BUILD/c.expected")" -lt 18 ] || [ "$(wc -l <"$BUILD/cpp.expected")" -lt 11 ]; then
    echo "README.md has lost examples: $(cat "$BUILD/c.expected" "$BUILD/cpp.expected" | tr '\n' ' ')" >&2
    exit 1
fi

elf_exports() { nm -D --defined-only "$1" | awk '{ print $NF }' | sort; }
pe_exports() {
    x86_64-w64-mingw32-objdump -p "$1" |
        awk '/Ordinal\/Name Pointer/ { on = 1; next } on && !NF { exit } on { print $NF }' | sort
}

# same FILE EXPECTED WHAT: compares the exports on standard input.
same() {
    if ! diff -u "$2" - >"$BUILD/diff"; then
        echo "$3: the exports differ from what the source says:" >&2
        cat "$BUILD/diff" >&2
        exit 1
    fi
    # The manifest is to be read from the file, without running anything: its bytes stand there.
    if ! tr '\0' '\n' <"$1" | grep -a -A2 '^ferrule=1$' | grep -a -q '^version=1.0.0$'; then
        echo "$3: the manifest's text is not in the file" >&2
        exit 1
    fi
    echo "ok: $3"
}

sections="-ffunction-sections -fdata-sections -Wl,--gc-sections"
for family in gcc:g++ clang:clang++; do
    c=${family%:*}
    cpp=${family#*:}
    need $c $c || continue
    linker=
    if [ $c = clang ]; then
        need ld.lld lld || continue
        linker=-fuse-ld=lld # for -flto
    fi
    need $cpp $cpp || continue
    for flags in -O2 "-O2 -flto" "-O2 -fvisibility=hidden" "-O2 $sections" \
        "-O3 -flto -fvisibility=hidden $sections -s"; do
        run $c -std=c11 $flags $linker $INCLUDES -shared -fPIC -o "$BUILD/c.so" "$BUILD/readme.c"
        strip -s "$BUILD/c.so"
        elf_exports "$BUILD/c.so" | same "$BUILD/c.so" "$BUILD/c.expected" "$c $flags, stripped"
        # C++ leaves weak symbols of templates in the table; none of those may have the contract's prefix, or be
        # unique in the process, which would keep the library from being unloaded.
        run $cpp -std=c++17 $flags $linker $INCLUDES -shared -fPIC -o "$BUILD/cpp.so" "$BUILD/readme.cpp"
        strip -s "$BUILD/cpp.so"
        elf_exports "$BUILD/cpp.so" | grep '^ferrule_' |
            same "$BUILD/cpp.so" "$BUILD/cpp.expected" "$cpp $flags, stripped"
        if nm -D "$BUILD/cpp.so" | grep ' u .*ferrule'; then
            echo "$cpp $flags: the symbol above is unique in the process" >&2
            exit 1
        fi
    done
done

c=x86_64-w64-mingw32-gcc
cpp=x86_64-w64-mingw32-g++
if need $c gcc-mingw-w64-x86-64 && need $cpp g++-mingw-w64-x86-64; then
    for flags in -O2 "-O2 -flto" "-O2 $sections" "-O3 -flto $sections -s"; do
        run $c -std=c11 $flags $INCLUDES -shared -o "$BUILD/c.dll" "$BUILD/readme.c"
        x86_64-w64-mingw32-strip -s "$BUILD/c.dll"
        pe_exports "$BUILD/c.dll" | same "$BUILD/c.dll" "$BUILD/c.expected" "$c $flags, stripped"
        run $cpp -std=c++17 $flags $INCLUDES -shared -o "$BUILD/cpp.dll" "$BUILD/readme.cpp"
        x86_64-w64-mingw32-strip -s "$BUILD/cpp.dll"
        pe_exports "$BUILD/cpp.dll" | same "$BUILD/cpp.dll" "$BUILD/cpp.expected" "$cpp $flags, stripped"
    done
fi
