package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// loadedBy is the script of wrk's: each answer is looked at, and what came of all is printed as JSON.
const loadedBy = `
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() wrong = 0; wrk.method = "POST"; wrk.body = string.rep("hello, world\n", 20); wrk.headers["Content-Type"] = "application/octet-stream" end
function response(status, headers, body) if status ~= 200 or body ~= wrk.body then wrong = wrong + 1 end end
function done(summary)
	local all, e = 0, summary.errors
	for _, thread in ipairs(threads) do all = all + thread:get("wrong") end
	print(string.format('\n{"requests": %d, "wrong": %d, "status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}',
		summary.requests, all, e.status, e.connect, e.read, e.write, e.timeout))
end`

// TestServeUnderWrk: under the load of wrk with 64 connections each answer is right, what is counted is what wrk has counted, and nothing grows. FERRULE_LOAD says how long, in seconds.
func TestServeUnderWrk(t *testing.T) {
	const connections = 64
	wrk := fixture.Tool(t, "wrk", "apt-get install wrk")
	seconds := "1"
	if text := os.Getenv("FERRULE_LOAD"); text != "" {
		seconds = text
	}
	s := serving(t, nil, fixture.C(t, "echo"), "--http", "127.0.0.1:0", "--instances", "4")
	script := filepath.Join(t.TempDir(), "load.lua")
	require.NoError(t, os.WriteFile(script, []byte(loadedBy), 0o600))
	process := fmt.Sprintf("/proc/%d", s.cmd.Process.Pid)
	scrape := func() samples { // by a connection of its own
		transport := &http.Transport{DisableKeepAlives: true}
		return scraped(t, &http.Client{Transport: transport}, s.address()+"/ferrule/metrics")
	}
	quiet := func() (got samples, descriptors, memory int) {
		for {
			got = scrape()
			if got["ferrule_connections_open"] == 1 && got["ferrule_calls_in_flight{echo}"] == 0 { // the one that asks
				break
			}
			require.NoError(t, t.Context().Err())
			time.Sleep(time.Millisecond)
		}
		// The connection that has asked is closed a moment after its answer.
		require.Eventually(t, func() bool {
			sockets := 0
			entries, err := os.ReadDir(process + "/fd")
			require.NoError(t, err)
			for _, e := range entries {
				if to, err := os.Readlink(filepath.Join(process, "fd", e.Name())); err == nil && strings.HasPrefix(to, "socket:") {
					sockets++
				}
			}
			descriptors = len(entries)
			return sockets == 1
		}, time.Minute, time.Millisecond, "sockets beside the one that listens")
		text, err := os.ReadFile(process + "/statm")
		require.NoError(t, err)
		var size, pages int
		_, err = fmt.Sscan(string(text), &size, &pages)
		require.NoError(t, err)
		return got, descriptors, pages * os.Getpagesize()
	}
	type outcome struct{ Requests, Wrong, Status, Connect, Read, Write, Timeout int }
	load := func() (o outcome) {
		out, err := exec.CommandContext(t.Context(), wrk, "-t2", fmt.Sprintf("-c%d", connections), "-d"+seconds+"s", "--timeout", "60s", "-s", script, s.address()+"/fn/echo").Output()
		require.NoError(t, err, "%s", out)
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &o), "%s", out)
		assert.Equal(t, outcome{Requests: o.Requests}, o, "no error")
		assert.Positive(t, o.Requests)
		return o
	}
	load() // which has it take what it needs for so many
	before, files, memory := quiet()
	all := 0
	for range 2 {
		all += load().Requests
	}
	after, filesAfter, memoryAfter := quiet()
	// At its end wrk leaves each connection with the request that is under way: the answer may be counted here, and is not there.
	calls := after["ferrule_calls_total{echo,0}"] - before["ferrule_calls_total{echo,0}"]
	left := after["ferrule_calls_total{echo,4}"] - before["ferrule_calls_total{echo,4}"]
	assert.GreaterOrEqual(t, calls, float64(all))
	assert.LessOrEqual(t, calls+left, float64(all+2*connections))
	assert.Equal(t, after["ferrule_call_duration_seconds{echo}"], after["ferrule_calls_total{echo,0}"]+after["ferrule_calls_total{echo,4}"])
	assert.Equal(t, after["ferrule_call_input_bytes_total{echo}"], 260*after["ferrule_call_duration_seconds{echo}"])
	assert.GreaterOrEqual(t, after["ferrule_connections_total"]-before["ferrule_connections_total"], float64(2*connections))
	assert.LessOrEqual(t, filesAfter, files+2, "descriptors; the runtime may open one or two of its own")
	assert.Less(t, memoryAfter, memory+memory/2+16<<20, "bytes resident, %d before", memory)
	t.Logf("%d answers in 2 × %s s; %d descriptors, %d before; %d KiB resident, %d before", all, seconds, filesAfter, files, memoryAfter>>10, memory>>10)
	s.signal(syscall.SIGTERM)
	assert.Zero(t, s.wait(), s.stderr())
	assert.Empty(t, s.stderr())
}

// TestServeEndsUnderLoad: a server that is told to end while 64 clients call without a pause leaves no request without its whole answer: each connection's last answer says that it is.
func TestServeEndsUnderLoad(t *testing.T) {
	const connections = 64
	rounds := 3
	if os.Getenv("FERRULE_LOAD") != "" {
		rounds = 20
	}
	library := fixture.C(t, "echo")
	for range rounds {
		s := serving(t, nil, library, "--http", "127.0.0.1:0", "--instances", "4", "--grace", "1m")
		at := strings.TrimPrefix(s.address(), "http://")
		var all, warm sync.WaitGroup
		var answers atomic.Int64
		warm.Add(connections)
		for c := range connections {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at)
			require.NoError(t, err)
			all.Go(func() {
				defer conn.Close()
				warmed := sync.OnceFunc(warm.Done)
				defer warmed()
				r := bufio.NewReader(conn)
				had := time.Now() // the last answer
				for n := 0; ; n++ {
					in := fmt.Sprintf("%d of %d", n, c)
					if n%4 == 3 {
						in = ""
					}
					_, err := fmt.Fprintf(conn, "POST /fn/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%s", len(in), in)
					sent := time.Now()
					var answer *http.Response
					var out []byte
					if err == nil {
						if answer, err = http.ReadResponse(r, nil); err == nil {
							out, err = io.ReadAll(answer.Body)
						}
					}
					switch {
					case err != nil && n > 0 && sent.Sub(had) > 500*time.Millisecond && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
						return // this client was idle for longer than an idle connection is kept
					case !assert.NoError(t, err, "request %d of client %d has no answer", n, c):
						return
					case !assert.Equal(t, 200, answer.StatusCode) || !assert.Equal(t, in, string(out)):
						return
					}
					answers.Add(1)
					warmed() // before that, a connection may be none that the server has accepted
					had = time.Now()
					if answer.Close {
						return
					}
				}
			})
		}
		warm.Wait()
		for answers.Load() < 10*connections && !t.Failed() {
			require.NoError(t, t.Context().Err())
			time.Sleep(time.Millisecond)
		}
		s.signal(syscall.SIGTERM)
		all.Wait()
		assert.Zero(t, s.wait(), s.stderr())
		assert.Empty(t, s.stderr())
		_, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", at)
		assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
}
