package loader

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
)

// The kinds of an OpenError about what the host requires of a plug-in.
var (
	ErrMissingFunc = errors.New("lacks functions that the host requires") // see Require
	ErrVersion     = errors.New("not a version that the host takes")      // see RequireVersion
)

// Require has Open refuse a plug-in that does not export all of these functions, before any of its code runs: an OpenError of
// the kind ErrMissingFunc. It may be given several times; what each asks for is required. A name that is no C identifier of at
// most 128 bytes, and no name at all, are an OpenError of the kind ErrOption.
func Require(functions ...string) Option {
	return func(o *options) error {
		if len(functions) == 0 {
			return optionError("Require", "no name", "the names of functions")
		}
		for _, name := range functions {
			if !abi.ValidName(name) {
				return optionError("Require", fmt.Sprintf("the name %q", name), "a C identifier of at most 128 bytes")
			}
			if !slices.Contains(o.required, name) {
				o.required = append(o.required, name)
			}
		}
		return nil
	}
}

// RequireVersion has Open refuse a plug-in whose version, in its manifest, is not in the range, before any of its code runs: an
// OpenError of the kind ErrVersion.
//
//	^1.2      1.2 or newer, below 2; ^0.2 is below 0.3
//	~1.2      1.2 or newer, below 1.3
//	>=1.2     1.2 or newer
//	<3        older than 3; of prereleases, where the range takes some, 3.0.0-rc.1 is older than 3
//	>=1.2, <3 both, as of any parts with commas between them
//
// These are semantic versions, in which 1.2 is 1.2.0. A version that is none, such as 2024-01, is in no range. A prerelease, such
// as 2.0.0-rc.1, is in a range only where that names one: ^2.0.0-0. The configuration of package plugins reads these ranges
// alike (but ~0.0.0, which is any version there), and more kinds of them.
func RequireVersion(versions string) Option {
	return once("RequireVersion", func(o *options) error {
		var ok bool
		if o.versions, ok = parseRange(versions); !ok {
			return optionError("RequireVersion", fmt.Sprintf("%q", versions), "a range of versions, such as ^1.2, ~1.2 or >=1.2, <3")
		}
		o.versions.text = strings.TrimSpace(versions)
		return nil
	})
}

// acceptRequired reports what the host requires and the plug-in has not.
func (o *options) acceptRequired(path string, d *abi.Description) error {
	m := d.Manifest
	if r := o.versions; r.text != "" {
		found := "version " + m.Version
		if m.Version == "" {
			found = "no version"
		}
		v, ok := parseVersion(m.Version)
		switch {
		case ok && r.has(v):
		case ok && len(v.prerelease) > 0 && !r.prerelease:
			found += ", a prerelease, which only a range that names one takes"
			fallthrough
		default:
			if !ok && m.Version != "" {
				found += ", which is no semantic version"
			}
			return &OpenError{Path: path, Kind: ErrVersion, Found: found, Expected: "one in the range " + r.text,
				Remedy: fmt.Sprintf("Use a version of plug-in %s in that range, or change the host's loader.RequireVersion", m.Name)}
		}
	}
	names := make([]string, len(d.Funcs))
	for i, s := range d.Funcs {
		names[i] = s.Name
	}
	var missing []string
	for _, name := range o.required {
		if !slices.Contains(names, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	what := "function"
	if len(missing) > 1 {
		what = "functions"
	}
	return &OpenError{Path: path, Kind: ErrMissingFunc, Found: "no " + what + " " + strings.Join(missing, ", "),
		Expected: "all that the host calls: " + strings.Join(o.required, ", "),
		Remedy: fmt.Sprintf("Use a version of plug-in %s that exports each of them (this is %s); of its functions: %s",
			m.Name, cmp.Or(m.Version, "one without a version"), didYouMean(missing[0], names))}
}

// version is a semantic version.
type version struct {
	numbers    [3]uint64 // major, minor, patch
	given      int       // how many of these were written
	prerelease []string  // its parts; none where it is a release
}

// parseVersion reads 1.2.3-rc.1+linux, or 1.2.3, 1.2 and 1, with a v before it or without.
func parseVersion(text string) (v version, ok bool) {
	text = strings.TrimPrefix(text, "v")
	text, build, built := strings.Cut(text, "+")
	text, pre, early := strings.Cut(text, "-")
	numbers := strings.Split(text, ".")
	v.given = len(numbers)
	if v.given > 3 || (built || early) && v.given != 3 { // 2024-01 is a date
		return v, false
	}
	for i, number := range numbers {
		n, err := strconv.ParseUint(number, 10, 63)            // one more than each is a number, too
		if err != nil || !identifier(number, built || early) { // 01.2 will do, as package plugins has it
			return v, false
		}
		v.numbers[i] = n
	}
	if early {
		v.prerelease = strings.Split(pre, ".")
	}
	for _, part := range v.prerelease {
		if !identifier(part, true) {
			return v, false
		}
	}
	if built {
		for part := range strings.SplitSeq(build, ".") {
			if !identifier(part, false) {
				return v, false
			}
		}
	}
	return v, true
}

// identifier reports whether a version may have this part, which, where it counts, has no zeros before a number.
func identifier(text string, counts bool) bool {
	for i := range len(text) {
		if c := text[i]; c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return text != "" && !(counts && len(text) > 1 && text[0] == '0' && numeric(text))
}

func numeric(text string) bool { return strings.Trim(text, "0123456789") == "" }

// compare orders versions as the rules of semantic versions do.
func (v version) compare(w version) int {
	if c := slices.Compare(v.numbers[:], w.numbers[:]); c != 0 {
		return c
	}
	switch {
	case len(v.prerelease) == 0 && len(w.prerelease) == 0:
		return 0
	case len(v.prerelease) == 0:
		return 1
	case len(w.prerelease) == 0:
		return -1
	}
	return slices.CompareFunc(v.prerelease, w.prerelease, func(a, b string) int {
		switch {
		case numeric(a) && numeric(b): // of any length
			return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
		case numeric(a):
			return -1
		case numeric(b):
			return 1
		}
		return cmp.Compare(a, b)
	})
}

// versionRange is a range of versions: those that are in all of its parts.
type versionRange struct {
	text       string // "" is no range
	parts      []func(version) bool
	prerelease bool // it names one, and takes them
}

// parseRange reads what RequireVersion says.
func parseRange(text string) (r versionRange, ok bool) {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		bare := strings.TrimLeft(part, "^~<>=")
		v, ok := parseVersion(strings.TrimSpace(bare))
		if !ok {
			return r, false
		}
		r.prerelease = r.prerelease || len(v.prerelease) > 0
		var end [3]uint64 // the numbers from which on versions are beyond ^ and ~
		switch part[:len(part)-len(bare)] {
		case "<":
			r.parts = append(r.parts, func(w version) bool { return w.compare(v) < 0 })
			continue
		case ">=":
			r.parts = append(r.parts, func(w version) bool { return w.compare(v) >= 0 })
			continue
		case "^":
			at := 0 // the first number that is not 0 may not change
			for at < v.given-1 && v.numbers[at] == 0 {
				at++
			}
			copy(end[:], v.numbers[:at+1])
			end[at]++
		case "~":
			at := min(v.given, 2) - 1
			copy(end[:], v.numbers[:at+1])
			end[at]++
		default:
			return r, false
		}
		r.parts = append(r.parts, func(w version) bool { // by the numbers: 3.0.0-rc.1 is none of ^2.0.0-0
			return w.compare(v) >= 0 && slices.Compare(w.numbers[:], end[:]) < 0
		})
	}
	return r, true
}

// has reports whether a version is in the range.
func (r versionRange) has(v version) bool {
	if len(v.prerelease) > 0 && !r.prerelease {
		return false
	}
	for _, in := range r.parts {
		if !in(v) {
			return false
		}
	}
	return true
}
