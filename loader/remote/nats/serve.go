package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/broker"
	"github.com/ferrule-dev/ferrule/loader/remote/internal/node"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// Node is how a plug-in is served. The zero value of each field is as the field says.
type Node struct {
	Servers    string        // such as nats://localhost:4222, or several, host:port,host:port
	Connection []nats.Option // credentials, TLS, a name
	Workers    int           // how many calls run at a time, of all hosts; 0 is 1
	Queue      int           // how many more wait for a place, beyond which the node is busy; 0 is 4 for each of Workers, less than 0 none
	Sessions   int           // how many sessions there may be at a time, of which a host has one or two; 0 is 1,024
	MaxBody    int64         // how long an input may be, in bytes; 0 is 256 MiB
	Silence    time.Duration // how long a host may say nothing while it is waited for; 0 is 2 seconds
	Grace      time.Duration // how long calls may go on when the node leaves; 0 is 10 seconds
	Logger     *slog.Logger  // for what the plug-in logs outside calls, and for the node's own lines; nil is slog.Default

	Metrics *serve.Metrics // counts sessions, calls and bytes; or nil

	Ready func(id string) // is called when hosts can find the node; or nil
}

// Serve serves a plug-in to hosts that a NATS server reaches, until ctx ends: then it takes no more calls, waits for those that run, and returns nil. opts are Open's,
// with what is the node's to give: the configuration, the number of instances (for a plug-in that is not concurrent, as many as Workers), a sandbox. While the connection is
// broken it goes on, and hosts find it again.
func Serve(ctx context.Context, p serve.Plugin, n Node, opts ...loader.Option) error {
	l := node.Limits{Workers: n.Workers, Queue: n.Queue, Sessions: n.Sessions, MaxBody: n.MaxBody, Silence: n.Silence, Grace: n.Grace, Logger: n.Logger}.Filled()
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
		return fmt.Errorf("nats: %w", err)
	}
	b, err := connectWithin(ctx, n.Servers, 10*time.Second, n.Connection)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("nats: no connection to %s: %w. Check the address, the credentials and TLS; a node that begins does not wait for its server: start it when that is there", engine.ServersWithoutUsers(n.Servers), err)
	}
	defer b.Close()
	of := node.New(node.Options{Broker: b, Shared: shared, Sessions: l.Sessions, MaxBody: l.MaxBody, Silence: l.Silence, Logger: l.Logger, Metrics: n.Metrics})
	s, err := announce(b, shared, of)
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	defer b.onDown(of.Down)()
	b.onBack(func() { _ = s.says("") })
	if err = s.says(""); err == nil {
		err = b.nc.Flush()
	}
	if err == nil {
		err = b.Denied()
	}
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	if n.Ready != nil {
		n.Ready(s.id)
	}
	gone := make(chan struct{})
	b.nc.SetClosedHandler(func(*nats.Conn) { close(gone) })
	select {
	case <-ctx.Done():
	case <-gone:
		return fmt.Errorf("nats: the connection to %s was closed: %w", engine.ServersWithoutUsers(n.Servers), errors.Join(b.nc.LastError()))
	}
	b.nc.SetClosedHandler(nil)
	_ = s.service.Stop() // nobody finds it any more
	late, cancel := context.WithTimeout(context.Background(), l.Grace)
	defer cancel()
	err = of.Leave(late)
	s.stop()
	_ = s.says("yes")
	_ = b.nc.FlushTimeout(time.Second)
	if deaf, ok := err.(*node.Deaf); ok {
		closes = false
		return fmt.Errorf("nats: calls were still running %v after the node was to leave: %w", l.Grace, deaf)
	}
	if err != nil {
		return fmt.Errorf("nats: calls were still running %v after the node was to leave: they were ended", l.Grace)
	}
	return nil
}

// service is what makes a process a micro service.
type service struct {
	b       *connection
	service micro.Service
	id      string
	ping    micro.Ping
	stop    func() // gives no sessions any more
}

// announce makes the node known as a micro service, whose statistics have what became of calls; its functions can be called as NATS's own requests, too (rule B7).
func announce(b *connection, shared *serve.Shared, of *node.Node) (*service, error) {
	about := shared.Plugin().Info()
	m := about.Manifest
	s := &service{b: b}
	version := m.Version
	if _, err := semver.StrictNewVersion(version); err != nil { // micro takes no other
		version = "0.0.0"
	}
	places, _, _ := shared.Places()
	var err error
	s.service, err = micro.AddService(b.nc, micro.Config{Name: serviceOf(m.Name), Version: version, Description: m.Description, QueueGroupDisabled: false,
		Metadata: map[string]string{keyWire: wireIs, keyPlugin: m.Name, keyVersion: m.Version, "workers": strconv.Itoa(places)},
		StatsHandler: func(e *micro.Endpoint) any {
			return counted(shared, of, e.Name)
		}})
	if err != nil {
		return nil, err
	}
	info := s.service.Info()
	s.id, s.ping = info.ID, micro.Ping{ServiceIdentity: info.ServiceIdentity, Type: micro.PingResponseType}
	group := s.service.AddGroup("ferrule." + broker.Token(m.Name) + ".fn")
	for _, f := range about.Funcs {
		name := f.Name
		if err := group.AddEndpoint(name, micro.HandlerFunc(func(r micro.Request) { answer(of, name, r) })); err != nil {
			_ = s.service.Stop()
			return nil, err
		}
	}
	_, s.stop, err = b.listen(addressOf(m.Name, s.id), of.Ask)
	if err != nil {
		_ = s.service.Stop()
	}
	return s, err
}

// says tells hosts that the node is there, or that it has left.
func (s *service) says(left string) error {
	data, err := json.Marshal(s.ping)
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: comingOf(s.ping.Metadata[keyPlugin]), Data: data}
	if left != "" {
		m.Header = nats.Header{leavesKey: []string{left}}
	}
	return s.b.nc.PublishMsg(m)
}

// counts is what micro's statistics have of a function beside their own, which are of NATS's own requests.
type counts struct {
	Calls    int64         `json:"calls"`
	Failed   int64         `json:"failed"`
	NotRun   int64         `json:"not_run"`
	Running  int64         `json:"running"`
	Time     time.Duration `json:"time"` // in ns, of all calls together
	Sessions int           `json:"sessions"`
}

func counted(shared *serve.Shared, of *node.Node, name string) any {
	n := shared.Counts()[name]
	if n == nil {
		return nil
	}
	// What runs first, then what has ended, which is in each number by then, and the calls last: what has failed, and the time, are of them.
	running, failed, notRun, took := n.Running.Load(), n.Failed.Load(), n.NotRun.Load(), time.Duration(n.Time.Load())
	return counts{n.Calls.Load(), failed, notRun, running, took, of.Sessions()}
}

// timeoutKey is the header that says how many milliseconds the caller waits.
const timeoutKey = "Ferrule-Timeout"

// answer answers a request of NATS's own: the data is the input, and the answer's the output.
func answer(of *node.Node, name string, r micro.Request) {
	in := slices.Clone(r.Data())
	if !of.Plain(func() {
		out, code, message := of.Call(name, r.Headers().Get(timeoutKey), in)
		if code == "" {
			err := r.Respond(out)
			if err == nil {
				return
			}
			code, message = node.CodeTooLong, "the output is longer than a message of the server's: "+err.Error()
		}
		_ = r.Error(code, message, nil)
	}) {
		_ = r.Error(node.CodeBusy, "the node is leaving", nil)
	}
}
