package plugins_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins"
)

// attempts starts a system with the fixture sandbox_attempts, of which config.yaml says entry beside its name. try calls one of its functions.
func attempts(t *testing.T, entry string) (sys *plugins.System, try func(function, in string) error) {
	t.Helper()
	folder := t.TempDir()
	variant(t, "sandbox_attempts", filepath.Join(folder, "s"+fixture.Ext()))
	path, _ := written(t, "folders: ["+folder+"]\nplugins: [{name: sandbox_attempts"+entry+"}]")
	sys = plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.LoaderOptions(private))
	require.NoError(t, sys.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, closed(sys)) })
	return sys, func(function, in string) error {
		t.Helper()
		f, err := sys.Func("sandbox_attempts", function)
		require.NoError(t, err)
		_, err = f.Call(t.Context(), []byte(in))
		if errors.Is(err, loader.ErrSandbox) {
			t.Skip("this system has no such sandbox, and says so: ", err)
		}
		return err
	}
}

// TestEachPermit: a plug-in that uses what was permitted can, in its sandbox, and one that was not permitted it cannot. In this process both can, and it is said that permits are
// only declared.
func TestEachPermit(t *testing.T) {
	fixture.Loadable(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	taken := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	free := strconv.Itoa(probe.Addr().(*net.TCPAddr).Port)
	require.NoError(t, probe.Close())
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	require.NoError(t, os.WriteFile(file, []byte("text"), 0o644))
	for _, c := range []struct {
		name, permit string // what is permitted
		isolate      string // further keys of isolate that permit it
		function, in string // what needs that
		inProcess    bool   // it is also tried in this process
	}{
		{"read", "read: [" + folder + "]", "", "read_file", file, true},
		{"write", "write: [" + folder + "]", "", "write_file", file, true},
		{"connect", "connect: [" + taken + "]", "", "connect", taken, true},
		{"listen", "listen: [" + free + "]", "", "listen", free, true},
		{"processes", "", ", processes: 1", "fork", "", false},
		{"files", "", ", files: 200", "descriptors", "150", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sys, try := attempts(t, ", permit: {"+c.permit+"}, isolate: {sandbox: full"+c.isolate+"}")
			assert.NoError(t, try(c.function, c.in))
			p, _ := sys.Plugin("sandbox_attempts")
			assert.False(t, p.Declared)
			sys, try = attempts(t, ", isolate: {sandbox: full}")
			var failed *loader.CallError
			assert.ErrorAs(t, try(c.function, c.in), &failed, "nobody has permitted it")
			p, _ = sys.Plugin("sandbox_attempts")
			assert.Empty(t, p.Permits)
			assert.False(t, p.Declared)
			if !c.inProcess {
				return
			}
			for _, permit := range []string{c.permit, ""} {
				sys, try = attempts(t, ", permit: {"+permit+"}")
				assert.NoError(t, try(c.function, c.in), "nothing keeps it from that")
				p, _ = sys.Plugin("sandbox_attempts")
				assert.Equal(t, permit != "", p.Declared)
			}
		})
	}
}

// TestMemoryThatIsPermitted: the memory of permit and that of isolate, which comes first, bound the worker.
func TestMemoryThatIsPermitted(t *testing.T) {
	fixture.Loadable(t)
	const much, little = "536870912", "1048576"
	for entry, bounded := range map[string]bool{", isolate: {sandbox: full}": false, ", permit: {memory: 64MiB}, isolate: {sandbox: full}": true, ", isolate: {memory: 64MiB}": true,
		", permit: {memory: 64MiB}, isolate: {memory: 2GiB}": false} {
		_, try := attempts(t, entry)
		assert.NoError(t, try("allocate", little), entry)
		if bounded {
			assert.ErrorContains(t, try("allocate", much), "Cannot allocate memory", entry)
		} else {
			assert.NoError(t, try("allocate", much), entry)
		}
	}
}

// TestDataFolder: a plug-in has the folder of its own that config.yaml names, which is made, and may write there, and only there, in its sandbox; no two have the same.
func TestDataFolder(t *testing.T) {
	fixture.Loadable(t)
	folder, data := t.TempDir(), filepath.Join(t.TempDir(), "data", "own")
	variant(t, "services", filepath.Join(folder, "services"+fixture.Ext()))
	for _, engine := range []string{"", ", isolate: {sandbox: none}"} {
		path, _ := written(t, "folders: ["+folder+"]\nplugins: [{name: services, grant: ['*'], data: "+data+engine+"}]")
		sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path))
		plugins.Offer(sys, "needed", func(context.Context, []byte) ([]byte, error) { return nil, nil })
		require.NoError(t, sys.Start(t.Context()))
		f, err := sys.Func("services", "info")
		require.NoError(t, err)
		out, err := f.Call(t.Context(), []byte("data"))
		require.NoError(t, err)
		assert.Equal(t, data, string(out))
		info, err := os.Stat(data)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
		require.NoError(t, closed(sys))
	}
	_, try := attempts(t, ", data: "+data+", isolate: true")
	assert.NoError(t, try("write_file", filepath.Join(data, "kept")))
	assert.Error(t, try("write_file", filepath.Join(filepath.Dir(data), "other")))
	sys, try := attempts(t, ", data: "+filepath.Join(data, "kept", "in a file"))
	assert.ErrorContains(t, try("write_file", ""), "a data folder that cannot be made")
	p, _ := sys.Plugin("sandbox_attempts")
	assert.ErrorIs(t, p.Err, plugins.ErrOpen)
	path, _ := written(t, "plugins: [{name: a, data: d}, {name: b, data: ./d}]")
	both := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(simple("a", "1.0.0", nil), simple("b", "1.0.0", nil)))
	require.NoError(t, both.Start(t.Context()))
	a, _ := both.Plugin("a")
	b, _ := both.Plugin("b")
	assert.NoError(t, a.Err)
	assert.ErrorIs(t, b.Err, plugins.ErrGrant)
	assert.ErrorContains(t, b.Err, "the data folder of a")
	require.NoError(t, closed(both))
}

// TestGraceAndStop: how long a call may go on after its limit, and how long a plug-in may take to stop, are as config.yaml says, of a group's, too.
func TestGraceAndStop(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	variant(t, "system", filepath.Join(folder, "a"+fixture.Ext()))
	variant(t, "system", filepath.Join(folder, "b"+fixture.Ext()), "aaaa", "bbbb")
	variant(t, "fault_stop_hang", filepath.Join(folder, "h"+fixture.Ext()))
	path, _ := written(t, "folders: ["+folder+"]\nplugins:\n  - {name: plugin_aaaa, isolate: {group: g, sandbox: none, grace: 30ms}}\n  - {name: plugin_bbbb, isolate: {group: g, sandbox: none}}\n"+
		"  - {name: fault_stop_hang, isolate: {sandbox: none, stop: 100ms}, required: true}\n")
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path))
	piped := plugins.Pipe[[]byte](sys, "piped", plugins.Limit(20*time.Millisecond))
	require.NoError(t, sys.Start(t.Context()))
	_, err := piped.Append(t.Context(), nil, []byte("aaaa=hangs"))
	var late *loader.DeadlineError
	require.ErrorAs(t, err, &late)
	assert.Equal(t, 30*time.Millisecond, late.Grace)
	assert.ErrorContains(t, err, "(isolate.grace)")
	p, _ := sys.Plugin("plugin_bbbb")
	assert.ErrorIs(t, p.Err, plugins.ErrGrant, "another grace is another worker")
	assert.ErrorContains(t, closed(sys), "100ms")
}
