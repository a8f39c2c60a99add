package wasm_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// TestReaderAgreesWithWazero: of the plug-ins that come with Extism's own SDK for Go, package inspect and wazero say the same.
func TestReaderAgreesWithWazero(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(fixture.Extism(t), "*.wasm"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer r.Close(ctx)
	extism := 0
	for _, path := range files {
		name := filepath.Base(path)
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		compiled, err := r.CompileModule(ctx, file)
		require.NoError(t, err, name)
		lib, err := inspect.Describe(path)
		require.NoError(t, err, name)

		var needed, imports []string
		for _, f := range compiled.ImportedFunctions() {
			from, as, _ := f.Import()
			if !slices.Contains(needed, from) {
				needed = append(needed, from)
			}
			if from == "extism:host/user" && !slices.Contains(imports, as) {
				imports = append(imports, as)
			}
		}
		assert.Equal(t, needed, lib.Needed, name)
		functions := compiled.ExportedFunctions()
		for _, export := range slices.Concat(slices.Collect(maps.Keys(functions)), slices.Collect(maps.Keys(compiled.ExportedMemories()))) {
			assert.Contains(t, lib.Exports, export, name)
		}
		assert.Equal(t, slices.Contains(needed, "extism:host/env"), lib.Extism, name)
		if !lib.Extism {
			assert.ErrorIs(t, lib.NotPlugin, inspect.ErrNoContract, name)
			continue
		}
		extism++
		assert.Equal(t, strings.TrimSuffix(name, ".wasm"), lib.Manifest.Name)
		var callable []string
		for name, f := range functions {
			if len(f.ParamTypes()) == 0 && (len(f.ResultTypes()) == 0 || slices.Equal(f.ResultTypes(), []api.ValueType{api.ValueTypeI32})) &&
				!strings.HasPrefix(name, "_") && !strings.HasPrefix(name, "hs_") && !strings.HasPrefix(name, "asyncify_") {
				callable = append(callable, name)
			}
		}
		assert.ElementsMatch(t, callable, namesOf(lib.Funcs), name)
		assert.ElementsMatch(t, imports, namesOf(lib.Imports), name)
		assert.NoError(t, compiled.Close(ctx))
	}
	assert.GreaterOrEqual(t, extism, 20)
}

func namesOf(list []abi.Symbol) (names []string) {
	for _, s := range list {
		names = append(names, s.Name)
	}
	return names
}
