//go:build amd64 || arm64

package host_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/host"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// What these tests need of their host cannot be taken back, or ends it: each is another process of this program, which
// says what it sees line by line.

const hostVariable = "FERRULE_TEST_ISOLATED_HOST"

// hang is after how long something that must have ended is taken to hang. The machine may be busy.
const hang = 30 * time.Second

// hosts are what such a process does, by name; without a keeper where the name begins with that.
var hosts = map[string]func(t *testing.T, args []string){
	"children": hostOfChildren, "setuid": hostWithoutRights, "chroot": hostElsewhere, "sigchld": hostWithoutSIGCHLD,
	"swapped": hostOfSwapped, "overwritten": hostOfOverwritten,
}

// TestHost is that process.
func TestHost(t *testing.T) {
	args := strings.Fields(os.Getenv(hostVariable))
	if len(args) == 0 {
		t.Skip("it is started by the other tests")
	}
	*host.WithKeeper = args[0] == "kept"
	hosts[args[1]](t, args[2:])
}

// startHost starts a host.
func startHost(t *testing.T, kept bool, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	how := "bare"
	if kept {
		how = "kept"
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestHost$", "-test.v")
	cmd.Env = append(os.Environ(), hostVariable+"="+how+" "+strings.Join(args, " "))
	read, write, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = write, os.Stderr
	require.NoError(t, cmd.Start())
	write.Close()
	t.Cleanup(func() {
		read.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_ = read.SetReadDeadline(time.Now().Add(2 * hang))
	return cmd, bufio.NewReader(read)
}

// say is a line for the test, and hear what it finds.
func say(what string, value any) { fmt.Printf("\n%s: %v\n", what, value) }

func hear(t *testing.T, from *bufio.Reader, what string) string {
	t.Helper()
	for {
		line, err := from.ReadString('\n')
		require.NoError(t, err, "waiting for %q", what)
		if rest, ok := strings.CutPrefix(line, what+": "); ok {
			return strings.TrimSpace(rest)
		}
		if !strings.HasPrefix(line, "=== ") && strings.TrimSpace(line) != "" {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func open(t testing.TB, name string, opts ...isolate.Option) *loader.Plugin {
	p, err := loader.Open(fixture.C(t, name), isolate.InWorker(opts...))
	require.NoError(t, err)
	return p
}

func call(t testing.TB, p *loader.Plugin, fn, in string) string {
	out, err := p.Call(context.Background(), fn, []byte(in))
	require.NoError(t, err)
	return string(out)
}

// runs reports whether a process is there and no zombie.
func runs(t testing.TB, pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

var waysToStay = []string{"plain", "setpgid", "orphan", "setpgid-orphan", "setsid", "setsid-orphan"}

// Nothing that a plug-in has started outlives its worker or its host, however the one or the other ends, in a sandbox or not.
func TestNothingOutlives(t *testing.T) {
	for _, box := range []string{"", "sandboxed"} {
		for _, end := range []string{"close", "crash", "kill", "host"} {
			t.Run(strings.TrimSpace(end+" "+box), func(t *testing.T) {
				cmd, from := startHost(t, true, "children", end, box)
				pids := strings.Fields(hear(t, from, "children"))
				require.Len(t, pids, len(waysToStay)+1)
				if end == "host" {
					require.NoError(t, cmd.Process.Kill())
				} else {
					hear(t, from, "ended")
				}
				for i, pid := range pids {
					assert.Eventually(t, func() bool { return !runs(t, pid) }, hang, time.Millisecond, "%d: %s", i, pid)
				}
			})
		}
	}
}

// Without a keeper that is so for what has not left the worker's session, as long as the host is there.
func TestNothingOutlivesWithoutKeeper(t *testing.T) {
	for _, end := range []string{"close", "crash", "kill"} {
		t.Run(end, func(t *testing.T) {
			_, from := startHost(t, false, "children", end)
			pids := strings.Fields(hear(t, from, "children"))
			hear(t, from, "ended")
			for i, how := range append([]string{"worker"}, waysToStay...) {
				if strings.HasPrefix(how, "setsid") { // it stays: that is what the keeper is for
					if n, err := strconv.Atoi(pids[i]); err == nil {
						_ = syscall.Kill(n, syscall.SIGKILL)
					}
				} else {
					assert.Eventually(t, func() bool { return !runs(t, pids[i]) }, hang, time.Millisecond, how)
				}
			}
		})
	}
}

func hostOfChildren(t *testing.T, args []string) {
	var box []isolate.Option
	if len(args) == 2 {
		// BestEffort: for root the system does not count processes.
		box = append(box, sandbox.With(sandbox.Policy{Processes: 100, BestEffort: true}))
	}
	p := open(t, "fault_children", box...)
	pids := []string{call(t, p, "pid", "")}
	for _, how := range waysToStay {
		pids = append(pids, call(t, p, "fault", how))
	}
	say("children", strings.Join(pids, " "))
	switch args[0] {
	case "close":
		say("ended", p.Close())
		for _, pid := range pids { // not some time later
			if *host.WithKeeper {
				assert.False(t, runs(t, pid))
			}
		}
	case "crash":
		_, err := p.Call(context.Background(), "crash", nil)
		say("ended", err)
	case "kill":
		n, err := strconv.Atoi(pids[0])
		require.NoError(t, err)
		say("ended", syscall.Kill(n, syscall.SIGKILL))
	}
	time.Sleep(time.Minute)
}

// A host that was started by root gives up its rights when everything is open, as servers do: deadlines and Close are kept,
// by a keeper that has the rights still, or by a worker that ends when its host lets go of it.
func TestWithoutRights(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root has rights to give up")
	}
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprint("keeper ", kept), func(t *testing.T) {
			cmd, from := startHost(t, kept, "setuid")
			pid := hear(t, from, "worker")
			assert.Contains(t, hear(t, from, "the hanging call"), "and 100ms more (isolate.WithGrace); its worker was killed")
			hear(t, from, "closed")
			assert.Eventually(t, func() bool { return !runs(t, pid) }, hang, time.Millisecond)
			require.NoError(t, cmd.Wait())
		})
	}
}

func hostWithoutRights(t *testing.T, _ []string) {
	p := open(t, "fault_children", isolate.WithGrace(100*time.Millisecond))
	say("worker", call(t, p, "pid", ""))
	require.NoError(t, syscall.Setresgid(65534, 65534, 65534))
	require.NoError(t, syscall.Setresuid(65534, 65534, 65534))
	soon, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := p.Call(soon, "hang", nil)
	say("the hanging call", err)
	// The next worker has this user's rights, and may not be able to read the plug-in. That is said in time.
	_, err = p.Call(context.Background(), "echo", nil)
	say("the next call", err)
	say("closed", p.Close())
}

// A host that changes its root, and whose program was replaced, starts workers all the same.
func TestElsewhere(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may change its root")
	}
	_, from := startHost(t, true, "chroot", t.TempDir())
	assert.Contains(t, hear(t, from, "the crash"), "aborted")
	assert.Equal(t, "works", hear(t, from, "the next worker"))
	assert.Equal(t, "<nil>", hear(t, from, "closed"))
}

func hostElsewhere(t *testing.T, args []string) {
	p := open(t, "fault_children")
	require.NoError(t, syscall.Chroot(args[0]))
	_, err := p.Call(context.Background(), "crash", nil)
	say("the crash", err)
	out, err := p.Call(context.Background(), "echo", []byte("works"))
	if err != nil {
		out = []byte(err.Error())
	}
	say("the next worker", string(out))
	say("closed", p.Close())
}

// A host that ignores SIGCHLD is told how its workers end, or that nobody says so.
func TestWithoutSIGCHLD(t *testing.T) {
	fixture.C(t, "fault_children") // here: a host that ignores SIGCHLD cannot wait for a compiler
	_, from := startHost(t, true, "sigchld")
	assert.Contains(t, hear(t, from, "crash"), `ended by the signal "aborted"`)
	_, from = startHost(t, false, "sigchld")
	assert.Contains(t, hear(t, from, "crash"), "the system did not say how it ended")
}

func hostWithoutSIGCHLD(t *testing.T, _ []string) {
	signal.Ignore(syscall.SIGCHLD)
	p := open(t, "fault_children")
	_, err := p.Call(context.Background(), "crash", nil)
	say("crash", err)
	_ = p.Close()
}

// A worker costs its host no thread that waits for it, and six descriptors.
func TestManyWorkers(t *testing.T) {
	count := func(what string) int {
		entries, err := os.ReadDir("/proc/self/" + what)
		require.NoError(t, err)
		return len(entries)
	}
	first := open(t, "fault_children")
	defer first.Close()
	call(t, first, "echo", "")
	threads, files := count("task"), count("fd")
	const many = 40
	for range many {
		p := open(t, "fault_children")
		defer p.Close()
		call(t, p, "echo", "")
	}
	assert.Less(t, count("task"), threads+many/2)
	assert.LessOrEqual(t, count("fd"), files+6*many+2)
}

// A program that starts workers by its path, where there are no keepers, is told what is wrong with them.
func TestReplacedBinary(t *testing.T) {
	path := t.TempDir() + "/worker"
	copyOfThis(t, path)
	p := open(t, "fault_children", isolate.WithBinary(path))
	defer p.Close()
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o700))
	_, err := p.Call(context.Background(), "crash", nil)
	assert.ErrorIs(t, err, loader.ErrCrash)
	assert.Equal(t, "works", call(t, p, "echo", "works"), "in a worker of the program that Open saw")
}

// copyOfThis copies this test's program, which is a worker.
func copyOfThis(t testing.TB, path string) {
	source, err := os.Open(os.Args[0])
	require.NoError(t, err)
	defer source.Close()
	target, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o700)
	require.NoError(t, err)
	_, err = io.Copy(target, source)
	require.NoError(t, err)
	require.NoError(t, target.Close())
}

// A worker of another version of the protocol is refused before anything of it runs, and the error says so.
func TestWorkerOfAnotherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker")
	copyOfThis(t, path)
	program, err := os.ReadFile(path)
	require.NoError(t, err)
	is := func(version uint32) []byte {
		return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(slices.Clone(mark.Number), uint32(mark.Worker)), version)
	}
	for _, version := range []uint32{mark.Version - 1, mark.Version + 1} {
		other := bytes.ReplaceAll(program, is(mark.Version), is(version))
		require.NotEqual(t, program, other)
		require.NoError(t, os.WriteFile(path, other, 0o700))
		_, err = loader.Open(fixture.C(t, "echo"), isolate.InWorker(isolate.WithBinary(path)))
		require.ErrorIs(t, err, loader.ErrOption)
		assert.ErrorContains(t, err, "a worker of another version of Ferrule, expected one of this program's version")
	}
}

// What was checked is what is started, whatever is at its path by then, with a keeper and without.
func TestProgramIsSwapped(t *testing.T) {
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprint("keeper ", kept), func(t *testing.T) {
			dir := t.TempDir()
			_, from := startHost(t, kept, "swapped", dir)
			assert.Equal(t, "works", hear(t, from, "the next worker"))
			opened, err := strconv.Atoi(hear(t, from, "opened"))
			require.NoError(t, err)
			refused, err := strconv.Atoi(hear(t, from, "refused"))
			require.NoError(t, err)
			t.Log("opened", opened, "refused", refused)
			assert.Equal(t, 60, opened+refused)
			_, err = os.Stat(dir + "/ran")
			assert.ErrorIs(t, err, os.ErrNotExist, "a program ran that is no worker")
		})
	}
}

func hostOfSwapped(t *testing.T, args []string) {
	dir := args[0]
	path, worker, other := dir+"/program", dir+"/worker", dir+"/other"
	copyOfThis(t, worker)
	require.NoError(t, os.WriteFile(other, []byte("#!/bin/sh\necho > "+dir+"/ran\n"), 0o700))
	swap := func(to string) {
		require.NoError(t, os.Link(to, path+".new"))
		require.NoError(t, os.Rename(path+".new", path))
	}
	swap(worker)
	p := open(t, "fault_children", isolate.WithBinary(path))
	swap(other)
	_, err := p.Call(context.Background(), "crash", nil)
	require.ErrorIs(t, err, loader.ErrCrash)
	say("the next worker", call(t, p, "echo", "works"))
	require.NoError(t, p.Close())
	done, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
				swap(worker)
				swap(other)
			}
		}
	}()
	opened, refused := 0, 0
	for range 60 {
		p, err := loader.Open(fixture.C(t, "fault_children"), isolate.InWorker(isolate.WithBinary(path)))
		if err != nil {
			require.ErrorIs(t, err, loader.ErrOption)
			refused++
			continue
		}
		opened++
		require.NoError(t, p.Close())
	}
	close(done)
	<-stopped
	say("opened", opened)
	say("refused", refused)
}

// A program that is overwritten in place is started no more, and the error says so; one that is only renamed, or whose rights
// are changed, is.
func TestProgramIsOverwritten(t *testing.T) {
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprint("keeper ", kept), func(t *testing.T) {
			_, from := startHost(t, kept, "overwritten", t.TempDir())
			assert.Equal(t, "works", hear(t, from, "renamed"))
			reason := hear(t, from, "overwritten")
			assert.Contains(t, reason, "overwritten in place since the plug-in was opened")
			assert.Contains(t, reason, "isolate.WithBinary")
		})
	}
}

func hostOfOverwritten(t *testing.T, args []string) {
	path := args[0] + "/program"
	copyOfThis(t, path)
	p := open(t, "fault_children", isolate.WithBinary(path))
	crash := func() {
		_, err := p.Call(context.Background(), "crash", nil)
		require.ErrorIs(t, err, loader.ErrCrash)
	}
	crash()
	require.NoError(t, os.Chmod(path, 0o755))
	require.NoError(t, os.Rename(path, path+".old"))
	say("renamed", call(t, p, "echo", "works"))
	crash()
	var file *os.File
	require.Eventually(t, func() (ok bool) { // the system lets nobody write as long as it runs
		var err error
		file, err = os.OpenFile(path+".old", os.O_WRONLY|os.O_APPEND, 0)
		return err == nil
	}, hang, time.Millisecond)
	_, err := file.WriteString("more")
	require.NoError(t, err)
	require.NoError(t, file.Close())
	_, err = p.Call(context.Background(), "echo", nil)
	say("overwritten", err)
	_ = p.Close()
}
