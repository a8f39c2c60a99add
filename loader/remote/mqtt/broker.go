package mqtt

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/duplex"
)

// Listen is broker.Broker's.
func (b *connection) Listen(_ string, take func(broker.Message)) (string, func(), error) {
	id := broker.Secret()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners[id] = &listener{take: take}
	return b.root + "/" + id, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners, id)
	}, nil
}

// Send is broker.Broker's. Where the other side has said to send what cannot be a topic is not sent: a broker ends the connection of who does.
func (b *connection) Send(to, from string, data []byte) error {
	if !isTopic(to) {
		return fmt.Errorf("found an address that is no topic, %.80q", to)
	}
	return b.publish(&paho.Publish{Topic: to, Payload: data, Properties: &paho.PublishProperties{ResponseTopic: from}})
}

// MaxMessage is broker.Broker's: each message is a packet.
func (b *connection) MaxMessage() int {
	longest := b.packet.Load()
	if longest == 0 {
		return 0
	}
	return int(min(longest, 1<<30)) - overhead
}

// Why is broker.Broker's. An empty message, which no node takes, is sent there.
func (b *connection) Why(ctx context.Context, to string) error {
	heard, err := b.say(ctx, &paho.Publish{Topic: to})
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	case !heard:
		return duplex.ErrGone
	}
	return nil
}

// Denied is broker.Broker's: what is refused is the error of what was asked for.
func (b *connection) Denied() error { return nil }

// announcement is what a node says of itself, retained, at announced.
type announcement struct {
	Ferrule string `json:"ferrule"` // the version of docs/remote.md
	Plugin  string `json:"plugin"`
	Version string `json:"version"`
	Workers int    `json:"workers"`
	Leaving bool   `json:"leaving,omitempty"` // it takes no new calls, and has some
}

const wireIs = "1"

// gone is what a last will says. A node that has left takes its announcement away, which is an empty message: brokers need not take that as a last will.
const gone = "gone"

func isGone(payload []byte) bool { return len(payload) == 0 || string(payload) == gone }

// readNode reads what a node says of itself. leaving is no node to be found.
func readNode(name, id string, data []byte) (n broker.Node, leaving, ok bool) {
	var said announcement
	if len(data) > broker.MostSaid || json.Unmarshal(data, &said) != nil || said.Plugin != name || !broker.ValidID(id) || !broker.ValidVersion(said.Version) {
		return n, false, false
	}
	return broker.Node{ID: id, Name: name, Version: said.Version, Address: addressOf(name, id), Serves: said.Ferrule == wireIs}, said.Leaving, true
}

// Watch is broker.Broker's.
func (b *connection) Watch(name string, w broker.Watcher) (func(), error) {
	ctx, cancel := context.WithTimeout(b.over, b.timeout)
	defer cancel()
	end, err := b.route(ctx, routeOf(announced(name, "+"), func(id string, p *paho.Publish) {
		if isGone(p.Payload) {
			w.Went(id)
			b.gone(addressOf(name, id))
			return
		}
		if n, leaving, ok := readNode(name, id, p.Payload); ok && !leaving {
			w.Came(n)
		}
	}))
	if err != nil {
		return nil, err
	}
	stop := b.onDown(w.Down)
	return func() {
		stop()
		end()
	}, nil
}

// How long what was asked for is waited for: the message to oneself, before the broker is asked about it, and at all; and nodes that a broker tells of later.
const (
	soon   = 250 * time.Millisecond
	atMost = 5 * time.Second
	quiet  = 30 * time.Millisecond
)

// Find is broker.Broker's. Retained messages come again when one subscribes again; behind them comes a message to oneself. What a broker sends still later comes by Watch, which has
// the same subscription.
func (b *connection) Find(ctx context.Context, name string) ([]broker.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	var mu sync.Mutex
	found := make(map[string]broker.Node)
	r := routeOf(announced(name, "+"), func(id string, p *paho.Publish) {
		mu.Lock()
		defer mu.Unlock()
		if n, leaving, ok := readNode(name, id, p.Payload); !ok || leaving {
			delete(found, id)
		} else if len(found) < broker.MostNodes {
			found[id] = n
		}
	})
	forget, err := b.route(ctx, r)
	if err != nil {
		return nil, err
	}
	defer forget()
	if err := b.echo(ctx); err != nil {
		return nil, err
	}
	nodes := func() (all []broker.Node) {
		mu.Lock()
		defer mu.Unlock()
		for _, n := range found {
			all = append(all, n)
		}
		return all
	}
	all := nodes()
	if len(all) == 0 { // some brokers have retained messages come beside the others
		select {
		case <-time.After(quiet):
		case <-ctx.Done():
		}
		all = nodes()
	}
	return all, nil
}

// Knows is broker.Broker's: a broker may send retained messages when it has the time, behind what is published meanwhile.
func (b *connection) Knows() bool { return false }

// echo sends a message to this client itself, and waits until it has come back.
func (b *connection) echo(ctx context.Context) error {
	came := make(chan struct{}, 2)
	address, stop, err := b.Listen("", func(broker.Message) { came <- struct{}{} })
	if err != nil {
		return err
	}
	defer stop()
	if err := b.Send(address, "", []byte(echoed)); err != nil {
		return err
	}
	return b.returned(ctx, address, came)
}

// returned waits for a message that this client has sent to its own address.
func (b *connection) returned(ctx context.Context, address string, came <-chan struct{}) error {
	c := b.now.Load()
	if c == nil {
		return broker.ErrDown
	}
	select {
	case <-came:
		return nil
	case <-c.Done():
		return broker.ErrDown
	case <-ctx.Done():
	case <-time.After(soon):
		if _, err := b.say(ctx, &paho.Publish{Topic: address}); err != nil && ctx.Err() == nil {
			return err
		}
	}
	select {
	case <-came:
		return nil
	case <-c.Done():
		return broker.ErrDown
	case <-ctx.Done():
		return fmt.Errorf("what this client publishes to %s does not come back: it may not read that, or may not publish there", address)
	}
}
