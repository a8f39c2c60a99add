package worker

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
)

// said is how a lane ended its calls.
type said struct {
	done   int
	failed lane.Failure
}

func (s *said) Done(int32, []byte) error                  { s.done++; return nil }
func (s *said) Fail(failure lane.Failure, _ []byte) error { s.failed = failure; return nil }

// A call that goes well costs no allocation for the errors that it does not have.
func TestAnswerAllocatesNothing(t *testing.T) {
	s := new(said)
	var to answers = s
	out := []byte("output")
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = answer(to, out, abi.StatusOK, nil) }))
	assert.Equal(t, 101, s.done)
	_ = answer(to, nil, 0, &engine.TooLong{Text: "long"})
	assert.Equal(t, lane.FailedTooLong, s.failed)
}
