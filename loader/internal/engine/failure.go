package engine

import (
	"context"
	"errors"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
)

// Failure makes a status and a message of the error of a function in Go: of one that a plug-in calls, and of a plug-in's own.
func Failure(err error) (message []byte, status abi.Status) {
	status = statusOf(err)
	// The status travels beside the message: fmt.Errorf("no customer: %w", ErrInvalid) need not say it twice.
	return []byte(strings.TrimSuffix(err.Error(), ": "+status.String())), status
}

// statusOf chooses the status that a plug-in gets for a host function's error.
func statusOf(err error) abi.Status {
	var status abi.Status
	switch {
	case errors.As(err, &status):
		switch status {
		case abi.StatusOK, abi.StatusPanic, abi.StatusMisuse, abi.StatusMore:
			// These say something about the plug-in's own call, which another plug-in's must not be mistaken for.
			return abi.StatusFailed
		}
		if status.Reserved() {
			return abi.StatusFailed // which is how a plug-in has to read it (R10)
		}
		return max(status, abi.StatusFailed)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return abi.StatusCancelled
	default:
		return abi.StatusFailed
	}
}
