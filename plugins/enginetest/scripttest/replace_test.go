package scripttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/enginetest/internal/site"
)

// counting is a version of a script that counts its calls: what it returns has the version's number at the top of the file, at its end, and of a file that it imports.
func counting(language string, n int) string {
	filler := strings.Repeat("Words that make the file longer than one piece of a disk. ", 200)
	if language == "py" {
		return fmt.Sprintf(`# ferrule: name=discount version=1.0.%[1]d state=s1 services=save,resume
# ferrule: hook=before_checkout
# ferrule: fn=counts fn=version
from parts import same
first = %[1]d
count = 0
def counts(_):
    global count
    count += 1
    return str(count)
def version(_):
    return f"{first}:{last()}:{same.n - same.n + first}"
def before_checkout(text):
    return f"{text}:{first}:{last()}"
def save():
    return str(count)
def resume(state):
    global count
    count = int(state)
# %[2]s
def last():
    return %[1]d
`, n, filler)
	}
	return fmt.Sprintf(`// ferrule: name=discount version=1.0.%[1]d state=s1 services=save,resume
// ferrule: hook=before_checkout
// ferrule: fn=counts fn=version
import { same } from "./parts/same.mjs";
const first = %[1]d;
let count = 0;
export const counts = () => String(++count);
export const version = () => [first, last(), same - same + first].join(":");
export const before_checkout = (text) => [text, first, last()].join(":");
export const save = () => String(count);
export const resume = (state) => { count = Number(new TextDecoder().decode(state)); };
// %[2]s
function last() { return %[1]d; }
`, n, filler)
}

// A script that is replaced all the time, in one step and by being overwritten, loses no call: each that came in is answered, by one whole version, and what it has counted is handed over.
func TestReplacedUnderLoad(t *testing.T) {
	for language, times := range map[string]int{"js": 120, "py": 100} {
		if raced { // each takes ten times as long
			times /= 5
		}
		t.Run(language, func(t *testing.T) {
			s := site.New(t)
			file := "discount." + language
			s.Put("parts/same.mjs", "export const same = 7;\n")
			s.Put("parts/same.py", "n = 7\n")
			path := s.Put(file, counting(language, 0))
			s.Configure("plugins: [{name: discount, required: true}]")
			sys := s.System(both(t), plugins.Watch())
			point := plugins.First[[]byte, []byte](sys, "before_checkout", plugins.Codec(site.Raw{}))
			require.NoError(t, sys.Start(t.Context()))
			counts, err := sys.Func("discount", "counts")
			require.NoError(t, err)
			version, err := sys.Func("discount", "version")
			require.NoError(t, err)

			done := make(chan struct{})
			var callers sync.WaitGroup
			var counted, called atomic.Int64
			for i := range 16 {
				callers.Go(func() {
					for n := i; ; n++ {
						select {
						case <-done:
							return
						default:
						}
						switch n % 3 {
						case 0:
							if _, err := counts.Call(t.Context(), nil); assert.NoError(t, err) {
								counted.Add(1)
							}
						case 1:
							out, err := version.Call(t.Context(), nil)
							parts := strings.Split(string(out), ":")
							_ = assert.NoError(t, err) && assert.Len(t, parts, 3) && assert.Equal(t, parts[0], parts[1]) && assert.Equal(t, parts[0], parts[2])
						default:
							out, found, err := point.Call(t.Context(), []byte("x"))
							parts := strings.Split(string(out), ":")
							_ = assert.NoError(t, err) && assert.True(t, found) && assert.Len(t, parts, 3) && assert.Equal(t, "x", parts[0]) && assert.Equal(t, parts[1], parts[2])
						}
						called.Add(1)
					}
				})
			}
			for n := 1; n <= times; n++ {
				if n%2 == 0 {
					s.Put(file, counting(language, n))
				} else {
					require.NoError(t, os.WriteFile(path, []byte(counting(language, n)), 0o644))
				}
				require.NoError(t, sys.Reload(t.Context()))
				assert.Equal(t, fmt.Sprintf("%[1]d:%[1]d:%[1]d", n), site.Call(t, sys, "discount", "version", ""))
			}
			close(done)
			callers.Wait()
			assert.Equal(t, strconv.FormatInt(counted.Load()+1, 10), site.Call(t, sys, "discount", "counts", ""), "of %d calls", called.Load())
			p, _ := sys.Plugin("discount")
			assert.GreaterOrEqual(t, p.Replaced, times)
			assert.NoError(t, p.Err)
		})
	}
}

// events are those of a system, one after the other.
type events chan plugins.Event

func (e events) next(t *testing.T, kind plugins.EventKind) plugins.Event {
	t.Helper()
	for {
		select {
		case ev := <-e:
			if ev.Kind == kind {
				return ev
			}
		case <-time.After(time.Minute):
			t.Fatalf("no event %s", kind)
		}
	}
}

// A new version that is none stays out, and the event says why, with the file and where in it: the version that runs goes on.
func TestVersionsThatStayOut(t *testing.T) {
	type version struct {
		text string
		says []string
	}
	for language, all := range map[string][]version{
		"js": {
			{"// ferrule: name=discount version=1.1.0 fn=f\nexport const f = (;\n", []string{"SyntaxError", "discount.js:2:19"}},
			{"// ferrule: name=discount version=1.2.0 fn=f fn=missing\nexport const f = () => '1.2.0';\n", []string{"discount.js", "its header names missing, expected that it exports such a function"}},
			{"// ferrule: name=discount version=1.3.0\n// ferrule: fn=f fn\nexport const f = () => '1.3.0';\n", []string{"discount.js", "line 2", `"fn"`}},
			{"// ferrule: version=1.3.0 fn=f\nexport const f = () => '1.3.0';\n", []string{"discount.js", "name"}},
			{"export const f = () => '1.4.0';\n", []string{"discount.js", "without a header", "// ferrule: name=discount"}},
			{"// ferrule: name=discount version=1.5.0 fn=f\nexport const f = () => '1.5.0';\nthrow new Error('not today');\n", []string{"not today", "discount.js:3:"}},
			{"// ferrule: name=discount version=1.6.0 fn=f\nimport './parts/wrong.mjs';\nexport const f = () => '1.6.0';\n", []string{"SyntaxError", "parts/wrong.mjs:2:"}},
			{"// ferrule: name=discount version=1.7.0 fn=f import=nobody_offers\nexport const f = () => '1.7.0';\n", []string{"nobody_offers"}},
			{"// ferrule: name=discount version=1.8.0 fn=f\nimport './none.mjs';\nexport const f = () => '1.8.0';\n", []string{"none.mjs"}},
		},
		"py": {
			{"# ferrule: name=discount version=1.1.0 fn=f\ndef f(x) return x\n", []string{"SyntaxError", "discount.py", "line 2"}},
			{"# ferrule: name=discount version=1.2.0 fn=f fn=missing\ndef f(x): return '1.2.0'\n", []string{"discount.py", "its header names missing"}},
			{"# ferrule: name=discount version=1.3.0\n# ferrule: fn=f fn\ndef f(x): return '1.3.0'\n", []string{"discount.py", "line 2", `"fn"`}},
			{"def f(x): return '1.4.0'\n", []string{"discount.py", "without a header"}},
			{"# ferrule: name=discount version=1.5.0 fn=f\ndef f(x): return '1.5.0'\nraise Exception('not today')\n", []string{"not today", "discount.py", "line 3"}},
			{"# ferrule: name=discount version=1.8.0 fn=f\nimport missing_module\ndef f(x): return '1.8.0'\n", []string{"missing_module", "line 2"}},
		},
	} {
		t.Run(language, func(t *testing.T) {
			s := site.New(t)
			file := "discount." + language
			good := "// ferrule: name=discount version=%[1]s fn=f\nexport const f = () => '%[1]s';\n"
			if language == "py" {
				good = "# ferrule: name=discount version=%[1]s fn=f\ndef f(x): return '%[1]s'\n"
			}
			s.Put("parts/wrong.mjs", "// A part.\nexport const = 1;\n")
			s.Put(file, fmt.Sprintf(good, "1.0.0"))
			s.Configure("plugins: [discount]")
			told := make(events, 1000)
			sys := s.Start(both(t), plugins.Watch(), plugins.OnEvent(func(e plugins.Event) { told <- e }))
			assert.Equal(t, "1.0.0", site.Call(t, sys, "discount", "f", ""))
			for _, v := range all {
				s.Put(file, v.text)
				ev := told.next(t, plugins.EventKept)
				for _, says := range v.says {
					assert.ErrorContains(t, ev.Err, says)
				}
				assert.Equal(t, "1.0.0", ev.Version)
				assert.Equal(t, "1.0.0", site.Call(t, sys, "discount", "f", ""))
				p, _ := sys.Plugin("discount")
				assert.Equal(t, plugins.StateStarted, p.State)
				assert.Error(t, p.Err)
			}
			s.Put(file, fmt.Sprintf(good, "2.0.0"))
			assert.Equal(t, "2.0.0", told.next(t, plugins.EventReplaced).Version)
			assert.Equal(t, "2.0.0", site.Call(t, sys, "discount", "f", ""))
			p, _ := sys.Plugin("discount")
			assert.NoError(t, p.Err)
		})
	}
}

// What a script imports is part of it: a change of such a file, or of one that it imports, is another version; of one that is not there, it coming is.
func TestImportedFiles(t *testing.T) {
	for language, files := range map[string]map[string]string{
		"js": {"a.js": "// ferrule: name=a version=1.0.0 fn=f\nimport { x } from './parts/x.mjs';\nexport const f = () => x;\n", "parts/x.mjs": "export { y as x } from '../deep/y.mjs';\n", "deep/y.mjs": "export const y = '%s';\n",
			"added": "// ferrule: name=a version=1.1.0 fn=f\nimport { z } from './late/z.mjs';\nexport const f = () => z;\n", "late/z.mjs": "export const z = 'late';\n"},
		"py": {"a.py": "# ferrule: name=a version=1.0.0 fn=f\nfrom parts import x\ndef f(_): return x.x\n", "parts/x.py": "from deep.y import y as x\n", "deep/y.py": "y = '%s'\n",
			"added": "# ferrule: name=a version=1.1.0 fn=f\ndef f(_): return z\nfrom late import z\n", "late.py": "z = 'late'\n"},
	} {
		t.Run(language, func(t *testing.T) {
			s := site.New(t)
			deep, late, own := "deep/y.mjs", "late/z.mjs", "a.js"
			if language == "py" {
				deep, late, own = "deep/y.py", "late.py", "a.py"
			}
			s.Put("beside."+language, strings.Repeat("\n", 3)) // which nobody imports
			for name, text := range files {
				if name != "added" && name != late {
					s.Put(name, strings.ReplaceAll(text, "%s", "0"))
				}
			}
			s.Configure("plugins: [a]")
			told := make(events, 1000)
			sys := s.Start(both(t), plugins.Watch(), plugins.OnEvent(func(e plugins.Event) { told <- e }))
			assert.Equal(t, "0", site.Call(t, sys, "a", "f", ""))
			for n := 1; n <= 5; n++ {
				text := fmt.Sprintf(files[deep], strconv.Itoa(n))
				if n%2 == 0 {
					require.NoError(t, os.WriteFile(filepath.Join(s.Folder, filepath.FromSlash(deep)), []byte(text), 0o644))
				} else {
					s.Put(deep, text)
				}
				told.next(t, plugins.EventReplaced)
				assert.Equal(t, strconv.Itoa(n), site.Call(t, sys, "a", "f", ""))
			}
			s.Put("beside."+language, "\n")
			require.NoError(t, sys.Reload(t.Context()))
			p, _ := sys.Plugin("a")
			assert.Equal(t, 5, p.Replaced, "what it does not import is nothing to it")

			s.Put(own, files["added"])
			assert.ErrorContains(t, told.next(t, plugins.EventKept).Err, "late")
			assert.Equal(t, "5", site.Call(t, sys, "a", "f", ""))
			s.Put(late, files[late])
			assert.Equal(t, "1.1.0", told.next(t, plugins.EventReplaced).Version)
			assert.Equal(t, "late", site.Call(t, sys, "a", "f", ""))
		})
	}
}
