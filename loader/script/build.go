package script

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ferrule-dev/ferrule/include"
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

// build runs a language's build.sh, in a folder of its own with the contract's headers and the SDK's.
func build(ctx context.Context, l *language, file string, env []string, args ...string) error {
	failed := func(err error) error { return fmt.Errorf("script: %w: %s: %w", ErrNotBuilt, l.folder, err) }
	file, err := filepath.Abs(file)
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
	cmd.Env = append(append(os.Environ(), "FERRULE_INCLUDE="+filepath.Join(dir, "include")), env...)
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
