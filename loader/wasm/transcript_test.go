package wasm_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/internal/transcript"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// Each entry is done with the module and with the library that the same source compiles to: what a host sees is the same.
func TestTranscripts(t *testing.T) {
	open := func(path string, opts ...loader.Option) (*loader.Plugin, error) {
		return loader.Open(path, append(opts[:len(opts):len(opts)], loader.WithEngine(wasm.Engine()))...)
	}
	fixture.Tool(t, "clang", "apt-get install clang lld wasi-libc") // without it no entry has a module, and nothing was called
	calls := 0
	for _, c := range transcript.Table {
		t.Run(c.Name, func(t *testing.T) {
			if why := notWasm[c.Name]; why != "" {
				t.Skip(why)
			}
			library, module := c.Library.Built(t), c.Library.Wasm(t)
			native, own := c.Record(t, loader.Open, library), c.Record(t, open, module)
			assert.Equal(t, told(c.Name, native.Lines, library), told(c.Name, own.Lines, module))
			assert.Equal(t, native.Calls, own.Calls)
			calls += own.Calls
		})
	}
	t.Logf("%d calls", calls)
	assert.GreaterOrEqual(t, calls, 200)
}

// told is what is to be the same: without what two files of the same source cannot have in common, and the lines that are told of alone.
func told(name string, lines []string, path string) (told []string) {
	for _, line := range lines {
		if slices.ContainsFunc(apart[name], func(begins string) bool { return strings.HasPrefix(line, begins) }) {
			continue
		}
		line = strings.ReplaceAll(line, path, "FILE")
		told = append(told, digest.ReplaceAllString(line, "SHA-256 D"))
	}
	return told
}

var digest = regexp.MustCompile(`SHA-256 [0-9a-f]{64}`)

// apart are the lines of entries that differ, by how they begin.
var apart = map[string][]string{
	// size_t has 32 bits
	"length over PTRDIFF_MAX": {`answer("") fails: `},
	// no threads: see TestNoThreads
	"Rust, logs": {`enabled(`},
	"Rust, room": {`room_thread(`},
	// nothing unwinds, so nothing is caught: see TestPanics
	"Rust, panics": {`panics("resumed")`, `panics("caught")`, `panics("thread")`, `  log: level=ERROR msg="on a thread of the plug-in: `},
}

// notWasm says of the entries that are not for modules why.
var notWasm = map[string]string{
	"own threads":                      noThreads,
	"own threads and a panic":          noThreads,
	"Rust, own threads":                noThreads,
	"Rust, between calls":              noThreads,
	"batches that count too much":      "ferrule_batch is not called",
	"no manifest":                      "what is said of libraries is not said of modules",
	"start works once":                 "each instance has static variables of its own",
	"SDK for C++":                      noExceptions,
	"SDK for C++ that cannot start":    noExceptions,
	"C++ SDK, services of version 1.1": noExceptions,
}

const (
	noThreads    = "it has threads of its own"
	noExceptions = "it throws, and clang has no exceptions for wasm32-wasi"
)
