package check_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// checkScript checks a script, with all cases or those.
func checkScript(t *testing.T, ext, text, only string) *check.Verdict {
	t.Helper()
	o := options(t)
	if ext == ".py" {
		o.Adapter = fixture.PythonAdapter(t)
	}
	if only != "" {
		o.Only = strings.Split(only, ",")
	}
	path := filepath.Join(t.TempDir(), "script"+ext)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	v, err := check.Run(t.Context(), path, o)
	require.NoError(t, err)
	return v
}

// TestScriptFindings: the one defect of a script is found, and nothing else, in both languages where it can be in both.
func TestScriptFindings(t *testing.T) {
	for name, c := range map[string]struct {
		header, js, py   string // what is behind ferrule: is the same in both
		want, seen, only string
	}{
		"a broken header": {"name=s version=1 fn=a-b", "export {}", "", "manifest error R1", "a-b", ""},
		"no function":     {"name=s version=1", "export {}", "", "symbols warning R2", "no fn= and no hook=", ""},
		"an unknown type": {"name=s version=1 fn=f in=jsn", "export const f = (x) => x", "def f(x): return x", "words warning R32", `in="jsn"`, ""},
		"a missing function": {"name=s version=1 fn=f fn=g", "export const f = (x) => x", "def f(x): return x", "open error R2",
			"the header names g", ""},
		"a name that is no function": {"name=s version=1 fn=f", "export const f = 7", "f = 7", "open error R2", "the header names f", ""},
		"a top level that fails":     {"name=s version=1 fn=f", "throw new Error('no way')", "raise ValueError('no way')", "open error R15", "no way", ""},
		"a syntax error":             {"name=s version=1 fn=f", "export const f = ", "def f(:", "open error R15", "SyntaxError", ""},
		"what kills its process":     {"name=s version=1 fn=f", "", "import os\ndef f(x): os._exit(3)", "input-empty error R12", "exit code 3", "input-empty"},
		"what crashes":               {"name=s version=1 fn=f", "", "import ctypes\ndef f(x): ctypes.string_at(0)", "input-empty error R12", "segmentation fault", "input-empty"},
		"what cannot be cancelled": {"name=s version=1 fn=f", "", "import time\ndef f(x): time.sleep(1000)",
			"input-empty error R17", "cancelled", "input-empty"},
		"what takes no notice of being cancelled": {"name=s version=1 fn=f", "", "import time\ndef f(x):\n if len(x) > 1000: time.sleep(1000)\n return x",
			"cancel-middle error R17", "it was ended 3s after it was cancelled", "cancel-middle"},
		"what is cancelled at its beginning alone": {"name=s version=1 fn=f", "", "import time\ndef f(x):\n end = time.monotonic() + 0.05\n while time.monotonic() < end: pass\n if len(x) > 1000: time.sleep(1000)\n return x",
			"cancel-middle error R17", "it was ended 3s after it was cancelled", "cancel-middle"},
		"an error that nobody caught": {"name=s version=1 fn=f in=json", "export const f = (x) => x.name.first ?? ''", "def f(x): return x['name']",
			"status warning R10", "nobody caught", "status"},
		"a function that always fails": {"name=s version=1 fn=f", "export function f() { throw new Error('no') }", "def f(x): raise ValueError('no')",
			"status warning R10", "failed with every input", "status"},
		"a message with a newline": {"name=s version=1 fn=f", "import { Failure } from 'ferrule';\nexport function f() { throw new Failure(1234, 'no way\\n') }",
			"import ferrule\ndef f(x): raise ferrule.Failure(1234, 'no way\\n')", "message warning R11", `"no way\n"`, "message"},
		"a leak": {"name=s version=1 fn=f", "const kept = [];\nexport function f(x) { kept.push('x'.repeat(500) + kept.length) }",
			"kept = []\ndef f(x): kept.append('x' * 500 + str(len(kept)))", "leaks error R9", "more", "leaks"},
		"settings that are refused and stay": {"name=s version=1 services=configure fn=f",
			"import { settings } from 'ferrule';\nlet word = '';\nexport const f = () => word;\nexport function configure() { word = settings.text; if (word) throw new Error('no') }",
			"from ferrule import settings\nword = ''\ndef f(): return word\ndef configure():\n global word\n word = str(settings.bytes)\n if settings.bytes: raise ValueError('no')\n word = ''",
			"configure error R28", "gives something else after", "configure"},
		"settings that are taken once": {"name=s version=1 services=configure fn=f",
			"let n = 0;\nexport const f = (x) => x;\nexport function configure() { if (n++) throw new Error('no') }",
			"n = 0\ndef f(x): return x\ndef configure():\n global n\n n += 1\n if n > 1: raise ValueError('no')", "configure error R28", "after no settings", "configure"},
		"a state that is lost": {"name=s version=1 state=s1 services=save,resume fn=f",
			"let n = 0;\nexport const f = () => String(++n);\nexport const save = () => String(n);\nexport function resume() {}",
			"n = 0\ndef f():\n global n\n n += 1\n return str(n)\ndef save(): return str(n)\ndef resume(state): pass", "handover error R29", "saves \"0\"", "handover"},
		"a state that is refused": {"name=s version=1 state=s1 services=save,resume fn=f",
			"export const f = (x) => x;\nexport const save = () => 's';\nexport function resume() { throw new Error('no') }",
			"def f(x): return x\ndef save(): return 's'\ndef resume(state): raise ValueError('no')", "handover error R29", "handing over", "handover"},
	} {
		for ext, body := range map[string]string{".js": c.js, ".py": c.py} {
			if body == "" {
				continue
			}
			t.Run(name+ext, func(t *testing.T) {
				t.Parallel()
				comment := map[string]string{".js": "//", ".py": "#"}[ext]
				v := checkScript(t, ext, comment+" ferrule: "+c.header+"\n"+body+"\n", c.only)
				assert.Equal(t, []string{c.want}, findings(v), "%+v", v.Results)
				for _, r := range v.Results {
					for _, f := range r.Findings {
						assert.Contains(t, f.Seen, c.seen)
						assert.NotEmpty(t, f.Expected)
						assert.NotEmpty(t, f.Mend)
					}
				}
			})
		}
	}
}

// What package plugins refuses of a manifest is found before that.
func TestSenselessWords(t *testing.T) {
	for words, want := range map[string]string{"permit.connect=https": `permit.connect="https"`, "permit.connect=0": `permit.connect="0"`, "permit.listen=65536": `permit.listen="65536"`, "permit.read=etc/hosts": `permit.read="etc/hosts"`,
		"requires='b ^^2'": `requires="b ^^2"`, "conflicts=^2": `conflicts="^2"`, "host.shop=three": `host.shop="three"`, "provides=nosuch": `provides="nosuch", and no such function`,
		"permit.connect=443 permit.listen=0 permit.read=/etc/hosts permit.write='C:\\a' requires=b requires='c ^1.2' requires='d>=1, <3' conflicts='e *' host.shop=~1.2 provides=f": ""} {
		v := checkScript(t, ".js", "// ferrule: name=s version=1 "+words+" fn=f\nexport const f = (x) => x;\n", "words")
		if want == "" {
			assert.Empty(t, told(v), "%+v", v.Results)
			continue
		}
		assert.Equal(t, []string{"words warning R32"}, findings(v), "%s: %+v", words, v.Results)
		assert.Contains(t, v.Results[0].Findings[0].Seen, "the manifest: "+want)
	}
	for version, sound := range map[string]bool{"one": false, "2024-01": false, "1.2.3.4": false, "v1": true, "1.2": true, "1.2.3-rc.1+linux": true} {
		v := checkScript(t, ".js", "// ferrule: name=s version="+version+" fn=f\nexport const f = (x) => x;\n", "words")
		assert.Equal(t, sound, len(findings(v)) == 0, "%s: %+v", version, v.Results)
	}
}

// soundScripts have one of each, and look at what they get.
var soundScripts = map[string]string{
	".js": `// ferrule: name=sound version=1.0.0 state=n services=configure,save,resume,stop
// ferrule: fn=first in=json out=json fn=echo in=bytes fn=counts fn=asks import=upper want=absent fn=copies stream=both fn=spins hook=point fn=rate
// ferrule: hook=around wrap=yes
import { host, input, output, next, settings, progress, Failure } from "ferrule";
let n = 0, rate = "";
export function first(list) {
	if (!Array.isArray(list)) throw new Failure("INVALID", "expected an array");
	return list[0] ?? null;
}
export const echo = (bytes) => bytes;
export const counts = () => String(++n % 3);
export const asks = (text) => host.upper(text);
export function copies() { for (const piece of input) { output.write(piece); progress(1); } }
export function spins(text) { if (text === "a") for (;;); return ""; }
export const point = (x) => x;
export const around = (x) => next(x);
export const rate_ = () => rate;
export { rate_ as rate };
export function configure() {
	const next = settings.text;
	if (next.length > 100) throw new Failure("INVALID", "too long");
	rate = next;
}
export const save = () => String(n);
export const resume = (state) => {
	const text = new TextDecoder().decode(state);
	if (!/^[0-9]{1,9}$/.test(text)) throw new Failure("INVALID", "no number");
	n = Number(text);
};
export function stop() {}
`,
	".py": `# ferrule: name=sound version=1.0.0 state=n services=configure,save,resume,stop
# ferrule: fn=first in=json out=json fn=echo in=bytes fn=counts fn=asks import=upper want=absent fn=copies stream=both fn=spins hook=point fn=rate
# ferrule: hook=around wrap=yes
import ferrule
from ferrule import Failure, host, input, output, progress, settings
n, said = 0, ""
def first(x):
    if not isinstance(x, list): raise Failure(ferrule.INVALID, "expected a list")
    return x[0] if x else {}
def echo(data): return data
def counts():
    global n
    n += 1
    return str(n % 3)
def asks(text): return host.upper(text)
def copies():
    for piece in input:
        output.write(piece)
        progress(1)
def spins(text):
    while text == "a": pass
    return ""
def point(x): return x
def around(x): return ferrule.next(x)
def rate(): return said
def configure():
    global said
    try: text = settings.text
    except UnicodeDecodeError: raise Failure(ferrule.INVALID, "no text")
    if len(text) > 100: raise Failure(ferrule.INVALID, "too long")
    said = text
def save(): return str(n)
def resume(state):
    global n
    if not state.isdigit() or len(state) > 9: raise Failure(ferrule.INVALID, "no number")
    n = int(state)
def stop(): pass
`,
}

// What takes no notice of being cancelled once, as on a machine that does not get to it, is no finding: it is asked again.
func TestEndedOnce(t *testing.T) {
	dir := t.TempDir()
	once, again := filepath.Join(dir, "once"), filepath.Join(dir, "again")
	script := `# ferrule: name=s version=1 fn=f
import os, time
import ferrule
def f(x):
    if len(x) < 1000: return x
    if not os.path.exists(` + strconv.Quote(once) + `):
        open(` + strconv.Quote(once) + `, "w").close()
        time.sleep(1000)
    open(` + strconv.Quote(again) + `, "w").close()
    while not ferrule.cancelled(): time.sleep(0.001)
    raise TimeoutError("cancelled")
`
	v := checkScript(t, ".py", script, "cancel-middle")
	for tries := 0; tries < 20 && absent(once); tries++ { // a machine so busy that no call was entered before it was cancelled
		v = checkScript(t, ".py", script, "cancel-middle")
	}
	require.FileExists(t, once)
	require.FileExists(t, again, "it has run a second time")
	assert.True(t, v.Pass, "%+v", v.Results)
}

// absent reports whether there is no such file.
func absent(path string) bool {
	_, err := os.Lstat(path)
	return err != nil
}

// So is a call whose time is over: a machine that stands still for some seconds has it ended, which is no finding until it is ended a second time.
func TestCallEndedOnce(t *testing.T) {
	for only, header := range map[string]string{"release": "fn=f", "streams": "fn=f stream=both"} {
		t.Run(only, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			once, again := filepath.Join(dir, "once"), filepath.Join(dir, "again")
			v := checkScript(t, ".py", "# ferrule: name=s version=1 "+header+`
import os, time
def f(x=""):
    if os.path.exists(`+strconv.Quote(once)+`):
        open(`+strconv.Quote(again)+`, "w").close()
        return ""
    open(`+strconv.Quote(once)+`, "w").close()
    time.sleep(1000)
`, only)
			require.FileExists(t, once)
			require.FileExists(t, again, "it has run a second time")
			assert.Empty(t, told(v))
			v = checkScript(t, ".py", "# ferrule: name=s version=1 "+header+"\nimport time\ndef f(x=''): time.sleep(1000)\n", only)
			require.Len(t, told(v), 1, "%+v", v.Results)
			assert.Contains(t, told(v)[0], only+" error R17: ")
		})
	}
}

// A script that takes its time to stop, as on a machine that is busy, is no finding; one that does not stop is.
func TestStopsLate(t *testing.T) {
	for stop, want := range map[string][]string{"time.sleep(3)": nil, "time.sleep(1000)": {"start warning R15"}} {
		t.Run(stop, func(t *testing.T) {
			t.Parallel()
			v := checkScript(t, ".py", "# ferrule: name=s version=1 services=stop fn=f\nimport time\ndef f(x): return x\ndef stop(): "+stop+"\n", "start")
			assert.Equal(t, want, findings(v), "%+v", v.Results)
		})
	}
}

// TestScriptsPass: sound scripts pass, without a warning, and each case that is left out says why, in words that are true of a script.
func TestScriptsPass(t *testing.T) {
	for ext, text := range soundScripts {
		t.Run(ext, func(t *testing.T) {
			t.Parallel()
			v := checkScript(t, ext, text, "")
			assert.True(t, v.Pass)
			assert.Empty(t, told(v), "%+v", v.Results)
			ran := 0
			for _, r := range v.Results {
				if r.Outcome == check.Skipped {
					assert.NotEmpty(t, r.Reason, r.Case)
					assert.NotContains(t, r.Reason, "module", r.Case)
				} else {
					ran++
				}
			}
			assert.Greater(t, ran, 28)
		})
	}
}
