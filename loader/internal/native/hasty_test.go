package native

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
)

// A slot of a quick call lets no visitor in: not a thread of the plug-in's with the call's frame, nor the watcher.
func TestQuickSlotHasNoVisitors(t *testing.T) {
	s := newSlot()
	defer freeSlot(s)
	s.caller = callctx.Background
	s.phase.Store(hasty)
	assert.False(t, s.enter())
	assert.Zero(t, s.others.Load()&^attend, "and none is counted")
	assert.True(t, s.inUse())
	s.phase.Store(busy)
	assert.True(t, s.enter())
	s.exit()
	s.phase.Store(closed)
}
