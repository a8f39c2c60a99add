package remote_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

func init() {
	tests = append(tests, test{"LateAnswer", testLateAnswer}, test{"LongVersion", testLongVersion}, test{"DeafCall", testDeafCall})
}

// overdue is a context whose end comes later than its deadline, as all do whose process was stopped meanwhile.
type overdue struct {
	context.Context
	at time.Time
}

func (o overdue) Deadline() (time.Time, bool) { return o.at, true }

// An answer that comes after the deadline is no success, also where the context has not ended yet.
func testLateAnswer(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	begun, gate := make(chan struct{}, 2), make(chan struct{})
	k.Node(t, serve.Go(&builtin.Plugin{Name: "late", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{{Name: "wait", Call: func(context.Context, []byte) ([]byte, error) {
		begun <- struct{}{}
		<-gate
		return []byte("done"), nil
	}}}}), node{URL: s.URL(), Workers: 2})
	p, err := loader.Open(s.URL()+"/late", k.Plugin(0))
	require.NoError(t, err)
	defer p.Close()
	own, err := p.NewSession(t.Context(), nil)
	require.NoError(t, err)
	ended, end := context.WithCancel(t.Context())
	ctx := overdue{ended, time.Now().Add(3 * time.Second)}
	failed := make(chan error, 2)
	for _, call := range []func(context.Context, string, []byte) ([]byte, error){p.Call, own.Call} {
		go func() {
			_, err := call(ctx, "wait", nil)
			failed <- err
		}()
	}
	<-begun
	<-begun
	time.Sleep(time.Until(ctx.at))
	close(gate)
	time.AfterFunc(time.Second, end)
	require.ErrorIs(t, <-failed, loader.ErrCancelled)
	require.ErrorIs(t, <-failed, loader.ErrCancelled)
}

// A plug-in that hosts could not find, since its version is longer than nodes may say, is not served.
func testLongVersion(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	plugin := func(length int) serve.Plugin {
		return serve.Go(&builtin.Plugin{Name: strings.Repeat("n", 128), Version: strings.Repeat("1", length)})
	}
	err := k.Serve(t.Context(), plugin(257), node{URL: s.URL()})
	require.ErrorContains(t, err, "found 257 bytes in the plug-in's version, expected 256 at most")
	k.Node(t, plugin(256), node{URL: s.URL()})
	p, err := loader.Open(s.URL()+"/"+strings.Repeat("n", 128), k.Plugin(0))
	require.NoError(t, err)
	require.NoError(t, p.Close())
}

// A node returns when its grace is over, also where a function does not stop when it is asked to; it says so.
func testDeafCall(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	begun, gate := make(chan struct{}), make(chan struct{})
	defer close(gate)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- k.Serve(ctx, serve.Go(&builtin.Plugin{Name: "deaf", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{{Name: "f", Call: func(context.Context, []byte) ([]byte, error) {
			close(begun)
			<-gate
			return nil, nil
		}}}}), node{URL: s.URL(), Grace: 50 * time.Millisecond, Ready: func(id string) { ready <- id }})
	}()
	<-ready
	p, err := loader.Open(s.URL()+"/deaf", k.Plugin(0))
	require.NoError(t, err)
	defer p.Close()
	failed := make(chan error, 1)
	go func() {
		_, err := p.Call(context.Background(), "f", nil)
		failed <- err
	}()
	<-begun
	cancel()
	err = soonAfter(t, done)
	var shut *loader.ShutdownError
	require.ErrorAs(t, err, &shut)
	assert.ErrorContains(t, err, "calls were still running 50ms after the node was to leave: they were asked to stop, and go on: ")
	assert.Equal(t, 1, shut.Calls)
	require.ErrorIs(t, soonAfter(t, failed), remote.ErrNodeLost)
}

// byHand has a node, and a session with it whose host is this test: what the node sends comes to the topic mine.
func byHand(t *testing.T) (of *process, nc *client.Conn, answers *client.Subscription, session string) {
	s := startServerAt(t, &server.Options{Port: -1})
	var err error
	of, err = inNATS.Process(t, s.ClientURL(), "4", "shout")
	require.NoError(t, err)
	nc, err = client.Connect(s.ClientURL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	answers, err = nc.SubscribeSync("mine")
	require.NoError(t, err)
	require.NoError(t, nc.PublishRequest("ferrule.shout."+of.ID, "mine", []byte("OPEN 1 5\n")))
	m, err := answers.NextMsg(time.Minute)
	require.NoError(t, err)
	session = strings.Fields(string(m.Data))[1]
	return of, nc, answers, session
}

// A host that never says that it has read anything cannot have a node keep answers without end: its session ends.
func TestHostThatReadsNothing(t *testing.T) {
	_, nc, answers, session := byHand(t)
	sent, taken := 0, 0
	write := func(b []byte) (goes bool) {
		for sent+len(b)-taken > 1<<20 {
			m, err := answers.NextMsg(time.Minute / 2)
			require.NoError(t, err)
			line, _, _ := strings.Cut(string(m.Data), "\n")
			words := strings.Fields(line)
			taken, err = strconv.Atoi(words[1])
			require.NoError(t, err)
			if words[0] == "END" {
				return false
			}
		}
		require.NoError(t, nc.PublishRequest(session, "mine", fmt.Appendf(nil, "DATA 0 %d\n%s", sent, b)))
		sent += len(b)
		return true
	}
	require.True(t, write([]byte("HELLO 1\n\n")))
	in, calls := strings.Repeat("x", 4096), 0
	for write(fmt.Appendf(nil, "CALL %d shout\nContent-Length: %d\n\n%s", calls+1, len(in), in)) {
		calls++
		require.Less(t, calls, 10_000)
	}
	assert.Greater(t, calls, 4096, "so many may be without an answer")
}

// lies are addresses of sessions that nodes may not give, where their own is the text.
func lies(address, between string) []string {
	return []string{address, address + between, address + between + "a" + between + "b", address + between + "#", address + between + ">", address + between + "*", address + between + "+",
		address + between + strings.Repeat("a", 65), address + "x" + between + "a", address + "|a", "$JS.API.STREAM.DELETE.x", "ferrule/#", "ferrule.>", "$SYS/x", "x"}
}

// A node whose session would be elsewhere than below its own address gives none, and nothing is sent there.
func TestLyingNodeOfNATS(t *testing.T) {
	s := startServerAt(t, &server.Options{Port: -1})
	nc, err := client.Connect(s.ClientURL())
	require.NoError(t, err)
	defer nc.Close()
	const address = "ferrule.shout.LIAR"
	var lie atomic.Value
	said, err := json.Marshal(micro.Ping{ServiceIdentity: micro.ServiceIdentity{Name: "shout", ID: "LIAR", Version: "1.0.0",
		Metadata: map[string]string{"ferrule": "1", "plugin": "shout", "version": "1.0.0"}}, Type: micro.PingResponseType})
	require.NoError(t, err)
	_, err = nc.Subscribe("$SRV.PING.shout", func(m *client.Msg) { assert.NoError(t, m.Respond(said)) })
	require.NoError(t, err)
	_, err = nc.Subscribe(address, func(m *client.Msg) {
		words := strings.Fields(string(m.Data))
		assert.NoError(t, m.Respond(fmt.Appendf(nil, "OPENED %s %s %d\n", lie.Load(), words[2], time.Now().UnixNano())))
	})
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	for _, text := range lies(address, ".") {
		lie.Store(text)
		_, err = loader.Open(s.ClientURL()+"/shout", nats.Plugin(), suffix())
		require.ErrorIs(t, err, loader.ErrRead, text)
		require.ErrorContains(t, err, "which is not below its own, "+address, text)
	}
}

// The same over MQTT, where a broker ends the connection of who publishes to what is no topic.
func TestLyingNodeOfMQTT(t *testing.T) {
	both(t, func(t *testing.T, k *kit) {
		s := k.Start(t, 0)
		c := newStranger(t, s.URL())
		const address = "ferrule/shout/LIAR"
		_, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: address}}})
		require.NoError(t, err)
		c.send(&paho.Publish{Topic: "ferrule/@nodes/shout/LIAR", QoS: 1, Retain: true, Payload: []byte(`{"ferrule":"1","plugin":"shout","version":"1.0.0"}`)})
		for _, text := range lies(address, "/") {
			opened := make(chan error, 1)
			go func() {
				_, err := loader.Open(s.URL()+"/shout", k.Plugin(0), suffix())
				opened <- err
			}()
			asked := <-c.came
			for len(asked.Payload) == 0 { // a host that waits for longer than usual asks the broker so whether anybody is there
				asked = <-c.came
			}
			words := strings.Fields(string(asked.Payload))
			c.send(&paho.Publish{Topic: asked.Properties.ResponseTopic, Payload: fmt.Appendf(nil, "OPENED %s %s %d\n", text, words[2], time.Now().UnixNano()),
				Properties: &paho.PublishProperties{ResponseTopic: text}})
			err := <-opened
			require.ErrorIs(t, err, loader.ErrRead, text)
			require.ErrorContains(t, err, "which is not below its own, "+address, text)
		}
	})
}

// What comes to a session from elsewhere than its host is not the host's.
func TestSessionIsItsHosts(t *testing.T) {
	of, nc, answers, session := byHand(t)
	require.Regexp(t, `^ferrule\.shout\.`+of.ID+`\.[\w-]{22}$`, session)
	require.NoError(t, nc.PublishRequest(session, "others", []byte("END 0\n")))
	require.NoError(t, nc.Publish(session, []byte("DATA 0 5\nx")))
	require.NoError(t, nc.PublishRequest(session, "mine", []byte("DATA 0 0\nHELLO 1\n\n")))
	for said := ""; !strings.Contains(said, "HELLO"); {
		m, err := answers.NextMsg(time.Minute)
		require.NoError(t, err)
		said = string(m.Data)
		require.NotContains(t, said, "END")
	}
}

// An answer to a plain request is never longer than the broker takes, whose limit ends the connection, and with it all that the node does for others.
func TestLongAnswersOfMQTT(t *testing.T) {
	both(t, func(t *testing.T, k *kit) {
		s := k.Start(t, 4096)
		begun, gate := make(chan struct{}), make(chan struct{})
		k.Node(t, serve.Go(&builtin.Plugin{Name: "long", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{
			{Name: "out", Call: func(context.Context, []byte) ([]byte, error) { return make([]byte, 3072), nil }},
			{Name: "fail", Call: func(context.Context, []byte) ([]byte, error) {
				return nil, fmt.Errorf("%s", strings.Repeat("é", 4096))
			}},
			{Name: "wait", Call: func(context.Context, []byte) ([]byte, error) {
				close(begun)
				<-gate
				return nil, nil
			}},
		}}), node{URL: s.URL(), Workers: 4})
		p, err := loader.Open(s.URL()+"/long", k.Plugin(0))
		require.NoError(t, err)
		defer p.Close()
		waited := make(chan error, 1)
		go func() {
			_, err := p.Call(context.Background(), "wait", nil)
			waited <- err
		}()
		<-begun
		c := newStranger(t, s.URL())
		for _, of := range []struct {
			function, status  string
			topic, correlates int
		}{{"out", "0", 500, 0}, {"out", "500", 1000, 0}, {"out", "500", 100, 1000}, {"fail", "1", 100, 0}, {"fail", "1", 1000, 1000}, {"fail", "1", 1000, 2500}} {
			to := "answers/" + strings.Repeat("a", of.topic)
			c.send(&paho.Publish{Topic: "ferrule/long/fn/" + of.function, Properties: &paho.PublishProperties{ResponseTopic: to, CorrelationData: make([]byte, of.correlates)}})
			answer := <-c.came
			assert.Equal(t, of.status, answer.Properties.User.Get("Ferrule-Status"))
			assert.Equal(t, to, answer.Topic)
			assert.NotEmpty(t, answer.Payload)
			assert.Len(t, answer.Properties.CorrelationData, of.correlates)
		}
		close(gate)
		require.NoError(t, <-waited)
	})
}

// What a node's last will leaves is there no longer than its announcement would be. (Mochi 2.7.9 takes no such property.)
func TestLastWillExpires(t *testing.T) {
	s := inMosquitto.Start(t, 0)
	of, err := inMosquitto.Process(t, s.URL(), "1", "shout")
	require.NoError(t, err)
	c := newStranger(t, s.URL())
	topic := "ferrule/@nodes/shout/" + of.ID
	_, err = c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, RetainHandling: 2}}})
	require.NoError(t, err)
	require.NoError(t, of.Process.Kill())
	require.Equal(t, "gone", string((<-c.came).Payload))
	_, err = c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic}}})
	require.NoError(t, err)
	gone := <-c.came
	require.True(t, gone.Retain)
	require.NotNil(t, gone.Properties.MessageExpiry)
	require.LessOrEqual(t, *gone.Properties.MessageExpiry, uint32(90))
}
