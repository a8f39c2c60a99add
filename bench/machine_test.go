package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKernelVersion(t *testing.T) {
	for release, want := range map[string]string{
		"6.18.44-fc-v657": "6.18", "6.1.0-13-amd64": "6.1", "5.15.153.1-microsoft-standard-WSL2": "5.15", "24.6.0": "24.6", "": "unknown", "unknown": "unknown",
	} {
		require.Equal(t, want, kernelVersion(release), release)
	}
}

// The file that is committed says it in the same way.
func TestResultsHaveTheKernelVersion(t *testing.T) {
	text, err := os.ReadFile("RESULTS.md")
	require.NoError(t, err)
	require.Regexp(t, regexp.MustCompile(`(?m)^\| kernel \| \d+\.\d+ \|$`), string(text))
}
