package monitor

import (
	"errors"
	"fmt"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

// Error says why a system cannot be shown. Its parts are for those who show it; Error has them all.
type Error struct {
	Path     string // of the socket
	Found    string // what was found
	Expected string // what would have been right; may be empty
	Remedy   string // what to do; may be empty
	Kind     error  // one of the Err… of this package
	Err      error  // the cause; may be nil
}

// Error says all of it in one line.
func (e *Error) Error() string {
	cause := ""
	if e.Err != nil {
		cause = e.Err.Error()
	}
	return escape.Line(fmt.Sprintf("%s: %s", e.Path, sentence.Of(e.Found, e.Expected, cause, e.Remedy))) // it may have words of a host's
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error { return sentence.Causes(e.Kind, e.Err) }

// The kinds of an Error.
var (
	ErrPath   = errors.New("no socket can be there")           // something else stands at the path, or it cannot be used
	ErrInUse  = errors.New("the socket of a host that runs")   // which another one does not take away
	ErrNoHost = errors.New("no host is there")                 // or not any more
	ErrBusy   = errors.New("the host has other clients")       // as many as it allows
	ErrAnswer = errors.New("not what a host of plug-ins says") // another program, or another format
)
