# Installs into a folder of its own and builds README.md's plug-in as README.md says: by pkg-config and by CMake.
. tests/common.sh

stage=$BUILD/stage
rm -rf "$stage" "$BUILD/cmake"
run make -s -C "$here" install DESTDIR="$stage" PREFIX=/opt/ferrule

cat >"$BUILD/expected" <<'END'
opt/ferrule/include/ferrule.h
opt/ferrule/include/ferrule/sdk.h
opt/ferrule/include/ferrule/sdk.hpp
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

if need pkg-config pkg-config; then
    PKG_CONFIG_LIBDIR=$stage/opt/ferrule/share/pkgconfig
    PKG_CONFIG_SYSROOT_DIR=$stage
    export PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR
    found=$(pkg-config --modversion ferrule)
    if [ "$found" != "$VERSION" ]; then
        echo "pkg-config says version $found, expected $VERSION" >&2
        exit 1
    fi
    # README.md's commands, one for the checkout and one for the installation.
    rm -rf "$BUILD/checkout"
    mkdir -p "$BUILD/checkout"
    ln -s "$here" "$BUILD/checkout/sdk-c"
    ln -s "$here/../include" "$BUILD/checkout/include"
    readme sh | while read -r command; do
        (cd "$BUILD/checkout" && cp "$BUILD/vowels.c" . && rm -f vowels.so && run sh -c "$command")
        run "$BUILD/host" "$BUILD/checkout/vowels.so"
        echo "ok: $command"
    done
    if need c++ g++; then
        run c++ -std=c++17 -shared -fPIC $(pkg-config --cflags ferrule) -o "$BUILD/words.so" "$BUILD/words.cpp"
        run "$BUILD/host" "$BUILD/words.so"
        echo "ok: c++ by pkg-config"
    fi
fi

if need cmake cmake; then
    mkdir -p "$BUILD/cmake"
    readme cmake >"$BUILD/cmake/CMakeLists.txt"
    cp "$BUILD/vowels.c" "$BUILD/cmake/vowels.c"
    # configure VERSION: finds the package when a project asks for this version of it.
    configure() {
        rm -rf "$BUILD/cmake/build" "$BUILD/cmake/asked"
        mkdir -p "$BUILD/cmake/asked"
        sed "s/find_package(ferrule/& $1/" "$BUILD/cmake/CMakeLists.txt" >"$BUILD/cmake/asked/CMakeLists.txt"
        cp "$BUILD/vowels.c" "$BUILD/cmake/asked/vowels.c"
        cmake -S "$BUILD/cmake/asked" -B "$BUILD/cmake/build" -DCMAKE_PREFIX_PATH="$stage/opt/ferrule" \
            >"$BUILD/cmake/log" 2>&1
    }
    for version in "" "$VERSION" "$VERSION EXACT" "${VERSION%%.*}"; do
        configure "$version" || {
            cat "$BUILD/cmake/log" >&2
            echo "cmake does not find version \"$version\" in $VERSION" >&2
            exit 1
        }
    done
    run cmake --build "$BUILD/cmake/build" >"$BUILD/cmake/log"
    run "$BUILD/host" "$BUILD/cmake/build/libvowels.so"
    for version in "$((${VERSION%%.*} + 1)).0" "$VERSION.1" "0.0.1 EXACT"; do
        if configure "$version"; then
            echo "cmake takes $VERSION for version $version" >&2
            exit 1
        fi
    done
    echo "ok: cmake"
fi
