package check_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve/web"
)

// script is a sidecar in Python of internal/fixture/sidecar.
func script(t *testing.T, name string, args ...string) check.Sidecar {
	t.Helper()
	return check.Sidecar{Target: fixture.Python(t), Args: append([]string{"-B", filepath.Join(fixture.Root(), "internal", "fixture", "sidecar", name+".py")}, args...)}
}

// atOnce is how many sidecars are checked at the same time: most of that is waiting, for what starts, for what ends, and for what does not come.
const atOnce = 16

// sidecarOptions have time enough for a busy machine.
func sidecarOptions() check.Options {
	return check.Options{Level: 8, Seed: 1, Timeout: 30 * time.Second}
}

// Each fixture has one defect, and the cases that are about it find that and nothing else.
func TestSidecarFindings(t *testing.T) {
	type finding struct {
		fixture string
		want    string // findings; several with a comma
		seen    string // a part of what the first finding says that was seen
		only    string // more cases to run
	}
	fixture.SideBySide(t, atOnce, []finding{
		{"version", "hello error W4", "HELLO 2", "call"},
		{"exits_at_once", "hello error W4", `no hello: the sidecar has ended: exit status 1; its last words: "no configuration at /etc/check"`, "call"},
		{"manifest_key", "manifest error W5", `autor`, "call"},
		{"manifest_version", "manifest error W5", "version", ""},
		{"manifest_both", "manifest error W5", "city as an import and as a want", ""},
		{"manifest_service", "manifest error W5", "pause", ""},
		{"manifest_state", "manifest error W10", "some of the services save and resume and the key state", ""},
		{"words", "words warning W5", `hook around: order="middle"`, "call"},
		{"start_fails", "start error W10", "status 2", "call,bye"},
		{"unknown", "unknown error W7", "status 1", "call"},
		{"hook", "unknown error W7", "a call of hook ", "call"},
		{"dies", "call error W7", "echo with no input: the sidecar has ended: exit status 3, and the call has no answer", "many"},
		{"print", "call error W16", `echo: on the standard output, where messages are: "here I am`, "bye"},
		{"no_answer", "call error W12", "with one byte: no answer", ""},
		{"answers_twice", "start error W7", "a second answer to that call", ""},
		{"other_id", "start error W10,start error W7", "the host has no call of that id", ""},
		{"status_text", "start error W2", `"ok" as the status of DONE`, ""},
		{"status_reserved", "call warning W8", "the status 10", ""},
		{"message", "call error W8", `the message "caf\xe9" of status 1000`, ""},
		{"length", "inputs error W1", "behind a body with characters of more than one byte", "call"},
		{"hello_first", "hello-late error W4", "before the host's hello had come", ""},
		{"takes_version", "hello-version error W4", "HELLO 2, and the session goes on", ""},
		{"case", "heads error W1", "with fields in capitals", "call"},
		{"crlf", "heads error W1", "CR LF", "call"},
		{"unknown_field", "heads error W1,hello-fields error W4", "no hello: the sidecar has ended", "call"},
		{"one_read", "bodies error W1", "no answer", "call"},
		{"text_body", "bodies error W1", "", ""},
		{"small_ids", "ids error W7", "the id 0 in", "call"},
		{"ids_once", "ids error W7", "no answer", "call"},
		{"wears_out", "many error W7", "no answer", ""},
		{"shares", "concurrent error W9", "echo with ", "many"},
		{"cancel_ignored", "call error W12,streams error W12", "wait with no input: no answer, and none ", "streams"},
		{"cancel_late", "cancel error W7", "a second answer to that call", ""},
		{"host_fails", "host-functions error W11", "lookup with no input, where host functions fail: the sidecar has ended: exit status 1", "call"},
		{"host_for", "call error W11", "which is no call that runs", ""},
		{"host_order", "host-order error W11", "lookup with ", "call,host-functions"},
		{"host_undeclared", "call error W11", "a call of hostname in report with no input, which the manifest does not name", ""},
		{"host_reserved", "call error W11", "a call of ferrule.config", ""},
		{"wants", "wants error W5", "lookup with no input, where no want is offered: the sidecar has ended", "call,host-functions"},
		{"info", "info error W11", "where ferrule.info gives nothing", "call"},
		{"config", "config error W10", "settings that are not UTF-8: the sidecar has ended: exit status 1", "call"},
		{"configure", "configure error W10", "after ferrule.configure had failed with settings of one byte: length", "config"},
		{"configure_once", "configure error W10", "with the configuration of --config, after ", "config"},
		{"save_counts", "handover warning W10", "another state", ""},
		{"resume", "handover error W10", "ferrule.resume with what ferrule.save gave: status 2", ""},
		{"log_fields", "call error W13", `the fields "length=1"`, ""},
		{"log_utf8", "call error W13", `"caf\xe9"`, ""},
		{"log_word", "call error W13", "warning", ""},
		{"log_level", "logs warning W4", "Log: error", "call"},
		{"progress", "call error W14", "PROGRESS ", ""},
		{"window", "streams error W15", " more were asked for", "call"},
		{"no_more", "streams error W15", "and no more was asked for", "call"},
		{"more_0", "streams error W15", "no answer until it was cancelled", "call"},
		{"broken_input", "streams warning W15", "success, although the input stream broke off", "call"},
		{"part_undeclared", "call error W15", "the call has no output stream", ""},
		{"part_empty", "streams error W15", "a PART without a body", "call"},
		{"max_body", "max-body error W2", "DONE with a body of 501 bytes", "call"},
		{"bye", "bye error W6", "BYE, and ", ""},
		{"bye_code", "bye warning W6", "after BYE: the sidecar has ended: exit status 1", ""},
		{"end", "end error W6", "the end of the stream, and ", "bye"},
		{"left", "start error W6", "1 process, sleep", ""},
		{"file_left", "start warning W6", `in the working folder: "left.txt"`, ""},
		{"garbage", "garbage error W3", `a line that is no message from the host ("hello there\n\n"), and the session goes on`, ""},
		{"garbage_answered", "garbage error W3", `from the host ("hello there\n\n"), and the answer DONE 1 2`, ""},
		{"descriptors_alone", "ways error W4", "FERRULE_SIDECAR is not set", "call"},
		{"leak", "memory warning W7", "more after ", ""},
	}, func(c finding) string { return c.fixture }, func(t *testing.T, c finding) {
		switch {
		case runtime.GOOS == "windows":
			t.Skip("the scripts are for systems whose pipes are descriptors")
		case runtime.GOOS != "linux" && (c.fixture == "left" || c.fixture == "leak"):
			t.Skip("the case is skipped on this system")
		}
		o := sidecarOptions()
		for want := range strings.SplitSeq(c.want, ",") {
			name, _, _ := strings.Cut(want, " ")
			o.Only = append(o.Only, name)
		}
		if c.only != "" {
			o.Only = append(o.Only, strings.Split(c.only, ",")...)
		}
		if strings.Contains(c.seen, "no answer") || strings.Contains(c.seen, ", and ") {
			o.Timeout = 15 * time.Second // it is waited for what does not come
		}
		v, err := check.RunSidecar(t.Context(), script(t, "check_"+c.fixture), o)
		require.NoError(t, err)
		assert.Equal(t, strings.Split(c.want, ","), findings(v), "%+v", v.Results)
		assert.Equal(t, !strings.Contains(c.want, " error "), v.Pass)
		all := []string{}
		mends := map[string]string{"length": "Content-Length counts bytes, not characters", "max_body": "Max-Body"}
		for _, r := range v.Results {
			for _, f := range r.Findings {
				all = append(all, f.Seen)
				assert.Contains(t, f.Mend, mends[c.fixture])
				assert.NotEmpty(t, f.Expected, "%+v", f)
				assert.NotEmpty(t, f.Mend, "%+v", f)
			}
		}
		assert.True(t, slices.ContainsFunc(all, func(seen string) bool { return strings.Contains(seen, c.seen) }), "%q", all)
	})
}

// Likewise of HTTP servers.
func TestSidecarWebFindings(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a server that is killed there says nothing of its end")
	}
	type finding struct {
		fixture, want, seen, only string // as above
	}
	fixture.SideBySide(t, atOnce, []finding{
		{"web_kind", "hello error W18", `the manifest with Content-Type: "text/html"`, "call"},
		{"web_key", "manifest error W5", "autor", "call"},
		{"web_services", "manifest error W18", "with services", ""},
		{"web_status", "call error W18", "limit with no input: 500", ""},
		{"web_status_missing", "call error W18", `422 with Ferrule-Status: ""`, ""},
		{"web_status_reserved", "call error W18", "the status 10", ""},
		{"web_cut", "call error W18", "echo with a text: unexpected EOF", ""},
		{"web_length", "call error W18", "a body whose length nothing says", "unknown"},
		{"web_lies", "call error W18", "shoot with no input: 404", ""},
		{"web_inputs", "inputs error W18", "EOF", "call"},
		{"web_message_kind", "call error W18", `Content-Type: "application/octet-stream"`, ""},
		{"web_message", "call error W8", `the message "caf\xe9"`, ""},
		{"web_unknown", "unknown error W18", "POST /fn/ferrule_check_of_no_sidecar: 200", "call"},
		{"web_token", "token error W18", `GET /ferrule/manifest with Authorization: "": 200`, "call"},
		{"web_token_manifest", "token error W18", `GET /ferrule/manifest with Authorization: "": 200`, ""},
		{"web_token_part", "token error W18", `GET /ferrule/manifest with Authorization: "Bearer TOKENx": 200`, ""},
		{"web_chunks", "bodies error W18", "echo with a body of one byte, in chunks", "call"},
		{"web_long", "bodies error W18", "echo with 8 MiB: 400", "call"},
		{"web_wears_out", "many error W18", "after ", "call"},
		{"web_shares", "concurrent error W9", "echo at the same time as others", "call"},
		{"web_timeout", "timeout error W18", "with Ferrule-Timeout: 9223372036854775807", "call"},
		{"web_cancel", "cancel error W18", "behind a call whose connection was closed", "call"},
		{"web_goes_on", "cancel-running warning W18", "wait, whose connection was closed: echo is not answered", "call"},
	}, func(c finding) string { return c.fixture }, func(t *testing.T, c finding) {
		o := sidecarOptions()
		for want := range strings.SplitSeq(c.want, ",") {
			name, _, _ := strings.Cut(want, " ")
			o.Only = append(o.Only, name)
		}
		if c.only != "" {
			o.Only = append(o.Only, c.only)
		}
		v, err := check.RunSidecar(t.Context(), check.Sidecar{Target: "http://" + scriptListens(t, "check_"+c.fixture, "the token"), Token: "the token"}, o)
		require.NoError(t, err)
		assert.Equal(t, strings.Split(c.want, ","), findings(v), "%+v", v.Results)
		assert.Contains(t, fmt.Sprintf("%+v", v.Results), c.seen)
		for _, r := range v.Results {
			for _, f := range r.Findings {
				assert.NotEmpty(t, f.Expected, "%+v", f)
				assert.NotEmpty(t, f.Mend, "%+v", f)
			}
		}
	})
}

func TestSidecarWebNoDefect(t *testing.T) {
	t.Parallel()
	const none = "web_none"
	v, err := check.RunSidecar(t.Context(), check.Sidecar{Target: "http://" + scriptListens(t, "check_"+none, "t"), Token: "t"}, sidecarOptions())
	require.NoError(t, err)
	assert.Equal(t, "check", v.Name)
	assert.True(t, v.Pass)
	assert.Empty(t, told(v), "%+v", v.Results)
}

// Every fixture has its line.
func TestSidecarFixtures(t *testing.T) {
	all, err := filepath.Glob(filepath.Join(fixture.Root(), "internal", "fixture", "sidecar", "check_*.py"))
	require.NoError(t, err)
	source, err := os.ReadFile("sidecar_test.go")
	require.NoError(t, err)
	for _, path := range all {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "check_"), ".py")
		assert.Contains(t, string(source), `"`+name, "a fixture that no test has")
	}
}

// sidecarPasses asserts that there is no finding, and which cases have nothing to try.
func sidecarPasses(t *testing.T, v *check.Verdict, skipped ...string) {
	t.Helper()
	assert.True(t, v.Pass)
	assert.Empty(t, told(v), "%+v", v.Results)
	for _, r := range v.Results {
		assert.Equal(t, slices.Contains(skipped, r.Case), r.Outcome == check.Skipped, "%s %s", r.Case, r.Reason)
	}
}

const noToken, noListener = "token", "connections"

func TestSidecarNoDefect(t *testing.T) {
	t.Parallel()
	v, err := check.RunSidecar(t.Context(), script(t, "check_none"), sidecarOptions())
	require.NoError(t, err)
	assert.Len(t, v.Results, len(check.SidecarCases(v.Level)))
	assert.Equal(t, "check", v.Name)
	assert.Equal(t, "1.0.0", v.Version)
	sidecarPasses(t, v, noToken, noListener)
}

// What a function gives may be about other calls, or what the host does not say.
func TestSidecarNoDefectOfCallers(t *testing.T) {
	t.Parallel()
	for name, only := range map[string][]string{"none_counts": {"configure", "concurrent", "host-order"}, "none_asks": {"call", "inputs"}} {
		o := sidecarOptions()
		o.Only = only
		v, err := check.RunSidecar(t.Context(), script(t, "check_"+name), o)
		require.NoError(t, err)
		assert.Empty(t, told(v), "%+v", v.Results)
	}
}

// A program that says nothing has as long as Start says.
func TestSidecarSilent(t *testing.T) {
	t.Parallel()
	o := sidecarOptions()
	o.Start, o.Level = time.Second, 1
	v, err := check.RunSidecar(t.Context(), check.Sidecar{Target: fixture.Python(t), Args: []string{"-c", "import time; time.sleep(1000)"}}, o)
	require.NoError(t, err)
	assert.Equal(t, []string{"hello error W4"}, findings(v))
	assert.Contains(t, fmt.Sprintf("%+v", v.Results), "no hello in 1s")
	assert.Contains(t, fmt.Sprintf("%+v", v.Results), "within the time of --timeout")
}

// A text in the manifest whose length was counted in characters cuts it off.
func TestSidecarManifestCounted(t *testing.T) {
	t.Parallel()
	const program = `
import sys
body = '{"name": "check", "version": "1.0.0", "description": "Grüße", "functions": {}}'
sys.stdout.buffer.write(("HELLO 1\nContent-Length: %d\n\n%s" % (len(body), body)).encode())
sys.stdout.flush()
sys.stdin.read()
`
	o := sidecarOptions()
	o.Level = 1
	v, err := check.RunSidecar(t.Context(), check.Sidecar{Target: fixture.Python(t), Args: []string{"-c", program}}, o)
	require.NoError(t, err)
	assert.Contains(t, findings(v), "manifest error W5")
	assert.Contains(t, fmt.Sprintf("%+v", v.Results), "Content-Length counts bytes, not characters")
}

// onTheWay are the cases for which it matters by which way a sidecar is reached.
var onTheWay = []string{"start", "unknown", "hello-late", "hello-version", noToken, "pieces", "bodies", "cancel", "bye", "end", "garbage", noListener}

// withoutOf are full.py's functions that end the process, print to the standard output, and ask the host for what their input is.
var withoutOf = []string{"exit", "die", "print", "info"}

// An implementation of the page that knows nothing of this one has no finding, by each way and with each word for threads.
func TestSidecarFull(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the script is for systems whose pipes are descriptors")
	}
	type way struct {
		name    string
		args    []string
		token   string
		only    []string // all where there are none
		skipped []string
	}
	fixture.SideBySide(t, atOnce, []way{
		{"descriptors", nil, "", nil, []string{noToken, noListener, "info"}},
		{"standard streams", []string{"--stdio"}, "", onTheWay, []string{noToken, noListener}},
		{"serial", []string{"--threads", "serial", "--token", "open sesame"}, "open sesame", append([]string{"streams", "host-order", "concurrent"}, onTheWay...), []string{noListener, "concurrent"}},
	}, func(c way) string { return c.name }, func(t *testing.T, c way) {
		o := sidecarOptions()
		o.Without, o.Only = withoutOf, c.only
		s := script(t, "full", c.args...)
		s.Token = c.token
		v, err := check.RunSidecar(t.Context(), s, o)
		require.NoError(t, err)
		sidecarPasses(t, v, c.skipped...)
	})
}

// listening starts full.py where it listens, and returns the first line that it prints.
func listening(t *testing.T, args ...string) string {
	t.Helper()
	return scriptListens(t, "full", args...)
}

func scriptListens(t *testing.T, name string, args ...string) string {
	t.Helper()
	s := script(t, name, args...)
	cmd := exec.Command(s.Target, s.Args...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the sidecar's standard error:\n%.10000s", stderr.String())
		}
	})
	if slices.Contains(args, "--fifo") {
		return ""
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
}

func TestSidecarListens(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Python has no unix sockets there")
	}
	none := []string{"start", "hello-late", "hello-version", "pieces", "bye", "end", "garbage", noListener}
	type listener struct {
		name, token string
		skipped     []string
		target      func(t *testing.T, dir string) string
	}
	fixture.SideBySide(t, atOnce, []listener{
		{"unix", "", []string{noToken}, func(t *testing.T, dir string) string { return "unix:" + listening(t, "--unix", dir+"/s") }},
		{"tcp", "t", nil, func(t *testing.T, _ string) string {
			return "tcp:" + listening(t, "--tcp", "127.0.0.1:0", "--token", "t")
		}},
		{"fifo", "", []string{noToken}, func(t *testing.T, dir string) string {
			in, out := dir+"/in", dir+"/out"
			for _, path := range []string{in, out} {
				require.NoError(t, exec.Command("mkfifo", path).Run())
			}
			listening(t, "--fifo", in+","+out)
			return "fifo:" + in + "," + out
		}},
		{"http", "t", none, func(t *testing.T, _ string) string {
			return "http://" + listening(t, "--http", "127.0.0.1:0", "--token", "t")
		}},
		{"http by a socket", "", append([]string{noToken}, none...), func(t *testing.T, dir string) string { return "http+unix:" + listening(t, "--http", dir+"/s") }},
	}, func(c listener) string { return c.name }, func(t *testing.T, c listener) {
		dir, err := os.MkdirTemp("", "") // whose path is short enough for a socket
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		o := sidecarOptions()
		o.Without, o.Only = withoutOf, onTheWay
		if strings.HasPrefix(c.name, "http") {
			o.Only = append([]string{"call", "inputs", "many", "concurrent"}, onTheWay...)
		}
		v, err := check.RunSidecar(t.Context(), check.Sidecar{Target: c.target(t, dir), Token: c.token}, o)
		require.NoError(t, err)
		sidecarPasses(t, v, c.skipped...)
	})
}

// served is a plug-in of Go functions, which this test's binary serves as a sidecar.
func served() *builtin.Plugin {
	return &builtin.Plugin{Name: "served", Version: "1.0.0", Threads: abi.Concurrent,
		Funcs: []builtin.Function{
			{Name: "echo", Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }},
			{Name: "fail", Call: func(context.Context, []byte) ([]byte, error) {
				return nil, fmt.Errorf("as asked: %w", abi.StatusInvalid)
			}},
			{Name: "wait", Call: func(ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }},
		}}
}

// What package serve makes of a plug-in keeps to the page.
func TestSidecarServed(t *testing.T) {
	fixture.SideBySide(t, atOnce, []string{"go", "library"}, strings.Clone, func(t *testing.T, kind string) {
		if kind == "library" && runtime.GOOS == "windows" {
			t.Skip("the fixture is for Unix")
		}
		self, err := os.Executable()
		require.NoError(t, err)
		s := check.Sidecar{Target: self, Args: []string{"serve-" + kind}}
		if kind == "library" {
			s.Args = append(s.Args, fixture.C(t, "since_1_1"))
		}
		v, err := check.RunSidecar(t.Context(), s, sidecarOptions())
		require.NoError(t, err)
		assert.True(t, v.Pass)
		assert.Empty(t, told(v), "%+v", v.Results)
	})
}

// serveHere is the sidecar of TestSidecarServed.
func serveHere(args []string) error {
	if args[0] == "serve-go" {
		return serve.Stdio(context.Background(), serve.Go(served()))
	}
	p, err := serve.File(args[1])
	if err != nil {
		return err
	}
	return serve.Stdio(context.Background(), p)
}

// meets is check_none.py whose first call with 8 MiB, and whose first one with bytes that are no text, wait for each other, in different processes. Both leave a file behind.
const meets = `
import os, sys, time
sys.path.insert(0, %q)
import check_none

class Sidecar(check_none.Sidecar):
    def echo(self, call):
        own = "long" if len(call.input) == 8 << 20 else "random" if len(call.input) == 10_000 else ""
        if own:
            open("left.txt", "w").close()
            open(os.path.join(%[2]q, own), "w").close()
            other = os.path.join(%[2]q, "random" if own == "long" else "long")
            while not os.path.exists(other):
                time.sleep(0.01)
        return call.input

Sidecar().run()
`

// Cases run beside each other: those that wait for each other end. What both find is said once, by the first in the order of the list.
func TestSidecarBeside(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the script is for systems whose pipes are descriptors")
	}
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "meets.py")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, meets, filepath.Join(fixture.Root(), "internal", "fixture", "sidecar"), dir), 0o600))
	o := sidecarOptions()
	o.Timeout = 10 * time.Minute // a call may wait a tenth of it for the other
	o.Without = []string{"wait"}
	o.Only = []string{"inputs", "bodies"}
	var order []string
	o.Done = func(r check.Result) { order = append(order, r.Case) }
	v, err := check.RunSidecar(t.Context(), check.Sidecar{Target: fixture.Python(t), Args: []string{"-B", path}}, o)
	require.NoError(t, err)
	assert.Equal(t, []string{"bodies", "inputs"}, order)
	assert.Equal(t, []string{"bodies warning W6"}, findings(v), "%+v", v.Results)
	for _, r := range v.Results {
		assert.Empty(t, r.Notes, r.Case)
	}
}

// Findings are the same whether cases run beside each other or not.
func TestSidecarJobs(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the scripts are for systems whose pipes are descriptors")
	}
	t.Parallel()
	var verdicts []*check.Verdict
	for _, jobs := range []int{1, 8} {
		o := sidecarOptions()
		o.Jobs, o.Without, o.Only = jobs, []string{"wait"}, []string{"words", "unknown", "heads", "inputs", "hello-fields", "bye"}
		v, err := check.RunSidecar(t.Context(), script(t, "check_unknown_field"), o)
		require.NoError(t, err)
		for i := range v.Results {
			v.Results[i].Milliseconds = 0
		}
		verdicts = append(verdicts, v)
	}
	assert.NotEmpty(t, findings(verdicts[0]))
	assert.Equal(t, verdicts[0], verdicts[1])
}

// byTLS are what speaks TLS with a certificate of the test's, and how hosts know that.
func byTLS(t *testing.T, h http.Handler) (l net.Listener, known *tls.Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of strangers
	server.StartTLS()
	t.Cleanup(server.Close)
	known = &tls.Config{RootCAs: x509.NewCertPool()}
	known.RootCAs.AddCert(server.Certificate())
	if h != nil {
		return server.Listener, known
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return tls.NewListener(plain, &tls.Config{Certificates: server.TLS.Certificates}), known
}

// listenByTLS serves the plug-in of Go functions, and returns its URL.
func listenByTLS(t *testing.T, o serve.Options) (target string, known *tls.Config) {
	t.Helper()
	l, known := byTLS(t, nil)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve.Listen(ctx, l, serve.Go(served()), o) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-ended)
	})
	return "tcp:" + l.Addr().String(), known
}

// By TLS the same is checked as in the clear, with a token and without one that was to be asked for.
func TestSidecarTLS(t *testing.T) {
	o := sidecarOptions()
	o.Only = append([]string{"call", "many"}, onTheWay...)
	const token = "open sesame"
	asks := func(t *testing.T) (string, *tls.Config) {
		return listenByTLS(t, serve.Options{Token: token})
	}
	over := func(t *testing.T, token string) (string, *tls.Config) {
		h, err := web.Open(serve.Go(served()), web.Options{Token: token})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, h.Close()) })
		l, known := byTLS(t, h)
		return "https://" + l.Addr().String(), known
	}
	type way struct {
		name     string
		target   func(*testing.T) (string, *tls.Config)
		findings []string
	}
	fixture.SideBySide(t, atOnce, []way{
		{"tcp", asks, nil},
		{"tcp that asks for no token", func(t *testing.T) (string, *tls.Config) { return listenByTLS(t, serve.Options{}) }, []string{"token error W4"}},
		{"https", func(t *testing.T) (string, *tls.Config) { return over(t, "sesame") }, nil},
		{"https that asks for no token", func(t *testing.T) (string, *tls.Config) { return over(t, "") }, []string{"token error W18"}},
	}, func(w way) string { return w.name }, func(t *testing.T, w way) {
		s := check.Sidecar{Token: token}
		s.Target, s.TLS = w.target(t)
		if strings.HasPrefix(s.Target, "https") {
			s.Token = "sesame"
		}
		v, err := check.RunSidecar(t.Context(), s, o)
		require.NoError(t, err)
		assert.Equal(t, w.findings, findings(v), "%+v", v.Results)
		assert.Equal(t, "served", v.Name)

		// Who has another certificate is not spoken to, nor is one who speaks in the clear.
		stranger := s
		stranger.TLS = &tls.Config{}
		_, err = check.RunSidecar(t.Context(), stranger, o)
		require.ErrorIs(t, err, inspect.ErrRead)
		assert.ErrorContains(t, err, "whose certificate is not trusted")
	})
	s := check.Sidecar{TLS: &tls.Config{}}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	s.Target = "tcp:" + server.Listener.Addr().String()
	_, err := check.RunSidecar(t.Context(), s, o)
	require.ErrorIs(t, err, inspect.ErrRead)
	assert.ErrorContains(t, err, "no TLS")
}

func TestSidecarErrors(t *testing.T) {
	o := sidecarOptions()
	_, err := check.RunSidecar(t.Context(), check.Sidecar{Target: filepath.Join(t.TempDir(), "none")}, o)
	require.ErrorIs(t, err, loader.ErrRead)
	_, err = check.RunSidecar(t.Context(), check.Sidecar{Target: "no-program-of-this-name"}, o)
	require.ErrorIs(t, err, inspect.ErrRead)
	_, err = check.RunSidecar(t.Context(), check.Sidecar{Target: "tcp:127.0.0.1:1"}, o)
	require.ErrorIs(t, err, inspect.ErrRead)
	_, err = check.RunSidecar(t.Context(), check.Sidecar{Target: "http://127.0.0.1:1"}, o)
	require.ErrorIs(t, err, inspect.ErrRead)
	if runtime.GOOS != "windows" {
		_, err = check.RunSidecar(t.Context(), check.Sidecar{Target: "fifo:none"}, o)
		assert.ErrorContains(t, err, "found one path, expected fifo:IN,OUT")
		_, err = check.RunSidecar(t.Context(), check.Sidecar{Target: "npipe:none"}, o)
		require.ErrorIs(t, err, inspect.ErrRead)
		assert.ErrorContains(t, err, "found npipe: on a system that is not Windows, expected unix:PATH or fifo:IN,OUT")
	}
	o.Only = []string{"leaks"}
	_, err = check.RunSidecar(t.Context(), check.Sidecar{Target: "none"}, o)
	require.ErrorAs(t, err, new(*check.UnknownCaseError))
	o.Only, o.Without = []string{"words"}, []string{"ecko"}
	_, err = check.RunSidecar(t.Context(), script(t, "check_none"), o)
	var unknown *check.UnknownFunctionError
	require.ErrorAs(t, err, &unknown)
	assert.Contains(t, unknown.Functions, "echo")

	ctx, stop := context.WithCancel(t.Context())
	o = sidecarOptions()
	o.Done = func(r check.Result) {
		if r.Case == "start" {
			stop()
		}
	}
	_, err = check.RunSidecar(ctx, script(t, "check_none"), o)
	require.ErrorIs(t, err, context.Canceled)
}
