package registry_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

func TestHex(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 4)
	assert.Equal(t, hex, registry.Hex("sha256:"+hex))
	for _, other := range []string{"", hex, "sha256:", "sha256:" + hex[1:], "sha256:" + hex + "0", "sha512:" + hex, "SHA256:" + hex,
		"sha256:" + strings.ToUpper(hex), "sha256:" + hex[:61] + "/..", "sha256:" + hex[:62] + "é", " sha256:" + hex} {
		assert.Empty(t, registry.Hex(other), other)
	}
}
