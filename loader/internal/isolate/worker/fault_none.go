//go:build !linux || !(amd64 || arm64)

package worker

import "github.com/ferrule-dev/ferrule/loader/internal/transport"

// recordFaults does nothing: there is no handler for this system.
func recordFaults(*transport.Fault) {}

func beforeLoading() {}

func afterLoading() {}
