package plugins_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/release"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// script writes a script of sidecarFile whose first line names Python itself.
func script(t *testing.T, to string, pairs ...string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows starts no scripts by their first line")
	}
	sidecarFile(t, to, append([]string{"#!/usr/bin/env python3", "#!" + python(t)}, pairs...)...)
}

// about is what a sidecar says of itself.
func about(name, version string, pairs ...string) *abi.Description {
	m := &abi.Manifest{Name: name, Version: version}
	for i := 0; i+1 < len(pairs); i += 2 {
		m.Keys = append(m.Keys, abi.KeyValue{Key: pairs[i], Value: pairs[i+1]})
	}
	return &abi.Description{Manifest: m}
}

// publishProgram publishes a sidecar's file, signed with a key, and returns its platform.
func publishProgram(t *testing.T, to registry.Pusher, key sign.PrivateKey, of *abi.Description, path string) (platform string) {
	t.Helper()
	r, contents, err := install.ReleaseOfPrograms(of, path)
	require.NoError(t, err)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	for on, c := range contents {
		platform = on
		c.Signature, err = sign.Sign(key, sign.Subject{Name: r.Name, Version: r.Version, Platform: on}, bytes.NewReader(data))
		require.NoError(t, err)
		contents[on] = c
	}
	require.NoError(t, to.Push(t.Context(), r, contents))
	return platform
}

// released is where plug-ins may be published: the registry.url, and who publishes there.
var released = map[string]func(t *testing.T) (address string, to registry.Pusher){
	"folder": func(t *testing.T) (string, registry.Pusher) {
		path := filepath.Join(t.TempDir(), "releases")
		to, err := files.NewFolder(path)
		require.NoError(t, err)
		return fileURL(path), to
	},
	"bundle": func(t *testing.T) (string, registry.Pusher) {
		path := filepath.Join(t.TempDir(), "releases.zip")
		to, err := files.NewBundle(path)
		require.NoError(t, err)
		return fileURL(path), to
	},
	"release page": func(t *testing.T) (string, registry.Pusher) {
		path := filepath.Join(t.TempDir(), "releases")
		to, err := files.NewFolder(path)
		require.NoError(t, err)
		server := httptest.NewServer(http.FileServer(http.Dir(path)))
		t.Cleanup(server.Close)
		return server.URL + "/{tag}", to
	},
}

func fileURL(path string) string {
	if path = filepath.ToSlash(path); path[0] != '/' { // a drive
		path = "/" + path
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
}

// From the registry to a call: a script that was signed and published is found, verified, locked and run, a copy of it that nobody else can write; the lock and the store are enough from then
// on; who has another key gets nothing, and what was changed in the store does not run.
func TestSidecarFromRegistryToCall(t *testing.T) {
	for name, place := range released {
		t.Run(name, func(t *testing.T) {
			address, to := place(t)
			key, err := sign.Generate()
			require.NoError(t, err)
			path := filepath.Join(t.TempDir(), "x.py")
			script(t, path)
			require.Equal(t, registry.AnyPlatform, publishProgram(t, to, key, about("plugin_aaaa", "1.0.0"), path))
			c, stored := newConfigured(t), t.TempDir()
			download := []plugins.Option{plugins.Download(release.Pages), plugins.StoreFolder(stored)}
			from := func(address string, key sign.PublicKey, entry string) {
				c.write("registry: {url: '" + address + "', keys: [" + key.String() + "]}\nplugins:\n  - {name: plugin_aaaa" + entry + "}\n")
			}
			start := func() *plugins.System {
				sys := c.new(download...)
				require.NoError(t, sys.Start(t.Context()))
				return sys
			}
			from(address, key.Public(), ", config: {a: 1}")
			sys := start()
			p, _ := sys.Plugin("plugin_aaaa")
			require.NoError(t, p.Err)
			assert.Equal(t, "1.0.0", ask(t, sys, "plugin_aaaa", "version", ""))
			assert.Equal(t, `{"a":1}`, ask(t, sys, "plugin_aaaa", "config", ""))
			assert.Equal(t, "plugin_aaaa-any", filepath.Base(p.Source))
			l, err := lock.Load(install.LockOf(c.path))
			require.NoError(t, err)
			e := l.Plugins["plugin_aaaa"]
			require.NotNil(t, e)
			assert.Equal(t, registry.Script, e.Kind)
			assert.Equal(t, key.Public().ID(), e.Key)
			assert.NotEmpty(t, e.Signatures[registry.AnyPlatform])

			script(t, path, "1.0.0", "1.1.0")
			publishProgram(t, to, key, about("plugin_aaaa", "1.1.0"), path)
			assert.Equal(t, "1.0.0", ask(t, start(), "plugin_aaaa", "version", ""), "the lock is law")
			from("https://nowhere.invalid/{tag}", key.Public(), "")
			sys = start()
			assert.Equal(t, "1.0.0", ask(t, sys, "plugin_aaaa", "version", ""), "nothing is asked")
			over, err := plugins.Survey(t.Context(), append([]plugins.Option{plugins.Config(c.path)}, download...)...)
			require.NoError(t, err)
			assert.Equal(t, plugins.StateReady, over.Plugins[0].State)
			assert.Equal(t, "1.0.0", over.Plugins[0].Version)
			assert.Equal(t, registry.Script, over.Installed["plugin_aaaa"].Kind)

			from("https://nowhere.invalid/{tag}", key.Public(), ", isolate: {group: g}")
			p, _ = start().Plugin("plugin_aaaa")
			assert.ErrorIs(t, p.Err, plugins.ErrEngine)
			assert.ErrorContains(t, p.Err, "a group for a sidecar")
			assert.ErrorContains(t, p.Err, "line 3 of ")

			// What the store has is compared when it is asked and when it is started.
			from("https://nowhere.invalid/{tag}", key.Public(), "")
			sys = start()
			p, _ = sys.Plugin("plugin_aaaa")
			data, err := os.ReadFile(p.Source)
			require.NoError(t, err)
			require.NoError(t, os.Chmod(p.Source, 0o644))
			require.NoError(t, os.WriteFile(p.Source, bytes.ReplaceAll(data, []byte("1.0.0"), []byte("9.9.9")), 0o644))
			f, err := sys.Func("plugin_aaaa", "version")
			if err == nil {
				_, err = f.Call(t.Context(), nil)
			}
			require.Error(t, err)
			p, _ = sys.Plugin("plugin_aaaa")
			assert.ErrorIs(t, p.Err, plugins.ErrOpen)

			other, err := sign.Generate()
			require.NoError(t, err)
			c, download[1] = newConfigured(t), plugins.StoreFolder(t.TempDir())
			from(address, other.Public(), "")
			p, _ = start().Plugin("plugin_aaaa")
			assert.ErrorIs(t, p.Err, plugins.ErrFetch)
			assert.ErrorIs(t, p.Err, registry.ErrKey)
		})
	}
}

// A program has a file for each platform, and what is no program, or no such program, is not installed; what says another version of itself than its description does not run.
func TestSidecarPrograms(t *testing.T) {
	address, to := released["folder"](t)
	key, err := sign.Generate()
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "vowels")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join(fixture.Root(), "examples", "sidecar", "go")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, registry.ThisPlatform(), publishProgram(t, to, key, about("vowels", "1.0.0"), program))
	c := newConfigured(t)
	c.write("registry: {url: '" + address + "', keys: [" + key.Public().String() + "]}\nplugins: [vowels]\n")
	sys := c.new(plugins.Download(), plugins.StoreFolder(t.TempDir()))
	require.NoError(t, sys.Start(t.Context()))
	assert.Equal(t, "4", ask(t, sys, "vowels", "count_vowels", "a sidecar"))

	library := filepath.Join(t.TempDir(), "x"+fixture.Ext())
	variant(t, "system", library)
	_, _, err = install.ReleaseOfPrograms(about("vowels", "1.0.0"), library)
	require.ErrorIs(t, err, registry.ErrMalformed)
	assert.ErrorContains(t, err, "found a file that is no program")
	_, _, err = install.ReleaseOfPrograms(about("vowels", "1.0.0"), program, program)
	require.ErrorIs(t, err, registry.ErrPlatform)
	text := filepath.Join(t.TempDir(), "x.py")
	require.NoError(t, os.WriteFile(text, []byte("#!/bin/sh\n"), 0o644))
	_, _, err = install.ReleaseOfPrograms(about("vowels", "1.0.0"), program, text)
	require.ErrorIs(t, err, registry.ErrKind)

	path := filepath.Join(t.TempDir(), "y.py")
	script(t, path)
	publishProgram(t, to, key, about("plugin_aaaa", "2.0.0"), path)
	r, _, err := install.ReleaseOfPrograms(about("plugin_bbbb", "1.0.0"), path)
	require.NoError(t, err)
	r.Kind = registry.Program // what it is not
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	signature, err := sign.Sign(key, sign.Subject{Name: r.Name, Version: r.Version, Platform: registry.AnyPlatform}, bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, to.Push(t.Context(), r, map[string]registry.Content{registry.AnyPlatform: {Path: path, Signature: signature}}))
	c.write("registry: {url: '" + address + "', keys: [" + key.Public().String() + "]}\nplugins: [plugin_aaaa, plugin_bbbb]\n")
	sys = c.new(plugins.Download(), plugins.StoreFolder(t.TempDir()))
	require.NoError(t, sys.Start(t.Context()))
	p, _ := sys.Plugin("plugin_aaaa")
	assert.ErrorIs(t, p.Err, loader.ErrLoad)
	assert.ErrorContains(t, p.Err, "found version 1.0.0, expected 2.0.0, as its description says")
	p, _ = sys.Plugin("plugin_bbbb")
	assert.ErrorIs(t, p.Err, registry.ErrKind)
	assert.True(t, strings.Contains(p.Err.Error(), "a file that is no program"))
}
