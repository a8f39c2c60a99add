package loader_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// What a plug-in needs is found beside it, and neither in the working directory nor along PATH, where anybody may have put
// something of the same name.
func TestOpenSearch(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		library, needed := fixture.C(t, "needs_library"), fixture.C(t, "fault_none")
		beside, alone, elsewhere := tempDir(t), tempDir(t), tempDir(t)
		copyTo(t, needed, filepath.Join(elsewhere, filepath.Base(needed)))
		copyTo(t, needed, filepath.Join(beside, filepath.Base(needed)))
		copyTo(t, library, filepath.Join(beside, "beside.dll"))
		copyTo(t, library, filepath.Join(alone, "alone.dll"))
		t.Chdir(elsewhere)
		t.Setenv("PATH", elsewhere+string(os.PathListSeparator)+os.Getenv("PATH"))

		_, err := w.try(filepath.Join(alone, "alone.dll"))
		var e *loader.OpenError
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, loader.ErrLoad)
		assert.Regexp(t, `could not load it: found \w+`, err.Error(), "the system's words")

		p := w.open(t, filepath.Join(beside, "beside.dll"))
		assert.Equal(t, "hello", call(t, p, "pass_on", "hello"))
	})
}
