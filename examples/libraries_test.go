package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
)

var sealKey = strings.Repeat("0123456789abcdef", 4)

// TestSeal: what is sealed opens with its key alone, and only as it was.
func TestSeal(t *testing.T) {
	library := build(t, "seal")
	both(t, func(t *testing.T, opts ...loader.Option) {
		with := func(key string) *loader.Plugin {
			return open(t, library, append(opts, loader.WithConfig([]byte(key)))...)
		}
		ours, others := with(sealKey), with(strings.Repeat("f", 64))
		for _, n := range []int{0, 1, 1000, 1 << 20} {
			text := []byte(strings.Repeat("x", n))
			sealed, err := ours.Call(t.Context(), "seal", text)
			require.NoError(t, err)
			assert.Len(t, sealed, n+40, "a nonce and a code")
			again, err := ours.Call(t.Context(), "seal", text)
			require.NoError(t, err)
			assert.NotEqual(t, sealed, again, "each has a nonce of its own")
			got, err := ours.Call(t.Context(), "open", sealed)
			require.NoError(t, err)
			assert.Equal(t, string(text), string(got))
			_, err = others.Call(t.Context(), "open", sealed)
			assert.ErrorIs(t, err, loader.ErrInvalid)
			for _, at := range []int{0, 24, len(sealed) - 1} {
				sealed[at] ^= 1
				_, err = ours.Call(t.Context(), "open", sealed)
				assert.ErrorIs(t, err, loader.ErrInvalid, "changed at %d", at)
				sealed[at] ^= 1
			}
			_, err = ours.Call(t.Context(), "open", sealed[:39])
			assert.ErrorIs(t, err, loader.ErrInvalid)
		}
		_, err := loader.Open(library, append(opts, loader.WithConfig([]byte("no key")))...)
		assert.ErrorContains(t, err, "64 hexadecimal digits")
	})
}

// TestXML: an expression finds what is there, a faulty document is told as such, and no document reads a file.
func TestXML(t *testing.T) {
	library := build(t, "xml")
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("the secret"), 0o600))
	both(t, func(t *testing.T, opts ...loader.Option) {
		for _, c := range []struct{ expression, document, want, message string }{
			{"//title", `<l><b><title>Ada &amp; co</title></b><b><title>Grace</title></b></l>`, "Ada & co\nGrace\n", ""},
			{"count(//b)", `<l><b/><b/></l>`, "2\n", ""},
			{"//nothing", `<l/>`, "", ""},
			{"//a", `<a>`, "", "line 1: "},
			{"//a", "", "", "no document"},
			{"//a", `<!DOCTYPE a [<!ENTITY e SYSTEM "file://` + secret + `">]><a>-&e;-</a>`, "--\n", ""},
		} {
			p := open(t, library, append(opts, loader.WithConfig([]byte(c.expression)))...)
			got, err := p.Call(t.Context(), "find", []byte(c.document))
			if c.message != "" {
				assert.ErrorIs(t, err, loader.ErrInvalid)
				assert.ErrorContains(t, err, c.message)
				continue
			}
			require.NoError(t, err, c.document)
			assert.Equal(t, c.want, string(got), c.document)
		}
		_, err := loader.Open(library, append(opts, loader.WithConfig([]byte("//[")))...)
		assert.ErrorContains(t, err, "no XPath expression")
	})
}

// TestCheckOfLibraries: what check finds at plug-ins over large libraries of others is true, and listed here.
func TestCheckOfLibraries(t *testing.T) {
	command := program(t, "ferrule", "./cmd/ferrule")
	for _, c := range []struct {
		name     string
		args     []string
		warnings string
	}{
		{"seal", []string{"--config", sealKey}, "0 warnings"},
		{"xml", []string{"--config", "//title", "--in", "find=<a><title>Ada</title></a>"}, "0 warnings"},
		// Messages of exec and query quote the statement, whatever its bytes are; a configuration is the path of a database, as it says.
		{"sql", nil, "3 warnings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := exec.Command(command, append([]string{"check", build(t, c.name)}, c.args...)...).CombinedOutput()
			assert.NoError(t, err, "%s", out)
			assert.Contains(t, string(out), "; 0 errors, "+c.warnings+" ", "%s", out)
		})
	}
}
