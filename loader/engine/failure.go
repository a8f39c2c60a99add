package engine

import (
	"context"
	"errors"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
)

// Failure makes a status and a message of the error of a function in Go that a plug-in calls.
func Failure(err error) (message []byte, status abi.Status) {
	own, ok := StatusOf(err)
	switch {
	case !ok, own == abi.StatusPanic, own == abi.StatusMisuse, own == abi.StatusMore:
		// These say something about the plug-in's own call, which another plug-in's must not be mistaken for.
		own = abi.StatusFailed
	case own.Reserved():
		own = abi.StatusFailed // which is how a plug-in has to read it (R10)
	}
	return Message(err, own), own
}

// StatusOf returns the status that an error is of: one that it wraps, or what a context's error stands for. A status that says that
// nothing failed, or is none, is FAILED. ok is false where it is of none.
func StatusOf(err error) (status abi.Status, ok bool) {
	switch {
	case errors.As(err, &status):
		return max(status, abi.StatusFailed), true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return abi.StatusCancelled, true
	}
	return abi.StatusFailed, false
}

// Message is what an error says beside its status, which travels on its own: fmt.Errorf("no customer: %w", ErrInvalid) need not say it
// twice, and an error that is no more than its status has no message.
func Message(err error, status abi.Status) []byte {
	text := err.Error()
	var own abi.Status
	if errors.As(err, &own) && own == abi.StatusOK {
		status = own
		if text == own.String() {
			return []byte("an error whose status says that it worked")
		}
	}
	if text == status.String() {
		return nil
	}
	return []byte(strings.TrimSuffix(text, ": "+status.String()))
}
