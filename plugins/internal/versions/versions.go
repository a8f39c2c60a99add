// Package versions chooses a version of each plug-in: of those that are asked for, and of all that these need. It is a pure
// function of what the plug-ins' descriptions, the lock and the user say: it reaches no network, and asks a Universe.
//
// What holds of a solution:
//
//   - Each plug-in that is asked for is in it, in a version that is in the range asked for; and each that one in it requires, in a
//     version that is in that range. No other is in it, and each once.
//   - No version in it conflicts with another in it. What cannot be compared counts as a conflict.
//   - Each is made for the application: host.<application> has its version, or it names no application at all.
//   - None was left out by the Universe (Candidate.Out), and none says what makes no sense.
//   - None needs itself, by `requires`, over any number of others: what is in a circle does not start.
//   - What is pinned is in the version that it is pinned to, if it is in at all.
//
// Versions and ranges are those of package ranges.
//
// If there are solutions, one is found: the search is complete. Of several it is the one that is best in this order:
//
//  1. What is locked stays: the locked plug-ins that are asked for, by name, then the other locked ones, by name, each stays in its
//     version or is no longer needed, if there is a solution like that among those that what came before has left.
//  2. The plug-ins that are asked for, by name, then what their versions require, by name, then what those require, and so on: each
//     in the best version that what came before has left. The locked version is the best, then the newest release, then the newest
//     prerelease (where a range asked for names a prerelease, prereleases count as releases do), then those that cannot be compared.
//
// So a newer version of one plug-in is not taken where a locked one would have to move for it: leave out of the lock what is to
// be updated. A version that must move may become an older one, if that alone fits.
//
// It is deterministic: neither the order of what is given nor that of a Universe's answers changes what comes out.
//
// The way is that of PubGrub: unit propagation and learning from each conflict, over clauses that come as candidates are asked for.
// So an ordinary problem takes little more than to read what it asks of the Universe. The problem is NP-complete, and there are some
// that would take for ever, where many versions of many plug-ins exclude each other: those end with ErrTooHard after some seconds, and with the context.
package versions

import (
	"context"
	"errors"

	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
)

// Problem is what is to be solved. Resolve changes nothing of it.
type Problem struct {
	App        string // the application's name
	AppVersion string // its version; "" is in no range
	Roots      []Root // what is asked for; a name may occur several times: all of its ranges hold

	// Locked is the versions that plug-ins had so far, by name. They stay unless they must move.
	Locked map[string]Locked
}

// Root is a plug-in that is asked for.
type Root struct {
	Name  string
	Range string // "" is any version
	By    string // who asks, for people: "config.yaml", "the command line"
}

// Locked is the version that a plug-in had so far.
type Locked struct {
	Version string // "" counts as not locked
	Pinned  bool   // it never moves
	Held    bool   // beside Pinned: it does not move this time, since nobody has asked for that; the words are others
}

// Candidate is one version of a plug-in.
type Candidate struct {
	Name      string            // Resolve sets it
	Version   string            // Resolve sets it
	Requires  []string          // a line each, as in the manifest: "tax ^1.2"
	Conflicts []string          // a line each
	Host      map[string]string // by application: the range of host.<application>

	// Out says why the version cannot be chosen whatever the others are, as the end of a sentence that begins with the
	// plug-in and its version: "has no file for linux/arm64", "was revoked". "" where it can be.
	Out string

	Data any // the caller's own, which comes back in the solution
}

// Universe is what there is. Resolve asks it from one goroutine at a time, for each name and each version once at most, and only for
// those that matter: Versions not for a plug-in that stays locked, Candidate not for a version that nothing leads to. An error ends
// Resolve with an *AskError.
type Universe interface {
	// Versions are the versions of a plug-in, in any order. None, and no error: there is no such plug-in. A locked version is a
	// candidate whether it is among them or not. A source that lists only some may be asked by the Universe for those that a root names.
	Versions(ctx context.Context, name string) ([]string, error)

	// Candidate describes a version: one of Versions, or a locked one. One that is not there any more has Out.
	Candidate(ctx context.Context, name, version string) (Candidate, error)
}

// AskError is a Universe's error, and for whom it was asked.
type AskError struct {
	Plugin  string
	Version string // "" where its versions were asked for
	For     string // who needs it: "tax 1.2.0", "config.yaml"
	Err     error
}

// Error says what was asked for, for whom, and what came back.
func (e *AskError) Error() string {
	what := "the versions of " + ranges.Shown(e.Plugin)
	if e.Version != "" {
		what = ranges.Shown(e.Plugin) + " " + ranges.Shown(e.Version)
	}
	return what + ", needed for " + e.For + ": " + e.Err.Error()
}

// Unwrap returns the Universe's error.
func (e *AskError) Unwrap() error { return e.Err }

// mostWork is how many clauses and steps a search may look at: some seconds' worth. Tests have less time.
var mostWork = 200_000_000

// ErrTooHard is of a problem of which it cannot be told in time whether it has a solution.
var ErrTooHard = errors.New("so many versions exclude each other that it cannot be told in time which fit together")

// Resolve returns the best solution, by name. Its error is a *Conflict where there is none, an *AskError where the Universe fails, or
// ErrTooHard, or the context's. It may be called from several goroutines, if the Universe allows it.
func Resolve(ctx context.Context, p Problem, u Universe) (map[string]Candidate, error) {
	known := &known{u: u, versions: map[string][]ranges.Version{}, candidates: map[string]map[string]Candidate{}, ranges: map[string]ranges.Range{}}
	for {
		solution, err := newSearch(p, known).run(ctx)
		if err != errListed {
			return solution, err
		}
	}
}
