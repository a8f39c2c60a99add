// Command worker runs one contender. It reads one command a line from standard input, and answers each with one line on
// standard output, until its input ends:
//
//	open                        opens the contender and makes a first call, timed: only as the first command
//	check FN SIZE GOROUTINES          calls in each goroutine and compares the results
//	run FN SIZE GOROUTINES N          N calls in each goroutine, timed
//	spread FN SIZE GOROUTINES N P     N calls in each goroutine, each timed: what P of 100 take at most
//	fail HOW                    opens the contender, and has its plug-in fail: the time from that call to the next good result
//	memory WHOSE                opens the contender several times: the bytes that one more costs the host, or the processes that it starts
//
// The answers are `ok NANOSECONDS ALLOCATIONS`, or with bytes in place of them, `unsupported WHY` and `error WHY`. One process for each contender keeps
// the garbage of one out of the figures of another.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
)

// call does one piece of work on in, and returns its result: appended to dst where the contender can, otherwise in
// memory of its own. It is for one goroutine.
type call func(dst, in []byte) ([]byte, error)

// peer is a contender that is open.
type peer struct {
	// fn makes the call of "echo", "count_vowels" or "ask", or on streams of "sha256" or "pipe", for one goroutine.
	fn func(name string) (call, error)
	// count reads the result of count_vowels; nil for eight bytes, little-endian.
	count func(out []byte) (uint64, error)
	// compiles says that it compiles what it opens, and keeps that in env.cache.
	compiles bool
	// again opens it anew after a failure, where calls do not work any more by themselves; nil where they do.
	again func() (*peer, error)
	// once says that it is the same one when it is opened again.
	once bool
	// close ends what the contender started; nil for nothing.
	close func()
}

// runtimeConfig is that of wazero, by itself or in Extism's SDK: as it comes, but for the cache where there is one.
func (e env) runtimeConfig() (wazero.RuntimeConfig, error) {
	config := wazero.NewRuntimeConfig()
	if e.cache == "" {
		return config, nil
	}
	cache, err := wazero.NewCompilationCacheWithDir(e.cache)
	if err != nil {
		return nil, err
	}
	return config.WithCompilationCache(cache), nil
}

// env is where a contender finds its files.
type env struct {
	build     string // what the harness built
	extismSDK string // the folder of the module of Extism's Go SDK
	pdk       string // a module of the crate extism-pdk
	cache     string // the folder of the compilation cache; empty for none
}

func (e env) path(name string) string { return filepath.Join(e.build, name) }

// contenders is what this build of the worker has: each file adds its own.
var contenders = map[string]func(env) (*peer, error){}

// unsupported says why a contender has nothing to show in a case.
type unsupported string

func (u unsupported) Error() string { return string(u) }

func main() {
	var e env
	name := flag.String("contender", "", "which one to run")
	flag.StringVar(&e.build, "build", "", "folder of the files that the harness built")
	flag.StringVar(&e.extismSDK, "extism", "", "folder of the module of Extism's Go SDK")
	flag.StringVar(&e.pdk, "pdk", "", "module of the crate extism-pdk")
	flag.StringVar(&e.cache, "cache", "", "folder of the compilation cache, for contenders that compile; empty for none")
	flag.Parse()
	open := contenders[*name]
	if open == nil {
		fmt.Fprintf(os.Stderr, "worker: this build has no contender %q\n", *name)
		os.Exit(2)
	}
	w := worker{open: func() (*peer, error) {
		p, err := open(e)
		if err == nil && e.cache != "" && !p.compiles {
			return p, unsupported("it compiles nothing when it is opened")
		}
		return p, err
	}, calls: make(map[string][]call)}
	defer w.close()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		ns, allocs, err := w.do(lines.Text())
		var no unsupported
		switch {
		case errors.As(err, &no):
			fmt.Printf("unsupported %s\n", no)
		case err != nil:
			fmt.Printf("error %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
		default:
			fmt.Printf("ok %d %d\n", ns, allocs)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Printf("error %s\n", err)
	}
}

type worker struct {
	open  func() (*peer, error)
	peer  *peer
	calls map[string][]call // of each function, one for each goroutine: making one may be dear
	text  []byte            // the input of the last command: the next is often of the same size

	textOf string // the function of the last command
}

// goroutines returns the calls of fn for n goroutines.
func (w *worker) goroutines(fn string, n int) ([]call, error) {
	for len(w.calls[fn]) < n {
		c, err := w.peer.fn(fn)
		if err != nil {
			return nil, err
		}
		w.calls[fn] = append(w.calls[fn], c)
	}
	return w.calls[fn][:n], nil
}

func (w *worker) close() {
	if w.peer != nil && w.peer.close != nil {
		w.peer.close()
	}
}

func (w *worker) do(line string) (ns, allocs int64, err error) {
	var cmd, fn string
	var size, goroutines, n, percent int
	fmt.Sscan(line, &cmd, &fn, &size, &goroutines, &n, &percent)
	switch cmd {
	case "open":
		return w.first()
	case "fail":
		ns, err = w.fail(fn)
		return ns, 0, err
	case "memory":
		bytes, err := w.memory(fn)
		return bytes, 0, err
	}
	if w.peer == nil {
		if w.peer, err = w.open(); err != nil {
			return 0, 0, err
		}
	}
	if w.textOf != fn || len(w.text) != size {
		w.text, w.textOf = text(size), fn
		if fn == "checkout" {
			w.text = []byte(cart)
		}
	}
	switch cmd {
	case "check":
		return 0, 0, w.check(fn, w.text, goroutines)
	case "run":
		return w.run(fn, w.text, goroutines, repeat(n))
	case "spread":
		times := make([]time.Duration, goroutines*n)
		_, allocs, err := w.run(fn, w.text, goroutines, func(i int, c call, dst, in []byte) error {
			return timed(c, dst, in, times[i*n:(i+1)*n])
		})
		if err != nil {
			return 0, 0, err
		}
		slices.Sort(times)
		return times[len(times)*percent/100].Nanoseconds(), allocs, nil
	}
	return 0, 0, fmt.Errorf("command %q, expected open, check, run, spread, fail or memory", line)
}

// first is how long it takes from nothing to the first result.
func (w *worker) first() (ns, allocs int64, err error) {
	in := text(64)
	dst := make([]byte, 0, 64)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	if w.peer, err = w.open(); err != nil {
		return 0, 0, err
	}
	c, err := w.peer.fn("count_vowels")
	if err != nil {
		return 0, 0, err
	}
	out, err := c(dst, in)
	ns = time.Since(start).Nanoseconds()
	runtime.ReadMemStats(&after)
	if err == nil {
		err = w.verify("count_vowels", in, out)
	}
	return ns, int64(after.Mallocs - before.Mallocs), err
}

func (w *worker) check(fn string, in []byte, goroutines int) error {
	calls, err := w.goroutines(fn, goroutines)
	if err != nil {
		return err
	}
	errs := make([]error, len(calls))
	var all sync.WaitGroup
	for i, c := range calls {
		all.Go(func() {
			for _, dst := range [][]byte{nil, make([]byte, 0, len(in)+8)} {
				out, err := c(dst, in)
				if err == nil {
					err = w.verify(fn, in, out)
				}
				errs[i] = errors.Join(errs[i], err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (w *worker) verify(fn string, in, out []byte) error {
	if fn == "sha256" {
		if want := sha256.Sum256(in); !bytes.Equal(out, want[:]) {
			return fmt.Errorf("sha256 of %d bytes returned %x, expected %x", len(in), out, want)
		}
		return nil
	}
	if fn == "checkout" {
		var got struct {
			Cents  int
			Reason string
		}
		if err := json.Unmarshal(out, &got); err != nil {
			return fmt.Errorf("checkout returned %q, expected JSON: %w", out, err)
		}
		if got.Cents != 2500 || got.Reason != "20 % for a new customer" {
			return fmt.Errorf("checkout returned %q, expected 2500 cents for a new customer", out)
		}
		return nil
	}
	if fn != "count_vowels" {
		if !bytes.Equal(in, out) {
			return fmt.Errorf("%s of %d bytes returned %d bytes that differ from them", fn, len(in), len(out))
		}
		return nil
	}
	var want uint64
	for _, b := range in {
		if strings.IndexByte("aeiouAEIOU", b) >= 0 {
			want++
		}
	}
	count := w.peer.count
	if count == nil {
		count = func(out []byte) (uint64, error) {
			if len(out) != 8 {
				return 0, fmt.Errorf("count_vowels of %d bytes returned %d bytes, expected 8", len(in), len(out))
			}
			return binary.LittleEndian.Uint64(out), nil
		}
	}
	got, err := count(out)
	if err == nil && got != want {
		err = fmt.Errorf("count_vowels of %d bytes returned %d, expected %d", len(in), got, want)
	}
	return err
}

// run has each goroutine do its part, which gets the goroutine's number.
func (w *worker) run(fn string, in []byte, goroutines int, part func(i int, c call, dst, in []byte) error) (ns,
	allocs int64, err error) {
	calls, err := w.goroutines(fn, goroutines)
	if err != nil {
		return 0, 0, err
	}
	dsts := make([][]byte, goroutines)
	for i := range dsts {
		dsts[i] = make([]byte, 0, len(in)+64)
		clear(dsts[i][:cap(dsts[i])]) // the system gives memory when it is touched: not in the time of a call
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	if goroutines == 1 {
		err = part(0, calls[0], dsts[0], in)
	} else {
		errs := make([]error, len(calls))
		var all sync.WaitGroup
		for i, c := range calls {
			all.Go(func() { errs[i] = part(i, c, dsts[i], in) })
		}
		all.Wait()
		err = errors.Join(errs...)
	}
	ns = time.Since(start).Nanoseconds()
	runtime.ReadMemStats(&after)
	return ns, int64(after.Mallocs - before.Mallocs), err
}

// repeat makes n calls.
func repeat(n int) func(i int, c call, dst, in []byte) error {
	return func(_ int, c call, dst, in []byte) error {
		for range n {
			if _, err := c(dst, in); err != nil {
				return err
			}
		}
		return nil
	}
}

// timed makes a call for each of times. Looking at the clock, some 50 ns, is in them.
func timed(c call, dst, in []byte, times []time.Duration) error {
	for i := range times {
		start := time.Now()
		if _, err := c(dst, in); err != nil {
			return err
		}
		times[i] = time.Since(start)
	}
	return nil
}

// cart is the input of checkout.
const cart = `{"customer":"grace","total_cents":12500,"items":[{"sku":"A-1","quantity":2,"cents":5000},{"sku":"B-7","quantity":1,"cents":2500}]}`

// text is the input of size bytes: the same for every contender.
func text(size int) []byte {
	const line = "The quick brown fox jumps over the lazy dog, AND EVERY OTHER DOG. "
	return bytes.Repeat([]byte(line), size/len(line)+1)[:size:size]
}
