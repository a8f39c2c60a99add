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

// TestBasket: in both languages JSON is read and written alike, and what is none, or not what was expected, is said to be.
func TestBasket(t *testing.T) {
	type item struct {
		Name  string `json:"name"`
		Cents any    `json:"cents"`
		Count any    `json:"count"`
	}
	type basket struct {
		Items []item `json:"items"`
	}
	type total struct {
		Cents int64
		Most  string
	}
	for _, name := range []string{"basket-c", "basket-cpp"} {
		t.Run(name, func(t *testing.T) {
			library := build(t, name)
			both(t, func(t *testing.T, opts ...loader.Option) {
				with := func(config string) *loader.Plugin {
					return open(t, library, append(opts, loader.WithConfig([]byte(config)))...)
				}
				plain, reduced := with(""), with(`{"percent": 10}`)
				two := basket{[]item{{"tea", 350, 2}, {"a \"cup\" \u2615", 1009, 1}}}
				got, err := loader.CallJSON[basket, total](t.Context(), plain, "total", two)
				require.NoError(t, err)
				assert.Equal(t, total{1709, "a \"cup\" \u2615"}, got)
				got, err = loader.CallJSON[basket, total](t.Context(), reduced, "total", two)
				require.NoError(t, err)
				assert.Equal(t, total{1539, "a \"cup\" \u2615"}, got, "170 less")
				got, err = loader.CallJSON[basket, total](t.Context(), plain, "total", basket{[]item{}})
				require.NoError(t, err)
				assert.Equal(t, total{}, got)
				many := basket{make([]item, 100_000)}
				for i := range many.Items {
					many.Items[i] = item{strings.Repeat("x", 100), 1, 3}
				}
				got, err = loader.CallJSON[basket, total](t.Context(), plain, "total", many)
				require.NoError(t, err)
				assert.EqualValues(t, 300_000, got.Cents)

				for _, wrong := range []item{{"x", -1, 1}, {"x", 1.5, 1}, {"x", true, 1}, {"x", "1", 1}, {"x", 1, nil}, {"x", 100_000_001, 1}, {"x", 1, int64(1 << 62)}} {
					_, err = loader.CallJSON[basket, total](t.Context(), plain, "total", basket{[]item{{"well", 1, 1}, wrong}})
					assert.ErrorIs(t, err, loader.ErrInvalid, "%+v", wrong)
					assert.ErrorContains(t, err, "in item 1")
				}
				for range 100 { // 1e14 each
					many.Items = append(many.Items, item{"x", 100_000_000, 1_000_000})
				}
				_, err = loader.CallJSON[basket, total](t.Context(), plain, "total", many)
				assert.ErrorContains(t, err, "more than can be told")
				for in, want := range map[string]string{"": "expected JSON", "{": "expected JSON", "[]": `an array "items"`, "7": `an array "items"`,
					`{"items": {}}`: `an array "items"`, `{"items": [7]}`: "in item 0", "\"caf\xe9\"": "expected JSON", "{} {}": "expected JSON", `{"items": [], "more": 1e400}`: "expected JSON"} {
					_, err := plain.Call(t.Context(), "total", []byte(in))
					assert.ErrorIs(t, err, loader.ErrInvalid, in)
					assert.ErrorContains(t, err, want, in)
				}
				for _, config := range []string{"{", "[]", `{"percent": 101}`, `{"percent": -1}`, `{"percent": "10"}`} {
					_, err := loader.Open(library, append(opts, loader.WithConfig([]byte(config)))...)
					assert.ErrorContains(t, err, "expected", config)
					assert.ErrorIs(t, err, loader.ErrInvalid, config)
				}
			})
		})
	}
}

// TestCheckOfLibraries: what check finds at plug-ins over large libraries of others is true, and listed here.
func TestCheckOfLibraries(t *testing.T) {
	command := program(t, "ferrule", "./cmd/ferrule")
	const tea = `{"items": [{"name": "tea", "cents": 350, "count": 2}]}`
	for _, c := range []struct {
		name     string
		args     []string
		warnings string
	}{
		{"seal", []string{"--config", sealKey}, "0 warnings"},
		{"xml", []string{"--config", "//title", "--in", "find=<a><title>Ada</title></a>"}, "0 warnings"},
		{"basket-c", []string{"--in", "total=" + tea}, "0 warnings"},
		{"basket-cpp", []string{"--in", "total=" + tea}, "0 warnings"},
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
