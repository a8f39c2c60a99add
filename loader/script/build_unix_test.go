//go:build unix

package script_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/script"
)

// A build whose context ends leaves nothing: no process that it has started, and no file.
func TestBuildEnds(t *testing.T) {
	dir := t.TempDir()
	config, began := filepath.Join(dir, "python3-config"), filepath.Join(dir, "began")
	require.NoError(t, os.WriteFile(config, []byte("#!/bin/sh\nsleep 600 &\necho $! >"+began+".new && mv "+began+".new "+began+"\nwait\n"), 0o700))
	for name, build := range map[string]func(context.Context) error{
		"BuildPython": func(ctx context.Context) error {
			return script.BuildPython(ctx, filepath.Join(dir, "python.so"), config)
		},
		"KeepPython": func(ctx context.Context) error {
			_, err := script.KeepPython(ctx, filepath.Join(dir, "kept"), config, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.RemoveAll(began))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- build(ctx) }()
			var pid int
			require.Eventually(t, func() bool {
				text, err := os.ReadFile(began)
				if err == nil {
					pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
				}
				return err == nil
			}, time.Minute, time.Millisecond)
			cancel()
			err := <-ended // and not when sleep is over
			assert.ErrorIs(t, err, script.ErrNotBuilt)
			assert.ErrorIs(t, err, context.Canceled)
			assert.Eventually(t, func() bool {
				stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
				return syscall.Kill(pid, 0) != nil || err == nil && strings.Contains(string(stat), ") Z ")
			}, time.Minute, time.Millisecond)
		})
	}
	left, err := filepath.Glob(filepath.Join(dir, ".ferrule-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}
