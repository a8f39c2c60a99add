package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/gen"
)

// TestGen: what the command says of a package's files, by its exit code, in words and as JSON; with --check it writes nothing. go generate does the same.
func TestGen(t *testing.T) {
	need(t, "go")
	dir := made(t, "go", "greeter").Dir
	source, file := filepath.Join(dir, "greeter.go"), filepath.Join(dir, "ferrule_gen.go")
	text, err := os.ReadFile(source)
	require.NoError(t, err)
	put := func(text string) { require.NoError(t, os.WriteFile(source, []byte(text), 0o666)) }
	said := func(code int, args ...string) (stdout, stderr string) {
		t.Helper()
		stdout, stderr, exit := ferrule(t, "", append([]string{"gen", dir}, args...)...)
		assert.Equal(t, code, exit, "%s%s", stdout, stderr)
		return stdout, stderr
	}
	stdout, stderr := said(exitOK, "--check")
	assert.Equal(t, "greeter 0.1.0: 1 function\n", stdout)
	assert.Empty(t, stderr)

	put(strings.Replace(string(text), "func Greet(name", "func Salute(name", 1))
	stdout, stderr = said(exitFailed, "--check")
	assert.Empty(t, stdout)
	at := filepath.ToSlash(dir)
	assert.Equal(t, "ferrule: "+at+"/ferrule_gen.go is not as ferrule gen writes it\nferrule: "+at+"/cmd/greeter/library.go is not as ferrule gen writes it\n"+
		"ferrule: "+at+"/cmd/greeter/module.go is not as ferrule gen writes it. Run ferrule gen.\n", stderr)
	stdout, _ = said(exitFailed, "--check", "--json")
	var r gen.Result
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	assert.Len(t, r.Changed(), 3)
	assert.Equal(t, []string{"salute"}, r.Functions)

	shell(t, dir, "go generate ./...")
	stdout, _ = said(exitOK, "--check")
	assert.Equal(t, "greeter 0.1.0: 1 function\n", stdout)
	put(strings.Replace(string(text), "name=greeter", "name=saluter", 1))
	stdout, _ = said(exitOK)
	assert.Equal(t, "written "+at+"/ferrule_gen.go\nwritten "+at+"/cmd/saluter/library.go\nwritten "+at+"/cmd/saluter/main.go\nwritten "+at+"/cmd/saluter/module.go\n"+
		"removed "+at+"/cmd/greeter/library.go\nremoved "+at+"/cmd/greeter/main.go\nremoved "+at+"/cmd/greeter/module.go\nsaluter 0.1.0: 1 function\n", stdout)
	assert.NoDirExists(t, filepath.Join(dir, "cmd", "greeter"))
	other := filepath.Join(dir, "cmd", "other")
	stdout, _ = said(exitOK, "-o", other)
	assert.Equal(t, "written "+at+"/cmd/other/library.go\nwritten "+at+"/cmd/other/main.go\nwritten "+at+"/cmd/other/module.go\n"+
		"removed "+at+"/cmd/saluter/library.go\nremoved "+at+"/cmd/saluter/main.go\nremoved "+at+"/cmd/saluter/module.go\nsaluter 0.1.0: 1 function\n", stdout)

	put(strings.Replace(string(text), "func Greet(name string)", "func greet(name chan int)", 1))
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	_, stderr = said(exitFailed)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	assert.Contains(t, stderr, "found the unexported function greet, expected an exported one")
	assert.Contains(t, stderr, "found the parameter name of greet of the type chan int, expected []byte, string, or a type that encoding/json decodes")
	for _, line := range lines {
		assert.True(t, strings.HasPrefix(line, "ferrule: "+source+":"), line)
	}
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))
}
