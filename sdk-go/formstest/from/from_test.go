// Package from tests plug-ins of sdk-go that a host has compiled in: neither that module nor package builtin knows the other.
package from_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
	"github.com/ferrule-dev/ferrule/plugins"
	ferrule "github.com/ferrule-dev/ferrule/sdk-go"
	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

var (
	_ builtin.Source = (*plugin.Plugin)(nil)
	_                = func(h plugin.Host) builtin.Host { return h } // which no assignment of a type to another one would show
	_ *plugin.Host   = (*builtin.Host)(nil)
)

// call is a function of a plug-in's.
type call = func(ctx context.Context, state any, in []byte) ([]byte, error)

// functions are some with these names, without keys.
func functions(calls map[string]call) (all []plugin.Function) {
	for name, call := range calls {
		all = append(all, plugin.Function{Name: name, Call: call})
	}
	return all
}

// defined is a definition with what it has to have.
func defined(d plugin.Definition) *builtin.Plugin {
	d.Name, d.Version = "p", "1.0.0"
	return builtin.From(plugin.New(d))
}

// open opens a plug-in until the test ends.
func open(t *testing.T, p *builtin.Plugin, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	opened, err := builtin.Open(p, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, opened.Close()) })
	return opened
}

// lines are what a plug-in logs.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) option() loader.Option {
	return loader.WithLogger(slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug - 4})))
}

func none(context.Context, any, []byte) ([]byte, error) { return nil, nil }

func all() *plugin.Plugin {
	return plugin.New(plugin.Definition{Name: "every-thing.x", Version: "1.2.3 <ü>", Description: "It has all.", Threads: "pinned", Config: `{"type":"object"}`,
		Keys: map[string]string{"license": "MIT", "state": "v1", "provides": "a\nb", "x-own": "1=2"},
		Functions: []plugin.Function{{Name: "plain", Call: none}, {Name: "told", Call: none, Keys: map[string]string{"doc": "It is told,\nat length.", "in": "text/plain",
			"out": "application/json", "schema": "{}", "stream": "both", "since": "1.1", "x-own": "b"}}},
		Hooks:   []plugin.Function{{Name: "told", Call: none, Keys: map[string]string{"doc": "A hook.", "order": "first", "wrap": "yes", "stream": "in"}}},
		Imports: []plugin.Import{{Name: "rate", Keys: map[string]string{"doc": "The rate of a currency.", "why": "to count"}}, {Name: "bare"}},
		Wants:   []plugin.Import{{Name: "maybe", Keys: map[string]string{"doc": "Perhaps.", "from": "2.0"}}},
		Start:   func(context.Context, []byte) (any, error) { return nil, nil },
		Stop:    func(context.Context, any) error { return nil }, Configure: func(context.Context, any, []byte) error { return nil },
		Save: func(context.Context, any) ([]byte, error) { return nil, nil }, Resume: func(context.Context, any, []byte) error { return nil },
	})
}

// sorted is a description whose texts have their keys in one order.
func sorted(d *abi.Description) *abi.Description {
	by := func(text abi.Text) {
		slices.SortFunc(text, func(a, b abi.KeyValue) int { return strings.Compare(a.Key, b.Key) })
	}
	by(d.Manifest.Keys)
	for _, list := range [][]abi.Symbol{d.Funcs, d.Hooks, d.Imports, d.Wants} {
		for _, s := range list {
			by(s.Keys)
		}
	}
	return d
}

// What a plug-in says of itself is what it says as a sidecar.
func TestDescription(t *testing.T) {
	for _, p := range []*plugin.Plugin{all(), vowels("serial")} {
		want, err := wire.ParseManifest(p.Manifest())
		require.NoError(t, err)
		got, err := builtin.Describe(builtin.From(p))
		require.NoError(t, err)
		assert.Equal(t, sorted(want), sorted(got))
	}
	changed := builtin.From(all())
	changed.ImportKeys["rate"]["doc"] = "Changed."
	got, err := builtin.Describe(builtin.From(all()))
	require.NoError(t, err)
	assert.Equal(t, "The rate of a currency.", got.Imports[1].Doc, "each call of From makes one of its own")
}

// another is a source whose manifest, or whose functions, are others.
type another struct {
	*plugin.Plugin
	manifest string
}

func (a another) Manifest() []byte { return []byte(a.manifest) }

func TestWhatIsNone(t *testing.T) {
	assert.Nil(t, builtin.From(nil))
	for manifest, text := range map[string]string{
		"{":            "builtin.From of a plug-in with a manifest that is not JSON (it ends too early), expected a JSON object (rule W5 of docs/wire.md). Have `ferrule gen` write it again",
		`{"name":"p"}`: "builtin.From of a plug-in with a manifest without a version, expected text (rule W5 of docs/wire.md)",
		`{"nome":"p"}`: `builtin.From of a plug-in with the key "nome"`,
		`{"name":"p","version":"1","functions":{"other":{}}}`: `builtin.From of a plug-in with the function other in the manifest of "p", and not in its Function, expected it in both`,
	} {
		_, err := builtin.Open(builtin.From(another{vowels("serial"), manifest}))
		assert.ErrorIs(t, err, loader.ErrOption, manifest)
		assert.ErrorContains(t, err, text, manifest)
		_, err = builtin.Describe(builtin.From(another{vowels("serial"), manifest}))
		assert.ErrorContains(t, err, text, manifest)
	}
}

// forms are the ways to a plug-in that a table runs over: compiled in, wrapped by a host, and served over a socket.
var forms = map[string]func(t *testing.T, p *builtin.Plugin, opts ...loader.Option) *loader.Plugin{
	"compiled in": open,
	"wrapped": func(t *testing.T, p *builtin.Plugin, opts ...loader.Option) *loader.Plugin {
		for i := range p.Funcs {
			inner := p.Funcs[i].Call
			p.Funcs[i].Call = func(ctx context.Context, in []byte) ([]byte, error) {
				out, err := inner(context.WithValue(ctx, wrapped{}, true), in)
				if err != nil {
					err = fmt.Errorf("%w", err)
				}
				return out, err
			}
		}
		return open(t, p, opts...)
	},
	"served": func(t *testing.T, p *builtin.Plugin, opts ...loader.Option) *loader.Plugin {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		ctx, stop := context.WithCancel(context.Background())
		over := make(chan error, 1)
		go func() { over <- serve.Listen(ctx, listener, serve.Go(p), serve.Options{}) }()
		opened, err := loader.Open("tcp:"+listener.Addr().String(), append(opts, sidecar.Program())...)
		require.NoError(t, err)
		t.Cleanup(func() {
			assert.NoError(t, opened.Close())
			stop()
			<-over
		})
		return opened
	},
}

type wrapped struct{}

// selfish is a value of a panic that cannot say what it is.
type selfish struct{}

func (s selfish) Error() string { panic(s) }

// Statuses and messages are the same compiled in, wrapped, and behind the wire.
func TestStatuses(t *testing.T) {
	var fail atomic.Pointer[error] // a socket orders nothing that the race detector knows of
	var started atomic.Int32
	definition := plugin.Definition{Start: func(context.Context, []byte) (any, error) { started.Add(1); return nil, nil },
		Imports: []plugin.Import{{Name: "refuse"}, {Name: "panic"}}, Wants: []plugin.Import{{Name: "absent"}}, Functions: functions(map[string]call{
			"f":    func(context.Context, any, []byte) ([]byte, error) { return []byte("a result"), *fail.Load() },
			"text": func(_ context.Context, _ any, in []byte) ([]byte, error) { _, err := plugin.Text(in); return nil, err },
			"ask": func(ctx context.Context, _ any, in []byte) ([]byte, error) {
				out, err := ferrule.Call(ctx, string(in), []byte("given"))
				return out, err
			},
			"wrapped": func(ctx context.Context, _ any, in []byte) ([]byte, error) {
				_, err := ferrule.Call(ctx, string(in), nil)
				return nil, fmt.Errorf("no rate: %w", err)
			},
			"panic": func(_ context.Context, _ any, in []byte) ([]byte, error) {
				switch string(in) {
				case "error":
					panic(errors.New("a fault"))
				case "selfish":
					panic(selfish{})
				case "index":
					_ = in[len(in)]
				}
				panic(string(in))
			},
		})}
	opts := []loader.Option{loader.WithLogger(slog.New(slog.DiscardHandler)),
		loader.WithHostFunc("refuse", func(_ context.Context, in []byte) ([]byte, error) {
			return nil, fmt.Errorf("not %s: %w", in, loader.ErrInvalid)
		}),
		loader.WithHostFunc("panic", func(context.Context, []byte) ([]byte, error) { panic("a fault of the host") })}
	for form, open := range forms {
		t.Run(form, func(t *testing.T) {
			p := open(t, defined(definition), opts...)
			for _, c := range []struct {
				err     error
				status  loader.Status
				message string
				renewed bool
			}{
				{ferrule.ErrInvalid, loader.ErrInvalid, "", false},
				{fmt.Errorf("no number: %w", ferrule.ErrInvalid), loader.ErrInvalid, "no number", false},
				{fmt.Errorf("in the middle (%w) of it", ferrule.ErrUnsupported), loader.ErrUnsupported, "in the middle (unsupported) of it", false},
				{ferrule.ErrMisuse, loader.ErrMisuse, "", false},
				{ferrule.ErrPass, loader.ErrPass, "", false},
				{ferrule.ErrNoMemory, loader.ErrNoMemory, "", false},
				{ferrule.Status(8), loader.ErrFailed, "more room needed", false},
				{ferrule.Status(500), loader.ErrFailed, "status 500", false},
				{ferrule.Status(1001), 1001, "", false},
				{fmt.Errorf("sold out: %w", ferrule.Status(1001)), 1001, "sold out", false},
				{ferrule.Status(-3), loader.ErrFailed, "status -3", false},
				{ferrule.Status(0), loader.ErrFailed, "an error whose status says that it worked", false},
				{fmt.Errorf("broken: %w", ferrule.ErrPanic), loader.ErrPanic, "broken", true},
				{errors.New("late"), loader.ErrFailed, "late", false},
				{errors.New("not UTF-8: caf\xe9"), loader.ErrFailed, "not UTF-8: caf\uFFFD", false},
				{context.Canceled, loader.ErrCancelled, "context canceled", false},
				{fmt.Errorf("too slow: %w", context.DeadlineExceeded), loader.ErrCancelled, "too slow: context deadline exceeded", false},
			} {
				fail.Store(&c.err)
				before := started.Load()
				_, err := p.Call(t.Context(), "f", nil)
				var failed *loader.CallError
				require.ErrorAs(t, err, &failed)
				assert.Equal(t, c.status, failed.Status, "%v", c.err)
				assert.Equal(t, c.message, failed.Message, "%v", c.err)
				fail.Store(new(error))
				out, err := p.Call(t.Context(), "f", nil)
				require.NoError(t, err)
				assert.Equal(t, "a result", string(out))
				assert.Equal(t, c.renewed, started.Load() > before, "%v", c.err)
			}
			for _, c := range [][3]string{
				{"text", "caf\xe9", "invalid input: the input is not UTF-8: the byte 0xe9, after 3"},
				{"ask", "refuse", "invalid input: refuse: not given"},
				{"ask", "panic", "failed: panic: host function panic panicked: a fault of the host"},
				{"ask", "absent", "unsupported: absent"},
				{"ask", "missing", "misuse: missing: "},
				{"wrapped", "refuse", "invalid input: no rate: refuse: not"},
				{"panic", "a text", "panic: a text"},
				{"panic", "error", "panic: a fault"},
				{"panic", "selfish", "panic: a from_test.selfish, which cannot say what it is"},
				{"panic", "index", "panic: runtime error: index out of range [5] with length 5"},
			} {
				_, err := p.Call(t.Context(), c[0], []byte(c[1]))
				assert.ErrorContains(t, err, "plug-in p: "+c[0]+": "+c[2])
			}
			_, err := p.Call(t.Context(), "f", nil)
			require.NoError(t, err, "it goes on")
		})
	}
}

// What belongs to the call is had by its context, in every form; the values of a caller's context come as far as they do to any function in Go.
func TestServices(t *testing.T) {
	definition := plugin.Definition{Threads: "concurrent", Imports: []plugin.Import{{Name: "upper"}}, Wants: []plugin.Import{{Name: "maybe"}}, Functions: functions(map[string]call{
		"upper": func(ctx context.Context, _ any, in []byte) ([]byte, error) { return ferrule.Call(ctx, "upper", in) },
		"echo":  func(_ context.Context, _ any, in []byte) ([]byte, error) { return in, nil },
		"info": func(ctx context.Context, _ any, in []byte) ([]byte, error) {
			out, err := ferrule.Info(ctx, string(in))
			return []byte(out), err
		},
		"offered": func(ctx context.Context, _ any, in []byte) ([]byte, error) {
			return plugin.ToJSON(ferrule.Offered(ctx, string(in)))
		},
		"log": func(ctx context.Context, _ any, _ []byte) ([]byte, error) {
			logger := ferrule.Logger(ctx).With("who", "me").WithGroup("shop")
			logger.Warn("a line", "n", 7, slog.Group("user", "na=me", "a\x00b"))
			logger.Debug("two\n")
			return nil, nil
		},
		"progress": func(ctx context.Context, _ any, _ []byte) ([]byte, error) {
			ferrule.Progress(ctx, 3, 4)
			return nil, nil
		},
		"next": func(ctx context.Context, _ any, in []byte) ([]byte, error) { return ferrule.Next(ctx, in) },
		"deadline": func(ctx context.Context, _ any, _ []byte) ([]byte, error) {
			_, has := ctx.Deadline()
			return plugin.ToJSON(has)
		},
		"wait": func(ctx context.Context, _ any, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() },
		"between": func(ctx context.Context, _ any, _ []byte) ([]byte, error) {
			_, err := ferrule.Background(ctx)
			return nil, err
		},
	})}
	for form, open := range forms {
		t.Run(form, func(t *testing.T) {
			var log lines
			p := open(t, defined(definition), log.option(), loader.WithPluginInfo("shop.name", "Ada's"),
				loader.WithHostFunc("upper", func(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil }))
			for _, c := range [][3]string{
				{"upper", "abc é", "ABC É"}, {"echo", "", ""}, {"echo", "\x00\xff", "\x00\xff"}, {"info", "shop.name", "Ada's"}, {"info", "instance", "0"},
				{"offered", "upper", "true"}, {"offered", "maybe", "false"}, {"offered", "other", "false"}, {"deadline", "", "false"},
			} {
				out, err := p.Call(t.Context(), c[0], []byte(c[1]))
				require.NoError(t, err, "%s %s", c[0], c[1])
				assert.Equal(t, c[2], string(out), "%s %s", c[0], c[1])
			}
			for _, c := range [][3]string{{"info", "path", "unsupported: path"}, {"info", "", "misuse: info: found a key that is not UTF-8 of 1 to 256 bytes"},
				{"info", "remaining", "unsupported: remaining"}, {"next", "", "unsupported: next"}, {"between", "", "unsupported: background: nothing goes on between calls here"}} {
				_, err := p.Call(t.Context(), c[0], []byte(c[1]))
				assert.ErrorContains(t, err, "plug-in p: "+c[0]+": "+c[2])
			}
			limited, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			out, err := p.Call(limited, "info", []byte("remaining"))
			require.NoError(t, err)
			remaining, err := strconv.ParseInt(string(out), 10, 64)
			require.NoError(t, err)
			assert.InDelta(t, float64(time.Hour), float64(remaining), float64(30*time.Minute))
			out, err = p.Call(limited, "deadline", nil)
			require.NoError(t, err)
			assert.Equal(t, "true", string(out))

			_, err = p.Call(t.Context(), "log", nil)
			require.NoError(t, err)
			assert.Contains(t, log.String(), `level=WARN msg="a line" plugin=p who=me shop.n=7 shop.user.na_me="a`+"\uFFFD"+`b"`)
			assert.Contains(t, log.String(), "level=DEBUG msg=two plugin=p who=me\n")

			var told atomic.Uint64
			_, err = p.Call(loader.WithProgress(t.Context(), func(done, total uint64) { told.Store(done<<32 | total) }), "progress", nil)
			require.NoError(t, err)
			assert.Equal(t, uint64(3<<32|4), told.Load())

			ended, end := context.WithCancel(t.Context())
			waits := make(chan error)
			go func() { _, err := p.Call(ended, "wait", nil); waits <- err }()
			end()
			assert.ErrorIs(t, <-waits, context.Canceled)
		})
	}
}

// Streams are read and written as the contract has it, and are unsupported in a call without.
func TestStreams(t *testing.T) {
	copies := plugin.Function{Name: "copy", Keys: map[string]string{"stream": "both"}, Call: func(ctx context.Context, _ any, in []byte) ([]byte, error) {
		n, err := io.Copy(plugin.Output(ctx), io.LimitReader(plugin.Input(ctx), 200_000))
		return fmt.Append(in, n), err
	}}
	for form, open := range forms {
		t.Run(form, func(t *testing.T) {
			p := open(t, defined(plugin.Definition{Functions: []plugin.Function{copies}}))
			f, err := p.Func("copy")
			require.NoError(t, err)
			data := bytes.Repeat([]byte("0123456789"), 20_000)
			var to bytes.Buffer
			out, err := f.Stream(t.Context(), []byte("copied "), bytes.NewReader(data), &to)
			require.NoError(t, err)
			assert.Equal(t, "copied 200000", string(out))
			assert.Equal(t, data, to.Bytes())
			_, err = f.Stream(t.Context(), nil, io.MultiReader(strings.NewReader("some"), broken{}), &to)
			assert.ErrorContains(t, err, "the input stream")
			_, err = f.Call(t.Context(), nil)
			assert.ErrorIs(t, err, loader.ErrUnsupported)
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("it is broken") }

// counter is an instance's state.
type keeper struct {
	n       int
	between context.Context
}

func keeping(stopped *atomic.Int32) plugin.Definition {
	number := func(text []byte, otherwise int) (int, error) {
		if len(text) == 0 {
			return otherwise, nil
		}
		n, err := strconv.Atoi(string(text))
		if err != nil {
			return 0, fmt.Errorf("no number: %w", ferrule.ErrInvalid)
		}
		return n, nil
	}
	return plugin.Definition{Keys: map[string]string{"state": "number"}, Config: "{}", Imports: []plugin.Import{{Name: "host"}},
		Start: func(ctx context.Context, config []byte) (any, error) {
			n, err := number(config, 0)
			if err != nil {
				return nil, err
			}
			between, err := ferrule.Background(ctx)
			if err != nil {
				return nil, err
			}
			if _, err := ferrule.Call(ctx, "host", nil); err != nil {
				return nil, err
			}
			return &keeper{n, between}, nil
		},
		Stop: func(ctx context.Context, state any) error {
			stopped.Add(1)
			k := state.(*keeper)
			ferrule.Logger(ctx).Info("stops", "n", k.n, "ended", k.between.Err() != nil)
			return fmt.Errorf("the till stays open: %w", ferrule.ErrUnsupported)
		},
		Configure: func(_ context.Context, state any, config []byte) (err error) {
			n, err := number(config, 0)
			if err == nil {
				state.(*keeper).n = n
			}
			return err
		},
		Save: func(_ context.Context, state any) ([]byte, error) { return fmt.Append(nil, state.(*keeper).n), nil },
		Resume: func(_ context.Context, state any, saved []byte) (err error) {
			n, err := number(saved, -1)
			state.(*keeper).n = n + 100
			return err
		},
		Functions: functions(map[string]call{
			"next": func(_ context.Context, state any, _ []byte) ([]byte, error) {
				k := state.(*keeper)
				k.n++
				return plugin.ToJSON(k.n)
			},
			"panic": func(context.Context, any, []byte) ([]byte, error) { panic("a fault") },
			"between": func(_ context.Context, state any, _ []byte) ([]byte, error) {
				return ferrule.Call(state.(*keeper).between, "host", []byte("from between"))
			},
		})}
}

// The state of an instance is what its start has made; it is configured, saved, resumed and stopped as the contract has it.
func TestState(t *testing.T) {
	for form, open := range forms {
		t.Run(form, func(t *testing.T) {
			var log lines
			var stopped atomic.Int32
			var asked atomic.Int32
			host := loader.WithHostFunc("host", func(_ context.Context, in []byte) ([]byte, error) { asked.Add(1); return in, nil })
			p := open(t, defined(keeping(&stopped)), host, log.option(), loader.WithConfig([]byte("41")))
			call := func(fn string, want string) {
				t.Helper()
				out, err := p.Call(t.Context(), fn, nil)
				require.NoError(t, err)
				assert.Equal(t, want, string(out))
			}
			call("next", "42")
			call("between", "from between")
			require.NoError(t, p.Configure(t.Context(), []byte("7")))
			call("next", "8")
			assert.ErrorContains(t, p.Configure(t.Context(), []byte("seven")), "invalid input: no number")
			call("next", "9")
			_, err := p.Call(t.Context(), "panic", nil)
			assert.ErrorIs(t, err, loader.ErrPanic)
			assert.ErrorContains(t, err, "a fault")
			call("next", "8")
			require.EqualValues(t, 2, asked.Load()-1, "by two starts, and between calls")

			s, err := p.NewSession(t.Context(), nil)
			require.NoError(t, err)
			out, err := s.Call(t.Context(), "next", nil)
			require.NoError(t, err)
			assert.Equal(t, "8", string(out))
			require.NoError(t, s.Close())
			call("next", "9")

			next, err := p.Handover(t.Context(), func(state *loader.State) (*loader.Plugin, error) {
				return builtin.Open(defined(keeping(&stopped)), host, log.option(), loader.WithState(state))
			})
			require.NoError(t, err)
			out, err = next.Call(t.Context(), "next", nil)
			require.NoError(t, err)
			assert.Equal(t, "110", string(out))
			require.NoError(t, p.Close()) // which waits for its stop
			before := stopped.Load()
			require.NoError(t, next.Close())
			assert.Equal(t, before+1, stopped.Load())
			assert.Contains(t, log.String(), "msg=stops plugin=p n=110 ended=true")
			assert.Contains(t, log.String(), `level=WARN msg="Stop: unsupported: the till stays open" plugin=p`)
		})
	}
	_, err := builtin.Open(defined(keeping(new(atomic.Int32))), loader.WithHostFunc("host", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }),
		loader.WithConfig([]byte("seven")))
	assert.ErrorIs(t, err, loader.ErrStart)
	assert.ErrorContains(t, err, "no number")
	_, err = builtin.Open(defined(keeping(new(atomic.Int32))))
	assert.ErrorIs(t, err, loader.ErrMissingImport)
}

// A panic is a line in the log with where it was, and what was it about; so is the end of a goroutine, which ends the caller's, but for a pinned plug-in's.
func TestPanicAndGoexit(t *testing.T) {
	for _, threads := range []string{"serial", "concurrent", "pinned"} {
		started := 0
		var log lines
		p := open(t, defined(plugin.Definition{Threads: threads, Start: func(context.Context, []byte) (any, error) { started++; return nil, nil }, Functions: functions(map[string]call{
			"panic": func(context.Context, any, []byte) ([]byte, error) { panic("a fault") },
			"exit":  func(context.Context, any, []byte) ([]byte, error) { runtime.Goexit(); return nil, nil },
			"fine":  none,
		})}), log.option())
		_, err := p.Call(t.Context(), "panic", nil)
		assert.EqualError(t, err, "plug-in p: panic: panic: a fault")
		assert.Contains(t, log.String(), `level=ERROR msg="panic: a fault" plugin=p in=panic stack=`)
		assert.Contains(t, log.String(), "from_test.TestPanicAndGoexit")
		_, err = p.Call(t.Context(), "fine", nil)
		require.NoError(t, err)
		assert.Equal(t, 2, started)
		var result error
		returned := false
		over := make(chan bool)
		go func() {
			defer close(over)
			_, result = p.Call(context.Background(), "exit", nil)
			returned = true
		}()
		<-over
		assert.Equal(t, threads == "pinned", returned, threads)
		if returned {
			assert.EqualError(t, result, "plug-in p: exit: panic: it ended its goroutine")
		}
		assert.Contains(t, log.String(), `msg="exit has ended its goroutine" plugin=p`)
		_, err = p.Call(t.Context(), "fine", nil)
		require.NoError(t, err)
		assert.Equal(t, 3, started, threads)
	}
}

// The context of a call that is over is refused for ever, whatever calls come later; who is in a host function then is waited for.
func TestContextOfACallThatIsOver(t *testing.T) {
	for _, threads := range []string{"serial", "concurrent", "pinned"} {
		kept := map[string]context.Context{}
		var log lines
		in, leave := make(chan bool), make(chan bool)
		opened, err := builtin.Open(defined(plugin.Definition{Threads: threads, Keys: map[string]string{"state": "x"}, Imports: []plugin.Import{{Name: "host"}, {Name: "slow"}},
			Start: func(ctx context.Context, _ []byte) (any, error) {
				kept["start"] = ctx
				between, err := ferrule.Background(ctx)
				kept["between"] = between
				return nil, err
			},
			Stop:      func(ctx context.Context, _ any) error { kept["stop"] = ctx; return nil },
			Configure: func(ctx context.Context, _ any, _ []byte) error { kept["configure"] = ctx; return nil },
			Save:      func(ctx context.Context, _ any) ([]byte, error) { kept["save"] = ctx; return nil, nil },
			Resume:    func(context.Context, any, []byte) error { return nil },
			Functions: functions(map[string]call{"keep": func(ctx context.Context, _ any, _ []byte) ([]byte, error) { kept["call"] = ctx; return nil, nil }, "again": none, "leaves": func(ctx context.Context, _ any, _ []byte) ([]byte, error) {
				go func() { _, _ = ferrule.Call(ctx, "slow", nil) }()
				<-in
				return nil, nil
			}})}), log.option(), loader.WithHostFunc("host", func(context.Context, []byte) ([]byte, error) { return nil, nil }),
			loader.WithHostFunc("slow", func(context.Context, []byte) ([]byte, error) { in <- true; <-leave; return nil, nil }))
		require.NoError(t, err)
		ctx := context.Background()
		_, err = opened.Call(ctx, "keep", nil)
		require.NoError(t, err)
		require.NoError(t, opened.Configure(ctx, []byte("c")))
		_, err = opened.Handover(ctx, func(*loader.State) (*loader.Plugin, error) { return nil, errors.New("not yet") })
		require.ErrorContains(t, err, "not yet")
		_, err = ferrule.Call(kept["between"], "host", nil)
		require.NoError(t, err, "which is not over")
		for range 100 { // of which one would have what the kept ones had, if that were used again
			_, err = opened.Call(ctx, "again", nil)
			require.NoError(t, err)
		}
		refused := func(names ...string) {
			t.Helper()
			for _, name := range names {
				kept := kept[name]
				require.NotNil(t, kept, name)
				_, err := ferrule.Call(kept, "host", nil)
				assert.ErrorIs(t, err, ferrule.ErrMisuse, name)
				assert.ErrorContains(t, err, "host: found a context that is of no call in progress", name)
				_, err = ferrule.Info(kept, "instance")
				assert.ErrorIs(t, err, ferrule.ErrMisuse, name)
				_, err = ferrule.Next(kept, nil)
				assert.ErrorIs(t, err, ferrule.ErrMisuse, name)
				_, err = ferrule.Background(kept)
				assert.Error(t, err, name)
				_, err = plugin.Input(kept).Read(make([]byte, 1))
				assert.ErrorIs(t, err, ferrule.ErrMisuse, name)
				_, err = plugin.Output(kept).Write([]byte("x"))
				assert.ErrorIs(t, err, ferrule.ErrMisuse, name)
				ferrule.Progress(kept, 1, 2)
				ferrule.Logger(kept).Info("a line that nobody sees")
			}
		}
		refused("call", "start", "configure", "save")

		over := make(chan error)
		go func() { _, err := opened.Call(ctx, "leaves", nil); over <- err }()
		select {
		case <-over:
			t.Fatal("the call is over while a goroutine of its own is in the host")
		case leave <- true:
		}
		require.NoError(t, <-over)
		require.NoError(t, opened.Close())
		refused("call", "start", "configure", "save", "stop", "between")
		assert.NotContains(t, log.String(), "nobody sees")
	}
}

// A plug-in of sdk-go takes part in the core system: its hooks pass, wrap and are called in order.
func TestHooks(t *testing.T) {
	hook := func(keys map[string]string, f call) plugin.Function {
		return plugin.Function{Name: "print", Keys: keys, Call: f}
	}
	named := func(name string, keys map[string]string, f call) plugins.Option {
		return plugins.Builtin(builtin.From(plugin.New(plugin.Definition{Name: name, Version: "1.0.0", Hooks: []plugin.Function{hook(keys, f)}})))
	}
	sys := plugins.New("shop", "1.4.0", plugins.Logger(slog.New(slog.DiscardHandler)),
		named("polite", map[string]string{"wrap": "yes", "order": "first"}, func(ctx context.Context, _ any, in []byte) ([]byte, error) {
			out, err := ferrule.Next(ctx, in)
			return append(out, " Thank you."...), err
		}),
		named("silent", map[string]string{"wrap": "yes"}, func(context.Context, any, []byte) ([]byte, error) { return nil, ferrule.ErrPass }))
	defer sys.Close()
	print := plugins.Wrap(sys, "print", func(_ context.Context, item []byte) ([]byte, error) { return fmt.Appendf(nil, "Sold: %s.", item), nil })
	require.NoError(t, sys.Start(t.Context()))
	out, err := print.Call(t.Context(), []byte("tea"))
	require.NoError(t, err)
	assert.Equal(t, "Sold: tea. Thank you.", string(out))
}

// A context that is of no call at all is refused, where somebody calls a plug-in's functions without opening it.
func TestOutsideOfACall(t *testing.T) {
	p := defined(keeping(new(atomic.Int32)))
	_, err := p.Funcs[0].Call(context.Background(), nil)
	assert.ErrorIs(t, err, loader.ErrMisuse)
	_, err = p.Start(context.Background(), nil)
	assert.ErrorIs(t, err, loader.ErrMisuse)
	assert.ErrorIs(t, p.StopContext(context.Background(), nil), loader.ErrMisuse)
	assert.ErrorIs(t, p.Configure(context.Background(), nil, nil), loader.ErrMisuse)
	_, err = p.Save(context.Background(), nil)
	assert.ErrorIs(t, err, loader.ErrMisuse)
	assert.ErrorIs(t, p.Resume(context.Background(), nil, nil), loader.ErrMisuse)

}
