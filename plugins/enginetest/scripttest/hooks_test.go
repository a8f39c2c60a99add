package scripttest

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/enginetest/internal/site"
)

// Scripts stand at extension points beside libraries and Go functions, in the order that config.yaml says, each with its settings; their wrappers go on by next.
func TestBeside(t *testing.T) {
	s := site.New(t)
	fixture.Variant(t, "system", filepath.Join(s.Folder, "a"+fixture.Ext()), "aaaa", "nati")
	s.Put("j.js", `// ferrule: name=java version=1.0.0 hook=piped
// ferrule: hook=wrapped wrap=yes
// ferrule: hook=vetoed
// ferrule: hook=told
// ferrule: fn=heard
import { next, Failure, settings } from "ferrule";
let last = "";
export const piped = (text) => text + "+" + settings.json.is;
export const wrapped = (text) => "java(" + next(text) + ")";
export function vetoed(text) { if (text === "bad") throw new Failure(1000, "no " + text); }
export const told = (text) => { last = text; };
export const heard = () => last;
`)
	s.Put("p.py", `# ferrule: name=pyth version=1.0.0 hook=piped
# ferrule: hook=wrapped wrap=yes
# ferrule: hook=told
# ferrule: fn=heard
import ferrule
last = ""
def piped(text): return text + "+" + ferrule.settings.json["is"]
def wrapped(text): return "pyth(" + ferrule.next(text) + ")"
def told(text):
    global last
    last = text
def heard(_): return last
`)
	s.Configure(`
plugins:
  - plugin_nati
  - {name: java, config: {is: java}}
  - {name: pyth, config: {is: pyth}}
hooks:
  piped: [pyth, plugin_nati, plugin_gogo, java]
  wrapped: [java, plugin_nati, pyth]
`)
	double := &builtin.Plugin{Name: "plugin_gogo", Version: "1.0.0", Hooks: []builtin.Function{{Name: "piped",
		Call: func(_ context.Context, in []byte) ([]byte, error) { return append(bytes.Clone(in), "+gogo"...), nil }}}}
	sys := s.System(both(t), plugins.Builtin(double))
	piped := plugins.Pipe[[]byte](sys, "piped", plugins.Codec(site.Raw{}))
	wrapped := plugins.Wrap[[]byte, []byte](sys, "wrapped", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }, plugins.Codec(site.Raw{}))
	vetoed := plugins.Veto[[]byte](sys, "vetoed", plugins.Codec(site.Raw{}))
	told := plugins.Notify[[]byte](sys, "told", plugins.Codec(site.Raw{}), plugins.Parallel())
	require.NoError(t, sys.Start(t.Context()))
	pipe := func() string {
		out, err := piped.Call(t.Context(), []byte("x"))
		require.NoError(t, err)
		return string(out)
	}
	wrap := func() string {
		out, err := wrapped.Call(t.Context(), []byte("x"))
		require.NoError(t, err)
		return string(out)
	}
	assert.Equal(t, "x+pyth+nati+gogo+java", pipe())
	assert.Equal(t, "java(nati(pyth(x)))", wrap())
	require.NoError(t, vetoed.Call(t.Context(), []byte("good")))
	assert.ErrorContains(t, vetoed.Call(t.Context(), []byte("bad")), "no bad")
	require.NoError(t, told.Call(t.Context(), []byte("news")))
	assert.Equal(t, "news", site.Call(t, sys, "java", "heard", ""))
	assert.Equal(t, "news", site.Call(t, sys, "pyth", "heard", ""))

	s.Configure(`
plugins:
  - plugin_nati
  - {name: java, config: {is: JAVA}}
hooks:
  piped: [java, plugin_gogo, plugin_nati]
  wrapped: [plugin_nati, java]
`)
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "x+JAVA+gogo+nati", pipe())
	assert.Equal(t, "nati(java(x))", wrap())
}

// A script has what it was granted and nothing else: who imports more is refused by name, before anything of it runs, and who only wants it sees that it is not there.
func TestGrants(t *testing.T) {
	for language, text := range map[string][2]string{
		"js": {"// ferrule: name=buyer version=1.0.0 import=points import=secret fn=buys\nimport { host } from 'ferrule';\nthrow new Error('it has run');\nexport const buys = () => 1;\n",
			"// ferrule: name=asker version=1.0.0 import=points want=secret fn=buys\n// ferrule: fn=knows\nimport { host, info } from 'ferrule';\nexport const buys = (who) => host.points(who);\nexport const knows = () => [info('offers.points'), info('offers.secret')].join(' ') + attempt();\n" +
				"function attempt() { try { host.secret('x'); return ' called'; } catch (e) { return ' refused'; } }\n"},
		"py": {"# ferrule: name=buyer version=1.0.0 import=points import=secret fn=buys\nraise Exception('it has run')\ndef buys(_): return 1\n",
			"# ferrule: name=asker version=1.0.0 import=points want=secret fn=buys\n# ferrule: fn=knows\nimport ferrule\ndef buys(who): return ferrule.host.points(who)\ndef knows(_):\n    try:\n        ferrule.host.secret('x')\n        said = ' called'\n    except ferrule.Failure:\n        said = ' refused'\n" +
				"    return ferrule.info('offers.points') + ' ' + ferrule.info('offers.secret') + said\n"},
	} {
		t.Run(language, func(t *testing.T) {
			s := site.New(t)
			s.Put("buyer."+language, text[0])
			s.Put("asker."+language, text[1])
			start := func(config string) *plugins.System {
				s.Configure(config)
				sys := s.System(both(t))
				plugins.Offer(sys, "points", func(ctx context.Context, in []byte) ([]byte, error) {
					by, _ := plugins.Caller(ctx)
					return []byte("points of " + string(in) + " for " + by), nil
				})
				plugins.Offer(sys, "secret", func(context.Context, []byte) ([]byte, error) { return nil, nil })
				require.NoError(t, sys.Start(t.Context()))
				return sys
			}
			sys := start("plugins: [{name: buyer, grant: [points]}, {name: asker, grant: [points]}]")
			e := site.Why(t, sys, "buyer", plugins.ErrGrant)
			assert.ErrorContains(t, e, "secret")
			assert.NotContains(t, e.Found, "points")
			assert.Contains(t, e.Remedy, "grant: [points, secret]")
			assert.NotContains(t, e.Error(), "it has run")
			assert.Equal(t, "points of me for asker", site.Call(t, sys, "asker", "buys", "me"))
			assert.Equal(t, "yes no refused", site.Call(t, sys, "asker", "knows", ""))
			p, _ := sys.Plugin("asker")
			assert.Equal(t, []string{"points"}, p.Grants)

			sys = start("plugins: [{name: buyer, grant: [points, secret]}, {name: asker, grant: [points, secret]}]")
			assert.Equal(t, "yes yes called", site.Call(t, sys, "asker", "knows", ""))
			_, err := sys.Func("buyer", "buys")
			require.NoError(t, err)
			assert.True(t, strings.Contains(site.Call(t, sys, "buyer", "buys", ""), "it has run"), "with all that it asks for it runs")

			s.Put("buyer."+language, strings.ReplaceAll(text[0], "import=secret", "import=nowhere"))
			assert.ErrorContains(t, site.Why(t, start("plugins: [{name: buyer, grant: [points]}]"), "buyer", plugins.ErrImport), "nowhere")
		})
	}
}

// A service of one script is called by another one, in the other language, whichever version of it runs.
func TestServices(t *testing.T) {
	s := site.New(t)
	s.Put("tax.py", "# ferrule: name=tax version=1.0.0 provides=rate fn=rate\ndef rate(country): return country + ' 19'\n")
	s.Put("shop.js", "// ferrule: name=shop version=1.0.0 requires=\"tax ^1\" import=rate fn=price\nimport { host } from 'ferrule';\nexport const price = (where) => host.rate(where);\n")
	s.Configure("plugins: [tax, {name: shop, grant: [rate]}]")
	sys := s.Start(both(t))
	assert.Equal(t, "DE 19", site.Call(t, sys, "shop", "price", "DE"))
	s.Put("tax.py", "# ferrule: name=tax version=1.1.0 provides=rate fn=rate\ndef rate(country): return country + ' 20'\n")
	require.NoError(t, sys.Reload(t.Context()))
	assert.Equal(t, "DE 20", site.Call(t, sys, "shop", "price", "DE"))
}
