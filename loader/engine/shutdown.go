package engine

import (
	"fmt"
	"strings"

	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// Unfinished says that Shutdown's context ended first, and what still runs.
type Unfinished struct {
	Calls     int   // in progress
	Views     int   // not released
	Unloading bool  // everything is stopped, and the library not unloaded yet
	Cause     error // the context's
}

// Error says what still runs.
func (u *Unfinished) Error() string {
	what := u.What()
	switch {
	case what != "":
	case u.Unloading:
		what = "its library not unloaded"
	default:
		what = "its instances not stopped"
	}
	return fmt.Sprintf("not closed yet, with %s: %v", what, u.Cause)
}

// What says which calls and views there are, or nothing.
func (u *Unfinished) What() string {
	var what []string
	if u.Calls > 0 {
		what = append(what, count.Of(u.Calls, "call")+" in progress")
	}
	if u.Views > 0 {
		what = append(what, count.Of(u.Views, "view")+" not released")
	}
	return strings.Join(what, " and ")
}

// Unwrap returns the context's error.
func (u *Unfinished) Unwrap() error { return u.Cause }
