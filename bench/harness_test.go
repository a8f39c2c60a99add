package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// built builds everything, or skips where a tool is missing: in CI that is a failure.
func built(t *testing.T) places {
	t.Helper()
	dir, err := moduleDir(t.Context())
	require.NoError(t, err)
	at, err := prepare(t.Context(), dir, slices.Concat(all, streamContenders, wasmContenders, sidecarContenders, scriptContenders, goContenders))
	var missing errMissing
	if errors.As(err, &missing) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	require.NoError(t, err)
	return at
}

// Every contender returns the right result in every case, or says why it has none; measuring gives a figure for each.
func TestEveryContender(t *testing.T) {
	at := built(t)
	p := plan{contenders: all, cases: cases, rounds: 2, target: time.Millisecond, opens: 1}
	r, err := measure(t.Context(), p, at, io.Discard)
	require.NoError(t, err)
	for i, w := range r.cases {
		for k, c := range r.contenders {
			cell := r.cells[i][k]
			none := c.name == "cgo-annotated" && w.fn == "ask" ||
				c.name == "extism-own" && w.fn != "count_vowels" && w.fn != opening
			require.Equal(t, none, cell.why != "", "%s, %s: %s", w, c.label, cell.why)
			if none {
				continue
			}
			require.Len(t, cell.ns, p.rounds, "%s, %s", w, c.label)
			require.Positive(t, slices.Min(cell.ns), "%s, %s", w, c.label)
		}
	}
}

// The same as the work and the callers grow, but for what takes long: the longest payload that is tested is more than gRPC
// takes without an option, and than the modules have room for when they begin.
func TestEveryContenderAsWorkGrows(t *testing.T) {
	at := built(t)
	grown := slices.DeleteFunc(slices.Clone(sizeCases), func(w work) bool { return w.size > 16<<20 })
	many := slices.DeleteFunc(slices.Clone(callerCases), func(w work) bool { return w.callers != slices.Max(callerCounts) })
	for _, cases := range [][]work{grown, many} {
		p := plan{contenders: costContenders, cases: cases, rounds: leastRounds + 1, target: time.Millisecond,
			most: time.Nanosecond}
		r, err := measure(t.Context(), p, at, io.Discard)
		require.NoError(t, err)
		for i, w := range r.cases {
			for k, c := range r.contenders {
				cell := r.cells[i][k]
				require.Empty(t, cell.why, "%s, %s", w, c.label)
				require.Len(t, cell.ns, leastRounds, "%s, %s: what is slow has no more rounds than it must", w, c.label)
				require.Positive(t, slices.Min(cell.ns), "%s, %s", w, c.label)
			}
		}
	}
}

// The same of WebAssembly, and of its openings with a cache, each of which leaves what it should: a warm one has something from before.
func TestEveryContenderOfWebAssembly(t *testing.T) {
	at := built(t)
	p := plan{contenders: wasmContenders, cases: wasmCases, rounds: 2, target: time.Millisecond, opens: 1}
	r, err := measure(t.Context(), p, at, io.Discard)
	require.NoError(t, err)
	for i, w := range r.cases {
		for k, c := range r.contenders {
			native := slices.Contains([]string{"ferrule-append", "ferrule-isolated"}, c.name)
			none := native && w.cache != noCache || strings.HasSuffix(c.name, "extism-own") && w.fn == "echo"
			require.Equal(t, none, r.cells[i][k].why != "", "%s, %s: %s", w, c.label, r.cells[i][k].why)
			if !none {
				require.Len(t, r.cells[i][k].ns, p.rounds, "%s, %s", w, c.label)
				require.Positive(t, slices.Min(r.cells[i][k].ns), "%s, %s", w, c.label)
			}
		}
	}
	for _, g := range wasmGoals {
		require.Positive(t, g.measured(r), g.what)
	}
}

// The same of sidecars. The one in Python has what its author would not try in vain: the smallest and the largest input, and one caller.
func TestEveryContenderOfSidecars(t *testing.T) {
	at := built(t)
	p := plan{contenders: sidecarContenders, cases: sidecarCases, rounds: 2, target: time.Millisecond, opens: 1}
	r, err := measure(t.Context(), p, at, io.Discard)
	require.NoError(t, err)
	for i, w := range r.cases {
		for k, c := range r.contenders {
			none := c.name == inPython && (w.callers > 1 || w.size == 4<<10 || w.size == 64<<10)
			require.Equal(t, none, r.cells[i][k].why != "", "%s, %s: %s", w, c.label, r.cells[i][k].why)
			if !none {
				require.Len(t, r.cells[i][k].ns, p.rounds, "%s, %s", w, c.label)
				require.Positive(t, slices.Min(r.cells[i][k].ns), "%s, %s", w, c.label)
			}
		}
	}
	for _, g := range sidecarGoals {
		require.Positive(t, g.measured(r), g.what)
	}
}

// The same of scripts, of which only that in node may be missing.
func TestEveryContenderOfScripts(t *testing.T) {
	at := built(t)
	_, noNode := exec.LookPath("node")
	p := plan{contenders: scriptContenders, cases: scriptCases, rounds: 2, target: time.Millisecond}
	r, err := measure(t.Context(), p, at, io.Discard)
	require.NoError(t, err)
	for i, w := range r.cases {
		for k, c := range r.contenders {
			none := c.name == "script-node-sidecar" && noNode != nil
			require.Equal(t, none, r.cells[i][k].why != "", "%s, %s: %s", w, c.label, r.cells[i][k].why)
			if !none {
				require.Len(t, r.cells[i][k].ns, p.rounds, "%s, %s", w, c.label)
				require.Positive(t, slices.Min(r.cells[i][k].ns), "%s, %s", w, c.label)
			}
		}
	}
	for _, g := range scriptGoals {
		require.Positive(t, g.measured(r), g.what)
	}
}

// The same of plug-ins in Go. Where one fails, so does its host, or the next call works: nobody is told that it does who has not seen it.
func TestEveryContenderOfGo(t *testing.T) {
	at := built(t)
	p := plan{contenders: goContenders, cases: goCases, rounds: 1, target: time.Millisecond, opens: 1}
	r, err := measure(t.Context(), p, at, io.Discard)
	require.NoError(t, err)
	const ends, same, part = "the host ends", "opened again, it is the same one", "it is part of the host's"
	none := map[string]map[string]string{ // why, by case and contender
		"a panic in the call, to the next result":          {goInterface: ends, "goplugin": ends},
		"a panic in another goroutine, to the next result": {goInterface: ends, "goplugin": ends, goBuiltin: ends},
		"file":                                   {goInterface: part, goBuiltin: part},
		"memory of the host, one more open":      {goInterface: same, "goplugin": same},
		"memory of its processes, one more open": {goInterface: same, "goplugin": same, goBuiltin: "it has none", goModule: "it has none"},
	}
	for i, w := range r.cases {
		for k, c := range r.contenders {
			why := none[w.String()][c.name]
			if w.cache != noCache && c.name != goModule {
				why = "it compiles nothing when it is opened"
			}
			if runtime.GOOS != "linux" && strings.HasPrefix(w.String(), "memory") {
				why = "Linux alone tells it"
			}
			require.Equal(t, why, r.cells[i][k].why, "%s, %s", w, c.label)
			if why == "" {
				require.Len(t, r.cells[i][k].ns, p.rounds, "%s, %s", w, c.label)
				require.True(t, slices.Min(r.cells[i][k].ns) > 0 || w.fn == hostMemory, "%s, %s", w, c.label)
			}
		}
	}
	for _, g := range goGoals {
		require.Positive(t, g.measured(r), g.what)
	}
}

// A contender that compiles keeps that in the cache that it is given: warm, it is the same folder each time, and empty another.
func TestCaches(t *testing.T) {
	at := built(t)
	for _, c := range wasmContenders {
		r := &results{caches: t.TempDir()}
		for _, how := range []cache{emptyCache, warmCache, warmCache} {
			_, _, err := r.alone(work{fn: opening, cache: how}, c, at)
			if _, no := errors.AsType[unsupported](err); no {
				continue
			}
			require.NoError(t, err, "%s, %s", c.label, how)
		}
		folders, err := os.ReadDir(r.caches)
		require.NoError(t, err)
		if strings.HasPrefix(c.label, "Ferrule `Append`") {
			continue
		}
		require.Len(t, folders, 1, "%s: that of the warm ones", c.label)
		kept := 0
		require.NoError(t, filepath.WalkDir(filepath.Join(r.caches, folders[0].Name()), func(_ string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				kept++
			}
			return err
		}))
		require.Positive(t, kept, c.label)
	}
}

// The same of streams.
func TestEveryContenderOfStreams(t *testing.T) {
	at := built(t)
	p := plan{contenders: streamContenders, cases: streamCases, rounds: 1, target: time.Millisecond}
	r, err := measure(t.Context(), p, at, io.Discard)
	require.NoError(t, err)
	for i, w := range r.cases {
		for k, c := range r.contenders {
			none := w.fn == "pipe" && strings.HasPrefix(c.name, atOnce)
			require.Equal(t, none, r.cells[i][k].why != "", "%s, %s: %s", w, c.label, r.cells[i][k].why)
			if !none {
				require.Positive(t, r.cells[i][k].ns[0], "%s, %s", w, c.label)
			}
		}
	}
}

// No process of a contender's outlives its worker: neither when it ends nor when it is killed.
func TestNoProcessIsLeft(t *testing.T) {
	at := built(t)
	grpc := slices.IndexFunc(all, func(c *contender) bool { return c.name == "go-plugin-grpc" })
	for name, stop := range map[string]func(*process){
		"end":  func(p *process) { p.end() },
		"kill": func(p *process) { p.kill(); p.end() },
	} {
		t.Run(name, func(t *testing.T) {
			p, err := start(all[grpc], at, "")
			require.NoError(t, err)
			_, _, err = p.do("check echo 64 1")
			require.NoError(t, err)
			stop(p)
			require.Eventually(t, func() bool { return syscall.Kill(-p.cmd.Process.Pid, 0) == syscall.ESRCH },
				time.Minute, 10*time.Millisecond)
		})
	}
}

// A run that is interrupted ends with the reason.
func TestInterrupted(t *testing.T) {
	at := built(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := plan{contenders: all[:1], cases: cases[:1], rounds: 1, target: time.Millisecond}
	_, err := measure(ctx, p, at, io.Discard)
	require.ErrorIs(t, err, context.Canceled)
}

// A worker that fails is an error that names the contender and what was asked of it.
func TestWorkerFails(t *testing.T) {
	at := built(t)
	at.build += "/nowhere"
	_, err := start(all[0], at, "")
	require.ErrorContains(t, err, "nowhere")

	p, err := start(all[0], built(t), "")
	require.NoError(t, err)
	defer p.end()
	_, _, err = p.do("dance")
	require.EqualError(t, err, "Ferrule `Append`: \"dance\": command \"dance\", expected open, check, run, spread, fail or memory")
	_, _, err = p.do("check no_such_function 64 1")
	require.ErrorContains(t, err, "no_such_function")
}

func TestMissingToolsAreNamed(t *testing.T) {
	dir, err := moduleDir(t.Context())
	require.NoError(t, err)
	t.Setenv("PATH", "")
	_, err = buildAll(t.Context(), dir, slices.Concat(all, wasmContenders, sidecarContenders, scriptContenders, goContenders))
	for tool, install := range tools {
		require.ErrorContains(t, err, fmt.Sprintf("%s is missing: %s", tool, install))
	}
}

func TestOnly(t *testing.T) {
	plans := func(o options) map[string]plan {
		chosen, err := o.plans()
		require.NoError(t, err)
		plans := make(map[string]plan)
		for _, p := range chosen {
			plans[p.name] = p.plan
		}
		return plans
	}
	ids := func(p plan) (ids []string) {
		for _, c := range p.contenders {
			ids = append(ids, c.id())
		}
		return ids
	}
	p := plans(options{parts: "peers", only: "wazero"})["peers"]
	require.Equal(t, []string{subject, baseline, "wazero"}, ids(p), "what ratios are of stays")
	require.Len(t, p.cases, len(cases))

	p = plans(options{only: "^host function"})["peers"]
	require.Len(t, p.contenders, len(all))
	require.Len(t, p.cases, 1)
	require.Len(t, cases, 15, "what is left out of one plan is in the next")

	p = plans(options{parts: "wasm", only: "^ferrule-extism-own$"})["wasm"]
	require.Equal(t, []string{subject, byHand, ownModule, "extism-own"}, ids(p), "so does the peer")

	require.Len(t, plans(options{}), 7)
	require.Len(t, plans(options{only: "16 MiB"}), 1, "a part without such a case is left out")
	require.Len(t, plans(options{parts: "callers,streams"}), 2)
	for name, p := range plans(options{parts: "peers,sizes,callers,wasm,sidecar,script,go,streams", quick: true}) {
		require.Equal(t, 5, p.rounds, name)
		require.NotEmpty(t, p.cases, name)
	}
	for _, o := range []options{{only: "nonsense"}, {only: "("}, {parts: "nonsense"}} {
		_, err := o.plans()
		require.Error(t, err, o)
	}
}

// How many calls are made does not depend on what else the system does: calls of 100 ns are 10,000 in a millisecond, though most runs are interrupted.
func TestCalibrate(t *testing.T) {
	runs := 0
	n, err := calibrate(time.Millisecond, func(n int) (time.Duration, error) {
		took := time.Duration(n) * 100
		if runs++; runs%4 != 0 {
			took += 20 * time.Millisecond
		}
		return took, nil
	})
	require.NoError(t, err)
	require.Equal(t, 10_000, n)

	runs = 0
	n, err = calibrate(time.Millisecond, func(int) (time.Duration, error) { runs++; return time.Second, nil })
	require.NoError(t, err)
	require.Equal(t, [2]int{1, 1}, [2]int{n, runs}, "what takes long by itself is not made again and again")

	_, err = calibrate(time.Millisecond, func(int) (time.Duration, error) { return 0, io.EOF })
	require.ErrorIs(t, err, io.EOF)
}

// Rows and columns are told apart by what the report and the workers know them by.
func TestNamesAreUnique(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range slices.Concat(all, slices.DeleteFunc(slices.Concat(wasmContenders, sidecarContenders, goContenders), func(c *contender) bool { return slices.Contains(all, c) })) {
		require.False(t, seen[c.id()] || seen[c.label], c.label)
		seen[c.id()], seen[c.label] = true, true
	}
	for _, cases := range [][]work{cases, sizeCases, callerCases, wasmCases, sidecarCases, goCases, streamCases} {
		of := make(map[string]bool)
		for _, w := range cases {
			require.False(t, of[w.String()] || seen[w.String()], w.String())
			of[w.String()] = true
		}
	}
	require.True(t, seen[baseline] && seen[subject] && seen[byHand])
	for _, c := range slices.Concat(wasmContenders, sidecarContenders) {
		require.True(t, c.peer == "" || seen[c.peer], "%s: %s", c.label, c.peer)
	}
}
