package monitor

import (
	"testing"
	"time"
)

// Hurry has clients be given up after these times, until the test and what it has served has ended: so it comes before that.
func Hurry(t testing.TB, request, read time.Duration) {
	before, also := requestWithin, readWithin
	requestWithin, readWithin = request, read
	t.Cleanup(func() { requestWithin, readWithin = before, also })
}
