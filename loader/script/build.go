package script

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ferrule-dev/ferrule/include"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	sdkc "github.com/ferrule-dev/ferrule/sdk-c"
)

// ErrNotBuilt is that of an adapter that could not be built.
var ErrNotBuilt = errors.New("the adapter was not built")

//go:embed javascript/adapter.c javascript/build.sh python/adapter.c python/build.sh
var sources embed.FS

// BuildJavaScript builds the library for WithAdapter, and puts it at file, which is replaced where it is there. It takes a C compiler (the environment's CC, or cc), sh, sed and
// cargo, with which it fetches the sources of quickjs-ng; it takes half a minute. The error is an ErrNotBuilt.
func BuildJavaScript(ctx context.Context, file string) error {
	return build(ctx, javascript, file, nil, "so")
}

// BuildPython builds the library for WithPython, and puts it at file, which is replaced where it is there. config is the command that says how the Python that it embeds is linked, such as
// /usr/bin/python3.11-config, of Debian's package python3-dev; "" is what the environment's PYTHON_CONFIG names, or the first python3-config of PATH whose Python can be embedded: one that was built without a shared library
// cannot. It takes a C compiler (the environment's CC, or cc) and sh. The error is an ErrNotBuilt.
func BuildPython(ctx context.Context, file, config string) error {
	if config == "" {
		return build(ctx, python, file, nil)
	}
	return build(ctx, python, file, []string{"PYTHON_CONFIG=" + config})
}

// KeepPython returns the library for WithPython, in a folder where those are kept: it builds one, as BuildPython does, where there is none that was built from the same sources, with the same
// CC, for the same Python. The folder is made where it is missing. Who can write to it can run code in this user's name: it is to be this user's alone. building, where it is not nil, is called before
// a library is built. The error is an ErrNotBuilt.
func KeepPython(ctx context.Context, folder, config string, building func()) (string, error) {
	failed := func(err error) error { return fmt.Errorf("script: %w: %s: %w", ErrNotBuilt, python.folder, err) }
	key := sha256.New()
	fmt.Fprintf(key, "%s %s %q %q\n", adapterVersion, runtime.GOARCH, os.Getenv("CC"), config)
	of, err := fs.Sub(sources, python.folder)
	if err != nil {
		return "", failed(err)
	}
	for _, files := range []fs.FS{of, include.Files, sdkc.Files} {
		err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := fs.ReadFile(files, name)
			fmt.Fprintf(key, "%s %d\n%s", name, len(text), text)
			return err
		})
		if err != nil {
			return "", failed(err)
		}
	}
	for _, candidate := range pythonConfigs(config) {
		// Which Python is meant: what is at the path may be a script that chooses one.
		cmd := exec.CommandContext(ctx, candidate, "--exec-prefix", "--includes", "--ldflags", "--embed")
		whole(cmd)
		said, err := cmd.Output()
		fmt.Fprintf(key, "%s %v\n%s\n", candidate, err == nil, said)
	}
	if ctx.Err() != nil {
		return "", failed(context.Cause(ctx))
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", failed(err)
	}
	if info, err := os.Stat(folder); err != nil {
		return "", failed(err)
	} else if err := ownFolder(folder, info); err != nil {
		return "", failed(err)
	}
	file := filepath.Join(folder, fmt.Sprintf("%s-%.32x.so", python.adapter, key.Sum(nil)))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", failed(err)
	}
	if building != nil {
		building()
	}
	if err := BuildPython(ctx, file, config); err != nil {
		return "", err
	}
	return file, nil
}

// pythonConfigs are the commands that build.sh tries, in their order.
func pythonConfigs(config string) []string {
	if config != "" {
		return []string{config}
	}
	if named := os.Getenv("PYTHON_CONFIG"); named != "" {
		return []string{named}
	}
	var found []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, "python3-config")
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			found = append(found, path)
		}
	}
	return found
}

// build runs a language's build.sh, in a folder of its own with the contract's headers and the SDK's.
func build(ctx context.Context, l *language, file string, env []string, args ...string) error {
	failed := func(err error) error { return fmt.Errorf("script: %w: %s: %w", ErrNotBuilt, l.folder, err) }
	file, err := abspath.Of(file)
	if err != nil {
		return failed(err)
	}
	// The library is made beside where it is to be, so that whoever opens it meanwhile has a whole one.
	dir, err := os.MkdirTemp(filepath.Dir(file), ".ferrule-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	of, err := fs.Sub(sources, l.folder)
	if err != nil {
		return failed(err)
	}
	for _, from := range []struct {
		files  fs.FS
		folder string
	}{{of, ""}, {include.Files, "include"}, {sdkc.Files, "."}} {
		if err := os.CopyFS(filepath.Join(dir, from.folder), from.files); err != nil {
			return failed(err)
		}
	}
	made := filepath.Join(dir, "adapter.so")
	cmd := exec.CommandContext(ctx, "sh", append([]string{filepath.Join(dir, "build.sh")}, append(args, made)...)...)
	cmd.Env = append(append(os.Environ(), "FERRULE_INCLUDE="+filepath.Join(dir, "include"), "TMPDIR="+dir), env...)
	whole(cmd)
	if said, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return failed(fmt.Errorf("%w\n%s", err, strings.TrimSpace(string(said))))
	}
	if err := os.Rename(made, file); err != nil {
		return failed(err)
	}
	return nil
}
