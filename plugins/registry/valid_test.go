package registry_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

func TestValidName(t *testing.T) {
	for _, name := range []string{"tax", "Tax-2", "a.b_c", "_x", "7", strings.Repeat("a", registry.MaxName)} {
		assert.True(t, registry.ValidName(name), name)
	}
	for _, name := range []string{"", ".", "..", ".hidden", "-rf", "tax.", "a/b", `a\b`, "a b", "a\x00", "ä", "a:b", "@", "`", "[", "{",
		strings.Repeat("a", registry.MaxName+1)} {
		assert.False(t, registry.ValidName(name), name)
	}
}

func TestValidIndex(t *testing.T) {
	long := strings.Repeat("a", registry.MaxName/2)
	for _, name := range []string{"acme", "registry.example/acme", "a/b-/_c/D.7", long + "/" + long[1:]} {
		assert.True(t, registry.ValidIndex(name), name)
	}
	for _, name := range []string{"", "/", "/a", "a/", "a//b", "a/../b", "a/.b", "a./b", "a/-b", "a b", "a\nb", "a\x00", "a:5000/b", "https://a/b", `a\b`, "ä",
		"a/\u202eb", long + "/" + long} {
		assert.False(t, registry.ValidIndex(name), name)
	}
}

func TestValidPlatform(t *testing.T) {
	long := strings.Repeat("a", 32)
	for _, platform := range []string{"any", "linux/amd64", "wasip1/wasm", "plan9/386", "x/y_z", long + "/" + long, registry.ThisPlatform()} {
		assert.True(t, registry.ValidPlatform(platform), platform)
	}
	for _, platform := range []string{"", "/", "linux", "linux/", "/amd64", "Any", "Linux/amd64", "linux/amd64/v2", "li-nux/amd64", "a_b/c", "../amd64", "linux/é",
		"linux/a b", "linux/amd64\n", long + "a/b", "b/a" + long} {
		assert.False(t, registry.ValidPlatform(platform), platform)
	}
}
