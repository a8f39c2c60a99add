package loader_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// No option replaces another: with two sandboxes, or a worker with one and a worker without, nobody could say which holds.
func TestNoOptionReplacesAnother(t *testing.T) {
	log, _ := logger()
	digest := strings.Repeat("ab", 32)
	nobody := func(string, time.Duration) {}
	worker := func(opts ...isolate.Option) []loader.Option { return []loader.Option{isolate.InWorker(opts...)} }
	for name, opts := range map[string][]loader.Option{
		"isolate.InWorker":         {isolate.InWorker(sandbox.With(sandbox.Policy{})), isolate.InWorker()},
		"sandbox.With":             worker(sandbox.With(sandbox.Policy{}), sandbox.With(sandbox.Policy{Read: []string{"/"}})),
		"isolate.WithBinary":       worker(isolate.WithBinary("a"), isolate.WithBinary("a")),
		"isolate.WithEnv":          worker(isolate.WithEnv("A=1"), isolate.WithEnv()),
		"isolate.WithOutput":       worker(isolate.WithOutput(new(lines)), isolate.WithOutput(new(lines))),
		"isolate.WithGrace":        worker(isolate.WithGrace(1), isolate.WithGrace(2)),
		"isolate.WithStopTimeout":  worker(isolate.WithStopTimeout(1), isolate.WithStopTimeout(1)),
		"isolate.WithStartTimeout": worker(isolate.WithStartTimeout(1), isolate.WithStartTimeout(1)),
		"WithCallTimeout":          {loader.WithCallTimeout(1), loader.WithConfig(nil), loader.WithCallTimeout(1)},
		"WithOverdue":              {loader.WithOverdue(nobody), loader.WithOverdue(nobody)},
		"isolate.WithMaxMessage":   worker(isolate.WithMaxMessage(1), isolate.WithMaxMessage(1)),
		"isolate.WithRestart":      worker(isolate.WithRestart(1, 1, 1), isolate.WithRestart(1, 1, 1)),
		"WithConfig":               {loader.WithConfig([]byte("a")), loader.WithConfig(nil)},
		"WithLogger":               {loader.WithLogger(log), loader.WithLogger(log)},
		"WithInstances":            {loader.WithInstances(1), loader.WithConfig(nil), loader.WithInstances(1)},
		"WithMaxCalls":             {loader.WithMaxCalls(1), loader.WithMaxCalls(1)},
		"WithSHA256":               {loader.WithSHA256(digest), loader.WithSHA256(digest)},
	} {
		_, err := loader.Open(fixture.C(t, "echo"), opts...)
		assert.ErrorIs(t, err, loader.ErrOption, name)
		assert.ErrorContains(t, err, "found "+name+" twice, expected it once", name)
	}
	p, err := loader.Open(fixture.C(t, "echo"), loader.WithUnload(), loader.WithPrivateCopy(), loader.WithPrivateCopy(), loader.WithUnload())
	require.NoError(t, err, "those without a value say the same again")
	require.NoError(t, p.Close())
}

// What Open would refuse late, or the system would drop in silence, is refused by the option's name.
func TestOptionsAreChecked(t *testing.T) {
	env := func(variable string) loader.Option { return isolate.InWorker(isolate.WithEnv("GOOD=1", variable)) }
	var none func(context.Context, int) (int, error)
	for name, c := range map[string]struct {
		option   loader.Option
		expected string
	}{
		"a variable without a value": {env("FOO"), `found isolate.WithEnv with "FOO", expected KEY=value`},
		"a variable without a name":  {env("=1"), `found isolate.WithEnv with "=1", expected KEY=value`},
		"an empty variable":          {env(""), `found isolate.WithEnv with "", expected KEY=value`},
		"a NUL byte":                 {env("A=\x00"), `found isolate.WithEnv with "A=\x00", expected KEY=value, without NUL bytes`},
		"the host's own word":        {env("FERRULE_WORKER=1"), `found isolate.WithEnv with "FERRULE_WORKER=1", expected no FERRULE_WORKER`},
		"no grace":                   {isolate.InWorker(isolate.WithGrace(0)), "found isolate.WithGrace with 0s, expected more than 0"},
		"no time":                    {loader.WithCallTimeout(0), "found WithCallTimeout with 0s, expected more than 0"},
		"nothing required":           {loader.Require(), "found Require with no name, expected the names of functions"},
		"no name of a function":      {loader.Require("e-cho"), `found Require with the name "e-cho", expected a C identifier`},
		"nobody to tell":             {loader.WithOverdue(nil), "found WithOverdue with nil, expected a function"},
		"no time to stop":            {isolate.InWorker(isolate.WithStopTimeout(0)), "found isolate.WithStopTimeout with 0s, expected more than 0"},
		"JSONFunc of nil":            {loader.WithHostFunc("f", loader.JSONFunc(none)), `found WithHostFunc with nil for "f", expected a function`},
		"FuncWith of no function":    {loader.WithHostFunc("f", loader.FuncWith(loader.JSON, none)), `found WithHostFunc with nil for "f", expected a function`},
		"FuncWith of no codec":       {loader.WithHostFunc("f", loader.FuncWith(nil, func(context.Context, int) (int, error) { return 0, nil })), `found WithHostFunc with nil for "f", expected a function`},
	} {
		_, err := loader.Open(fixture.C(t, "echo"), c.option)
		assert.ErrorIs(t, err, loader.ErrOption, name)
		assert.ErrorContains(t, err, c.expected, name)
	}
	p, err := loader.Open(fixture.C(t, "echo"), isolate.InWorker(isolate.WithEnv("EMPTY=", "A=b=c", "=C:=C:\\folder"), isolate.WithGrace(time.Nanosecond)))
	require.NoError(t, err)
	require.NoError(t, p.Close())
}

// nil for what a call needs is an error as nil for a context is, and the function is not called.
func TestNilArguments(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		f, err := p.Func("echo")
		require.NoError(t, err)
		_, withoutCodec := loader.CallWith[string, string](ctx, p, nil, "echo", "x")
		for _, err := range []error{withoutCodec, f.Batch(ctx, [][]byte{[]byte("x")}, nil)} {
			var usage *loader.UsageError
			require.ErrorAs(t, err, &usage)
			assert.ErrorIs(t, err, loader.ErrNilArgument)
			assert.Equal(t, "echo", usage.Func)
			assert.Contains(t, usage.Remedy, "loader.")
		}
	})
}
