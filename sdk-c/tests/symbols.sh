# What a plug-in exports is the contract's symbols and no other, whatever compilers and linkers drop or hide, and what
# is left of it still runs.
. tests/exports.sh

{
    readme c
    echo 'FERRULE_FN_META(upper, FERRULE_DOC("Makes letters large.") FERRULE_IN("text/plain"));'
    echo 'FERRULE_IMPORT_META(echo, FERRULE_DOC("Returns its input."));'
    echo 'FERRULE_CONFIG_SCHEMA = "{}";'
} >"$BUILD/readme.c"
{
    readme cpp
    echo 'FERRULE_HOOK_META(before_print, FERRULE_DOC("Makes it loud."));'
} >"$BUILD/readme.cpp"
# The names come from the source: what its macros say is what must be exported.
names() {
    {
        printf 'ferrule_manifest\nferrule_batch\n'
        sed -n -e 's/^FERRULE_\(CPP_\)\{0,1\}FN(\([a-z_]*\).*/ferrule_fn_\2/p' \
            -e 's/^FERRULE_\(CPP_\)\{0,1\}HOOK(\([a-z_]*\).*/ferrule_hook_\2/p' \
            -e 's/.*FERRULE_\(CPP_\)\{0,1\}IMPORT(\([a-z_]*\)).*/ferrule_import_\2/p' \
            -e 's/.*FERRULE_\(CPP_\)\{0,1\}WANT(\([a-z_]*\)).*/ferrule_want_\2/p' \
            -e 's/^FERRULE_\(CPP_\)\{0,1\}CONFIGURE.*/ferrule_configure/p' \
            -e 's/^FERRULE_\(CPP_\)\{0,1\}SAVE.*/ferrule_save/p' \
            -e 's/^FERRULE_\(CPP_\)\{0,1\}RESUME.*/ferrule_resume/p' -e 's/^FERRULE_CONFIG_SCHEMA.*/ferrule_meta_config/p' \
            -e 's/^FERRULE_FN_META(\([a-z_]*\).*/ferrule_meta_fn_\1/p' \
            -e 's/^FERRULE_HOOK_META(\([a-z_]*\).*/ferrule_meta_hook_\1/p' \
            -e 's/^FERRULE_IMPORT_META(\([a-z_]*\).*/ferrule_meta_import_\1/p' \
            -e 's/^FERRULE_START .*/ferrule_start/p' -e 's/^FERRULE_STOP .*/ferrule_stop/p' \
            -e '/^FERRULE_CPP_STATE/{s/.*/ferrule_start/p;s/.*/ferrule_stop/p;}' "$1"
    } | sort
}
names "$BUILD/readme.c" >"$BUILD/c.expected"
names "$BUILD/readme.cpp" >"$BUILD/cpp.expected"
if [ "$(wc -l <"$BUILD/c.expected")" -lt 20 ] || [ "$(wc -l <"$BUILD/cpp.expected")" -lt 12 ]; then
    echo "README.md has lost examples: $(cat "$BUILD/c.expected" "$BUILD/cpp.expected" | tr '\n' ' ')" >&2
    exit 1
fi

sections="-ffunction-sections -fdata-sections -Wl,--gc-sections"

# build KIND COMPILER FLAGS FILE: KIND is c or cpp, the ending of the source.
build() {
    std=c11
    pic=-fPIC
    if [ "$1" = cpp ]; then std=c++17; fi
    case $4 in *.dll) pic= ;; esac
    run $2 -std=$std $3 $pic $INCLUDES -shared -o "$4" "$BUILD/readme.$1"
}

# survives KIND COMPILER LINKER STRIP EXT: builds with all that could drop a symbol, by itself and together, and strips
# in each way. C in ELF exports nothing else at all, and what this machine can load is called.
survives() {
    for flags in -O0 -O2 -O3 -Os "-O2 -fvisibility=hidden" "-O2 -flto" "-O2 $sections" \
        "-O3 -flto -fvisibility=hidden $sections -s"; do
        file=$BUILD/$1.$5
        what="$2 $flags"
        build "$1" "$2" "$flags $3" "$file"
        for how in none default -s --strip-unneeded; do
            stripped=$BUILD/$1.stripped.$5
            after="$what, strip: $how"
            case $how in
            none) cp "$file" "$stripped" ;;
            default) run $4 -o "$stripped" "$file" ;;
            *) run $4 $how -o "$stripped" "$file" ;;
            esac
            exports "$stripped" "$BUILD/$1.expected" "$after"
            case $1.$5 in
            c.so) elf_exports "$stripped" | same "$BUILD/$1.expected" "$after" ;;
            # None of the contract's may be unique in the process, which would keep the library from being unloaded.
            cpp.so)
                if nm -D "$stripped" | grep ' u .*ferrule'; then
                    echo "$what: the symbol above is unique in the process" >&2
                    exit 1
                fi
                ;;
            esac
            case $5 in so) answers "$stripped" hi "$after" ask --in hi --import echo=cat ;; esac
        done
        echo "ok: $what, as it is and stripped"
    done
}

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
    survives c $c "$linker" strip so
    survives cpp $cpp "$linker" strip so
    # Libraries with a sanitizer run in a host with one: behaviour.sh. Here they have their symbols, and others.
    for flags in -fsanitize=address,undefined -fsanitize=thread; do
        for kind in c cpp; do
            compiler=$c
            if [ $kind = cpp ]; then compiler=$cpp; fi
            build $kind $compiler "-O1 $flags" "$BUILD/$kind.so"
            exports "$BUILD/$kind.so" "$BUILD/$kind.expected" "$compiler $flags"
            echo "ok: $compiler $flags"
        done
    done
done

c=x86_64-w64-mingw32-gcc
cpp=x86_64-w64-mingw32-g++
if need $c gcc-mingw-w64-x86-64 && need $cpp g++-mingw-w64-x86-64; then
    survives c $c "" x86_64-w64-mingw32-strip dll
    survives cpp $cpp "" x86_64-w64-mingw32-strip dll
fi

# C alone: linked with C++ Zig builds a library for that first, of each target, which takes minutes.
if have_zig; then
    survives c "$zig cc" "" strip so
    for target in aarch64-macos:dylib x86_64-macos:dylib aarch64-linux-musl:so x86_64-windows-gnu:dll; do
        file=$BUILD/zig.${target#*:}
        for flags in "-O2" "-O2 -fvisibility=hidden -ffunction-sections -fdata-sections -s"; do
            build c "$zig cc -target ${target%:*}" "$flags" "$file"
            exports "$file" "$BUILD/c.expected" "zig cc -target ${target%:*} $flags"
            echo "ok: zig cc -target ${target%:*} $flags"
        done
    done
fi

# A symbol that is lost is noticed.
if need gcc gcc; then
    echo '{ global: *; local: ferrule_fn_half; };' >"$BUILD/lost.map"
    build c gcc "-Wl,--version-script=$BUILD/lost.map" "$BUILD/lost.so"
    for reader in elf_exports ${ferrule:+inspected}; do
        if ($reader "$BUILD/lost.so" | same "$BUILD/c.expected" lost) 2>/dev/null ||
            ! grep -q '^-ferrule_fn_half$' "$BUILD/diff"; then
            echo "$reader does not notice that ferrule_fn_half is lost" >&2
            exit 1
        fi
    done
    echo "ok: a lost symbol is noticed"
fi
