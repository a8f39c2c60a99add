package inspect_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// What a script imports is found as it is written, with what that imports; what is in comments, texts and regular expressions is not.
func TestImported(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.js": "// ferrule: name=a version=1.0.0\n// import './comment.js'\n/* import './other.js' */\nimport { host } from \"ferrule\";\nimport './side.js';\nimport x, { y as z } from\n  './parts/x.mjs';\n" +
			"export * from \"./parts/../again.js\";\nconst t = `import './text.js' ${await import('./late.js')} import './more.js'`;\nconst s = \"import './quoted.js'\", n = 4 / 2, r = /import '.\\/regular.js'/;\n" +
			"import d from './data.json' with { type: 'json' };\nimport '../outside.js';\nconst q = n / 3; import './behind.js'; f(\"./called.js\");\nfunction g() { return /[/\"]/.test(s) }\nimport './last.js'",
		"parts/x.mjs": "export { b } from '../deep.js'; import './y.mjs'", "parts/y.mjs": "import '../a.js'; import './x.mjs'", "data.json": `["import './no.js'"]`,
		"b.py": "# ferrule: name=b version=1.0.0\n\"\"\"import text\"\"\"\nimport json, helper as h\nfrom parts import one, two as zwei\nfrom parts.three import (\n  f, # import comment\n  g)\nif True: import inline\ndef f():\n    from late import x; import later\n" +
			"s = 'import quoted'\nimport ferrule\nfrom ferrule import host\nimport parts.sub.deep\nimport \\\na.b\n",
		"helper.py": "from os import path\n", "parts/__init__.py": "from . import four\nfrom .five import six\n", "parts/one.py": "", "parts/three.py": "", "parts/four.py": "from ..helper import x\n", "parts/five.py": "",
		"parts/sub/deep.py": "import inline", "inline.py": "", "late.py": "", "later.py": "", "a/b.py": "",
		"c.js": "import './x.js'",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	for name, want := range map[string][]string{
		"a.js": {"again.js", "behind.js", "data.json", "deep.js", "last.js", "late.js", "parts/x.mjs", "parts/y.mjs", "side.js"},
		"b.py": {"a/b.py", "helper.py", "inline.py", "json.py", "late.py", "later.py", "os.py", "parts/__init__.py", "parts/five.py", "parts/four.py", "parts/one.py", "parts/sub/deep.py", "parts/three.py"},
		"c.js": nil,
	} {
		all, err := inspect.Imported(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, want, all, name)
	}
	_, err := inspect.Imported(filepath.Join(dir, "none.js"))
	assert.ErrorIs(t, err, inspect.ErrRead)
}

func FuzzImported(f *testing.F) {
	f.Add("import './x.js'; `${`", true)
	f.Add("from . import (x\n'''", false)
	f.Fuzz(func(t *testing.T, text string, js bool) {
		name, header := "a.py", "# ferrule: name=a version=1\n"
		if js {
			name, header = "a.js", "// ferrule: name=a version=1\n"
		}
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(header+text), 0o600))
		all, err := inspect.Imported(path)
		require.NoError(t, err)
		for _, one := range all {
			assert.False(t, filepath.IsAbs(one))
		}
	})
}
