// Package diskfull tells an error for want of room from others.
package diskfull
