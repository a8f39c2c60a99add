package sandbox_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// replaceWorker ends the plug-in's worker, and calls until another one answers, or none can be had.
func replaceWorker(t *testing.T, p *loader.Plugin, fn, in string) (string, error) {
	t.Helper()
	before, _ := p.Isolation()
	process, err := os.FindProcess(before.PID)
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	for {
		out, err := p.Call(context.Background(), fn, []byte(in))
		if _, crashed := err.(*loader.CrashError); crashed {
			continue
		}
		if now, _ := p.Isolation(); now.PID == before.PID {
			continue // it is not gone yet
		}
		return string(out), err
	}
}

// A plug-in that renames a link into the place of what it is granted gets, in its next worker, not what the link leads to.
func TestPathOfPolicyIsSwapped(t *testing.T) {
	for name, c := range map[string]struct {
		granted string      // beneath the folder that the plug-in may write
		renames [][2]string // likewise
		secret  string      // what would have become readable; beneath the folder beside it
		keeps   bool        // whether the next worker starts, because its grants are where they were
	}{
		"a folder":       {"granted", [][2]string{{"granted", "old"}, {"link", "granted"}}, "secret", false},
		"a file":         {"file", [][2]string{{"filelink", "file"}}, "secret", false},
		"above a folder": {"granted/deep", [][2]string{{"granted", "old"}, {"link", "granted"}}, "deep/secret", false},
		"it is gone":     {"granted", [][2]string{{"granted", "old"}}, "secret", false},
		"a link":         {"alias", [][2]string{{"link", "alias"}}, "secret", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(t.TempDir())
			require.NoError(t, err)
			at := func(path string) string { return filepath.Join(dir, path) }
			for _, folder := range []string{"w/granted/deep", "vault/deep"} {
				require.NoError(t, os.MkdirAll(at(folder), 0o755))
			}
			for _, file := range []string{"w/file", "vault/secret", "vault/deep/secret"} {
				require.NoError(t, os.WriteFile(at(file), []byte("text"), 0o644))
			}
			require.NoError(t, os.Symlink("../vault", at("w/link")))
			require.NoError(t, os.Symlink("../vault/secret", at("w/filelink")))
			require.NoError(t, os.Symlink("granted", at("w/alias")))
			secret := at("vault/" + c.secret)

			p := open(t, "sandbox_attempts", sandbox.Policy{Write: []string{at("w")}, Read: []string{at("w/" + c.granted)}})
			_, err = p.Call(context.Background(), "read_file", []byte(secret))
			require.ErrorContains(t, err, "Permission denied")
			for _, r := range c.renames {
				_, err := p.Call(context.Background(), "rename", []byte(at("w/"+r[0])+"\n"+at("w/"+r[1])))
				require.NoError(t, err)
			}
			_, err = replaceWorker(t, p, "read_file", secret)
			if c.keeps {
				assert.ErrorIs(t, err, loader.ErrFailed)
				assert.ErrorContains(t, err, "Permission denied")
				return
			}
			var e *loader.OpenError
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, loader.ErrSandbox)
			assert.Contains(t, e.Found, "Policy.Read with")
			assert.Contains(t, e.Found, at("w/"+c.granted))
			assert.NotEmpty(t, e.Expected)
			assert.NotEmpty(t, e.Remedy)
		})
	}
}

// What is the worker's own in /proc is the worker's, not the host's.
func TestOwnFolderOfProc(t *testing.T) {
	p := open(t, "sandbox_attempts", sandbox.Policy{Read: []string{"/proc/self/task"}})
	_, err := p.Call(context.Background(), "list_folder", []byte("/proc/self/task"))
	assert.NoError(t, err)
	_, err = loader.Open(fixture.C(t, "sandbox_attempts"), isolate.InWorker(sandbox.With(sandbox.Policy{Read: []string{"/proc/self/root"}})))
	assert.ErrorIs(t, err, loader.ErrSandbox, "a link to the whole file system")
}

// A stack that is moved and made longer is memory, too; and without moving, what realloc does still works.
func TestMovedStackIsMemory(t *testing.T) {
	free := open(t, "sandbox_attempts", sandbox.Policy{})
	_, err := free.Call(context.Background(), "grow_stack", []byte("100"))
	require.NoError(t, err, "without a limit of memory")
	shut := open(t, "sandbox_attempts", sandbox.Policy{Memory: 64 << 20})
	_, err = shut.Call(context.Background(), "grow_stack", []byte("100"))
	assertNoMemory(t, err)
	out, err := shut.Call(context.Background(), "reallocate", []byte("20"))
	require.NoError(t, err)
	assert.Equal(t, "reallocated", string(out))
}

// Memory that the system's limit does not count is memory: what was written to and then made read-only, and what was mapped in
// place of something else.
func TestUncountedMemoryIsMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector has memory of its own, which the limit lets a worker have")
	}
	for _, how := range []string{"hoard_read_only", "hoard_in_place"} {
		p := open(t, "sandbox_attempts", sandbox.Policy{Memory: 64 << 20})
		var err error
		for err == nil { // it stays in the worker from call to call; at most what 64 MiB in 128 times as many addresses take
			_, err = p.Call(context.Background(), how, []byte("512"))
			time.Sleep(10 * time.Millisecond)
		}
		var crash *loader.CrashError
		if assert.ErrorAs(t, err, &crash, how) {
			assert.Contains(t, crash.Reason, "sandbox.Policy.Memory", how)
		}
	}
}

// A worker that has used up its processor time says so by the policy's name, also in the error.
func TestCPUIsNamed(t *testing.T) {
	p := open(t, "fault_infinite_loop", sandbox.Policy{CPU: time.Second})
	_, err := p.Call(context.Background(), "fault", nil)
	var crash *loader.CrashError
	require.ErrorAs(t, err, &crash)
	assert.Equal(t, syscall.SIGXCPU, crash.Signal)
	assert.ErrorContains(t, err, "used 1s of processor time (sandbox.Policy.CPU)")
}

// A program that takes the worker's place has no more time than the worker.
func TestTimeOfAnotherProgram(t *testing.T) {
	if _, err := os.Stat("/bin/sleep"); err != nil {
		t.Skip("no /bin/sleep")
	}
	p := open(t, "sandbox_attempts", sandbox.Policy{Time: 3 * time.Second, Processes: 4, BestEffort: true, Read: []string{"/bin/sleep"}})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := p.Call(ctx, "exec_sleep", nil)
	var crash *loader.CrashError
	require.ErrorAs(t, err, &crash)
	assert.True(t, strings.Contains(crash.Reason, "sandbox.Policy.Time"), "%v", err)
}

const noProcVariable = "FERRULE_TEST_NO_PROC" // the library's path, for a process that runs one of these tests only

// elsewhere runs a test in a process with namespaces of its own.
func elsewhere(t *testing.T, namespaces uintptr) {
	if os.Getuid() != 0 {
		t.Skip("only root has a file system of its own")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), noProcVariable+"="+fixture.C(t, "echo"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	text, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this root may not have a file system of its own")
	}
	require.NoError(t, err, "%s", text)
	assert.Contains(t, string(text), "--- PASS: "+t.Name())
}

// Where /proc is not mounted, Open says so, whatever the worker's program is.
func TestOpenWithoutProc(t *testing.T) {
	path := os.Getenv(noProcVariable)
	if path == "" {
		elsewhere(t, unix.CLONE_NEWNS)
		return
	}
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	require.NoError(t, unix.Unmount("/proc", unix.MNT_DETACH))
	var e *loader.OpenError
	_, err = loader.Open(path, isolate.InWorker())
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, loader.ErrStart)
	require.ErrorContains(t, err, "/proc is not mounted")
	require.NotEmpty(t, e.Remedy)
	_, err = loader.Open(path, isolate.InWorker(isolate.WithBinary(self)))
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, loader.ErrLoad, "the worker runs, and cannot load its copy")
	require.Contains(t, e.Found, "no /proc")
	require.Contains(t, e.Remedy, "Mount /proc")
}

// Where /proc is that of another PID namespace, a keeper does not find what it is to end, and no layer says that it does.
func TestLayersWithAnotherProc(t *testing.T) {
	const layer = "leaves no processes"
	path := os.Getenv(noProcVariable)
	if path == "" {
		if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
			state, _ := open(t, "echo", sandbox.Policy{}).Isolation()
			require.Contains(t, state.Layers, layer)
		}
		elsewhere(t, unix.CLONE_NEWPID)
		return
	}
	p, err := loader.Open(path, isolate.InWorker())
	require.NoError(t, err)
	state, _ := p.Isolation()
	assert.NotContains(t, state.Layers, layer)
	assert.Contains(t, state.Layers, "no terminal")
	assert.Contains(t, state.Layers, "dies with the host")
	assert.NoError(t, p.Close())
}
