//go:build unix

package plugins_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func makeFifo(t *testing.T, path string) { require.NoError(t, syscall.Mkfifo(path, 0o644)) }
