package order

import (
	"errors"
	"strconv"
)

// The kinds of a Fault.
var (
	ErrCircle  = errors.New("a circle of before and after")
	ErrPlace   = errors.New("a place that first or last leaves no room for")
	ErrUnknown = errors.New("config.yaml: hooks names a plug-in that has no hook here")
	ErrTwice   = errors.New("config.yaml: hooks names one twice")
)

// Fault says what could not be followed in the order of a point, and what was done instead. The order stands all the same.
type Fault struct {
	Kind     error    // one of the Err… values, which errors.Is finds
	Plugin   string   // the plug-in whose word it is; "" where it is the user's list
	Circle   []string // of ErrCircle: the plug-ins in turn, each before the next and the last before the first; nil for others
	Found    string   // what there is
	Expected string   // what there should be
	Remedy   string   // what was done, and what to do, as a sentence without its full stop, or as a question
}

// Error says what was found, what was expected and what to do, in one line.
func (f Fault) Error() string {
	text := f.Kind.Error()
	if f.Plugin != "" {
		text = "plug-in " + show(f.Plugin) + ": " + text
	}
	return text + ": found " + f.Found + ", expected " + f.Expected + ". " + f.Remedy
}

// Unwrap returns the kind.
func (f Fault) Unwrap() error { return f.Kind }

// show returns a name as it is, or quoted where it is none that a plug-in may have: it may hold what steers a terminal.
func show(name string) string {
	for i := range len(name) {
		c := name[i]
		if !(c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == '*') {
			return strconv.Quote(name)
		}
	}
	if name == "" {
		return `""`
	}
	return name
}
