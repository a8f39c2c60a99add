//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/web"
)

// samples are numbers by their names, with their labels but kind: name{function,status}.
type samples map[string]float64

// scraped reads what is served for Prometheus, by Prometheus's own reader.
func scraped(t *testing.T, client *http.Client, url string, head ...string) samples {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	require.NoError(t, err)
	for i := 0; i < len(head); i += 2 {
		request.Header.Set(head[i], head[i+1])
	}
	answer, err := client.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, 200, answer.StatusCode)
	assert.Equal(t, expfmt.TypeTextPlain, expfmt.ResponseFormat(answer.Header).FormatType())
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	require.NoError(t, err)
	all := samples{}
	for name, family := range families {
		assert.NotEmpty(t, family.GetHelp(), name)
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				if l.GetName() != "kind" {
					labels = append(labels, l.GetValue())
				}
			}
			key := name
			if labels != nil {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				all[key] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				all[key] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				all[key] = float64(m.GetHistogram().GetSampleCount())
				all[key+".sum"] = m.GetHistogram().GetSampleSum()
				assert.Len(t, m.GetHistogram().GetBucket(), 20, key)
			default:
				assert.Fail(t, "a family without a type", name)
			}
		}
	}
	return all
}

// bySocket is a client of HTTP by a unix socket.
func bySocket(t *testing.T, path string) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// metrics is where it says that it serves its numbers.
func (r *running) metrics() string {
	r.t.Helper()
	address, ok := strings.CutPrefix(strings.TrimSuffix(r.second, "\n"), "metrics at ")
	require.True(r.t, ok, r.second)
	return address
}

// TestServeMetrics: what is counted is what was called, over each transport, as Prometheus's own reader reads it.
func TestServeMetrics(t *testing.T) {
	t.Parallel()
	library := fixture.C(t, "echo")
	const calls, callers = 300, 4
	uses := func(t *testing.T, p *loader.Plugin) (in int) {
		echo, err := p.Func("echo")
		require.NoError(t, err)
		fail, err := p.Func("fail")
		require.NoError(t, err)
		var all sync.WaitGroup
		for c := range callers {
			all.Go(func() {
				for n := range calls / callers {
					text := bytes.Repeat([]byte("x"), n+c)
					got, err := echo.Call(t.Context(), text)
					assert.NoError(t, err)
					assert.True(t, bytes.Equal(text, got))
				}
			})
		}
		all.Wait()
		for range 7 {
			_, err := fail.Call(t.Context(), []byte("why"))
			assert.ErrorIs(t, err, loader.ErrFailed)
		}
		for c := range callers {
			for n := range calls / callers {
				in += n + c
			}
		}
		return in
	}
	// counted compares, while nobody calls: sessions says how many are open, and were.
	counted := func(t *testing.T, got samples, times, bytes int, by map[string]float64) {
		t.Helper()
		for key, want := range map[string]float64{
			"ferrule_plugin_info{echo,1.2.3}":       1,
			"ferrule_calls_total{echo,0}":           float64(times * calls),
			"ferrule_calls_total{fail,1}":           float64(times * 7),
			"ferrule_calls_in_flight{echo}":         0,
			"ferrule_call_duration_seconds{echo}":   float64(times * calls),
			"ferrule_call_duration_seconds{fail}":   float64(times * 7),
			"ferrule_call_input_bytes_total{echo}":  float64(times * bytes),
			"ferrule_call_output_bytes_total{echo}": float64(times * bytes),
			"ferrule_call_input_bytes_total{fail}":  float64(times * 7 * len("why")),
			"ferrule_call_output_bytes_total{fail}": float64(times * 7 * len("why")),
		} {
			assert.Equal(t, want, got[key], key)
		}
		for key, want := range by {
			assert.Equal(t, want, got[key], key)
		}
		assert.Positive(t, got["ferrule_call_duration_seconds{echo}.sum"])
	}
	session := func(open, total, closed float64) map[string]float64 {
		return map[string]float64{"ferrule_sessions_open": open, "ferrule_sessions_total": total, "ferrule_connections_open": open, "ferrule_connections_total": total,
			"ferrule_connections_ended_total{closed}": closed, "ferrule_connections_ended_total{broken}": 0, "ferrule_connections_ended_total{refused}": 0,
			"ferrule_calls_total{start,0}": total, "ferrule_calls_in_flight{start}": 0}
	}
	// ended waits until the sidecar knows that its host has ended.
	ended := func(t *testing.T, scrape func() samples) samples {
		for {
			got := scrape()
			if got["ferrule_connections_open"] == 0 {
				return got
			}
			require.NoError(t, t.Context().Err())
		}
	}
	for name, place := range map[string]func(t *testing.T) []string{
		"unix": func(t *testing.T) []string { return []string{"--unix", fixture.Socket(t)} },
		"tcp":  func(*testing.T) []string { return []string{"--tcp", "127.0.0.1:0"} },
		"fifo": func(t *testing.T) []string {
			dir := t.TempDir()
			return []string{"--fifo", filepath.Join(dir, "in") + "," + filepath.Join(dir, "out")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serving(t, nil, append([]string{library, "--metrics", "127.0.0.1:0"}, place(t)...)...)
			at := s.metrics()
			assert.Regexp(t, `^http://127\.0\.0\.1:[0-9]+$`, at)
			scrape := func() samples { return scraped(t, http.DefaultClient, at+"/metrics") }
			got := scrape()
			assert.Zero(t, got["ferrule_sessions_total"])
			assert.Contains(t, got, "ferrule_call_duration_seconds{echo}", "what was not called yet is there")
			for times := 1; times <= 2; times++ {
				p, err := loader.Open(s.address(), sidecar.Program())
				require.NoError(t, err)
				bytes := uses(t, p)
				counted(t, scrape(), times, bytes, session(1, float64(times), float64(times-1)))
				require.NoError(t, p.Close())
				counted(t, ended(t, scrape), times, bytes, session(0, float64(times), float64(times)))
			}
			s.signal(syscall.SIGTERM)
			assert.Zero(t, s.wait(), s.stderr())
			assert.Empty(t, s.stderr())
			_, err := http.Get(at + "/metrics")
			assert.Error(t, err)
		})
	}
	t.Run("stdio", func(t *testing.T) {
		t.Parallel()
		path := fixture.Socket(t)
		var said bytes.Buffer
		p, err := loader.Open(binary, sidecar.Program(sidecar.WithArgs("serve", library, "--stdio", "--metrics", "unix:"+path), sidecar.WithOutput(&said)))
		require.NoError(t, err)
		n := uses(t, p)
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		counted(t, scraped(t, bySocket(t, path), "http://localhost/ferrule/metrics"), 1, n, session(1, 1, 0))
		require.NoError(t, p.Close())
		gone(t, path)
		assert.Equal(t, "metrics at http+unix:"+path+"\n", said.String())
	})
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		s := serving(t, nil, library, "--metrics", "127.0.0.1:0", "--http", "127.0.0.1:0", "--instances", "2")
		p, err := loader.Open(s.address(), web.Server())
		require.NoError(t, err)
		n := uses(t, p)
		code, _ := curl(t, s.address()+"/fn/echo")
		assert.Equal(t, "405", code)
		by := map[string]float64{"ferrule_requests_refused_total{405}": 1}
		counted(t, scraped(t, http.DefaultClient, s.metrics()+"/metrics"), 1, n, by)
		counted(t, scraped(t, http.DefaultClient, s.address()+"/ferrule/metrics"), 1, n, by)
		require.NoError(t, p.Close())
	})
	t.Run("a token and TLS", func(t *testing.T) {
		t.Parallel()
		cert, key, pool := certificate(t)
		s := serving(t, []string{"FERRULE_TOKEN=sesame"}, "--json", library, "--unix", fixture.Socket(t), "--metrics", "0.0.0.0:0", "--cert", cert, "--key", key)
		var is ready
		require.NoError(t, json.Unmarshal([]byte(s.line), &is), s.line)
		assert.False(t, is.TLS)
		_, port, err := net.SplitHostPort(strings.TrimPrefix(is.Metrics, "https://"))
		require.NoError(t, err)
		at := "https://localhost:" + port
		code, body := curl(t, "--cacert", cert, at+"/metrics")
		assert.Equal(t, "401", code)
		assert.NotContains(t, body, "echo")
		code, _ = curl(t, "--cacert", cert, at+"/ferrule/health")
		assert.Equal(t, "200", code)
		code, _ = curl(t, "--cacert", cert, "-H", "Authorization: Bearer sesame", at+"/fn/echo")
		assert.Equal(t, "404", code)
		code, _ = curl(t, "--cacert", cert, "-H", "Authorization: Bearer sesame", "-X", "POST", at+"/metrics")
		assert.Equal(t, "405", code)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		t.Cleanup(transport.CloseIdleConnections)
		scrape := func() samples {
			return scraped(t, &http.Client{Transport: transport}, at+"/metrics", "Authorization", "Bearer sesame")
		}
		// Who has no token, says nothing, or breaks the wire, is counted.
		_, err = loader.Open(is.Address, sidecar.Program(sidecar.WithToken("sesam")))
		require.Error(t, err)
		for n, first := range []string{"FETCH\n\n", "HELLO 1\nToken: sesame\n\nDONE 9 0\n\n", "HELLO 1\nToken: sesame\n\nCALL 1 none\n\nBYE\n\n"} {
			conn, err := net.Dial("unix", strings.TrimPrefix(is.Address, "unix:"))
			require.NoError(t, err)
			_, err = io.WriteString(conn, first)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, conn)
			require.NoError(t, err, n)
			require.NoError(t, conn.Close())
		}
		got := ended(t, scrape)
		for key, want := range map[string]float64{"ferrule_connections_total": 4, "ferrule_sessions_total": 2, "ferrule_sessions_open": 0, "ferrule_connections_ended_total{refused}": 2,
			"ferrule_connections_ended_total{broken}": 1, "ferrule_connections_ended_total{closed}": 1, "ferrule_calls_unknown_total{7}": 1} {
			assert.Equal(t, want, got[key], key)
		}
		s.signal(syscall.SIGTERM)
		assert.Zero(t, s.wait(), s.stderr())
	})
	t.Run("wrong", func(t *testing.T) {
		t.Parallel()
		for want, args := range map[string][]string{
			"found --metrics 0.0.0.0:0, which others reach, without --cert and --key and a token": {"--unix", "x", "--metrics", "0.0.0.0:0"},
			"found --metrics with nothing (is a variable not set?), expected --metrics ADDRESS":   {"--unix", "x", "--metrics", ""},
			"found --metrics unix: with nothing":                                                  {"--unix", "x", "--metrics", "unix:"},
			"found --metrics nowhere":                                                             {"--stdio", "--metrics", "nowhere"},
			"found --cert or --key with --unix x, expected them with a TCP port":                  {"--unix", "x", "--metrics", "unix:y", "--cert", "c", "--key", "k"},
		} {
			stdout, stderr, code := ferrule(t, "", append([]string{"serve", library}, args...)...)
			assert.Equal(t, exitUsage, code, stderr)
			assert.Contains(t, stderr, want)
			assert.Empty(t, stdout)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		path := fixture.Socket(t)
		_, stderr, code := ferrule(t, "", "serve", library, "--unix", path, "--metrics", l.Addr().String())
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "--metrics: ")
		gone(t, path)
	})
}
