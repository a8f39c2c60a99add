//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A release that cannot come to its end is refused before anything is made, with what to do; one that can has read its key, and keeps the password to itself.
func TestReady(t *testing.T) {
	public, private, err := minisign.GenerateKey(nil)
	require.NoError(t, err)
	_, another, err := minisign.GenerateKey(nil)
	require.NoError(t, err)
	keys := t.TempDir()
	write := func(name string, text []byte, err error) {
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(keys, name), text, 0o600))
	}
	text, err := minisign.EncryptKey("secret", private)
	write("key", text, err)
	text, err = private.MarshalText()
	write("open", text, err)
	text, err = another.MarshalText()
	write("another", text, err)
	text, err = public.MarshalText()
	write("public", text, err)
	write("empty", nil, nil)

	r := newRepository(t, map[string]string{
		"go.mod":           "module " + library + "\n\ngo 1.26.0\n",
		"go.work":          "go 1.26.0\n\nuse (\n\t.\n\t./a\n)\n\nreplace " + library + " v0.2.0 => ./\n",
		"a/go.mod":         "module " + library + "/a\n\ngo 1.26.0\n\nrequire " + library + " v0.2.0\n",
		"docs/releases.md": "# Releases\n\nThe key is `" + public.String() + "`.\n",
		"CHANGELOG.md":     "# Changelog\n\n## [0.2.0]\n\n## [0.1.0]\n",
	})
	of := func(version, key string, only ...string) *rehearsal {
		out := filepath.Join(t.TempDir(), "out")
		if only == nil {
			only = platforms
		}
		if key != "" && !strings.HasPrefix(key, "/") {
			key = filepath.Join(keys, key)
		}
		return &rehearsal{root: r.dir, out: out, version: version, key: key, platforms: only, log: t.Output()}
	}
	for name, c := range map[string]struct {
		of       *rehearsal
		password string
		want     string
		files    map[string]string
	}{
		"a release without a key":         {of: of("v0.2.0", ""), want: "found no KEY for v0.2.0"},
		"a key that is not there":         {of: of("v0.2.0", "gone"), want: "gone: no such file"},
		"nothing in the place of a key":   {of: of("v0.2.0", "empty"), want: "expected the private half"},
		"a key's public half":             {of: of("v0.2.0", "public"), want: "expected the private half"},
		"another password":                {of: of("v0.2.0", "key"), password: "other", want: "expected its password in FERRULE_SIGN_PASSWORD"},
		"another password, and rehearsed": {of: of("", "key"), want: "expected its password in FERRULE_SIGN_PASSWORD"},
		"a key that nobody knows":         {of: of("v0.2.0", "another"), want: "which docs/releases.md does not name"},
		"some platforms":                  {of: of("v0.2.0", "open", "linux/amd64"), want: "found the platforms linux/amd64 alone"},
		"a platform that is none":         {of: of("", "", "plan9/amd64"), want: "found the platform plan9/amd64"},
		"another version":                 {of: of("v0.3.0", "open"), want: "found the version v0.3.0, and go.work replaces v0.2.0"},
		"nothing of what is new":          {of: of("v0.2.0", "open"), files: map[string]string{"CHANGELOG.md": "# Changelog\n\n## [0.1.0]\n"}, want: "found no section ## [0.2.0] in CHANGELOG.md"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("FERRULE_SIGN_PASSWORD", c.password)
			if c.files != nil {
				r.write(c.files)
				defer r.git("stash", "--quiet")
			}
			assert.ErrorContains(t, c.of.run(t.Context()), c.want)
			assert.NoDirExists(t, c.of.out, "something was made")
		})
	}
	t.Run("without a compiler", func(t *testing.T) {
		t.Setenv("PATH", "/nowhere")
		without := of("", "")
		err := without.run(t.Context())
		for _, want := range []string{"found no git, expected it in PATH: apt-get install git", "found no cc", "found no clang", "found no cargo", "found no rustc"} {
			assert.ErrorContains(t, err, want)
		}
		assert.NoDirExists(t, without.out)
	})

	// What can be published, as far as this machine has the programs for it. Its tags may be there already.
	t.Setenv("FERRULE_SIGN_PASSWORD", "secret\n")
	r.git("tag", "v0.2.0")
	good := of("v0.2.0", "key")
	missing := good.programs()
	assert.Equal(t, missing, good.ready())
	assert.True(t, private.Equal(good.private))
	assert.Empty(t, os.Getenv("FERRULE_SIGN_PASSWORD"), "what is built and run has no use for it")
	var said bytes.Buffer
	good.work, good.log = t.TempDir(), &said
	require.NoError(t, os.Mkdir(good.out, 0o777))
	_, _, err = good.tag()
	require.NoError(t, err)
	tags, err := os.ReadFile(filepath.Join(good.out, "TAGS"))
	require.NoError(t, err)
	assert.Equal(t, "v0.2.0\na/v0.2.0\n", string(tags))

	// A tag of another commit is none of this one.
	r.write(map[string]string{"more": "nothing\n"})
	r.commit()
	assert.ErrorContains(t, of("v0.2.0", "open").run(t.Context()), "found the tag v0.2.0 at the commit ")
	assert.Equal(t, missing, of("v0.2.0-rehearsal", "").ready(), "that is no fault of a rehearsal")
}

// The last line says what was made, where, and what comes next; of a rehearsal that nothing of it is to be published.
func TestEnd(t *testing.T) {
	root := t.TempDir()
	dist := filepath.Join(root, "build", "release", "dist")
	require.NoError(t, os.MkdirAll(dist, 0o777))
	for _, name := range []string{"SHA256SUMS", "SHA256SUMS.minisig", "ferrule.pub"} {
		require.NoError(t, os.WriteFile(filepath.Join(dist, name), nil, 0o666))
	}
	end := func(version string) string {
		var said bytes.Buffer
		r := &rehearsal{root: root, out: filepath.Join(root, "build", "release"), version: version, released: "v0.2.0", commit: "0123456789abcdef", tags: []string{version, "a/" + version}, log: &said}
		require.NoError(t, r.end(dist))
		return said.String()
	}
	assert.Equal(t, "release: made v0.2.0 of the commit 0123456789ab in build/release. Next: tag this commit as build/release/TAGS has it, and push the 2 tags in this order, from v0.2.0 to a/v0.2.0; "+
		"then upload the 3 files of build/release/dist: make attach VERSION=v0.2.0\n", end("v0.2.0"))
	assert.Equal(t, "release: rehearsed v0.2.0-rehearsal of the commit 0123456789ab in build/release: 3 files in dist, 2 tags in TAGS. Nothing of it is to be published. "+
		"Next: CONTRIBUTING.md, under A release, has how to publish v0.2.0\n", end("v0.2.0-rehearsal"))
}
