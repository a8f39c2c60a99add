// Command worker runs one contender. It reads one command a line from standard input, and answers each with one line on
// standard output, until its input ends:
//
//	open                        opens the contender and makes a first call, timed: only as the first command
//	check FN SIZE               calls once in each of GOMAXPROCS goroutines and compares the results
//	run FN SIZE GOROUTINES N    N calls in each goroutine, timed
//	tail FN SIZE 1 N            N calls, each timed: the time that 99 of 100 take at most
//
// The answers are `ok NANOSECONDS ALLOCATIONS`, `unsupported WHY` and `error WHY`. One process for each contender keeps
// the garbage of one out of the figures of another.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
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
	// close ends what the contender started; nil for nothing.
	close func()
}

// env is where a contender finds its files.
type env struct {
	build     string // what the harness built
	extismSDK string // the folder of the module of Extism's Go SDK
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
	flag.Parse()
	open := contenders[*name]
	if open == nil {
		fmt.Fprintf(os.Stderr, "worker: this build has no contender %q\n", *name)
		os.Exit(2)
	}
	w := worker{open: func() (*peer, error) { return open(e) }, calls: make(map[string][]call)}
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
}

type worker struct {
	open  func() (*peer, error)
	peer  *peer
	calls map[string][]call // of each function, one for each goroutine: making one may be dear
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
	var size, goroutines, n int
	fmt.Sscan(line, &cmd, &fn, &size, &goroutines, &n)
	if cmd == "open" {
		return w.first()
	}
	if w.peer == nil {
		if w.peer, err = w.open(); err != nil {
			return 0, 0, err
		}
	}
	switch cmd {
	case "check":
		return 0, 0, w.check(fn, text(size))
	case "run":
		return w.run(fn, text(size), goroutines, n)
	case "tail":
		return w.tail(fn, text(size), n)
	}
	return 0, 0, fmt.Errorf("command %q, expected open, check, run or tail", line)
}

// tail is the time that 99 of 100 calls take at most. Looking at the clock, some 50 ns, is in it.
func (w *worker) tail(fn string, in []byte, n int) (ns, allocs int64, err error) {
	calls, err := w.goroutines(fn, 1)
	if err != nil {
		return 0, 0, err
	}
	dst, times := make([]byte, 0, len(in)+64), make([]time.Duration, n)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range times {
		start := time.Now()
		if _, err := calls[0](dst, in); err != nil {
			return 0, 0, err
		}
		times[i] = time.Since(start)
	}
	runtime.ReadMemStats(&after)
	slices.Sort(times)
	return times[n*99/100].Nanoseconds(), int64(after.Mallocs - before.Mallocs), nil
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

func (w *worker) check(fn string, in []byte) error {
	calls, err := w.goroutines(fn, runtime.GOMAXPROCS(0))
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

func (w *worker) run(fn string, in []byte, goroutines, n int) (ns, allocs int64, err error) {
	calls, err := w.goroutines(fn, goroutines)
	if err != nil {
		return 0, 0, err
	}
	dsts := make([][]byte, goroutines)
	for i := range dsts {
		dsts[i] = make([]byte, 0, len(in)+64)
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	if goroutines == 1 {
		err = repeat(calls[0], dsts[0], in, n)
	} else {
		errs := make([]error, len(calls))
		var all sync.WaitGroup
		for i, c := range calls {
			all.Go(func() { errs[i] = repeat(c, dsts[i], in, n) })
		}
		all.Wait()
		err = errors.Join(errs...)
	}
	ns = time.Since(start).Nanoseconds()
	runtime.ReadMemStats(&after)
	return ns, int64(after.Mallocs - before.Mallocs), err
}

func repeat(c call, dst, in []byte, n int) error {
	for range n {
		if _, err := c(dst, in); err != nil {
			return err
		}
	}
	return nil
}

// text is the input of size bytes: the same for every contender.
func text(size int) []byte {
	const line = "The quick brown fox jumps over the lazy dog, AND EVERY OTHER DOG. "
	return bytes.Repeat([]byte(line), size/len(line)+1)[:size:size]
}
