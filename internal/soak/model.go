// Package soak is one long run: a system of plug-ins over all engines, under load, while versions, settings and processes come and go, with a model that knows what each call
// may return. This package has the model, what is flat, and the summary; the run itself is its test.
package soak

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/plugins"
)

// Kind is how a call ended.
type Kind string

// The kinds of outcomes.
const (
	Answered    Kind = "answered"
	Crashed     Kind = "crashed"        // *loader.CrashError, of a process here
	Lost        Kind = "node lost"      // remote.ErrNodeLost
	NoNode      Kind = "no node"        // remote.ErrNoNode
	Killed      Kind = "killed late"    // *loader.DeadlineError
	Cancelled   Kind = "cancelled"      // loader.ErrCancelled
	Panicked    Kind = "panicked"       // loader.ErrPanic
	Failed      Kind = "failed"         // loader.ErrFailed
	Suspended   Kind = "suspended"      // loader.ErrSuspended
	LeftOut     Kind = "left out"       // plugins.ErrBroken: the breaker's
	Disabled    Kind = "disabled"       // plugins.ErrDisabled
	Unreachable Kind = "not reached"    // loader.ErrRead of a URL
	Another     Kind = "another server" // loader.ErrLoad of an HTTP server that says something else of itself
	Absent      Kind = "not there"      // the hook of a plug-in that is not among those called
	Unforeseen  Kind = "unforeseen"     // any other error
	WrongAnswer Kind = "wrong answer"   // no error, and not what the model says
)

// KindOf says of which kind an error is.
func KindOf(err error) Kind {
	var crash *loader.CrashError
	var late *loader.DeadlineError
	var open *loader.OpenError
	switch {
	case err == nil:
		return Answered
	case errors.Is(err, plugins.ErrBroken):
		return LeftOut
	case errors.Is(err, plugins.ErrDisabled):
		return Disabled
	case errors.Is(err, remote.ErrNodeLost):
		return Lost
	case errors.Is(err, remote.ErrNoNode):
		return NoNode
	case errors.Is(err, loader.ErrSuspended):
		return Suspended
	case errors.As(err, &late):
		return Killed
	case errors.As(err, &open) && open.Kind == loader.ErrRead:
		return Unreachable
	case errors.As(err, &open) && open.Kind == loader.ErrLoad:
		return Another
	case errors.As(err, &crash):
		return Crashed
	case errors.Is(err, loader.ErrCancelled):
		return Cancelled
	case errors.Is(err, loader.ErrPanic):
		return Panicked
	case errors.Is(err, loader.ErrFailed):
		return Failed
	}
	return Unforeseen
}

// Expectation is what a call may return for as long as nothing is changed. It does not change; another one takes its place.
type Expectation struct {
	Versions []string // that may answer
	Numbers  []uint32 // of the settings that may count
	Kinds    []Kind   // of errors that there may be
	Silent   bool     // none may answer

	next atomic.Pointer[Expectation]
}

// And is this one with more that may be.
func (e *Expectation) And(versions []string, numbers []uint32, kinds ...Kind) *Expectation {
	return &Expectation{Versions: append(slices.Clone(e.Versions), versions...), Numbers: append(slices.Clone(e.Numbers), numbers...), Kinds: append(slices.Clone(e.Kinds), kinds...)}
}

// Member is what the model knows of one plug-in.
type Member struct {
	Name string
	now  atomic.Pointer[Expectation]
}

// NewMember is one that is as e says.
func NewMember(name string, e *Expectation) *Member {
	m := &Member{Name: name}
	m.now.Store(e)
	return m
}

// Now is what holds for calls that begin now.
func (m *Member) Now() *Expectation { return m.now.Load() }

// Become has another expectation hold from now on. One goroutine at a time may call it.
func (m *Member) Become(e *Expectation) {
	m.now.Load().next.Store(e)
	m.now.Store(e)
}

// since calls yes for each expectation that held at some time since from did, until it is true of one.
func since(from *Expectation, yes func(*Expectation) bool) bool {
	for e := from; e != nil; e = e.next.Load() {
		if yes(e) {
			return true
		}
	}
	return false
}

// May reports whether a call that began when from held may end now with an error of this kind.
func (m *Member) May(from *Expectation, kind Kind) bool {
	return since(from, func(e *Expectation) bool { return slices.Contains(e.Kinds, kind) })
}

// Answers reports whether a call that began when from held may be answered now by this version with these settings.
func (m *Member) Answers(from *Expectation, version string, number uint32) bool {
	byVersion, byNumber := false, false // in a change of both each may come first
	since(from, func(e *Expectation) bool {
		byVersion = byVersion || !e.Silent && slices.Contains(e.Versions, version)
		byNumber = byNumber || !e.Silent && slices.Contains(e.Numbers, number)
		return byVersion && byNumber
	})
	return byVersion && byNumber
}

// Hash is FNV-1a, by its definition.
func Hash(text string) uint32 {
	h := uint64(0x811c9dc5)
	for _, b := range []byte(text) {
		h = (h ^ uint64(b)) * 0x01000193 % (1 << 32)
	}
	return uint32(h)
}

// Judge says what is wrong with the answer of a plug-in to an input; "" is nothing. An answer is the version, the number of the settings, and a hash of the input with that.
func (m *Member) Judge(from *Expectation, in, out string) string {
	var version string
	var number, hash uint32
	if n, err := fmt.Sscanf(out, "%s %d %08x", &version, &number, &hash); n != 3 || err != nil || strings.Count(out, " ") != 2 {
		return fmt.Sprintf("found the answer %.200q, expected a version, a number and a hash", out)
	}
	if want := Hash(in) ^ number; hash != want {
		return fmt.Sprintf("found the hash %08x of %.200q with %d, expected %08x", hash, in, number, want)
	}
	if !m.Answers(from, version, number) {
		return fmt.Sprintf("found an answer of %s with %d, expected %s", version, number, m.expected(from))
	}
	return ""
}

// expected is what held since from did, in words.
func (m *Member) expected(from *Expectation) string {
	var all []string
	since(from, func(e *Expectation) bool {
		if e.Silent {
			all = append(all, fmt.Sprintf("no answer, %v", e.Kinds))
		} else {
			all = append(all, fmt.Sprintf("one of %v with one of %v, or %v", e.Versions, e.Numbers, e.Kinds))
		}
		return false
	})
	return strings.Join(all, "; then ")
}

// Fault says what is wrong with an error; "" is nothing.
func (m *Member) Fault(from *Expectation, err error) string {
	kind := KindOf(err)
	if m.May(from, kind) {
		return ""
	}
	return fmt.Sprintf("found an error of the kind %q (%v), expected %s", kind, err, m.expected(from))
}
