// Package wire is the wire of sidecars, as docs/wire.md has it: messages, and what a sidecar says of itself. Hosts (package sidecar) and sidecars
// (package serve) are made of it; both ends are here, so that each is held to the same rules.
//
// It is experimental: it may change in a minor version (docs/promises.md).
package wire

import (
	"fmt"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/manifest"
)

// Version is the version of the wire that this package speaks (rule W4).
const Version = 1

// Bounds of rule W2, in bytes.
const (
	MaxHead     = 16 << 10
	MaxLine     = 4 << 10
	MaxBody     = 256 << 20 // where a hello says nothing else
	MaxManifest = manifest.Max
	MaxLog      = 1 << 20
)

// What the host's calls without an answer may be together (rule W7).
const (
	MaxCalls  = 4096
	MaxInputs = 256 << 20 // bytes, where there is more than one with any
)

// Window is how many bytes of a stream may be under way before the other side has asked for more (rule W15).
const Window = 64 << 10

// Verb is what a message is.
type Verb uint8

// The verbs.
const (
	Hello Verb = 1 + iota
	Call
	Done
	Cancel
	Log
	Progress
	Part
	More
	Bye
)

var verbs = [...]string{Hello: "HELLO", Call: "CALL", Done: "DONE", Cancel: "CANCEL", Log: "LOG", Progress: "PROGRESS", Part: "PART", More: "MORE", Bye: "BYE"}

// String returns the verb as it is written.
func (v Verb) String() string {
	if int(v) < len(verbs) && v != 0 {
		return verbs[v]
	}
	return fmt.Sprintf("verb %d", uint8(v))
}

// The names of what is called beside a plug-in's own functions (rules W10, W11). A function's name has no dot.
const (
	Start     = "ferrule.start"
	Stop      = "ferrule.stop"
	Configure = "ferrule.configure"
	Save      = "ferrule.save"
	Resume    = "ferrule.resume"
	Info      = "ferrule.info"
	Next      = "ferrule.next"
)

// Message is one message but for its body. Fields that its verb has no use for are left out of account when it is written, and zero when it was read.
type Message struct {
	Verb   Verb
	ID     uint64 // of Call, Done, Cancel, Progress, Part and More
	Name   []byte // of Call; of a message that was read it is valid until the next one
	Status abi.Status
	Level  abi.Level

	// Done and Total are Progress's, N is how many bytes More asks for.
	Done, Total, N uint64

	Version uint64 // of Hello

	For     uint64     // of Call and Log: the call that it is of, 0 for none
	HasFor  bool       // For was said
	Within  uint64     // of Call: the other side's call that it comes from; 0 is none
	Timeout uint64     // of Call, in milliseconds; 0 is none
	Stream  abi.Stream // of Call
	Hook    bool       // of Call: the hook of that name, and not the function
	Watched bool       // of Call: somebody wants to know how far it is
	Resumes bool       // of Call: Resume comes behind this Start
	Broken  bool       // of Part: the input broke off
	Fields  uint64     // of Log: how many of the body's last bytes are fields

	NotRun  Reason // of Done: the call did nothing, and why
	Rule    []byte // of Done: the rule of ferrule.h that the function has broken; valid as Name
	Token   []byte // of Hello; valid as Name
	MaxBody uint64 // of Hello; 0 where nothing is said
	Length  uint64 // of the body
}

// Reason is why a call was answered without having been run (rule B6 of docs/remote.md).
type Reason uint8

// The reasons.
const (
	Busy      Reason = 1 + iota // as many calls run as may
	Late                        // its time was over before it began
	Leaving                     // no more calls are taken here
	Reentrant                   // every instance here is in use by the calls that led to it
)

var reasons = [...]string{Busy: "busy", Late: "late", Leaving: "leaving", Reentrant: "reentrant"}

// String returns the reason as it is written; "" for none.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return ""
}

func reason(word []byte) Reason {
	for r := Busy; int(r) < len(reasons); r++ {
		if reasons[r] == string(word) {
			return r
		}
	}
	return 0
}

// Error says which rule of docs/wire.md a message breaks, or a manifest.
type Error struct {
	Rule     string // such as W1
	Found    string
	Expected string
}

// Error says what was found and what was expected.
func (e *Error) Error() string { return (*manifest.Error)(e).Error() }

func broken(rule, expected, found string, args ...any) *Error {
	return (*Error)(manifest.Broken(rule, expected, found, args...))
}

// ParseManifest reads what a sidecar says of itself. The description is the caller's, and has nothing of body. The error is an *Error.
func ParseManifest(body []byte) (*abi.Description, error) {
	about, err := manifest.Parse(body)
	if err != nil {
		return nil, (*Error)(err.(*manifest.Error)) // which its errors are
	}
	return about, nil
}

// FormatManifest writes what a plug-in says of itself as a sidecar's hello has it, which ParseManifest reads. What a sidecar cannot do, such as ferrule_batch, is left out. start adds the
// service start, for who needs the configuration in any case.
func FormatManifest(about *abi.Description, start bool) []byte { return manifest.Format(about, start) }

// levels are the words of log lines' levels.
var levels = [...]string{abi.LogError: "error", abi.LogWarn: "warn", abi.LogInfo: "info", abi.LogDebug: "debug", abi.LogTrace: "trace"}

// LevelWord returns a level's word; those that the wire does not have are trace.
func LevelWord(l abi.Level) string {
	if l == 0 || int(l) >= len(levels) {
		return levels[abi.LogTrace]
	}
	return levels[l]
}
