package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
)

// sdk is the name of the archive with the headers, without its ending.
func (r *rehearsal) sdk() string { return "ferrule-sdk-c_" + strings.TrimPrefix(r.version, "v") }

// headers makes the archive of the headers: what `make install` of the C SDK installs, in a folder that may be put anywhere.
func (r *rehearsal) headers(tree, dist string, when time.Time) error {
	stage, err := empty(filepath.Join(r.work, "stage"))
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	// CMake compares numbers: what stands behind them in a rehearsal is none. The flags are those of Linux and the BSDs, where pkg-config is used.
	number, _, _ := strings.Cut(strings.TrimPrefix(r.version, "v"), "-")
	if _, err := output(tree, nil, "make", "-s", "-C", "sdk-c", "install", "DESTDIR="+stage, "PREFIX=/sdk", "PREFIX_OF_PC=$${pcfiledir}/../..", "VERSION="+number, "SYSTEM=Linux"); err != nil {
		return err
	}
	all, err := files(filepath.Join(stage, "sdk"), "")
	if err != nil {
		return err
	}
	for of, name := range map[string]string{"LICENSE": "LICENSE", "sdk-c/README.md": "README.md"} {
		text, err := os.ReadFile(filepath.Join(tree, filepath.FromSlash(of)))
		if err != nil {
			return err
		}
		all = append(all, packed{name, text, 0o644})
	}
	var text bytes.Buffer
	if err := tarball(&text, r.sdk(), all, when); err != nil {
		return err
	}
	r.say("%s.tar.gz: %d bytes", r.sdk(), text.Len())
	return os.WriteFile(filepath.Join(dist, r.sdk()+".tar.gz"), text.Bytes(), 0o666)
}

// unpack puts the files of a .tar.gz into a folder, without the folder that they are all in.
func unpack(path, to string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	compressed, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	for t := tar.NewReader(compressed); ; {
		header, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, _ := strings.Cut(header.Name, "/")
		at := filepath.Join(to, filepath.FromSlash(name))
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return fmt.Errorf("%s: found the name %q, expected one below a folder", path, header.Name)
		}
		text, err := io.ReadAll(t)
		if err != nil {
			return err
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o777), os.WriteFile(at, text, header.FileInfo().Mode().Perm())); err != nil {
			return err
		}
	}
}

const (
	inC = `#include <ferrule/sdk.h>
FERRULE_PLUGIN(FERRULE_NAME("moved") FERRULE_VERSION("1.0.0"));
FERRULE_FN(hello) { return ferrule_replyf(call, "hello"); }
`
	inCMake = `cmake_minimum_required(VERSION 3.13)
project(moved C)
find_package(ferrule %s REQUIRED)
ferrule_add_plugin(moved moved.c)
`
)

// moved unpacks the headers in one folder, moves them to another, and has a plug-in built there in each way that they have build files for.
func (r *rehearsal) moved(dist string) error {
	work, err := empty(filepath.Join(r.work, "moved"))
	if err != nil {
		return err
	}
	first, sdk := filepath.Join(work, "first"), filepath.Join(work, "then", "elsewhere")
	if err := unpack(filepath.Join(dist, r.sdk()+".tar.gz"), first); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(filepath.Dir(sdk), 0o777), os.Rename(first, sdk)); err != nil {
		return err
	}
	number, _, _ := strings.Cut(strings.TrimPrefix(r.version, "v"), "-")
	project := filepath.Join(work, "project")
	if err := errors.Join(os.Mkdir(project, 0o777), os.WriteFile(filepath.Join(project, "moved.c"), []byte(inC), 0o666),
		os.WriteFile(filepath.Join(project, "CMakeLists.txt"), fmt.Appendf(nil, inCMake, number), 0o666)); err != nil {
		return err
	}
	for _, way := range []struct{ name, commands, made string }{
		{"pkg-config", `[ "$(pkg-config --modversion ferrule)" = "$NUMBER" ] && cc -shared -fPIC -o moved.so moved.c $(pkg-config --cflags --libs ferrule)`, "moved.so"},
		{"cmake", `cmake -S . -B made -DCMAKE_PREFIX_PATH="$SDK" && cmake --build made`, filepath.Join("made", "moved.so")},
	} {
		if _, err := exec.LookPath(way.name); err != nil {
			if os.Getenv("CI") != "" {
				return fmt.Errorf("the headers, moved: %w", err)
			}
			r.say("the headers, moved: %s is missing, and was not tried", way.name)
			continue
		}
		env := append(os.Environ(), "SDK="+sdk, "NUMBER="+number, "PKG_CONFIG_LIBDIR="+filepath.Join(sdk, "share", "pkgconfig"), "PKG_CONFIG_PATH=")
		if _, err := output(project, env, "sh", "-ec", way.commands); err != nil {
			return fmt.Errorf("the headers, moved: %w", err)
		}
		said, err := hello(filepath.Join(project, way.made))
		if err != nil || said != "hello" {
			return fmt.Errorf("the headers, moved: a plug-in that was built by %s says %q, expected hello: %w", way.name, said, err)
		}
		r.say("the headers, moved: a plug-in is built by %s, and runs", way.name)
	}
	return nil
}

// hello opens the plug-in, and returns what it says.
func hello(path string) (string, error) {
	p, err := loader.Open(path)
	if err != nil {
		return "", err
	}
	defer p.Close()
	out, err := p.Call(context.Background(), "hello", nil)
	return string(out), err
}
