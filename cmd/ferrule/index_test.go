package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/index"
)

// indexes runs ferrule index with a key, for the registry acme unless args name another one.
func (m *market) indexes(code int, key string, args ...string) (stdout, stderr string) {
	m.t.Helper()
	if !slices.Contains(args, "--name") {
		args = append([]string{"--name", "acme"}, args...)
	}
	if key != "" {
		args = append([]string{"--key", m.path(key)}, args...)
	}
	stdout, stderr, got := ferrule(m.t, "", append([]string{"index"}, args...)...)
	require.Equal(m.t, code, got, "%s%s", stdout, stderr)
	return stdout, stderr
}

// TestIndexVerb: what is published is found, and what is revoked is installed no more, whatever comes after.
func TestIndexVerb(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	releases := m.path("releases")
	m.publish("aaaa", "1.0.0")
	m.publish("aaaa", "1.0.1")
	m.publish("bbbb", "1.0.0")
	stdout, stderr := m.indexes(exitOK, "shop.key", releases)
	assert.Regexp(t, `^file://\S+ has index 1 of acme: 2 plug-ins, signed by [0-9A-F]{16}\n$`, stdout)
	assert.Empty(t, stderr)
	search := func(words string) hits {
		t.Helper()
		stdout, stderr, code := m.run("search --json " + words)
		require.Zero(t, code, stderr)
		assert.Empty(t, stderr, "it is signed by a key that counts, and new")
		var found hits
		require.NoError(t, json.Unmarshal([]byte(stdout), &found))
		return found
	}
	found := search("plugin")
	require.Len(t, found.Hits, 2)
	assert.Equal(t, "plugin_aaaa", found.Hits[0].Name)
	assert.Equal(t, "1.0.1", found.Hits[0].Version)
	assert.Zero(t, search("cccc").Total)

	// A revoked version is not chosen, and stays revoked in the indexes that follow.
	m.publish("cccc", "1.0.0")
	stdout, stderr = m.indexes(exitOK, "shop.key", "--revoke", "plugin_aaaa@>1.0.0, <1.0.2=it loses = orders", "--revoke", "plugin_zzzz@*=gone", "--revoke-key", "0123456789ABCDEF=stolen", releases)
	assert.Contains(t, stdout, "index 2 of acme: 3 plug-ins, 3 revoked")
	assert.Equal(t, "ferrule: warning: plugin_zzzz is revoked, and no plug-in here has this name\n", stderr)
	stdout, _, _ = m.run("search plugin_aaaa")
	assert.Contains(t, stdout, "plugin_aaaa  1.0.1 (revoked)  ")
	assert.True(t, search("plugin_aaaa").Hits[0].Revoked)
	assert.False(t, search("plugin_bbbb").Hits[0].Revoked)
	assert.Equal(t, 1, search("cccc").Total)
	m.configure("registry: {url: REGISTRY, keys: [KEY]}\n")
	_, stderr = m.does(exitFailed, "install plugin_aaaa@1.0.1")
	assert.Contains(t, stderr, "expected another. Ask for another version: ferrule install plugin_aaaa@RANGE, or another range as its version in config.yaml")
	_, stderr = m.does(exitFailed, "update plugin_aaaa")
	assert.Contains(t, stderr, "found no plug-in of this name in the lock, expected one that is installed, and none is. Install it: ferrule install plugin_aaaa")
	m.configure(marketConfig)
	m.does(exitOK, "install")
	assert.Contains(t, m.text("ferrule.lock"), "version: 1.0.0")
	stdout, _ = m.does(exitOK, "list --outdated")
	assert.Contains(t, stdout, "is the newest")
	stdout, stderr = m.does(exitOK, "update")
	assert.Equal(t, "nothing changes\n", stdout)
	assert.Contains(t, stderr, "ferrule: warning: plugin_aaaa 1.0.1: newer than 1.0.0, and not taken: found a version that was revoked: it loses = orders, expected another")
	made := madeIndex{}
	stdout, _ = m.indexes(exitOK, "shop.key", "--json", "--revoke", "plugin_zzzz@*=it is gone", releases)
	require.NoError(t, json.Unmarshal([]byte(stdout), &made))
	assert.Equal(t, []index.Revocation{{Name: "plugin_aaaa", Versions: ">1.0.0, <1.0.2", Why: "it loses = orders"}, {Name: "plugin_zzzz", Versions: "*", Why: "it is gone"}}, made.Revoked)
	assert.Equal(t, []index.RevokedKey{{ID: "0123456789ABCDEF", Why: "stolen"}}, made.RevokedKeys)
	assert.Equal(t, "acme", made.Name)
	assert.EqualValues(t, 3, made.Serial)
	assert.Equal(t, 3, made.Plugins)
	assert.Regexp(t, regexp.MustCompile(`^[0-9A-F]{16}$`), made.Key)

	// One that was installed before it was revoked is told so by an update; what is no longer revoked may come.
	m.indexes(exitOK, "shop.key", "--unrevoke", "plugin_aaaa@>1.0.0, <1.0.2", "--unrevoke", "0123456789ABCDEF", releases)
	stdout, _ = m.does(exitOK, "update")
	assert.Contains(t, stdout, "1.0.0 -> 1.0.1")

	// Another key, and nothing that hides it: an index that somebody else has signed could have lost revocations.
	_, stderr, code := ferrule(t, "", "keygen", "--no-password", m.path("new.key"))
	require.Zero(t, code, stderr)
	_, stderr = m.indexes(exitUsage, "new.key", releases)
	assert.Contains(t, stderr, "found an index of another key")
	assert.Contains(t, stderr, "--old-key PUBLIC")
	stdout, _ = m.indexes(exitOK, "new.key", "--old-key", m.path("shop.key.pub"), releases)
	assert.Contains(t, stdout, "index 5 of acme: 3 plug-ins, 1 revoked")
	root, err := os.ReadFile(filepath.Join(releases, index.RootFile))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(releases, index.RootFile), append(root, ' '), 0o666))
	_, stderr = m.indexes(exitFailed, "new.key", releases)
	assert.Contains(t, stderr, "found other bytes than those that key")
	require.NoError(t, os.Remove(filepath.Join(releases, index.RootFile)))
	stdout, _ = m.indexes(exitOK, "new.key", "--serial", "9", releases)
	assert.Contains(t, stdout, "index 9 of acme: ")
}

func TestIndexRefuses(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	releases := m.path("releases")
	m.publish("aaaa", "1.0.0")
	m.indexes(exitOK, "shop.key", releases)
	empty := t.TempDir()
	for _, test := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "found no PLACE", nil},
		{exitUsage, "https://plugins.example/{tag}, which can have no index, or is only read", []string{"https://plugins.example/{tag}"}},
		{exitUsage, "which can have no index", []string{m.path("all.zip")}},
		{exitUsage, "found no --name, expected --name with a registry's name", []string{"--name", "", releases}},
		{exitUsage, `found --name "acme corp", expected --name with a registry's name`, []string{"--name", "acme corp", releases}},
		{exitUsage, `found --name "acme\n", expected`, []string{"--name", "acme\n", releases}},
		{exitUsage, "found the index of the registry acme in file://", []string{"--name", "shop", releases}},
		{exitUsage, "expected that of shop, which --name says", []string{"--name", "shop", releases}},
		{exitUsage, "--revoke: found the revocation", []string{"--revoke", "plugin_aaaa=why", releases}},
		{exitUsage, "--revoke-key: found the revoked key", []string{"--revoke-key", "why", releases}},
		{exitUsage, "found --unrevoke plugin_aaaa@1.0.0, which is not revoked", []string{"--unrevoke", "plugin_aaaa@1.0.0", releases}},
		{exitUsage, "found --serial 1, expected 2 or more", []string{"--serial", "1", releases}},
		{exitFailed, "found no plug-in, expected one at least", []string{empty}},
		{exitFailed, "plugin_dddd", []string{releases, "plugin_aaaa", "plugin_dddd"}},
		{exitUnavailable, "", []string{"oci://127.0.0.1:1/acme"}},
	} {
		_, stderr := m.indexes(test.code, "shop.key", test.args...)
		assert.Contains(t, stderr, test.want)
	}
	_, stderr := m.indexes(exitUsage, "", releases)
	assert.Contains(t, stderr, "found no --key")
	stdout, _ := m.indexes(exitOK, "shop.key", "--json", releases, "plugin_aaaa")
	var made madeIndex
	require.NoError(t, json.Unmarshal([]byte(stdout), &made))
	assert.EqualValues(t, 2, made.Serial, "what was refused has published nothing")
	_, stderr = m.indexes(exitUsage, "shop.key", "--revoke-key", made.Key+"=lost", releases)
	assert.Contains(t, stderr, "which signs the index")

	// What is no plug-in is left out, and said.
	require.NoError(t, os.WriteFile(filepath.Join(releases, "latest", "odd.json"), []byte("{}"), 0o666))
	stdout, stderr = m.indexes(exitOK, "shop.key", releases)
	assert.Contains(t, stdout, "1 plug-in, signed")
	assert.Contains(t, stderr, "warning: odd is not in the index: odd: ")
}

// TestIndexOfAnOCIRegistry: the same by a catalogue.
func TestIndexOfAnOCIRegistry(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	m.publish("aaaa", "1.0.0")
	address := "oci://" + fixture.Registry(t, "tiny") + "/acme"
	m.configure("registry: {url: '" + address + "', keys: [KEY]}\nplugins: [plugin_aaaa]\n")
	for _, version := range []string{"1.0.0", "1.0.1"} {
		m.publish("aaaa", version)
		_, stderr, code := ferrule(t, "", "push", "--to", address, "--key", m.path("shop.key"), m.path("aaaa"+version+fixture.Ext()))
		require.Zero(t, code, stderr)
	}
	stdout, stderr := m.indexes(exitOK, "shop.key", "--revoke", "plugin_aaaa@1.0.1=it forgets", address)
	assert.Contains(t, stdout, address+" has index 1 of acme: 1 plug-in, 1 revoked, signed by ")
	assert.Empty(t, stderr)
	stdout, stderr, code := m.run("search plugin_aaaa")
	require.Zero(t, code, stderr)
	assert.Regexp(t, `^plugin_aaaa +1\.0\.1 `, stdout)
	assert.NotRegexp(t, `(?m) $`, stdout, "also where there is no summary")
	assert.Empty(t, stderr)
	m.does(exitOK, "install")
	assert.Contains(t, m.text("ferrule.lock"), "version: 1.0.0")
	stdout, _ = m.indexes(exitOK, "shop.key", address, "plugin_aaaa")
	assert.Contains(t, stdout, "index 2 of acme: 1 plug-in, 1 revoked")
}

// Two registries have one key. The index of one that is served as the other's is refused, by those who have seen the right one and by those whom config.yaml tells
// the name; and whoever makes the next index does not take it over.
func TestIndexOfAnotherRegistry(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	releases, shop := m.path("releases"), t.TempDir()
	m.publish("aaaa", "1.0.0")
	m.publish("aaaa", "1.0.1")
	require.NoError(t, os.CopyFS(shop, os.DirFS(releases)))
	m.indexes(exitOK, "shop.key", "--revoke", "plugin_aaaa@1.0.1=it loses orders", releases)
	m.indexes(exitOK, "shop.key", "--name", "shop", "--serial", "9", shop)
	m.does(exitOK, "install")
	assert.Contains(t, m.text("ferrule.lock"), "    name: acme\n    serial: 1\n")
	assert.Contains(t, m.text("ferrule.lock"), "version: 1.0.0\n")

	serve := func(from string) {
		t.Helper()
		for _, name := range []string{index.RootFile, index.SignatureFile} {
			text, err := os.ReadFile(filepath.Join(from, name))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(releases, name), text, 0o666))
		}
	}
	right := t.TempDir()
	require.NoError(t, os.CopyFS(right, os.DirFS(releases)))
	serve(shop)
	before := m.text("ferrule.lock")
	_, stderr := m.does(exitFailed, "update")
	assert.Contains(t, stderr, "found the index of the registry shop, expected that of acme")
	_, stderr, code := m.run("search plugin")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "found the index of the registry shop, expected that of acme")
	assert.Equal(t, before, m.text("ferrule.lock"), "the version that acme has revoked did not come, nor shop's serial")
	_, stderr = m.indexes(exitUsage, "shop.key", releases)
	assert.Contains(t, stderr, "found the index of the registry shop in file://")

	// Who has seen none is told the name by config.yaml.
	require.NoError(t, os.Remove(m.path("ferrule.lock")))
	named := strings.Replace(marketConfig, "keys: [KEY]", "keys: [KEY], index: acme", 1)
	require.NotEqual(t, marketConfig, named)
	m.configure(named)
	_, stderr = m.does(exitFailed, "install")
	assert.Contains(t, stderr, "found the index of the registry shop, expected that of acme")
	assert.NoFileExists(t, m.path("ferrule.lock"))

	// A copy is a mirror: it has the same name, wherever it lies.
	serve(right)
	m.does(exitOK, "install")
	assert.Contains(t, m.text("ferrule.lock"), "    name: acme\n    serial: 1\n")

	// What the lock has seen gives way to what config.yaml says: so a registry that has a new name goes on.
	serve(shop)
	m.configure(strings.Replace(named, "index: acme", "index: shop", 1))
	stdout, _ := m.does(exitOK, "update")
	assert.Contains(t, stdout, "1.0.0 -> 1.0.1")
	assert.Contains(t, m.text("ferrule.lock"), "    name: shop\n    serial: 9\n")
}

// TestRollbackToRevoked: whoever goes back to a revoked version is told, by the rollback, by each update that leaves it, and by the list, with what takes it forward again.
func TestRollbackToRevoked(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	m.publish("aaaa", "1.0.0")
	m.does(exitOK, "install")
	m.publish("aaaa", "1.0.3")
	m.does(exitOK, "update")
	m.indexes(exitOK, "shop.key", "--revoke", "plugin_aaaa@1.0.0=it forgets", m.path("releases"))
	stdout, stderr := m.does(exitOK, "rollback plugin_aaaa")
	assert.Equal(t, "plugin_aaaa 1.0.3 -> 1.0.0\n", stdout)
	const forgets = "found a version that was revoked: it forgets, expected another. Install another version: ferrule update --unpin plugin_aaaa"
	assert.Contains(t, stderr, "ferrule: warning: plugin_aaaa 1.0.0: ")
	assert.Contains(t, stderr, forgets)
	stdout, stderr = m.does(exitOK, "update")
	assert.Equal(t, "nothing changes\n", stdout)
	assert.Contains(t, stderr, forgets)
	_, stderr = m.does(exitFailed, "list --outdated")
	assert.Contains(t, stderr, forgets)
	stdout, stderr = m.does(exitOK, "update --unpin plugin_aaaa")
	assert.Equal(t, "plugin_aaaa 1.0.0 -> 1.0.3\n", stdout)
	assert.Empty(t, stderr)
}
