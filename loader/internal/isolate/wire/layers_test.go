package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Only names that there are count, and of libraries those that the host has granted.
func TestLayers(t *testing.T) {
	granted := []Library{{Path: []byte("/opt/lib\xff.so"), Inode: 1}}
	for _, list := range [][]string{nil, {"seccomp"}, {"own descriptors", "landlock v7: files", "landlock v7: tcp", "job: cpu", "library /opt/lib\xff.so"}} {
		got, err := ParseLayers(Layers(list), granted)
		require.NoError(t, err)
		assert.Equal(t, list, got)
	}
	for _, name := range []string{"", "none", "Seccomp", "seccomp ", "landlock", "landlock v7: all", "landlock vx: files", "landlock v7",
		"landlock v999: files", "library /opt/other.so", "library ", strings.Repeat("seccomp", 1000)} {
		_, err := ParseLayers(Layers([]string{name}), granted)
		assert.ErrorContains(t, err, "the layer", "%.20q", name)
	}
	_, err := ParseLayers(Layers([]string{"seccomp", "seccomp"}), nil)
	assert.Error(t, err)
	for _, text := range []string{"", "{}", `["sec"]`, "[[[["} {
		_, err := ParseLayers([]byte(text), nil)
		assert.Error(t, err, text)
	}
}
