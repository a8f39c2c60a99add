//go:build !unix

package plugins_test

import "testing"

// makeFifo makes none: this system has no such files.
func makeFifo(*testing.T, string) {}
