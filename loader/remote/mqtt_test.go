package remote_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote/mqtt"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// kitOf is the common tests' of a broker.
func kitOf(start func(testing.TB, int) running) *kit {
	return &kit{
		Start: start,
		Serve: func(ctx context.Context, p serve.Plugin, n node, opts ...loader.Option) error {
			return mqtt.Serve(ctx, p, mqtt.Node{Servers: n.URL, Workers: n.Workers, Queue: n.Queue, Sessions: n.Sessions, Silence: long, Ready: n.Ready}, opts...)
		},
		Plugin: func(silence time.Duration) loader.Option {
			if silence == 0 {
				silence = long
			}
			return mqtt.Plugin(mqtt.WithSilence(silence))
		},
	}
}

// Mosquitto is what most people run; the other is in this process.
var (
	inMosquitto = kitOf(func(t testing.TB, longest int) running {
		more := ""
		if longest > 0 {
			more = fmt.Sprintf("max_packet_size %d\n", longest)
		}
		return startMosquitto(t, "allow_anonymous true\n"+more)
	})
	inMochi = kitOf(func(t testing.TB, longest int) running { return startMochi(t, longest) })
)

// program is Mosquitto's, or skips the test.
func program(t testing.TB) string {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // which is not on everybody's PATH
		if _, err := os.Stat(path); err != nil {
			t.Skip("there is no mosquitto: apt-get install mosquitto")
		}
	}
	return path
}

// broker is a Mosquitto that runs.
type broker struct {
	program, config, port string
	scheme                string
	cmd                   *exec.Cmd
	said                  strings.Builder
}

// startMosquitto starts one with these lines of configuration, on a port of its own.
func startMosquitto(t testing.TB, lines string) *broker {
	path := program(t)
	u, err := user.Current()
	require.NoError(t, err)
	scheme := "mqtt"
	if strings.Contains(lines, "certfile") {
		scheme = "mqtts"
	}
	for range 20 { // another process may take the port first
		b := &broker{program: path, config: filepath.Join(t.TempDir(), "mosquitto.conf"), port: freePort(t), scheme: scheme}
		require.NoError(t, os.WriteFile(b.config, []byte("user "+u.Username+"\nlistener "+b.port+" 127.0.0.1\n"+lines), 0o600))
		if b.start() == nil {
			t.Cleanup(func() {
				b.Stop()
				if t.Failed() {
					t.Logf("mosquitto: %.4000s", b.said.String())
				}
			})
			return b
		}
		if !strings.Contains(b.said.String(), "Address already in use") {
			t.Fatalf("mosquitto: %s", b.said.String())
		}
	}
	t.Fatal("mosquitto: no port")
	return nil
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// start returns when it accepts connections. The error is that it has ended.
func (b *broker) start() error {
	b.cmd = exec.Command(b.program, "-c", b.config)
	b.cmd.Stderr = &b.said
	if err := b.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	cmd := b.cmd
	go func() { ended <- cmd.Wait() }()
	for {
		conn, err := net.Dial("tcp", "127.0.0.1:"+b.port)
		select {
		case <-ended:
			if err == nil {
				conn.Close()
			}
			return fmt.Errorf("it has ended")
		default:
		}
		if err == nil {
			return conn.Close()
		}
		time.Sleep(time.Millisecond)
	}
}

func (b *broker) URL() string { return b.scheme + "://127.0.0.1:" + b.port }

func (b *broker) Stop() {
	_ = b.cmd.Process.Kill()
	for { // start's goroutine waits for it
		conn, err := net.Dial("tcp", "127.0.0.1:"+b.port)
		if err != nil {
			return
		}
		conn.Close()
	}
}

func (b *broker) Again(t testing.TB) {
	require.Eventually(t, func() bool { return b.start() == nil }, time.Minute, time.Millisecond)
}

// embedded is a broker in this process.
type embedded struct {
	server  *mochi.Server
	port    string
	longest int
}

func startMochi(t testing.TB, longest int) *embedded {
	e := &embedded{port: freePort(t), longest: longest}
	e.Again(t)
	t.Cleanup(e.Stop)
	return e
}

func (e *embedded) URL() string { return "mqtt://127.0.0.1:" + e.port }

func (e *embedded) Stop() { _ = e.server.Close() }

func (e *embedded) Again(t testing.TB) {
	c := mochi.NewDefaultServerCapabilities()
	if e.longest > 0 {
		c.MaximumPacketSize = uint32(e.longest)
	}
	e.server = mochi.New(&mochi.Options{Capabilities: c, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, e.server.AddHook(new(auth.AllowHook), nil))
	require.NoError(t, e.server.AddHook(&says{ack: func(p *packets.Properties) { p.MaximumPacketSize = c.MaximumPacketSize }}, nil))
	require.NoError(t, e.server.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:" + e.port})))
	require.NoError(t, e.server.Serve())
}

// says has the broker say more of itself when clients connect: what it cannot do, or the longest packet that it takes, to which it keeps by itself without a word.
type says struct {
	mochi.HookBase
	ack func(*packets.Properties)
}

func (*says) ID() string { return "says" }

func (*says) Provides(b byte) bool { return b == mochi.OnPacketEncode }

func (s *says) OnPacketEncode(_ *mochi.Client, p packets.Packet) packets.Packet {
	if p.FixedHeader.Type == packets.Connack {
		s.ack(&p.Properties)
	}
	return p
}
