package remote_test

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"
)

// mochiProcess is a broker that is a process: what races in it, as retained messages do with subscriptions, is no fault of who is tested.
type mochiProcess struct {
	of      *process
	port    string
	longest int
}

func startMochiProcess(t testing.TB, longest int) *mochiProcess {
	m := &mochiProcess{port: "0", longest: longest}
	m.Again(t)
	return m
}

func (m *mochiProcess) URL() string { return "mqtt://127.0.0.1:" + m.port }

func (m *mochiProcess) Stop() {
	_ = m.of.Process.Kill()
	_ = m.of.Wait()
}

func (m *mochiProcess) Again(t testing.TB) {
	of, err := startProgram(t, "mochi", m.port, strconv.Itoa(m.longest))
	require.NoError(t, err)
	m.of, m.port = of, of.ID
}

// serveMochi serves at a port, of which 0 is any, with the longest packet that is taken, of which 0 is its own.
func serveMochi(args []string) error {
	longest, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	c := mochi.NewDefaultServerCapabilities()
	if longest > 0 {
		c.MaximumPacketSize = uint32(longest)
	}
	s := mochi.New(&mochi.Options{Capabilities: c, Logger: slog.New(slog.DiscardHandler)})
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:" + args[0]})
	for _, err := range []error{s.AddHook(new(auth.AllowHook), nil), s.AddHook(&says{ack: func(p *packets.Properties) { p.MaximumPacketSize = c.MaximumPacketSize }}, nil), s.AddListener(l), s.Serve()} {
		if err != nil {
			return err
		}
	}
	fmt.Println("ready", l.Address()[strings.LastIndexByte(l.Address(), ':')+1:])
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt)
	<-ended
	return s.Close()
}

func init() { programs["mochi"] = serveMochi }
