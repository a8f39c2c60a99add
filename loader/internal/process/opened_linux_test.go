package process

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A root folder that cannot be opened now, for lack of descriptors, is an error: without it a program would be started in
// another root than this process had. What is found when there are some again is kept.
func TestRootFolderWithoutDescriptors(t *testing.T) {
	was := opened.root
	opened.root = nil
	defer func() { opened.root = was }()
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: before.Max}))
	root, err := Root()
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before))
	assert.ErrorIs(t, err, unix.EMFILE)
	assert.Nil(t, root)
	root, err = Root()
	require.NoError(t, err)
	again, err := Root()
	require.NoError(t, err)
	assert.Same(t, root, again)
	info, err := root.Stat()
	require.NoError(t, err)
	slash, err := os.Stat("/")
	require.NoError(t, err)
	assert.True(t, os.SameFile(info, slash))
	if was != nil {
		root.Close()
	}
}
