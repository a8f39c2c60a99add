//go:build unix

package remote_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote/mqtt"
)

// A connection that breaks while the broker's word on a subscription is waited for is made again at once, and not when the time for that word is over.
func TestBreaksWhileSubscribing(t *testing.T) {
	s := inMosquitto.Start(t, 0)
	inMosquitto.Node(t, shout(), node{URL: s.URL()})
	l := slowLine(t, s.URL(), 0, 0, 0, 0)
	p, err := loader.Open(l.url+"/shout", mqtt.Plugin(mqtt.WithStartTimeout(time.Hour)), suffix())
	require.NoError(t, err)
	defer p.Close()
	answered := func() bool {
		out, err := p.Call(t.Context(), "shout", []byte("hello"))
		return err == nil && string(out) == "HELLO"
	}
	require.True(t, answered())
	const times = 3
	var broke atomic.Int32
	l.breakAt(func(sent []byte) bool { return sent[0] == packets.Subscribe<<4|2 && broke.Add(1) <= times })
	l.cut()
	require.Eventually(t, func() bool { return broke.Load() > times && answered() }, time.Minute, time.Millisecond)
}
