package remote_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote/mqtt"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// kitOf is the common tests' of a broker.
func kitOf(start func(testing.TB, int) running) *kit {
	return &kit{
		Start: start,
		Serve: func(ctx context.Context, p serve.Plugin, n node, opts ...loader.Option) error {
			return mqtt.Serve(ctx, p, mqtt.Node{Servers: n.URL, Workers: n.Workers, Queue: n.Queue, Sessions: n.Sessions, Grace: n.Grace, Silence: long, Ready: n.Ready}, opts...)
		},
		Plugin: func(silence time.Duration) loader.Option {
			if silence == 0 {
				silence = long
			}
			return mqtt.Plugin(mqtt.WithSilence(silence))
		},
	}
}

// Mosquitto is what most people run; the other is a process of this program.
var (
	inMosquitto = kitOf(func(t testing.TB, longest int) running {
		more := ""
		if longest > 0 {
			more = fmt.Sprintf("max_packet_size %d\n", longest)
		}
		return fixture.Mosquitto(t, "allow_anonymous true\n"+more)
	})
	inMochi = kitOf(func(t testing.TB, longest int) running { return startMochiProcess(t, longest) })
)

// embedded is a broker in this process.
type embedded struct {
	server *mochi.Server
	port   string
}

func (e *embedded) URL() string { return "mqtt://127.0.0.1:" + e.port }

func (e *embedded) Stop() { _ = e.server.Close() }

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
