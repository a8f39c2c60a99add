package plugin

import (
	"context"
	"errors"
	"strconv"
	"strings"
)

// Status is what a function, or a host function, returns (rule R10 of ferrule.h): those below, and numbers of a plug-in's own from Own on. It is an
// error: a function that returns one, or an error that wraps one, fails with it.
type Status int32

// The statuses of the contract.
const (
	Failed      Status = 1 // it did not work
	Invalid     Status = 2 // the input is not what the function takes
	Unsupported Status = 3 // not to be had here
	Cancelled   Status = 4 // nobody wants the result any more
	Panic       Status = 5 // the code failed with its state unknown
	NoMemory    Status = 6 // memory was not enough
	Misuse      Status = 7 // the caller broke a rule
	Pass        Status = 9 // nothing to say to this input (R22)

	Own Status = 1000 // the first that is a plug-in's own
)

var statusNames = [...]string{"ok", "failed", "invalid input", "unsupported", "cancelled", "panic", "out of memory", "misuse", "more room needed", "pass"}

// Error returns the status in words, or its number where there is no word for it.
func (s Status) Error() string {
	if s >= 0 && int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "status " + strconv.Itoa(int(s))
}

// Refused is the error of a host function, and of what else is asked of the host. It is the caller's.
type Refused struct {
	Name    string // of the host function
	Status  Status
	Message string // the host's; may be empty
}

// Error gives the message, or the status where there is none.
func (r *Refused) Error() string {
	if r.Message == "" {
		return r.Name + ": " + r.Status.Error()
	}
	return r.Name + ": " + r.Message
}

// Unwrap returns the status: a function that returns the error hands it on.
func (r *Refused) Unwrap() error { return r.Status }

// failure makes a status and a message of a function's error. The status travels on its own: what the error says of it at its end is left out.
func failure(err error) (message []byte, status int32) {
	own := Failed
	switch {
	case errors.As(err, &own):
		if own < Failed || own == 8 || own > Pass && own < Own {
			own = Failed
		}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		own = Cancelled
	}
	text := err.Error()
	switch text {
	case own.Error():
		return nil, int32(own)
	case Status(0).Error():
		text = "an error whose status says that it worked"
	}
	return []byte(strings.TrimSuffix(text, ": "+own.Error())), int32(own)
}
