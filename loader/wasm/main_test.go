package wasm_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// The test's own program is a sidecar when it is asked to be: it serves the library that is named.
func TestMain(m *testing.M) {
	if len(os.Args) != 3 || os.Args[1] != "serve" {
		os.Exit(m.Run())
	}
	p, err := serve.File(os.Args[2])
	if err == nil {
		err = serve.Stdio(context.Background(), p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// served has a library served by another process.
func served(t *testing.T) loader.Option {
	self, err := os.Executable()
	require.NoError(t, err)
	return sidecar.Program(sidecar.WithInterpreter(self, "serve"))
}
