package mqtt

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/node"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/opener"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// Node is how a plug-in is served. The zero value of each field is as the field says.
type Node struct {
	Servers  string        // such as mqtt://localhost:1883 or mqtts://broker, or several, mqtt://host:port,host:port
	User     string        // the user's name; "" is none
	Password string        // the user's
	TLS      *tls.Config   // the connection is by TLS; nil is as the URL says, with the system's certificates
	Workers  int           // how many calls run at a time, of all hosts; 0 is 1
	Queue    int           // how many more wait for a place, beyond which the node is busy; 0 is 4 for each of Workers, less than 0 none
	Sessions int           // how many sessions there may be at a time, of which a host has one or two; 0 is 1,024
	MaxBody  int64         // how long an input may be, in bytes; 0 is 256 MiB
	Silence  time.Duration // how long a host may say nothing while it is waited for; 0 is 2 seconds
	Grace    time.Duration // how long calls may go on when the node leaves; 0 is 10 seconds
	Logger   *slog.Logger  // for what the plug-in logs outside calls, and for the node's own lines; nil is slog.Default

	Metrics *serve.Metrics // counts sessions, calls and bytes; or nil

	Ready func(id string) // is called when hosts can find the node; or nil
}

// How long a node's announcement stays where nothing ends it, such as a broker that was killed, and how often it is made again, in seconds.
const (
	announcedFor   = 90
	announcedEvery = 30
)

// startTimeout is how long the broker may take to let a node in, and to answer.
const startTimeout = 10 * time.Second

// Serve serves a plug-in to hosts that an MQTT 5 broker reaches, until ctx ends: then it takes no more calls, waits for those that run, and returns nil. opts are Open's,
// with what is the node's to give: the configuration, the number of instances (for a plug-in that is not concurrent, as many as Workers), a sandbox. While the connection is
// broken it goes on, and hosts find it again.
func Serve(ctx context.Context, p serve.Plugin, n Node, opts ...loader.Option) error {
	l := node.Limits{Workers: n.Workers, Queue: n.Queue, Sessions: n.Sessions, MaxBody: n.MaxBody, Silence: n.Silence, Grace: n.Grace, Logger: n.Logger}.Filled()
	servers, err := opener.ParseServers(n.Servers)
	if err == nil && servers.Scheme != "mqtt" && servers.Scheme != "mqtts" {
		err = fmt.Errorf("%q", n.Servers)
	}
	if err != nil {
		return fmt.Errorf("mqtt: found %w, expected mqtt://HOST:PORT or mqtts://HOST:PORT", err)
	}
	shared, err := serve.Share(p, l.Workers, l.Queue, l.Logger, opts...)
	if err != nil {
		return err
	}
	closes := true
	defer func() {
		if closes {
			_ = shared.Close()
		}
	}()
	if err := node.Fault(shared); err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	b := newConnection(servers, access{n.User, n.Password, n.TLS}, startTimeout)
	of := node.New(node.Options{Broker: b, Shared: shared, Sessions: l.Sessions, MaxBody: l.MaxBody, Silence: l.Silence, Logger: l.Logger, Metrics: n.Metrics})
	s := newService(b, shared, of, l.Logger)
	start, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := b.start(start); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("mqtt: no connection to %s: %w. Check the address, the credentials and TLS; a node that begins does not wait for its server: start it when that is there", n.Servers, err)
	}
	defer b.Close()
	if err := s.begin(start); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("mqtt: %w", err)
	}
	defer b.onDown(of.Down)()
	b.onBack(func() { _ = s.says() })
	if n.Ready != nil {
		n.Ready(s.id)
	}
	again := time.NewTicker(announcedEvery * time.Second)
	defer again.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-again.C:
			_ = s.says()
		}
	}
	s.leaving.Store(true)
	_ = s.says() // nobody finds it any more
	s.unshare()
	late, cancel := context.WithTimeout(context.Background(), l.Grace)
	defer cancel()
	err = of.Leave(late)
	s.left()
	if deaf, ok := err.(*node.Deaf); ok {
		closes = false
		return fmt.Errorf("mqtt: calls were still running %v after the node was to leave: %w", l.Grace, deaf)
	}
	if err != nil {
		return fmt.Errorf("mqtt: calls were still running %v after the node was to leave: they were ended", l.Grace)
	}
	return nil
}

// service is what makes a process a node.
type service struct {
	b       *connection
	of      *node.Node
	logger  *slog.Logger
	name    string
	id      string
	said    announcement
	leaving atomic.Bool
	gone    atomic.Bool
	came    chan struct{} // the node's message to itself has come back
	unshare func()        // takes no plain requests any more
}

// echoed is a node's message to itself.
const echoed = "ECHO\n"

func newService(b *connection, shared *serve.Shared, of *node.Node, logger *slog.Logger) *service {
	m := shared.Plugin().Info().Manifest
	places, _, _ := shared.Places()
	s := &service{b: b, of: of, logger: logger, name: m.Name, id: broker.Secret(), came: make(chan struct{}, 1), unshare: func() {},
		said: announcement{Ferrule: wireIs, Plugin: m.Name, Version: m.Version, Workers: places}}
	address := addressOf(s.name, s.id)
	b.own(address, mostToNode)
	b.will = will{topic: announced(s.name, s.id), payload: []byte(gone), retain: true} // in the announcement's place
	b.add(routeOf(address, func(_ string, p *paho.Publish) {
		from := ""
		if p.Properties != nil {
			from = p.Properties.ResponseTopic
		}
		switch {
		case p.Retain:
		case from == "" && string(p.Payload) == echoed:
			select {
			case s.came <- struct{}{}:
			default:
			}
		case isHosts(from):
			of.Ask(broker.Message{To: address, From: from, Data: p.Payload})
		}
	}))
	hosts := routeOf(hostsRoot+"/+", func(rest string, p *paho.Publish) { b.gone(hostsRoot + "/" + rest) })
	hosts.filter = hostsRoot + "/+/+" // last wills alone: addresses are longer
	b.add(hosts)
	// An earlier connection of this node's may be found to be gone later than the next one has come.
	b.add(routeOf(announced(s.name, s.id), func(_ string, p *paho.Publish) {
		if isGone(p.Payload) && !s.gone.Load() {
			go s.says()
		}
	}))
	return s
}

// isHosts reports whether answers may go to a topic: a node publishes what hosts send back nowhere else.
func isHosts(topic string) bool {
	return strings.HasPrefix(topic, hostsRoot+"/") && strings.Count(topic, "/") == 4 && isTopic(topic) && len(topic) <= mostOfHost
}

// mostOfHost is how long a host's address may be, in bytes: it is in each packet to it.
const mostOfHost = 256

func isTopic(topic string) bool {
	return topic != "" && len(topic) <= 1024 && !strings.ContainsAny(topic, "+#\x00") && topic[0] != '$'
}

// begin finds out whether the node can be spoken to, and makes it known.
func (s *service) begin(ctx context.Context) error {
	address := addressOf(s.name, s.id)
	if err := s.b.Send(address, "", []byte(echoed)); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	if err := s.b.returned(within, address, s.came); err != nil {
		return err
	}
	if s.b.shares.Load() {
		stop, err := s.b.route(ctx, routeOf(beside(s.name), s.plain))
		if err != nil {
			return err
		}
		s.unshare = stop
	} else {
		s.logger.Warn("the broker has no shared subscriptions: the plug-in cannot be called without Ferrule", "plugin", s.name)
	}
	m, err := s.message()
	if err == nil {
		_, err = s.b.say(ctx, m)
	}
	return err
}

func (s *service) message() (*paho.Publish, error) {
	said := s.said
	said.Leaving = s.leaving.Load()
	data, err := json.Marshal(said)
	expiry := uint32(announcedFor)
	return &paho.Publish{Topic: announced(s.name, s.id), Retain: true, Payload: data, Properties: &paho.PublishProperties{MessageExpiry: &expiry}}, err
}

// says tells hosts that the node is there, or is leaving.
func (s *service) says() error {
	m, err := s.message()
	if err != nil {
		return err
	}
	return s.b.publish(m)
}

// left tells hosts that the node is not there any more.
func (s *service) left() {
	s.gone.Store(true)
	_ = s.b.publish(&paho.Publish{Topic: announced(s.name, s.id), Retain: true})
}

// The user properties of plain requests, and of their answers (rule B8).
const (
	timeoutKey = "Ferrule-Timeout"
	statusKey  = "Ferrule-Status"
)

// plain answers a request of a client that knows nothing of Ferrule: the data is the input, and the answer's the output. One that says not where to answer is not run.
func (s *service) plain(function string, p *paho.Publish) {
	if p.Properties == nil || p.Retain {
		return
	}
	to := p.Properties.ResponseTopic
	if !isTopic(to) || strings.HasPrefix(to, top) {
		return
	}
	timeout := p.Properties.User.Get(timeoutKey)
	room := math.MaxInt // for the answer's data, in a packet that the broker takes
	if longest := s.b.packet.Load(); longest > 0 {
		const fields = 64 // the lengths of all parts, and the status
		room = int(min(longest, 1<<30)) - fields - len(to) - len(p.Properties.CorrelationData)
	}
	if room < 0 {
		return
	}
	answer := func(code string, data []byte) error {
		if len(data) > room {
			return fmt.Errorf("it has %d bytes, and the broker takes %d in the answer", len(data), room)
		}
		return s.b.publish(&paho.Publish{Topic: to, Payload: data, Properties: &paho.PublishProperties{CorrelationData: p.Properties.CorrelationData,
			User: paho.UserProperties{{Key: statusKey, Value: code}}}})
	}
	if !s.of.Plain(func() {
		out, code, message := s.of.Call(function, timeout, p.Payload)
		if code == "" {
			err := answer("0", out)
			if err == nil || errors.Is(err, broker.ErrDown) {
				return
			}
			code, message = node.CodeTooLong, "the output is too long: "+err.Error()
		}
		_ = answer(code, []byte(strings.ToValidUTF8(message[:min(len(message), room)], "")))
	}) {
		const why = "the node is leaving"
		_ = answer(node.CodeBusy, []byte(why[:min(len(why), room)]))
	}
}
