package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
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
	wrong := func(file, text string) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	wrong("only_others_have.go", "package m\n\nimport \"syscall\"\n\nvar _ = syscall.Mmap\n")
	wrong("too_long.go", "package m\n\nvar _ int = 1 << 40\n")
	wrong("of_another_file_linux.go", "//go:build 386\n\npackage m\n\nvar _ = missing\n")
	wrong("in_a_darwin_test.go", "package m_test\n\nvar _ = missing\n")
	wrong("cmd/p/of_a_program_windows_test.go", "package main\n\nvar _ = missing\n")
	wrong("nobody_uses_windows.go", "package m\n\nimport \"os\"\n")
	wrong("other_crossing.go", "//go:build ferrule_portable\n\npackage m\n\nvar _ = missing\n")
	for name, want := range map[string][]string{
		"windows":  {"only_others_have.go:5:17: undefined: syscall.Mmap", "of_a_program_windows_test.go:3:9: undefined: missing", `nobody_uses_windows.go:3:8: "os" imported and not used`},
		"darwin":   {"in_a_darwin_test.go:3:9: undefined: missing"},
		"portable": {"other_crossing.go:5:9: undefined: missing"},
		"386":      {"too_long.go:3:13: cannot use 1 << 40", "of_another_file_linux.go:5:9: undefined: missing"},
	} {
		err := m.check(platforms[name], []string{"./..."})
		require.Error(t, err, name)
		assert.Len(t, strings.Split(err.Error(), "\n"), len(want), "%s: %v", name, err)
		for _, text := range want {
			assert.ErrorContains(t, err, text, name)
		}
	}
	wrong("no_go_darwin.go", "package m\n\nfunc (\n")
	assert.ErrorContains(t, m.check(platforms["darwin"], []string{"./..."}), "no_go_darwin.go:3")
	wrong("of_nothing_windows.go", "package m\n\nimport \"example.com/m/none\"\n\nvar _ = none.X\n")
	assert.ErrorContains(t, m.check(platforms["windows"], []string{"./..."}), "go list: exit status 1")
	assert.ErrorContains(t, m.check(platforms["386"], []string{"fmt"}), "found no package of this tree")
}
