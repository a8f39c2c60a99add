package script_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/script"
)

func TestBuild(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, script.BuildJavaScript(t.Context(), filepath.Join(dir, "js.so")))
	require.NoError(t, script.BuildPython(t.Context(), filepath.Join(dir, "python.so"), ""))
}
