//go:build !linux || !(amd64 || arm64)

package worker

import "github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"

// recordFaults does nothing: there is no handler for this system.
func recordFaults(*lane.Fault) {}

func beforeLoading() {}

func afterLoading() {}
