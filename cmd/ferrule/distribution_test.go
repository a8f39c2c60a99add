package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// market is a shop whose plug-ins come from a folder of releases, signed by a key, into a store of its own.
type market struct {
	*shop
	key string // the line of the public key
}

// newMarket makes one. In the config.yaml REGISTRY stands for the folder's address and KEY for the key.
func newMarket(t *testing.T, text string) *market {
	t.Helper()
	m := &market{shop: newShop(t, "")}
	_, stderr, code := ferrule(t, "", "keygen", "--no-password", m.path("shop.key"))
	require.Zero(t, code, stderr)
	m.key = m.publicKey("shop.key.pub")
	m.configure(text)
	return m
}

func (m *market) publicKey(file string) string {
	text, err := os.ReadFile(m.path(file))
	require.NoError(m.t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

func (m *market) configure(text string) {
	m.t.Helper()
	address := "file://" + filepath.ToSlash(m.path("releases"))
	if runtime.GOOS == "windows" {
		address = "file:///" + filepath.ToSlash(m.path("releases"))
	}
	m.shop.configure(strings.NewReplacer("REGISTRY", address, "KEY", m.key).Replace(text))
}

// publish pushes a version of the plug-in plugin_xxxx, of which letters are the xxxx.
func (m *market) publish(letters, version string, args ...string) {
	m.t.Helper()
	lib := m.path(letters + version + fixture.Ext())
	fixture.Variant(m.t, "system", lib, "aaaa", letters, "1.0.0", version)
	stdout, stderr, code := ferrule(m.t, "", append([]string{"push", "--to", m.path("releases"), "--key", m.path("shop.key"), lib}, args...)...)
	require.Zero(m.t, code, stderr)
	assert.Contains(m.t, stdout, "plugin_"+letters+" "+version+" is in ")
}

// does runs a verb with the store, and returns what it prints, with paths as on every machine.
func (m *market) does(code int, line string, args ...string) (stdout, stderr string) {
	m.t.Helper()
	stdout, stderr, got := m.run(line, append([]string{"--store", m.path("store")}, args...)...)
	require.Equal(m.t, code, got, "%s: %s%s", line, stdout, stderr)
	return strings.NewReplacer("file:///releases", "REGISTRY", "file://releases", "REGISTRY").Replace(stdout), stderr
}

func (m *market) text(file string) string {
	m.t.Helper()
	text, err := os.ReadFile(m.path(file))
	require.NoError(m.t, err)
	return string(text)
}

const marketConfig = "registry: {url: REGISTRY, keys: [KEY]}\nplugins:\n  - {name: plugin_aaaa, version: ^1}\n"

// TestPushOfPrograms: a sidecar is asked what it is, published, installed and verified; what does not say it is not published.
func TestPushOfPrograms(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows starts no scripts by their first line")
	}
	fixture.Tool(t, "python3", "install Python 3.8 or later")
	m := newMarket(t, "registry: {url: REGISTRY, keys: [KEY]}\nplugins: [vowels]\n")
	vowels := filepath.Join(fixture.Root(), "examples", "sidecar", "vowels.py")
	push := func(code int, want string, paths ...string) {
		t.Helper()
		stdout, stderr, got := ferrule(t, "", append([]string{"push", "--to", m.path("releases"), "--key", m.path("shop.key")}, paths...)...)
		assert.Equal(t, code, got, "%s%s", stdout, stderr)
		assert.Contains(t, stdout+stderr, want)
	}
	push(exitOK, "vowels 1.0.0 is in", vowels)
	stdout, _ := m.does(exitOK, "install")
	assert.Contains(t, stdout, "vowels")
	stdout, _ = m.does(exitOK, "verify")
	assert.Contains(t, stdout, "vowels")
	stdout, _ = m.does(exitOK, "list --json")
	assert.Contains(t, stdout, `"version": "1.0.0"`)

	// A path is installed as that of a library is: what it is is asked of it, and its signature is verified before.
	m = newMarket(t, "registry: {url: REGISTRY, keys: [KEY]}\nplugins: []\n")
	text, err := os.ReadFile(vowels)
	require.NoError(t, err)
	own, ran := m.path("own"), m.path("ran")
	write := func(pairs ...string) {
		t.Helper()
		script := strings.NewReplacer(pairs...).Replace(string(text))
		script = strings.Replace(script, "\n", "\nopen("+strconv.Quote(ran)+", 'w').write(__file__)\n", 1)
		require.NoError(t, os.WriteFile(own, []byte(script), 0o755))
	}
	signed := func(version string) {
		t.Helper()
		require.NoError(t, os.RemoveAll(own+".minisig"))
		_, stderr, code := ferrule(t, "", "sign", "--key", m.path("shop.key"), "--name", "vowels", "--version", version, "--platform", "any", own)
		require.Zero(t, code, stderr)
	}
	write()
	_, stderr := m.does(exitFailed, "install", own)
	assert.Contains(t, stderr, "found no signature beside it, expected one by a key of registry.keys")
	signed("1.0.0")
	write("vowels", "wovels")
	_, stderr = m.does(exitFailed, "install", own)
	assert.Contains(t, stderr, "signature")
	assert.NoFileExists(t, ran, "nothing runs that is not verified")
	write()
	signed("1.0.0")
	stdout, _ = m.does(exitOK, "install", own)
	assert.Regexp(t, `^vowels 1\.0\.0 \(from a file, signed by [0-9A-F]{16}\)\n1 plug-in installed, 1 of them new in ferrule\.lock\n$`, stdout)
	assert.NotEqual(t, own, m.text("ran"), "what runs is a copy of what was verified")
	assert.Equal(t, "own", filepath.Base(m.text("ran")))
	assert.Contains(t, m.text("config.yaml"), "vowels")
	assert.Contains(t, m.text("ferrule.lock"), "kind: script")
	m.does(exitOK, "verify")
	write("1.0.0", "1.1.0")
	signed("1.0.0")
	_, stderr = m.does(exitFailed, "install", own)
	assert.Contains(t, stderr, "found a signature for vowels 1.0.0 for any, expected one for vowels 1.1.0 for any")
	assert.Contains(t, m.text("ferrule.lock"), "version: 1.0.0")
	signed("1.1.0")
	stdout, _ = m.does(exitOK, "install", own)
	assert.Contains(t, stdout, "vowels 1.1.0")
	write()
	signed("1.0.0")
	m.does(exitFailed, "install", own)
	m.does(exitOK, "install --allow-downgrade", own)
	assert.Contains(t, m.text("ferrule.lock"), "version: 1.0.0")
	_, stderr = m.does(exitUsage, "install ./nothing")
	assert.Contains(t, stderr, "found no file ./nothing, expected a library, a script or a program")

	silent := m.path("silent")
	require.NoError(t, os.WriteFile(silent, []byte("#!/bin/sh\necho not today >&2\nexit 3\n"), 0o755))
	push(exitFailed, "a sidecar that does not say what it is: the sidecar ended with exit code 3; its last line: not today", silent)
	push(exitFailed, "a second script for any", vowels, vowels)
}

// TestInstallVerb: what config.yaml names is in the lock and in the store, by the rules of package install, which tests them.
func TestInstallVerb(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	m.publish("aaaa", "1.0.0")
	m.publish("bbbb", "1.0.0")
	stdout, stderr := m.does(exitOK, "install")
	assert.Regexp(t, `^plugin_aaaa 1\.0\.0 \(REGISTRY, signed by [0-9A-F]{16}\)\n1 plug-in installed, 1 of them new in ferrule\.lock\n$`, stdout)
	assert.Equal(t, "plugin_aaaa 1.0.0: "+size(t, m.path("aaaa1.0.0"+fixture.Ext()))+" downloaded (OS/ARCH)\n", stderr)

	// The lock is law: what is newer does not come by itself, and nothing comes again.
	m.publish("aaaa", "1.0.1")
	locked := m.text("ferrule.lock")
	stdout, stderr = m.does(exitOK, "install")
	assert.Equal(t, "1 plug-in installed, 0 of them new in ferrule.lock\n", stdout)
	assert.Empty(t, stderr)
	assert.Equal(t, locked, m.text("ferrule.lock"))

	// One that is added, with a range, is in config.yaml, too; one that is not there is nowhere.
	m.does(exitOK, "install plugin_bbbb@^1 --grant other")
	assert.Contains(t, m.text("config.yaml"), "  - {name: plugin_bbbb, grant: [other], version: '^1'}\n")
	before := m.text("config.yaml")
	stdout, stderr = m.does(exitFailed, "install plugin_cccc")
	assert.Equal(t, "not installed: plugin_cccc\n2 plug-ins installed, 0 of them new in ferrule.lock\n", stdout)
	assert.Contains(t, stderr, "plugin_cccc")
	assert.Contains(t, stderr, "config.yaml is as it was")
	assert.Equal(t, before, m.text("config.yaml"))

	// Of several, those that could be installed are in both files, and the others in none.
	m.publish("dddd", "1.0.0")
	_, stderr = m.does(exitFailed, "install plugin_dddd plugin_cccc")
	assert.Contains(t, stderr, "config.yaml has the others, and nothing new of plugin_cccc")
	for _, file := range []string{"config.yaml", "ferrule.lock"} {
		assert.Contains(t, m.text(file), "plugin_dddd", file)
		assert.NotContains(t, m.text(file), "plugin_cccc", file)
	}
	m.does(exitOK, "remove plugin_dddd")

	stdout, _ = m.does(exitOK, "install --json")
	var made installation
	require.NoError(t, json.Unmarshal([]byte(stdout), &made))
	require.Len(t, made.Plugins, 2)
	assert.False(t, made.Plugins[0].New)
	assert.Len(t, made.Plugins[0].Digest, len("sha256:")+64)
	assert.NotEmpty(t, made.Plugins[0].Key)
}

func size(t *testing.T, path string) string {
	info, err := os.Stat(path)
	require.NoError(t, err)
	return amountText(info.Size())
}

// TestInstallFile: a library in a file of its own, and one that nobody has signed.
func TestInstallFile(t *testing.T) {
	t.Parallel()
	m := newMarket(t, "registry: {url: REGISTRY}\n")
	fixture.Variant(t, "system", m.path("own"+fixture.Ext()), "aaaa", "dddd")
	_, stderr := m.does(exitOK, "install "+m.path("own"+fixture.Ext()))
	assert.Contains(t, stderr, "warning: plugin_dddd 1.0.0: ")
	assert.Contains(t, stderr, "NOT VERIFIED")
	assert.Contains(t, m.text("config.yaml"), "plugin_dddd")

	m.configure(marketConfig)
	m.publish("aaaa", "1.0.0")
	require.NoError(t, os.Remove(m.path("ferrule.lock")))
	_, stderr = m.does(exitFailed, "install "+m.path("own"+fixture.Ext()))
	assert.Contains(t, stderr, "file:own.so: found no signature, expected one by a key that counts for it")
	assert.NotContains(t, m.text("config.yaml"), "plugin_dddd")
	_, stderr = m.does(exitUsage, "install ./nowhere"+fixture.Ext())
	assert.Contains(t, stderr, "found no file ./nowhere.so, expected a library")
	_, stderr = m.does(exitUsage, "install a,b")
	assert.Contains(t, stderr, "found a,b, expected a plug-in's name")
	_, stderr = m.does(exitUsage, "install plugin_aaaa@^2")
	assert.Contains(t, stderr, `names it with the version "^1"`)
	m.configure("registry: {url: REGISTRY}\nplugins:\n  - plugin_aaaa\n")
	_, stderr = m.does(exitUsage, "install plugin_aaaa@1.0.0")
	assert.Contains(t, stderr, `names it with no version, expected the version in that file. Write its entry, line 3, as {name: plugin_aaaa, version: "1.0.0"}, and then: ferrule update plugin_aaaa`)
	_, stderr = m.does(exitFailed, "install plugin_aaab")
	assert.Contains(t, stderr, "Did you mean plugin_aaaa?")
	m.configure("registry: {url: REGISTRY}\nplugins:\n  - '7'\n")
	_, stderr = m.does(exitUsage, "install 7@1.0.0")
	assert.Contains(t, stderr, `Write its entry, line 3, as {name: '7', version: "1.0.0"}, and then: ferrule update 7`)
}

// TestInstallFileOverLocked: a file that is named is what is installed, by the rules of an update, and what is not verified is said each time.
func TestInstallFileOverLocked(t *testing.T) {
	t.Parallel()
	m := newMarket(t, "registry: {url: REGISTRY}\nplugins: [plugin_aaaa]\n")
	m.publish("aaaa", "1.1.0")
	m.does(exitOK, "install")
	file := func(version, change string) string {
		path := m.path("file" + version + change + fixture.Ext())
		fixture.Variant(t, "system", path, "1.0.0", version, "start:ok", "start:"+change)
		return path
	}
	newer, same, older := file("1.2.0", "ok"), file("1.2.0", "no"), file("1.0.9", "ok")
	stdout, stderr := m.does(exitOK, "install "+newer)
	assert.Equal(t, "plugin_aaaa 1.2.0 (from a file, not signed by a key that counts)\n1 plug-in installed, 1 of them new in ferrule.lock\n", stdout)
	assert.Contains(t, stderr, "NOT VERIFIED")
	_, stderr = m.does(exitOK, "install")
	assert.Contains(t, stderr, "NOT VERIFIED", "each time")
	stdout, _ = m.does(exitOK, "install "+newer)
	assert.Equal(t, "1 plug-in installed, 0 of them new in ferrule.lock\n", stdout)
	locked := m.text("ferrule.lock")
	stdout, _ = m.does(exitOK, "install "+same)
	assert.Contains(t, stdout, "1 of them new")
	assert.NotEqual(t, locked, m.text("ferrule.lock"), "other bytes of the same version")
	locked = m.text("ferrule.lock")
	stdout, stderr = m.does(exitFailed, "install "+older)
	assert.Equal(t, "not installed: plugin_aaaa\n", stdout)
	assert.Contains(t, stderr, "--allow-downgrade")
	assert.Equal(t, locked, m.text("ferrule.lock"))
	m.does(exitOK, "install --allow-downgrade "+older)
	assert.Contains(t, m.text("ferrule.lock"), "version: 1.0.9")
}

// TestInstallAsks: what a plug-in asks for and was not granted is told as what is to be written, with the range and the grants of the command; a function can be granted before the plug-in is there.
func TestInstallAsks(t *testing.T) {
	t.Parallel()
	m := newMarket(t, "registry: {url: REGISTRY}\n")
	fixture.Variant(t, "asks", m.path("asks"+fixture.Ext()))
	_, stderr, code := ferrule(t, "", "push", "--to", m.path("releases"), m.path("asks"+fixture.Ext()))
	require.Zero(t, code, stderr)
	_, stderr = m.does(exitFailed, "install asks")
	assert.Contains(t, stderr, "add to plugins in config.yaml: {name: asks, permit: {connect: [443, 8080]}}. Then: ferrule install")
	_, stderr = m.does(exitFailed, "install", "asks@~1.0", "--grant", "loyalty_points")
	assert.Contains(t, stderr, "add to plugins in config.yaml: {name: asks, version: '~1.0', grant: [loyalty_points], permit: {connect: [443, 8080]}}. Then: ferrule install")
	m.configure("registry: {url: REGISTRY}\nplugins:\n  - asks\n")
	_, stderr = m.does(exitFailed, "install", "asks", "--grant", "loyalty_points")
	assert.Contains(t, stderr, "write its entry, line 3 of config.yaml, as {name: asks, grant: [loyalty_points], permit: {connect: [443, 8080]}}")
	m.configure("registry: {url: REGISTRY}\nplugins:\n  - {name: asks, permit: {memory: 64MiB, connect: [443]}}\n")
	_, stderr = m.does(exitFailed, "install", "asks", "--grant", "loyalty_points")
	assert.Contains(t, stderr, "write grant: [loyalty_points] and permit: {connect: [443, 8080], memory: 64MiB} in its entry, line 3 of config.yaml")
	m.configure("registry: {url: REGISTRY}\nplugins:\n  - {name: asks, permit: {connect: [443]}}\n")
	_, stderr = m.does(exitFailed, "install")
	assert.Contains(t, stderr, "write permit: {connect: [443, 8080]} in its entry, line 3 of config.yaml")
	stdout, stderr := m.does(exitOK, "grant asks loyalty_points")
	assert.Equal(t, "asks: loyalty_points granted in config.yaml\n", stdout)
	assert.Contains(t, stderr, "warning: asks is not installed, so that nobody knows whether it asks for that")
	m.configure("registry: {url: REGISTRY}\nplugins:\n  - {name: asks, enabled: false}\n")
	stdout, _ = m.does(exitOK, "grant asks loyalty_points")
	assert.Equal(t, "asks: loyalty_points granted in config.yaml\n", stdout)
	m.configure("registry: {url: REGISTRY}\nplugins:\n  - {name: asks, permit: {connect: [443, 8080]}}\n")
	m.does(exitOK, "install")
	_, stderr = m.does(exitOK, "grant asks loyalty_pointz")
	assert.Contains(t, stderr, "does not ask for loyalty_pointz; a newer one may", "the store's file says so")
	stdout, _ = m.does(exitOK, "grant asks loyalty_points")
	assert.Equal(t, "asks: loyalty_points granted in config.yaml\n", stdout)
	stdout, _ = m.does(exitOK, "deny asks loyalty_points")
	assert.Equal(t, "asks: loyalty_points taken away in config.yaml\n", stdout)
}

// TestUpdateVerb: versions move when they are asked to, back, and not past what holds them.
func TestUpdateVerb(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	m.publish("aaaa", "1.0.0")
	m.does(exitOK, "install")
	m.publish("aaaa", "1.0.1")
	m.publish("aaaa", "2.0.0") // not in the range
	stdout, _ := m.does(exitOK, "update --dry-run")
	assert.Equal(t, "plugin_aaaa 1.0.0 -> 1.0.1\nnothing was changed (--dry-run)\n", stdout)
	assert.Contains(t, m.text("ferrule.lock"), "version: 1.0.0")
	stdout, _ = m.does(exitOK, "update")
	assert.Equal(t, "plugin_aaaa 1.0.0 -> 1.0.1\n", stdout)
	stdout, _ = m.does(exitOK, "rollback plugin_aaaa")
	assert.Equal(t, "plugin_aaaa 1.0.1 -> 1.0.0\n", stdout)
	stdout, stderr := m.does(exitOK, "update plugin_aaaa")
	assert.Equal(t, "nothing changes\n", stdout)
	assert.Contains(t, stderr, "plugin_aaaa was rolled back, and stays as it is: ferrule update --unpin plugin_aaaa")
	stdout, _ = m.does(exitOK, "update --unpin plugin_aaaa --json")
	var made changes
	require.NoError(t, json.Unmarshal([]byte(stdout), &made))
	assert.Equal(t, []moved{{Plugin: "plugin_aaaa", From: "1.0.0", To: "1.0.1", Unpinned: true}}, made.Changes)
	_, stderr = m.does(exitUsage, "update --unpin")
	assert.Contains(t, stderr, "found --unpin without a name")
	m.does(exitOK, "rollback plugin_aaaa")
	_, stderr = m.does(exitFailed, "rollback plugin_aaaa")
	assert.Contains(t, stderr, "was rolled back to 1.0.0 already")
	_, stderr = m.does(exitOK, "update")
	assert.Contains(t, stderr, "plugin_aaaa was rolled back, and stays as it is", "without a name, too")
	m.configure(strings.ReplaceAll(marketConfig, "version: ^1", "version: =1.0.0"))
	stdout, _ = m.does(exitOK, "update --unpin plugin_aaaa --dry-run")
	assert.Equal(t, "plugin_aaaa is no longer pinned, and stays at 1.0.0: no other version was taken\nnothing was changed (--dry-run)\n", stdout)
	assert.Contains(t, m.text("ferrule.lock"), "pinned: true")
	stdout, _ = m.does(exitOK, "update --unpin plugin_aaaa")
	assert.Equal(t, "plugin_aaaa is no longer pinned, and stays at 1.0.0: no other version was taken\n", stdout)
	assert.NotContains(t, m.text("ferrule.lock"), "pinned")
	m.configure(marketConfig)
	for _, c := range []struct{ before, in, remedy string }{ // what is to be done is said at once, with all that it takes
		{"", "=1.0.1", "update plugin_aaaa"}, {"rollback plugin_aaaa", "=1.0.1", "update --unpin plugin_aaaa"}, {"", "=1.0.0", "update --allow-downgrade plugin_aaaa"},
	} {
		if c.before != "" {
			locked := m.text("ferrule.lock")
			_, stderr = m.does(exitFailed, c.before)
			assert.Contains(t, stderr, "found version 1.0.0, to go back to, expected =1.0.1, as config.yaml says. Write a range that has it in config.yaml first")
			assert.Equal(t, locked, m.text("ferrule.lock"))
			m.configure(marketConfig)
			m.does(exitOK, c.before)
		}
		m.configure(strings.ReplaceAll(marketConfig, "version: ^1", "version: "+c.in))
		stdout, stderr = m.does(exitFailed, "install")
		assert.Contains(t, stdout+stderr, "Take another version into the lock: ferrule "+c.remedy+". Or correct the range")
		stdout, _ = m.does(exitOK, "list")
		assert.Contains(t, stdout, "Take another version into the lock: ferrule "+c.remedy+". Or correct the range")
		m.does(exitOK, c.remedy)
		m.does(exitOK, "install")
	}
	m.configure(marketConfig)
	_, stderr = m.does(exitUsage, "update --replaced")
	assert.Contains(t, stderr, "found --replaced without a name")
	_, stderr = m.does(exitUsage, "lock --platform linux")
	assert.Contains(t, stderr, "found --platform linux, which is no platform, expected OS/ARCH")
	_, stderr = m.does(exitUsage, "bundle --platform linux/arm64,linux "+m.path("x.zip"))
	assert.Contains(t, stderr, "found --platform linux, which is no platform")
	_, stderr = m.does(exitFailed, "rollback plugin_zzzz")
	assert.Contains(t, stderr, "plugin_zzzz: ")
}

// TestRemoveVerb: from config.yaml, the lock, and the store when that is tidied.
func TestRemoveVerb(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	m.publish("aaaa", "1.0.0")
	m.does(exitOK, "install")
	_, stderr := m.does(exitUsage, "remove plugin_aaab")
	assert.Contains(t, stderr, "Did you mean \"plugin_aaaa\"?")
	stdout, _ := m.does(exitOK, "gc --older 0s")
	assert.Contains(t, stdout, "0 files deleted")

	// What only the lock names is told of, goes with remove and with an update, and what is disabled stays.
	m.publish("bbbb", "1.0.0")
	m.publish("cccc", "1.0.0")
	m.publish("dddd", "1.0.0")
	m.configure(strings.ReplaceAll(marketConfig, "plugins:\n", "plugins:\n  - plugin_bbbb\n  - plugin_cccc\n  - plugin_dddd\n"))
	m.does(exitOK, "install")
	m.configure(strings.ReplaceAll(marketConfig, "plugins:\n", "plugins:\n  - {name: plugin_bbbb, enabled: false}\n"))
	_, stderr = m.does(exitOK, "install")
	assert.Contains(t, stderr, "config.yaml does not name plugin_cccc, plugin_dddd, which the lock has: ferrule update drops what nobody needs")
	stdout, _ = m.does(exitOK, "remove plugin_cccc")
	assert.Equal(t, "plugin_cccc 1.0.0 goes\n", stdout)
	m.does(exitOK, "remove plugin_dddd")
	m.configure(strings.ReplaceAll(marketConfig, "plugins:\n", "plugins:\n  - plugin_cccc\n"))
	m.does(exitOK, "install")
	m.configure(strings.ReplaceAll(marketConfig, "plugins:\n", "plugins:\n  - {name: plugin_bbbb, enabled: false}\n"))
	stdout, _ = m.does(exitOK, "update")
	assert.Regexp(t, `^plugin_cccc 1\.0\.0 goes: \S*config\.yaml does not name it, and nobody requires it\n$`, stdout)
	assert.Contains(t, m.text("ferrule.lock"), "plugin_bbbb")
	m.does(exitOK, "remove plugin_bbbb")
	stdout, _ = m.does(exitOK, "remove plugin_aaaa")
	assert.Equal(t, "plugin_aaaa 1.0.0 goes\n", stdout)
	assert.NotContains(t, m.text("config.yaml"), "plugin_aaaa")
	assert.NotContains(t, m.text("ferrule.lock"), "plugin_aaaa")
	stdout, _ = m.does(exitOK, "install")
	assert.Equal(t, "0 plug-ins installed, 0 of them new in ferrule.lock\n", stdout)
}

// TestRemoveHalf: a lock that may not be written keeps config.yaml as it is, too; and where only one of the two was changed, that is said, with what does the rest.
func TestRemoveHalf(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	m.publish("aaaa", "1.0.0")
	m.does(exitOK, "install")
	before := m.text("config.yaml")
	require.NoError(t, os.Chmod(m.path("ferrule.lock"), 0o444))
	_, stderr := m.does(exitOpen, "remove plugin_aaaa")
	assert.Contains(t, stderr, "a file or folder that may only be read")
	assert.NotContains(t, stderr, "is changed")
	assert.Equal(t, before, m.text("config.yaml"))
	require.NoError(t, os.Chmod(m.path("ferrule.lock"), 0o644))

	require.NoError(t, os.Rename(m.path("store/user"), m.path("user.away")))
	require.NoError(t, os.WriteFile(m.path("store/user"), nil, 0o600))
	_, stderr = m.does(exitFailed, "remove plugin_aaaa")
	assert.Contains(t, stderr, "config.yaml is changed, and does not name plugin_aaaa any more: after that 'ferrule remove plugin_aaaa' takes the lock's part out, too.")
	assert.NotContains(t, m.text("config.yaml"), "plugin_aaaa")
	assert.Contains(t, m.text("ferrule.lock"), "plugin_aaaa")
	require.NoError(t, os.Remove(m.path("store/user")))
	require.NoError(t, os.Rename(m.path("user.away"), m.path("store/user")))
	stdout, _ := m.does(exitOK, "remove plugin_aaaa")
	assert.Equal(t, "plugin_aaaa 1.0.0 goes\n", stdout)
	assert.NotContains(t, m.text("ferrule.lock"), "plugin_aaaa")
}

// TestRemoveOrder: what the lock has no more config.yaml does not name any more: an application that watches both would install it again.
func TestRemoveOrder(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	m.publish("aaaa", "1.0.0")
	for range 10 {
		m.configure(marketConfig)
		m.does(exitOK, "install")
		over, watched := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(watched)
			for {
				select {
				case <-over:
					return
				default:
				}
				if !strings.Contains(m.text("ferrule.lock"), "plugin_aaaa") {
					assert.NotContains(t, m.text("config.yaml"), "plugin_aaaa")
				}
			}
		}()
		m.does(exitOK, "remove plugin_aaaa")
		close(over)
		<-watched
	}
}

// TestBundleAndMirror: without the registry, from one file or another place, with the same lock and without one.
func TestBundleAndMirror(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	m.publish("aaaa", "1.0.0")
	m.does(exitOK, "install")
	locked := m.text("ferrule.lock")
	m.does(exitOK, "bundle "+m.path("all.zip"))
	m.does(exitOK, "mirror --to "+m.path("mirror"))
	_, stderr := m.does(exitUsage, "bundle "+m.path("all.tar"))
	assert.Contains(t, stderr, "expected a file that ends with .zip")
	_, stderr = m.does(exitUsage, "mirror --to https://mirror.example/{plugin}")
	assert.Contains(t, stderr, "which is only read")
	require.NoError(t, os.RemoveAll(m.path("releases")))

	for _, from := range []string{"all.zip", "mirror"} {
		require.NoError(t, os.RemoveAll(m.path("store")))
		m.does(exitOK, "install --from "+m.path(from))
		assert.Equal(t, locked, m.text("ferrule.lock"), from)
		require.NoError(t, os.RemoveAll(m.path("store")))
		require.NoError(t, os.Remove(m.path("ferrule.lock")))
		m.does(exitOK, "install --from "+m.path(from))
		assert.Contains(t, m.text("ferrule.lock"), "version: 1.0.0", from)
		require.NoError(t, os.WriteFile(m.path("ferrule.lock"), []byte(locked), 0o600))
	}
	require.NoError(t, os.RemoveAll(m.path("store")))
	m.configure("registry: {url: REGISTRY, keys: [KEY], mirrors: ['file://" + filepath.ToSlash(m.path("mirror")) + "']}\nplugins:\n  - {name: plugin_aaaa, version: ^1}\n")
	m.does(exitOK, "install")
}

// TestPush: what is there stays, and what cannot be one release is refused.
func TestPush(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	m.publish("aaaa", "1.0.0")
	push := func(code int, want string, args ...string) {
		t.Helper()
		stdout, stderr, got := ferrule(t, "", append([]string{"push", "--to", m.path("releases"), "--key", m.path("shop.key")}, args...)...)
		assert.Equal(t, code, got, "%s%s", stdout, stderr)
		assert.Contains(t, stdout+stderr, want)
	}
	lib, other, none := m.path("aaaa1.0.0"+fixture.Ext()), m.path("other"+fixture.Ext()), m.path("none"+fixture.Ext())
	push(exitOK, "plugin_aaaa 1.0.0 is in", lib)
	fixture.Variant(t, "system", other, "start:ok", "start:no")
	push(exitFailed, "the release was replaced", other, "--json")
	push(exitFailed, "a second library for "+runtime.GOOS+"/"+runtime.GOARCH, lib, other)
	fixture.Variant(t, "system", other, "1.0.0", "1.0.1")
	push(exitFailed, "version 1.0.1 in the library", lib, other)
	fixture.Variant(t, "system", other, "aaaa", "bbbb")
	apart := m.path("apart.py")
	require.NoError(t, os.WriteFile(apart, []byte("# ferrule: name=apart version=1.0.0 fn=f\ndef f(x): return x\n"), 0o600))
	push(exitFailed, "found the plug-in plugin_bbbb, beside "+lib+" of the plug-in plugin_aaaa, expected the files of one plug-in. Publish one plug-in at a time", lib, other)
	push(exitFailed, "found the plug-in apart, beside "+lib+" of the plug-in plugin_aaaa, expected the files of one plug-in. Publish one plug-in at a time", lib, apart)
	for _, version := range []string{"one", "1.0", "v1.0.0", "01.0.0"} { // which nobody could install
		path := m.path("f.py")
		require.NoError(t, os.WriteFile(path, []byte("# ferrule: name=odd version="+version+" fn=f\ndef f(x): return x\n"), 0o600))
		push(exitFailed, "found the version \""+version+"\", expected a semantic version of three numbers, such as 1.2.0", path)
	}
	for _, asks := range []string{"permit.memory=64MiB", "permit.connect=https", "permit.connect=0", "permit.listen=65536", "permit.read=data"} { // nor this, whatever is granted
		path := m.path("f.py")
		require.NoError(t, os.WriteFile(path, []byte("# ferrule: name=odd version=1.0.0 "+asks+" fn=f\ndef f(x): return x\n"), 0o600))
		key, value, _ := strings.Cut(asks, "=")
		push(exitFailed, fmt.Sprintf("found a manifest that says %s=%q, expected absolute paths, ports from 1 to 65535, to listen on also 0, and a number of bytes (rule R32). Correct it in the manifest", key, value), path)
	}
	there, err := filepath.Glob(m.path("releases", "*odd*"))
	require.NoError(t, err)
	assert.Empty(t, there, "nothing is published")
	require.NoError(t, os.WriteFile(none, []byte("none"), 0o600))
	push(exitOpen, "found no plug-in that can be published: not a shared library: found ", none)
	stdout, stderr, code := ferrule(t, "", "push", "--to", m.path("releases"), "--key", m.path("config.yaml"), other)
	assert.Equal(t, exitUsage, code, stdout)
	assert.Contains(t, stderr, "--key: ")
	stdout, stderr, code = ferrule(t, "", "push", "--to", "https://example.com/x", lib)
	assert.Equal(t, exitUsage, code, stdout)
	assert.Contains(t, stderr, "which is only read")
	_, stderr, code = ferrule(t, "", "push", lib)
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "found no --to, expected --to with a folder, a .zip or oci://HOST/PATH")
	assert.NotContains(t, stderr, "release page", "which is only read")
}

// TestPushSignsLater: what push says to be signed is what the place has: a signature comes to files without one, and one that is there stays.
func TestPushSignsLater(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	lib, to := m.path("lib"+fixture.Ext()), m.path("later")
	fixture.Variant(t, "system", lib)
	push := func(want bool, added, text string, args ...string) {
		t.Helper()
		stdout, stderr, code := ferrule(t, "", append([]string{"push", "--json", "--to", to, lib}, args...)...)
		require.Zero(t, code, stderr)
		assert.Contains(t, stdout, fmt.Sprintf(`"signed": %v`, want))
		assert.Contains(t, stdout, fmt.Sprintf(`"added": %q`, added))
		if !want {
			assert.Contains(t, stderr, "Push it again with --key KEY, which adds the signature\n")
		} else {
			assert.Empty(t, stderr)
		}
		bundle := m.path("later.zip") // with the same, for people
		stdout, stderr, code = ferrule(t, "", append([]string{"push", "--to", bundle, lib}, args...)...)
		require.Zero(t, code, stderr)
		assert.Contains(t, stdout, text)
		found, err := filepath.Glob(filepath.Join(to, "v1.0.0", "*.minisig"))
		require.NoError(t, err)
		assert.Equal(t, want, len(found) == 1)
	}
	push(false, "file", "B, not signed)\n")
	push(false, "nothing", "B, was there already, not signed)\n")
	push(true, "signature", "B, signature added)\n", "--key", m.path("shop.key"))
	push(true, "nothing", "B, was there already)\n") // without the key: it is signed there

	// A version that is in an OCI registry stays as it is.
	address := "oci://" + fixture.Registry(t, "tiny") + "/acme"
	stdout, stderr, code := ferrule(t, "", "push", "--json", "--to", address, lib)
	require.Zero(t, code, stderr)
	assert.NotContains(t, stdout, `"added"`)
	assert.Contains(t, stderr, "Sign the next version: push --key KEY, or ferrule sign before\n")
	_, stderr, code = ferrule(t, "", "push", "--to", address, "--key", m.path("shop.key"), lib)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "found the same files there with another description or other signatures")
}

// TestPushSignatures: what readers would refuse is not published, since the version would be taken; the signature beside a file is compared, or verified where a key is given.
func TestPushSignatures(t *testing.T) {
	t.Parallel()
	m := newMarket(t, "registry: {url: REGISTRY, keys: [KEY]}\n")
	lib, n := m.path("lib"+fixture.Ext()), 0
	signature := lib + signatureExt
	sign := func() {
		t.Helper()
		_, stderr, code := ferrule(t, "", "sign", "--key", m.path("shop.key"), lib)
		require.Zero(t, code, stderr)
	}
	push := func(code int, want string, args ...string) {
		t.Helper()
		n++
		to := m.path(fmt.Sprint("releases", n))
		stdout, stderr, got := ferrule(t, "", append([]string{"push", "--to", to, lib}, args...)...)
		assert.Equal(t, code, got, "%s%s", stdout, stderr)
		assert.Contains(t, stderr, want)
		if code == exitOK && want == "" {
			assert.Empty(t, stderr)
		} else if code != exitOK {
			assert.NoDirExists(t, to, "nothing is published")
		}
	}
	at := func(file string, ago time.Duration) {
		t.Helper()
		require.NoError(t, os.Chtimes(file, time.Time{}, time.Now().Add(-ago)))
	}
	fixture.Variant(t, "system", lib)
	push(exitOK, "warning: plugin_aaaa 1.0.0 for "+runtime.GOOS+"/"+runtime.GOARCH+" is NOT SIGNED")
	push(exitFailed, "found no signature", "--verify-key", m.key)
	sign()
	push(exitOK, "")
	push(exitOK, "", "--verify-key", m.key)
	push(exitOK, "", "--verify-key", m.path("shop.key.pub"))
	push(exitOK, "", "--config", m.path("config.yaml"))
	push(exitFailed, "expected one by key", "--verify-key", aKey)
	push(exitUsage, "found --verify-key and --config", "--verify-key", m.key, "--config", m.path("config.yaml"))
	push(exitUsage, "--verify-key: ", "--verify-key", lib)
	push(exitUsage, "found no file ", "--config", m.path("nowhere.yaml"))

	// A byte is changed after it was signed: the age says so, or the key, whatever the age. With --key the one beside it is not looked at.
	changed, err := os.ReadFile(lib)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(lib, append(changed, 0), 0o600))
	at(signature, time.Hour)
	push(exitFailed, "found a signature that is older than its file")
	at(lib, 2*time.Hour)
	push(exitFailed, "other bytes than those that key", "--verify-key", m.key)
	require.NoError(t, os.WriteFile(signature, []byte("none"), 0o600))
	push(exitOK, "", "--key", m.path("shop.key"), "--verify-key", m.key)

	// It is another version's, or none.
	push(exitFailed, "found a text that is no signature")
	require.NoError(t, os.WriteFile(signature, make([]byte, 1<<20), 0o600))
	push(exitFailed, "found a signature of more than 4 KiB")
	sign()
	fixture.Variant(t, "system", lib, "1.0.0", "1.0.1")
	at(lib, time.Hour)
	push(exitFailed, "found a signature for plugin_aaaa 1.0.0 for ")
}

// TestOddPaths: a folder whose name has characters that mean something else in an address is that folder, and no other.
func TestOddPaths(t *testing.T) {
	t.Parallel()
	m := newMarket(t, "")
	m.publish("aaaa", "1.0.0")
	lib := m.path("aaaa1.0.0" + fixture.Ext())
	names := []string{"a#b", "100%", "%41", "a b", "a+b{tag}"}
	if runtime.GOOS != "windows" {
		names = append(names, "a?b", "a:b")
	}
	for _, name := range names {
		stdout, stderr, code := ferrule(t, "", "push", "--to", m.path(name), "--key", m.path("shop.key"), lib)
		assert.Zero(t, code, stderr)
		assert.FileExists(t, filepath.Join(m.path(name), "latest", "plugin_aaaa.json"), stdout)
	}
	for _, address := range []string{"file:///releases?x", "file:///releases#x", "file:///releases?", "file:///releases#", "file:///releases/{tag}"} {
		_, stderr, code := ferrule(t, "", "push", "--to", address, lib)
		assert.Equal(t, exitUsage, code, address)
		assert.Contains(t, stderr, "In a path ? is written %3F, # %23", address)
	}
}

// TestCutIsSaid: people see, too, that a search did not see all.
func TestCutIsSaid(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	require.NoError(t, (&hits{Total: 3, Cut: true, Hits: []hit{{Hit: index.Hit{Name: "tax", Version: "1.0.0"}}}}).write(&b))
	assert.Equal(t, "tax  1.0.0  -\n1 of more than 3: there may be better ones. These words are of very many plug-ins: give another word\n", b.String())
}

// TestPushToOCI: what no OCI registry can have is said before a key's password is asked for, and before anything is sent: there is no registry at this address.
func TestPushToOCI(t *testing.T) {
	t.Parallel()
	m := newMarket(t, "")
	_, stderr, code := ferrule(t, "", "keygen", "--password-file", m.write("password", "secret"), m.path("encrypted.key"))
	require.Zero(t, code, stderr)
	for _, c := range []struct {
		pairs []string
		want  string
	}{
		{[]string{"aaaa", "Aaaa"}, `found the plug-in's name "plugin_Aaaa", expected small letters and digits`},
		{[]string{"aaaa", "a__-"}, `found the plug-in's name "plugin_a__-", expected small letters and digits`},
		{[]string{"aaaa", "bbbb", "1.0.0", "1.0.x"}, `found the version "1.0.x", expected a semantic version of three numbers, such as 1.2.0`},
		{[]string{"aaaa", "bbbb", "1.0.0", "01.00"}, `found the version "01.00", expected a semantic version of three numbers, such as 1.2.0`},
	} {
		lib := m.path("oci" + fixture.Ext())
		fixture.Variant(t, "system", lib, c.pairs...)
		_, stderr, code := ferrule(t, "", "push", "--to", "oci://127.0.0.1:1/acme", "--key", m.path("encrypted.key"), lib)
		assert.Equal(t, exitFailed, code, stderr)
		assert.Contains(t, stderr, c.want)
	}
	lib := m.path("oci" + fixture.Ext())
	fixture.Variant(t, "system", lib, "aaaa", "bbbb")
	_, stderr, code = ferrule(t, "", "push", "--to", "oci://127.0.0.1:1/acme", "--key", m.path("encrypted.key"), lib)
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "no terminal to ask for the password")
	_, stderr, code = ferrule(t, "", "push", "--to", "oci://127.0.0.1:1/acme", "--key", m.path("encrypted.key"), "--password-file", m.path("password"), lib)
	assert.Equal(t, exitUnavailable, code, stderr)
}

// write writes a file, and returns its path.
func (m *market) write(file, text string) string {
	m.t.Helper()
	require.NoError(m.t, os.WriteFile(m.path(file), []byte(text), 0o600))
	return m.path(file)
}

// TestVerifyInstalled: what the lock names is in the store, whole, and signed by a key that counts; each thing that is not so is said, and the others are verified.
func TestVerifyInstalled(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	_, stderr := m.does(exitUsage, "verify")
	assert.Contains(t, stderr, "found no plug-in in ")
	m.publish("aaaa", "1.0.0")
	m.publish("bbbb", "1.0.0")
	m.does(exitOK, "install plugin_bbbb")
	require.NoError(t, os.RemoveAll(m.path("releases"))) // nothing is asked of it
	stdout, stderr := m.does(exitOK, "verify")
	assert.Regexp(t, `^NAME +VERSION +SIGNED BY +FILE\nplugin_aaaa +1\.0\.0 +[0-9A-F]{16} +store\S+\nplugin_bbbb .*\n2 plug-ins as ferrule\.lock says, 0 not\n$`, stdout)
	assert.Empty(t, stderr)
	var made installation
	verified := func(code int) (stderr string) {
		t.Helper()
		stdout, stderr := m.does(code, "verify --json")
		made = installation{}
		require.NoError(t, json.Unmarshal([]byte(stdout), &made), stdout)
		return stderr
	}
	verified(exitOK)
	require.Len(t, made.Plugins, 2)
	text, file := m.text("config.yaml"), m.path(made.Plugins[0].Path)
	require.NoError(t, os.Chmod(file, 0o600))
	lib, err := os.ReadFile(file)
	require.NoError(t, err)
	lib[len(lib)-1] ^= 1
	require.NoError(t, os.WriteFile(file, lib, 0o600))
	stderr = verified(exitFailed)
	require.Len(t, made.Failed, 1)
	assert.Equal(t, []string{"plugin_aaaa", "1.0.0", "other bytes than the digest says"}, []string{made.Failed[0].Plugin, made.Failed[0].Version, made.Failed[0].Kind})
	assert.Contains(t, stderr, "ferrule: plugin_aaaa 1.0.0: ")
	assert.Len(t, made.Plugins, 1)
	require.NoError(t, os.Remove(file))
	verified(exitFailed)
	assert.Equal(t, "no such release", made.Failed[0].Kind)
	assert.Contains(t, made.Failed[0].Remedy, "ferrule install")

	m.configure("registry: {url: REGISTRY, keys: [KEY], revoked: [" + made.Plugins[0].Key + "]}\n")
	verified(exitFailed)
	assert.Equal(t, "signed by a key that was revoked", made.Failed[1].Kind)
	m.configure("registry: {url: REGISTRY}\n")
	stderr = verified(exitFailed)
	assert.Len(t, made.Failed, 1)
	assert.Contains(t, stderr, "warning: plugin_bbbb 1.0.0: plugin_bbbb: NOT VERIFIED")
	require.Len(t, made.Warnings, 1)
	m.shop.configure(text)

	_, stderr = m.does(exitUsage, "verify "+m.path("x.so"))
	assert.Contains(t, stderr, "found --config and a FILE, expected it without FILE")
	for _, flag := range []string{"--key", "--name", "--platform", "--version"} {
		_, stderr = m.does(exitUsage, "verify "+flag+" x")
		assert.Contains(t, stderr, "found "+flag+" and no FILE, expected a FILE with it")
	}
	m.write("ferrule.lock", "format: none\n")
	m.does(exitOpen, "verify")
}

// TestListInstalled: what is installed is found in the store, by list, info and doctor, with the registry gone; --outdated alone asks that.
func TestListInstalled(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	m.publish("aaaa", "1.0.0")
	m.does(exitOK, "install")
	m.publish("aaaa", "1.0.1")
	m.publish("aaaa", "2.0.0")
	var all listing
	stdout, _ := m.does(exitOK, "list --json")
	require.NoError(t, json.Unmarshal([]byte(stdout), &all))
	require.Len(t, all.Plugins, 1)
	p := all.Plugins[0]
	assert.Equal(t, []string{"plugin_aaaa", "1.0.0", "ready"}, []string{p.Name, p.Version, p.State})
	assert.Regexp(t, `^store[/\\]sha256[/\\][0-9a-f]{64}[/\\]plugin_aaaa`, p.Source)
	stdout, _ = m.does(exitOK, "list --outdated")
	assert.Regexp(t, `^NAME +VERSION +FITS +NEWEST\nplugin_aaaa +1\.0\.0 +1\.0\.1 +2\.0\.0\n$`, stdout)
	stdout, _ = m.does(exitOK, "list --outdated --json")
	all = listing{}
	require.NoError(t, json.Unmarshal([]byte(stdout), &all))
	assert.Equal(t, []outdated{{"plugin_aaaa", "1.0.0", "1.0.1", "2.0.0", false, nil}}, all.Outdated)
	m.does(exitUsage, "list --outdated --hooks")

	require.NoError(t, os.RemoveAll(m.path("releases")))
	_, stderr := m.does(exitUnavailable, "list --outdated")
	assert.Contains(t, stderr, "ferrule: plugin_aaaa")
	stdout, _ = m.does(exitOK, "list")
	assert.Regexp(t, `\nplugin_aaaa +1\.0\.0 +ready +in-process +store\S+\n`, stdout)
	stdout, _ = m.does(exitOK, "info plugin_aaaa")
	assert.Regexp(t, `\n  from +REGISTRY\n  signed by +[0-9A-F]{16}\n  digest +sha256:[0-9a-f]{64}\n`, stdout)
	var facts info
	stdout, _ = m.does(exitOK, "info --json plugin_aaaa")
	require.NoError(t, json.Unmarshal([]byte(stdout), &facts))
	assert.Len(t, facts.Key, 16)
	assert.Equal(t, filepath.Base(filepath.Dir(facts.Source)), strings.TrimPrefix(facts.Digest, "sha256:"))
	stdout, _ = m.does(exitOK, "doctor")
	assert.Contains(t, stdout, "All is well")
}

// TestDoctorInstalled: what keeps an installed plug-in from starting, and what is doubtful with it, each with the remedy.
func TestDoctorInstalled(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	finds := func(level, kind, text, remedy string) finding {
		t.Helper()
		stdout, _ := m.does(exitFailed, "doctor --json")
		var d diagnosis
		require.NoError(t, json.Unmarshal([]byte(stdout), &d), stdout)
		require.Len(t, d.Findings, 1, stdout)
		f := d.Findings[0]
		assert.Equal(t, []string{level, kind}, []string{f.Level, f.Kind}, stdout)
		assert.Contains(t, f.Found, text)
		assert.Contains(t, f.Remedy, remedy)
		return f
	}
	m.publish("aaaa", "1.0.0")
	f := finds("wrong", "no such release", "no store", "ferrule install")
	assert.Equal(t, 3, f.Line, "where config.yaml names it")
	assert.NoDirExists(t, m.path("store"), "nothing is left behind")
	require.NoError(t, os.Mkdir(m.path("store"), 0o700))
	finds("wrong", "no such release", "no plug-in of this name in the lock", "ferrule install")
	assert.NoFileExists(t, m.path("ferrule.lock"))
	m.does(exitOK, "install")
	stdout, _ := m.does(exitOK, "info --json plugin_aaaa")
	var facts info
	require.NoError(t, json.Unmarshal([]byte(stdout), &facts))
	file := m.path(facts.Source)
	lib, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(file, 0o600))
	require.NoError(t, os.WriteFile(file, append(lib, 0), 0o600))
	finds("wrong", "other bytes than the digest says", "other bytes", "ferrule install")
	require.NoError(t, os.Remove(file))
	finds("wrong", "no such release", "no file with the digest", "ferrule install")
	m.does(exitOK, "install")

	m.configure(strings.ReplaceAll(marketConfig, "^1", "^2"))
	finds("wrong", "the lock cannot be used", "version 1.0.0 in the lock", "ferrule update")
	m.configure("registry: {url: REGISTRY, keys: [KEY], revoked: [" + facts.Key + "]}\nplugins: [plugin_aaaa]\n")
	finds("wrong", "signed by a key that was revoked", "a signature by key", "another key")
	m.configure("registry: {url: REGISTRY}\nplugins: [plugin_aaaa]\n")
	finds("doubtful", "", "no key is set", "registry.keys")

	m.configure(marketConfig)
	seen := func(at time.Time) {
		require.NoError(t, lock.Update(t.Context(), m.path("ferrule.lock"), func(l *lock.Lock) error {
			l.Indexes = map[string]lock.Index{"file:///plugins": {Name: "acme", Serial: 7, Date: at}}
			return nil
		}))
	}
	seen(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	finds("doubtful", "", "an index of 2026-01-02", "ferrule update")
	seen(time.Now().Add(-index.DefaultMaxAge + time.Hour).Truncate(time.Second).UTC())
	m.does(exitOK, "doctor")
	m.write("ferrule.lock", "format: none\n")
	m.configure("folders: [plugins]\n")
	finds("wrong", "the lock cannot be used", "", "")
}

// TestCompleteDistribution: names come from the lock or from config.yaml, and platforms are those that there are.
func TestCompleteDistribution(t *testing.T) {
	t.Parallel()
	m := newMarket(t, marketConfig)
	m.publish("aaaa", "1.0.0")
	m.does(exitOK, "install")
	m.configure(marketConfig + "  - plugin_bbbb\n")
	completes := func(want string, line ...string) {
		t.Helper()
		args := append([]string{"__complete", line[0], "--config", m.path("config.yaml"), "--store", m.path("store")}, line[1:]...)
		stdout, stderr, code := ferrule(t, "", args...)
		assert.Zero(t, code, stderr)
		words, _, _ := strings.Cut(stdout, ":")
		assert.Equal(t, want, words, line)
	}
	for _, verb := range []string{"update", "rollback", "mirror"} {
		completes("plugin_aaaa\t1.0.0\n", verb, "plugin_")
		completes("", verb, "plugin_aaaa", "plugin_")
	}
	completes("plugin_aaaa\t1.0.0\n", "bundle", "all.zip", "")
	completes("zip\n", "bundle", "")
	completes("plugin_aaaa\t^1\nplugin_bbbb\n", "install", "plu")
	completes("plugin_bbbb\n", "install", "plugin_aaaa", "plu")
	completes("plugin_bbbb\n", "remove", "plugin_b")
	for _, verb := range []string{"lock", "mirror", "bundle"} {
		completes("linux/amd64\nlinux/arm64\n", verb, "--platform", "l")
		completes("linux/amd64,linux/arm64\n", verb, "--platform", "linux/amd64,l")
	}
	completes("any\n", "verify", "--platform", "a")
	stdout, _, _ := ferrule(t, "", "__complete", "push", "")
	assert.True(t, strings.HasPrefix(stdout, "so\ndylib\ndll\n"), stdout)
}

// TestMessages: errors that were joined are messages of their own, and what wraps several is one.
func TestMessages(t *testing.T) {
	t.Parallel()
	one, two := errors.New("one"), errors.New("two")
	assert.Equal(t, []string{"one", "two", "one"}, messages(errors.Join(errors.Join(one, two), one)))
	assert.Equal(t, []string{"one and two"}, messages(fmt.Errorf("%w and %w", one, two)))
	e := &registry.Error{Plugin: "a", Kind: registry.ErrNotFound, Found: "no source that has it", Err: errors.Join(one, two)}
	assert.Equal(t, []string{"a: found no source that has it: one; two"}, messages(e))
	assert.Equal(t, "one", install.Notice{Text: "one"}.String())
	assert.Equal(t, "a 1: one", install.Notice{Plugin: "a", Version: "1", Text: "one"}.String())
}

// TestUnavailable: a server that is not there, and one that sends nothing usable, are told apart by exit code.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := gone.Addr().String()
	require.NoError(t, gone.Close())
	m := newMarket(t, "registry: {url: 'http://"+address+"/{tag}'}\nplugins: [plugin_aaaa]\n")
	_, stderr := m.does(exitUnavailable, "install")
	assert.Contains(t, stderr, "ferrule: plugin_aaaa: ")
	assert.Contains(t, stderr, "What the lock names and the store has needs no server, and a mirror may have the rest")
	assert.NoFileExists(t, m.path("ferrule.lock"))

	_, stderr = m.does(exitUnavailable, "search x")
	assert.Contains(t, stderr, "ferrule: ")

	pages := httptest.NewServer(http.FileServer(http.Dir(m.path("releases"))))
	m.configure("registry: {url: '" + pages.URL + "/{tag}', keys: [KEY]}\nplugins: [plugin_aaaa]\n")
	m.publish("aaaa", "1.0.0")
	m.does(exitOK, "install")
	pages.Close()
	m.does(exitOK, "install")
	for _, line := range []string{"update", "list --outdated", "lock --platform plan9/386", "mirror --to oci://127.0.0.1:1/acme"} {
		stdout, stderr := m.does(exitUnavailable, line)
		assert.Contains(t, stderr, "plugin_aaaa", line)
		assert.NotContains(t, stdout, "nothing changes", line)
		assert.NotRegexp(t, `(?m) $`, stdout, line)
		stdout, _ = m.does(exitUnavailable, line+" --json")
		assert.True(t, json.Valid([]byte(stdout)), "%s: %s", line, stdout)
	}
	require.NoError(t, os.RemoveAll(m.path("store")))
	m.does(exitUnavailable, "bundle "+m.path("all.zip"))

	none := httptest.NewServer(http.NotFoundHandler())
	defer none.Close()
	m.configure("registry: {url: '" + none.URL + "/{tag}'}\nplugins: [plugin_aaaa]\n")
	_, stderr = m.does(exitFailed, "install")
	assert.NotContains(t, stderr, "credentials", "what is not there is not hidden from a stranger")
	_, stderr = m.does(exitFailed, "search x")
	assert.Contains(t, stderr, "found no index, expected index.json")
	require.NoError(t, os.Remove(m.path("ferrule.lock")))
	_, stderr = m.does(exitFailed, "install --from "+none.URL)
	assert.Contains(t, stderr, "Write {tag} in the registry's url")
	require.NoError(t, os.WriteFile(m.path("ferrule.lock"), []byte("format: 1\nplugin: {}\n"), 0o600))
	_, stderr = m.does(exitOpen, "install")
	assert.Contains(t, stderr, "ferrule.lock")
	_, stderr = m.does(exitUsage, "install --app shop")
	assert.Contains(t, stderr, "expected --app NAME@VERSION")
}
