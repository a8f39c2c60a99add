package sandbox_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
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

func open(t testing.TB, name string, p sandbox.Policy, opts ...isolate.Option) *loader.Plugin {
	t.Helper()
	plugin, err := loader.Open(fixture.C(t, name), isolate.InWorker(append(opts, sandbox.With(p))...))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, plugin.Close()) })
	return plugin
}

// Everything that a plug-in needs works in the strictest sandbox, in a worker as hosts have it.
func TestInWorker(t *testing.T) {
	p := open(t, "echo", sandbox.Policy{Memory: 512 << 20})
	isolation, ok := p.Isolation()
	require.True(t, ok)
	for _, layer := range []string{"no-new-privs", "seccomp", "rlimit memory", "rlimit files", "rlimit signals", "no core dumps", "no terminal",
		"dies with the host"} {
		assert.Contains(t, isolation.Layers, layer)
	}
	assert.True(t, slices.ContainsFunc(isolation.Layers, func(s string) bool { return len(s) > 8 && s[:8] == "landlock" }))
	for _, size := range []int{0, 64, 1 << 20, 32 << 20} {
		in := bytes.Repeat([]byte("x"), size)
		for _, fn := range []string{"echo", "echo_own"} {
			out, err := p.Call(context.Background(), fn, in)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(in, out))
		}
	}
}

// What the plug-in tries against its host and the rest of the machine is refused; the same plug-in without a sandbox
// can do it all, so that each refusal is the sandbox's.
func TestAttemptsInWorker(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	free, err := loader.Open(fixture.C(t, "sandbox_attempts"), isolate.InWorker())
	require.NoError(t, err)
	defer free.Close()
	shut := open(t, "sandbox_attempts", sandbox.Policy{})
	host := strconv.Itoa(os.Getpid())
	for _, c := range []struct{ fn, in string }{
		{"read_file", secret},
		{"write_file", filepath.Join(filepath.Dir(secret), "new")},
		{"list_folder", filepath.Dir(secret)},
		{"connect", port},
		{"listen", "0"},
		{"fork", ""},
		{"kill", host + " 0"},
		{"open_memory", host},
	} {
		_, err := free.Call(context.Background(), c.fn, []byte(c.in))
		assert.NoError(t, err, "%s without a sandbox", c.fn)
		_, err = shut.Call(context.Background(), c.fn, []byte(c.in))
		assert.ErrorIs(t, err, loader.ErrFailed, "%s in the sandbox", c.fn)
	}
	// Another program takes the worker's place, and ends.
	_, err = free.Call(context.Background(), "exec", []byte("/bin/true"))
	var crash *loader.CrashError
	require.ErrorAs(t, err, &crash)
	assert.Equal(t, 0, crash.ExitCode)
	_, err = shut.Call(context.Background(), "exec", []byte("/bin/true"))
	assert.ErrorIs(t, err, loader.ErrFailed)
	// Some of it, where it is allowed.
	some := open(t, "sandbox_attempts", sandbox.Policy{Read: []string{filepath.Dir(secret)}})
	out, err := some.Call(context.Background(), "read_file", []byte(secret))
	assert.NoError(t, err)
	assert.NotEmpty(t, out)
}

// Bombs of every kind end at the limit: with an error of the plug-in's own, or with its worker.
func TestBombs(t *testing.T) {
	for _, c := range []struct {
		fixture, in string
		policy      sandbox.Policy
	}{
		{"fault_memory_bomb", fmt.Sprint(uint64(8 << 30)), sandbox.Policy{Memory: 256 << 20}},
		{"fault_thread_bomb", "100000", sandbox.Policy{Memory: 256 << 20}},
		{"fault_fork_bomb", "20", sandbox.Policy{}},
		{"fault_infinite_loop", "", sandbox.Policy{CPU: time.Second}},
	} {
		if raceDetector && c.fixture == "fault_thread_bomb" {
			t.Log("not under the race detector, which needs more memory for a thread than the plug-in has")
			continue
		}
		p := open(t, c.fixture, c.policy)
		start := time.Now()
		_, err := p.Call(context.Background(), "fault", []byte(c.in))
		assert.Error(t, err, c.fixture)
		t.Logf("%s: %v after %v", c.fixture, err, time.Since(start))
		require.Eventually(t, func() bool {
			out, err := p.Call(context.Background(), "echo", []byte("works"))
			return err == nil && string(out) == "works"
		}, time.Minute, time.Millisecond, c.fixture)
	}
}

// What the system counts for all of a user's processes together is not one plug-in's: the next sandbox begins.
func TestTimersOfAll(t *testing.T) {
	p := open(t, "sandbox_attempts", sandbox.Policy{})
	_, err := p.Call(context.Background(), "timers", nil)
	if err == nil {
		t.Skip("this system does not bound the timers of a user")
	}
	assert.ErrorIs(t, err, loader.ErrFailed)
	_, err = open(t, "echo", sandbox.Policy{Time: time.Minute}).Call(context.Background(), "echo", nil)
	assert.NoError(t, err)
}

// The bytes that were verified are the bytes that are loaded, here as well.
func TestDigestInWorker(t *testing.T) {
	data, err := os.ReadFile(fixture.C(t, "echo"))
	require.NoError(t, err)
	shut := isolate.InWorker(sandbox.With(sandbox.Policy{}))
	p, err := loader.Open(fixture.C(t, "echo"), shut, loader.WithSHA256(fmt.Sprintf("%x", sha256.Sum256(data))))
	require.NoError(t, err)
	out, err := p.Call(context.Background(), "echo", []byte("works"))
	assert.NoError(t, err)
	assert.Equal(t, "works", string(out))
	assert.NoError(t, p.Close())
	_, err = loader.Open(fixture.C(t, "echo"), shut, loader.WithSHA256(fmt.Sprintf("%x", sha256.Sum256(nil))))
	assert.ErrorIs(t, err, loader.ErrDigest)
}

func TestOptionErrors(t *testing.T) {
	_, err := loader.Open(fixture.C(t, "echo"), isolate.InWorker(sandbox.With(sandbox.Policy{Memory: -1})))
	assert.ErrorIs(t, err, loader.ErrOption)
	assert.ErrorContains(t, err, "Memory")
	_, err = loader.Open(fixture.C(t, "echo"), isolate.InWorker(sandbox.With(sandbox.Policy{Read: []string{"/no/such/folder"}})))
	assert.ErrorIs(t, err, loader.ErrSandbox)
	assert.ErrorContains(t, err, "/no/such/folder")
}

// A policy that cannot be kept to is refused in three sentences: found, expected, remedy. Every field of a policy that can
// be wrong is here.
func TestPolicyErrorsOfEveryField(t *testing.T) {
	cases := map[string]sandbox.Policy{
		"Read":      {Read: []string{filepath.Join(t.TempDir(), "missing")}},
		"Write":     {Write: []string{filepath.Join(t.TempDir(), "missing")}},
		"Connect":   {Connect: []uint16{0}},
		"Memory":    {Memory: -1},
		"CPU":       {CPU: -1},
		"Time":      {Time: -1},
		"Processes": {Processes: -1},
		"Files":     {Files: -1},
	}
	neverWrong := []string{"Listen", "BestEffort"}
	words := regexp.MustCompile(`^(an option is not valid|the sandbox asked for cannot be had): found ([^.;]|\.\w|/\S+)+, expected [^.;]+\. [A-Z][^;]+\w\.$`)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[sandbox.Policy]()) {
		p, ok := cases[field.Name]
		require.Equal(t, !slices.Contains(neverWrong, field.Name), ok, field.Name)
		if !ok {
			continue
		}
		path := fixture.C(t, "echo")
		_, err := loader.Open(path, isolate.InWorker(sandbox.With(p)))
		var open *loader.OpenError
		require.ErrorAs(t, err, &open, field.Name)
		text := strings.TrimPrefix(err.Error(), path+": ")
		assert.Regexp(t, words, text, field.Name)
		assert.Contains(t, open.Found, "Policy."+field.Name)
		assert.NotEmpty(t, open.Remedy)
	}
}

// The C library reads its time zones when the sandbox is up, and without them tells another time and no error.
func TestTimeZones(t *testing.T) {
	if _, err := os.Stat("/usr/share/zoneinfo/Europe/Berlin"); err != nil {
		t.Skip("no time zones here: apt-get install tzdata")
	}
	shut := open(t, "sandbox_attempts", sandbox.Policy{})
	out, err := shut.Call(context.Background(), "local_time", []byte("Europe/Berlin"))
	require.NoError(t, err)
	assert.Equal(t, "17:06 CEST", string(out))

	t.Setenv("TZ", "Asia/Tokyo")
	own := open(t, "sandbox_attempts", sandbox.Policy{})
	out, err = own.Call(context.Background(), "local_time", nil)
	require.NoError(t, err)
	assert.Equal(t, "00:06 JST", string(out), "the host's own time zone")
	isolation, _ := own.Isolation()
	assert.Contains(t, isolation.Layers, "empty environment but TZ")

	given := open(t, "sandbox_attempts", sandbox.Policy{}, isolate.WithEnv("TZ=UTC"))
	out, err = given.Call(context.Background(), "local_time", nil)
	require.NoError(t, err)
	assert.Equal(t, "15:06 UTC", string(out))
}

// The price of a sandbox when a worker starts.
func BenchmarkOpen(b *testing.B) {
	path := fixture.C(b, "echo")
	for b.Loop() {
		p, err := loader.Open(path, isolate.InWorker(sandbox.With(sandbox.Policy{Memory: 256 << 20})))
		require.NoError(b, err)
		require.NoError(b, p.Close())
	}
}

// A worker has no descriptors but its own, sandboxed or not: not those that its host leaks, at low and high numbers.
func TestOwnDescriptors(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	file, err := os.Open(secret)
	require.NoError(t, err)
	defer file.Close()
	for _, least := range []int{5, 100, 2000} {
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD, least) // without the mark to be closed at exec
		require.NoError(t, err)
		defer unix.Close(fd)
	}
	for _, opts := range [][]isolate.Option{nil, {sandbox.With(sandbox.Policy{})}} {
		p, err := loader.Open(fixture.C(t, "sandbox_attempts"), isolate.InWorker(opts...))
		require.NoError(t, err)
		isolation, _ := p.Isolation()
		assert.Contains(t, isolation.Layers, "own descriptors")
		out, err := p.Call(context.Background(), "list_descriptors", nil)
		require.NoError(t, err)
		assert.Contains(t, string(out), "0 /dev/null\n")
		assert.NotContains(t, string(out), secret)
		require.NoError(t, p.Close())
	}
}

// A sandboxed worker ends as a C program does, too: what was printed arrives by Close.
func TestOutputByClose(t *testing.T) {
	var out bytes.Buffer
	p, err := loader.Open(fixture.C(t, "fault_prints"), isolate.InWorker(isolate.WithOutput(&out), sandbox.With(sandbox.Policy{})))
	require.NoError(t, err)
	_, err = p.Call(context.Background(), "print_part", nil)
	require.NoError(t, err)
	require.NoError(t, p.Close())
	assert.Equal(t, "part exit handler ran\ndestructor of object ran, last words", out.String())
}

// A crash says where it was under a sandbox, too, and in a constructor.
func TestWhereItCrashedInASandbox(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("there is no handler of faults")
	}
	_, err := loader.Open(fixture.C(t, "fault_constructor"), isolate.InWorker(sandbox.With(sandbox.Policy{})))
	var crash *loader.CrashError
	require.ErrorAs(t, err, &crash)
	assert.Regexp(t, `^at the address 0x8, in "\w+"\+0x[0-9a-f]+ \(fault_constructor\.so\+0x[0-9a-f]+\)$`, crash.Fault)
	p := open(t, "fault_sigsegv", sandbox.Policy{Memory: 64 << 20})
	_, err = p.Call(context.Background(), "fault", nil)
	require.ErrorAs(t, err, &crash)
	assert.Regexp(t, `^at the address 0x8, in "\w+"\+0x[0-9a-f]+ \(fault_sigsegv\.so\+0x[0-9a-f]+\)$`, crash.Fault)
}
