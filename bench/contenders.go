package main

// contender is one row of the comparison.
type contender struct {
	name   string // on the worker's command line
	label  string // for people
	build  build  // which build of the worker runs it
	ours   bool
	needs  []artifact
	work   string // in which language its plug-in is
	module string // whose version the report shows; empty for none
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
	fn       string
	size     int
	parallel bool
	tail     bool // the slowest of 100 calls, in place of the mean
	quick    bool // part of a quick run
}

// opening is the case that is measured in new processes.
const opening = "open"

var cases = []work{
	{fn: "echo", size: 0}, {fn: "echo", size: 64, quick: true}, {fn: "echo", size: 4 << 10, quick: true},
	{fn: "echo", size: 1 << 20},
	{fn: "count_vowels", size: 0}, {fn: "count_vowels", size: 64, quick: true},
	{fn: "count_vowels", size: 4 << 10}, {fn: "count_vowels", size: 1 << 20},
	{fn: "echo", size: 64, parallel: true, quick: true}, {fn: "echo", size: 4 << 10, parallel: true},
	{fn: "count_vowels", size: 64, parallel: true}, {fn: "count_vowels", size: 4 << 10, parallel: true},
	{fn: "echo", size: 64, tail: true, quick: true},
	{fn: "ask", size: 64, quick: true},
	{fn: opening, size: 64, quick: true},
}

func (w work) String() string {
	size := map[int]string{0: "0 B", 64: "64 B", 4 << 10: "4 KiB", 1 << 20: "1 MiB", streamSize: "32 MiB"}[w.size]
	switch {
	case w.fn == opening:
		return "open to first result"
	case w.fn == "ask":
		return "host function, " + size
	case w.tail:
		return w.fn + ", " + size + ", p99"
	case w.parallel:
		return w.fn + ", " + size + ", parallel"
	}
	return w.fn + ", " + size
}
