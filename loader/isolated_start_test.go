package loader

import (
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/engine"
)

// A file that a worker's start lacks is what the remedy is about: the program is one, the null device another.
func TestRemedyOfAStartThatLacksAFile(t *testing.T) {
	for path, want := range map[string]string{os.DevNull: "Have " + os.DevNull, "/srv/worker": "isolate.WithBinary"} {
		err := crashAtOpen("p", "p.so", &engine.Crash{Err: &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}}, engine.NativeCode("", ""))
		assert.ErrorContains(t, err, want, path)
	}
}
