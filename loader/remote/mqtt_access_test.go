package remote_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote/mqtt"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// serveAs runs a node until the test ends, or returns why it does not get ready.
func serveAs(t testing.TB, n mqtt.Node) error { return servePlugin(t, shout(), n) }

func servePlugin(t testing.TB, p serve.Plugin, n mqtt.Node) error {
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	n.Ready = func(string) { close(ready) }
	go func() { done <- mqtt.Serve(ctx, p, n) }()
	select {
	case err := <-done:
		cancel()
		require.Error(t, err)
		return err
	case <-ready:
		t.Cleanup(func() {
			cancel()
			assert.NoError(t, <-done)
		})
		return nil
	}
}

// What Mosquitto's lists of rights allow is enough, as docs/remote.md has it, and what they do not allow is said.
func TestAccessOfMosquitto(t *testing.T) {
	fixture.MosquittoProgram(t)
	acl := filepath.Join(t.TempDir(), "acl")
	require.NoError(t, os.WriteFile(acl, []byte(onPage(t, "    user node1\n")+`
user mute
topic readwrite ferrule/@hosts/mute/#
topic read ferrule/@nodes/discount/+

user deafhost
topic write ferrule/@hosts/deafhost/#
topic read ferrule/@nodes/discount/+
topic write ferrule/discount/#

user stray
topic readwrite ferrule/@hosts/shop/#
topic read ferrule/@nodes/discount/+
topic write ferrule/discount/#

user deafnode
topic write ferrule/discount/#
topic write ferrule/@nodes/discount/#
topic write ferrule/@hosts/#

user mutenode
topic read ferrule/discount/#
topic read ferrule/@nodes/discount/#

user hidden
topic read ferrule/discount/#
topic read ferrule/@nodes/discount/#
topic write ferrule/discount/+
topic write ferrule/@hosts/#
`), 0o600))
	s := fixture.Mosquitto(t, "allow_anonymous false\npassword_file "+fixture.MosquittoPasswords(t, "node1", "shop", "mute", "deafhost", "stray", "deafnode", "mutenode", "hidden")+"\nacl_file "+acl+"\n")
	nodeAs := func(user, password string) error {
		return servePlugin(t, discount(), mqtt.Node{Servers: s.URL(), User: user, Password: password})
	}
	openAs := func(user, password string) (*loader.Plugin, error) {
		return loader.Open(s.URL()+"/discount", mqtt.Plugin(mqtt.WithCredentials(user, password)), suffix())
	}
	require.NoError(t, nodeAs("node1", "node1"))
	p, err := openAs("shop", "shop")
	require.NoError(t, err)
	defer p.Close()
	out, err := p.Call(t.Context(), "with", []byte("x"))
	require.NoError(t, err)
	assert.Equal(t, "x!", string(out))

	// A host says nothing of nodes.
	c := newStrangerAs(t, s.URL(), "shop", "shop")
	_, err = c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "ferrule/@nodes/discount/+"}}})
	require.NoError(t, err)
	there := <-c.came
	for _, topic := range []string{there.Topic, "ferrule/@nodes/discount/another"} {
		for _, word := range []string{"", "gone", string(there.Payload)} {
			ack, err := c.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: 1, Retain: true, Payload: []byte(word)})
			require.Error(t, err)
			assert.Equal(t, byte(0x87), ack.ReasonCode, topic)
		}
	}

	for _, of := range []struct{ user, password, says string }{
		{"shop", "wrong", "the broker refuses the connection: not authorized"},
		{"nobody", "nobody", "the broker refuses the connection: not authorized"},
		{"mute", "mute", "this client may not publish to ferrule/discount/"},
		{"deafhost", "deafhost", "does not come back: it may not read that"},
		{"stray", "stray", "this client may not publish to ferrule/@hosts/stray/"},
	} {
		_, err := openAs(of.user, of.password)
		require.ErrorIs(t, err, loader.ErrRead, of.user)
		assert.Contains(t, err.Error(), of.says, of.user)
	}
	_, err = loader.Open(s.URL()+"/discount", mqtt.Plugin(), suffix())
	require.ErrorIs(t, err, loader.ErrRead)
	assert.Contains(t, err.Error(), "not authorized")
	for _, of := range []struct{ user, password, says string }{
		{"node1", "wrong", "the broker refuses the connection: not authorized"},
		{"deafnode", "deafnode", "does not come back: it may not read that"},
		{"mutenode", "mutenode", "this client may not publish to ferrule/discount/"},
		{"hidden", "hidden", "this client may not publish to ferrule/@nodes/discount/"},
	} {
		err := nodeAs(of.user, of.password)
		require.Error(t, err, of.user)
		assert.Contains(t, err.Error(), of.says, of.user)
	}
}

// A broker that refuses subscriptions says which.
func TestRefusedSubscriptions(t *testing.T) {
	for _, of := range []struct {
		name, filter string // as a regular expression
		node, host   string
	}{
		{"sessions", `^ferrule/shout/[^/]+/\+$`, "this client may not subscribe to ferrule/shout/", ""},
		{"addresses of hosts", `^ferrule/@hosts/_/[^/]+/\+$`, "", "this client may not subscribe to ferrule/@hosts/_/"},
		{"nodes", `^ferrule/@nodes/shout/\+$`, "", "this client may not subscribe to ferrule/@nodes/shout/+"}, // a node reads its own alone
		{"plain requests", `^\$share/`, "this client may not subscribe to $share/ferrule/ferrule/shout/fn/+", ""},
	} {
		t.Run(of.name, func(t *testing.T) {
			e := startMochiWith(t, mochi.NewDefaultServerCapabilities(), nil, func(filter string) bool {
				return !regexp.MustCompile(of.filter).MatchString(filter)
			})
			err := serveAs(t, mqtt.Node{Servers: e.URL()})
			if of.node != "" {
				require.Error(t, err)
				assert.Contains(t, err.Error(), of.node)
				return
			}
			require.NoError(t, err)
			_, err = loader.Open(e.URL()+"/shout", mqtt.Plugin(), suffix())
			require.ErrorIs(t, err, loader.ErrRead)
			assert.Contains(t, err.Error(), of.host)
		})
	}
}

// A broker that cannot do what is needed is refused, and says what it lacks.
func TestWhatABrokerLacks(t *testing.T) {
	for _, of := range []struct {
		name, says string
		ack        func(*packets.Properties)
	}{
		{"retained messages", "has no retained messages", func(p *packets.Properties) { p.RetainAvailable, p.RetainAvailableFlag = 0, true }},
		{"wildcards", "has no subscriptions with wildcards", func(p *packets.Properties) { p.WildcardSubAvailable, p.WildcardSubAvailableFlag = 0, true }},
		{"room", "takes packets of 2000 bytes, and 2048 are needed", func(p *packets.Properties) { p.MaximumPacketSize = 2000 }},
	} {
		t.Run(of.name, func(t *testing.T) {
			e := startMochiWith(t, mochi.NewDefaultServerCapabilities(), of.ack, nil)
			err := serveAs(t, mqtt.Node{Servers: e.URL()})
			require.Error(t, err)
			assert.Contains(t, err.Error(), of.says)
			_, err = loader.Open(e.URL()+"/shout", mqtt.Plugin(), suffix())
			require.ErrorIs(t, err, loader.ErrRead)
			assert.Contains(t, err.Error(), of.says)
		})
	}
	t.Run("shared subscriptions", func(t *testing.T) {
		e := startMochiWith(t, mochi.NewDefaultServerCapabilities(), func(p *packets.Properties) { p.SharedSubAvailable, p.SharedSubAvailableFlag = 0, true }, nil)
		var lines lockedBuilder
		require.NoError(t, serveAs(t, mqtt.Node{Servers: e.URL(), Logger: slog.New(slog.NewTextHandler(&lines, nil))}))
		assert.Contains(t, lines.String(), "the broker has no shared subscriptions")
		p, err := loader.Open(e.URL()+"/shout", mqtt.Plugin(), suffix())
		require.NoError(t, err)
		defer p.Close()
		out, err := p.Call(t.Context(), "shout", []byte("x"))
		require.NoError(t, err)
		assert.Equal(t, "X", string(out))
	})
	t.Run("MQTT 5", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				b := make([]byte, 1024)
				_, _ = c.Read(b)
				_, _ = c.Write([]byte{0x20, 3, 0, packets.ErrUnsupportedProtocolVersion.Code, 0})
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}
		}()
		_, err = loader.Open("mqtt://"+l.Addr().String()+"/shout", mqtt.Plugin())
		require.ErrorIs(t, err, loader.ErrRead)
		assert.Contains(t, err.Error(), "it does not speak MQTT 5")
	})
}

type lockedBuilder struct {
	mu sync.Mutex
	strings.Builder
}

func (l *lockedBuilder) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(b)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.String()
}

// certified makes a certificate for 127.0.0.1, and who trusts it.
func certified(t testing.TB) (cert, key string, pool *x509.CertPool) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	pool = x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool.AddCert(parsed)
	return cert, key, pool
}

// By TLS all is as without; a broker that is not trusted is told no password.
func TestTLSOfMQTT(t *testing.T) {
	fixture.MosquittoProgram(t)
	cert, key, pool := certified(t)
	s := fixture.Mosquitto(t, "allow_anonymous false\npassword_file "+fixture.MosquittoPasswords(t, "ada")+"\ncertfile "+cert+"\nkeyfile "+key+"\n")
	config := &tls.Config{RootCAs: pool}
	require.NoError(t, serveAs(t, mqtt.Node{Servers: s.URL(), User: "ada", Password: "ada", TLS: config, Silence: long}))
	p, err := loader.Open(s.URL()+"/shout", mqtt.Plugin(mqtt.WithCredentials("ada", "ada"), mqtt.WithTLS(config), mqtt.WithSilence(long)), suffix())
	require.NoError(t, err)
	defer p.Close()
	in := make([]byte, 3<<20)
	for i := range in {
		in[i] = 'a'
	}
	out, err := p.Call(t.Context(), "shout", in)
	require.NoError(t, err)
	assert.Equal(t, strings.ToUpper(string(in)), string(out))
	_, err = loader.Open(s.URL()+"/shout", mqtt.Plugin(mqtt.WithCredentials("ada", "ada")), suffix())
	require.ErrorIs(t, err, loader.ErrRead)
	assert.Contains(t, err.Error(), "certificate signed by unknown authority")
	err = serveAs(t, mqtt.Node{Servers: s.URL(), User: "ada", Password: "ada"})
	assert.Contains(t, err.Error(), "certificate signed by unknown authority")
}

// A host whose connection is cut is gone: what runs for it is asked to stop, however long it may be silent.
func TestHostIsGone(t *testing.T) {
	both(t, func(t *testing.T, k *kit) {
		s := k.Start(t, 0)
		begun, ended := make(chan struct{}), make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		ready, done := make(chan string, 1), make(chan error, 1)
		go func() {
			done <- mqtt.Serve(ctx, serve.Go(&builtin.Plugin{Name: "gate", Version: "1.0.0", Funcs: []builtin.Function{{Name: "wait", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				close(begun)
				<-ctx.Done()
				close(ended)
				return nil, ctx.Err()
			}}}}), mqtt.Node{Servers: s.URL(), Silence: 24 * time.Hour, Ready: func(id string) { ready <- id }})
		}()
		<-ready
		way := newWay(t, strings.TrimPrefix(s.URL(), "mqtt://"))
		p, err := loader.Open("mqtt://"+way.Addr().String()+"/gate", k.Plugin(24*time.Hour))
		require.NoError(t, err)
		defer p.Close()
		failed := make(chan error, 1)
		go func() {
			_, err := p.Call(context.Background(), "wait", nil)
			failed <- err
		}()
		<-begun
		way.cut()
		<-ended
		require.ErrorIs(t, <-failed, loader.ErrCrash)
		cancel()
		require.NoError(t, <-done)
	})
}

// way is a listener whose connections go on to a broker, until they are cut.
type way struct {
	net.Listener
	mu  sync.Mutex
	all []net.Conn
}

func newWay(t testing.TB, to string) *way {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &way{Listener: l}
	t.Cleanup(w.cut)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			w.mu.Lock()
			w.all = append(w.all, in, out)
			w.mu.Unlock()
			go io.Copy(in, out)
			go io.Copy(out, in)
		}
	}()
	return w
}

func (w *way) cut() {
	w.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.all {
		c.Close()
	}
}

// startMochiWith starts one that says this of itself when clients connect, and lets them subscribe where may says so.
func startMochiWith(t testing.TB, c *mochi.Capabilities, ack func(*packets.Properties), may func(filter string) bool) *embedded {
	e := &embedded{port: fixture.FreePort(t)}
	e.server = mochi.New(&mochi.Options{Capabilities: c, InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if may == nil {
		may = func(string) bool { return true }
	}
	require.NoError(t, e.server.AddHook(&lets{may: may}, nil))
	if ack != nil {
		require.NoError(t, e.server.AddHook(&says{ack: ack}, nil))
	}
	require.NoError(t, e.server.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:" + e.port})))
	require.NoError(t, e.server.Serve())
	t.Cleanup(e.Stop)
	return e
}

// A broker may send retained messages when it has the time, and what is published meanwhile before them: the node is found all the same.
func TestLateRetained(t *testing.T) {
	var l late
	e := startMochiWith(t, mochi.NewDefaultServerCapabilities(), nil, func(topic string) bool { // the broker asks about each message that is to be sent, too
		return !l.keeps.Load() || !strings.HasPrefix(topic, "ferrule/@nodes/shout/") || strings.HasSuffix(topic, "+")
	})
	l.server = e.server
	require.NoError(t, serveAs(t, mqtt.Node{Servers: e.URL(), Silence: long}))
	l.keeps.Store(true)
	require.NoError(t, e.server.AddHook(&l, nil))
	p, err := loader.Open(e.URL()+"/shout", mqtt.Plugin(mqtt.WithSilence(long)), suffix())
	require.NoError(t, err)
	defer p.Close()
	out, err := p.Call(t.Context(), "shout", []byte("x"))
	require.NoError(t, err)
	assert.Equal(t, "X", string(out))
}

// late has the broker keep announcements to itself until a while after the host's message to itself has come back.
type late struct {
	mochi.HookBase
	server *mochi.Server
	once   sync.Once
	keeps  atomic.Bool
}

func (*late) ID() string { return "late" }

func (*late) Provides(b byte) bool { return b == mochi.OnPublished }

func (l *late) OnPublished(_ *mochi.Client, p packets.Packet) {
	if !strings.HasPrefix(p.TopicName, "ferrule/@hosts/") {
		return
	}
	l.once.Do(func() {
		time.AfterFunc(100*time.Millisecond, func() {
			l.keeps.Store(false)
			for _, m := range l.server.Topics.Messages("ferrule/@nodes/shout/+") {
				_ = l.server.Publish(m.TopicName, m.Payload, false, 0)
			}
		})
	})
}

// lets has clients subscribe where it may be.
type lets struct {
	mochi.HookBase
	may func(filter string) bool
}

func (*lets) ID() string { return "lets" }

func (*lets) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}

func (*lets) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

func (l *lets) OnACLCheck(_ *mochi.Client, topic string, write bool) bool {
	return write || l.may(topic)
}
