package remote_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// certificate makes one for 127.0.0.1 that signs itself.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// Host and node speak to the server by TLS; a certificate that nobody trusts is refused, and named.
func TestTLSOfNATS(t *testing.T) {
	own, trusted := certificate(t)
	s := startServerAt(t, &server.Options{Port: -1, TLS: true, TLSConfig: &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}})
	url := strings.Replace(s.ClientURL(), "tls://", "nats://", 1)
	startNATSNode(t, nats.Node{Servers: url, Connection: []client.Option{client.Secure(&tls.Config{RootCAs: trusted})}})
	p, err := loader.Open(url+"/shout", nats.Plugin(nats.WithTLS(&tls.Config{RootCAs: trusted})), suffix())
	require.NoError(t, err)
	defer p.Close()
	out, err := p.Call(t.Context(), "with", []byte("hello"))
	require.NoError(t, err)
	assert.Equal(t, "hello!", string(out))
	_, other := certificate(t)
	_, err = loader.Open(url+"/shout", nats.Plugin(nats.WithTLS(&tls.Config{RootCAs: other})), suffix())
	require.ErrorIs(t, err, loader.ErrRead)
	assert.Contains(t, err.Error(), "x509: certificate signed by unknown authority")
}

// permitted is one of the server's, who may publish and subscribe to these subjects and no others.
func permitted(name string, publish, subscribe []string) *server.User {
	return &server.User{Username: name, Password: name, Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: publish},
		Subscribe: &server.SubjectPermission{Allow: subscribe}}}
}

// onPage is the part of docs/remote.md that begins with these lines, as it stands there.
func onPage(t testing.TB, begin string) string {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "remote.md"))
	require.NoError(t, err)
	fenced := strings.HasPrefix(begin, "```")
	_, rest, ok := strings.Cut(string(page), begin)
	require.True(t, ok, begin)
	if fenced {
		block, _, ok := strings.Cut(rest, "\n```")
		require.True(t, ok)
		return block
	}
	var lines []string
	for line := range strings.SplitSeq(begin+rest, "\n") {
		indented, ok := strings.CutPrefix(line, "    ")
		if !ok && line != "" {
			break
		}
		lines = append(lines, indented)
	}
	return strings.Join(lines, "\n")
}

// discount is what the page's rights are about.
func discount() serve.Plugin {
	return serve.Go(&builtin.Plugin{Name: "discount", Version: "1.2.0", Threads: abi.Concurrent, Imports: []string{"suffix"}, Funcs: []builtin.Function{
		{Name: "with", Call: func(ctx context.Context, in []byte) ([]byte, error) {
			end, err := builtin.Import(ctx, "suffix", in)
			return append(in, end...), err
		}}}})
}

// The permissions that the page has are enough, and hold: who has not got them neither calls nor serves, and is told; a host cannot speak for nodes.
func TestPermissionsOfNATS(t *testing.T) {
	t.Setenv("NODE1_PASSWORD", "node1")
	t.Setenv("SHOP_PASSWORD", "shop")
	config := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(config, []byte(onPage(t, "```hcl\n")), 0o600))
	o, err := server.ProcessConfigFile(config)
	require.NoError(t, err)
	require.Len(t, o.Users, 2)
	o.Port = -1
	o.Users = append(o.Users,
		permitted("mute", []string{"$SRV.>"}, []string{"_INBOX.mute.>", "ferrule.discount.nodes"}),
		permitted("other", []string{"ferrule.sing.>", "$SRV.PING.sing"}, []string{"_INBOX.other.>", "ferrule.sing.nodes"}),
		permitted("impostor", []string{"ferrule.sing.nodes", "_INBOX.shop.>"}, []string{"ferrule.sing.>", "$SRV.>", "_INBOX.impostor.>"}))
	s := startServerAt(t, o)
	as := func(name string) []client.Option {
		return []client.Option{client.UserInfo(name, name), client.CustomInboxPrefix("_INBOX." + name)}
	}
	startNATSNodeOf(t, discount(), nats.Node{Servers: s.ClientURL(), Connection: as("node1")})
	open := func(name string) (*loader.Plugin, error) {
		return loader.Open(s.ClientURL()+"/discount", nats.Plugin(nats.WithConnection(as(name)...), nats.WithStartTimeout(3*time.Second), nats.WithSilence(time.Second)), suffix())
	}
	p, err := open("shop")
	require.NoError(t, err)
	defer p.Close()
	out, err := p.Call(t.Context(), "with", []byte("hello"))
	require.NoError(t, err)
	assert.Equal(t, "hello!", string(out))
	own, err := p.NewSession(t.Context(), nil)
	require.NoError(t, err)
	out, err = own.Call(t.Context(), "with", []byte("hello"))
	require.NoError(t, err)
	assert.Equal(t, "hello!", string(out))

	shop, err := client.Connect(s.ClientURL(), as("shop")...)
	require.NoError(t, err)
	defer shop.Close()
	said, err := shop.Request("$SRV.PING.discount", nil, time.Minute/2)
	require.NoError(t, err)
	require.NoError(t, shop.PublishMsg(&client.Msg{Subject: "ferrule.discount.nodes", Data: said.Data, Header: client.Header{"Ferrule-Left": {"yes"}}}))
	require.NoError(t, shop.Flush())
	require.ErrorContains(t, shop.LastError(), `Permissions Violation for Publish to "ferrule.discount.nodes"`)
	for _, subject := range []string{"ferrule.discount.>", "_INBOX.>"} {
		_, err = shop.SubscribeSync(subject)
		require.NoError(t, err)
		require.NoError(t, shop.Flush())
		require.ErrorContains(t, shop.LastError(), `Permissions Violation for Subscription to "`+subject+`"`)
	}
	out, err = own.Call(t.Context(), "with", []byte("hello"))
	require.NoError(t, err)
	assert.Equal(t, "hello!", string(out))
	for _, name := range []string{"mute", "other"} {
		_, err = open(name)
		require.ErrorIs(t, err, loader.ErrRead, name)
		assert.Contains(t, strings.ToLower(err.Error()), "permissions violation", name)
	}
	_, err = open("nobody")
	require.ErrorIs(t, err, loader.ErrRead)
	assert.Contains(t, err.Error(), "refuses the credentials")
	err = nats.Serve(t.Context(), shout(), nats.Node{Servers: s.ClientURL(), Connection: as("impostor")})
	require.Error(t, err)
	assert.Contains(t, strings.ToLower(err.Error()), "permissions violation")
}

// A node is a micro service: NATS's own requests find it, describe it and call its functions, and its statistics have what became of all calls.
func TestMicro(t *testing.T) {
	s := startServerAt(t, &server.Options{Port: -1})
	startNATSNode(t, nats.Node{Servers: s.ClientURL(), Workers: 3})
	p, err := loader.Open(s.ClientURL()+"/shout", nats.Plugin(), suffix())
	require.NoError(t, err)
	defer p.Close()
	for range 5 {
		_, err = p.Call(t.Context(), "shout", []byte("x"))
		require.NoError(t, err)
	}
	_, err = p.Call(t.Context(), "fail", nil)
	require.Error(t, err)
	nc, err := client.Connect(s.ClientURL())
	require.NoError(t, err)
	defer nc.Close()
	request := func(subject, in string, header client.Header) *client.Msg {
		m, err := nc.RequestMsg(&client.Msg{Subject: subject, Data: []byte(in), Header: header}, 10*time.Second)
		require.NoError(t, err)
		return m
	}
	var info micro.Info
	require.NoError(t, json.Unmarshal(request("$SRV.INFO.shout", "", nil).Data, &info))
	assert.Equal(t, "1.2.0", info.Version)
	assert.Equal(t, "3", info.Metadata["workers"])
	assert.Len(t, info.Endpoints, 4)
	assert.Equal(t, "HELLO", string(request("ferrule.shout.fn.shout", "hello", nil).Data))
	m := request("ferrule.shout.fn.fail", "", nil)
	assert.Equal(t, "1", m.Header.Get(micro.ErrorCodeHeader))
	assert.Equal(t, "no", m.Header.Get(micro.ErrorHeader))
	m = request("ferrule.shout.fn.with", "hello", nil)
	assert.Equal(t, "3", m.Header.Get(micro.ErrorCodeHeader), "%s", m.Header.Get(micro.ErrorHeader))
	m = request("ferrule.shout.fn.sleep", "", client.Header{"Ferrule-Timeout": {"20"}})
	assert.Equal(t, "4", m.Header.Get(micro.ErrorCodeHeader))
	m = request("ferrule.shout.fn.shout", "", client.Header{"Ferrule-Timeout": {"20ms"}})
	assert.Equal(t, "2", m.Header.Get(micro.ErrorCodeHeader))
	assert.Equal(t, `found Ferrule-Timeout "20ms", expected milliseconds, a decimal number`, m.Header.Get(micro.ErrorHeader))
	var stats struct {
		Endpoints []struct {
			Name        string `json:"name"`
			NumRequests int    `json:"num_requests"`
			Data        struct {
				Calls, Failed, Running int
			} `json:"data"`
		} `json:"endpoints"`
	}
	require.NoError(t, json.Unmarshal(request("$SRV.STATS.shout", "", nil).Data, &stats))
	found := map[string][3]int{}
	for _, e := range stats.Endpoints {
		found[e.Name] = [3]int{e.Data.Calls, e.Data.Failed, e.Data.Running}
	}
	assert.Equal(t, map[string][3]int{"shout": {6, 0, 0}, "fail": {2, 2, 0}, "with": {1, 1, 0}, "sleep": {1, 1, 0}}, found)
}

// Whatever comes to a node, or to a host's session, neither ends of it, nor do others' calls.
func TestHostileMessagesOverNATS(t *testing.T) {
	s := startServerAt(t, &server.Options{Port: -1})
	node, err := inNATS.Process(t, s.ClientURL(), "4", "shout")
	require.NoError(t, err)
	p, err := loader.Open(s.ClientURL()+"/shout", nats.Plugin(), suffix())
	require.NoError(t, err)
	defer p.Close()
	nc, err := client.Connect(s.ClientURL())
	require.NoError(t, err)
	defer nc.Close()
	address := "ferrule.shout." + node.ID
	var sessions []string
	answers, err := nc.SubscribeSync("mine.>")
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, nc.PublishRequest(address, fmt.Sprintf("mine.%d", i), []byte("OPEN 1 5\n")))
		m, err := answers.NextMsg(10 * time.Second)
		require.NoError(t, err)
		words := strings.Fields(string(m.Data))
		require.Len(t, words, 4, "%s", m.Data)
		sessions = append(sessions, words[1])
	}
	parts := []string{"OPEN", "DATA", "ASK", "HERE", "USED", "END", " ", " 0", " 1", " 99999999999", "\n", "HELLO 1\n\n", "CALL 1 shout\nContent-Length: 5\n\nhello", "CALL 1 ferrule.start\n\n",
		"DONE 1 0\n\n", "PART 1\nContent-Length: 1\n\nx", "MORE 1 5\n\n", "\x00\xff", strings.Repeat("x", 5000), "BYE\n\n", "CANCEL 1\n\n", "session"}
	r := mrand.New(mrand.NewPCG(1, 2))
	for i := range 20_000 {
		var b strings.Builder
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, "DATA 0 0\n")
		}
		for range r.IntN(5) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		to := address
		if r.IntN(2) == 0 {
			to = sessions[r.IntN(len(sessions))]
		}
		m := &client.Msg{Subject: to, Data: []byte(b.String())}
		if r.IntN(2) == 0 {
			m.Reply = fmt.Sprintf("mine.%d", r.IntN(40))
		}
		require.NoError(t, nc.PublishMsg(m))
		if i%500 == 0 {
			out, err := p.Call(t.Context(), "shout", []byte("hello"))
			require.NoError(t, err)
			require.Equal(t, "HELLO", string(out))
		}
	}
	require.NoError(t, nc.Flush())
	out, err := p.Call(t.Context(), "with", []byte("hello"))
	require.NoError(t, err)
	assert.Equal(t, "hello!", string(out))
}
