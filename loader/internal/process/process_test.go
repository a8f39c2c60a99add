package process_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// What these tests start is their own program, whose first argument says what it is.
var parts = map[string]func(args []string){
	"exit": func(args []string) {
		fmt.Println("last words")
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	},
	"seen": func(args []string) {
		s := seen{Args: args, Env: os.Environ()}
		s.Dir, _ = os.Getwd()
		if text, ok := os.LookupEnv(handlesVariable); ok {
			handle, _ := strconv.ParseUint(text, 10, 64)
			text, err := io.ReadAll(os.NewFile(uintptr(handle), "a file that it was given"))
			s.File = fmt.Sprint(string(text), err)
		}
		_ = json.NewEncoder(os.Stdout).Encode(s)
	},
}

const handlesVariable = "FERRULE_TEST_PROCESS_HANDLES"

// seen is what a program sees.
type seen struct {
	Args, Env []string
	Dir, File string
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if part, ok := parts[os.Args[1]]; ok {
			part(os.Args[2:])
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// hang is after how long something that must have ended is taken to hang. The machine may be busy.
const hang = 30 * time.Second

// start starts a part, and returns its output, which is read from a pipe that ends with the process.
func start(t *testing.T, c process.Command, args ...string) (process.Child, *os.File) {
	t.Helper()
	var err error
	c.Path, err = os.Executable()
	require.NoError(t, err)
	if process.ByDescriptor {
		c.Program, err = os.Open(c.Path)
		require.NoError(t, err)
		defer c.Program.Close()
	}
	null, err := process.Null()
	require.NoError(t, err)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { read.Close() })
	defer write.Close()
	c.Args = append([]string{"a program"}, args...)
	c.Files = append([]*os.File{null, write, write}, c.Files...)
	child, err := process.Start(t.Context(), c)
	require.NoError(t, err)
	return child, read
}

// both runs a test of a program that has a keeper, where there are some, and of one that is alone.
func both(t *testing.T, test func(t *testing.T, c process.Command)) {
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprint("alone ", alone), func(t *testing.T) { test(t, process.Command{Alone: alone}) })
	}
}

// A program that ends by itself is told by its exit code, and its last words are kept.
func TestExitCode(t *testing.T) {
	both(t, func(t *testing.T, c process.Command) {
		child, out := start(t, c, "exit", "7")
		tail := process.NewTail(nil)
		tail.Read(out)
		assert.Positive(t, child.PID())
		signal, code := child.Wait()
		child.Bury()
		assert.Nil(t, signal)
		assert.Equal(t, 7, code)
		assert.Eventually(t, func() bool { return slices.Equal([]string{"last words"}, tail.Lines()) }, hang, time.Millisecond)
		child.Kill() // at any time
	})
}

// A program has the arguments, the environment and the files that it was given, nothing else of this process, and starts in the root.
func TestWhatAProgramGets(t *testing.T) {
	t.Setenv("FERRULE_TEST_PROCESS_SECRET", "not handed down")
	both(t, func(t *testing.T, c process.Command) {
		look := func(c process.Command) (s seen) {
			child, out := start(t, c, "seen", "one", "two words", "")
			text, err := io.ReadAll(out)
			require.NoError(t, err)
			signal, code := child.Wait()
			child.Bury()
			require.Nil(t, signal)
			require.Zero(t, code, string(text))
			require.NoError(t, json.Unmarshal(text, &s), string(text))
			assert.Equal(t, []string{"one", "two words", ""}, s.Args)
			assert.Equal(t, filepath.Dir(s.Dir), s.Dir, "no root folder")
			return s
		}
		s := look(c)
		var names []string
		for _, variable := range s.Env {
			name, _, _ := strings.Cut(variable, "=")
			names = append(names, name)
		}
		assert.ElementsMatch(t, process.Variables, names)

		path := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(path, []byte("what is in it"), 0o600))
		file, err := os.Open(path)
		require.NoError(t, err)
		defer file.Close()
		c.Env, c.Files = []string{"OWN=1"}, []*os.File{file}
		c.Tell = func(handles []uintptr) []string {
			require.Len(t, handles, 1)
			return []string{fmt.Sprintf("%s=%d", handlesVariable, handles[0])}
		}
		s = look(c)
		assert.Contains(t, s.Env, "OWN=1")
		assert.Equal(t, "what is in it<nil>", s.File)
		assert.NotContains(t, strings.Join(s.Env, "\n"), "SECRET")
	})
}

// A program that is not there is an error of Start.
func TestNoProgram(t *testing.T) {
	_, err := process.Start(t.Context(), process.Command{Path: filepath.Join(t.TempDir(), "none"), Args: []string{"none"}})
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// An environment that is a program's own has the time zone of this process, unless it sets it.
func TestEnvironment(t *testing.T) {
	t.Setenv(process.TimeZone, "Asia/Tokyo")
	own := append(make([]string, 0, 4), "A=1")
	assert.Equal(t, []string{"A=1", "TZ=Asia/Tokyo"}, process.Environment(own))
	assert.Empty(t, own[:2][1], "the caller's memory is its own")
	assert.Equal(t, []string{"TZ=UTC"}, process.Environment([]string{"TZ=UTC"}))
	require.NoError(t, os.Unsetenv(process.TimeZone))
	assert.Equal(t, []string{"A=1"}, process.Environment(own))
}
