package examples_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// The code in the project's README, and in the page for who starts, is that of an example, to the letter.
func TestProjectREADME(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(fixture.Root(), "README.md"))
	require.NoError(t, err)
	assert.LessOrEqual(t, strings.Count(string(readme), "\n"), 80, "a screen or two")
	start, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "start.md"))
	require.NoError(t, err)
	snippets := map[string]string{
		"```c\n":    "countvowels/c/countvowels.c",
		"```go\n":   "countvowels/main.go",
		"```rust\n": "countvowels/rust/src/lib.rs",
	}
	for fence, file := range snippets {
		_, rest, ok := strings.Cut(string(readme)+string(start), fence)
		require.True(t, ok, fence)
		snippet, _, _ := strings.Cut(rest, "```")
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Contains(t, string(source), snippet)
		assert.LessOrEqual(t, strings.Count(snippet, "\n"), 8, "%s fits beside the others", file)
	}
}

// So is the code that opens a plug-in which is not trusted, which does not fall back to fewer layers than it names.
func TestPageOfIsolation(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "isolation.md"))
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(page), "\n## In a program\n")
	require.True(t, ok)
	_, rest, ok := strings.Cut(section, "```go\n")
	require.True(t, ok)
	snippet, _, _ := strings.Cut(rest, "```")
	source, err := os.ReadFile("untrusted/main.go")
	require.NoError(t, err)
	assert.Contains(t, string(source), snippet)
	assert.Contains(t, snippet, "sandbox.With(")
	assert.NotContains(t, string(source), "BestEffort")
}

// So is all of a real host that has to do with package plugins, which is to be short.
func TestPageOfTheSystem(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "system.md"))
	require.NoError(t, err)
	snippet := regexp.MustCompile("(?s)\n## All of it\n.*?```go\n(.*?)```\n").FindSubmatch(page)
	require.NotNil(t, snippet)
	host, err := os.ReadFile("shop/main.go")
	require.NoError(t, err)
	code := string(snippet[1])
	assert.Contains(t, string(host), code)
	assert.True(t, strings.HasPrefix(code, "func open(") && strings.HasSuffix(code, "\n}\n"), "all of the function")
	assert.LessOrEqual(t, strings.Count(code, "\n"), 25)
	for line := range strings.Lines(strings.Replace(string(host), code, "", 1)) {
		assert.NotRegexp(t, `plugins\.(New|Config|Offer|Notify|Collect|First|Pipe|Veto|Wrap)\b`, line, "outside of it")
	}
}

// The plug-in on the page on speed keeps its word where there is a quick crossing, and answers everywhere.
func TestPageOfSpeed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	blocks := codeBlocks(t, "speed.md", "c")
	require.Len(t, blocks, 1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "parity.c"), []byte(blocks[0]), 0o666))
	path := filepath.Join(dir, "parity"+fixture.Ext())
	out, err := exec.Command(fixture.Tool(t, "cc", "apt-get install gcc"), "-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-shared", "-fPIC",
		"-I", filepath.Join(fixture.Root(), "include"), "-o", path, filepath.Join(dir, "parity.c")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, opts := range [][]loader.Option{nil, {loader.WithQuick()}} {
		p, err := loader.Open(path, opts...)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, p.Close()) })
		parity, err := p.Func("parity")
		require.NoError(t, err)
		if runtime.GOOS+"/"+runtime.GOARCH != "linux/amd64" || opts == nil {
			assert.False(t, parity.Quick())
		}
		sum, err := parity.Call(t.Context(), []byte{1, 2, 4, 1})
		require.NoError(t, err)
		assert.Equal(t, []byte{6}, sum)
	}
}

// The oldest versions of Go and of Rust that pages name are those that the modules and the crates ask for.
func TestPagesNameVersions(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(fixture.Root(), filepath.FromSlash(name)))
		require.NoError(t, err)
		return string(text)
	}
	asks := func(name, pattern string) string {
		version := regexp.MustCompile(pattern).FindStringSubmatch(read(name))
		require.NotNil(t, version, name)
		return version[1]
	}
	host, plugin := asks("go.mod", `(?m)^go (\d+\.\d+)`), asks("sdk-go/go.mod", `(?m)^go (\d+\.\d+)`)
	crate := asks("sdk-rust/ferrule/Cargo.toml", `(?m)^rust-version = "(.+)"$`)
	for name, want := range map[string][]string{"docs/start.md": {host}, "docs/platforms.md": {host}, "docs/remote.md": {host}, "sdk-go/README.md": {plugin}, "docs/promises.md": {host, plugin}} {
		var named []string
		for _, found := range regexp.MustCompile(`Go (\d+\.\d+)`).FindAllStringSubmatch(read(name), -1) {
			named = append(named, found[1])
		}
		assert.Equal(t, want, named, name)
	}
	for _, name := range []string{"docs/promises.md", "sdk-rust/README.md"} {
		assert.Equal(t, crate, asks(name, `Rust (\d+\.\d+)`), name)
	}
}

// Pages that the documentation links to are there, and the sections of them.
func TestLinks(t *testing.T) {
	root := fixture.Root()
	pages := []string{"README.md", "RATIONALE.md", "CHANGELOG.md", "SECURITY.md", "bench/README.md", "sdk-c/README.md", "sdk-rust/README.md", "examples/README.md",
		"loader/inspect/README.md", "loader/isolate/sandbox/README.md"}
	more, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	for _, page := range more {
		pages = append(pages, "docs/"+filepath.Base(page))
	}
	links := 0
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		require.NoError(t, err)
		text = regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAll(text, nil) // code may look like a link
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(string(text), -1) {
			target, section, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			links++
			file := filepath.Join(root, filepath.FromSlash(page))
			if target != "" {
				file = filepath.Join(filepath.Dir(file), filepath.FromSlash(target))
			}
			if !assert.FileExists(t, file, "%s links to %s", page, link[1]) || section == "" {
				continue
			}
			linked, err := os.ReadFile(file)
			require.NoError(t, err)
			anchors := map[string]bool{}
			for _, heading := range regexp.MustCompile("(?m)^#+ (.*)$").FindAllStringSubmatch(string(linked), -1) {
				plain := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(heading[1]), "")
				anchors[strings.ReplaceAll(plain, " ", "-")] = true
			}
			section = regexp.MustCompile(`-\d+$`).ReplaceAllString(section, "") // of headings with the same words
			assert.True(t, anchors[section], "%s links to %s", page, link[1])
		}
	}
	assert.Greater(t, links, 50)
}

// A host is linked dynamically without cgo, too, as docs/platforms.md and docs/operating.md say.
func TestHostsAreDynamic(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere all programs are")
	}
	host := filepath.Join(t.TempDir(), "host")
	cmd := exec.Command("go", "build", "-o", host, "./countvowels")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	file, err := elf.Open(host)
	require.NoError(t, err)
	defer file.Close()
	needs, err := file.ImportedLibraries()
	require.NoError(t, err)
	assert.Contains(t, strings.Join(needs, " "), "libc.so")
	assert.True(t, slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }))
}
