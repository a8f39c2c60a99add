package nats

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
)

// connection is a broker.Broker.
type connection struct {
	nc *nats.Conn

	mu   sync.Mutex
	up   chan struct{}       // closed when there is a connection
	at   time.Time           // since when; the zero time where it was never broken
	down map[int]func(error) // who is told that the connection broke
	back []func()            // are told that it is there again
	last int

	watchers []*watcher // are told who answers late
}

// watcher is one that Watch tells of a plug-in's nodes.
type watcher struct {
	name string
	came func(broker.Node)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Up is broker.Broker's.
func (b *connection) Up(ctx context.Context) (time.Time, error) {
	for {
		b.mu.Lock()
		up, at := b.up, b.at
		b.mu.Unlock()
		if isClosed(up) {
			return at, nil
		}
		select {
		case <-up:
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

// again is how long a connection that has broken is not tried again; a little more, or less, so that not all come at once.
const again = 100 * time.Millisecond

// connectWithin is connect, which is waited for until ctx ends: a connection that there is later is closed.
func connectWithin(ctx context.Context, servers string, timeout time.Duration, opts []nats.Option) (*connection, error) {
	type result struct {
		b   *connection
		err error
	}
	made := make(chan result, 1)
	go func() {
		b, err := connect(servers, timeout, opts)
		made <- result{b, err}
	}()
	select {
	case r := <-made:
		return r.b, r.err
	case <-ctx.Done():
	}
	go func() {
		if r := <-made; r.err == nil {
			r.b.Close()
		}
	}()
	return nil, ctx.Err()
}

// connect connects to one of the servers, each of which has its part of the time. Nothing is sent later than when it is asked for.
func connect(servers string, timeout time.Duration, opts []nats.Option) (*connection, error) {
	b := &connection{down: make(map[int]func(error)), up: make(chan struct{})}
	close(b.up)
	all := append([]nats.Option{nats.Name("ferrule"), nats.Timeout(timeout / time.Duration(1+strings.Count(servers, ",")))}, opts...)
	all = append(all, nats.ReconnectBufSize(-1), nats.MaxReconnects(-1), nats.ReconnectWait(again), nats.ReconnectJitter(again, again), nats.RetryOnFailedConnect(false), nats.IgnoreAuthErrorAbort(),
		nats.NoEcho(), nats.PingInterval(10*time.Second), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.mu.Lock()
			if isClosed(b.up) {
				b.up = make(chan struct{})
			}
			b.mu.Unlock()
			b.broke(err)
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.at = time.Now(); !isClosed(b.up) {
				close(b.up)
			}
			for _, tell := range b.back {
				go tell()
			}
		}),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // what is dropped is announcements, or plain requests: a session's subscription has no limit
	var err error
	b.nc, err = nats.Connect(servers, all...)
	return b, err
}

func (b *connection) broke(err error) {
	if err == nil {
		err = errors.New("it was closed")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, tell := range b.down {
		go tell(err)
	}
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

// Listen is broker.Broker's.
func (b *connection) Listen(below string, take func(broker.Message)) (string, func(), error) {
	if below == "" {
		return b.listen(b.inbox(), take)
	}
	return b.listen(below+"."+broker.Secret(), take)
}

// inbox is a new one. Those of package nats can be guessed.
func (b *connection) inbox() string {
	return cmp.Or(b.nc.Opts.InboxPrefix, strings.TrimSuffix(nats.InboxPrefix, ".")) + "." + broker.Secret()
}

func (b *connection) listen(subject string, take func(broker.Message)) (string, func(), error) {
	sub, err := b.nc.Subscribe(subject, func(m *nats.Msg) {
		take(broker.Message{To: m.Subject, From: m.Reply, Data: m.Data, Nobody: isNobody(m)})
	})
	if err != nil {
		return "", nil, err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil { // a stream has a bound of its own, beyond which it breaks
		_ = sub.Unsubscribe()
		return "", nil, err
	}
	return subject, func() { _ = sub.Unsubscribe() }, nil
}

// isNobody reports whether a message is the server's, and says that nobody listens where something was sent.
func isNobody(m *nats.Msg) bool { return len(m.Data) == 0 && m.Header.Get("Status") == "503" }

// Send is broker.Broker's.
func (b *connection) Send(to, from string, data []byte) error {
	err := error(nil)
	if from == "" {
		err = b.nc.Publish(to, data)
	} else {
		err = b.nc.PublishRequest(to, from, data)
	}
	if errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionClosed) {
		return broker.ErrDown
	}
	return err
}

// Why is broker.Broker's: a server that finds nobody says so by itself.
func (b *connection) Why(context.Context, string) error { return nil }

// MaxMessage is broker.Broker's.
func (b *connection) MaxMessage() int { return int(b.nc.MaxPayload()) }

// Subjects that are not micro's own.
func serviceOf(name string) string     { return broker.Token(name) }
func addressOf(name, id string) string { return "ferrule." + broker.Token(name) + "." + id }
func comingOf(name string) string      { return "ferrule." + broker.Token(name) + ".nodes" }

// The keys of a node's metadata.
const (
	keyWire    = "ferrule" // the version of docs/remote.md
	keyPlugin  = "plugin"  // the plug-in's name, as it is
	keyVersion = "version" // and its version
	wireIs     = "1"
)

func nodeOf(s micro.ServiceIdentity) broker.Node {
	n := broker.Node{ID: s.ID, Name: s.Metadata[keyPlugin], Version: s.Metadata[keyVersion], Serves: s.Metadata[keyWire] == wireIs}
	n.Address = addressOf(n.Name, n.ID)
	return n
}

// How long answers are waited for: for the first one, which the server gives itself where no node does, and so for a server or a way to it that is busy; since the last one,
// before Find returns; and since the first one, before nobody is expected to answer any more.
const (
	first  = 5 * time.Second
	quiet  = 30 * time.Millisecond
	atMost = time.Second
)

// mostWaiting is how many words of nodes wait here to be read, before others are dropped.
const mostWaiting = 2 * broker.MostNodes

// answers are what has come of one question.
type answers struct {
	mu    sync.Mutex
	nodes []broker.Node
	count int  // of all messages
	none  bool // the server says that there is no node
	taken bool // Find has returned

	some chan struct{} // something came; of a capacity of 1
}

// Find is broker.Broker's, by micro's PING. Who answers later than Find waits, because it is far away or there are very many, is told to those who watch.
func (b *connection) Find(ctx context.Context, name string) ([]broker.Node, error) {
	subject, err := micro.ControlSubject(micro.PingVerb, serviceOf(name), "")
	if err != nil {
		return nil, err
	}
	a := &answers{some: make(chan struct{}, 1)}
	inbox := b.inbox()
	sub, err := b.nc.Subscribe(inbox, func(m *nats.Msg) {
		n, ok := readNode(m.Data, name)
		a.mu.Lock()
		late := a.taken
		if a.count++; isNobody(m) {
			a.none = true
		} else if ok && !late && len(a.nodes) < broker.MostNodes {
			a.nodes = append(a.nodes, n)
		}
		a.mu.Unlock()
		select {
		case a.some <- struct{}{}:
		default:
		}
		if ok && late {
			b.cameLate(name, n)
		}
	})
	if err != nil {
		return nil, err
	}
	err = sub.SetPendingLimits(mostWaiting, mostWaiting*broker.MostSaid)
	if err == nil {
		err = b.nc.PublishRequest(subject, inbox, nil)
	}
	if err != nil {
		_ = sub.Unsubscribe()
		return nil, err
	}
	defer time.AfterFunc(atMost, func() { _ = sub.Unsubscribe() })
	begin := time.Now()
	look := time.NewTicker(atMost)
	defer look.Stop()
	var soon <-chan time.Time
	for waits := true; waits; {
		select {
		case <-a.some:
			if soon == nil {
				look.Reset(atMost)
			}
			soon = time.After(quiet)
			a.mu.Lock()
			waits = !a.none
			a.mu.Unlock()
		case <-soon:
			waits = false
		case <-look.C:
			waits = soon == nil && b.Denied() == nil && time.Since(begin) < first
		case <-ctx.Done():
			waits = false
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.taken = true; a.count == 0 {
		return nil, fmt.Errorf("the server says nothing: %w", cmp.Or(b.Denied(), ctx.Err(), context.DeadlineExceeded))
	}
	return a.nodes, nil
}

// Knows is broker.Broker's: where nobody is asked, the server says so.
func (b *connection) Knows() bool { return true }

// cameLate tells those who watch of a node that was asked for.
func (b *connection) cameLate(name string, n broker.Node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.watchers {
		if w.name == name {
			go w.came(n)
		}
	}
}

// readNode reads what a node says of itself.
func readNode(data []byte, name string) (broker.Node, bool) {
	var said micro.Ping
	if len(data) > broker.MostSaid || json.Unmarshal(data, &said) != nil || said.ID == "" || said.Metadata[keyPlugin] != name || !broker.ValidID(said.ID) {
		return broker.Node{}, false
	}
	n := nodeOf(said.ServiceIdentity)
	return n, broker.ValidVersion(n.Version)
}

// Watch is broker.Broker's.
func (b *connection) Watch(name string, w broker.Watcher) (func(), error) {
	sub, err := b.nc.Subscribe(comingOf(name), func(m *nats.Msg) {
		n, ok := readNode(m.Data, name)
		switch {
		case !ok:
		case m.Header.Get(leavesKey) != "":
			w.Went(n.ID)
		default:
			w.Came(n)
		}
	})
	if err != nil {
		return nil, err
	}
	err = sub.SetPendingLimits(mostWaiting, mostWaiting*broker.MostSaid)
	if err == nil {
		err = b.nc.Flush()
	}
	if err != nil {
		_ = sub.Unsubscribe()
		return nil, err
	}
	stop := b.onDown(w.Down)
	me := &watcher{name, w.Came}
	b.mu.Lock()
	b.watchers = append(b.watchers, me)
	b.mu.Unlock()
	return func() {
		stop()
		b.mu.Lock()
		b.watchers = slices.DeleteFunc(b.watchers, func(w *watcher) bool { return w == me })
		b.mu.Unlock()
		_ = sub.Unsubscribe()
	}, nil
}

// leavesKey is the header of what a node says when it has left.
const leavesKey = "Ferrule-Left"

// Denied is broker.Broker's.
func (b *connection) Denied() error {
	if err := b.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	return nil
}

// Close is broker.Broker's.
func (b *connection) Close() { b.nc.Close() }
