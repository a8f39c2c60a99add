//go:build !windows

package transport

import "time"

var begin = time.Now()

// now is the time since some moment.
func now() time.Duration { return time.Since(begin) }
