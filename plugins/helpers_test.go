package plugins_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// engines are the ways in which the plug-ins of a table run.
var engines = []string{"go", "in-process", "isolated"}

// host is a system whose plug-ins are of the fixture system.c, or its double in Go, in one engine.
type host struct {
	t      testing.TB
	engine string
	folder string
	config string // further lines of config.yaml
	listed string // those of plugins:
	opts   []plugins.Option
}

func newHost(t testing.TB, engine string) *host {
	return &host{t: t, engine: engine, folder: t.TempDir()}
}

// quiet is a logger whose lines nobody reads.
func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// variant is fixture.Variant.
func variant(t testing.TB, name, to string, pairs ...string) {
	t.Helper()
	fixture.Variant(t, name, to, pairs...)
}

// add adds plug-ins with these tags of four letters.
func (h *host) add(tags ...string) *host {
	h.t.Helper()
	for _, tag := range tags {
		if h.engine == "go" {
			h.opts = append(h.opts, plugins.Builtin(double(tag)))
			continue
		}
		variant(h.t, "system", filepath.Join(h.folder, "plugin_"+tag+fixture.Ext()), "aaaa", tag)
		if h.engine == "isolated" {
			h.listed += "  - {name: plugin_" + tag + ", isolate: {sandbox: none}}\n"
		}
	}
	return h
}

// new makes the system, which the test closes.
func (h *host) new(opts ...plugins.Option) *plugins.System {
	h.t.Helper()
	all := append([]plugins.Option{plugins.Logger(quiet())}, h.opts...)
	if h.listed != "" || h.config != "" {
		path := filepath.Join(h.t.TempDir(), "config.yaml")
		text := "folders: [" + h.folder + "]\n" + h.config
		if h.listed != "" {
			text += "plugins:\n" + h.listed
		}
		require.NoError(h.t, os.WriteFile(path, []byte(text), 0o644))
		all = append(all, plugins.Config(path))
	} else {
		all = append(all, plugins.Folder(h.folder))
	}
	sys := plugins.New("app", "1.0.0", append(all, opts...)...)
	h.t.Cleanup(func() { require.NoError(h.t, closed(sys)) })
	return sys
}

// closed closes a system within a bound.
func closed(sys *plugins.System) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return sys.Shutdown(ctx)
}

// double is system.c in Go.
func double(tag string) *builtin.Plugin {
	behave := func(ctx context.Context, in []byte) (ok bool, err error) {
		_, word, _ := strings.Cut(string(in), tag+"=")
		word = (word + "ok")[:2]
		switch word {
		case "pa":
			return false, loader.ErrPass
		case "in":
			return false, loader.ErrInvalid
		case "no":
			return false, nil
		case "fa":
			return false, failure("as it was told")
		case "un", "cr":
			panic("as it was told")
		case "sl":
			time.Sleep(300 * time.Millisecond)
			return false, nil
		case "po":
			<-ctx.Done()
			return false, ctx.Err()
		}
		return true, nil
	}
	with := func(result func(in []byte) []byte) builtin.Func {
		return func(ctx context.Context, in []byte) ([]byte, error) {
			ok, err := behave(ctx, in)
			if !ok {
				return nil, err
			}
			return result(in), nil
		}
	}
	answer := with(func([]byte) []byte { return []byte(tag) })
	hook := func(point string, call builtin.Func) builtin.Function {
		return builtin.Function{Name: point, Call: call}
	}
	return &builtin.Plugin{Name: "plugin_" + tag, Version: "1.0.0", Threads: abi.Concurrent, Keys: map[string]string{"health": "health"},
		Hooks: []builtin.Function{hook("told", answer), hook("asked", answer), hook("decided", answer), hook("objected", answer),
			hook("piped", with(func(in []byte) []byte { return []byte(string(in) + "+" + tag) })),
			{Name: "wrapped", Keys: map[string]string{"wrap": "yes"}, Call: func(ctx context.Context, in []byte) ([]byte, error) {
				ok, err := behave(ctx, in)
				if !ok {
					return nil, err
				}
				out, err := builtin.Next(ctx, in)
				if err != nil {
					return nil, err
				}
				return []byte(tag + "(" + string(out) + ")"), nil
			}}},
		Funcs: []builtin.Function{{Name: "health", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }},
			{Name: "version", Call: func(context.Context, []byte) ([]byte, error) { return []byte("1.0.0"), nil }}, {Name: "answer", Call: answer}},
	}
}

type failure string

func (f failure) Error() string { return string(f) }
func (f failure) Unwrap() error { return loader.ErrFailed }
