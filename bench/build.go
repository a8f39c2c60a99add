package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// build is a way to build the worker.
type build struct {
	name, cgo, tags string
}

var (
	workerCgo      = build{"cgo", "1", ""}
	workerNoCgo    = build{"nocgo", "0", ""}
	workerPortable = build{"portable", "1", "ferrule_portable"}
	workerGoplugin = build{"goplugin", "1", "goplugin"}
)

func (b build) file() string { return "worker-" + b.name }

// artifact is a file that a contender's worker opens: its name in the build folder, and the command that makes it, in
// which @ stands for the file.
type artifact struct {
	file    string
	command string
	starts  []string // programs that the command starts by itself
	env     []string // of the command, beside what is there
}

var (
	ferrulePlugin = artifact{file: "ferrule_work.so",
		command: "gcc -O2 -shared -fPIC -I../include -I../sdk-c/include -o @ c/ferrule/plugin.c"}
	serialPlugin = artifact{file: "ferrule_serial.so",
		command: `gcc -O2 -shared -fPIC -I../include -I../sdk-c/include -DWORK_THREADS="serial" -o @ c/ferrule/plugin.c`}
	streamPlugin = artifact{file: "ferrule_stream.so",
		command: "gcc -O2 -shared -fPIC -I../include -I../sdk-c/include -o @ c/ferrule/stream.c -lcrypto"}
	library           = artifact{file: "libwork.so", command: "gcc -O2 -shared -fPIC -o @ c/work.c"}
	wazeroModule      = artifact{file: "wazero.wasm", command: wasm + "c/wasm/wazero.c"}
	extismModule      = artifact{file: "extism.wasm", command: wasm + "c/wasm/extism.c"}
	ferruleModuleWasm = artifact{file: "ferrule_work.wasm", command: "clang --target=wasm32-wasi -mexec-model=reactor -mbulk-memory -O2 -fvisibility=hidden " +
		"-Wl,--export-dynamic -I../include -I../sdk-c/include -o @ c/ferrule/plugin.c"}
	// The folder is the one in which the tests of loader/wasm build it: once is enough.
	pdkModule = artifact{file: "../../" + pdk + "/target/wasm32-wasip1/release/pdk.wasm", command: "cargo build --quiet --release --locked --target wasm32-wasip1 " +
		"--manifest-path ../" + pdk + "/Cargo.toml --target-dir ../" + pdk + "/target"}
	goPlugin        = artifact{file: "goplugin.so", command: "go build -buildvcs=false -buildmode=plugin -o @ ./goplugin"}
	hashicorpPlugin = artifact{file: "hashicorp-plugin", command: "go build -buildvcs=false -o @ ./hashicorp/plugin"}
	goSidecar       = artifact{file: "go-sidecar", command: "go build -buildvcs=false -o @ ./sidecar"}
	pythonSidecar   = artifact{file: "sidecar.pyz", command: "python3 -m zipapp -o @ sidecar/python"}
	// The three files of one source, by the commands that docs/go-plug-ins.md has.
	workSidecar = artifact{file: "sdkgo", command: "go build -buildvcs=false -o @ ./sdkgo/cmd/work"}
	workLibrary = artifact{file: "sdkgo.so", command: "go build -buildvcs=false -buildmode=c-shared -o @ ./sdkgo/cmd/work"}
	workModule  = artifact{file: "sdkgo.wasm", command: "go build -buildvcs=false -buildmode=c-shared -o @ ./sdkgo/cmd/work", env: []string{"GOOS=wasip1", "GOARCH=wasm"}}
	// By the scripts that the module loader/script has, from which its Build functions work, too.
	javascriptAdapter = artifact{file: "script-javascript.so", command: "sh ../loader/script/javascript/build.sh so @", starts: []string{"cargo"}}
	pythonAdapter     = artifact{file: "script-python.so", command: "sh ../loader/script/python/build.sh @", starts: []string{"python3-config"}}
)

// pdk is a plug-in of the crate extism-pdk, from the root.
const pdk = "loader/wasm/internal/extism/peers/testdata/pdk"

const wasm = "clang --target=wasm32 -O2 -mbulk-memory -nostdlib -Wl,--no-entry -o @ "

// tools is how to install what a command needs.
var tools = map[string]string{
	"go":             "see https://go.dev/dl",
	"gcc":            "apt-get install gcc libc6-dev",
	"clang":          "apt-get install clang",
	"wasm-ld":        "apt-get install lld",
	"python3":        "apt-get install python3",
	"python3-config": "apt-get install python3-dev",
	"cargo":          "apt-get install cargo or see https://rustup.rs",
	wasiLibrary:      "apt-get install wasi-libc libclang-rt-dev-wasm32",
	rustLibrary:      "rustup target add wasm32-wasip1",
}

const (
	wasiLibrary = "the C library of WASI"
	rustLibrary = "Rust's library for wasm32-wasip1"
)

// libraries are what compilers need for a target: the argument that names it, and the command that prints where the library is to be.
var libraries = []struct{ name, argument, where string }{
	{wasiLibrary, "--target=wasm32-wasi", "clang --target=wasm32-wasi -print-file-name=libc.a"},
	{rustLibrary, "wasm32-wasip1", "rustc --print target-libdir --target wasm32-wasip1"},
}

// there reports whether the file or folder is there whose path a command prints.
func there(ctx context.Context, command string) bool {
	args := strings.Fields(command)
	path, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
	if err == nil {
		_, err = os.Stat(strings.TrimSpace(string(path)))
	}
	return err == nil
}

// errMissing is a tool that is not installed.
type errMissing struct{ tool string }

func (e errMissing) Error() string { return fmt.Sprintf("%s is missing: %s", e.tool, tools[e.tool]) }

// buildAll builds what the contenders need into dir/build, from the module in dir, and returns that folder.
func buildAll(ctx context.Context, dir string, contenders []*contender) (string, error) {
	out := filepath.Join(dir, "build")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	commands := make(map[string][]string) // by the file that they make
	env := make(map[string][]string)
	var order []string
	starts := make(map[string][]string)
	add := func(file, command, cgo string, more ...string) {
		if commands[file] == nil {
			commands[file] = strings.Fields(command)
			env[file] = append([]string{"CGO_ENABLED=" + cgo}, more...)
			order = append(order, file)
		}
	}
	for _, c := range contenders {
		add(c.build.file(), "go build -buildvcs=false -o @ -tags="+c.build.tags+" ./worker", c.build.cgo)
		for _, a := range c.needs {
			add(a.file, a.command, "1", a.env...)
			starts[a.file] = a.starts
		}
	}
	var missing []error
	need := make(map[string]bool)
	for _, file := range order {
		args := commands[file]
		names := append([]string{args[0]}, starts[file]...)
		if args[0] == "clang" {
			names = append(names, "wasm-ld")
		}
		if env[file][0] == "CGO_ENABLED=1" {
			names = append(names, "gcc")
		}
		for _, name := range names {
			if _, err := exec.LookPath(name); err != nil && !need[name] {
				need[name] = true
				missing = append(missing, errMissing{name})
			}
		}
		for _, l := range libraries {
			if slices.Contains(args, l.argument) && !need[l.name] && !there(ctx, l.where) {
				need[l.name] = true
				missing = append(missing, errMissing{l.name})
			}
		}
	}
	if len(missing) > 0 {
		return "", errors.Join(missing...)
	}
	for _, file := range order {
		args := commands[file]
		for i, arg := range args {
			if arg == "@" {
				args[i] = filepath.Join(out, file)
			}
		}
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(append(os.Environ(), "CC=gcc"), env[file]...)
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, text)
		}
	}
	return out, nil
}

// moduleDir returns the folder of this module, which must be the one that the command is run in.
func moduleDir(ctx context.Context) (string, error) {
	dir, err := output(ctx, "", "go", "list", "-f", "{{.Module.Path}} {{.Module.Dir}}", ".") // in a workspace -m lists all modules
	path, dir, _ := strings.Cut(dir, " ")
	if err == nil && path != ferruleModule+"/bench" {
		err = fmt.Errorf("the module here is %s, expected %s/bench: run it in the folder bench", path, ferruleModule)
	}
	return dir, err
}

// output runs a command and returns what it prints, without white space around it.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	if _, err := exec.LookPath(name); err != nil && tools[name] != "" {
		return "", errMissing{name}
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	text, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(text)), nil
}
