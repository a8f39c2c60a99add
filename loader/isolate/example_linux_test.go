package isolate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// library is a fixture. An example cannot be skipped: on Linux there is a compiler, which all tests need.
func library(name string) string {
	path, ok := fixture.OfExample(name)
	if !ok {
		panic("no library " + path + ": a C compiler is missing: apt-get install gcc")
	}
	return path
}

// A crash is an error of the call that was in the worker; the next call has a new worker.
func ExampleInWorker() {
	p, err := loader.Open(library("fault_abort"), isolate.InWorker())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	_, err = p.Call(context.Background(), "fault", nil) // it calls abort
	var crash *loader.CrashError
	if errors.As(err, &crash) {
		fmt.Println(crash.Func, "crashed:", crash.Signal)
		fmt.Println(strings.Join(crash.Output, "; "))
	}
	out, err := p.Call(context.Background(), "echo", []byte("goes on"))
	fmt.Println(string(out), err)
	var where loader.Isolation
	where, isolated := p.Isolation()
	fmt.Println("worker", where.Attempt, isolated)
	// Output:
	// fault crashed: aborted
	// first line; last words
	// goes on <nil>
	// worker 2 true
}

// A function that does not return is ended with its worker.
func ExampleWithGrace() {
	p, err := loader.Open(library("fault_infinite_loop"), loader.WithCallTimeout(20*time.Millisecond),
		isolate.InWorker(isolate.WithGrace(30*time.Millisecond)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	_, err = p.Call(context.Background(), "fault", nil)
	var late *loader.DeadlineError
	if errors.As(err, &late) {
		fmt.Println(late.Func, "was ended", late.Grace, "after it was asked to stop:", errors.Is(err, context.DeadlineExceeded))
	}
	// Output: fault was ended 30ms after it was asked to stop: true
}

// The options bound what a worker may take, and say what it gets.
func ExampleOption() {
	program, err := os.Executable() // imports package isolate, as the worker's program has to
	if err != nil {
		fmt.Println(err)
		return
	}
	var printed bytes.Buffer // one worker writes to it; of two it would need a lock
	options := []isolate.Option{
		isolate.WithBinary(program),
		isolate.WithEnv("LANG=C.UTF-8"), // and no other variable
		isolate.WithOutput(&printed),
		isolate.WithMaxMessage(1 << 20),
		isolate.WithStartTimeout(time.Minute),
		isolate.WithStopTimeout(time.Second),
		isolate.WithRestart(10*time.Millisecond, 3, time.Second),
	}
	p, err := loader.Open(library("fault_none"), isolate.InWorker(options...))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Call(context.Background(), "echo", make([]byte, 2<<20))
	fmt.Println(errors.Is(err, loader.ErrNoMemory), p.Close())
	// Output: true <nil>
}

// Plug-ins of one trust class share a worker, and its end.
func ExampleGroup() {
	var group *isolate.Group = isolate.NewGroup("partners")
	var workers []int
	for _, name := range []string{"echo", "fault_none"} {
		p, err := loader.Open(library(name), isolate.InGroup(group))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer p.Close()
		where, _ := p.Isolation()
		workers = append(workers, where.PID)
	}
	fmt.Println(group.Name(), workers[0] == workers[1], workers[0] != os.Getpid())
	// Output: partners true true
}

// A plug-in that breaks a rule of the contract is told so, with the rule.
func ExampleInWorker_contract() {
	p, err := loader.Open(library("negative_status"), isolate.InWorker())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	_, err = p.Call(context.Background(), "answer", nil)
	var broken *loader.ContractError
	if errors.As(err, &broken) {
		fmt.Println(broken.Plugin, broken.Func, "broke", broken.Rule)
	}
	// Output: negative_status answer broke R10
}

// The file that runs is the one that was verified, in this process as in a worker.
func ExampleInWorker_digest() {
	_, err := loader.Open(library("echo"), isolate.InWorker(), loader.WithSHA256(strings.Repeat("00", 32)))
	fmt.Println(errors.Is(err, loader.ErrDigest))
	// Output: true
}

// The engine of workers stands beside others: what it does not recognise is theirs.
func ExampleEngine() {
	p, err := loader.Open(library("echo"), loader.WithEngine(isolate.Engine()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	out, err := p.Call(context.Background(), "echo", []byte("apart"))
	_, isolated := p.Isolation()
	fmt.Println(string(out), err, isolated)
	// Output: apart <nil> true
}
