package main

import (
	"fmt"
	"slices"
)

// contender is one row of the comparison.
type contender struct {
	name   string // on the worker's command line
	label  string // for people
	build  build  // which build of the worker runs it
	ours   bool
	needs  []artifact
	work   string // in which language its plug-in is
	module string // whose version the report shows; empty for none
	peer   string // whom its calls are compared with, in the parts of WebAssembly and of scripts; empty for none
}

const (
	ferruleModule = "github.com/ferrule-dev/ferrule"
	baseline      = "cgo"            // what ratios are of
	subject       = "ferrule-append" // what the other ratios are of
)

// id tells contenders apart that differ in the build only.
func (c *contender) id() string {
	if c.build == workerCgo || c.build == workerGoplugin {
		return c.name
	}
	return c.name + "/" + c.build.name
}

// all is every contender, in the order of the report. Another one is a line here, and a function in package worker.
var all = []*contender{
	{name: "ferrule-append", label: "Ferrule `Append`", build: workerCgo, ours: true,
		needs: []artifact{ferrulePlugin}, work: "C"},
	{name: "ferrule-call", label: "Ferrule `Call`", build: workerCgo, ours: true,
		needs: []artifact{ferrulePlugin}, work: "C"},
	{name: "ferrule-append", label: "Ferrule `Append`, cgo off", build: workerNoCgo, ours: true,
		needs: []artifact{ferrulePlugin}, work: "C"},
	{name: "ferrule-append", label: "Ferrule `Append`, portable", build: workerPortable, ours: true,
		needs: []artifact{ferrulePlugin}, work: "C"},
	{name: "ferrule-cancellable", label: "Ferrule `Append`, cancellable", build: workerCgo, ours: true,
		needs: []artifact{ferrulePlugin}, work: "C"},
	{name: "ferrule-serial", label: "Ferrule `Append`, serial", build: workerCgo, ours: true,
		needs: []artifact{serialPlugin}, work: "C"},
	{name: "ferrule-isolated", label: "Ferrule `Append`, isolated", build: workerCgo, ours: true,
		needs: []artifact{ferrulePlugin}, work: "C"},
	{name: "cgo", label: "cgo by hand", build: workerCgo, work: "C"},
	{name: "cgo-annotated", label: "cgo by hand, noescape + nocallback", build: workerCgo, work: "C"},
	{name: "purego-syscalln", label: "purego `SyscallN`", build: workerCgo, needs: []artifact{library}, work: "C",
		module: "github.com/ebitengine/purego"},
	{name: "purego-syscalln", label: "purego `SyscallN`, cgo off", build: workerNoCgo, needs: []artifact{library},
		work: "C", module: "github.com/ebitengine/purego"},
	{name: "purego-registerfunc", label: "purego `RegisterFunc`", build: workerCgo, needs: []artifact{library}, work: "C",
		module: "github.com/ebitengine/purego"},
	{name: "goplugin", label: "Go `plugin`", build: workerGoplugin, needs: []artifact{goPlugin}, work: "Go"},
	{name: "go-plugin-netrpc", label: "go-plugin, net/rpc", build: workerCgo, needs: []artifact{hashicorpPlugin},
		work: "Go", module: "github.com/hashicorp/go-plugin"},
	{name: "go-plugin-grpc", label: "go-plugin, gRPC", build: workerCgo, needs: []artifact{hashicorpPlugin},
		work: "Go", module: "github.com/hashicorp/go-plugin"},
	{name: "wazero", label: "wazero by hand", build: workerCgo, needs: []artifact{wazeroModule}, work: "C to WebAssembly",
		module: "github.com/tetratelabs/wazero"},
	{name: "extism", label: "Extism, the same C", build: workerCgo, needs: []artifact{extismModule},
		work: "C to WebAssembly", module: "github.com/extism/go-sdk"},
	{name: "extism-own", label: "Extism, its own module", build: workerCgo, work: "its own",
		module: "github.com/extism/go-sdk"},
}

// work is one column: what is done, on how many bytes, by how many goroutines.
type work struct {
	fn      string
	size    int
	callers int  // goroutines; 0 is one, too, and does not count them in its name
	percent int  // the time that so many of 100 calls take at most, in place of the mean; 0 for the mean
	quick   bool // part of a quick run
	cache   cache
}

// perCore is a number of callers: one for each core.
const perCore = -1

// The cases that are measured in new processes, which do nothing else, but for the last, which is looked at.
const (
	opening       = "open"
	panicking     = "panic"     // in the call: the time until the next good result
	crashing      = "crash"     // in a goroutine of the plug-in's own, the same
	hostMemory    = "host"      // what one more open plug-in takes of the host's
	processMemory = "processes" // and of that of the processes which it has for the plug-in
	fileSize      = "file"
)

// alone reports whether the case is one of those.
func (w work) alone() bool {
	return slices.Contains([]string{opening, panicking, crashing, hostMemory, processMemory, fileSize}, w.fn)
}

// fails reports whether a plug-in fails in the case.
func (w work) fails() bool { return w.fn == panicking || w.fn == crashing }

// inBytes reports whether the case's figures are bytes, in place of times.
func (w work) inBytes() bool {
	return slices.Contains([]string{hostMemory, processMemory, fileSize}, w.fn)
}

// cache is where an opening finds what was compiled before.
type cache string

const (
	noCache    cache = ""
	emptyCache cache = "empty cache"
	warmCache  cache = "warm cache" // with the same module in it
)

var cases = []work{
	{fn: "echo", size: 0}, {fn: "echo", size: 64, quick: true}, {fn: "echo", size: 4 << 10, quick: true},
	{fn: "echo", size: 1 << 20},
	{fn: "count_vowels", size: 0}, {fn: "count_vowels", size: 64, quick: true},
	{fn: "count_vowels", size: 4 << 10}, {fn: "count_vowels", size: 1 << 20},
	{fn: "echo", size: 64, callers: perCore, quick: true}, {fn: "echo", size: 4 << 10, callers: perCore},
	{fn: "count_vowels", size: 64, callers: perCore}, {fn: "count_vowels", size: 4 << 10, callers: perCore},
	{fn: "echo", size: 64, percent: 99, quick: true},
	{fn: "ask", size: 64, quick: true},
	{fn: opening, size: 64, quick: true},
}

func (w work) String() string {
	switch w.fn {
	case opening:
		if w.cache != noCache {
			return "open to first result, " + string(w.cache)
		}
		return "open to first result"
	case panicking:
		return "a panic in the call, to the next result"
	case crashing:
		return "a panic in another goroutine, to the next result"
	case hostMemory:
		return "memory of the host, one more open"
	case processMemory:
		return "memory of its processes, one more open"
	case fileSize:
		return "file"
	case jsonWithHostCall:
		return "JSON with a host function"
	case "ask":
		return "host function, " + bytesText(w.size)
	}
	s := w.fn + ", " + bytesText(w.size)
	switch {
	case w.callers == perCore:
		s += ", parallel"
	case w.callers == 1:
		s += ", 1 caller"
	case w.callers > 1:
		s += fmt.Sprintf(", %d callers", w.callers)
	}
	if w.percent > 0 {
		s += fmt.Sprintf(", p%d", w.percent)
	}
	return s
}
