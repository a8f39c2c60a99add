package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/duplex"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/opener"
)

// Topics (docs/remote.md). No plug-in has a name with an '@'.
const (
	top       = "ferrule/"
	hostsRoot = "ferrule/@hosts"
	nodesRoot = "ferrule/@nodes"
)

func addressOf(name, id string) string  { return top + name + "/" + id }
func announced(name, id string) string  { return nodesRoot + "/" + name + "/" + id }
func functions(name string) string      { return top + name + "/fn/" }
func beside(name string) (group string) { return "$share/ferrule/" + functions(name) + "+" }

// level is a user's name as a level of a topic; "_" where it can be none.
func level(user string) string {
	if user == "" || len(user) > 128 || strings.ContainsAny(user, "/+#\x00") || strings.HasPrefix(user, "$") {
		return "_"
	}
	return user
}

// The bounds of packets, in bytes.
const (
	overhead   = 1 << 10          // of a packet, beside its data
	least      = 2 * overhead     // what a broker has to take
	mostToHost = duplex.Piece * 2 // what comes to a host is pieces
	mostToNode = 1<<20 + overhead // plain requests come to a node, too
)

const (
	// again is how long a connection that has broken is not tried again; a little more, or less, so that not all come at once.
	again = 100 * time.Millisecond
	// alive is how often the broker is told that this client is there, in seconds.
	alive = 10
	// waiting is how many messages may wait here to be taken, before no more are read.
	waiting = 8192
)

// will is what the broker says when this client is gone.
type will struct {
	topic   string
	payload []byte
	retain  bool
}

// route is a subscription, and who takes what comes by it.
type route struct {
	filter string
	prefix string // of the topics; filter may end with one more level, which is the rest
	any    bool
	take   func(rest string, p *paho.Publish)
	id     int
}

func routeOf(filter string, take func(rest string, p *paho.Publish)) route {
	topic := filter
	if shared, ok := strings.CutPrefix(filter, "$share/"); ok {
		_, topic, _ = strings.Cut(shared, "/")
	}
	prefix, any := strings.CutSuffix(topic, "+")
	return route{filter: filter, prefix: prefix, any: any, take: take}
}

// takes reports whether a topic is of the route.
func (r *route) takes(topic string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(topic, r.prefix)
	return rest, ok && (rest != "") == r.any
}

// listener is an address.
type listener struct {
	take func(broker.Message)
	peer string // who sends to it: where the broker says that this one is gone, nobody is there
}

// client is what speaks to the broker as long as one connection lasts.
type client struct {
	*paho.Client
	over context.Context // ends with the connection
}

// lasting is a client whose connection there is.
func lasting(of *paho.Client) *client {
	over, end := context.WithCancel(context.Background())
	go func() {
		<-of.Done()
		end()
	}()
	return &client{of, over}
}

// during is ctx as long as the connection lasts. Package paho has who waits for the broker's word go on until its time is over, also where the connection has broken before.
func (c *client) during(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.over, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// why is the error of what was asked for during a context.
func (c *client) why(err error) error {
	if errors.Is(err, context.Canceled) && c.over.Err() != nil {
		return broker.ErrDown
	}
	return err
}

// connection is a broker.Broker.
type connection struct {
	servers opener.Servers
	access  access
	timeout time.Duration
	client  string // its ID: the same each time, so that the broker ends the one before it
	will    will
	longest uint32 // the longest packet that is taken
	root    string // addresses are topics below it

	now    atomic.Pointer[client] // nil while there is none
	packet atomic.Uint32          // the longest that the broker takes
	shares atomic.Bool            // it has shared subscriptions

	mu        sync.Mutex
	routes    []route
	listeners map[string]*listener // by what comes behind root
	up        chan struct{}        // closed when there is a connection
	at        time.Time            // since when; the zero time where it was never broken
	down      map[int]func(error)  // who is told that the connection broke
	back      []func()             // are told that it is there again
	last      int
	closed    bool
	over      context.Context
	end       context.CancelFunc
	kept      chan struct{} // closed when nothing connects any more
}

func newConnection(s opener.Servers, a access, timeout time.Duration) *connection {
	b := &connection{servers: s, access: a, timeout: timeout, client: "ferrule-" + broker.Secret(), listeners: make(map[string]*listener), up: make(chan struct{}),
		down: make(map[int]func(error)), kept: make(chan struct{})}
	b.over, b.end = context.WithCancel(context.Background())
	return b
}

// own has addresses be topics one level below root.
func (b *connection) own(root string, longest uint32) {
	b.root, b.longest = root, longest
	b.add(routeOf(root+"/+", func(rest string, p *paho.Publish) {
		b.mu.Lock()
		l := b.listeners[rest]
		from := ""
		if p.Properties != nil {
			from = p.Properties.ResponseTopic
		}
		if l != nil && l.peer == "" {
			l.peer = above(from)
		}
		b.mu.Unlock()
		if l != nil && !p.Retain && len(p.Payload) > 0 {
			l.take(broker.Message{To: p.Topic, From: from, Data: p.Payload})
		}
	}))
}

// add has a subscription be made on each connection, before there is one.
func (b *connection) add(r route) {
	b.last++
	r.id = b.last
	b.routes = append(b.routes, r)
}

// above is whose address it is: a session's is one level below its host's or node's.
func above(address string) string { return address[:max(0, strings.LastIndexByte(address, '/'))] }

// gone tells who speaks to a host or a node that nobody is there any more.
func (b *connection) gone(root string) {
	b.mu.Lock()
	var of []*listener
	for _, l := range b.listeners {
		if l.peer == root {
			of = append(of, l)
		}
	}
	b.mu.Unlock()
	for _, l := range of {
		l.take(broker.Message{Nobody: true})
	}
}

// start connects, and keeps the connection from then on.
func (b *connection) start(ctx context.Context) error {
	lost, err := b.connect(ctx)
	if err != nil {
		b.end()
		return err
	}
	close(b.up)
	go b.keep(lost)
	return nil
}

// keep connects again whenever the connection breaks.
func (b *connection) keep(lost chan error) {
	defer close(b.kept)
	for {
		var why error
		select {
		case why = <-lost:
		case <-b.over.Done():
			return
		}
		b.now.Store(nil)
		b.mu.Lock()
		b.up = make(chan struct{})
		for _, tell := range b.down {
			go tell(why)
		}
		b.mu.Unlock()
		for {
			select {
			case <-b.over.Done():
				return
			case <-time.After(again + mrand.N(again)):
			}
			ctx, cancel := context.WithTimeout(b.over, b.timeout)
			next, err := b.connect(ctx)
			cancel()
			if err == nil {
				lost = next
				break
			}
		}
		b.mu.Lock()
		b.at = time.Now()
		close(b.up)
		for _, tell := range b.back {
			go tell()
		}
		b.mu.Unlock()
	}
}

// connect connects to one of the servers, with all subscriptions. lost has why the connection broke, then.
func (b *connection) connect(ctx context.Context) (lost chan error, err error) {
	var all []error
	for n, i := range mrand.Perm(len(b.servers.Hosts)) {
		host := b.servers.Hosts[i]
		lost, err := b.connectInPart(ctx, host, len(b.servers.Hosts)-n)
		if err == nil {
			return lost, nil
		}
		all = append(all, fmt.Errorf("%s: %w", host, err))
	}
	if len(all) == 1 {
		return nil, all[0]
	}
	return nil, errors.Join(all...)
}

// connectInPart is connectTo in the first of so many parts of the time that ctx has left: the others are for who comes next, where this one says nothing.
func (b *connection) connectInPart(ctx context.Context, host string, parts int) (chan error, error) {
	if until, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(until)/time.Duration(parts))
		defer cancel()
	}
	return b.connectTo(ctx, host)
}

func (b *connection) dial(ctx context.Context, host string) (net.Conn, error) {
	secret, port := b.servers.Scheme == "mqtts" || b.access.tls != nil, "1883"
	if secret {
		port = "8883"
	}
	name, given, err := net.SplitHostPort(host)
	if err != nil {
		name, given = strings.Trim(host, "[]"), port
	}
	d := &net.Dialer{Timeout: b.timeout}
	if !secret {
		return d.DialContext(ctx, "tcp", net.JoinHostPort(name, given))
	}
	return (&tls.Dialer{NetDialer: d, Config: b.access.tls}).DialContext(ctx, "tcp", net.JoinHostPort(name, given))
}

func (b *connection) connectTo(ctx context.Context, host string) (chan error, error) {
	conn, err := b.dial(ctx, host)
	if err != nil {
		return nil, err
	}
	lost := make(chan error, 1)
	lose := func(err error) {
		select {
		case lost <- err:
		default:
		}
	}
	of := paho.NewClient(paho.ClientConfig{Conn: newLump(conn), PacketTimeout: b.timeout,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){b.receive},
		OnClientError:     lose,
		OnServerDisconnect: func(d *paho.Disconnect) {
			lose(fmt.Errorf("the broker has ended it: %s", reason(d.ReasonCode, d.Properties.ReasonString)))
		}})
	most := uint16(waiting)
	cp := &paho.Connect{ClientID: b.client, CleanStart: true, KeepAlive: alive, Properties: &paho.ConnectProperties{ReceiveMaximum: &most, RequestProblemInfo: true},
		WillMessage: &paho.WillMessage{Topic: b.will.topic, Payload: b.will.payload, Retain: b.will.retain}} // which expires (willFor)
	if b.longest > 0 {
		cp.Properties.MaximumPacketSize = &b.longest
	}
	if b.access.user != "" {
		cp.UsernameFlag, cp.Username, cp.PasswordFlag, cp.Password = true, b.access.user, true, []byte(b.access.password)
	}
	ack, err := of.Connect(ctx, cp)
	switch {
	case ack != nil && ack.ReasonCode >= refused:
		err := fmt.Errorf("the broker refuses the connection: %s%s", reason(ack.ReasonCode, ack.Properties.ReasonString), b.hint(ack.ReasonCode))
		if ack.ReasonCode == unauthorized || ack.ReasonCode == packets.ConnackBadUsernameOrPassword {
			err = &refusal{err}
		}
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("no answer to MQTT 5's CONNECT: %w", err)
	}
	c := lasting(of)
	fault := func() error {
		longest := uint32(0)
		if p := ack.Properties; p != nil {
			switch {
			case !p.RetainAvailable:
				return errors.New("the broker has no retained messages, by which nodes are found")
			case !p.WildcardSubAvailable:
				return errors.New("the broker has no subscriptions with wildcards, which every host and node has")
			case p.MaximumPacketSize != nil:
				longest = *p.MaximumPacketSize
			}
			b.shares.Store(p.SharedSubAvailable)
		}
		if longest != 0 && longest < least {
			return fmt.Errorf("the broker takes packets of %d bytes, and %d are needed", longest, least)
		}
		b.packet.Store(longest)
		b.mu.Lock()
		var filters []string
		for _, r := range b.routes {
			if !slices.Contains(filters, r.filter) {
				filters = append(filters, r.filter)
			}
		}
		b.mu.Unlock()
		for _, filter := range filters {
			if err := b.subscribeOn(ctx, c, filter); err != nil {
				return err
			}
		}
		return nil
	}()
	if fault != nil {
		_ = c.Disconnect(&paho.Disconnect{})
		return nil, fault
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		go c.Disconnect(&paho.Disconnect{})
		return nil, net.ErrClosed
	}
	b.now.Store(c)
	return lost, nil
}

// refused is where the reason codes of failures begin, and some of them.
const (
	refused      = 0x80
	unauthorized = packets.ConnackNotAuthorized
	nobody       = packets.PubackNoMatchingSubscribers
)

// refusal is of who is not let in.
type refusal struct{ error }

// Is is for errors.Is.
func (*refusal) Is(target error) bool { return target == errRefused }

var errRefused = errors.New("the credentials are refused")

// reason is a reason code in words.
func reason(code byte, said string) string {
	words := map[byte]string{packets.ConnackUnspecifiedError: "unspecified", packets.ConnackUnsupportedProtocolVersion: "it does not speak MQTT 5",
		packets.ConnackBadUsernameOrPassword: "bad user name or password", unauthorized: "not authorized", packets.ConnackServerBusy: "it is busy", packets.ConnackBanned: "banned",
		packets.DisconnectSessionTakenOver: "another client has this one's ID", packets.DisconnectServerShuttingDown: "it is shutting down",
		packets.DisconnectPacketTooLarge: "a packet was too large", packets.DisconnectQuotaExceeded: "a quota is exceeded", packets.DisconnectKeepAliveTimeout: "nothing came in time"}[code]
	if words == "" {
		words = fmt.Sprintf("reason 0x%02x", code)
	}
	if said != "" && !strings.EqualFold(said, words) {
		words += " (" + strings.ToValidUTF8(said, "\uFFFD") + ")"
	}
	return words
}

// hint says what a refusal may be about beside the credentials.
func (b *connection) hint(code byte) string {
	if code != unauthorized {
		return ""
	}
	return fmt.Sprintf("; the credentials may be wrong, or not allow to publish to %s, which is the topic of the last will", b.will.topic)
}

// receive is what paho calls for each message, one after the other.
func (b *connection) receive(p paho.PublishReceived) (bool, error) {
	b.mu.Lock()
	routes := b.routes // is never changed where it stands
	b.mu.Unlock()
	for i := range routes {
		if rest, ok := routes[i].takes(p.Packet.Topic); ok {
			routes[i].take(rest, p.Packet)
		}
	}
	return true, nil
}

// route subscribes, now and whenever there is a new connection. The error is that of now. Where the client has the subscription already, both take what comes, and its
// retained messages come once more.
func (b *connection) route(ctx context.Context, r route) (stop func(), err error) {
	b.mu.Lock()
	b.last++
	r.id = b.last
	b.routes = append(b.routes[:len(b.routes):len(b.routes)], r)
	b.mu.Unlock()
	stop = func() {
		b.mu.Lock()
		left, others := make([]route, 0, len(b.routes)), false
		for _, other := range b.routes {
			if other.id != r.id {
				left, others = append(left, other), others || other.filter == r.filter
			}
		}
		b.routes = left
		b.mu.Unlock()
		if c := b.now.Load(); c != nil && !others {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			ctx, end := c.during(ctx)
			defer end()
			_, _ = c.Unsubscribe(ctx, &paho.Unsubscribe{Topics: []string{r.filter}})
		}
	}
	if err := b.subscribe(ctx, r.filter); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// subscribe subscribes on the connection that there is.
func (b *connection) subscribe(ctx context.Context, filter string) error {
	c := b.now.Load()
	if c == nil {
		return broker.ErrDown
	}
	return b.subscribeOn(ctx, c, filter)
}

func (b *connection) subscribeOn(ctx context.Context, c *client, filter string) error {
	ctx, end := c.during(ctx)
	defer end()
	ack, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter}}})
	if ack != nil && len(ack.Reasons) == 1 && ack.Reasons[0] >= refused {
		said := ""
		if ack.Properties != nil {
			said = ack.Properties.ReasonString
		}
		return fmt.Errorf("this client may not subscribe to %s: %s", filter, reason(ack.Reasons[0], said))
	}
	if err != nil {
		return fmt.Errorf("no subscription to %s: %w", filter, c.why(err))
	}
	return nil
}

// publish sends a message, and waits for nobody.
func (b *connection) publish(p *paho.Publish) error {
	c := b.now.Load()
	if c == nil {
		return broker.ErrDown
	}
	if p.Properties == nil {
		p.Properties = &paho.PublishProperties{}
	}
	if _, err := c.Publish(context.Background(), p); err != nil {
		return broker.ErrDown
	}
	return nil
}

// say sends a message with QoS 1, and waits for the broker's word. heard says that somebody is subscribed, as far as the broker says.
func (b *connection) say(ctx context.Context, p *paho.Publish) (heard bool, err error) {
	c := b.now.Load()
	if c == nil {
		return false, broker.ErrDown
	}
	p.QoS = 1
	if p.Properties == nil {
		p.Properties = &paho.PublishProperties{}
	}
	ctx, end := c.during(ctx)
	defer end()
	ack, err := c.Publish(ctx, p)
	if ack != nil && ack.ReasonCode >= refused {
		said := ""
		if ack.Properties != nil {
			said = ack.Properties.ReasonString
		}
		return false, fmt.Errorf("this client may not publish to %s: %s", p.Topic, reason(ack.ReasonCode, said))
	}
	if err != nil {
		return false, fmt.Errorf("the broker does not say that it has taken a message to %s: %w", p.Topic, c.why(err))
	}
	return ack.ReasonCode != nobody, nil
}

// Up is broker.Broker's.
func (b *connection) Up(ctx context.Context) (time.Time, error) {
	for {
		b.mu.Lock()
		up, at := b.up, b.at
		b.mu.Unlock()
		select {
		case <-up:
			if b.now.Load() != nil {
				return at, nil
			}
			select { // it has just broken
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return at, broker.ErrDown
			}
		case <-ctx.Done():
			return at, broker.ErrDown
		}
	}
}

func (b *connection) onBack(tell func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.back = append(b.back, tell)
}

func (b *connection) onDown(tell func(error)) (stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	id := b.last
	b.down[id] = tell
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.down, id)
	}
}

// Close is broker.Broker's. The broker forgets the last will.
func (b *connection) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.end()
	if c := b.now.Swap(nil); c != nil {
		_ = c.Disconnect(&paho.Disconnect{})
	}
}
