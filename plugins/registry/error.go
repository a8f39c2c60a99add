package registry

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

// Error says why a release is not to be had. Its parts are for those who show it; Error has them all.
type Error struct {
	Plugin   string // its name; "" where it is about a source, the lock or the store as a whole
	Version  string // may be ""
	Source   string // where it was to come from; may be ""
	Path     string // of the file or folder here that it is about, with line and column where there are any; may be ""
	Found    string // what was found
	Expected string // what would have been right; may be empty
	Remedy   string // what to do; may be empty
	Kind     error  // one of the Err… of this package
	Err      error  // the cause; may be nil
}

// Error says all of it in one line.
func (e *Error) Error() string {
	var b strings.Builder
	if who := strings.TrimSpace(e.Plugin + " " + e.Version); who != "" {
		fmt.Fprintf(&b, "%s: ", who)
	}
	for _, where := range []string{e.Source, e.Path} {
		if where != "" {
			fmt.Fprintf(&b, "%s: ", where)
		}
	}
	cause := ""
	switch {
	case e.Err != nil && e.Found == "" && e.Expected == "" && e.Kind != nil:
		cause = e.Kind.Error() + ": " + e.Err.Error()
	case e.Err != nil:
		cause = e.Err.Error()
	case e.Found == "" && e.Expected == "" && e.Kind != nil:
		cause = e.Kind.Error()
	}
	cause = strings.ReplaceAll(strings.TrimSpace(cause), "\n", "; ") // of several that were joined
	b.WriteString(sentence.Of(e.Found, e.Expected, cause, e.Remedy))
	return escape.Lines(b.String()) // it has words of a server's
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error { return sentence.Causes(e.Kind, e.Err) }

// The kinds of an Error.
var (
	ErrNotFound    = errors.New("no such release")                        // no plug-in, version or platform of that name there
	ErrUnavailable = errors.New("the source cannot be reached")           // a network that failed, a server that is too busy: another try may do
	ErrRefused     = errors.New("the source refuses")                     // it wants other credentials, or none may have this
	ErrMalformed   = errors.New("not what a source may send")             // text that is no description, names that are none, too much of it
	ErrDigest      = errors.New("other bytes than the digest says")       // on the way, or in the store
	ErrReplaced    = errors.New("the release was replaced")               // its source has other bytes under a version that is in the lock
	ErrUnsigned    = errors.New("not signed")                             // and keys are asked for
	ErrSignature   = errors.New("a signature that is not of these bytes") // a byte was changed
	ErrComment     = errors.New("a trusted comment that was changed")     // of a signature
	ErrKey         = errors.New("signed by a key that is not trusted")    // for this plug-in
	ErrRevokedKey  = errors.New("signed by a key that was revoked")
	ErrSubject     = errors.New("signed without a word on which plug-in it is") // or for something else than plug-ins
	ErrKeyText     = errors.New("the key cannot be used")                       // a text that is no key
	ErrPassword    = errors.New("not the key's password")
	ErrRevoked     = errors.New("a version that was revoked") // on the source's list
	ErrStale       = errors.New("an old index")               // its serial or date went back
	ErrIndex       = errors.New("another registry's index")   // in the place of the one that is asked for
	ErrName        = errors.New("another plug-in")            // under the name
	ErrVersion     = errors.New("another version")            // under the number
	ErrPlatform    = errors.New("made for another platform")  // or not made for this one
	ErrHost        = errors.New("made for other versions of the application")
	ErrDowngrade   = errors.New("an older version than the one that is there")
	ErrGrant       = errors.New("needs what it was not granted")
	ErrConflict    = errors.New("no versions fit together") // see the explanation in Found
	ErrKind        = errors.New("a kind of plug-in that cannot be loaded here")
	ErrLock        = errors.New("the lock cannot be used")  // it is no lock, or says something else than config.yaml
	ErrStore       = errors.New("the store cannot be used") // full, read-only, of another owner
)
