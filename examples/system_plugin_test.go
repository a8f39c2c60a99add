package examples_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// The whole plug-in of docs/system-plug-in.md builds without a warning, and does in a system what the page says, with the config.yaml of the page.
func TestPageOfAPlugin(t *testing.T) {
	fixture.Loadable(t)
	const page = "system-plug-in.md"
	source, yaml := codeBlocks(t, page, "c"), codeBlocks(t, page, "yaml")
	require.Len(t, source, 1)
	require.Len(t, yaml, 1)
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "plugins"), 0o755))
	build := func(version string) {
		t.Helper()
		file, library := filepath.Join(root, "frequent.c"), filepath.Join(root, "plugins", "frequent"+fixture.Ext())
		require.NoError(t, os.WriteFile(file, []byte(strings.Replace(source[0], "1.0.0", version, 1)), 0o644))
		out, err := exec.Command(fixture.Tool(t, "cc", "install a C compiler"), "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-fvisibility=hidden", "-shared",
			"-I", filepath.Join(fixture.Root(), "include"), "-I", filepath.Join(fixture.Root(), "sdk-c", "include"), "-o", library+".new", file).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.NoError(t, os.Rename(library+".new", library))
	}
	build("1.0.0")
	config := filepath.Join(root, "config.yaml")
	write := func(from, to string) {
		t.Helper()
		require.Contains(t, yaml[0], from)
		require.NoError(t, os.WriteFile(config, []byte(strings.Replace(yaml[0], from, to, 1)), 0o644))
	}
	start := func(receipts string) *plugins.System {
		t.Helper()
		sys := plugins.New("shop", "1.4.0", plugins.Config(config), plugins.Logger(slog.New(slog.NewTextHandler(io.Discard, nil))),
			plugins.LoaderOptions(func(string) []loader.Option {
				return []loader.Option{loader.WithPrivateCopy(), loader.WithInstances(1)}
			}),
			plugins.Builtin(&builtin.Plugin{Name: "receipts", Version: receipts}))
		plugins.Offer(sys, "loyalty_points", func(_ context.Context, email string) (int64, error) {
			return map[string]int64{"ada@example.org": 2750}[email], nil
		})
		return sys
	}
	for _, c := range []struct {
		from, to, receipts string
		kind               error
	}{
		{"grant", "version: ^1 #", "1.0.0", plugins.ErrGrant},
		{"permit", "version: ^1 #", "1.0.0", plugins.ErrGrant},
		{"percent: 15", "percent: 51", "1.0.0", plugins.ErrSettings},
		{"percent: 15", "percent: 15", "2.0.0", plugins.ErrRange},
	} {
		write(c.from, c.to)
		sys := start(c.receipts)
		require.NoError(t, sys.Start(t.Context()))
		p, _ := sys.Plugin("frequent")
		assert.ErrorIs(t, p.Err, c.kind, "%s: %v", c.to, p.Err)
		require.NoError(t, sys.Close())
	}
	for _, isolate := range []string{"", "isolate: {sandbox: none}\n    "} {
		build("1.0.0")
		write("grant", isolate+"grant")
		sys := start("1.2.0")
		type cart struct {
			ProvidedEmail string `json:"providedEmail"`
		}
		type answer struct {
			DiscountPercent int64 `json:"discountPercent"`
		}
		discount := plugins.First[cart, answer](sys, "before_checkout")
		require.NoError(t, sys.Start(t.Context()))
		ask := func(email string) (int64, bool) {
			t.Helper()
			d, found, err := discount.Call(t.Context(), cart{email})
			require.NoError(t, err)
			return d.DiscountPercent, found
		}
		percent, found := ask("ada@example.org")
		assert.True(t, found)
		assert.EqualValues(t, 15, percent)
		_, found = ask("joan@example.org")
		assert.False(t, found)
		build("1.0.1")
		require.NoError(t, sys.Reload(t.Context()))
		p, _ := sys.Plugin("frequent")
		assert.Equal(t, []any{"1.0.1", 1}, []any{p.Version, p.Replaced})
		ask("ada@example.org")
		given, err := sys.Func("frequent", "given")
		require.NoError(t, err)
		out, err := given.Call(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, "2", string(out), "the state was handed over")
		require.NoError(t, sys.Close())
	}
}
