package oci

import "time"

// Page has tags come n at a time.
func Page(n int) Option { return func(c *choices) { c.registry.page = n } }

// Pause has the first pause before another try be this long.
func Pause(d time.Duration) Option { return func(c *choices) { c.registry.pause = d } }
