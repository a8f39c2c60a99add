package plugins_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/plugins"
)

// TestBoundsInWordsOfConfig: each field of a policy that config.yaml has a key for is called by that, and not by half of it, whether the package is named before it or not.
func TestBoundsInWordsOfConfig(t *testing.T) {
	keys := map[string]string{"Memory": "isolate.memory", "Processes": "isolate.processes", "Files": "isolate.files", "CPU": "isolate.cpu",
		"Read": "permit.read", "Write": "permit.write", "Connect": "permit.connect", "Listen": "permit.listen"}
	without := map[string]bool{"Time": true, "BestEffort": true}
	fields := reflect.TypeFor[sandbox.Policy]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		if without[name] {
			continue
		}
		for _, text := range []string{"(sandbox.Policy." + name + ")", "(Policy." + name + ")"} {
			e := plugins.InConfig(&loader.OpenError{Path: "a.so", Kind: loader.ErrStart, Found: text})
			assert.Equal(t, "("+keys[name]+")", e.(*loader.OpenError).Found, text)
		}
	}
	e := plugins.InConfig(&loader.OpenError{Path: "a.so", Kind: loader.ErrGoRuntime, Remedy: "open it in a process of its own (isolate.InWorker)"})
	assert.Equal(t, "open it in a process of its own (isolate: true)", e.(*loader.OpenError).Remedy)
}

// TestResultThatCannotBeRead: the error of a result that is not of the point's type says whose it is, as all errors of hooks do.
func TestResultThatCannotBeRead(t *testing.T) {
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(&builtin.Plugin{Name: "odd", Version: "1.0.0",
		Hooks: []builtin.Function{{Name: "count", Call: func(context.Context, []byte) ([]byte, error) { return []byte(`{"n":1}`), nil }}}}))
	defer sys.Close()
	counted := plugins.Pipe[int](sys, "count")
	require.NoError(t, sys.Start(t.Context()))
	_, err := counted.Call(t.Context(), 1)
	assert.ErrorContains(t, err, `plug-in odd: count: a result that is no int: it begins with "{`)
}
