package loader_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
)

// What the host requires is looked for before any code of the plug-in runs: the process that loads this one crashes.
func TestRequire(t *testing.T) {
	path := fixture.C(t, "check_constructor")
	bothWays(t, func(t *testing.T, w way) {
		for text, c := range map[string]struct {
			kind error
			opts []loader.Option
		}{
			"lacks functions that the host requires: found no functions resize, answr, expected all that the host calls: " +
				"resize, answer, answr. Use a version of plug-in check_constructor that exports each of them (this is 1.0.0); " +
				"of its functions: there is answer.": {
				loader.ErrMissingFunc, []loader.Option{loader.Require("resize", "answer"), loader.Require("answr", "answer")}},
			"found no function answr, expected all that the host calls: answr. Use a version of plug-in check_constructor that " +
				`exports each of them (this is 1.0.0); of its functions: did you mean "answer"?`: {
				loader.ErrMissingFunc, []loader.Option{loader.Require("answr")}},
			"not a version that the host takes: found version 1.0.0, expected one in the range >=1.2, <3. " +
				"Use a version of plug-in check_constructor in that range, or change the host's loader.RequireVersion.": {
				loader.ErrVersion, []loader.Option{loader.Require("answer"), loader.RequireVersion(" >=1.2, <3 ")}},
		} {
			_, err := w.try(path, c.opts...)
			var e *loader.OpenError
			require.ErrorAs(t, err, &e)
			assert.Equal(t, c.kind, e.Kind)
			assert.Equal(t, path, e.Path)
			assert.ErrorContains(t, err, text)
			assertSentence(t, e)
		}
		p := w.open(t, fixture.C(t, "echo"), loader.Require("echo", "fail"), loader.Require("echo"),
			loader.RequireVersion("^1.2"))
		assert.Equal(t, "hello", call(t, p, "echo", "hello"))
		_, err := w.try(fixture.C(t, "echo"), loader.Require("before_echo"))
		assert.ErrorIs(t, err, loader.ErrMissingFunc, "a hook is no function")
	})
}

// These versions are in these ranges; what the configuration of package plugins reads is compared with it there
// (TestRequiredVersions).
func TestRequireVersion(t *testing.T) {
	try := func(version, of string) error {
		p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: version}, loader.RequireVersion(of))
		if err == nil {
			require.NoError(t, p.Close())
		}
		return err
	}
	for of, c := range map[string]struct{ in, out string }{
		"^1.2":         {"1.2 01.2.0 v1.2.0 1.2.3+linux 1.10.0 1.99", "1.1.9 2.0.0 0.9 1.3.0-rc.1 2024-01 latest 01.2.3-rc.1 1.2.3.4"},
		"^0.2":         {"0.2.0 0.2.9", "0.1.9 0.3.0 1.2.0"},
		"^0.0.3":       {"0.0.3", "0.0.2 0.0.4"},
		"^0.0":         {"0.0.0 0.0.9", "0.1.0"},
		"^0":           {"0.0.0 0.9.9", "1.0.0"},
		"~1":           {"1.0.0 1.9.9", "2.0.0"},
		"~1.2":         {"1.2.0 1.2.9", "1.3.0"},
		"~ 1.2.3":      {"1.2.3 1.2.9", "1.2.2 1.3.0"},
		">=1.2, <3":    {"1.2.0 2.99.99", "1.1.99 3.0.0 2.0.0-rc.1"},
		"^2.0.0-0":     {"2.0.0-rc.1 2.0.0 2.1.0-rc.1", "1.9.9 3.0.0-rc.1 3.0.0"},
		">=2.0.0-rc.2": {"2.0.0-rc.10 2.0.0-rc.2.1 2.0.0-rc.a 2.0.0-s 2.0.0", "2.0.0-rc.1 2.0.0-rc 2.0.0-9 2.0.0-rb.3"},
		"<1.0.0-beta":  {"1.0.0-alpha.9 0.9.0", "1.0.0-beta 1.0.0-beta.1 1.0.0"},
	} {
		for _, version := range strings.Fields(c.in) {
			assert.NoError(t, try(version, of), "%s in %s", version, of)
		}
		for _, version := range strings.Fields(c.out) {
			assert.ErrorIs(t, try(version, of), loader.ErrVersion, "%s in %s", version, of)
		}
	}
	assert.ErrorContains(t, try("2024-01", "^1"),
		"found version 2024-01, which is no semantic version, expected one in the range ^1.")
	assert.ErrorContains(t, try("2.0.0-rc.1", "^2"),
		"found version 2.0.0-rc.1, a prerelease, which only a range that names one takes, expected one in the range ^2.")
	for _, of := range []string{"", "*", "1.2", "^", "^^1", "=1", ">1", "<=1", "^1,", "^1 || ^2", "1.x", "^1.2.x", "^-1", "^1.2-rc.1",
		"^1.0.0-01", "^1.0.0-", "^1.0.0+", "^1.0.0-a_b", "^9223372036854775808"} {
		err := try("1.0.0", of)
		assert.ErrorIs(t, err, loader.ErrOption, of)
		assert.ErrorContains(t, err, "expected a range of versions, such as ^1.2, ~1.2 or >=1.2, <3", of)
	}
	_, err := loader.Open(fixture.C(t, "echo"), loader.RequireVersion("^1"), loader.RequireVersion("^1"))
	assert.ErrorContains(t, err, "found RequireVersion twice, expected it once")
}
