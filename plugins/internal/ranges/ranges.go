// Package ranges reads versions and ranges of versions as manifests, config.yaml and registries write them: one reading for all
// who compare them.
//
// Versions are semantic versions. `1.2` and `1` are taken as 1.2.0 and 1.0.0, a `v` in front is passed over. Any other text
// (`2024-01`, or none at all) does where no range is asked for, or `*`, and is in no other range. A prerelease, such as 2.0.0-rc.1, is in a
// range only where the range names a prerelease (`^2.0.0-0`), and where there is no range or `*`. For `conflicts` it is in a range by
// its numbers alone, and a version that cannot be compared is in all: what cannot be told counts as a conflict.
//
// Ranges are those of github.com/Masterminds/semver/v3: `^1.2`, `~1.2`, `>=1.2, <3`, `1.x || ^3`.
package ranges

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Expected is what messages say in place of a range that makes no sense.
const Expected = "a range of versions, such as ^1.2"

// Verdict is whether a version is in a range.
type Verdict int

// The verdicts.
const (
	In         Verdict = iota
	Out                // of the range
	Prerelease         // one, and the range names none
	NoVersion          // nothing to compare
	NoRange            // the range makes no sense
)

// Version is a version that was read. It is a value; it may be used by several goroutines.
type Version struct {
	text string
	v    *semver.Version // nil where it cannot be compared
}

// ParseVersion reads a version. One, two or three numbers can be compared, or three with what semantic versions allow behind them.
func ParseVersion(text string) Version {
	bare := strings.TrimPrefix(text, "v")
	read := semver.NewVersion
	if strings.ContainsAny(bare, "-+") {
		read = semver.StrictNewVersion // 2024-01 is a date
	}
	v, err := read(bare)
	if err != nil {
		v = nil
	}
	return Version{text, v}
}

// String is the text that was read.
func (v Version) String() string { return v.text }

// Comparable reports whether it is a semantic version.
func (v Version) Comparable() bool { return v.v != nil }

// Prerelease reports whether it is one, such as 2.0.0-rc.1.
func (v Version) Prerelease() bool { return v.v != nil && v.v.Prerelease() != "" }

// Compare orders versions, the oldest first. Those that cannot be compared come before all others. What is equal by the rules of
// semantic versions (1.0 and 1.0.0+linux) is in the order of its text: 0 is the same text only.
func (v Version) Compare(other Version) int {
	switch {
	case v.v == nil && other.v != nil:
		return -1
	case v.v != nil && other.v == nil:
		return 1
	case v.v != nil:
		return cmp.Or(v.v.Compare(other.v), cmp.Compare(v.text, other.text))
	}
	return cmp.Compare(v.text, other.text)
}

// Found is what messages say of a version with such a verdict.
func (v Version) Found(verdict Verdict) string {
	switch {
	case v.text == "":
		return "(no version)"
	case verdict == NoVersion:
		return Shown(v.text) + ", which is no semantic version"
	case verdict == Prerelease:
		return Shown(v.text) + ", a prerelease, which only a range that names one takes (^1.2.0-0)"
	}
	return Shown(v.text)
}

// Range is a range that was read. It may be used by several goroutines.
type Range struct {
	text     string
	all      bool
	releases *semver.Constraints // nil where it makes no sense
	numbers  *semver.Constraints // the same, by the numbers alone
}

// Parse reads a range. One that makes no sense says so by each verdict, and by Sensible.
func Parse(text string) Range {
	r := Range{text: strings.TrimSpace(text)}
	if r.all = r.text == "" || r.text == "*"; r.all {
		return r
	}
	c, err := semver.NewConstraint(r.text)
	if err != nil {
		return r
	}
	numbers := *c
	numbers.IncludePrerelease = true
	r.releases, r.numbers = c, &numbers
	return r
}

// String is the text that was read, without spaces around it.
func (r Range) String() string { return r.text }

// Sensible reports whether it is a range at all.
func (r Range) Sensible() bool { return r.all || r.releases != nil }

// NamesPrerelease reports whether it names a prerelease, and so takes them: ^2.0.0-0.
func (r Range) NamesPrerelease() bool {
	if r.releases == nil {
		return false
	}
	for i := 1; i < len(r.text); i++ {
		if r.text[i] == '-' && strings.IndexByte("0123456789xX*", r.text[i-1]) >= 0 { // not that of 1.0 - 2.0
			return true
		}
	}
	return false
}

// Fits says whether a version is in the range.
func (r Range) Fits(v Version) Verdict {
	switch {
	case r.all:
		return In
	case r.releases == nil:
		return NoRange
	case v.v == nil:
		return NoVersion
	case r.releases.Check(v.v):
		return In
	case v.Prerelease() && !strings.Contains(r.text, "-"):
		return Prerelease
	}
	return Out
}

// numbered are the versions that a range names, prereleases with what makes them one.
var numbered = regexp.MustCompile(`[0-9]+(?:\.[0-9]+)*(?:-[0-9A-Za-z.-]+)?`)

// Above reports whether versions newer than v may be in the range, which v is not in. A part of the range that is above v begins with a version that it names, or right behind one.
func (r Range) Above(v Version) bool {
	if r.releases == nil || v.v == nil {
		return r.all
	}
	tries := []semver.Version{*semver.New(math.MaxInt32, 0, 0, "", "")}
	for _, text := range numbered.FindAllString(r.text, -1) {
		if named := ParseVersion(text).v; named != nil {
			tries = append(tries, *named, named.IncPatch(), named.IncMinor(), named.IncMajor())
		}
	}
	return slices.ContainsFunc(tries, func(t semver.Version) bool { return t.GreaterThan(v.v) && r.releases.Check(&t) })
}

// MayFit reports whether a version is in the range as far as can be told: what cannot be compared is. A prerelease is where it is by its place among the versions, or by its
// numbers alone: 2.0.0-rc.1 in ^2.
func (r Range) MayFit(v Version) bool {
	verdict := r.Fits(v)
	if verdict == In || verdict == NoVersion || verdict == NoRange || !v.Prerelease() {
		return verdict == In || verdict == NoVersion
	}
	release, err := v.v.SetPrerelease("")
	return r.numbers.Check(v.v) || err == nil && r.numbers.Check(&release)
}

// Split splits a line of `requires` or `conflicts` into the name of a plug-in and the range that follows, which is "" where none
// does. A range may stand right behind the name, as in `tax>=1.2`. The name is "" where the line begins with none.
func Split(line string) (name, versions string) {
	line = strings.TrimSpace(line)
	end := 0
	for end < len(line) && nameByte(line[end]) {
		end++
	}
	return line[:end], strings.TrimSpace(line[end:])
}

// Shown returns a name or a version as it is, or quoted where it has what neither may have: it may steer a terminal.
func Shown(text string) string {
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c > '~' || !nameByte(byte(c)) && c != '+' }) {
		return strconv.Quote(text)
	}
	return text
}

// nameByte reports whether a plug-in's name may have the byte (rule R1).
func nameByte(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}
