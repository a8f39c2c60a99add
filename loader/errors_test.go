package loader_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// What README says of errors: each type's are made here in every way that a user meets them, and say what they must.
func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel() // it waits
	echoPath, text := fixture.C(t, "echo"), filepath.Join(t.TempDir(), "text.so")
	require.NoError(t, os.WriteFile(text, []byte("text"), 0o666))
	p := open(t, echoPath)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	closed, err := loader.Open(echoPath)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	opening := func(path string, opts ...loader.Option) error {
		_, err := loader.Open(path, opts...)
		return err
	}
	calling := func(ctx context.Context, p *loader.Plugin, fn string) error {
		_, err := p.Call(ctx, fn, []byte("7"))
		return err
	}
	entered, leave := context.WithCancelCause(ctx)
	hanging := isolated.open(t, fixture.C(t, "fault_infinite_loop"), loader.WithLogger(whenBegun(func() { leave(context.DeadlineExceeded) })))
	crashing := isolated.open(t, fixture.C(t, "fault_exit_code"))
	viewed, err := isolated.try(echoPath)
	require.NoError(t, err)
	f, err := viewed.Func("echo")
	require.NoError(t, err)
	view, err := f.View(ctx, []byte("seen"))
	require.NoError(t, err)
	defer view.Release()
	asked := make(map[string]bool)
	for _, c := range []struct {
		kind string // the type of the error
		what string
		err  error
	}{
		{"Error", "no file", opening(filepath.Join(t.TempDir(), "missing.so"))},
		{"Error", "no library", opening(text)},
		{"Error", "no plug-in", opening(fixture.C(t, "no_manifest"))},
		{"Error", "no host function", opening(fixture.C(t, "host"))},
		{"Error", "no host functions", opening(fixture.C(t, "host"), loader.WithHostFunc("uper", upper))},
		{"Error", "an option", opening(echoPath, loader.WithInstances(0))},
		{"Error", "an option of isolate's", opening(echoPath, isolate.InWorker(isolate.WithGrace(-time.Second)))},
		{"Error", "another digest", opening(echoPath, loader.WithSHA256(strings.Repeat("ab", 32)))},
		{"Error", "start fails", opening(fixture.C(t, "start_fails"), loader.WithConfig([]byte("x")))},
		{"Error", "a worker crashes at start", opening(fixture.C(t, "fault_constructor"), isolate.InWorker())},
		{"UsageError", "no such function", calling(ctx, p, "ehco")},
		{"UsageError", "closed", calling(ctx, closed, "echo")},
		{"ContractError", "a rule", calling(ctx, open(t, fixture.C(t, "negative_status")), "answer")},
		{"CodecError", "encode", jsonError[func(), int](p)},
		{"CodecError", "decode", jsonError[string, point](p)},
		{"CodecError", "decode what is no JSON", func() error {
			_, err := loader.CallWith[[]string, point](ctx, p, half{}, "echo", []string{strings.Repeat("long ", 100)})
			return err
		}()},
		{"CallError", "a status", calling(ctx, p, "fail")},
		{"CallError", "not called", calling(ended, p, "echo")},
		{"CrashError", "exit", calling(ctx, crashing, "fault")},
		{"DeadlineError", "no end", calling(entered, hanging, "fault")},
		{"ShutdownError", "a view", viewed.Shutdown(ended)},
	} {
		require.Error(t, c.err, c.what)
		said := c.err.Error()
		says := func(parts ...string) {
			t.Helper()
			for _, part := range parts {
				assert.NotEmpty(t, part, "%s: %s", c.what, said)
				assert.Contains(t, said, part, c.what)
			}
		}
		asked[c.kind] = true
		switch c.kind {
		case "Error":
			var e *loader.OpenError
			require.ErrorAs(t, c.err, &e, c.what)
			assert.ErrorIs(t, e, e.Kind, c.what)
			assert.True(t, e.Found != "" && e.Expected != "" || e.Err != nil, "%s: found and expected, or the cause: %s", c.what, said)
			assert.NotEmpty(t, e.Remedy, "%s: %s", c.what, said)
			says(e.Remedy[1:]) // its first letter is a capital in the text
			if e.Err == nil {
				says("found "+e.Found, "expected "+e.Expected)
			}
		case "UsageError":
			var e *loader.UsageError
			require.ErrorAs(t, c.err, &e, c.what)
			says(e.Plugin, e.Func, e.Kind.Error(), e.Remedy)
		case "ContractError":
			var e *loader.ContractError
			require.ErrorAs(t, c.err, &e, c.what)
			says(e.Plugin, e.Func, e.Rule, "found "+e.Found, "expected "+e.Expected)
		case "CodecError":
			var e *loader.CodecError
			require.ErrorAs(t, c.err, &e, c.what)
			says(e.Plugin, e.Func, "found "+e.Found, "expected "+e.Expected, e.Err.Error(), e.Remedy)
		case "CallError":
			var e *loader.CallError
			require.ErrorAs(t, c.err, &e, c.what)
			says(e.Plugin, e.Func, e.Status.Error(), e.Message)
		case "CrashError":
			var e *loader.CrashError
			require.ErrorAs(t, c.err, &e, c.what)
			says(e.Plugin, e.Func, "exit code 7")
		case "ShutdownError":
			var e *loader.ShutdownError
			require.ErrorAs(t, c.err, &e, c.what)
			assert.Equal(t, 1, e.Views)
			says(e.Plugin, e.Cause.Error(), "the rest is done in the background")
		case "DeadlineError":
			var e *loader.DeadlineError
			require.ErrorAs(t, c.err, &e, c.what)
			says(e.Plugin, e.Func, e.Grace.String(), e.Cause.Error(), "its worker was killed")
		}
	}
	assert.ErrorContains(t, opening(fixture.C(t, "host")), "found imports without a host function: again, upper, expected every import on offer. Pass loader.")
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	for _, kind := range errorTypes(t, ".", "inspect", "isolate", filepath.Join("isolate", "sandbox")) {
		assert.True(t, asked[kind], "the error type %s is not in this test", kind)
		if kind == "Error" { // of inspect, which is OpenError here
			kind = "OpenError"
		}
		assert.Contains(t, string(doc), "*"+kind, "the package comment names it")
	}
}

func jsonError[In, Out any](p *loader.Plugin) error {
	var in In
	_, err := loader.CallJSON[In, Out](ctx, p, "echo", in)
	return err
}

// half is a codec that cannot decode.
type half struct{ words }

func (half) Unmarshal([]byte, any) error { return errors.New("not words") }

// errorTypes returns the exported types with a method Error() string of the packages in folders.
func errorTypes(t *testing.T, folders ...string) (names []string) {
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, d := range parsed.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || f.Recv == nil || f.Name.Name != "Error" {
					continue
				}
				receiver := f.Recv.List[0].Type
				if star, ok := receiver.(*ast.StarExpr); ok {
					receiver = star.X
				}
				if name := receiver.(*ast.Ident).Name; ast.IsExported(name) {
					names = append(names, name)
				}
			}
		}
	}
	require.Contains(t, names, "CallError")
	return names
}

// What a plug-in says steers no terminal that an error is shown on. The fields have it as it was said.
func TestErrorsSteerNoTerminal(t *testing.T) {
	const said = "\x1b[31mred\u202e\nsecond\x07"
	const shown = `\x1b[31mred\u{202e}` + "\n" + `second\x07`
	bothWays(t, func(t *testing.T, w way) {
		_, err := w.open(t, fixture.C(t, "echo")).Call(ctx, "fail", []byte(said))
		var e *loader.CallError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, said, e.Message)
		assert.Equal(t, "plug-in echo: fail: failed: "+shown, err.Error())
	})
	dir := builds(t, []string{"dies", `#include "ferrule.h"
#include <stdio.h>
#include <stdlib.h>
FERRULE_PLUGIN(FERRULE_NAME("dies") FERRULE_VERSION("1.0.0"));
FERRULE_FN(f) { fwrite(call->in, 1, call->in_len, stderr); abort(); }
`})
	p, err := loader.Open(filepath.Join(dir, "dies.so"), isolate.InWorker(isolate.WithEnv(workerEnv...)))
	require.NoError(t, err)
	defer p.Close()
	_, err = p.Call(ctx, "f", []byte(said))
	var crash *loader.CrashError
	require.ErrorAs(t, err, &crash)
	assert.Equal(t, []string{"\x1b[31mred\u202e", "second\x07"}, crash.Output)
	assert.True(t, strings.HasSuffix(err.Error(), `its last line: second\x07`), err.Error())
}
