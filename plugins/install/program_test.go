package install_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// script publishes a script, signed, that says this of itself, and returns its release. Nothing of it runs.
func (p *place) script(about *abi.Description) *registry.Release {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), "x")
	require.NoError(p.t, os.WriteFile(path, []byte("#!/bin/false\n# "+about.Manifest.Name+" "+about.Manifest.Version+"\n"), 0o755))
	r, contents, err := install.ReleaseOfPrograms(about, path)
	require.NoError(p.t, err)
	c := contents[registry.AnyPlatform]
	c.Signature = p.sign(p.key, sign.Subject{Name: r.Name, Version: r.Version, Platform: registry.AnyPlatform}, path)
	p.push(r, map[string]registry.Content{registry.AnyPlatform: c})
	return r
}

func saying(name, version, description string, pairs ...string) *abi.Description {
	m := &abi.Manifest{Name: name, Version: version, Description: description}
	for i := 0; i < len(pairs); i += 2 {
		m.Keys = append(m.Keys, abi.KeyValue{Key: pairs[i], Value: pairs[i+1]})
	}
	return &abi.Description{Manifest: m, Imports: []abi.Symbol{{Name: "points"}}}
}

// What a script says is in no byte of its file: the lock keeps it. So a mirror and a bundle have the whole description, and who installs from the lock holds it to the same as who installs anew.
func TestProgramCopied(t *testing.T) {
	p := newPlace(t)
	p.publish(library{tag: "bbbb", version: "1.0.0"})
	all := p.script(saying("stamps", "1.0.0", "Stamps: \"all\" of them\nand more", "license", "MIT", "provides", "stamps.print\nstamps.sell", "host.shop", ">=1.1", "host.other", "^3",
		"requires", "dist_bbbb ^1", "conflicts", "dist_cccc ^1", "permit.connect", "443"))
	in := p.installer(func(o *install.Options) { o.Granted = func(string, string, install.Ask) bool { return true } })
	p.ensure(in, "stamps")
	e := p.plugins()["stamps"]
	assert.Equal(t, []string{"conflicts dist_cccc ^1", "host other ^3", "host shop >=1.1", "license MIT", "provides stamps.print", "provides stamps.sell", "requires dist_bbbb ^1",
		`summary Stamps: "all" of them`}, e.Says)
	assert.Equal(t, []string{"connect 443", "function points"}, e.Grants)
	bundle, err := files.NewBundle(filepath.Join(t.TempDir(), "bundle.zip"))
	require.NoError(t, err)
	mirror := folder(t, filepath.Join(t.TempDir(), "mirror"))
	for _, to := range []interface {
		registry.Source
		registry.Pusher
	}{bundle, mirror} {
		require.NoError(t, in.Copy(t.Context(), to, nil, nil))
		copied, err := to.Release(t.Context(), "stamps", "1.0.0")
		require.NoError(t, err)
		copied.Tag, copied.Digest, copied.Files = "", "", nil
		want := *all
		assert.Equal(t, &want, copied)
		require.NoError(t, in.Copy(t.Context(), to, nil, nil), "it is the same")
	}

	// From the lock alone, and from the bundle alone, an application of another version is told the same.
	other := func(o *install.Options) {
		o.Version, o.Granted = "1.0.0", func(string, string, install.Ask) bool { return true }
	}
	r, err := p.installer(other).Ensure(t.Context(), wants("stamps"))
	require.NoError(t, err)
	assert.ErrorIs(t, r.Failed["stamps"], registry.ErrHost)
	p.source.Source, p.lock = bundle, filepath.Join(t.TempDir(), "ferrule.lock")
	p.refused(p.installer(other), registry.ErrHost, "stamps")
	p.ensure(p.installer(func(o *install.Options) { o.Granted = func(string, string, install.Ask) bool { return true } }), "stamps")
	assert.Equal(t, e.Says, p.plugins()["stamps"].Says)
}

// What a locked script requires stays a range: another version of what it needs comes without it, and one that is out of its range does not.
func TestProgramRequires(t *testing.T) {
	p := newPlace(t)
	p.publish(library{tag: "bbbb", version: "1.0.0"})
	p.script(saying("stamps", "1.0.0", "", "requires", "dist_bbbb ^1"))
	granted := func(o *install.Options) { o.Granted = func(string, string, install.Ask) bool { return true } }
	p.ensure(p.installer(granted), "stamps")
	p.publish(library{tag: "bbbb", version: "1.1.0"}, library{tag: "bbbb", version: "2.0.0"})
	_, _, err := p.installer(granted).Update(t.Context(), wants("stamps"), install.UpdateOptions{Names: []string{"dist_bbbb"}})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"stamps": "1.0.0", "dist_bbbb": "1.1.0"}, p.locked())
	p.ensure(p.installer(granted), "stamps")
	assert.Equal(t, map[string]string{"dist_bbbb": "1.1.0"}, p.plugins()["stamps"].Requires)
	l, err := lock.Load(p.lock)
	require.NoError(t, err)
	assert.Equal(t, string(l.Text()), p.text())
}

// A summary that no lock can have is left out of it, and the plug-in is installed; a requirement that none can have is an error that says so.
func TestProgramUnsayable(t *testing.T) {
	p := newPlace(t)
	granted := func(o *install.Options) { o.Granted = func(string, string, install.Ask) bool { return true } }
	p.script(saying("stamps", "1.0.0", "a\tb", "license", "MIT"))
	p.ensure(p.installer(granted), "stamps")
	assert.Equal(t, []string{"license MIT"}, p.plugins()["stamps"].Says)
	p.script(saying("labels", "1.0.0", "", "provides", "a\u200bb"))
	p.refused(p.installer(granted), registry.ErrMalformed, "labels")
}

// What is asked what it is are the bytes that were verified: of a file that has others by then nothing runs.
func TestAskProgram(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows starts no scripts by their first line")
	}
	path, ran := filepath.Join(t.TempDir(), "x"), filepath.Join(t.TempDir(), "ran")
	const about = `{"name": "stamps", "version": "1.0.0"}`
	write := func(more string) (digest string) {
		text := fmt.Sprintf("#!/bin/sh\necho ran > '%s'\nprintf 'HELLO 1\\nContent-Length: %d\\n\\n%%s' '%s'\ncat > /dev/null\n%s", ran, len(about), about, more)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
		sum := sha256.Sum256([]byte(text))
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	verified := write("")
	for _, digest := range []string{verified, ""} {
		said, err := install.AskProgram(t.Context(), path, digest)
		require.NoError(t, err)
		assert.Equal(t, "stamps", said.Manifest.Name)
		require.NoError(t, os.Remove(ran))
	}
	write("# exchanged\n")
	for digest, found := range map[string]string{verified: "another file than the one that was verified", "sha256:12": `the digest "sha256:12"`} {
		_, err := install.AskProgram(t.Context(), path, digest)
		var refused *registry.Error
		require.ErrorAs(t, err, &refused)
		assert.ErrorIs(t, err, registry.ErrDigest)
		assert.Equal(t, found, refused.Found)
		assert.NoFileExists(t, ran)
	}
}
