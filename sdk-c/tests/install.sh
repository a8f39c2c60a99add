# Installs into a folder of its own and builds README.md's plug-in as README.md says: by pkg-config and by CMake.
. tests/common.sh

stage=$BUILD/stage
rm -rf "$stage" "$BUILD/cmake"
run make -s -C "$here" install DESTDIR="$stage" PREFIX=/opt/ferrule

cat >"$BUILD/expected" <<'END'
opt/ferrule/include/ferrule.h
opt/ferrule/include/ferrule/exports.map
opt/ferrule/include/ferrule/sdk.h
opt/ferrule/include/ferrule/sdk.hpp
opt/ferrule/include/ferrule/testing.h
opt/ferrule/include/ferrule/testing.hpp
opt/ferrule/share/cmake/ferrule/ferruleConfig.cmake
opt/ferrule/share/cmake/ferrule/ferruleConfigVersion.cmake
opt/ferrule/share/pkgconfig/ferrule.pc
END
(cd "$stage" && find . -type f | sed 's|^\./||' | LC_ALL=C sort) | diff -u "$BUILD/expected" - || {
    echo "make install: the files above are not what is to be installed" >&2
    exit 1
}
if grep -r '@' "$stage/opt/ferrule/share"; then
    echo "make install left a place that is to be filled in" >&2
    exit 1
fi

readme c >"$BUILD/vowels.c"
readme cpp >"$BUILD/words.cpp"
need cc gcc || exit 0
run cc -D_DEFAULT_SOURCE $INCLUDES tests/host.c tests/test_readme.c -pthread -ldl -o "$BUILD/host"

# exact FILE: runs the plug-in, which exports the contract's symbols and nothing else.
exact() {
    run "$BUILD/host" "$1"
    if nm -D --defined-only "$1" | grep -v ' ferrule_'; then
        echo "$1 exports the names above, expected those of the contract only" >&2
        exit 1
    fi
}

if need pkg-config pkg-config && need c++ g++; then
    # What is staged stands elsewhere than it says.
    PKG_CONFIG_LIBDIR=$stage/opt/ferrule/share/pkgconfig
    export PKG_CONFIG_LIBDIR
    found=$(pkg-config --modversion ferrule)
    if [ "$found" != "$VERSION" ]; then
        echo "pkg-config says version $found, expected $VERSION" >&2
        exit 1
    fi
    # README.md's commands, two for the checkout and two for the installation.
    rm -rf "$BUILD/checkout"
    mkdir -p "$BUILD/checkout"
    ln -s "$here" "$BUILD/checkout/sdk-c"
    ln -s "$here/../include" "$BUILD/checkout/include"
    cp "$BUILD/vowels.c" "$BUILD/words.cpp" "$BUILD/checkout"
    staged="s|pkg-config |&--define-variable=prefix=$stage/opt/ferrule |"
    commands=$(readme sh | sed -e "$staged" -e ':a' -e '/\\$/{N;s/\\\n */ /;ba' -e '}')
    [ "$(echo "$commands" | wc -l)" = 4 ] || { echo "README.md has other commands: $commands" >&2; exit 1; }
    echo "$commands" | while read -r command; do
        (cd "$BUILD/checkout" && rm -f vowels.so words.so && run sh -c "$command")
        for made in "$BUILD"/checkout/*.so; do exact "$made"; done
        echo "ok: $command"
    done
fi

if need cmake cmake; then
    # project FOLDER: README.md's project with its source files.
    project() {
        rm -rf "$1"
        mkdir -p "$1"
        cp "$BUILD/vowels.c" "$BUILD/words.cpp" "$1"
        readme cmake >"$1/CMakeLists.txt"
    }
    # configure VERSION: finds the package when a project asks for this version of it.
    configure() {
        project "$BUILD/cmake/asked"
        rm -rf "$BUILD/cmake/build"
        sed -i "s/find_package(ferrule/& $1/" "$BUILD/cmake/asked/CMakeLists.txt"
        cmake -S "$BUILD/cmake/asked" -B "$BUILD/cmake/build" -DCMAKE_PREFIX_PATH="$stage/opt/ferrule" \
            >"$BUILD/cmake/log" 2>&1
    }
    built() {
        run cmake --build "$BUILD/cmake/build" >"$BUILD/cmake/log"
        for made in vowels words; do exact "$BUILD/cmake/build/$made.so"; done
    }
    mkdir -p "$BUILD/cmake"
    for version in "$((${VERSION%%.*} + 1)).0" "$VERSION.1" "0.0.1 EXACT"; do
        if configure "$version"; then
            echo "cmake takes $VERSION for version $version" >&2
            exit 1
        fi
    done
    for version in "$VERSION" "$VERSION EXACT" "${VERSION%%.*}" ""; do
        configure "$version" || {
            cat "$BUILD/cmake/log" >&2
            echo "cmake does not find version \"$version\" in $VERSION" >&2
            exit 1
        }
    done
    built
    echo "ok: cmake, find_package"

    # As a folder of a checkout, and with a name that nothing defines.
    project "$BUILD/cmake/asked"
    rm -rf "$BUILD/cmake/build"
    sed -i "s|^find_package(ferrule.*|add_subdirectory(\"$here\" ferrule)|" "$BUILD/cmake/asked/CMakeLists.txt"
    run cmake -S "$BUILD/cmake/asked" -B "$BUILD/cmake/build" >"$BUILD/cmake/log"
    built
    echo 'int nobody_defines(void); FERRULE_FN(bad) { return nobody_defines(); }' >>"$BUILD/cmake/asked/vowels.c"
    if cmake --build "$BUILD/cmake/build" >"$BUILD/cmake/log" 2>&1 || ! grep -q nobody_defines "$BUILD/cmake/log"; then
        cat "$BUILD/cmake/log" >&2
        echo "ferrule_add_plugin links a name that nothing defines" >&2
        exit 1
    fi
    echo "ok: cmake, add_subdirectory"
fi
