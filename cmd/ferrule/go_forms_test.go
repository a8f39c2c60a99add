package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// fileForm is a file that a plug-in in Go is built as, and how the command is told of it.
type fileForm struct {
	form string
	kind []string // flags for every verb but inspect
	call []string // of call alone
}

var fileForms = []fileForm{
	{fixture.GoProgram, []string{"--sidecar"}, nil},
	{fixture.GoLibrary, nil, []string{"--isolated"}},
	{fixture.GoModule, nil, nil},
}

// with is a command line about it.
func (f fileForm) with(path string, verb string, args ...string) []string {
	all := append([]string{verb}, f.kind...)
	if verb == "call" {
		all = append(all, f.call...)
	}
	return append(append(all, path), args...)
}

// What the command says of a plug-in in Go, what it calls and what it measures is the same in each file that it is built as, but for what only a program can say.
func TestGoForms(t *testing.T) {
	for _, f := range fileForms {
		t.Run(f.form, func(t *testing.T) {
			path := fixture.SDKGo(t, "small", f.form)
			stdout, stderr, code := ferrule(t, "", f.with(path, "call", "count_vowels", "--in", "hello world", "--config", `{"first":1}`)...)
			require.Zero(t, code, stderr)
			assert.Equal(t, "3", stdout)
			stdout, stderr, code = ferrule(t, "abc", f.with(path, "call", "capitals")...)
			require.Zero(t, code, stderr)
			assert.Equal(t, "ABC", stdout)
			stdout, stderr, code = ferrule(t, "", f.with(path, "call", "pays", "--in", "ada", "--import", "rate=printf 7")...)
			require.Zero(t, code, stderr)
			assert.Equal(t, `"ada" pays "7"`, stdout)
			_, stderr, code = ferrule(t, "", f.with(path, "call", "next", "--config", `{"first":-1}`)...)
			assert.Equal(t, exitOpen, code)
			assert.Contains(t, stderr, "first is -1, expected 0 or more")
			_, stderr, code = ferrule(t, "", f.with(path, "call", "pays", "--in", "ada")...)
			assert.Equal(t, exitFailed, code)
			assert.Contains(t, stderr, "nobody knows the rate")

			stdout, stderr, code = ferrule(t, "", f.with(path, "bench", "count_vowels", "--in", "hello", "--duration", "50ms", "--timeout", "1m", "--json")...)
			require.Zero(t, code, stderr)
			var r benchResult
			require.NoError(t, json.Unmarshal([]byte(stdout), &r))
			for form, c := range map[string]*costs{fixture.GoProgram: r.Sidecar, fixture.GoLibrary: r.Isolated, fixture.GoModule: r.Module} {
				if form != f.form {
					assert.Nil(t, c, form)
				} else if assert.NotNil(t, c, form) {
					assert.Positive(t, c.Calls)
					assert.Positive(t, c.MeanNS)
				}
			}
			assert.Nil(t, r.InProcess)

			stdout, stderr, code = ferrule(t, "", "inspect", path, "--json")
			if f.form == fixture.GoProgram {
				assert.Contains(t, stderr, "Where it is a sidecar, name it as one (ferrule call --sidecar, ferrule check --sidecar)", "it says what it is when it runs")
				return
			}
			require.Zero(t, code, stderr)
			for _, says := range []string{`"name": "small"`, `"description": "Package small has one of each kind, and nothing that does harm: for what the command does with plug-ins in Go."`, `"state": "small-1"`} {
				assert.Contains(t, stdout, says)
			}
		})
	}
}

// No case of the check finds anything in a plug-in in Go, whatever it is built as.
func TestGoFormsPass(t *testing.T) {
	for _, f := range fileForms {
		t.Run(f.form, func(t *testing.T) {
			stdout, stderr, code := ferrule(t, "", f.with(fixture.SDKGo(t, "small", f.form), "check", "--level", "10", "--strict", "--timeout", "2m")...)
			assert.Zero(t, code, "%s%s", stdout, stderr)
			assert.Contains(t, stdout, "0 errors, 0 warnings")
		})
	}
}

// The threads that a Go runtime makes for itself are no finding, and one that each instance leaves is.
func TestGoThreads(t *testing.T) {
	path := fixture.SDKGo(t, "small", fixture.GoLibrary)
	for config, want := range map[string]int{`{}`: 0, `{"grows":true}`: 0, `{"keeps":true}`: exitFailed, `{"grows":true,"keeps":true}`: exitFailed} {
		stdout, stderr, code := ferrule(t, "", "check", path, "--strict", "--only", "threads-end", "--timeout", "2m", "--config", config)
		assert.Equal(t, want, code, "%s: %s%s", config, stdout, stderr)
		if want != 0 {
			assert.Regexp(t, `error R15: \d+, \d+, \d+ and \d+ threads more after 16, 32, 48 and 64 instances`, stdout, config)
		}
	}
}

// What a Go runtime has not collected yet is no leak, and a leak is one.
func TestGoLeaks(t *testing.T) {
	for _, c := range []struct {
		form fileForm
		only string
		says string
	}{
		{fileForms[1], "start-stop", "more bytes after each 1000 instances"},
		{fileForms[1], "leaks", "echo: "},
		{fileForms[0], "memory", "echo: "},
	} {
		t.Run(c.form.form+" "+c.only, func(t *testing.T) {
			path := fixture.SDKGo(t, "small", c.form.form)
			stdout, stderr, code := ferrule(t, "", c.form.with(path, "check", "--strict", "--only", c.only, "--timeout", "2m")...)
			assert.Zero(t, code, "%s%s", stdout, stderr)
			stdout, stderr, code = ferrule(t, "", c.form.with(path, "check", "--strict", "--only", c.only, "--timeout", "2m", "--config", `{"leaks":true}`)...)
			assert.Equal(t, exitFailed, code, stderr)
			assert.Contains(t, stdout, c.says)
		})
	}
}
