package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// aKey is a public key whose private one nobody has.
const aKey = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"

// signer is a folder with a key without a password, and a plug-in.
type signer struct {
	t                        *testing.T
	key, public, lib, script string
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	dir := t.TempDir()
	s := &signer{t, filepath.Join(dir, "shop.key"), filepath.Join(dir, "shop.key.pub"), filepath.Join(dir, "echo"+fixture.Ext()), filepath.Join(dir, "greet.js")}
	_, stderr, code := ferrule(t, "", "keygen", "--no-password", s.key)
	require.Zero(t, code, stderr)
	fixture.Variant(t, "echo", s.lib)
	require.NoError(t, os.WriteFile(s.script, []byte("export const greet = 1\n"), 0o600))
	return s
}

// says holds a command line to its exit code, and to a part of what it prints.
func (s *signer) says(code int, want string, args ...string) {
	s.t.Helper()
	stdout, stderr, got := ferrule(s.t, "", args...)
	assert.Equal(s.t, code, got, "%v: %s%s", args, stdout, stderr)
	text := stdout
	if code != exitOK {
		text += stderr
	}
	assert.Contains(s.t, text, want, "%v", args)
}

func TestKeygen(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	if runtime.GOOS != "windows" {
		for file, mode := range map[string]fs.FileMode{s.key: 0o600, s.public: 0o644} {
			info, err := os.Stat(file)
			require.NoError(t, err)
			assert.Equal(t, mode, info.Mode().Perm(), file)
		}
	}
	before, err := os.ReadFile(s.key)
	require.NoError(t, err)
	s.says(exitUsage, "found a file at "+s.key+", expected a name that is free", "keygen", "--no-password", s.key)
	require.NoError(t, os.Remove(s.key))
	s.says(exitUsage, "found a file at "+s.public, "keygen", "--no-password", s.key)
	assert.NoFileExists(t, s.key)
	require.NoError(t, os.WriteFile(s.key, before, 0o666))

	stdout, stderr, code := ferrule(t, "", "keygen", "--no-password", "--force", "--json", s.key)
	require.Zero(t, code, stderr)
	var made madeKeys
	require.NoError(t, json.Unmarshal([]byte(stdout), &made))
	text, err := os.ReadFile(s.key)
	require.NoError(t, err)
	assert.NotEqual(t, before, text)
	private, err := sign.ParsePrivateKey(text, "")
	require.NoError(t, err)
	public, err := os.ReadFile(s.public)
	require.NoError(t, err)
	assert.Equal(t, string(private.Public().Text()), string(public))
	assert.Equal(t, madeKeys{s.key, s.public, private.ID(), private.Public().String(), false}, made)
	if runtime.GOOS != "windows" {
		info, err := os.Stat(s.key)
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), "also of a file that was open to all")
	}
	left, err := os.ReadDir(filepath.Dir(s.key))
	require.NoError(t, err)
	assert.Len(t, left, 4, "nothing half-written is left: %v", left)

	other := filepath.Join(filepath.Dir(s.key), "other")
	s.says(exitUsage, "found no terminal to ask for the password, expected a password. Set FERRULE_SIGN_PASSWORD", "keygen", other)
	s.says(exitUsage, "found --no-password and --password-file, expected one of the two", "keygen", "--no-password", "--password-file", s.script, other)
	s.says(exitUsage, "found --password-file ", "keygen", "--password-file", other, other)
	s.says(exitUsage, "no password in "+os.DevNull, "keygen", "--password-file", os.DevNull, other)
	s.says(exitUsage, "found an empty KEY", "keygen", "")
	s.says(exitFailed, "", "keygen", "--no-password", filepath.Join(other, "below"))
	assert.NoFileExists(t, other)
	assert.NoFileExists(t, other+".pub")
}

// A file that is signed verifies for what it is, and for nothing else.
func TestSign(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	platform := runtime.GOOS + "/" + runtime.GOARCH
	s.says(exitFailed, "echo 1.2.3: found no signature", "verify", "--key", s.public, s.lib)
	private, err := os.ReadFile(s.key)
	require.NoError(t, err)
	k, err := sign.ParsePrivateKey(private, "")
	require.NoError(t, err)
	s.says(exitOK, "echo 1.2.3 for "+platform+", signed by key "+k.ID(), "sign", "--key", s.key, s.lib)
	s.says(exitOK, "echo 1.2.3 for "+platform+", signed by key "+k.ID(), "verify", "--key", s.public, s.lib)
	s.says(exitOK, "signed by key", "verify", "--key", aKey, "--key", k.Public().String(), s.lib)
	signature, err := os.ReadFile(s.lib + signatureExt)
	require.NoError(t, err)
	assert.Contains(t, string(signature), "\ntrusted comment: ferrule echo 1.2.3 "+platform+"\n")

	stdout, stderr, code := ferrule(t, "", "verify", "--json", "--key", s.public, s.lib)
	require.Zero(t, code, stderr)
	var got signedFile
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	assert.Equal(t, signedFile{File: s.lib, Signature: s.lib + signatureExt, Name: "echo", Version: "1.2.3", Platform: platform, Key: k.ID()}, got)

	script := []string{"--name", "greet", "--version", "1.0", "--platform", "any", s.script}
	s.says(exitOK, "greet 1.0 for any, signed", append([]string{"sign", "--key", s.key}, script...)...)
	s.says(exitOK, "greet 1.0 for any, signed", append([]string{"verify", "--key", s.public}, script...)...)
	s.says(exitFailed, "a signature for greet 1.0 for any, expected one for greet 1.1 for any", "verify", "--key", s.public, "--name", "greet", "--version", "1.1", "--platform", "any", s.script)
	s.says(exitFailed, "by key "+k.ID()+", expected one by key E7620F1842B4E81F. If that is its author's key: ask its author for the public one, and give it by --key", "verify", "--key", aKey, s.lib)
	require.NoError(t, os.WriteFile(s.script+signatureExt, signature, 0o600))
	s.says(exitFailed, "other bytes than those", append([]string{"verify", "--key", s.public}, script...)...)
	s.says(exitFailed, "not signed: 1 of 2 files", "verify", "--key", s.public, "--name", "echo", "--version", "1.2.3", "--platform", platform, s.lib, s.script)
	require.NoError(t, os.WriteFile(s.script+signatureExt, nil, 0o600))
	s.says(exitFailed, "a signature that was cut off", append([]string{"verify", "--key", s.public}, script...)...)

	// The same plug-in with other bytes, and a version that the file does not say itself.
	fixture.Variant(t, "echo", s.lib, "version=1.2.3", "version=1.2.4")
	s.says(exitFailed, "other bytes than those", "verify", "--key", s.public, s.lib)
	s.says(exitUsage, "found --version 1.2.3, expected 1.2.4, as "+s.lib+" says itself", "verify", "--key", s.public, "--version", "1.2.3", s.lib)
	s.says(exitUsage, "found --name other, expected echo", "sign", "--key", s.key, "--name", "other", s.lib)
	s.says(exitUsage, "found --platform any, expected "+platform, "sign", "--key", s.key, "--platform", "any", s.lib)
	s.says(exitUsage, s.script+", which is no library of a plug-in, without --version", "sign", "--key", s.key, "--name", "greet", s.script)
	s.says(exitFailed, `the name "a b"`, "sign", "--key", s.key, "--name", "a b", "--version", "1", "--platform", "any", s.script)

	missing := filepath.Join(filepath.Dir(s.key), "missing")
	s.says(exitOpen, "ferrule: "+missing+": the file cannot be read: ", "sign", "--key", s.key, missing)
	s.says(exitOpen, "ferrule: "+missing+": the file cannot be read: ", "sign", "--key", s.key, missing, missing)
	s.says(exitUsage, "no regular file", "sign", "--key", s.key, filepath.Dir(s.key))
	s.says(exitUsage, "found --key "+missing+": ", "sign", "--key", missing, s.lib)
	side := filepath.Join(filepath.Dir(s.key), "side.py")
	require.NoError(t, os.WriteFile(side, []byte("#!/usr/bin/env python3\n"), 0o700))
	for _, verb := range [][]string{{"sign", "--key", s.key}, {"verify", "--key", s.public}} {
		s.says(exitUsage, "--name, --version and --platform. Where it is a sidecar, ferrule call --sidecar "+shellWord(side)+" says its name and version.", append(verb, side)...)
		s.says(exitUsage, "--name, --version and --platform. See ferrule inspect "+shellWord(s.script)+".", append(verb, s.script)...)
	}
	s.says(exitUsage, "--key: found a public key, expected a minisign private key", "sign", "--key", s.public, s.lib)
	s.says(exitUsage, "--key: found a private key, expected a minisign public key", "verify", "--key", s.key, s.lib)
	s.says(exitUsage, "found no --key", "sign", s.lib)
	s.says(exitUsage, "found no --key", "verify", s.lib)
}

// A key with a password, which comes from the environment, from a file or from a terminal; the program minisign reads it, and verifies what it has signed.
func TestPassword(t *testing.T) {
	t.Parallel()
	minisign := fixture.Tool(t, "minisign", "apt-get install minisign")
	s := newSigner(t)
	with := func(password, stdin string, args ...string) (string, int) {
		cmd := exec.Command(binary, args...)
		cmd.Env, cmd.Stdin = append(os.Environ(), passwordVariable+"="+password), strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			require.IsType(t, &exec.ExitError{}, err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	key := filepath.Join(filepath.Dir(s.key), "encrypted")
	out, code := with("opensesame", "", "keygen", key)
	require.Zero(t, code, out)
	assert.NotContains(t, out, "not encrypted")
	text, err := os.ReadFile(key)
	require.NoError(t, err)
	assert.True(t, sign.Encrypted(text))
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("opensesame\r\nmore\n"), 0o600))
	s.says(exitOK, "signed by key", "sign", "--key", key, "--password-file", file, s.lib)
	out, code = with("closesesame", "", "sign", "--key", key, s.lib)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, out, "found another password than the key's")
	s.says(exitUsage, "no terminal to ask for the password", "sign", "--key", key, s.lib)

	theirs := exec.Command(minisign, "-V", "-p", key+".pub", "-m", s.lib)
	shown, err := theirs.CombinedOutput()
	require.NoError(t, err, "%s", shown)
	assert.Contains(t, string(shown), "Trusted comment: ferrule echo 1.2.3 "+runtime.GOOS+"/"+runtime.GOARCH)
	theirs = exec.Command(minisign, "-S", "-s", s.key, "-m", s.lib, "-t", fmt.Sprintf("ferrule echo 1.2.3 %s/%s", runtime.GOOS, runtime.GOARCH))
	shown, err = theirs.CombinedOutput()
	require.NoError(t, err, "%s", shown)
	s.says(exitOK, "signed by key", "verify", "--key", s.public, s.lib)
}
