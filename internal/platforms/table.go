package main

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// platform is a line of the output, and but for the compilers a row of the table in docs/platforms.md.
type platform struct {
	name    string
	prepare func(*machine, *platform) error // gets what the runs need; its error is why the platform was not had
	runs    []run

	how  string // in what the tests ran, with its version; prepare sets it
	note string // for the table
}

// run is one build of the tests, and how it is run.
type run struct {
	goos, goarch string
	cgo          bool
	portable     bool     // the portable crossing in place of the direct one
	toolchain    string   // of Go, where it is not the one at hand
	tests        []string // packages; none: built and vetted only
	builds       []string // packages to build and vet, everything if not given
	exec         []string
	env          []string
	flags        []string // of go test
	programs     []string // the C compiler for a plug-in that the project's own programs are run with, in place of tests
	make         []string // the arguments of make, in place of all the above
}

// whole is everything; calls is what depends on the crossing: the native engine, and with it what is not run isolated.
var (
	whole = []string{"./abi/...", "./loader/..."}
	calls = []string{"./loader", "./loader/internal/raw", "./loader/internal/native/cross", "./loader/internal/native/dl", "./loader/internal/native/hostcall",
		"./loader/internal/native"}
	engines   = []string{"./loader", "./loader/isolate"}
	inProcess = "-skip=/^isolated$|//^isolated$|///^isolated$"
)

// platforms returns all of them, in the order of the table.
func platforms() []*platform {
	return []*platform{
		versions("linux/amd64, oldest Go", oldest),
		versions("linux/amd64, newest Go", newest),
		{name: "linux/amd64, musl", prepare: musl, runs: []run{
			{cgo: true, tests: whole},
			{flags: []string{"-ldflags=-I /lib/ld-musl-x86_64.so.1"}, tests: engines},
		}},
		{name: "linux/arm64", note: "but for the sandbox: qemu has no Landlock", prepare: arm64, runs: []run{
			// Neither the tests of keepers, which an emulator without execveat lacks, nor those of workers that keep to a schedule.
			{goarch: "arm64", cgo: true, flags: []string{"-short"}, tests: append([]string{"./abi", "./loader/inspect", "./loader/isolate", "./loader/internal/callctx",
				"./loader/internal/deps", "./loader/internal/native/fpenv", "./loader/internal/libfile", "./loader/internal/isolate/lane", "./loader/internal/isolate/wire",
				"./loader/internal/isolate/worker"}, calls...)},
			{goarch: "arm64", tests: calls, flags: []string{"-short", inProcess}},
			{goarch: "arm64", programs: []string{"aarch64-linux-gnu-gcc", "-fPIC"}},
			{goarch: "arm64"},
			{goarch: "arm64", portable: true},
		}},
		{name: "linux/386", note: "the contract", prepare: layout("386", "i686-linux-gnu-gcc", ""), runs: []run{
			{goarch: "386", tests: []string{"./abi"}}, {goarch: "386"}}},
		{name: "linux/riscv64", note: "the contract", prepare: layout("riscv64", "riscv64-linux-gnu-gcc", "qemu-riscv64"), runs: []run{
			{goarch: "riscv64", tests: []string{"./abi"}}, {goarch: "riscv64"}}},
		{name: "linux/s390x", note: "the contract and Inspect; purego does not have it", prepare: layout("s390x", "s390x-linux-gnu-gcc", "qemu-s390x"), runs: []run{
			{goarch: "s390x", tests: []string{"./abi", "./loader/inspect"}, flags: []string{"-short"}},
			{goarch: "s390x", builds: []string{"./abi", "./loader/inspect"}}}},
		{name: "windows/amd64", prepare: windows, runs: []run{
			{goos: "windows", goarch: "amd64", portable: true, tests: whole},
			{goos: "windows", goarch: "amd64", portable: true, programs: []string{"x86_64-w64-mingw32-gcc", "-static"}},
			{goos: "windows", goarch: "amd64", portable: true},
		}},
		{name: "windows/arm64", runs: []run{{goos: "windows", goarch: "arm64", portable: true}}},
		{name: "darwin/amd64", runs: []run{{goos: "darwin", goarch: "amd64"}, {goos: "darwin", goarch: "amd64", portable: true}}},
		{name: "darwin/arm64", runs: []run{{goos: "darwin", goarch: "arm64"}, {goos: "darwin", goarch: "arm64", portable: true}}},
		{name: compilers, prepare: zig, runs: []run{{make: []string{"-C", "sdk-c", "compilers"}},
			{cgo: true, tests: []string{"./examples"}, flags: []string{"-run=TestLanguages"}}}},
	}
}

const compilers = "compilers"

// versions are the runs with a version of Go: both crossings, cgo on and off.
func versions(name string, which func(*machine) (string, error)) *platform {
	p := &platform{name: name}
	p.prepare = func(m *machine, p *platform) error {
		toolchain, err := which(m)
		if err != nil {
			return err
		}
		p.how = strings.Replace(toolchain, "go", "Go ", 1)
		for i := range p.runs {
			p.runs[i].toolchain = toolchain
		}
		return m.in("", []string{"GOTOOLCHAIN=" + toolchain}, "go", "version") // fetches it
	}
	for _, cgo := range []bool{true, false} {
		for _, portable := range []bool{false, true} {
			r := run{cgo: cgo, portable: portable, tests: calls, flags: []string{"-short", inProcess}}
			switch {
			case len(p.runs) == 0:
				r.tests, r.flags = whole, r.flags[:1]
			case !portable: // a worker without cgo is another program
				r.tests, r.flags = engines, r.flags[:1]
			}
			p.runs = append(p.runs, r)
		}
	}
	return p
}

// oldest is the version of Go that go.mod names.
func oldest(*machine) (string, error) {
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "go.mod"))
	if err != nil {
		return "", err
	}
	return "go" + regexp.MustCompile(`(?m)^go (.*)$`).FindStringSubmatch(string(text))[1], nil
}

// newest is the newest release of Go.
func newest(m *machine) (string, error) {
	out, err := m.output("go", "list", "-m", "-f", "{{.Version}}", "go@latest")
	return "go" + out, err
}

func musl(m *machine, p *platform) error {
	if err := m.packages("musl-tools"); err != nil {
		return err
	}
	p.how = "musl " + version("dpkg-query", "-W", "-f", "${Version}", "musl")
	t := target("linux", "amd64", "-musl", "musl-gcc", "")
	if err := build(t, "no Rust fixtures: Debian has no Rust for musl"); err != nil {
		return err
	}
	p.env(fixture.Built+"="+t.Dir, fixture.Libc+"=musl", "CC=musl-gcc")
	return nil
}

func arm64(m *machine, p *platform) error {
	if err := m.packages("gcc-aarch64-linux-gnu", "g++-aarch64-linux-gnu"); err != nil {
		return err
	}
	if err := m.emulator(); err != nil {
		return err
	}
	p.how = "qemu-user " + version("qemu-aarch64", "--version")
	t := target("linux", "arm64", "", "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++")
	norust := ""
	if err := m.rust(&t, "aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc"); err != nil {
		norust = "no Rust fixtures: " + err.Error()
	}
	if err := build(t, norust); err != nil {
		return err
	}
	p.env(fixture.Built+"="+t.Dir, fixture.Emulated+"=qemu-user", "CC=aarch64-linux-gnu-gcc", "CXX=aarch64-linux-gnu-g++")
	return nil
}

func windows(m *machine, p *platform) error {
	if err := m.packages("gcc-mingw-w64-x86-64", "g++-mingw-w64-x86-64"); err != nil {
		return err
	}
	exec, err := m.wine()
	if err != nil {
		return err
	}
	said, err := m.output(exec[0], append(exec[1:], "--version")...)
	if err != nil {
		return err
	}
	p.how = "Wine " + regexp.MustCompile(`\d+\.\d+`).FindString(said)
	t := target("windows", "amd64", "", "x86_64-w64-mingw32-gcc", "x86_64-w64-mingw32-g++")
	norust := ""
	if err := m.rust(&t, "x86_64-pc-windows-gnu", "x86_64-w64-mingw32-gcc"); err != nil {
		norust = "no Rust fixtures: " + err.Error()
	}
	if err := build(t, norust); err != nil {
		return err
	}
	p.env(fixture.Built+"="+t.Dir, fixture.Emulated+"=Wine")
	for i := range p.runs {
		p.runs[i].exec = exec
	}
	return nil
}

// layout prepares an architecture on which no plug-in is loaded: the contract's layout is compiled for it, in C and in Go.
func layout(arch, compiler, emulator string) func(*machine, *platform) error {
	return func(m *machine, p *platform) error {
		libc := "libc6-dev-" + cmp.Or(map[string]string{"386": "i386"}[arch], arch) + "-cross" // only recommended by the compiler
		if err := m.packages(strings.ReplaceAll(strings.TrimSuffix("gcc-"+compiler, "-gcc"), "_", "-"), libc, "qemu-user"); err != nil {
			return err
		}
		p.how = "natively"
		if emulator != "" {
			p.how = "qemu-user " + version(emulator, "--version")
		}
		p.env("CC=" + compiler)
		for i := range p.runs {
			if emulator != "" {
				p.runs[i].exec = []string{emulator}
			}
		}
		return nil
	}
}

func zig(m *machine, p *platform) error {
	if err := m.packages("gcc", "g++", "clang", "lld", "gcc-mingw-w64-x86-64", "g++-mingw-w64-x86-64", "gcc-i686-linux-gnu", "rustc", "cargo"); err != nil {
		return err
	}
	command, err := m.zig()
	if err != nil {
		return err
	}
	p.how = "gcc " + version("gcc", "--version") + ", clang " + version("clang", "--version") + ", mingw " +
		version("x86_64-w64-mingw32-gcc", "-dumpfullversion") + ", Zig " + zigVersion + ", rustc " + version("rustc", "--version") + " and " +
		version("/usr/bin/rustc", "--version")
	p.env("ZIG="+command, "ZIG_GLOBAL_CACHE_DIR="+filepath.Join(m.work, "_zig-cache"))
	return nil
}

// brokenError says that something of the project's does not work, as opposed to something that the machine lacks.
type brokenError struct{ error }

// build builds the fixtures of a platform.
func build(t fixture.Target, norust string) error {
	if err := t.All(norust); err != nil {
		return brokenError{err}
	}
	return nil
}

// target is a platform of fixtures, in a folder of its own.
func target(goos, goarch, suffix, cc, cxx string) fixture.Target {
	t := fixture.Target{OS: goos, Arch: goarch, Dir: filepath.Join(fixture.Root(), "build", "fixtures", goos+"_"+goarch+suffix), CC: []string{cc}}
	if cxx != "" {
		t.CXX = []string{cxx}
	}
	return t
}

// env adds to the environment of all runs.
func (p *platform) env(values ...string) {
	for i := range p.runs {
		p.runs[i].env = append(p.runs[i].env, values...)
	}
}

// crossing names the crossing of a run.
func (r *run) crossing() string {
	if r.portable {
		return "portable"
	}
	return "direct"
}

func (r *run) os() string {
	if r.goos == "" {
		return runtime.GOOS
	}
	return r.goos
}
