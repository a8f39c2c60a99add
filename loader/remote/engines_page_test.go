package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/enginespage"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// probed is a node's plug-in that does what the rows of the page about the engines are of. release lets the function end that does not stop.
func probed(release <-chan struct{}) serve.Plugin {
	type state struct {
		config  string
		between context.Context
		refused error // of Background
	}
	return serve.Go(&builtin.Plugin{Name: "probed", Version: "1.0.0", Threads: abi.Concurrent, Imports: []string{"needed"}, Wants: []string{"upper"}, StateFormat: "count-1",
		Start: func(ctx context.Context, config []byte) (any, error) {
			between, err := builtin.Background(ctx)
			return &state{string(config), between, err}, nil
		},
		Configure: func(_ context.Context, s any, config []byte) error { s.(*state).config = string(config); return nil },
		Save:      func(context.Context, any) ([]byte, error) { return nil, nil },
		Resume:    func(context.Context, any, []byte) error { return nil },
		Hooks: []builtin.Function{{Name: "answer", Call: func(context.Context, []byte) ([]byte, error) { return []byte("42"), nil }},
			{Name: "around", Keys: map[string]string{"wrap": "yes"}, Call: builtin.Next}},
		Funcs: []builtin.Function{
			{Name: "echo", Keys: map[string]string{"quick": "yes"}, Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }},
			{Name: "config", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				return []byte(builtin.State(ctx).(*state).config), nil
			}},
			{Name: "upper", Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "upper", in) }},
			{Name: "info", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				text, err := builtin.Info(ctx, string(in))
				return []byte(text), err
			}},
			{Name: "pass", Call: func(context.Context, []byte) ([]byte, error) { return nil, loader.ErrPass }},
			{Name: "fail", Call: func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no") }},
			{Name: "log", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				builtin.Log(ctx, abi.LogWarn, "text", slog.Int("a", 1))
				return nil, nil
			}},
			{Name: "length", Stream: abi.StreamIn, Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				data, err := io.ReadAll(builtin.Input(ctx))
				builtin.Progress(ctx, uint64(len(data)), 0)
				return fmt.Append(nil, len(data)), err
			}},
			{Name: "stuck", Call: func(context.Context, []byte) ([]byte, error) { <-release; return nil, nil }},
			{Name: "between", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				s := builtin.State(ctx).(*state)
				if s.refused != nil {
					return nil, s.refused
				}
				asked := make(chan error) // of no call
				go func() {
					_, err := builtin.Import(s.between, "needed", []byte("x"))
					asked <- err
				}()
				return nil, <-asked
			}},
		}})
}

// onNodes opens probed, with the import that it needs and these options.
type onNodes func(...loader.Option) (*loader.Plugin, error)

// pageProbes try what a row of the page says of nodes.
var pageProbes = map[string]func(t *testing.T, p *loader.Plugin, open onNodes) error{
	"functions": func(t *testing.T, p *loader.Plugin, _ onNodes) error { return answers(t, p, "echo", "a", "a") },
	"hooks": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		f, err := p.Hook("answer")
		require.NoError(t, err)
		out, err := f.Call(t.Context(), nil)
		assert.Equal(t, "42", string(out))
		return err
	},
	"hooks around others (`WithNext`)": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		f, err := p.Hook("around")
		require.NoError(t, err)
		out, err := f.Call(loader.WithNext(t.Context(), upper), []byte("x"))
		assert.Equal(t, "X", string(out))
		return err
	},
	"host functions": func(t *testing.T, _ *loader.Plugin, open onNodes) error {
		p, err := open(loader.WithHostFunc("upper", upper))
		require.NoError(t, err)
		return answers(t, p, "upper", "x", "X")
	},
	"a want that is not offered": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		_, err := p.Call(t.Context(), "upper", []byte("x"))
		assert.ErrorIs(t, err, loader.ErrUnsupported)
		return answers(t, p, "echo", "a", "a")
	},
	"failures: status and words": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		_, err := p.Call(t.Context(), "fail", nil)
		assert.ErrorIs(t, err, loader.ErrFailed)
		assert.ErrorContains(t, err, "no")
		return err
	},
	"nothing to say (`Try`)": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		f, err := p.Func("pass")
		require.NoError(t, err)
		_, status, err := f.Try(t.Context(), nil, nil)
		assert.Equal(t, loader.ErrPass, status)
		return err
	},
	"a context that has ended": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := p.Call(over, "echo", nil)
		return err
	},
	"a function that does not stop": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		f, err := p.Func("stuck")
		require.NoError(t, err)
		_, err = f.WithTimeout(20*time.Millisecond).Call(t.Context(), nil)
		return err
	},
	"log lines": func(t *testing.T, _ *loader.Plugin, open onNodes) error {
		var lines lockedBuilder
		p, err := open(loader.WithLogger(slog.New(slog.NewTextHandler(&lines, nil))))
		require.NoError(t, err)
		_, err = p.Call(t.Context(), "log", nil)
		assert.Contains(t, lines.String(), "msg=text plugin=probed")
		assert.Contains(t, lines.String(), "a=1")
		return err
	},
	"settings at `Open`, any bytes": opens(loader.WithConfig([]byte("x"))),
	"`Configure`": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		return p.Configure(t.Context(), []byte("x"))
	},
	"`Handover`, saved state": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		_, err := p.Handover(t.Context(), func(*loader.State) (*loader.Plugin, error) { return nil, errors.New("there is none") })
		return err
	},
	"sessions":                 func(t *testing.T, p *loader.Plugin, _ onNodes) error { return inSession(t, p, nil) },
	"a session's own settings": func(t *testing.T, p *loader.Plugin, _ onNodes) error { return inSession(t, p, []byte("mine")) },
	"streams": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		f, err := p.Func("length")
		require.NoError(t, err)
		out, err := f.Stream(t.Context(), nil, strings.NewReader("abc"), nil)
		assert.Equal(t, "3", string(out))
		return err
	},
	"batches": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		f, err := p.Func("echo")
		require.NoError(t, err)
		var b loader.Batch
		err = f.Batch(t.Context(), [][]byte{[]byte("a"), []byte("b")}, &b)
		assert.Equal(t, 2, b.Len())
		return errors.Join(err, b.Err())
	},
	"views": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		f, err := p.Func("echo")
		require.NoError(t, err)
		v, err := f.View(t.Context(), []byte("a"))
		if err == nil {
			assert.Equal(t, "a", string(v.Bytes()))
			v.Release()
		}
		return err
	},
	"what the host knows (`WithPluginInfo`)": func(t *testing.T, _ *loader.Plugin, open onNodes) error {
		p, err := open(loader.WithPluginInfo("shop.tenant", "ada"))
		require.NoError(t, err)
		return answers(t, p, "info", "shop.tenant", "ada")
	},
	"progress": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		f, err := p.Func("length")
		require.NoError(t, err)
		var last uint64
		_, err = f.Stream(loader.WithProgress(t.Context(), func(done, _ uint64) { last = done }), nil, strings.NewReader("abc"), nil)
		assert.EqualValues(t, 3, last)
		return err
	},
	"between calls (rule R27)": func(t *testing.T, p *loader.Plugin, _ onNodes) error {
		if _, err := p.Call(t.Context(), "between", nil); err != nil {
			assert.ErrorIs(t, err, loader.ErrUnsupported)
			return enginespage.ErrAbsent
		}
		return nil
	},
	"several instances (`WithInstances`)": opens(loader.WithInstances(3)),
	"quick functions (`WithQuick`)": func(t *testing.T, _ *loader.Plugin, open onNodes) error {
		p, err := open(loader.WithQuick())
		require.NoError(t, err)
		f, err := p.Func("echo")
		require.NoError(t, err)
		if f.Quick() {
			return nil
		}
		require.NoError(t, answers(t, p, "echo", "a", "a"))
		return enginespage.ErrAbsent
	},
	"a digest (`WithSHA256`)":                opens(loader.WithSHA256(strings.Repeat("0", 64))),
	"a folder of its own (`WithDataFolder`)": opens(loader.WithDataFolder(os.TempDir())),
}

// pageHeld are the rows of the page that other tests hold.
var pageHeld = map[string]string{
	"option":                          "this one opens them so",
	"calls of one instance at a time": "serve.Share's",
	"a crash, or a trap":              "TestFaults",
	"limits":                          "the engines' that a node has",
	"reaches":                         "the engines' that a node has",
	"`permit` in config.yaml":         "config.TestFaults",
	"when it is closed":               "TestHostIsGone",
	"runs on":                         "those that run the tests",
}

func upper(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil }

func opens(opt loader.Option) func(*testing.T, *loader.Plugin, onNodes) error {
	return func(_ *testing.T, _ *loader.Plugin, open onNodes) error {
		_, err := open(opt)
		return err
	}
}

func answers(t *testing.T, p *loader.Plugin, fn, in, want string) error {
	out, err := p.Call(t.Context(), fn, []byte(in))
	if err == nil {
		assert.Equal(t, want, string(out))
	}
	return err
}

// inSession has a session with settings of its own; without any it has the node's.
func inSession(t *testing.T, p *loader.Plugin, config []byte) error {
	s, err := p.NewSession(t.Context(), config)
	if err != nil {
		return err
	}
	out, err := s.Call(t.Context(), "config", nil)
	if config != nil {
		assert.Equal(t, string(config), string(out))
	}
	return errors.Join(err, s.Close())
}

// The cells of the page about the engines that are about nodes are tried over NATS and over MQTT: what is there works, and what is not is the error that stands there.
func TestEnginesPage(t *testing.T) {
	for name, k := range map[string]*kit{"NATS": inNATS, "MQTT": inMochi} {
		t.Run(name, func(t *testing.T) {
			s, release := k.Start(t, 0), make(chan struct{})
			leave := k.Node(t, probed(release), node{URL: s.URL(), Workers: 4}, loader.WithConfig([]byte("of the node")))
			defer func() {
				close(release)
				leave()
			}()
			bare := func(opts ...loader.Option) (*loader.Plugin, error) {
				p, err := loader.Open(s.URL()+"/probed", append(opts, k.Plugin(0))...)
				if err == nil {
					t.Cleanup(func() { assert.NoError(t, p.Close()) })
				}
				return p, err
			}
			open := func(opts ...loader.Option) (*loader.Plugin, error) {
				return bare(append(opts, loader.WithHostFunc("needed", upper))...)
			}
			p, err := open()
			require.NoError(t, err)
			probes := maps.Clone(pageProbes)
			probes["an import that is not offered"] = func(*testing.T, *loader.Plugin, onNodes) error { _, err := bare(); return err }
			for row, cells := range enginespage.Rows(t, probes, pageHeld) {
				t.Run(row, func(t *testing.T) { enginespage.Judge(t, cells[enginespage.Node], probes[row](t, p, open)) })
			}
		})
	}
}
