//go:build !linux

package loader_test

import "testing"

// floodWithSignals does nothing here: the signals that collections send have to do.
func floodWithSignals(*testing.T) (stop func()) { return func() {} }
