package sidecar

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// The test's own program is a sidecar, or the host of one, when its environment says so.
func TestMain(m *testing.M) {
	switch os.Getenv("FERRULE_TEST_AS") {
	case "sidecar":
		Main(programmed())
	case "host":
		hostToKill()
	default:
		os.Exit(m.Run())
	}
}

// programmed is the plug-in of that sidecar. Its stop function writes to the file in FERRULE_TEST_STOPPED.
func programmed() *plugin.Plugin {
	f := func(name string, call func(in []byte) ([]byte, error)) plugin.Function {
		return plugin.Function{Name: name, Call: func(_ context.Context, _ any, in []byte) ([]byte, error) { return call(in) }}
	}
	return plugin.New(plugin.Definition{Name: "programmed", Version: "1.2.3", Description: "Does as it is told.", Functions: []plugin.Function{
		f("echo", func(in []byte) ([]byte, error) { return in, nil }),
		f("hang", func([]byte) ([]byte, error) { select {} }),
		f("panic", func([]byte) ([]byte, error) { panic("told so") }),
		f("print", func([]byte) ([]byte, error) {
			fmt.Println("by fmt")
			if runtime.GOOS != "windows" {
				if out, err := os.OpenFile("/dev/fd/1", os.O_WRONLY, 0); err == nil { // as a program that it starts may
					fmt.Fprintln(out, "by the descriptor")
					_ = out.Close()
				}
				return io.ReadAll(os.Stdin)
			}
			return nil, nil
		}),
	},
		Start: func(context.Context, []byte) (any, error) { return nil, nil },
		Stop: func(context.Context, any) error {
			fmt.Println("stops") // where nobody reads it any more
			if path := os.Getenv("FERRULE_TEST_STOPPED"); path != "" {
				return os.WriteFile(path, []byte("stopped"), 0o666)
			}
			return nil
		}})
}

// program returns the test's own program as a sidecar.
func program(t testing.TB, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "FERRULE_SIDECAR=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(append(cmd.Env, "FERRULE_TEST_AS=sidecar", "GORACE=atexit_sleep_ms=0"), env...)
	return cmd
}

// startedProgram is a program that is spoken to by its standard streams, with what it says on its standard error.
func startedProgram(t testing.TB, cmd *exec.Cmd) (*host, *bytes.Buffer) {
	t.Helper()
	var said bytes.Buffer
	cmd.Stderr = &said
	from, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout = from, to
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = from.Close(), to.Close()
	h := &host{TB: t, in: in, r: bufio.NewReaderSize(out, 1<<20), out: out, outcome: make(chan error, 1)}
	go func() { h.outcome <- cmd.Wait() }()
	t.Cleanup(func() { _, _, _ = in.Close(), out.Close(), cmd.Process.Kill() })
	return h, &said
}

// exits is how the program ends, with -1 where it was killed.
func (h *host) exits() int {
	h.Helper()
	err := h.ends()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		h.Fatal(err)
	}
	return 0
}

// TestMainByHand: who starts the program in a terminal is told what it is, and how to use it.
func TestMainByHand(t *testing.T) {
	cmd := program(t) // whose standard input is a device, as a terminal is
	var said, out bytes.Buffer
	cmd.Stderr, cmd.Stdout = &said, &out
	err := cmd.Run()
	if cmd.ProcessState.ExitCode() != 2 || out.Len() > 0 {
		t.Errorf("found %v and %q, expected the exit status 2 and no output", err, &out)
	}
	for _, part := range []string{"programmed 1.2.3 is a plug-in", "Does as it is told.", "ferrule call --sidecar " + cmd.Path + " echo --in INPUT", "ferrule check --sidecar " + cmd.Path} {
		if !strings.Contains(said.String(), part) {
			t.Errorf("found %s, expected %s in it", &said, part)
		}
	}
	cmd = program(t, "FERRULE_SIDECAR=3;4")
	said.Reset()
	cmd.Stderr = &said
	_ = cmd.Run()
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(said.String(), "found FERRULE_SIDECAR=3;4, expected two descriptors such as 3,4") {
		t.Errorf("found %v and %s", cmd.ProcessState, &said)
	}
}

// TestMainEnds: the exit status is 0 where the host ends the session, and otherwise 1, with a line that says why.
func TestMainEnds(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		status int
		says   string
	}{
		"BYE":           {"HELLO 1\n\nBYE\n\n", 0, ""},
		"the end":       {"HELLO 1\n\n", 0, ""},
		"before it":     {"", 0, ""},
		"in a message":  {"HELLO 1\n\nCALL 1 e", 1, "programmed: unexpected EOF\n"},
		"no message":    {"HELLO 1\n\nhello\n\n", 1, `programmed: found the line "hello", expected a message, which begins with HELLO, CALL, DONE, CANCEL, LOG, PROGRESS, PART, MORE or BYE (rule W1 of docs/wire.md)` + "\n"},
		"another hello": {"HELLO 2\n\n", 1, "programmed: found version 2 of the wire, expected version 1 (rule W4 of docs/wire.md)\n"},
	} {
		h, said := startedProgram(t, program(t))
		h.send(c.text)
		_ = h.in.Close()
		if status := h.exits(); status != c.status || said.String() != c.says {
			t.Errorf("%s: found the exit status %d and %q, expected %d and %q", name, status, said, c.status, c.says)
		}
	}
}

// TestMainPrints: what a function prints is on the standard error, and no message; its standard input is empty.
func TestMainPrints(t *testing.T) {
	h, said := startedProgram(t, program(t))
	h.send("HELLO 1\n\n")
	h.next()
	h.call(1, "ferrule.start", "")
	h.expect("DONE 1 0")
	h.call(2, "print", "")
	h.expect("DONE 2 0")
	h.call(3, "echo", "on")
	h.expect("DONE 3 0: on")
	h.call(4, "ferrule.stop", "")
	h.expect("DONE 4 0")
	h.send("BYE\n\n")
	if status := h.exits(); status != 0 {
		t.Errorf("found the exit status %d", status)
	}
	want := "by fmt\nby the descriptor\nstops\n"
	if runtime.GOOS == "windows" {
		want = "by fmt\nstops\n"
	}
	if said.String() != want {
		t.Errorf("found %q on the standard error, expected %q", said, want)
	}
}

// TestMainDescriptors: where the environment names descriptors, messages go by these.
func TestMainDescriptors(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("descriptors are for Unix")
	}
	cmd := program(t, "FERRULE_SIDECAR=3,4")
	from, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{from, to}
	var printed bytes.Buffer
	cmd.Stdout = &printed
	cmd.Stdin = strings.NewReader("HELLO 1\n\n") // which comes by both ways
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = from.Close(), to.Close()
	h := &host{TB: t, in: in, r: bufio.NewReaderSize(out, 1<<20), out: out, outcome: make(chan error, 1)}
	go func() { h.outcome <- cmd.Wait() }()
	h.send("HELLO 1\n\n")
	h.next()
	h.call(1, "ferrule.start", "")
	h.expect("DONE 1 0")
	h.call(2, "print", "")
	h.expect("DONE 2 0")
	h.send("BYE\n\n")
	if status := h.exits(); status != 0 || !strings.HasPrefix(printed.String(), "by fmt\n") {
		t.Errorf("found the exit status %d and %q", status, &printed)
	}
	_, _ = in.Close(), out.Close()
}

// TestMainHangs: neither a function that does not return nor an answer that nobody reads holds the program.
func TestMainHangs(t *testing.T) {
	for how, call := range map[string]func(h *host){
		"a function": func(h *host) { h.call(2, "hang", "") },
		"an answer":  func(h *host) { h.call(2, "echo", strings.Repeat("x", 10<<20)) },
	} {
		for _, end := range []string{"BYE\n\n", ""} {
			t.Run(fmt.Sprintf("%s %q", how, end), func(t *testing.T) {
				t.Parallel()
				h, said := startedProgram(t, program(t))
				h.send("HELLO 1\n\n")
				h.next()
				h.call(1, "ferrule.start", "")
				h.expect("DONE 1 0")
				call(h)
				h.send(end)
				_ = h.in.Close()
				if status := h.exits(); status != 0 {
					t.Errorf("found the exit status %d and %s", status, said)
				}
			})
		}
	}
}

// hostToKill is a host that starts a sidecar, says so, and waits for its end.
func hostToKill() {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "FERRULE_TEST_AS=sidecar")
	in, err := cmd.StdinPipe()
	if err != nil {
		panic(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if _, err := cmd.StderrPipe(); err != nil { // which breaks, too
		panic(err)
	}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	fmt.Fprint(in, "HELLO 1\n\nCALL 1 ferrule.start\n\n")
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasSuffix(lines.Text(), "DONE 1 0") {
			break
		}
	}
	fmt.Println("started")
	select {}
}

// TestMainHostKilled: where the host is killed the plug-in is stopped, though all that it writes to is broken.
func TestMainHostKilled(t *testing.T) {
	stopped := filepath.Join(t.TempDir(), "stopped")
	cmd := program(t, "FERRULE_TEST_AS=host", "FERRULE_TEST_STOPPED="+stopped)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "started\n" {
		t.Fatalf("found %q and %v", line, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if text, _ := os.ReadFile(stopped); string(text) == "stopped" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the plug-in was not stopped")
		}
	}
}
