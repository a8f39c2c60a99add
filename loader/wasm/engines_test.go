package wasm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/enginespage"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// subject is a plug-in as one engine opens it: the fixture services, its double in Go, or one of Extism's.
type subject struct {
	path   func(t *testing.T, name string) string
	engine func() loader.Option
	extism bool
	twin   *builtin.Plugin // in the place of a file
}

// open opens the plug-in with this name until the end of the test, or returns the error of that. Of what services may call, the import is offered.
func (s *subject) open(t *testing.T, name string, opts ...loader.Option) (*loader.Plugin, error) {
	t.Helper()
	all := append([]loader.Option{s.engine()}, opts...)
	if !s.extism && name == "services" {
		all = append(all, loader.WithHostFunc("needed", upper))
	}
	p, err := loader.Open(s.path(t, name), all...)
	if err == nil {
		t.Cleanup(func() { require.NoError(t, p.Close()) })
	}
	return p, err
}

// services opens what all but the last column of the page have.
func (s *subject) services(t *testing.T, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	name := "services"
	if s.extism {
		name = "count_vowels"
	}
	p, err := s.open(t, name, opts...)
	require.NoError(t, err)
	return p
}

// call calls a function that every one has: by its name in services, or the only one of a plug-in of Extism's.
func (s *subject) call(t *testing.T, p *loader.Plugin, fn, in, want string) error {
	t.Helper()
	if s.extism {
		fn, in, want = "count_vowels", "a", `"count":1`
	}
	out, err := p.Call(ctx, fn, []byte(in))
	if err == nil {
		assert.Contains(t, string(out), want)
	}
	return err
}

// errUntried is what a probe returns of a cell that it says nothing about.
var errUntried = errors.New("not tried")

// twin is the fixture services in Go, as far as the probes use it.
var twin = &builtin.Plugin{Name: "services", Version: "1.1.0", Threads: abi.Concurrent, Imports: []string{"needed"}, Wants: []string{"upper"},
	StateFormat: "count-1",
	Start: func(ctx context.Context, config []byte) (any, error) {
		s := &twinState{config: string(config)}
		if s.config == "between" {
			between, err := builtin.Background(ctx)
			if err != nil {
				return nil, err
			}
			go func() { _, _ = builtin.Import(between, "needed", []byte("tick")) }()
		}
		return s, nil
	},
	Configure: func(_ context.Context, state any, config []byte) error {
		state.(*twinState).config = string(config)
		return nil
	},
	Save: func(_ context.Context, state any) ([]byte, error) {
		return fmt.Append(nil, state.(*twinState).count.Load()), nil
	},
	Resume: func(_ context.Context, state any, saved []byte) error {
		n, err := strconv.ParseInt(string(saved), 10, 64)
		state.(*twinState).count.Store(n)
		return err
	},
	Hooks: []builtin.Function{{Name: "answer", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }},
		{Name: "around", Keys: map[string]string{"wrap": "yes"}, Call: builtin.Next}},
	Funcs: []builtin.Function{
		{Name: "add", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
			return fmt.Append(nil, builtin.State(ctx).(*twinState).count.Add(1)), nil
		}},
		{Name: "config", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
			return []byte(builtin.State(ctx).(*twinState).config), nil
		}},
		{Name: "upper", Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "upper", in) }},
		{Name: "info", Call: func(ctx context.Context, in []byte) ([]byte, error) {
			text, err := builtin.Info(ctx, string(in))
			return []byte(text), err
		}},
		{Name: "pass", Call: func(context.Context, []byte) ([]byte, error) { return nil, loader.ErrPass }},
		{Name: "log_fields", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
			builtin.Log(ctx, abi.LogWarn, "text", slog.Int("a", 1))
			return nil, nil
		}},
		{Name: "sum", Stream: abi.StreamIn, Call: func(ctx context.Context, _ []byte) ([]byte, error) {
			data, err := io.ReadAll(builtin.Input(ctx))
			builtin.Progress(ctx, uint64(len(data)), 0)
			return fmt.Append(nil, "294 ", len(data)), err
		}},
		{Name: "crash", Call: func(context.Context, []byte) ([]byte, error) { panic("as it was told") }},
	}}

// twinState is an instance's.
type twinState struct {
	config string
	count  atomic.Int64
}

// parity is a plug-in in Go with a function that says that it is quick.
var parity = &builtin.Plugin{Name: "quick", Version: "1.0.0", Funcs: []builtin.Function{{Name: "echo", Keys: map[string]string{"quick": "yes"},
	Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }}}}

// probes try what a row of the page says, by how the row begins.
var probes = map[string]func(t *testing.T, s *subject) error{
	"functions": func(t *testing.T, s *subject) error { return s.call(t, s.services(t), "add", "", "1") },
	"hooks": func(t *testing.T, s *subject) error {
		f, err := s.services(t).Hook("answer")
		if err == nil {
			_, err = f.Call(ctx, nil)
		}
		return err
	},
	"hooks around others (`WithNext`)": func(t *testing.T, s *subject) error {
		f, err := s.services(t).Hook("around")
		if err == nil {
			var out []byte
			out, err = f.Call(loader.WithNext(ctx, upper), []byte("x"))
			assert.Equal(t, "X", string(out))
		}
		return err
	},
	"host functions": func(t *testing.T, s *subject) error {
		name, fn, asked := "services", "upper", ""
		if s.extism {
			name, fn = "host_multiple", "say_green"
		}
		opts := []loader.Option{}
		for _, f := range []string{"upper", "hostGreenMessage", "hostPurpleMessage"} {
			opts = append(opts, loader.WithHostFunc(f, func(_ context.Context, in []byte) ([]byte, error) {
				asked = f
				return bytes.ToUpper(in), nil
			}))
		}
		p, err := s.open(t, name, opts...)
		if err == nil {
			_, err = p.Call(ctx, fn, []byte("x"))
			assert.NotEmpty(t, asked)
		}
		return err
	},
	"an import that is not offered": func(t *testing.T, s *subject) error {
		name := "services"
		if s.extism {
			name = "host_multiple"
		}
		_, err := loader.Open(s.path(t, name), s.engine())
		return err
	},
	"a want that is not offered": func(t *testing.T, s *subject) error {
		name := "services"
		if s.extism { // what it would use is what it needs
			name = "host_multiple"
		}
		p, err := s.open(t, name)
		if err == nil {
			_, called := p.Call(ctx, "upper", []byte("x"))
			assert.ErrorIs(t, called, loader.ErrUnsupported)
		}
		return err
	},
	"failures: status and words": func(t *testing.T, s *subject) error {
		if s.extism {
			p, err := s.open(t, "fail")
			require.NoError(t, err)
			_, err = p.Call(ctx, "run_test", nil)
			return err
		}
		_, err := s.services(t).Call(ctx, "info", []byte("shop.other"))
		assert.ErrorIs(t, err, loader.ErrUnsupported)
		return err
	},
	"nothing to say (`Try`)": func(t *testing.T, s *subject) error {
		if s.extism {
			return errUntried
		}
		f, err := s.services(t).Func("pass")
		require.NoError(t, err)
		_, status, err := f.Try(ctx, nil, nil)
		assert.Equal(t, loader.ErrPass, status)
		return err
	},
	"a context that has ended": func(t *testing.T, s *subject) error {
		p := s.services(t)
		over, cancel := context.WithCancel(ctx)
		cancel()
		_, err := p.Call(over, p.Info().Funcs[0].Name, nil)
		assert.ErrorIs(t, err, context.Canceled)
		return err
	},
	"a function that does not stop": func(t *testing.T, s *subject) error {
		var p *loader.Plugin
		var err error
		fn, opt := "spins", loader.WithHostFunc("upper", upper)
		switch {
		case s.extism:
			fn, opt = "run_test", loader.WithConfig([]byte(`{"duration": "3600000"}`))
			p, err = s.open(t, "sleep", opt)
		case strings.HasSuffix(s.path(t, "echo"), ".wasm"):
			p, err = s.open(t, "wasm_faults", opt)
		default:
			return errUntried
		}
		require.NoError(t, err)
		f, err := p.Func(fn)
		require.NoError(t, err)
		_, err = f.WithTimeout(20*time.Millisecond).Call(ctx, nil)
		return err
	},
	"log lines": func(t *testing.T, s *subject) error {
		name, fn := "services", "log_fields"
		if s.extism {
			name, fn = "log", "run_test"
		}
		var out bytes.Buffer
		p, err := s.open(t, name, loader.WithLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: loader.LevelTrace}))))
		require.NoError(t, err)
		_, err = p.Call(ctx, fn, []byte("text\x00a=1\x00"))
		assert.Equal(t, !s.extism, strings.Contains(out.String(), "a=1"), out.String())
		assert.Contains(t, out.String(), "plugin="+name)
		return err
	},
	"settings at `Open`, any bytes": func(t *testing.T, s *subject) error {
		name := "services"
		if s.extism {
			name = "config"
		}
		p, err := s.open(t, name, loader.WithConfig([]byte("first")))
		if err == nil {
			err = s.call(t, p, "config", "", "first")
		}
		return err
	},
	"`Configure`": func(t *testing.T, s *subject) error {
		p := s.services(t)
		err := p.Configure(ctx, []byte("second"))
		if err == nil {
			err = s.call(t, p, "config", "", "second")
		}
		return err
	},
	"`Handover`, saved state": func(t *testing.T, s *subject) error {
		p := s.services(t)
		require.NoError(t, s.call(t, p, "add", "", "1"))
		next, err := p.Handover(ctx, func(state *loader.State) (*loader.Plugin, error) {
			return s.open(t, "services", loader.WithState(state))
		})
		if err == nil {
			err = s.call(t, next, "add", "", "2")
		}
		return err
	},
	"sessions":                 func(t *testing.T, s *subject) error { return session(t, s, nil) },
	"a session's own settings": func(t *testing.T, s *subject) error { return session(t, s, []byte("mine")) },
	"streams": func(t *testing.T, s *subject) error {
		p := s.services(t)
		f, err := p.Func(p.Info().Funcs[slices.IndexFunc(p.Info().Funcs, func(f abi.Symbol) bool { return f.Name == "sum" || s.extism })].Name)
		require.NoError(t, err)
		out, err := f.Stream(ctx, nil, strings.NewReader("abc"), nil)
		if err == nil {
			assert.Equal(t, "294 3", string(out))
		}
		return err
	},
	"batches": func(t *testing.T, s *subject) error {
		p, name := s.services(t), "add"
		if s.extism {
			name = "count_vowels"
		}
		f, err := p.Func(name)
		require.NoError(t, err)
		var b loader.Batch
		err = f.Batch(ctx, [][]byte{nil, nil}, &b)
		assert.Equal(t, 2, b.Len())
		return errors.Join(err, b.Err())
	},
	"views": func(t *testing.T, s *subject) error {
		p, name := s.services(t), "add"
		if s.extism {
			name = "count_vowels"
		}
		f, err := p.Func(name)
		require.NoError(t, err)
		v, err := f.View(ctx, nil)
		require.NoError(t, err)
		assert.NotEmpty(t, v.Bytes())
		v.Release()
		return nil
	},
	"what the host knows (`WithPluginInfo`)": func(t *testing.T, s *subject) error {
		if s.extism {
			return errUntried
		}
		return s.call(t, s.services(t, loader.WithPluginInfo("shop.tenant", "ada")), "info", "shop.tenant", "ada")
	},
	"progress": func(t *testing.T, s *subject) error {
		p := s.services(t)
		var last uint64
		watched := loader.WithProgress(ctx, func(done, _ uint64) { last = done })
		if s.extism {
			_, err := p.Call(watched, "count_vowels", []byte("abc"))
			require.NoError(t, err)
			assert.Zero(t, last)
			return enginespage.ErrAbsent
		}
		f, err := p.Func("sum")
		require.NoError(t, err)
		_, err = f.Stream(watched, nil, strings.NewReader("abc"), nil)
		assert.EqualValues(t, 3, last)
		return err
	},
	"between calls (rule R27)": func(t *testing.T, s *subject) error {
		if s.extism {
			return errUntried
		}
		ticked := make(chan struct{}, 1)
		p, err := loader.Open(s.path(t, "services"), s.engine(), loader.WithConfig([]byte("between")),
			loader.WithHostFunc("needed", func(context.Context, []byte) ([]byte, error) {
				select {
				case ticked <- struct{}{}:
				default:
				}
				return nil, nil
			}))
		if errors.Is(err, loader.ErrStart) && errors.Is(err, loader.ErrUnsupported) {
			return enginespage.ErrAbsent // the host has no frame for it
		}
		require.NoError(t, err)
		defer func() { require.NoError(t, p.Close()) }()
		<-ticked
		return nil
	},
	"several instances (`WithInstances`)": func(t *testing.T, s *subject) error {
		return s.call(t, s.services(t, loader.WithInstances(3)), "add", "", "1")
	},
	"quick functions (`WithQuick`)": func(t *testing.T, s *subject) error {
		name, fn := "quick", "echo"
		if s.extism {
			name, fn = "count_vowels", "count_vowels"
		}
		p, err := s.open(t, name, loader.WithQuick())
		require.NoError(t, err)
		f, err := p.Func(fn)
		require.NoError(t, err)
		_, err = f.Call(ctx, []byte("x"))
		require.NoError(t, err)
		if f.Quick() {
			return nil
		}
		return enginespage.ErrAbsent
	},
	"a digest (`WithSHA256`)": func(t *testing.T, s *subject) error {
		name := "services"
		if s.extism {
			name = "count_vowels"
		}
		digest := strings.Repeat("0", 64)
		if s.twin == nil {
			file, err := os.ReadFile(s.path(t, name))
			require.NoError(t, err)
			digest = fmt.Sprintf("%x", sha256.Sum256(file))
		}
		_, err := s.open(t, name, loader.WithSHA256(digest))
		return err
	},
	"a crash, or a trap": func(t *testing.T, s *subject) error {
		name, fn := "services", "crash"
		if s.extism {
			name, fn = "http", "run_test" // which asks for what it may not
		}
		p, err := s.open(t, name)
		require.NoError(t, err)
		_, err = p.Call(ctx, fn, nil)
		return err
	},
	"a folder of its own (`WithDataFolder`)": func(t *testing.T, s *subject) error {
		folder := t.TempDir()
		p := s.services(t, loader.WithDataFolder(folder))
		return s.call(t, p, "info", "data", folder)
	},
}

func session(t *testing.T, s *subject, config []byte) error {
	p := s.services(t, loader.WithConfig(nil))
	own, err := p.NewSession(ctx, config)
	if err != nil {
		return err
	}
	fn := "config"
	if s.extism {
		fn = "count_vowels"
	}
	out, err := own.Call(ctx, fn, nil)
	if !s.extism {
		assert.Equal(t, string(config), string(out))
	}
	return errors.Join(err, own.Close())
}

// held are the rows of the page that the tests of other packages hold, or others of this one.
var held = map[string]string{
	"option":                          "this one opens them so",
	"calls of one instance at a time": "loader.TestThreads, TestTogether",
	"limits":                          "sandbox.TestMemory, TestMemory, TestFuel",
	"reaches":                         "sandbox.TestZeroPolicyRefusesEverything, TestFolders, TestExtism, sidecar.TestSandbox",
	"`permit` in config.yaml":         "wasmtest.TestPermits, plugins.TestPermitsOfPrograms",
	"when it is closed":               "loader.TestOpenUnload, TestTogether",
	"runs on":                         "those that run the tests",
}

// unmade are cells that would end this process, or hold it: column by row.
var unmade = map[string][]int{"a crash, or a trap": {0}, "a function that does not stop": {0, 1, 2}, "quick functions (`WithQuick`)": {0}}

// The cells of the page about the engines are tried with a plug-in of that engine: what is there works, and what is not is the error that stands there.
func TestEnginesPage(t *testing.T) {
	native := func(t *testing.T, name string) string { return fixture.C(t, name) }
	module := func(t *testing.T, name string) string { return fixture.WasmC(t, name) }
	own := func() loader.Option { return loader.WithEngine(wasm.Engine(wasm.WithGrace(20 * time.Millisecond))) }
	with := func(e engine.Engine) func() loader.Option {
		return func() loader.Option { return loader.WithEngine(e) }
	}
	folder := fixture.Extism(t)
	columns := []*subject{
		{path: native, engine: with(loader.Native())},
		{path: native, engine: func() loader.Option { return isolate.InWorker() }},
		{path: func(_ *testing.T, name string) string { return name }, twin: twin, engine: with(builtin.Engine(twin, parity))},
		{path: module, engine: own},
		{path: func(_ *testing.T, name string) string { return filepath.Join(folder, name+".wasm") }, engine: own, extism: true},
		{path: native, engine: func() loader.Option { return served(t) }},
	}
	tried := 0 // the last three columns are remote.TestEnginesPage's and script.TestEnginesPage's
	for row, cells := range enginespage.Rows(t, probes, held) {
		for i, s := range columns {
			if slices.Contains(unmade[row], i) {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", row, i), func(t *testing.T) {
				err := probes[row](t, s)
				if err == errUntried {
					t.Skip("no plug-in can ask for it")
				}
				tried++
				enginespage.Judge(t, cells[i], err)
			})
		}
	}
	t.Logf("%d cells", tried)
	assert.Greater(t, tried, 110)
}
