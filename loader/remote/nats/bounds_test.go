package nats

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
)

func connected(t *testing.T, opts ...nats.Option) *connection {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(s.Shutdown)
	require.True(t, s.ReadyForConnections(10*time.Second))
	b, err := connect(s.ClientURL(), 10*time.Second, opts)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

func said(id, version string) []byte {
	data, _ := json.Marshal(micro.Ping{ServiceIdentity: micro.ServiceIdentity{ID: id, Metadata: map[string]string{keyWire: wireIs, keyPlugin: "shout", keyVersion: version}}})
	return data
}

// What is kept of what nodes say has a bound, and so has what waits to be read; what is dropped of it ends no session.
func TestWhatNodesSayIsBounded(t *testing.T) {
	_, ok := readNode(said("a", strings.Repeat("1", 256)), "shout")
	assert.True(t, ok)
	for _, data := range [][]byte{said("a", strings.Repeat("1", 257)), said(strings.Repeat("a", 65), "1"), said("a.b", "1"), said("", "1"),
		append(said("a", "1"), make([]byte, broker.MostSaid)...)} {
		_, ok = readNode(data, "shout")
		assert.False(t, ok, "%.100s", data)
	}
	b := connected(t)
	gate, came := make(chan struct{}), make(chan string, 3*mostWaiting)
	broke := make(chan error, 1)
	stop, err := b.Watch("shout", broker.Watcher{Came: func(n broker.Node) {
		<-gate
		came <- n.ID
	}, Went: func(string) {}, Down: func(err error) { broke <- err }})
	require.NoError(t, err)
	defer stop()
	other, err := nats.Connect(b.nc.ConnectedUrl())
	require.NoError(t, err)
	defer other.Close()
	for i := range mostWaiting + 100 {
		require.NoError(t, other.Publish(comingOf("shout"), said(strconv.Itoa(i), "1")))
	}
	require.NoError(t, other.Flush())
	require.Eventually(t, func() bool { return b.nc.LastError() == nats.ErrSlowConsumer }, time.Minute, time.Millisecond)
	close(gate)
	<-came
	select {
	case err := <-broke:
		t.Errorf("the connection is told to have broken: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
}

// Addresses have the prefix that the connection's inboxes are to have, or are below the one that is named; no two are alike.
func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		prefix string
		opts   []nats.Option
	}{{"_INBOX", nil}, {"_INBOX.shop", []nats.Option{nats.CustomInboxPrefix("_INBOX.shop")}}} {
		b := connected(t, c.opts...)
		seen := make(map[string]bool)
		for _, below := range []string{"", "", "ferrule.shout.A", "ferrule.shout.A"} {
			address, stop, err := b.Listen(below, func(broker.Message) {})
			require.NoError(t, err)
			defer stop()
			prefix := c.prefix
			if below != "" {
				prefix = below
			}
			secret, ok := strings.CutPrefix(address, prefix+".")
			assert.True(t, ok && len(secret) == 22 && broker.ValidID(secret), address)
			assert.False(t, seen[secret])
			seen[secret] = true
		}
	}
}
