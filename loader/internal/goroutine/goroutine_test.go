package goroutine_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
)

// A goroutine has one number while it lives, or none is known on this platform; two at the same time have two.
func TestID(t *testing.T) {
	me := goroutine.ID()
	if me == 0 {
		t.Skip("this platform's goroutines are not known")
	}
	runtime.Gosched()
	assert.Equal(t, me, goroutine.ID())
	other := make(chan uintptr)
	go func() { other <- goroutine.ID() }()
	assert.NotEqual(t, me, <-other)
}
