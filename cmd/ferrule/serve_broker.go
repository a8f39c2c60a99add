package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"strings"

	client "github.com/nats-io/nats.go"
	"github.com/spf13/pflag"

	"github.com/ferrule-dev/ferrule/loader/remote/nats"
)

// natsLimits checks the options of nodes.
func (s *server) natsLimits(way string, flags *pflag.FlagSet) error {
	for _, name := range []string{"workers", "queue", "nats-creds"} {
		if flags.Changed(name) && way != "nats" {
			return usage("--"+name+" with --"+way, "it with --nats", "Leave it out")
		}
	}
	if way != "nats" {
		return nil
	}
	for _, name := range []string{"token-file", "cert", "key"} {
		if flags.Changed(name) && s.metrics == "" { // the numbers have them
			return usage("--"+name+" with --nats", "the server's own credentials and TLS", "Give --nats-creds, and tls:// in the URL")
		}
	}
	switch {
	case s.workers < 1 || s.workers > math.MaxInt32:
		return usage(fmt.Sprintf("--workers %d", s.workers), "1 or more", "")
	case s.queue < 0 || s.queue > math.MaxInt32:
		return usage(fmt.Sprintf("--queue %d", s.queue), "0 or more", "")
	case flags.Changed("queue") && s.queue == 0:
		s.queue = -1 // none, and not what is without the option
	}
	if strings.Contains(s.nats, "@") {
		return usage("--nats with a user in its URL", "nats://HOST:PORT", "Give the credentials in a file: --nats-creds")
	}
	if flags.Changed("nats-creds") {
		if _, err := os.Stat(s.credentials); err != nil {
			return unreadable("--nats-creds", err)
		}
	}
	return nil
}

// serveNATS serves as a node.
func (s *server) serveNATS(ctx context.Context) error {
	n := nats.Node{Servers: s.nats, Workers: s.workers, Queue: s.queue, MaxBody: s.options.MaxBody, Grace: s.grace, Logger: s.logger(), Metrics: &s.numbers}
	if s.credentials != "" {
		n.Connection = append(n.Connection, client.UserCredentials(s.credentials))
	}
	m := s.plugin.About.Manifest
	ready := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.Ready = func(id string) {
		err := s.ready(strings.TrimSuffix(s.nats, "/") + "/" + m.Name)
		if err != nil {
			cancel() // nobody learns that it is there
		}
		ready <- err
	}
	err := nats.Serve(ctx, s.plugin, n, s.shared()...)
	select {
	case said := <-ready:
		if said != nil {
			return said
		}
	default:
	}
	return err
}
