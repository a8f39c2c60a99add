package remote_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/remote/mqtt"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// both runs a test over both brokers.
func both(t *testing.T, test func(t *testing.T, k *kit)) {
	t.Run("mosquitto", func(t *testing.T) { test(t, inMosquitto) })
	t.Run("mochi", func(t *testing.T) { test(t, inMochi) })
}

// stranger is a client that knows nothing of Ferrule.
type stranger struct {
	*paho.Client
	t    testing.TB
	came chan *paho.Publish // what was sent to answers/#
	deaf atomic.Bool        // nothing comes any more
}

func newStranger(t testing.TB, url string) *stranger { return newStrangerAs(t, url, "", "") }

func newStrangerAs(t testing.TB, url, user, password string) *stranger {
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "mqtt://"))
	require.NoError(t, err)
	s := &stranger{t: t, came: make(chan *paho.Publish, 1000)}
	s.Client = paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
		if !s.deaf.Load() {
			s.came <- p.Packet
		}
		return true, nil
	}}})
	_, err = s.Connect(t.Context(), &paho.Connect{ClientID: "stranger-" + strconv.Itoa(int(strangers.Add(1))), CleanStart: true, KeepAlive: 60, UsernameFlag: user != "", Username: user,
		PasswordFlag: user != "", Password: []byte(password)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Disconnect(&paho.Disconnect{}) })
	_, err = s.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "answers/#"}}})
	require.NoError(t, err)
	return s
}

var strangers atomic.Int64

func (s *stranger) send(p *paho.Publish) {
	if p.Properties == nil {
		p.Properties = &paho.PublishProperties{}
	}
	_, err := s.Publish(s.t.Context(), p)
	require.NoError(s.t, err)
}

// ask sends a request, and returns the answer with its status.
func (s *stranger) ask(topic, in, timeout string) (out, status string) {
	correlation := []byte("c" + strconv.Itoa(int(strangers.Add(1))))
	p := &paho.Publish{Topic: topic, Payload: []byte(in), QoS: 1, Properties: &paho.PublishProperties{ResponseTopic: "answers/mine", CorrelationData: correlation}}
	if timeout != "" {
		p.Properties.User.Add("Ferrule-Timeout", timeout)
	}
	s.send(p)
	answer := <-s.came
	assert.Equal(s.t, "answers/mine", answer.Topic)
	assert.Equal(s.t, string(correlation), string(answer.Properties.CorrelationData))
	return string(answer.Payload), answer.Properties.User.Get("Ferrule-Status")
}

// Requests of MQTT 5's own are answered by one node each, with a status.
func TestPlainRequests(t *testing.T) {
	both(t, func(t *testing.T, k *kit) {
		s := k.Start(t, 4096)
		var ran [2]atomic.Int64
		gate, begun := make(chan struct{}), make(chan struct{}, 10)
		plain := func(i int) serve.Plugin {
			return serve.Go(&builtin.Plugin{Name: "plain", Version: "1.0.0", Threads: abi.Concurrent, Imports: []string{"host"}, Funcs: []builtin.Function{
				{Name: "upper", Call: func(_ context.Context, in []byte) ([]byte, error) {
					ran[i].Add(1)
					return bytes.ToUpper(in), nil
				}},
				{Name: "long", Call: func(context.Context, []byte) ([]byte, error) { return make([]byte, 4096), nil }},
				{Name: "fail", Call: func(context.Context, []byte) ([]byte, error) { return nil, loader.Status(1234) }},
				{Name: "ask", Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "host", in) }},
				{Name: "sleep", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}},
				{Name: "wait", Call: func(context.Context, []byte) ([]byte, error) {
					begun <- struct{}{}
					<-gate
					return []byte("waited"), nil
				}},
			}})
		}
		leave := k.Node(t, plain(0), node{URL: s.URL(), Workers: 1, Queue: 1})
		c := newStranger(t, s.URL())
		const to = "ferrule/plain/fn/"
		ask := func(function, in, timeout, out, status string) {
			found, code := c.ask(to+function, in, timeout)
			assert.Equal(t, status, code, "%s: %s", function, found)
			if out != "" {
				assert.Contains(t, found, out, function)
			}
		}
		ask("upper", "abc", "", "ABC", "0")
		ask("upper", "", "", "", "0")
		ask("fail", "", "", "", "1234")
		ask("long", "", "", "the output is too long", "500")
		ask("none", "", "", "there is no function none", strconv.Itoa(int(abi.StatusUnsupported)))
		ask("ask", "", "", "is a host's", strconv.Itoa(int(abi.StatusUnsupported)))
		for _, timeout := range []string{"20ms", "-1", "1.5", "99999999999999999999"} {
			ask("upper", "", timeout, "expected milliseconds", strconv.Itoa(int(abi.StatusInvalid)))
		}
		ask("sleep", "", "20", "", strconv.Itoa(int(abi.StatusCancelled)))

		// One runs, one waits, and for the others there is no room.
		request := func(correlation string) {
			c.send(&paho.Publish{Topic: to + "wait", Properties: &paho.PublishProperties{ResponseTopic: "answers/wait", CorrelationData: []byte(correlation)}})
		}
		request("1")
		<-begun
		ask("upper", "", "1", "", "408") // it waits for as long as it may
		request("2")
		request("3")
		refused := <-c.came // 2 or 3: each is answered beside the other
		assert.Equal(t, "503", refused.Properties.User.Get("Ferrule-Status"))
		ask("upper", "", "", "", "503")
		close(gate)
		for range 2 {
			answer := <-c.came
			assert.Equal(t, "0", answer.Properties.User.Get("Ferrule-Status"))
			assert.Equal(t, "waited", string(answer.Payload))
		}

		// What says not where to answer, is retained, or would have the node speak as a node, is not run.
		before := ran[0].Load()
		c.send(&paho.Publish{Topic: to + "upper"})
		c.send(&paho.Publish{Topic: to + "upper", Properties: &paho.PublishProperties{ResponseTopic: "ferrule/@nodes/plain/x"}})
		ask("upper", "x", "", "X", "0")
		assert.Equal(t, before+1, ran[0].Load())

		// Of two nodes each request has one.
		k.Node(t, plain(1), node{URL: s.URL(), Workers: 8, Queue: 200})
		before = ran[0].Load()
		for range 50 {
			ask("upper", "y", "", "Y", "0")
		}
		assert.EqualValues(t, 50, ran[0].Load()-before+ran[1].Load())
		leave()
		for range 10 {
			ask("upper", "y", "", "Y", "0")
		}
	})
}

// A node that leaves answers the requests that it has.
func TestPlainRequestOfLeavingNode(t *testing.T) {
	both(t, func(t *testing.T, k *kit) {
		s := k.Start(t, 0)
		gate, begun := make(chan struct{}), make(chan struct{}, 1)
		leave := k.Node(t, serve.Go(&builtin.Plugin{Name: "gate", Version: "1.0.0", Funcs: []builtin.Function{{Name: "wait", Call: func(context.Context, []byte) ([]byte, error) {
			begun <- struct{}{}
			<-gate
			return []byte("waited"), nil
		}}}}), node{URL: s.URL()})
		c := newStranger(t, s.URL())
		watch, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "ferrule/@nodes/gate/+", RetainHandling: 2}}})
		require.NoError(t, err)
		require.Less(t, watch.Reasons[0], byte(0x80))
		c.send(&paho.Publish{Topic: "ferrule/gate/fn/wait", Properties: &paho.PublishProperties{ResponseTopic: "answers/1"}})
		<-begun
		left := make(chan struct{})
		go func() {
			leave()
			close(left)
		}()
		leaving := <-c.came
		for !strings.Contains(string(leaving.Payload), "leaving") { // a broker may acknowledge what it delivers later
			leaving = <-c.came
		}
		assert.Contains(t, string(leaving.Payload), `"leaving":true`)
		_, err = loader.Open(s.URL()+"/gate", k.Plugin(0))
		require.ErrorIs(t, err, remote.ErrNoNode)
		close(gate)
		answer := <-c.came
		assert.Equal(t, "waited", string(answer.Payload))
		gone := <-c.came
		assert.Equal(t, leaving.Topic, gone.Topic)
		assert.Empty(t, gone.Payload)
		<-left
	})
}

// An announcement whose node is not there does no harm; a node whose announcement was taken away makes it again.
func TestAnnouncements(t *testing.T) {
	both(t, func(t *testing.T, k *kit) {
		s := k.Start(t, 0)
		c := newStranger(t, s.URL())
		c.send(&paho.Publish{Topic: "ferrule/@nodes/shout/ghost", QoS: 1, Retain: true, Payload: []byte(`{"ferrule":"1","plugin":"shout","version":"1.0.0"}`)})
		for _, wrong := range []string{"{", `{"ferrule":"1","plugin":"other","version":"1.0.0"}`, `{"ferrule":"2","plugin":"shout","version":"9.0.0"}`, "gone"} {
			c.send(&paho.Publish{Topic: "ferrule/@nodes/shout/w" + strconv.Itoa(len(wrong)), QoS: 1, Retain: true, Payload: []byte(wrong)})
		}
		_, err := loader.Open(s.URL()+"/shout", mqtt.Plugin(mqtt.WithSilence(300*time.Millisecond)), suffix())
		require.ErrorIs(t, err, loader.ErrRead)
		assert.Contains(t, err.Error(), "no node that gives a session")
		ids := make(chan string, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- mqtt.Serve(ctx, shout(), mqtt.Node{Servers: s.URL(), Ready: func(id string) { ids <- id }})
		}()
		topic := "ferrule/@nodes/shout/" + <-ids
		for _, word := range []string{"", "gone"} {
			_, err = c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, RetainHandling: 2}}})
			require.NoError(t, err)
			c.send(&paho.Publish{Topic: topic, QoS: 1, Retain: true, Payload: []byte(word)})
			for heard, again := false, false; !heard || !again; { // two clients' messages, in one order or the other; one of before may come as well
				came := string((<-c.came).Payload)
				heard, again = heard || came == word, again || strings.Contains(came, `"version":"1.2.0"`)
			}
			var p *loader.Plugin
			require.Eventually(t, func() bool {
				p, err = loader.Open(s.URL()+"/shout", mqtt.Plugin(mqtt.WithSilence(300*time.Millisecond)), suffix()) // it may ask the ghost first
				return err == nil
			}, time.Minute, time.Millisecond)
			out, err := p.Call(t.Context(), "shout", []byte("x"))
			require.NoError(t, err)
			assert.Equal(t, "X", string(out))
			require.NoError(t, p.Close())
		}
		cancel()
		require.NoError(t, <-done)
	})
}

// Whatever comes to a node, or to a host's session, neither ends of it, nor do others' calls.
func TestHostileMessagesOverMQTT(t *testing.T) {
	both(t, func(t *testing.T, k *kit) {
		s := k.Start(t, 0)
		of, err := k.Process(t, s.URL(), "4", "shout")
		require.NoError(t, err)
		p, err := loader.Open(s.URL()+"/shout", k.Plugin(0), suffix())
		require.NoError(t, err)
		defer p.Close()
		c := newStranger(t, s.URL())
		_, err = c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "ferrule/@hosts/stranger/+/+"}}})
		require.NoError(t, err)
		address := "ferrule/shout/" + of.ID
		var sessions []string
		mine := func(i int) string { return fmt.Sprintf("ferrule/@hosts/stranger/one/%d", i) }
		for i := range 20 {
			c.send(&paho.Publish{Topic: address, Payload: []byte("OPEN 1 5\n"), Properties: &paho.PublishProperties{ResponseTopic: mine(i)}})
			words := strings.Fields(string((<-c.came).Payload))
			require.Len(t, words, 4)
			sessions = append(sessions, words[1])
		}
		c.deaf.Store(true)
		parts := []string{"OPEN", "DATA", "ASK", "HERE", "USED", "END", " ", " 0", " 1", " 99999999999", "\n", "HELLO 1\n\n", "CALL 1 shout\nContent-Length: 5\n\nhello", "CALL 1 ferrule.start\n\n",
			"DONE 1 0\n\n", "PART 1\nContent-Length: 1\n\nx", "MORE 1 5\n\n", "\x00\xff", strings.Repeat("x", 5000), "BYE\n\n", "CANCEL 1\n\n", "session", echoed}
		r := rand.New(rand.NewPCG(1, 2))
		for i := range 5000 {
			var b strings.Builder
			if r.IntN(3) == 0 {
				b.WriteString("DATA 0 0\n")
			}
			for range r.IntN(5) {
				b.WriteString(parts[r.IntN(len(parts))])
			}
			to := []string{address, sessions[r.IntN(len(sessions))], "ferrule/shout/fn/shout", "ferrule/@nodes/shout/" + strconv.Itoa(i)}[r.IntN(4)]
			reply := []string{"", mine(r.IntN(40)), address, "ferrule/@nodes/shout/x", "ferrule/@hosts/x", "$SYS/x"}[r.IntN(6)]
			c.send(&paho.Publish{Topic: to, Payload: []byte(b.String()), Properties: &paho.PublishProperties{ResponseTopic: reply}})
			if i%500 == 0 {
				out, err := p.Call(t.Context(), "shout", []byte("hello"))
				require.NoError(t, err)
				require.Equal(t, "HELLO", string(out))
			}
		}
		out, err := p.Call(t.Context(), "with", []byte("hello"))
		require.NoError(t, err)
		assert.Equal(t, "hello!", string(out))
	})
}

const echoed = "ECHO\n"
