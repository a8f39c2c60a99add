#!/bin/sh
# Builds the committed libraries of this folder from probe.c and probe.rs. They are test data: a reader that opens them
# today must open them for ever, so build them again only to add one. They are named format-GOARCH-tool.
# On Debian 12: apt-get install gcc clang lld llvm mingw-w64 gcc-aarch64-linux-gnu binutils-s390x-linux-gnu; and rustc.
set -eu
cd "$(dirname "$0")"
PATH=$PATH:$(dirname "$(readlink -f "$(command -v clang)")") # ld64.lld and llvm-lipo are in LLVM's own folder
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
flags="-I ../../../include -O2 -Wall -Werror -ffreestanding"
elf="$flags -fPIC -shared -nostdlib -Wl,-z,max-page-size=4096 -Wl,--build-id=none -s"

gcc $elf -Wl,-soname,libprobe.so -Wl,-rpath,/opt/probe:\$ORIGIN -Wl,--no-as-needed probe.c -o elf-amd64-gcc.so -lc
gcc -m32 $elf probe.c -o elf-386-gcc.so
aarch64-linux-gnu-gcc $elf probe.c -o elf-arm64-gcc.so
while read -r goarch target; do
    clang -target "$target" $elf -fuse-ld=lld probe.c -o "elf-$goarch-clang.so"
done <<END
amd64 x86_64-linux-gnu
arm arm-linux-gnueabihf
mips mips-linux-gnu
ppc64 powerpc64-linux-gnu
ppc64le powerpc64le-linux-gnu
riscv64 riscv64-linux-gnu
END
clang -target x86_64-unknown-freebsd $elf -fuse-ld=lld probe.c -o elf-amd64-freebsd.so
# lld 14 cannot link for s390x, whose SysV hash table is the one with 64-bit words.
clang -target s390x-linux-gnu $flags -fPIC -c probe.c -o "$tmp/s390x.o"
s390x-linux-gnu-ld -shared -s --hash-style=sysv "$tmp/s390x.o" -o elf-s390x-sysv.so
rustc --edition 2021 --crate-type cdylib -O -C panic=abort -C strip=symbols -C link-arg=-nostdlib \
    -C link-arg=-Wl,-z,max-page-size=4096 -C link-arg=-Wl,--build-id=none probe.rs -o elf-amd64-rust.so

x86_64-w64-mingw32-gcc $flags -shared -nostdlib -Wl,--entry=0 -s probe.c -o pe-amd64-mingw.dll
i686-w64-mingw32-gcc $flags -shared -nostdlib -Wl,--entry=0 -s probe.c -o pe-386-mingw.dll
for name in now later; do
    printf 'LIBRARY %s.dll\nEXPORTS\n%s\n' $name $name >"$tmp/$name.def"
    llvm-dlltool -m arm64 -d "$tmp/$name.def" -l "$tmp/$name.lib"
done
for name in probe needs; do
    clang -target aarch64-pc-windows-msvc $flags -c $name.c -o "$tmp/$name.obj"
done
lld-link /dll /noentry /nodefaultlib /timestamp:0 /delayload:later.dll "$tmp/probe.obj" "$tmp/needs.obj" \
    "$tmp/now.lib" "$tmp/later.lib" /out:pe-arm64-lld.dll /implib:"$tmp/out.lib"

while read -r goarch target; do
    clang -target "$target-apple-macos11" $flags -fuse-ld=lld -shared -nostdlib -Wl,-undefined,dynamic_lookup \
        -Wl,-install_name,@rpath/libprobe.dylib -Wl,-rpath,@loader_path probe.c -o "macho-$goarch-clang.dylib"
done <<END
amd64 x86_64
arm64 arm64
END
llvm-lipo -create macho-amd64-clang.dylib macho-arm64-clang.dylib -output macho-fat-lipo.dylib
chmod 644 ./*.so ./*.dll ./*.dylib

# Plug-ins on the SDKs, against macOS's own headers and libraries, which zig has: stock.c as zig links it, words.cpp as a
# newer lld does, with chained fixups. For these: apt-get install lld-19; pip install ziglang==0.17.0.
sdk="-I ../../../include -I ../../../sdk-c/include -Os -g0 -fPIC -Wall -Werror"
system=$(python3 -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')/lib/libc/darwin/libSystem.tbd
sed 's/arm64e\.x1-[a-z]*,* *//g' "$system" >"$tmp/libSystem.tbd" # an architecture that this lld does not know yet
for arch in aarch64 x86_64; do
    python3 -m ziglang cc -target $arch-macos.11.0 $sdk -std=c99 -shared -Wl,-install_name,@rpath/libstock.dylib \
        -Wl,-rpath,@loader_path/../lib macho/stock.c -o "$tmp/stock-$arch.dylib"
    object=$tmp/words-$arch.o
    python3 -m ziglang c++ -target $arch-macos.11.0 $sdk -std=c++17 -fvisibility=hidden -fvisibility-inlines-hidden \
        -c macho/words.cpp -o "$object"
    # In place of libc++'s own list of what it exports: all that the object lacks and that libSystem, named first, has not.
    {
        printf -- '--- !tapi-tbd\ntbd-version: 4\ntargets: [ x86_64-macos, arm64-macos ]\n'
        printf "install-name: '/usr/lib/libc++.1.dylib'\nexports:\n  - targets: [ x86_64-macos, arm64-macos ]\n"
        printf '    symbols: [ %s ]\n...\n' "$(llvm-nm -u -j "$object" | paste -sd, -)"
    } >"$tmp/libc++.tbd"
    /usr/lib/llvm-19/bin/ld64.lld -dylib -arch "$(echo $arch | sed s/aarch64/arm64/)" -platform_version macos 13.0 14.0 \
        -fixup_chains -install_name @rpath/libwords.dylib -rpath @executable_path/../Frameworks -rpath @loader_path \
        -x -dead_strip "$object" "$tmp/libSystem.tbd" "$tmp/libc++.tbd" -o "$tmp/words-$arch.dylib"
done
llvm-lipo -create "$tmp"/stock-*.dylib -output macho/stock-c.dylib
llvm-lipo -create "$tmp"/words-*.dylib -output macho/words-cpp.dylib
chmod 644 macho/*.dylib
