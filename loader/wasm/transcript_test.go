package wasm_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/internal/transcript"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// Each entry is done with the module and with the library that the same source compiles to: what a host sees is the same.
func TestTranscripts(t *testing.T) {
	open := func(path string, opts ...loader.Option) (*loader.Plugin, error) {
		return loader.Open(path, append(opts[:len(opts):len(opts)], loader.WithEngine(wasm.Engine()))...)
	}
	calls := 0
	for _, c := range transcript.Table {
		t.Run(c.Name, func(t *testing.T) {
			if why := notWasm[c.Name]; why != "" {
				t.Skip(why)
			}
			library, module := c.Library.Built(t), c.Library.Wasm(t)
			native, own := c.Record(t, loader.Open, library), c.Record(t, open, module)
			for i, line := range own.Lines {
				own.Lines[i] = strings.ReplaceAll(line, module, library)
			}
			assert.Equal(t, native.Lines, own.Lines)
			assert.Equal(t, native.Calls, own.Calls)
			calls += own.Calls
		})
	}
	t.Logf("%d calls", calls)
}

// notWasm says of the entries that are not for modules why.
var notWasm = map[string]string{}
