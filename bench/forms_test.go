package main

import (
	"errors"
	"go/format"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	wasmengine "github.com/ferrule-dev/ferrule/loader/wasm"
)

func goPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "go-plug-ins.md"))
	require.NoError(t, err)
	return string(text)
}

// The first plug-in of the page on plug-ins in Go is made, built and opened in its four forms by the page's commands, which print what the page says.
func TestPageOfPluginsInGo(t *testing.T) {
	t.Parallel()
	fixture.Tool(t, "sh", tools["sh"])
	fixture.Tool(t, "gcc", tools["gcc"])
	first, _, ok := strings.Cut(goPage(t), "\n## Which form when\n")
	require.True(t, ok)
	dir := userModule(t)
	files := regexp.MustCompile("(?ms)`([^`\n]+\\.go)`[^\n]*:\n\n```go\n(.*?)^```$").FindAllStringSubmatch(first, -1)
	require.Len(t, files, 2)
	require.Equal(t, strings.Count(first, "\n```go\n"), len(files), "each block has a name")
	for _, file := range files {
		write(t, filepath.Join(dir, file[1]), file[2])
		formatted, err := format.Source([]byte(file[2]))
		require.NoError(t, err, file[1])
		assert.Equal(t, string(formatted), file[2], file[1])
	}
	sessions := pageBlocks(first, "console")
	require.Len(t, sessions, 1)
	said := shellSession(t, dir, "export CC=gcc\n", sessions[0])
	assert.Equal(t, sessions[0], said)

	vet := exec.Command("go", "vet", ".", "./host", "./cmd/...")
	vet.Dir, vet.Env = dir, userEnv(t)
	out, err := vet.CombinedOutput()
	assert.NoError(t, err, "%s", out)

	cross := pageBlocks(goPage(t), "sh")
	require.NotEmpty(t, cross)
	assert.Empty(t, shellSession(t, dir, "set -e\n"+cross[0], ""))
	assert.FileExists(t, filepath.Join(dir, "vowels.exe"))
}

// What is generated in this module is what the command writes.
func TestFormsAreGenerated(t *testing.T) {
	t.Parallel()
	check := exec.Command(filepath.Join(sharedCommand(t), "ferrule"), "gen", "--check", "sdkgo")
	out, err := check.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// The table of forms has what was measured: of RESULTS.md the least of the rounds; where that has no figure, the table says why.
func TestFormsSayWhatWasMeasured(t *testing.T) {
	results, err := os.ReadFile("RESULTS.md")
	require.NoError(t, err)
	chosen, err := choose("go")
	require.NoError(t, err)
	measured, medians := make(map[[2]string]string), make(map[[2]string]string) // the least, or why there is none, by case and contender
	for line := range strings.Lines(chosen[0].between(string(results))) {
		if cells := strings.Split(strings.Trim(line, "|\n "), " | "); len(cells) > 2 {
			measured[[2]string{cells[0], cells[1]}] = strings.TrimSpace(cells[2])
			if len(cells) > 4 {
				medians[[2]string{cells[0], cells[1]}] = cells[3]
			}
		}
	}
	columns := []string{"Ferrule, compiled in", "Ferrule, sidecar", "Ferrule, module", "Ferrule, library, isolated", "go-plugin, gRPC", "Go `plugin`"}
	const ends = "none: the host ends"
	reasons := map[string]string{ // what the table says of each
		ends: "the host ends", "none: it is part of the host's": "the host's", "none: it has none": "none", "none: opened again, it is the same one": "", "none: it compiles nothing when it is opened": "",
	}
	page := goPage(t)
	same := func(said, is string) {
		t.Helper()
		if reason, ok := reasons[is]; ok {
			assert.Equal(t, reason, said)
			return
		}
		a, b := figure(t, said), figure(t, is)
		assert.True(t, math.Abs(a-b) <= 0.05*b, "the page says %s, RESULTS.md %s", said, is)
	}
	for row, of := range map[string]work{
		"count vowels in 64 B": {fn: "count_vowels", size: 64}, "give back 1 MiB": {fn: "echo", size: 1 << 20}, "open to first result": {fn: opening}, "… compiled before": {fn: opening, cache: warmCache},
		"file": {fn: fileSize}, "memory of the host": {fn: hostMemory}, "memory of its processes": {fn: processMemory}, "after a panic in a call": {fn: panicking},
		"after a panic in another goroutine": {fn: crashing},
	} {
		line := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(row) + ` \|(.*)\|$`).FindStringSubmatch(page)
		require.NotNil(t, line, row)
		cells := strings.Split(line[1], "|")
		require.Len(t, cells, len(columns), row)
		for i, column := range columns {
			is, ok := measured[[2]string{of.String(), column}]
			require.True(t, ok, "%s, %s", of, column)
			same(strings.TrimSpace(cells[i]), is)
		}
	}
	counting := work{fn: "count_vowels", size: 64}.String()
	for sentence, is := range map[string]string{
		`through an interface takes (\S+ \S+) in the same run`:     measured[[2]string{counting, "a Go call through an interface"}],
		`the median of its calls was (\S+ \S+), and a sidecar's`:   medians[[2]string{counting, "Ferrule, library, isolated"}],
		`of its calls was \S+ \S+, and a sidecar's (\S+ [^. ]+)\.`: medians[[2]string{counting, "Ferrule, sidecar"}],
	} {
		said := regexp.MustCompile(sentence).FindStringSubmatch(strings.Join(strings.Fields(page), " "))
		require.NotNil(t, said, sentence)
		same(said[1], is)
	}
}

// figure reads a number with its unit.
func figure(t *testing.T, text string) float64 {
	t.Helper()
	number, unit, _ := strings.Cut(text, " ")
	n, err := strconv.ParseFloat(number, 64)
	require.NoError(t, err, text)
	by, ok := map[string]float64{"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20}[unit]
	require.True(t, ok, text)
	return n * by
}

// limits is a plug-in that does what some forms cannot.
const limits = `// Package limits does what some forms cannot.
//
//ferrule:plugin name=limits version=1.0.0
package limits

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"time"

	ferrule "github.com/ferrule-dev/ferrule/sdk-go"
)

var n atomic.Int64

// Start asks for what happens between calls.
//
//ferrule:start
func Start(ctx context.Context) (*State, error) {
	_, err := ferrule.Background(ctx)
	return &State{fmt.Sprint(err)}, nil
}

// State has the answer.
type State struct{ between string }

//ferrule:export
func (s *State) Between() string { return s.between }

// Spawn starts a goroutine that counts.
//
//ferrule:export
func Spawn() {
	go func() {
		for {
			n.Add(1)
			time.Sleep(time.Millisecond)
		}
	}()
}

//ferrule:export
func Count() int64 { return n.Load() }

// Wait lets the goroutine count.
//
//ferrule:export
func Wait() int64 {
	for before := n.Load(); n.Load() < before+3; {
		time.Sleep(time.Millisecond)
	}
	return n.Load()
}

//ferrule:export
func Dial(address string) string {
	_, err := net.Dial("tcp", address)
	return fmt.Sprint(err)
}

//ferrule:export
func Run(program string) string { return fmt.Sprint(exec.Command(program).Run()) }

//ferrule:export
func Read(path string) string {
	_, err := os.ReadFile(path)
	return fmt.Sprint(err)
}

//ferrule:export
func Given() int { return len(os.Environ()) + len(os.Args) }

//ferrule:export
func Print() { fmt.Println("HELLO"); fmt.Fprintln(os.Stderr, "hello") }

//ferrule:export
func Exit() { os.Exit(3) }

//ferrule:export
func Goexit() { runtime.Goexit() }
`

// What the page says that a form cannot do is tried, beside a form that can.
func TestLimitsOfForms(t *testing.T) {
	t.Parallel()
	fixture.Tool(t, "gcc", tools["gcc"])
	program := fixture.Tool(t, "true", "")
	dir := userModule(t)
	write(t, filepath.Join(dir, "limits.go"), limits)
	built := shellSession(t, dir, "set -e; export CC=gcc\nferrule gen >/dev/null\ngo build ./cmd/limits\n"+
		"go build -buildmode=c-shared -o limits.so ./cmd/limits\nGOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o limits.wasm ./cmd/limits\n", "")
	require.Empty(t, built)

	_, err := loader.Open(filepath.Join(dir, "limits.so"))
	require.ErrorIs(t, err, loader.ErrGoRuntime)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	open := func(file string, how loader.Option) func(name, in string) (string, error) {
		p, err := loader.Open(filepath.Join(dir, file), how, loader.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		t.Cleanup(func() { p.Close() })
		return func(name, in string) (string, error) {
			out, err := p.Call(t.Context(), name, []byte(in))
			return string(out), err
		}
	}
	module := open("limits.wasm", loader.WithEngine(wasmengine.Engine()))
	started := open("limits", sidecar.Program())
	library := open("limits.so", isolate.InWorker())

	said := func(call func(name, in string) (string, error), name, in string) string {
		t.Helper()
		out, err := call(name, in)
		require.NoError(t, err, name)
		return out
	}
	for _, call := range []func(name, in string) (string, error){started, library} {
		said(call, "spawn", "")
		before := said(call, "count", "")
		require.Eventually(t, func() bool { return said(call, "count", "") != before }, time.Minute, time.Millisecond)
		require.Equal(t, "<nil>", said(call, "between", ""))
		require.Equal(t, "<nil>", said(call, "dial", l.Addr().String()))
		require.Equal(t, "<nil>", said(call, "run", program))
		require.Equal(t, "<nil>", said(call, "read", filepath.Join(dir, "limits.go")))
		said(call, "print", "")
		for _, end := range []string{"exit", "goexit"} {
			_, err := call(end, "")
			if end == "exit" {
				_, crashed := errors.AsType[*loader.CrashError](err)
				require.True(t, crashed, "%v", err)
			} else {
				require.Error(t, err)
			}
			require.NotEmpty(t, said(call, "count", ""), "the next call works")
		}
	}
	said(module, "spawn", "")
	first := said(module, "wait", "") // while a call waits, goroutines run
	time.Sleep(20 * time.Millisecond)
	require.Equal(t, first, said(module, "count", ""), "between calls they stand still")
	require.Contains(t, said(module, "between", ""), "R27")
	require.NotEqual(t, "<nil>", said(module, "dial", l.Addr().String()))
	require.NotEqual(t, "<nil>", said(module, "run", program))
	require.NotEqual(t, "<nil>", said(module, "read", filepath.Join(dir, "limits.go")))
	require.Equal(t, "0", said(module, "given", ""))
	for _, end := range []string{"exit", "goexit"} {
		_, err := module(end, "")
		require.ErrorIs(t, err, loader.ErrPanic)
		require.Equal(t, "0", said(module, "count", ""), "the instance is started anew")
	}
}
