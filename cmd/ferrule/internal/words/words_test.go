package words_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/words"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// option finds the names of options in a text for programmers.
var option = regexp.MustCompile(`\b(?:sandbox\.)?Policy\.\w+|\b(?:loader|isolate|sandbox|wasm|engine)\.[A-Z]\w*|\bWith[A-Z]\w*|\bInWorker\b|\bOpenContext\b|\bFunc\.[A-Z]\w*|\b[Cc]ontext that\b|Pass a context`)

// others are the options that the command never gets to read of, and why.
var others = map[string]string{}

func init() {
	for why, names := range map[string]string{
		"it looks at imports itself before it opens anything": "loader.WithHostFunc WithHostFunc",
		"it always passes a whole one":                        "WithLogger WithAttrs",
		"it makes no batches, and uses no codecs":             "loader.Batch loader.JSON FuncWith",
		"it passes none":                 "RequireVersion loader.RequireVersion WithSHA256 WithMaxCalls WithBinary isolate.WithBinary WithEnv WithGrace WithStopTimeout WithCallTimeout loader.WithCallTimeout WithOverdue Func.WithTimeout WithTimeout WithMaxMessage WithRestart",
		"it passes one, and a valid one": "InWorker isolate.InWorker isolate.FIELD sandbox.With WithConfig WithOutput WithStartTimeout",
		"--parallel is looked at before, and host functions call no plug-in":   "WithInstances",
		"it leaves the choice of an engine to Open":                            "WithEngine loader.WithEngine loader.Native",
		"its context has not ended before":                                     "OpenContext",
		"it looks at --info and --data itself before it opens anything":        "WithPluginInfo loader.WithInfo loader.TraceParent WithDataFolder",
		"the whole sentence has words of its own":                              "isolate.WithGrace wasm.WithGrace",
		"it hands no state over":                                               "WithState loader.WithState",
		"it makes the engine for modules itself, with no options":              "wasm.Engine wasm.FIELD WithCache wasm.WithCache WithFolder WithFuel WithHTTP wasm.WithHTTP WithMemory",
		"it makes the engine for scripts itself, and the adapter":              "WithWasm WithAdapter WithPython script.WithPython WithVirtualenv",
		"it opens sidecars as config.yaml has them, which is looked at before": "WithArgs WithInterpreter WithTLS WithSandbox sandbox.Policy sidecar.FIELD",
		"it stands behind the name of its package":                             "WithToken",
		"it opens nothing that a message broker reaches":                       "WithAttempts WithConnection WithCredentials mqtt.WithCredentials WithSilence",
		"it makes no groups":                                                   "isolate.InGroup isolate.NewGroup loader.WithDataFolder",
		"there is no flag":                                                     "sandbox.Policy.Time Policy.Time sandbox.Policy.CPU Policy.CPU Policy.Files sandbox.Policy.Files",
	} {
		for _, name := range strings.Fields(names) {
			others[name] = why
		}
	}
}

// TestOf: whatever package loader says, no option of the Go API is left in it that the command may get to read.
func TestOf(t *testing.T) {
	found, unknown := 0, map[string]string{}
	root := filepath.Join(fixture.Root(), "loader")
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path == filepath.Join(root, "builtin") {
			return filepath.SkipDir // the command opens files only
		}
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		texts(file, func(text string) {
			if !option.MatchString(text) {
				return
			}
			found++
			for _, field := range []string{"Read", "Write", "Connect", "Memory", "Processes", "CPU", "Time", "Files"} {
				of := words.Of(strings.NewReplacer("Policy.%s", "Policy."+field, "Policy.FIELD", "Policy."+field).Replace(text))
				for _, name := range option.FindAllString(of, -1) {
					if others[name] == "" {
						unknown[name] = path + ": " + of
					}
				}
			}
		})
		return nil
	}))
	assert.Empty(t, unknown)
	assert.Greater(t, found, 50, "the texts were found")
}

// texts finds the texts of a file, those that are put together of several ones as one.
func texts(file ast.Node, do func(text string)) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec, *ast.Field: // paths and tags
			return false
		case *ast.BasicLit, *ast.BinaryExpr:
			if text, ok := joined(n.(ast.Expr)); ok {
				do(text)
				return false
			}
		}
		return true
	})
}

// joined is the text that an expression makes, with FIELD for what is known only when it runs.
func joined(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			return text, err == nil
		}
	case *ast.BinaryExpr:
		x, is := joined(e.X)
		y, too := joined(e.Y)
		if e.Op != token.ADD || !is && !too {
			return "", false
		}
		for _, side := range []struct {
			ok   bool
			text *string
		}{{is, &x}, {too, &y}} {
			if !side.ok {
				*side.text = "FIELD"
			}
		}
		return x + y, true
	}
	return "", false
}

// TestError: an error stays what it is, and what a plug-in has said stays as it has said it.
func TestError(t *testing.T) {
	plugin := &loader.CallError{Plugin: "p", Func: "f", Status: loader.ErrFailed, Message: "see sandbox.Policy.Memory, and WithConfig"}
	assert.Equal(t, plugin.Error(), words.Error(plugin).Error())

	host := &loader.CallError{Plugin: "p", Func: "f", Status: loader.ErrNoMemory,
		Message: "an output of 7 bytes: the host has no room for it (see isolate.WithMaxMessage)"}
	assert.Contains(t, words.Error(host).Error(), "an output of 7 bytes: the host has no room for it (this command has room for 256 MiB, ")
	assert.Contains(t, host.Message, "isolate.WithMaxMessage", "the error itself is as it was")

	plain := words.Error(&loader.CallError{Plugin: "p", Func: "f", Status: loader.ErrUnsupported,
		Remedy: "it reads an input stream, which it has only when it is called with Func.Stream"})
	assert.EqualError(t, plain, "plug-in p: f: unsupported; it reads an input stream, which it has only from ferrule call")

	open := &loader.OpenError{Path: "Policy.Read", Kind: loader.ErrStart, Found: `Policy.Read with "x"`,
		Remedy: "It was started with the configuration that Open was given (WithConfig)", Err: plugin}
	got := words.Error(open)
	assert.ErrorIs(t, got, loader.ErrStart)
	assert.Equal(t, `Policy.Read: could not be started: found --allow-read with "x". It was started with the configuration of --config.`,
		strings.Replace(got.Error(), ": plug-in p", "", 1))
	inner, ok := errors.AsType[*loader.CallError](got)
	require.True(t, ok)
	assert.Equal(t, plugin, inner)

	crash := &loader.CrashError{Plugin: "p", ExitCode: -1, Output: []string{"(sandbox.Policy.Memory)"},
		Reason: "killed by the host, because 9 MiB of memory were its own, where the limit is 8 MiB (sandbox.Policy.Memory)"}
	assert.Contains(t, words.Error(crash).Error(), "limit is 8 MiB (--memory)")
	assert.Contains(t, words.Error(crash).Error(), "its last line: (sandbox.Policy.Memory)")

	late := words.Error(&loader.DeadlineError{Plugin: "p", Func: "f", Grace: 1, Cause: context.DeadlineExceeded})
	assert.NotContains(t, late.Error(), "isolate.")
	assert.ErrorIs(t, late, context.DeadlineExceeded)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := loader.OpenContext(ended, "p.so")
	assert.EqualError(t, words.Error(err), "p.so: could not be started: not opened: context canceled. Give it more time (--timeout).")
	assert.NoError(t, words.Error(nil))
	assert.Equal(t, fs.ErrExist, words.Error(fs.ErrExist))
}
