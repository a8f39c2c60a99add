package readonlyfs_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/windows"

	"github.com/ferrule-dev/ferrule/plugins/internal/readonlyfs"
)

// A disk that is protected against writing is told from a file that this user may not write to.
func TestWriteProtected(t *testing.T) {
	assert.True(t, readonlyfs.Is(&fs.PathError{Op: "open", Path: "x", Err: windows.ERROR_WRITE_PROTECT}))
	assert.False(t, readonlyfs.Is(&fs.PathError{Op: "open", Path: "x", Err: windows.ERROR_ACCESS_DENIED}))
	assert.False(t, readonlyfs.Is(nil))
}
