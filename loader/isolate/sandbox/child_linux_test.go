package sandbox

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
)

// The tests start their own binary again, as a worker is: it takes the sandbox upon itself, opens a plug-in in
// its own process, and calls it.

const childVariable = "FERRULE_TEST_SANDBOX"

// memoryFile is the descriptor at which a child has a file in memory of 1 MiB, as a worker has its shared memory; and
// libraryFile a library in memory.
const memoryFile, libraryFile = 20, 21

// job is what a child does, in this order.
type job struct {
	Threads   int  // calls are also made on so many threads that were there before the sandbox
	Bare      bool // without the sandbox
	Policy    Policy
	ABI       *int // this version of Landlock rather than the system's
	NoSeccomp bool
	Library   string
	InMemory  bool // opened from a copy in memory, as with a digest
	Busy      bool // with garbage collections all the time
	Calls     []call

	uid int // the user, if not the test's own
}

type call struct{ Fn, In string }

// answer is one line of what a child writes: the first of apply and Open, and then one for each call.
type answer struct {
	Layers []string `json:",omitempty"`
	Out    string
	Err    string
}

// outcome is what came of a child.
type outcome struct {
	first  answer
	calls  []answer
	state  *os.ProcessState
	stderr string
}

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
		os.Exit(0)
	}
	// Where the system lets processes trace only those that they have started, the tests' children may trace this
	// one, so that it is the sandbox that keeps them from it.
	_ = unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0)
	os.Exit(m.Run())
}

func child() {
	out := json.NewEncoder(os.Stdout)
	say := func(a answer) {
		if err := out.Encode(a); err != nil {
			panic(err)
		}
	}
	must := func(err error) {
		if err != nil {
			say(answer{Err: err.Error()})
			os.Exit(3)
		}
	}
	var j job
	must(json.NewDecoder(bufio.NewReader(os.Stdin)).Decode(&j))
	must(inMemory(memoryFile, bytes.NewReader(make([]byte, 1<<20))))
	path := j.Library
	if j.InMemory {
		library, err := os.Open(path)
		must(err)
		must(inMemory(libraryFile, library))
		library.Close()
		path = fmt.Sprintf("/proc/self/fd/%d", libraryFile)
	}
	work := make(chan func())
	var ready sync.WaitGroup
	for range j.Threads {
		ready.Add(1)
		go func() {
			runtime.LockOSThread()
			ready.Done()
			for fn := range work {
				fn()
			}
		}()
	}
	ready.Wait()

	var first answer
	if !j.Bare {
		if j.ABI != nil {
			system.landlock = func() (int, string) {
				if *j.ABI == 0 {
					return 0, "not in this test"
				}
				return *j.ABI, ""
			}
		}
		if j.NoSeccomp {
			system.seccomp = func() string { return "not in this test" }
		}
		policy, err := j.Policy.absolute()
		must(err)
		config, err := policy.resolve()
		must(err)
		first.Layers, err = apply(config, []wire.Library{{Path: []byte(path)}})
		must(err)
	}
	p, err := loader.Open(path)
	must(err)
	say(first)

	ctx := context.Background()
	if j.Busy {
		go func() {
			var garbage [][]byte
			for {
				garbage = append(garbage[:len(garbage)%100], make([]byte, 1<<16))
				runtime.GC()
			}
		}()
	}
	for _, c := range j.Calls {
		fn, err := p.Func(c.Fn)
		if err != nil {
			fn, err = p.Hook(c.Fn)
		}
		must(err)
		one := func() (a answer) {
			text, err := fn.Append(ctx, nil, []byte(c.In))
			a.Out = string(text)
			if err != nil {
				a.Err = err.Error()
			}
			return a
		}
		a := one()
		// Each of the threads takes one of these, because none goes on before all have one.
		var inside, over sync.WaitGroup
		inside.Add(j.Threads)
		for range j.Threads {
			over.Add(1)
			work <- func() {
				defer over.Done()
				inside.Done()
				inside.Wait()
				if b := one(); b.Out != a.Out || b.Err != a.Err {
					panic(fmt.Sprintf("%s on another thread: %q, not %q", c.Fn, b, a))
				}
			}
		}
		over.Wait()
		say(a)
	}
}

// inMemory makes a file in memory that lies at the descriptor.
func inMemory(at int, content io.Reader) error {
	fd, err := unix.MemfdCreate("test", 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "memfd")
	defer f.Close()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	return unix.Dup3(fd, at, 0)
}

// run runs a child to its end.
func run(t testing.TB, j job) outcome {
	t.Helper()
	if j.uid != 0 && j.Library != "" { // the checkout may be in a folder of this user alone
		j.Library = copyFor(t, j.Library)
	}
	input, err := json.Marshal(j)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	self, err := os.Executable()
	require.NoError(t, err)
	if j.uid != 0 {
		self = copyFor(t, self)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = []string{childVariable + "=1", "GORACE=atexit_sleep_ms=0"}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(input)
	if j.uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(j.uid), Gid: uint32(j.uid)}}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	require.NotNil(t, cmd.ProcessState, "the child did not start")
	require.NoError(t, ctx.Err(), "the child hangs")
	o := outcome{state: cmd.ProcessState, stderr: stderr.String()}
	lines := json.NewDecoder(&stdout)
	for i := 0; ; i++ {
		var a answer
		if err := lines.Decode(&a); err == io.EOF {
			break
		} else {
			require.NoError(t, err)
		}
		if i == 0 {
			o.first = a
		} else {
			o.calls = append(o.calls, a)
		}
	}
	return o
}

// signal returns the signal that ended the child, or 0.
func (o outcome) signal() syscall.Signal {
	if status := o.state.Sys().(syscall.WaitStatus); status.Signaled() {
		return status.Signal()
	}
	return 0
}

// try is a call of sandbox_attempts with the answer that is expected: ok, or the system's words.
type try struct{ fn, in, answer string }

// What the system says: nothing, what Landlock says to files, and what seccomp says to system calls.
const (
	ok        = "ok"
	denied    = "Permission denied"
	forbidden = "Operation not permitted"
)

// glibc has the words of glibc for those of musl.
var glibc = map[string]string{"No file descriptors available": "Too many open files", "Out of memory": "Cannot allocate memory",
	"Cross-device link": "Invalid cross-device link"}

// expect runs a child that makes the calls, and compares its answers.
func expect(t testing.TB, j job, tries ...try) {
	t.Helper()
	j.Library = fixture.C(t, "sandbox_attempts")
	for _, c := range tries {
		j.Calls = append(j.Calls, call{c.fn, c.in})
	}
	o := run(t, j)
	require.Empty(t, o.first.Err)
	require.Len(t, o.calls, len(tries), "%v\n%s", o.state, o.stderr)
	for i, a := range o.calls {
		answer := ok
		if a.Err != "" {
			_, answer, _ = strings.Cut(a.Err, ": failed: ")
			answer = cmp.Or(glibc[answer], answer)
		}
		assert.Equal(t, tries[i].answer, answer, "%s(%s)", tries[i].fn, tries[i].in)
	}
}

// calls runs a child of sandbox_attempts that makes the calls, with whatever end.
func calls(t testing.TB, j job, calls ...call) outcome {
	t.Helper()
	j.Library, j.Calls = fixture.C(t, "sandbox_attempts"), calls
	return run(t, j)
}

// nobody is a user without rights, or the test is skipped: only root can become one.
func nobody(t testing.TB) int {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can start a child as another user")
	}
	return 65534
}

// copyFor copies a file to where every user gets at it.
func copyFor(t testing.TB, path string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sandbox")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	to := filepath.Join(dir, filepath.Base(path))
	require.NoError(t, os.WriteFile(to, data, 0o755))
	return to
}
