package ranges_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
)

// What loader.RequireVersion takes for a range means the same in a configuration.
func TestRequiredVersions(t *testing.T) {
	numbers := []string{"0", "1", "2", "0.0", "0.1", "0.2", "1.0", "1.2", "0.0.0",
		"0.0.1", "0.0.2", "0.1.0", "0.1.2", "0.2.0", "1.0.0", "1.0.2", "1.2.0", "1.2.3", "1.3.0", "2.0.0"}
	for _, number := range []string{"0.0.1", "0.2.0", "1.0.0", "1.2.3", "2.0.0"} {
		numbers = append(numbers, number+"-0", number+"-rc.1", number+"-rc.10", number+"-rc.2", number+"-rc.a")
	}
	var of []string
	for _, number := range numbers {
		of = append(of, "^"+number, ">="+number, "<"+number)
		if number != "0.0.0" { // ~0.0.0 is any version, says semver
			of = append(of, "~"+number)
		}
	}
	for _, below := range []string{"<1", "<1.2.3", "<2.0.0-rc.2"} {
		for _, from := range []string{">=0.1", "^1", "~0.0.1", ">=1.0.0-rc.1"} {
			of = append(of, from+", "+below)
		}
	}
	versions := append([]string{"v1.2", "1.2.3+linux", "2024-01", "latest", "01.0.0", "01.2.3+linux", "1.2.3.4"}, numbers...)
	verdicts := map[bool]int{}
	for _, of := range of {
		option := loader.RequireVersion(of)
		for _, version := range versions {
			p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: version}, option)
			if err == nil {
				require.NoError(t, p.Close())
			} else {
				require.ErrorIs(t, err, loader.ErrVersion)
			}
			in := ranges.Parse(of).Fits(ranges.ParseVersion(version)) == ranges.In
			assert.Equal(t, in, err == nil, "%s in %s", version, of)
			verdicts[in]++
		}
	}
	assert.Greater(t, verdicts[true], 1000)
	assert.Greater(t, verdicts[false], 1000)
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		version, of string
		want        ranges.Verdict
		mayFit      bool
	}{
		{"1.3.0", "^1.2", ranges.In, true},
		{"v1.3", " ^1.2 ", ranges.In, true},
		{"2.0.0", "^1.2", ranges.Out, false},
		{"2.0.0-rc.1", "^2", ranges.Prerelease, true}, // by its numbers
		{"2.0.0-rc.1", "^1", ranges.Prerelease, false},
		{"3.0.0-rc.1", "^1", ranges.Prerelease, false},
		{"1.5.0-rc.1", "1.0 - 2.0", ranges.Out, true},
		{"2.5.0-rc.1", "^1.0.0-0 || ^2", ranges.Out, true},
		{"2.1.0-rc.1", "^2", ranges.Prerelease, true},
		{"2.1.0-rc.1", "^2.0.0-0", ranges.In, true},
		{"2.1.0-rc.1", "*", ranges.In, true},
		{"2024-01", "", ranges.In, true},
		{"2024-01", ">=0", ranges.NoVersion, true},
		{"", "^1", ranges.NoVersion, true},
		{"1.0.0", "^^", ranges.NoRange, false},
	} {
		r, v := ranges.Parse(c.of), ranges.ParseVersion(c.version)
		assert.Equal(t, c.want, r.Fits(v), "%s in %s", c.version, c.of)
		assert.Equal(t, c.mayFit, r.MayFit(v), "%s in %s", c.version, c.of)
		assert.Equal(t, c.want != ranges.NoRange, r.Sensible(), c.of)
	}
}

func TestVersionsInOrder(t *testing.T) {
	want := []string{"", "2024-01", "0.9", "1.0.0-rc.1", "1.0.0", "v1", "1.10.0", "2"}
	var all []ranges.Version
	for _, text := range want {
		all = append(all, ranges.ParseVersion(text))
	}
	slices.Reverse(all)
	slices.SortFunc(all, ranges.Version.Compare)
	for i, v := range all {
		require.Equal(t, want[i], v.String())
	}
}

func TestWhichRangesNameAPrerelease(t *testing.T) {
	for text, want := range map[string]bool{"": false, "*": false, "^2": false, "1.0 - 2.0": false, "^^-1": false, "^2.0.0-0": true, "1.x || >=3.0.0-rc.1": true} {
		assert.Equal(t, want, ranges.Parse(text).NamesPrerelease(), text)
	}
}

// TestAbove: of a version that is out of a range it is known whether the range has newer ones.
func TestAbove(t *testing.T) {
	for _, c := range []struct {
		in, than string
		want     bool
	}{{"^2", "1.4.0", true}, {"^1", "2.0.0", false}, {"~1.4", "1.5.0", false}, {"~1.4", "1.3.9", true}, {">1", "1.9.0", true}, {"<2", "2.0.0", false}, {"=1.0.0", "1.0.1", false}, {"=1.0.1", "1.0.0", true},
		{"!=1.0.0", "1.0.0", true}, {">=1, <2 || >3.1.0", "2.5.0", true}, {">=1, <2", "2.5.0", false}, {"1.0 - 1.4", "1.5.0", false}, {"1.x", "2.0.0", false}, {"2.x", "1.0.0", true}, {"=2.0.0-rc.2", "2.0.0-rc.1", true},
		{"=2.0.0-rc.2", "2.0.0", false}, {"^2.0.0-0", "1.9.0", true}, {"one", "1.0.0", false}} {
		assert.Equal(t, c.want, ranges.Parse(c.in).Above(ranges.ParseVersion(c.than)), "%s above %s", c.in, c.than)
	}
}
