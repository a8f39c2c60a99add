package broker

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A session's address is one word below its node's, and no other.
func TestIsBelow(t *testing.T) {
	for _, of := range []struct{ node, between string }{{"ferrule.shout.ID", "."}, {"ferrule/shout/ID", "/"}, {"ferrule/a.b/ID", "/"}} {
		for _, word := range []string{"a", Secret(), strings.Repeat("a", 64), "_-"} {
			assert.True(t, isBelow(of.node+of.between+word, of.node), word)
		}
		other := map[string]string{".": "/", "/": "."}[of.between]
		for _, end := range []string{"", of.between, "a", other + "a", of.between + "a" + of.between + "b", of.between + "#", of.between + "*", of.between + ">", of.between + "+", of.between + "a b",
			of.between + strings.Repeat("a", 65), of.between + "a\x00", of.between + "é", of.between + "a."} {
			assert.False(t, isBelow(of.node+end, of.node), end)
		}
		assert.False(t, isBelow("x", of.node))
		assert.False(t, isBelow("", of.node))
	}
	assert.False(t, isBelow("a.b", "a"))
	assert.NotEqual(t, Secret(), Secret())
	assert.True(t, ValidID(Secret()))
}
