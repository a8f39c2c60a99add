//go:build !linux

package sandbox

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatThisSystemLacksIsSaid(t *testing.T) {
	for _, p := range []Policy{{}, {Processes: 1, Connect: []uint16{443}}} {
		config, err := p.encode()
		assert.NoError(t, err)
		layers, err := apply(config, nil)
		assert.Empty(t, layers)
		assert.ErrorContains(t, err, "files (")
		assert.ErrorContains(t, err, "network (")
		assert.ErrorContains(t, err, "set Policy.BestEffort")
	}
	_, err := apply([]byte(`{"telepathy":true}`), nil)
	assert.ErrorContains(t, err, "telepathy")
}
