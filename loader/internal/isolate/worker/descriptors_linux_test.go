package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// childVariable makes the test binary a process that does one thing of a worker's; its value says which.
const childVariable = "FERRULE_TEST_WORKER_PART"

// children are what it can do. Each gets the program's arguments, and returns what the test reads as JSON.
var children = map[string]func(args []string) any{}

func TestMain(m *testing.M) {
	if part := os.Getenv(childVariable); part != "" {
		if err := json.NewEncoder(os.Stdout).Encode(children[part](os.Args[1:])); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child runs a part in a process of its own, with files as its descriptors from 3 on, and reads its answer.
func child(t *testing.T, part string, answer any, files []*os.File, args ...string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, args...)
	cmd.Env = []string{childVariable + "=" + part}
	cmd.ExtraFiles = files
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	require.NoError(t, json.Unmarshal(out, answer), "%s", out)
}

func init() {
	children["descriptors"] = func(args []string) any {
		// An init function of the program's own has opened a file, and forgotten it.
		if _, err := os.Open(args[0]); err != nil {
			panic(err)
		}
		complete := closeOthers([]uintptr{4})
		var targets []string
		for fd := range 4096 {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && fd > 2 {
				target, _ := os.Readlink(fmt.Sprint("/proc/self/fd/", fd))
				targets = append(targets, fmt.Sprint(fd, " ", target))
			}
		}
		reader, err := os.Open(args[0]) // the poller still works
		if err != nil {
			panic(err)
		}
		reader.Close()
		return append(targets, fmt.Sprint(complete))
	}
}

// A worker has what is its own and no other descriptor: not what it inherits, at low and high numbers, and not what the
// program has opened before it became a worker.
func TestCloseOthers(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	file, err := os.Open(secret)
	require.NoError(t, err)
	defer file.Close()
	for _, least := range []int{30, 1000, 4000} { // leaked: without the mark to be closed at exec
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD, least)
		require.NoError(t, err)
		defer unix.Close(fd)
	}
	own, write, err := os.Pipe()
	require.NoError(t, err)
	defer own.Close()
	defer write.Close()
	var targets []string
	child(t, "descriptors", &targets, []*os.File{file, own}, secret)
	last := len(targets) - 1
	assert.Equal(t, "true", targets[last], "it says that none is left")
	ownSeen := false
	for _, target := range targets[:last] {
		fd, what, _ := strings.Cut(target, " ")
		switch {
		case fd == "4":
			ownSeen = true
			assert.Contains(t, what, "pipe:")
		case what == os.DevNull, what == "anon_inode:[eventpoll]", what == "anon_inode:[eventfd]", strings.HasPrefix(what, "/sys/fs/cgroup/"):
		default:
			assert.Fail(t, "a descriptor that is not the worker's own", target)
		}
	}
	assert.True(t, ownSeen, "what is its own stays")
}
