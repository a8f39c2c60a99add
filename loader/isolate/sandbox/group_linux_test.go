package sandbox_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// A plug-in that comes to a worker which is shut in already is shut in as the first one, also in the next worker.
func TestGroup(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	g := isolate.NewGroup("untrusted", sandbox.With(sandbox.Policy{Memory: 512 << 20}))
	in := func(name string, opts ...loader.Option) *loader.Plugin {
		p, err := loader.Open(fixture.C(t, name), append(opts, isolate.InGroup(g))...)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		return p
	}
	first := in("fault_sigsegv")
	plugins := []*loader.Plugin{in("sandbox_attempts"), in("sandbox_attempts", loader.WithInstances(2)), in("echo")}
	for range 2 {
		for _, p := range plugins[:2] {
			for _, c := range []struct{ fn, in string }{{"read_file", secret}, {"write_file", secret}, {"fork", ""}, {"listen", "0"}, {"open_memory", strconv.Itoa(os.Getpid())}} {
				_, err := p.Call(context.Background(), c.fn, []byte(c.in))
				assert.ErrorIs(t, err, loader.ErrFailed, "%s in the sandbox", c.fn)
			}
		}
		out, err := plugins[2].Call(context.Background(), "echo", []byte("works"))
		require.NoError(t, err)
		assert.Equal(t, "works", string(out))
		want, _ := first.Isolation()
		for _, p := range plugins {
			got, _ := p.Isolation()
			assert.Equal(t, want, got)
			assert.Contains(t, got.Layers, "seccomp")
			assert.Contains(t, got.Layers, "rlimit memory")
		}
		_, err = first.Call(context.Background(), "fault", nil)
		var crash *loader.CrashError
		require.ErrorAs(t, err, &crash)
		if os.Getenv(fixture.Emulated) == "" {
			assert.Equal(t, "fault_sigsegv", crash.Culprit)
		}
		_, err = first.Call(context.Background(), "pid", nil)
		require.NoError(t, err)
	}
	_, err := loader.Open(fixture.C(t, "echo"), isolate.InGroup(g), loader.WithDataFolder(t.TempDir()))
	assert.ErrorIs(t, err, loader.ErrOption)
	assert.ErrorContains(t, err, `the group "untrusted"`)
}

// tryWideGroup is tryWide for plug-ins of a group: they get what the policy says, and nothing of what they bring along.
func tryWideGroup(t *testing.T, dir string) {
	app := filepath.Join(dir, "app")
	for _, granted := range []bool{false, true} {
		var policy sandbox.Policy
		if granted {
			policy.Read = []string{filepath.Join(app, "lib"), filepath.Join(dir, "lib")}
		}
		g := isolate.NewGroup("untrusted", sandbox.With(policy))
		first, err := loader.Open(filepath.Join(app, "runpath-none.so"), isolate.InGroup(g))
		require.NoError(t, err)
		defer first.Close()
		for _, w := range wides {
			p, err := loader.Open(filepath.Join(app, w.name+".so"), isolate.InGroup(g))
			switch {
			case !w.opens:
				assert.ErrorIs(t, err, loader.ErrLoad, w.name)
			case len(w.needs) > 0 && !granted:
				assert.ErrorIs(t, err, loader.ErrOption, w.name)
				assert.ErrorContains(t, err, "along, which the policy of the group", w.name)
			default:
				if assert.NoError(t, err, w.name) {
					_, err = p.Call(context.Background(), "read_file", []byte(filepath.Join(dir, "key")))
					assert.ErrorContains(t, err, "Permission denied", w.name)
					assert.NoError(t, p.Close())
				}
			}
		}
	}
}
