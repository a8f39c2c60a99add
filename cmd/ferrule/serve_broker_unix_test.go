//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	natsserver "github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/remote/mqtt"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
)

// broker is one that runs.
type broker interface {
	URL() string
	Stop()            // what clients had there is lost
	Again(testing.TB) // starts it anew, where it was
}

// natsBroker is a server in this process.
type natsBroker struct {
	options natsserver.Options
	server  *natsserver.Server
}

func startNATS(t *testing.T, o natsserver.Options) *natsBroker {
	o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", -1, true, true
	b := &natsBroker{options: o}
	b.Again(t)
	t.Cleanup(b.Stop)
	port, err := strconv.Atoi(b.URL()[strings.LastIndexByte(b.URL(), ':')+1:])
	require.NoError(t, err)
	b.options.Port = port
	return b
}

func (b *natsBroker) URL() string { return b.server.ClientURL() }

func (b *natsBroker) Stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

func (b *natsBroker) Again(t testing.TB) {
	var err error
	o := b.options
	b.server, err = natsserver.NewServer(&o)
	require.NoError(t, err)
	b.server.Start()
	require.True(t, b.server.ReadyForConnections(10*time.Second))
}

// mochiBroker is an MQTT broker in this process.
type mochiBroker struct {
	port, scheme string
	tls          *tls.Config
	hook         mochi.Hook
	rules        any
	server       *mochi.Server
}

func startMochi(t *testing.T, secure *tls.Config, hook mochi.Hook, rules any) *mochiBroker {
	b := &mochiBroker{port: fixture.FreePort(t), scheme: "mqtt", tls: secure, hook: hook, rules: rules}
	if secure != nil {
		b.scheme = "mqtts"
	}
	b.Again(t)
	t.Cleanup(b.Stop)
	return b
}

func (b *mochiBroker) URL() string { return b.scheme + "://127.0.0.1:" + b.port }

// Stop may be called again: a broker that is closed twice panics.
func (b *mochiBroker) Stop() {
	if b.server != nil {
		_ = b.server.Close()
		b.server = nil
	}
}

func (b *mochiBroker) Again(t testing.TB) {
	b.server = mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, b.server.AddHook(b.hook, b.rules))
	require.NoError(t, b.server.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:" + b.port, TLSConfig: b.tls})))
	require.NoError(t, b.server.Serve())
}

// kind is a broker's, as the command is told of it.
type kind struct {
	way    string
	start  func(*testing.T) broker
	plugin func() loader.Option // a busy machine may say nothing for a while
	usual  func() loader.Option // as it is without options
}

var kinds = map[string]kind{
	"NATS": {"--nats", func(t *testing.T) broker { return startNATS(t, natsserver.Options{}) },
		func() loader.Option { return nats.Plugin(nats.WithSilence(time.Minute)) }, func() loader.Option { return nats.Plugin() }},
	"Mosquitto": {"--mqtt", func(t *testing.T) broker { return fixture.Mosquitto(t, "allow_anonymous true\n") }, overMQTT, usualMQTT},
	"Mochi":     {"--mqtt", func(t *testing.T) broker { return startMochi(t, nil, new(auth.AllowHook), nil) }, overMQTT, usualMQTT},
}

func overMQTT() loader.Option { return mqtt.Plugin(mqtt.WithSilence(time.Minute)) }

func usualMQTT() loader.Option { return mqtt.Plugin() }

// over runs a test over each broker.
func over(t *testing.T, run func(*testing.T, kind, broker)) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, k, k.start(t))
		})
	}
}

// A library, and a library in worker processes, are served as nodes, with a configuration and instances of the node's.
func TestServeNode(t *testing.T) {
	t.Parallel()
	library := shouts(t)
	over(t, func(t *testing.T, k kind, b broker) {
		for _, args := range [][]string{nil, {"--isolated"}} {
			t.Run(strings.Join(args, " "), func(t *testing.T) {
				r := serving(t, nil, append(args, k.way, b.URL()+"/", "--workers", "4", "--queue", "0", "--instances", "2", "--config", "of the node", library)...)
				assert.Equal(t, "serving shouts 2.0.1 at "+b.URL()+"/shouts\n", r.line)
				p, err := loader.Open(r.address()+"@^2", k.plugin())
				require.NoError(t, err)
				defer p.Close()
				assert.Equal(t, "of the node", result(t, p, "config", ""))
				assert.Equal(t, "done", result(t, p, "prints", ""))
				s, err := p.NewSession(t.Context(), []byte("mine"))
				require.NoError(t, err)
				out, err := s.Call(t.Context(), "config", nil)
				require.NoError(t, err)
				assert.Equal(t, "mine", string(out))
				if args != nil { // which ends a worker, and not the node
					_, err = p.Call(t.Context(), "crashes", nil)
					require.ErrorIs(t, err, loader.ErrPanic)
					assert.Contains(t, err.Error(), "aborted")
					assert.Equal(t, "of the node", result(t, p, "config", ""))
				}
				begun := filepath.Join(t.TempDir(), "begun")
				ended := make(chan error, 1)
				go func() {
					_, err := p.Call(context.Background(), "waits", []byte(begun))
					ended <- err
				}()
				appears(t, begun)
				r.signal(syscall.SIGTERM)
				require.Error(t, <-ended) // it was asked to stop when --grace was over
				<-r.ended
				_, err = p.Call(t.Context(), "config", nil)
				require.ErrorIs(t, err, remote.ErrNoNode)
			})
		}
	})
}

// A node that SIGTERM ends loses no call: those that it has it ends, others go to the next node.
func TestServeNodeLeaves(t *testing.T) {
	t.Parallel()
	slow := compiled(t, `#include <unistd.h>
		FERRULE_PLUGIN(FERRULE_NAME("slow") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent"));
		FERRULE_FN(slow) { usleep(2000); call->out_len = 0; return FERRULE_OK; }`)
	over(t, func(t *testing.T, k kind, b broker) {
		start := func() *running {
			return serving(t, nil, k.way, b.URL(), "--workers", "8", "--grace", "1m", "--metrics", "127.0.0.1:0", slow)
		}
		has := func(r *running) float64 {
			return scraped(t, http.DefaultClient, r.metrics()+"/metrics")["ferrule_calls_total{slow,0}"]
		}
		first := start()
		p, err := loader.Open(first.address(), k.plugin())
		require.NoError(t, err)
		defer p.Close()
		var enough atomic.Bool
		var made atomic.Int64
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for !enough.Load() {
					if _, err := p.Call(context.Background(), "slow", nil); !assert.NoError(t, err) {
						return
					}
					made.Add(1)
				}
			})
		}
		called := func(by *running) { // each of them calls on
			for from := has(by); has(by) < from+20; {
				require.NoError(t, t.Context().Err())
				require.False(t, t.Failed())
			}
		}
		called(first)
		second := start()
		called(second)
		before := has(first)
		assert.Positive(t, before)
		first.signal(syscall.SIGTERM)
		assert.Zero(t, first.wait(), first.stderr())
		assert.Empty(t, first.stderr())
		called(second)
		enough.Store(true)
		callers.Wait()
		assert.GreaterOrEqual(t, float64(made.Load()), before+has(second))
		second.signal(syscall.SIGTERM)
		assert.Zero(t, second.wait(), second.stderr())
	})
}

// A node goes on while its broker is away, and is found again when that is back; SIGTERM ends it meanwhile, too.
func TestServeNodeWithoutItsBroker(t *testing.T) {
	t.Parallel()
	library := fixture.C(t, "echo")
	over(t, func(t *testing.T, k kind, b broker) {
		r := serving(t, nil, k.way, b.URL(), library)
		p, err := loader.Open(r.address(), k.usual())
		require.NoError(t, err)
		defer p.Close()
		assert.Equal(t, "one", result(t, p, "echo", "one"))
		b.Stop()
		_, err = loader.Open(r.address(), k.usual())
		require.ErrorIs(t, err, loader.ErrRead)
		b.Again(t)
		for { // the connections are back when they are; what is asked for before the node's is, is lost
			out, err := p.Call(t.Context(), "echo", []byte("two"))
			if err == nil {
				assert.Equal(t, "two", string(out))
				break
			}
			require.NoError(t, t.Context().Err())
		}
		b.Stop()
		r.signal(syscall.SIGTERM)
		assert.Zero(t, r.wait(), r.stderr())
	})
}

// The numbers have what was called over a broker, and --json says where they are, and that there is TLS and no token.
func TestServeNodeMetrics(t *testing.T) {
	t.Parallel()
	library := fixture.C(t, "echo")
	over(t, func(t *testing.T, k kind, b broker) {
		s := serving(t, []string{"FERRULE_TOKEN=sesame"}, "--json", library, k.way, b.URL(), "--metrics", "127.0.0.1:0", "--workers", "2")
		var is ready
		require.NoError(t, json.Unmarshal([]byte(s.line), &is), s.line)
		assert.Equal(t, ready{Plugin: "echo", Version: "1.2.3", Address: b.URL() + "/echo", Metrics: is.Metrics}, is)
		p, err := loader.Open(is.Address, k.plugin())
		require.NoError(t, err)
		for range 5 {
			assert.Equal(t, "hello", result(t, p, "echo", "hello"))
		}
		_, err = p.Call(t.Context(), "fail", []byte("why"))
		require.ErrorIs(t, err, loader.ErrFailed)
		require.NoError(t, p.Close())
		got := scraped(t, http.DefaultClient, is.Metrics+"/metrics", "Authorization", "Bearer sesame") // the numbers ask for it, and the node does not
		assert.EqualValues(t, 5, got["ferrule_calls_total{echo,0}"])
		assert.EqualValues(t, 1, got["ferrule_calls_total{fail,1}"])
		assert.EqualValues(t, 25, got["ferrule_call_input_bytes_total{echo}"])
		assert.Positive(t, got["ferrule_sessions_total"])
		assert.Positive(t, got["ferrule_connections_total"])
		assert.NotContains(t, got, "ferrule_requests_refused_total{404}")
	})
}

// A broker that asks for a certificate, and for a password, is given them; one that nobody vouches for is given nothing.
func TestServeNodeAccess(t *testing.T) {
	t.Parallel()
	library := fixture.C(t, "echo")
	cert, key, pool := certificate(t)
	theirs, theirKey, trusted := certificate(t) // the node's own
	own, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	client1, err := tls.LoadX509KeyPair(theirs, theirKey)
	require.NoError(t, err)
	asks := &tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	is := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{client1}}
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("ada\n"), 0o600))
	asAda := []string{"--mqtt-user", "ada", "--mqtt-password-file", password}
	for name, c := range map[string]struct {
		way    string
		start  func(t *testing.T) broker
		access []string
		plugin func() loader.Option
	}{
		"NATS": {"--nats", func(t *testing.T) broker {
			return startNATS(t, natsserver.Options{TLS: true, TLSVerify: true, TLSConfig: asks})
		}, nil, func() loader.Option { return nats.Plugin(nats.WithConnection(client.Secure(is.Clone()))) }},
		"Mosquitto": {"--mqtt", func(t *testing.T) broker {
			fixture.MosquittoProgram(t)
			return fixture.Mosquitto(t, "allow_anonymous false\npassword_file "+fixture.MosquittoPasswords(t, "ada")+"\ncertfile "+cert+"\nkeyfile "+key+
				"\ncafile "+theirs+"\nrequire_certificate true\n")
		}, asAda, func() loader.Option { return mqtt.Plugin(mqtt.WithTLS(is), mqtt.WithCredentials("ada", "ada")) }},
		"Mochi": {"--mqtt", func(t *testing.T) broker {
			return startMochi(t, asks, new(auth.Hook), &auth.Options{Ledger: &auth.Ledger{Auth: auth.AuthRules{{Username: "ada", Password: "ada", Allow: true}}}})
		}, asAda, func() loader.Option { return mqtt.Plugin(mqtt.WithTLS(is), mqtt.WithCredentials("ada", "ada")) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := c.start(t)
			url := strings.Replace(b.URL(), "nats://", "tls://", 1)
			args := append([]string{"--json", c.way, url, "--ca", cert, "--client-cert", theirs, "--client-key", theirKey, library}, c.access...)
			s := serving(t, nil, args...)
			var said ready
			require.NoError(t, json.Unmarshal([]byte(s.line), &said), s.line)
			assert.True(t, said.TLS, s.line)
			p, err := loader.Open(said.Address, c.plugin())
			require.NoError(t, err)
			defer p.Close()
			assert.Equal(t, "hello", result(t, p, "echo", "hello"))
			for _, without := range []struct {
				args []string
				want string
			}{
				{[]string{"--client-cert", theirs, "--client-key", theirKey}, "unknown authority"},
				{[]string{"--ca", cert}, ""},
			} {
				out, errs, code := ferrule(t, "", append(append([]string{"serve", c.way, url, library}, without.args...), c.access...)...)
				assert.Equal(t, 1, code, errs)
				assert.Contains(t, errs, c.way[2:]+": no connection to "+url+": ")
				assert.Contains(t, errs, without.want)
				assert.Empty(t, out)
			}
			if c.access != nil {
				out, errs, code := ferrule(t, "", "serve", c.way, url, library, "--ca", cert, "--client-cert", theirs, "--client-key", theirKey, "--mqtt-user", "eve", "--mqtt-password-file", password)
				assert.Equal(t, 1, code, errs)
				assert.Contains(t, errs, "refuses the connection")
				assert.Empty(t, out)
			}
		})
	}
}

func TestServeNodeWrong(t *testing.T) {
	t.Parallel()
	echo := fixture.C(t, "echo")
	cert, key, _ := certificate(t)
	dir := t.TempDir()
	bad, empty, text := filepath.Join(dir, "bad"), filepath.Join(dir, "empty"), filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(bad, []byte("no credentials"), 0o600))
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	require.NoError(t, os.WriteFile(text, bytes.Repeat([]byte("secret"), 1<<14), 0o600))
	for name, c := range map[string]struct {
		args []string
		want string
		code int
	}{
		"no workers":            {[]string{"--nats", "nats://127.0.0.1:1", "--workers", "0"}, "found --workers 0, expected 1 or more", exitUsage},
		"no workers, MQTT":      {[]string{"--mqtt", "mqtt://127.0.0.1:1", "--workers", "0"}, "found --workers 0, expected 1 or more", exitUsage},
		"less than none":        {[]string{"--nats", "nats://127.0.0.1:1", "--queue", "-1"}, "found --queue -1, expected 0 or more", exitUsage},
		"another way":           {[]string{"--unix", "x", "--workers", "2"}, "found --workers with --unix, expected it with --nats or --mqtt", exitUsage},
		"another way, a CA":     {[]string{"--unix", "x", "--ca", cert}, "found --ca with --unix, expected it with --nats or --mqtt", exitUsage},
		"both":                  {[]string{"--nats", "nats://127.0.0.1:1", "--mqtt", "mqtt://127.0.0.1:1"}, "found --nats and --mqtt, expected one of", exitUsage},
		"nowhere":               {[]string{"--mqtt", ""}, "found --mqtt with nothing", exitUsage},
		"NATS's, for MQTT":      {[]string{"--mqtt", "mqtt://127.0.0.1:1", "--nats-creds", "x"}, "found --nats-creds with --mqtt, expected it with --nats", exitUsage},
		"MQTT's, for NATS":      {[]string{"--nats", "nats://127.0.0.1:1", "--mqtt-user", "x"}, "found --mqtt-user with --nats, expected it with --mqtt", exitUsage},
		"a token":               {[]string{"--nats", "nats://127.0.0.1:1", "--token-file", "x"}, "found --token-file with --nats, expected the server's own credentials", exitUsage},
		"a token, MQTT":         {[]string{"--mqtt", "mqtt://127.0.0.1:1", "--token-file", "x"}, "Give --mqtt-user and --mqtt-password-file, and mqtts:// in the URL", exitUsage},
		"a user":                {[]string{"--nats", "nats://ada:secret@127.0.0.1:1"}, "found --nats with a user in its URL", exitUsage},
		"a user, MQTT":          {[]string{"--mqtt", "mqtt://ada:secret@127.0.0.1:1"}, "found --mqtt with a user in its URL", exitUsage},
		"no credentials":        {[]string{"--nats", "nats://127.0.0.1:1", "--nats-creds", "/nowhere"}, "found --nats-creds /nowhere: ", exitUsage},
		"nobody is there":       {[]string{"--nats", "nats://127.0.0.1:1"}, "start it when that is there", 1},
		"nobody is there, MQTT": {[]string{"--mqtt", "mqtt://127.0.0.1:1"}, "start it when that is there", 1},
		"a configuration":       {[]string{"--nats", "nats://127.0.0.1:1", "--config", "x"}, "--config", exitUsage},
		"a configuration, MQTT": {[]string{"--mqtt", "mqtt://127.0.0.1:1", "--config", "x"}, "--config", exitUsage},
		"bad credentials":       {[]string{"--nats", startNATS(t, natsserver.Options{}).URL(), "--nats-creds", bad}, "nats: no connection to", 1},
		"and with metrics":      {[]string{"--nats", "nats://127.0.0.1:1", "--metrics", "0.0.0.0:0"}, "which others reach", exitUsage},
		"no URL":                {[]string{"--mqtt", "127.0.0.1:1883"}, "found --mqtt 127.0.0.1:1883, expected mqtt://HOST:PORT or mqtts://HOST:PORT", exitUsage},
		"no URL, NATS":          {[]string{"--nats", "127.0.0.1:4222"}, "found --nats 127.0.0.1:4222, expected nats://HOST:PORT or tls://HOST:PORT", exitUsage},
		"another's URL":         {[]string{"--mqtt", "nats://127.0.0.1:1"}, "expected mqtt://HOST:PORT or mqtts://HOST:PORT", exitUsage},
		"the plug-in's name":    {[]string{"--mqtt", "mqtt://127.0.0.1:1,mqtt://127.0.0.1:2/echo"}, "the plug-in's name comes by itself", exitUsage},
		"a password alone":      {[]string{"--mqtt", "mqtt://127.0.0.1:1", "--mqtt-password-file", text}, "found --mqtt-password-file without --mqtt-user, expected both", exitUsage},
		"no password":           {[]string{"--mqtt", "mqtt://127.0.0.1:1", "--mqtt-user", "ada", "--mqtt-password-file", empty}, "with 0 bytes in its line, expected a file with a password", exitUsage},
		"a long password":       {[]string{"--mqtt", "mqtt://127.0.0.1:1", "--mqtt-user", "ada", "--mqtt-password-file", text}, "with 98304 bytes in its line", exitUsage},
		"no file":               {[]string{"--mqtt", "mqtt://127.0.0.1:1", "--mqtt-user", "ada", "--mqtt-password-file", "/nowhere"}, "found --mqtt-password-file /nowhere: ", exitUsage},
		"no user":               {[]string{"--mqtt", "mqtt://127.0.0.1:1", "--mqtt-user", ""}, "found --mqtt-user with nothing", exitUsage},
		"no TLS":                {[]string{"--mqtt", "mqtt://127.0.0.1:1", "--ca", cert}, "found --ca, --client-cert or --client-key with --mqtt mqtt://127.0.0.1:1, expected them with mqtts://", exitUsage},
		"no certificate":        {[]string{"--mqtt", "mqtts://127.0.0.1:1", "--ca", empty}, "in which is no certificate, expected one, in PEM", exitUsage},
		"half of a certificate": {[]string{"--nats", "tls://127.0.0.1:1", "--client-cert", cert}, "found one of --client-cert and --client-key, expected both", exitUsage},
		"no pair":               {[]string{"--nats", "tls://127.0.0.1:1", "--client-cert", key, "--client-key", cert}, "which do not make a certificate", exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := ferrule(t, "", append([]string{"serve", echo}, c.args...)...)
			assert.Equal(t, c.code, code, errs)
			assert.Contains(t, errs, c.want)
			assert.NotContains(t, errs, "secret")
			assert.Empty(t, out)
		})
	}
}
