package check

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// What is said of a function that is cancelled is of the calls that were entered, and of none that gets a second chance.
func TestTries(t *testing.T) {
	type call struct {
		late           time.Duration
		entered, ended bool
	}
	const long = time.Hour
	in, out, killed := call{0, true, false}, call{0, false, false}, call{long, true, true}
	slow := call{long, true, false}
	outSlow := call{long, false, false}
	for _, c := range []struct {
		name  string
		calls []call // those that there are
		want  tries
		again bool
	}{
		{"soon", []call{in}, tries{1, 1, 0, false}, false},
		{"late, and soon", []call{slow, in}, tries{2, 2, 0, false}, false},
		{"late three times", []call{slow, slow, slow}, tries{3, 3, long, false}, false},
		{"late, and not entered any more", []call{slow, out, out, out, out, out}, tries{6, 1, long, false}, false},
		{"not entered, and that took long", []call{outSlow, outSlow, in}, tries{3, 1, 0, false}, false},
		{"never entered", []call{outSlow, outSlow, outSlow, outSlow, outSlow, outSlow}, tries{6, 0, 0, false}, false},
		{"ended, and soon the second time", []call{killed, in}, tries{2, 1, 0, true}, true},
		{"ended each time", []call{killed, killed, killed, killed}, tries{4, 3, long, true}, true},
		{"ended, and not entered any more", []call{killed, out, out, out, out, out}, tries{6, 0, 0, true}, true},
	} {
		var got tries
		again, left := false, c.calls
		for got.again() {
			if !assert.NotEmpty(t, left, c.name) {
				break
			}
			got.take(left[0].late, left[0].entered, left[0].ended, &again)
			left = left[1:]
		}
		assert.Empty(t, left, c.name)
		assert.Equal(t, c.want, got, c.name)
		assert.Equal(t, c.again, again, c.name)
	}
}

// A step that had hardly begun when the time of its case was over is not why; a call has a limit of its own, and one that hangs is, whenever it began.
func TestStepThatHasJustBegun(t *testing.T) {
	began := time.Now()
	stop, call := step{What: "ferrule_stop", Began: began}, step{What: "f", Function: "f", Began: began}
	assert.True(t, stop.justBegun(began.Add(time.Second), 10*time.Second))
	assert.False(t, stop.justBegun(began.Add(3*time.Second), 10*time.Second))
	assert.False(t, call.justBegun(began.Add(time.Second), 10*time.Second))
}
