package engine

import (
	"fmt"
	"strings"
)

// Unfinished says that Shutdown's context ended first, and what still runs.
type Unfinished struct {
	Calls int   // in progress
	Views int   // not released
	Cause error // the context's
}

// Error says what still runs.
func (u *Unfinished) Error() string {
	var what []string
	if u.Calls > 0 {
		what = append(what, fmt.Sprintf("%d calls in progress", u.Calls))
	}
	if u.Views > 0 {
		what = append(what, fmt.Sprintf("%d views not released", u.Views))
	}
	if len(what) == 0 {
		what = append(what, "its instances not stopped")
	}
	return fmt.Sprintf("not closed yet, with %s: %v", strings.Join(what, " and "), u.Cause)
}

// Unwrap returns the context's error.
func (u *Unfinished) Unwrap() error { return u.Cause }
