package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/engine"
)

// late is a context whose deadline is over, and whose timer has not run.
type late struct {
	context.Context
	at time.Time
}

func (l late) Deadline() (time.Time, bool) { return l.at, true }

func TestCauseOfCancelled(t *testing.T) {
	assert.NoError(t, engine.CauseOfCancelled(t.Context()))
	assert.NoError(t, engine.CauseOfCancelled(late{t.Context(), time.Now().Add(time.Hour)}))
	assert.Equal(t, context.DeadlineExceeded, engine.CauseOfCancelled(late{t.Context(), time.Now().Add(-time.Second)}))
	why := errors.New("the customer left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	err := engine.CauseOfCancelled(late{ctx, time.Now().Add(-time.Second)})
	assert.ErrorIs(t, err, why)
	assert.ErrorIs(t, err, context.Canceled)
}
