package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What does not compile on another platform is found there, in a test as well, and nothing is where nothing is wrong.
func TestTypes(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("GOWORK", "off")
	m := &machine{ctx: t.Context(), log: io.Discard}
	for name, text := range map[string]string{
		"go.mod":            "module example.com/m\n\ngo 1.24.0\n",
		"a.go":              "package m\n\nimport \"os\"\n\n// A is known everywhere, and its body by the assembler.\nfunc A(n int) int\n\nvar _ = os.Args\n",
		"b_test.go":         "package m_test\n\nimport (\n\t\"testing\"\n\n\t\"example.com/m\"\n\t\"example.com/m/in\"\n)\n\nfunc TestA(t *testing.T) { in.Is(t, m.A(1)) }\n",
		"in/in.go":          "// Package in imports what is tested.\npackage in\n\nimport (\n\t\"testing\"\n\n\t\"example.com/m\"\n)\n\n// Is asks m.\nfunc Is(t *testing.T, n int) { t.Log(m.A(n)) }\n",
		"internal_test.go":  "package m\n\nvar inTests = A\n",
		"external_test.go":  "package m_test\n\nimport \"example.com/m\"\n\nvar _ = m.A\n",
		"cmd/p/main.go":     "package main\n\nimport \"example.com/m\"\n\nfunc main() { m.A(2) }\n",
		"cmd/p/p_test.go":   "package main\n\nimport \"testing\"\n\nfunc TestMain(m *testing.M) { m.Run() }\n",
		"cmd/p/p_darwin.go": "package main\n\nimport \"syscall\"\n\nvar _ = syscall.Mmap\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	platforms := map[string]*run{"windows": {goos: "windows", goarch: "arm64"}, "darwin": {goos: "darwin", goarch: "arm64"}, "portable": {goos: "linux", goarch: "amd64", portable: true},
		"386": {goos: "linux", goarch: "386"}}
	for name, r := range platforms {
		require.NoError(t, m.check(r, []string{"./..."}), name)
	}
	for name, c := range map[string]struct{ file, text, on, says string }{
		"a function that only another system has": {"c.go", "package m\n\nimport \"syscall\"\n\nvar _ = syscall.Mmap\n", "windows", "undefined: syscall.Mmap"},
		"what another file has":                   {"c_linux.go", "//go:build 386\n\npackage m\n\nvar _ = missing\n", "386", "undefined: missing"},
		"a number that is too long":               {"c.go", "package m\n\nvar _ int = 1 << 40\n", "386", "overflows"},
		"in a test":                               {"c_darwin_test.go", "package m_test\n\nvar _ = missing\n", "darwin", "undefined: missing"},
		"in a test of a program's":                {"cmd/p/c_windows_test.go", "package main\n\nvar _ = missing\n", "windows", "undefined: missing"},
		"an import of nothing":                    {"c_windows.go", "package m\n\nimport \"example.com/m/none\"\n\nvar _ = none.X\n", "windows", "go list: exit status 1"},
		"an import that nobody uses":              {"c_windows.go", "package m\n\nimport \"os\"\n", "windows", "imported and not used"},
		"no Go":                                   {"c_darwin.go", "package m\n\nfunc (\n", "darwin", "c_darwin.go:3"},
		"with the other crossing":                 {"c.go", "//go:build ferrule_portable\n\npackage m\n\nvar _ = missing\n", "portable", "undefined: missing"},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(c.file, []byte(c.text), 0o600))
			defer os.Remove(c.file)
			assert.ErrorContains(t, m.check(platforms[c.on], []string{"./..."}), c.says)
			other := "darwin"
			if c.on == other {
				other = "windows"
			}
			assert.NoError(t, m.check(platforms[other], []string{"./..."}), other)
		})
	}
	assert.ErrorContains(t, m.check(platforms["386"], []string{"fmt"}), "found no package of this tree")
}
