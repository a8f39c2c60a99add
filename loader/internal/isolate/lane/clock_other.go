//go:build !windows

package lane

import "time"

var begin = time.Now()

// now is the time since some moment.
func now() time.Duration { return time.Since(begin) }
