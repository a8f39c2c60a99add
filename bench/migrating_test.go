package main

import (
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// yamux finds what go-plugin's transport says where its two ends close at the same moment.
var yamux = regexp.MustCompile(`(?m)^\S+ \S+ \[ERR\] yamux: .*\n`)

// The code of each chapter of the page on migration is all that it needs: built and run by the page's commands, it prints what the page says, and
// what is after gives the same results as what was before.
func TestPageOfMigration(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the last chapter's sandbox is Linux's")
	}
	for _, tool := range []string{"sh", "cc", "clang", "wasm-ld"} {
		fixture.Tool(t, tool, tools[tool])
	}
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "migrating.md"))
	require.NoError(t, err)
	page, _, _ := strings.Cut(string(text), "\n## go-plugin's example\n")
	chapters := strings.Split(page, "\n## From ")
	require.Len(t, chapters, 4)
	main := pageBlocks(chapters[0], "go")
	setup := pageBlocks(chapters[0], "sh")
	require.Len(t, main, 1)
	require.Len(t, setup, 1)
	for _, chapter := range chapters[1:] {
		title, _, _ := strings.Cut(chapter, "\n")
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			dir := userModule(t)
			pageFiles(t, dir, chapter)
			sessions := pageBlocks(chapter, "console")
			require.Len(t, sessions, 2)
			for i, half := range []string{"before", "after"} {
				write(t, filepath.Join(dir, half, "host", "main.go"), main[0])
				said := shellSession(t, dir, setup[0], sessions[i])
				assert.Equal(t, sessions[i], yamux.ReplaceAllString(said, ""))
			}
			vet := exec.Command("go", "vet", "./before/...", "./after/host")
			vet.Dir, vet.Env = dir, userEnv(t)
			out, err := vet.CombinedOutput()
			assert.NoError(t, err, "%s", out)

			call := func(session, text string) string {
				command := regexp.MustCompile(`(?m)^\$ (\S+ \S+) "Hello`).FindStringSubmatch(session)
				require.NotNil(t, command, session)
				args := append(strings.Fields(command[1]), text)
				cmd := exec.Command(filepath.Join(dir, args[0]), args[1:]...)
				cmd.Dir = dir
				out, err := cmd.Output()
				require.NoError(t, err, "%s %q", command[1], text)
				return string(out)
			}
			for _, text := range []string{"x", "AEIOU", "Ähnlich, naïve \"quotes\"\n\\ and 東京", strings.Repeat("tea and coffee ", 5_000)} {
				assert.Equal(t, call(sessions[0], text), call(sessions[1], text), "%.40q", text)
			}
			assert.NotEqual(t, call(sessions[0], "a"), call(sessions[1], "aa"), "this test can fail")
		})
	}
}

// go-plugin's example, in both forms, is all that it needs, and does the same; so does go-plugin's own, and so do the four forms of the plug-in in Go. The page counts
// the lines of all of them.
func TestPageOfMigrationExample(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the page's commands are of a Unix shell, and its library is built as Linux has them: a .so")
	}
	for _, tool := range []string{"sh", "cc"} {
		fixture.Tool(t, tool, tools[tool])
	}
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "migrating.md"))
	require.NoError(t, err)
	_, chapter, found := strings.Cut(string(text), "\n## go-plugin's example\n")
	require.True(t, found)
	dir := userModule(t)
	files := pageFiles(t, dir, chapter)
	sessions := pageBlocks(chapter, "console")
	require.Len(t, sessions, 2)
	for _, session := range sessions {
		said := strings.ReplaceAll(shellSession(t, dir, "", session), dir, "/srv/vowels")
		assert.Equal(t, session, yamux.ReplaceAllString(said, ""))
		require.NoError(t, os.Remove(filepath.Join(dir, "kv_hello")), "the plug-in has written it here")
	}
	run := func(env []string, command string, args ...string) string {
		t.Helper()
		cmd := exec.Command(command, args...)
		cmd.Dir, cmd.Env = dir, append(userEnv(t), env...)
		out, err := cmd.Output()
		require.NoError(t, err, "%s %s: %s", command, args, out)
		return string(out)
	}
	run(nil, "go", "vet", "./kv/...")

	// Values of any bytes that an argument can have come back as they are.
	for _, value := range []string{"", "a\nb", "\xff\xfe", "naïve 東京", strings.Repeat("long ", 10_000)} {
		run(nil, "kv/before/kv", "kv/before/plug-in", "put", "k", value)
		before := run(nil, "kv/before/kv", "kv/before/plug-in", "get", "k")
		run(nil, "kv/after/kv", "kv/after/plug-in", "put", "k", value)
		assert.Equal(t, value+"\n\nWritten by the plug-in\n", before)
		assert.Equal(t, before, run(nil, "kv/after/kv", "kv/after/plug-in", "get", "k"))
	}

	// Theirs.
	const theirs = "github.com/hashicorp/go-plugin/examples/grpc"
	run(nil, "go", "build", "-o", "kv/theirs/kv", theirs)
	run(nil, "go", "build", "-o", "kv/theirs/plug-in", theirs+"/plugin-go-netrpc")
	env := []string{"KV_PLUGIN=kv/theirs/plug-in", "KV_PROTO=netrpc"}
	run(env, "kv/theirs/kv", "put", "theirs", "world")
	assert.Regexp(t, "^world\n\nWritten from plugin-go-netrpc", run(env, "kv/theirs/kv", "get", "theirs"))

	// The four forms.
	run(nil, "go", "build", "-buildmode=c-shared", "-o", "kv/after/kv.so", "./kv/after/cmd/kv")
	run([]string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0"}, "go", "build", "-buildmode=c-shared", "-o", "kv/after/kv.wasm", "./kv/after/cmd/kv")
	write(t, filepath.Join(dir, "kv", "forms", "main.go"), fourForms)
	run(nil, "go", "build", "-o", "kv/forms/forms", "./kv/forms")
	answers := strings.Split(strings.TrimSpace(run(nil, "kv/forms/forms", "kv/after/plug-in", "kv/after/kv.so", "kv/after/kv.wasm")), "\n")
	require.Len(t, answers, 4)
	for _, answer := range answers {
		answer = strings.Replace(answer, "No such", "no such", 1) // the words of Go for WebAssembly
		assert.Equal(t, `"world\n\nWritten by the plug-in" <nil>; "" plug-in kv: get: failed: open DATA/kv_nothing: no such file or directory; ["kv_hello"]`, answer)
	}

	// Lines.
	lines := func(text string) (n int) {
		for line := range strings.Lines(text) {
			if strings.TrimSpace(line) != "" {
				n++
			}
		}
		return n
	}
	cells := func(row string) []string {
		found := regexp.MustCompile(`(?m)^\| ` + row + ` \| *(\d*) *\| *(\d*) *\|$`).FindStringSubmatch(chapter)
		require.NotNil(t, found, row)
		return found[1:]
	}
	is := func(n int) string { return strconv.Itoa(n) }
	before := map[string]int{}
	for _, part := range []string{"plugin/main.go", "shared/shared.go", "host/main.go"} {
		before[part] = lines(files["kv/before/"+part])
		before["all"] += before[part]
	}
	plugin, host := lines(files["kv/after/kv.go"]), lines(files["kv/after/host/main.go"])
	generated := 0
	for _, name := range []string{"ferrule_gen.go", "cmd/kv/library.go", "cmd/kv/main.go", "cmd/kv/module.go"} {
		text, err := os.ReadFile(filepath.Join(dir, "kv", "after", name))
		require.NoError(t, err)
		generated += lines(string(text))
	}
	assert.Equal(t, []string{is(before["plugin/main.go"]), is(plugin)}, cells("the plug-in"))
	assert.Equal(t, []string{is(before["shared/shared.go"]), ""}, cells("what both sides share"))
	assert.Equal(t, []string{is(before["host/main.go"]), is(host)}, cells("the host"))
	assert.Equal(t, []string{is(before["all"]), is(plugin + host)}, cells("all"))
	assert.Equal(t, []string{"", is(generated)}, cells("generated by `ferrule gen`, and committed"))
	where := strings.TrimSpace(run(nil, "go", "list", "-f", "{{.Dir}}", theirs))
	theirLines := func(names ...string) (n int) {
		for _, name := range names {
			text, err := os.ReadFile(filepath.Join(where, name))
			require.NoError(t, err)
			n += lines(string(text))
		}
		return n
	}
	assert.Contains(t, chapter, fmt.Sprintf("the plug-in has %d lines, what both sides share %d, and the host %d,", theirLines("plugin-go-grpc/main.go"),
		theirLines("shared/interface.go", "shared/grpc.go", "shared/rpc.go", "proto/kv.proto"), theirLines("main.go")))
}

// fourForms is a host that opens the page's plug-in in each of its forms, and prints what that answers and writes.
const fourForms = `package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/wasm"

	"example.com/vowels/kv/after"
)

func main() {
	for i := range 4 {
		data, err := os.MkdirTemp("", "")
		check(err)
		opts := []loader.Option{loader.WithDataFolder(data)}
		var p *loader.Plugin
		switch i {
		case 0:
			p, err = builtin.Open(builtin.From(kv.Plugin), opts...)
		case 1:
			p, err = loader.Open(os.Args[1], append(opts, sidecar.Program())...)
		case 2:
			p, err = loader.Open(os.Args[2], append(opts, isolate.InWorker())...)
		case 3:
			p, err = loader.Open(os.Args[3], append(opts, loader.WithEngine(wasm.Engine()))...)
		}
		check(err)
		in, err := json.Marshal(kv.Pair{Key: "hello", Value: []byte("world")})
		check(err)
		_, err = p.Call(context.Background(), "put", in)
		check(err)
		value, err := p.Call(context.Background(), "get", []byte("hello"))
		nothing, failed := p.Call(context.Background(), "get", []byte("nothing"))
		files, _ := filepath.Glob(filepath.Join(data, "*"))
		for i := range files {
			files[i] = filepath.Base(files[i])
		}
		fmt.Println(strings.ReplaceAll(fmt.Sprintf("%q %v; %q %v; %q", value, err, nothing, failed, files), data, "DATA"))
		check(p.Close())
		check(os.RemoveAll(data))
	}
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
`

// pageFiles writes the files of a chapter, whose names stand before them, and returns what is in them.
func pageFiles(t *testing.T, dir, chapter string) map[string]string {
	t.Helper()
	blocks := regexp.MustCompile("(?ms)`((?:before|after|kv)/[^`\n]+)`(?:\\. [^\n]*)?:\n\n```\\w+\n(.*?)^```$").FindAllStringSubmatch(chapter, -1)
	require.Equal(t, strings.Count(chapter, "\n```go\n")+strings.Count(chapter, "\n```c\n"), len(blocks), "each block has a name")
	files := make(map[string]string, len(blocks))
	for _, block := range blocks {
		name, text := block[1], block[2]
		files[name] = text
		write(t, filepath.Join(dir, name), text)
		if filepath.Ext(name) == ".go" {
			formatted, err := format.Source([]byte(text))
			require.NoError(t, err, name)
			assert.Equal(t, string(formatted), text, name)
		}
	}
	return files
}

// pageBlocks returns the blocks of a page in one language.
func pageBlocks(page, language string) (all []string) {
	for _, b := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		all = append(all, b[1])
	}
	return all
}

// userModule makes a module of a user's own, which requires what this one does, and has the tree's version of the project.
func userModule(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	sums := ""
	for _, module := range []string{".", ".."} {
		sum, err := os.ReadFile(filepath.Join(module, "go.sum"))
		require.NoError(t, err)
		sums += string(sum)
	}
	text := strings.Replace(string(mod), "module "+ferruleModule+"/bench", "module example.com/vowels", 1)
	// The tree's own modules, whichever they are, need not be published.
	own := map[string]bool{"/sdk-go": true} // which the plug-ins need
	for _, module := range regexp.MustCompile(`(?m)^\s+`+regexp.QuoteMeta(ferruleModule)+`(\S*) v`).FindAllStringSubmatch(string(mod), -1) {
		own[module[1]] = true
	}
	require.Contains(t, own, "")
	text += "\nrequire " + ferruleModule + "/sdk-go v0.1.0\n"
	for module := range own {
		text += fmt.Sprintf("\nreplace %s%s => %s\n", ferruleModule, module, filepath.Join(fixture.Root(), filepath.FromSlash(module)))
	}
	write(t, filepath.Join(dir, "go.mod"), text)
	write(t, filepath.Join(dir, "go.sum"), sums)
	return dir
}

// userEnv is a user's environment, who has installed the command.
func userEnv(t *testing.T) []string {
	t.Helper()
	dir := sharedCommand(t)
	return append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "CGO_ENABLED=1", "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// builtCommand is the folder of the tree's command, once it was asked for.
var builtCommand struct {
	sync.Once
	dir string
	err error
}

// sharedCommand builds the tree's command, once, and returns its folder.
func sharedCommand(t *testing.T) string {
	t.Helper()
	builtCommand.Do(func() {
		dir := filepath.Join(fixture.Root(), "build", "bench-command")
		build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./cmd/ferrule")
		build.Dir = fixture.Root()
		if out, err := build.CombinedOutput(); err != nil {
			builtCommand.err = fmt.Errorf("%w: %s", err, out)
		}
		builtCommand.dir = dir
	})
	require.NoError(t, builtCommand.err)
	return builtCommand.dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
}

// shellSession runs the lines of a console block that begin with a dollar sign in one shell, and returns what a user sees.
func shellSession(t *testing.T, dir, setup, block string) string {
	t.Helper()
	script := setup
	for line := range strings.Lines(block) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			script += fmt.Sprintf("cat <<'LINE'\n%sLINE\n%s", line, command)
		}
	}
	cmd := exec.Command("sh", "-c", "exec 2>&1\n"+script)
	cmd.Dir, cmd.Env = dir, userEnv(t)
	out, _ := cmd.CombinedOutput() // the last command of a session may fail as the page says
	return string(out)
}
