package resolve

import (
	"errors"
	"strconv"

	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
)

// The kinds of a Fault.
var (
	ErrMissing          = errors.New("a plug-in that it needs is not there") // or disabled
	ErrRange            = errors.New("a version that is not in the range")   // or a range that makes no sense
	ErrVersion          = errors.New("a version that cannot be compared")    // with a range: it is no semantic version
	ErrHost             = errors.New("made for another application, or another version of this one")
	ErrDouble           = errors.New("several plug-ins of one name")
	ErrConflict         = errors.New("plug-ins that cannot run beside each other")
	ErrService          = errors.New("a service that nobody provides, or several do") // or one whose provider fails: then ErrDependencyFailed, too
	ErrCircle           = errors.New("plug-ins that need each other in a circle")
	ErrDependencyFailed = errors.New("a plug-in that it needs fails")
)

// The steps of a Fault: what of the plug-in could not be resolved.
const (
	StepName      = "name"
	StepVersion   = "version"
	StepHost      = "host"
	StepProvides  = "provides"
	StepRequires  = "requires"
	StepImports   = "imports"
	StepConflicts = "conflicts"
)

// Fault says why a plug-in may not start. A plug-in with several has the first of these: name, version, host, provides, requires,
// imports, a circle, a dependency that fails, conflicts; within a list the first by its text.
type Fault struct {
	Plugin   string // the plug-in that may not start
	Step     string // one of the Step… values
	Found    string // what there is
	Expected string // what there should be
	Remedy   string // what to do, as a sentence without its full stop
	Kind     error  // one of the Err… values
	Absent   string // of ErrMissing: the plug-in, where none has this name; "" where it is disabled

	More    []*Fault // what else of requires and imports could not be resolved
	Circle  []string // of ErrCircle: its plug-ins, each needs the next, and the last the first
	Through []string // of a dependency that failed: the way from the one that the plug-in needs itself to the one that is to be mended
	Cause   *Fault   // of a dependency that failed: the fault of the one that the plug-in needs itself
}

// Error says which plug-in, at which step, what was found, what was expected and what to do, in one line.
func (f *Fault) Error() string {
	return "plug-in " + ranges.Shown(f.Plugin) + ": " + f.Step + ": " + f.Kind.Error() + ": found " + f.Found + ", expected " + f.Expected + ". " + f.Remedy
}

// Unwrap returns the kind and, of a dependency that failed, ErrDependencyFailed and the fault of that: errors.Is finds the kind of
// what is to be mended, too.
func (f *Fault) Unwrap() []error {
	if f.Cause == nil {
		return []error{f.Kind}
	}
	return []error{f.Kind, ErrDependencyFailed, f.Cause}
}

// Root returns the fault that is to be mended: f itself, unless it is that of a dependency.
func (f *Fault) Root() *Fault {
	for f.Cause != nil {
		f = f.Cause
	}
	return f
}

func quote(text string) string { return strconv.Quote(text) }
