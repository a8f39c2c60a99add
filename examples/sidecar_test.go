package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/internal/fixture/sidecar"
)

// TestSidecars has a host that knows docs/wire.md alone call the sidecars that are written without a library: each function and hook with each of its
// ends, messages that come byte by byte, bodies that no pipe holds, a call that is cancelled too late, and the two ways to end.
func TestSidecars(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(fixture.Root(), "examples", "sidecar")
	for name, c := range map[string]struct {
		command func(t *testing.T) []string
		env     []string
		invalid string // the message for what is not UTF-8
	}{
		"python": {script("python3", "apt-get install python3", filepath.Join(folder, "vowels.py")), []string{"PYTHONUNBUFFERED="},
			"'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"},
		"python, unbuffered": {script("python3", "apt-get install python3", filepath.Join(folder, "vowels.py")), []string{"PYTHONUNBUFFERED=1"},
			"'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"},
		"node": {script("node", "apt-get install nodejs", filepath.Join(folder, "vowels.js")), nil,
			"The encoded data was not valid for encoding utf-8"},
		"go": {func(t *testing.T) []string {
			program := filepath.Join(t.TempDir(), "vowels")
			build := exec.Command(fixture.Tool(t, "go", "see https://go.dev/dl"), "build", "-o", program, "./go")
			build.Dir = folder
			text, err := build.CombinedOutput()
			require.NoError(t, err, "%s", text)
			return []string{program}
		}, nil, "the text is not UTF-8"},
		"rust": {func(t *testing.T) []string {
			build := exec.Command(fixture.Tool(t, "cargo", "apt-get install cargo, or see https://rustup.rs"), "build", "--quiet", "--locked", "--release",
				"--manifest-path", "Cargo.toml", "--target-dir", "target", "-p", "sidecar-vowels")
			build.Dir = filepath.Join(fixture.Root(), "examples")
			text, err := build.CombinedOutput()
			require.NoError(t, err, "%s", text)
			return []string{filepath.Join(build.Dir, "target", "release", "sidecar-vowels")}
		}, nil, "invalid utf-8 sequence of 1 bytes from index 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := c.command(t)
			s := sidecar.Start(t, command, c.env...)
			hello := s.Hello("Log", "info", "Nobody-Knows", "this")
			assert.JSONEq(t, `{"name": "vowels", "version": "1.0.0", "functions": {"count_vowels": {}, "points": {}},
				"hooks": {"before_checkout": {}}, "wants": {"loyalty_points": {}}}`, hello.Body)
			s.Call("count_vowels", "hello, world", 0, "3")
			s.Call("count_vowels", "AEIOU aeiou ÄÖÜ", 0, "10")
			s.Call("count_vowels", "", 0, "0")
			s.Call("count_vowels", "\xff", 2, c.invalid)
			s.CallHook("before_checkout", "basket", 0, "5 % off")
			s.CallHook("before_checkout", "", 9, "")
			s.Call("nothing", "x", 3, "")
			s.Call("toString", "x", 3, "")

			s.Begin("points", "Ada")
			s.Expect("CALL 1 loyalty_points", "Ada")
			s.Send("CANCEL 9", "")
			s.Send("DONE 1 0", "42")
			s.Expect("DONE 9 0", "points: 42")
			s.Begin("points", "Ada")
			s.Expect("CALL 1 loyalty_points", "Ada")
			s.Send("DONE 1 1000", "no such customer")
			s.Expect("DONE 10 1", "loyalty_points: no such customer")
			s.Send("CANCEL 10", "")

			for _, b := range []byte("CALL 11 count_vowels\r\ncontent-length: 5\r\nTimeout: 1000\r\n\r\nhello") {
				s.Raw(string(b))
			}
			s.Expect("DONE 11 0", "2")
			long := strings.Repeat("vowels, ", 1<<18)
			s.Send("CALL 12 count_vowels", long)
			s.Expect("DONE 12 0", "524288")
			s.Send("CALL 13 points", long)
			s.Expect("CALL 1 loyalty_points", long)
			s.Send("DONE 1 0", long)
			s.Expect("DONE 13 0", "points: "+long)
			s.Bye()

			for _, cut := range []string{"", "CALL 1 po", "CALL 1 points\n", "CALL 1 points\nContent-Length: 2\n\nx"} {
				s := sidecar.Start(t, command, c.env...)
				s.Hello()
				s.Raw(cut)
				s.CloseWrite()
				s.ExpectEnd() // and calls nothing
				s.Wait()
			}
			s = sidecar.Start(t, command, c.env...)
			s.Hello()
			s.Raw("FETCH 1\n\nCALL 1 points\n\n")
			s.ExpectEnd() // what is no message ends the session
			s.Wait()
		})
	}
}

// script returns what gives the command of a script.
func script(program, install, path string) func(t *testing.T) []string {
	return func(t *testing.T) []string { return []string{fixture.Tool(t, program, install), path} }
}

// TestSidecarsAreShort: without a library an author writes no more lines than these that are not blank.
func TestSidecarsAreShort(t *testing.T) {
	t.Parallel()
	line := regexp.MustCompile(`(?m)^.*\S.*$`)
	for name, most := range map[string]int{"vowels.py": 25, "vowels.js": 25, "go/vowels.go": 55, "vowels/src/main.rs": 60} {
		text, err := os.ReadFile(filepath.Join(fixture.Root(), "examples", "sidecar", filepath.FromSlash(name)))
		require.NoError(t, err)
		assert.LessOrEqual(t, len(line.FindAll(text, -1)), most, name)
	}
}
