package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
}

var (
	ferrulePlugin = artifact{"ferrule_work.so",
		"gcc -O2 -shared -fPIC -I../include -I../sdk-c/include -o @ c/ferrule/plugin.c"}
	serialPlugin = artifact{"ferrule_serial.so",
		`gcc -O2 -shared -fPIC -I../include -I../sdk-c/include -DWORK_THREADS="serial" -o @ c/ferrule/plugin.c`}
	streamPlugin = artifact{"ferrule_stream.so",
		"gcc -O2 -shared -fPIC -I../include -I../sdk-c/include -o @ c/ferrule/stream.c -lcrypto"}
	library         = artifact{"libwork.so", "gcc -O2 -shared -fPIC -o @ c/work.c"}
	wazeroModule    = artifact{"wazero.wasm", wasm + "c/wasm/wazero.c"}
	extismModule    = artifact{"extism.wasm", wasm + "c/wasm/extism.c"}
	goPlugin        = artifact{"goplugin.so", "go build -buildvcs=false -buildmode=plugin -o @ ./goplugin"}
	hashicorpPlugin = artifact{"hashicorp-plugin", "go build -buildvcs=false -o @ ./hashicorp/plugin"}
)

const wasm = "clang --target=wasm32 -O2 -mbulk-memory -nostdlib -Wl,--no-entry -o @ "

// tools is how to install what a command needs.
var tools = map[string]string{
	"go":      "see https://go.dev/dl",
	"gcc":     "apt-get install gcc libc6-dev",
	"clang":   "apt-get install clang",
	"wasm-ld": "apt-get install lld",
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
	env := make(map[string]string)
	var order []string
	add := func(file, command, cgo string) {
		if commands[file] == nil {
			commands[file] = strings.Fields(command)
			env[file] = "CGO_ENABLED=" + cgo
			order = append(order, file)
		}
	}
	for _, c := range contenders {
		add(c.build.file(), "go build -buildvcs=false -o @ -tags="+c.build.tags+" ./worker", c.build.cgo)
		for _, a := range c.needs {
			add(a.file, a.command, "1")
		}
	}
	var missing []error
	need := make(map[string]bool)
	for _, file := range order {
		args := commands[file]
		names := []string{args[0]}
		if args[0] == "clang" {
			names = append(names, "wasm-ld")
		}
		if env[file] == "CGO_ENABLED=1" {
			names = append(names, "gcc")
		}
		for _, name := range names {
			if _, err := exec.LookPath(name); err != nil && !need[name] {
				need[name] = true
				missing = append(missing, errMissing{name})
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
		cmd.Env = append(os.Environ(), env[file], "CC=gcc")
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
