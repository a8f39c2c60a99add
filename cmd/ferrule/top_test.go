package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

// shownHost is an application that serves its plug-ins: aaaa in this process, bbbb isolated, which has crashed once, and dddd, which does not start. It calls
// the first two all the time.
func shownHost(t *testing.T, opts ...plugins.Option) (server *monitor.Server, socket string) {
	t.Helper()
	fixture.Loadable(t)
	folder := t.TempDir()
	for _, tag := range []string{"aaaa", "bbbb"} {
		fixture.Variant(t, "system", filepath.Join(folder, tag+fixture.Ext()), "aaaa", tag)
	}
	fixture.Variant(t, "system", filepath.Join(folder, "dddd"+fixture.Ext()), "aaaa", "dddd", "start:ok", "start:no")
	config := filepath.Join(folder, "config.yaml")
	require.NoError(t, os.WriteFile(config, []byte("folders: ["+strconv.Quote(folder)+"]\nplugins: [plugin_aaaa, plugin_dddd, {name: plugin_bbbb, isolate: {sandbox: none}}]\n"), 0o600))
	sys := plugins.New("shop", "1.4.0", append(opts, plugins.Config(config), plugins.Logger(slog.New(slog.DiscardHandler)))...)
	t.Cleanup(func() { assert.NoError(t, sys.Close()) })
	piped := plugins.Pipe[[]byte](sys, "piped", plugins.OnError(plugins.Skip))
	require.NoError(t, sys.Start(t.Context()))
	for _, in := range []string{"", "bbbb=crash", "aaaa=fail"} {
		_, err := piped.Call(t.Context(), []byte(in))
		require.NoError(t, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			_, _ = piped.Call(ctx, nil)
			time.Sleep(time.Millisecond)
		}
	}()
	t.Cleanup(func() { stop(); <-over })
	socket = fixture.Socket(t)
	server, err := monitor.Serve(sys, socket)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	return server, socket
}

// saysSo is an application that answers each time with what answer returns; "" is to hang up.
func saysSo(t *testing.T, answer func(n int) string) (socket string) {
	t.Helper()
	socket = fixture.Socket(t)
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				asked := bufio.NewScanner(c)
				for n := 1; asked.Scan(); n++ {
					text := answer(n)
					if text == "" {
						return
					}
					_, _ = io.WriteString(c, text+"\n")
				}
			}()
		}
	}()
	return socket
}

// picture is an answer with these plug-ins.
func picture(t *testing.T, all ...monitor.Plugin) string {
	t.Helper()
	text, err := json.Marshal(&monitor.Snapshot{Format: monitor.Format, Time: time.Now(), App: "shop", Version: "1.4.0", PID: 4711, Counting: true, Plugins: all})
	require.NoError(t, err)
	return string(text)
}

// TestTopOnce: one table of a real application, and the same as JSON.
func TestTopOnce(t *testing.T) {
	t.Parallel()
	_, socket := shownHost(t, plugins.Counting())
	stdout, stderr, code := ferrule(t, "", "top", "--once", "--interval", "200ms", socket)
	require.Zero(t, code, stderr)
	lines := strings.Split(stdout, "\n")
	assert.Regexp(t, `^shop 1\.4\.0, process \d+(, [0-9.]+ MiB)?: 3 plug-ins, 1 failed$`, lines[0])
	assert.Regexp(t, `^NAME +VERSION +STATE +RUNS +CALLS/S +CALLS +ERRORS +CRASHED +LATE +MEAN +LONGEST +RESTARTS +MEMORY$`, lines[1])
	assert.Regexp(t, `^plugin_aaaa  1\.0\.0    started  in-process +[1-9][0-9.]* +[0-9]+ +1 +0 +0 +[0-9.]+ [nµm]?s +[0-9.]+ [nµm]?s +0 +-$`, lines[2])
	assert.Regexp(t, `^plugin_bbbb  1\.0\.0    started  isolated +[1-9][0-9.]* +[0-9]+ +1 +1 +0 +[0-9.]+ [nµm]?s +[0-9.]+ [nµm]?s +1 +(-|[0-9.]+ MiB)$`, lines[3])
	assert.Regexp(t, `^plugin_dddd  1\.0\.0    failed   in-process +0 +0 +0 +0 +0 +- +- +0 +-$`, lines[4])
	assert.Empty(t, lines[5])
	assert.Regexp(t, `^plugin_dddd: start: .*`, lines[6])

	stdout, _, code = ferrule(t, "", "top", "--once", "--interval", "200ms", "--sort", "restarts", socket)
	require.Zero(t, code)
	assert.True(t, strings.HasPrefix(strings.Split(stdout, "\n")[2], "plugin_bbbb"), stdout)

	stdout, stderr, code = ferrule(t, "", "top", "--once", "--json", socket)
	require.Zero(t, code, stderr)
	var seen monitor.Snapshot
	require.NoError(t, json.Unmarshal([]byte(stdout), &seen))
	assert.Equal(t, 1, strings.Count(stdout, "\n"))
	assert.Len(t, seen.Plugins, 3)
	assert.Equal(t, plugins.StateFailed, seen.Plugins[2].State)
	assert.EqualValues(t, 1, seen.Plugins[1].Calls.Crashed)
}

// TestTopNotCounted: it is said that nothing is counted, and no number is made up.
func TestTopNotCounted(t *testing.T) {
	t.Parallel()
	_, socket := shownHost(t)
	stdout, _, code := ferrule(t, "", "top", "--once", "--interval", "100ms", "--sort", "calls", socket)
	require.Zero(t, code)
	assert.Contains(t, stdout, "\nCalls are not counted: the application has no plugins.Counting().\n")
	assert.Regexp(t, `\nplugin_aaaa  1\.0\.0    started  in-process  +(- +){7}0 +-\n`, stdout)
}

// TestTopSaysWhatIsWrong: a config.yaml that is not in force, a plug-in that is suspended, and a hook that is left out are told with their reason, a line each.
func TestTopSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 7, 1, 12, 0, 7, 0, time.Local)
	text, err := json.Marshal(&monitor.Snapshot{Format: monitor.Format, Time: time.Now(), App: "shop", Version: "1.4.0", Counting: true, Config: &monitor.Refused{Since: since, Error: "config.yaml:3:5: one\nconfig.yaml:4:5: two"},
		Plugins: []monitor.Plugin{{Name: "a", State: plugins.StateSuspended, Error: "a: run: its last words", Calls: &monitor.Calls{}, Counted: []monitor.Counted{{Point: "told", LeftOut: time.Minute, Error: "its last failure"}, {Point: "asked", LeftOut: time.Millisecond}}}}})
	require.NoError(t, err)
	stdout, _, code := ferrule(t, "", "top", "--once", "--interval", "100ms", saysSo(t, func(int) string { return string(text) }))
	require.Zero(t, code)
	assert.Contains(t, stdout, "\nconfig.yaml: not taken over since 12:00:07: config.yaml:3:5: one; config.yaml:4:5: two\n")
	assert.Contains(t, stdout, "\na: run: its last words\n")
	assert.Contains(t, stdout, "\na: its hook told is left out for 60 s, because it failed again and again: its last failure\n")
	assert.Contains(t, stdout, "\na: its hook asked is left out for less than a second, because it failed again and again\n")
}

// TestTopStream: --json goes on, a line at each interval, until the application ends.
func TestTopStream(t *testing.T) {
	t.Parallel()
	var socket string
	socket = saysSo(t, func(n int) string {
		if n > 3 {
			assert.NoError(t, os.Remove(socket))
			return ""
		}
		return picture(t, monitor.Plugin{Name: "\u009b31mred\u202e", State: plugins.StateReady, Restarts: n})
	})
	stdout, stderr, code := ferrule(t, "", "top", "--json", "--interval", "100ms", socket)
	assert.Equal(t, exitUnavailable, code)
	assert.Contains(t, stderr, "found a host that has ended, or serves its plug-ins no more: EOF. Start it again")
	assert.Equal(t, escape.Lines(stdout), stdout)
	d := json.NewDecoder(strings.NewReader(stdout))
	for n := 1; n <= 3; n++ {
		var seen monitor.Snapshot
		require.NoError(t, d.Decode(&seen), stdout)
		assert.Equal(t, []any{"\u009b31mred\u202e", n}, []any{seen.Plugins[0].Name, seen.Plugins[0].Restarts})
	}
	var last struct{ Error errorDetails }
	require.NoError(t, d.Decode(&last))
	assert.Equal(t, "no host is there", last.Error.Kind)
}

// TestTopUnanswered: where nobody sees it wait, it waits for some time, and not for ever: for the first answer, and for a later one.
func TestTopUnanswered(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	for from, args := range [][]string{{"--once"}, {"--json"}, {"--once"}, {"--json"}} {
		socket := saysSo(t, func(n int) string {
			if n > from/2 {
				<-over
			}
			return picture(t)
		})
		t.Run(fmt.Sprint(args, " after ", from/2), func(t *testing.T) {
			t.Parallel()
			_, stderr, code := ferrule(t, "", append(append([]string{"top", "--interval", "100ms"}, args...), socket)...)
			assert.Equal(t, exitUnavailable, code)
			assert.Equal(t, "ferrule: "+socket+": found no answer in 5s, expected a picture of plug-ins. Look whether the host is stopped, or this is another program's socket\n", stderr)
		})
	}
	t.Cleanup(func() { close(over) })
}

// TestTopRefuses: what is no application is told from one that is not there.
func TestTopRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, socket := shownHost(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{file}, exitUsage, "found a file, expected the socket of a host"},
		{[]string{file + ".sock"}, exitUnavailable, "found nothing, expected the socket of a host. Start the host"},
		{[]string{saysSo(t, func(int) string { return "HTTP/1.1 400" })}, exitFailed, "found an answer that is no JSON of a picture"},
		{[]string{saysSo(t, func(int) string { return `{"format":7}` })}, exitFailed, "found a picture of the format 7, expected the format 1"},
		{[]string{saysSo(t, func(int) string { return `{"error":"\u001b[2Jferrule: \u009b2J"}` })}, exitFailed, `found a host that says: \x1b[2Jferrule: \u{9b}2J`},
		{[]string{saysSo(t, func(int) string { return "" })}, exitUnavailable, "found no answer"},
		{[]string{"--interval", "99ms", socket}, exitUsage, "found --interval 99ms, expected 100ms to 1m"},
		{[]string{"--sort", "eror", socket}, exitUsage, `found --sort eror, expected one of name, state, rate, calls, errors, time, longest, restarts, memory`},
		{[]string{filepath.Join(file, "below")}, exitUsage, "expected the socket of a host: "},
		{[]string{filepath.Join(file, "below")}, exitUsage, "Name the path that the host gives to monitor.Serve"},
		{[]string{""}, exitUsage, "found an empty SOCKET (is a variable not set?), expected ferrule top SOCKET"},
		{nil, exitUsage, "found no SOCKET on the command line"},
	} {
		_, stderr, code := ferrule(t, "", append([]string{"top", "--once"}, c.args...)...)
		assert.Equal(t, c.code, code, "%v: %s", c.args, stderr)
		assert.Contains(t, stderr, c.want)
		assert.Equal(t, escape.Lines(stderr), stderr)
	}
	_, stderr, code := ferrule(t, "", "top", socket)
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "Print one table with --once, or objects with --json")
}

// TestTopLong: what an application says is cut, however long it is.
func TestTopLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\u009bä", 1<<20)
	seen := picture(t, monitor.Plugin{Name: long, Version: long, State: plugins.State(long), Runs: long, Error: long, Calls: &monitor.Calls{}})
	stdout, stderr, code := ferrule(t, "", "top", "--once", "--interval", "100ms", saysSo(t, func(int) string { return seen }))
	require.Zero(t, code, stderr)
	assert.Less(t, len(stdout), 200<<10)
	assert.Contains(t, stdout, `\u{9b}ä…`)
	_, stderr, code = ferrule(t, "", "top", "--once", saysSo(t, func(int) string { return `{"error":"` + long + `"}` }))
	assert.Equal(t, exitFailed, code)
	assert.Less(t, len(stderr), 10<<10)
}

// TestTopEscapes: names and errors of plug-ins steer no terminal, and make no lines of their own.
func TestTopEscapes(t *testing.T) {
	t.Parallel()
	const foreign = "\x1b[2J\u009b2J\r\nshop 9.9.9\u202e\x07"
	all := monitor.Plugin{Name: foreign, Version: foreign, State: foreign, Runs: foreign, Group: foreign, Error: foreign, Calls: &monitor.Calls{},
		Counted: []monitor.Counted{{Point: foreign, LeftOut: time.Minute}}}
	text, err := json.Marshal(&monitor.Snapshot{Format: monitor.Format, Time: time.Now(), App: foreign, Version: foreign, Counting: true, Plugins: []monitor.Plugin{all}})
	require.NoError(t, err)
	stdout, _, code := ferrule(t, "", "top", "--once", "--interval", "100ms", saysSo(t, func(int) string { return string(text) }))
	require.Zero(t, code)
	assert.Equal(t, escape.Lines(stdout), stdout)
	assert.Equal(t, 6, strings.Count(stdout, "\n"), stdout)
	assert.False(t, bytes.Contains([]byte(stdout), []byte("\nshop 9.9.9")))
}
