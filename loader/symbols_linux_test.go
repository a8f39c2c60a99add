//go:build amd64 || arm64

package loader_test

import (
	"strings"
	"testing"

	"github.com/ebitengine/purego"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// A library that exports a name which the process has as well gets the process's. Open says so, for those that it uses itself.
func TestSymbolsReplaced(t *testing.T) {
	others := fixture.C(t, "others_symbols")
	opened := func(t *testing.T, opts ...loader.Option) (whose string, warnings []string) {
		log, lines := logger()
		p, err := loader.Open(tempLibrary(t, fixture.C(t, "symbols_replaced")), append(opts, loader.WithLogger(log))...)
		require.NoError(t, err)
		whose = call(t, p, "whose", "")
		require.NoError(t, p.Close())
		for _, line := range lines.all() {
			if line != "" {
				warnings = append(warnings, line)
			}
		}
		return whose, warnings
	}
	replaced := func(t *testing.T, opts ...loader.Option) {
		whose, warnings := opened(t, opts...)
		require.Equal(t, "other other other own own own ", whose)
		require.Len(t, warnings, 1)
		assert.Contains(t, warnings[0], `level=WARN msg="the library does not get its own clash_function, clash_variable: the process has others of these names, in `+others+",")
		assert.Contains(t, warnings[0], `compile it with -fvisibility=hidden" plugin=symbols_replaced`)
	}
	alone := func(t *testing.T, opts ...loader.Option) {
		whose, warnings := opened(t, opts...)
		assert.Equal(t, strings.Repeat("own ", 6), whose)
		assert.Empty(t, warnings)
	}
	t.Run("in-process", func(t *testing.T) {
		if _, err := purego.Dlsym(purego.RTLD_DEFAULT, "clash_function"); err != nil { // or else it is the second time, and musl has kept it
			alone(t)
		}
		handle, err := purego.Dlopen(others, purego.RTLD_NOW|purego.RTLD_GLOBAL)
		require.NoError(t, err)
		defer func() { require.NoError(t, purego.Dlclose(handle)) }()
		replaced(t)
		replaced(t, loader.WithPrivateCopy())
	})
	t.Run("isolated", func(t *testing.T) {
		alone(t, isolate.InWorker(isolate.WithEnv(workerEnv...)))
		replaced(t, isolate.InWorker(isolate.WithEnv(append(workerEnv[:len(workerEnv):len(workerEnv)], "LD_PRELOAD="+others)...)))
	})
}
