package host

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"
)

// A file that takes long to be read holds up nobody who names another one.
func TestSlowProgramHoldsUpNothing(t *testing.T) {
	reading, release := make(chan bool), make(chan bool)
	was := findMarks
	defer func() { findMarks = was }()
	worker := mark.Found{mark.Worker: {mark.Version: true}}
	findMarks = func(file io.ReaderAt) (mark.Found, error) {
		if filepath.Base(file.(*os.File).Name()) == "slow" {
			reading <- true
			<-release
		}
		return worker, nil
	}
	dir := t.TempDir()
	open := func(name string) error {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("a program"), 0o700))
		file, _, err := openProgram(path, false)
		if err == nil {
			file.Close()
		}
		return err
	}
	slow := make(chan error)
	go func() { slow <- open("slow") }()
	<-reading
	quick := make(chan error)
	go func() { quick <- open("quick") }()
	select {
	case err := <-quick:
		assert.NoError(t, err)
	case <-time.After(time.Minute):
		t.Error("it waits for the other file")
	}
	close(release)
	assert.NoError(t, <-slow)
}

// What is written while it is read is refused.
func TestProgramIsOverwrittenWhileRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte("a program"), 0o700))
	was := findMarks
	defer func() { findMarks = was }()
	findMarks = func(io.ReaderAt) (mark.Found, error) {
		require.NoError(t, os.WriteFile(path, []byte("another program"), 0o700))
		return mark.Found{mark.Worker: {mark.Version: true}}, nil
	}
	_, _, err := openProgram(path, false)
	assert.ErrorContains(t, err, "overwritten at this moment")
}

// A root folder that cannot be opened now is an error: without it workers would be started in another root than the host had.
func TestRootFolderCannotBeOpened(t *testing.T) {
	was := rootFolder
	defer func() { rootFolder = was }()
	lack := errors.New("too many open files")
	rootFolder = func() (*os.File, error) { return nil, lack }
	_, err := openExecutable(&Options{})
	assert.ErrorIs(t, err, lack)
}
