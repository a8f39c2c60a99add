package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	client "github.com/nats-io/nats.go"
	"github.com/spf13/pflag"

	"github.com/ferrule-dev/ferrule/loader/remote/mqtt"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
)

// brokerFlags are the options of nodes, which a broker reaches.
type brokerFlags struct {
	nats, mqtt          string // the URL of one of them
	workers, queue      int
	ca, clientCert, key string
	creds               string
	user, passwordFile  string

	url      string      // nats or mqtt, without a slash at its end
	password string      // of passwordFile
	secure   *tls.Config // or nil, which is as the URL says
}

// byBroker is a broker by which a plug-in can be served as a node.
type byBroker struct {
	plain, secure string   // the schemes of its URLs
	own           []string // the options that are for it alone
	access        string   // what to give in the place of --token-file, --cert and --key
	serve         func(ctx context.Context, s *server, ready func(id string)) error
}

// brokers are all of them, by their options.
var brokers = map[string]*byBroker{
	"nats": {plain: "nats://", secure: "tls://", own: []string{"nats-creds"}, access: "--nats-creds",
		serve: func(ctx context.Context, s *server, ready func(string)) error {
			b := &s.broker
			n := nats.Node{Servers: b.url, Workers: b.workers, Queue: b.queue, MaxBody: s.options.MaxBody, Grace: s.grace, Logger: s.logger(), Metrics: &s.numbers, Ready: ready}
			if b.creds != "" {
				n.Connection = append(n.Connection, client.UserCredentials(b.creds))
			}
			if b.secure != nil {
				n.Connection = append(n.Connection, client.Secure(b.secure))
			}
			return nats.Serve(ctx, s.plugin, n, s.shared()...)
		}},
	"mqtt": {plain: "mqtt://", secure: "mqtts://", own: []string{"mqtt-user", "mqtt-password-file"}, access: "--mqtt-user and --mqtt-password-file",
		serve: func(ctx context.Context, s *server, ready func(string)) error {
			b := &s.broker
			return mqtt.Serve(ctx, s.plugin, mqtt.Node{Servers: b.url, User: b.user, Password: b.password, TLS: b.secure, Workers: b.workers, Queue: b.queue,
				MaxBody: s.options.MaxBody, Grace: s.grace, Logger: s.logger(), Metrics: &s.numbers, Ready: ready}, s.shared()...)
		}},
}

// add adds the flags.
func (b *brokerFlags) add(f *pflag.FlagSet) {
	f.StringVar(&b.nats, "nats", "", "serve as a node of a NATS server's, a `URL` such as nats://localhost:4222")
	f.StringVar(&b.mqtt, "mqtt", "", "serve as a node of an MQTT 5 broker's, a `URL` such as mqtt://localhost:1883")
	f.IntVar(&b.workers, "workers", 1, "with --nats and --mqtt: `HOW MANY` calls run at a time, of all hosts")
	f.IntVar(&b.queue, "queue", 0, "with --nats and --mqtt: `HOW MANY` more calls wait for a place. Without it 4 for each worker")
	f.StringVar(&b.ca, "ca", "", "with --nats and --mqtt: the certificates of authorities that may vouch for the server, a `FILE` in PEM (default the system's)")
	f.StringVar(&b.clientCert, "client-cert", "", "with --nats and --mqtt: the node's own certificate, for a server that asks for one, a `FILE` in PEM")
	f.StringVar(&b.key, "client-key", "", "the private key of --client-cert, a `FILE` in PEM")
	f.StringVar(&b.creds, "nats-creds", "", "with --nats: the credentials, a `FILE` as NATS's own tools write it")
	f.StringVar(&b.user, "mqtt-user", "", "with --mqtt: the `NAME` of the user that the broker lets in")
	f.StringVar(&b.passwordFile, "mqtt-password-file", "", "with --mqtt: the user's password, a `FILE` with it in one line")
}

// ofBrokers are the flags that every broker has.
var ofBrokers = []string{"workers", "queue", "ca", "client-cert", "client-key"}

// check checks the options of nodes, and reads the files that they name. numbers says that there is --metrics, whose are --token-file, --cert and --key then.
func (b *brokerFlags) check(way string, numbers bool, flags *pflag.FlagSet) error {
	of := brokers[way]
	only := func(names []string, with string) error {
		for _, name := range names {
			if flags.Changed(name) {
				return usage("--"+name+" with --"+way, "it with "+with, "Leave it out")
			}
		}
		return nil
	}
	if of == nil {
		if err := only(ofBrokers, "--nats or --mqtt"); err != nil {
			return err
		}
	}
	for _, other := range slices.Sorted(maps.Keys(brokers)) {
		if other != way {
			if err := only(brokers[other].own, "--"+other); err != nil {
				return err
			}
		}
	}
	if of == nil {
		return nil
	}
	for _, name := range []string{"token-file", "cert", "key"} {
		if flags.Changed(name) && !numbers {
			return usage("--"+name+" with --"+way, "the server's own credentials and TLS", "Give "+of.access+", and "+of.secure+" in the URL")
		}
	}
	switch {
	case b.workers < 1 || b.workers > math.MaxInt32:
		return usage(fmt.Sprintf("--workers %d", b.workers), "1 or more", "")
	case b.queue < 0 || b.queue > math.MaxInt32:
		return usage(fmt.Sprintf("--queue %d", b.queue), "0 or more", "")
	case flags.Changed("queue") && b.queue == 0:
		b.queue = -1 // none, and not what is without the option
	}
	if err := b.checkURL(way, flags); err != nil {
		return err
	}
	if flags.Changed("nats-creds") {
		if _, err := os.Stat(b.creds); err != nil {
			return unreadable("--nats-creds", err)
		}
	}
	if err := b.checkUser(flags); err != nil {
		return err
	}
	return b.checkTLS(way, flags)
}

// checkURL checks where the servers are.
func (b *brokerFlags) checkURL(way string, flags *pflag.FlagSet) error {
	of, given := brokers[way], flags.Lookup(way).Value.String()
	expected := of.plain + "HOST:PORT or " + of.secure + "HOST:PORT"
	if strings.Contains(given, "@") { // which may be a password, and is not repeated
		return usage("--"+way+" with a user in its URL", expected, "Give the credentials in a file: "+of.access)
	}
	b.url = strings.TrimSuffix(given, "/")
	scheme, hosts, ok := strings.Cut(b.url, "://")
	if scheme += "://"; !ok || scheme != of.plain && scheme != of.secure {
		return usage("--"+way+" "+given, expected, "")
	}
	for host := range strings.SplitSeq(hosts, ",") {
		if strings.ContainsAny(strings.TrimPrefix(strings.TrimSpace(host), scheme), "/?#") {
			return usage("--"+way+" "+given, expected, "Leave out what is behind the port: the plug-in's name comes by itself")
		}
	}
	return nil
}

// checkUser reads the password.
func (b *brokerFlags) checkUser(flags *pflag.FlagSet) error {
	switch named, secret := flags.Changed("mqtt-user"), flags.Changed("mqtt-password-file"); {
	case named && b.user == "":
		return usage("--mqtt-user with nothing (is a variable not set?)", "--mqtt-user NAME", "")
	case secret && !named:
		return usage("--mqtt-password-file without --mqtt-user", "both", "")
	case !secret:
		return nil
	}
	text, err := os.ReadFile(b.passwordFile)
	if err != nil {
		return unreadable("--mqtt-password-file", err)
	}
	if b.password = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"); b.password == "" || len(b.password) > math.MaxUint16 {
		return usage("--mqtt-password-file "+b.passwordFile+" with "+plural(len(b.password), "byte")+" in its line", "a file with a password, of 65535 bytes at most", "")
	}
	return nil
}

// checkTLS reads the certificates.
func (b *brokerFlags) checkTLS(way string, flags *pflag.FlagSet) error {
	if !flags.Changed("ca") && !flags.Changed("client-cert") && !flags.Changed("client-key") {
		return nil
	}
	if of := brokers[way]; !strings.HasPrefix(b.url, of.secure) {
		return usage("--ca, --client-cert or --client-key with --"+way+" "+b.url, "them with "+of.secure, "Write the URL so where the server has TLS, or leave them out")
	}
	b.secure = &tls.Config{MinVersion: tls.VersionTLS12}
	if flags.Changed("ca") {
		roots, err := certificates(b.ca)
		if err != nil {
			return err
		}
		b.secure.RootCAs = roots
	}
	if flags.Changed("client-cert") != flags.Changed("client-key") {
		return usage("one of --client-cert and --client-key", "both", "")
	}
	if flags.Changed("client-cert") {
		pair, err := keyPair("client-cert", b.clientCert, "client-key", b.key)
		if err != nil {
			return err
		}
		b.secure.Certificates = []tls.Certificate{*pair}
	}
	return nil
}

// certificates reads what --ca names.
func certificates(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable("--ca", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, usage("--ca "+path+", in which is no certificate", "one, in PEM", "")
	}
	return pool, nil
}

// serveNode serves as a node of a broker's.
func (s *server) serveNode(ctx context.Context, way string) error {
	ready := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := brokers[way].serve(ctx, s, func(string) {
		err := s.ready(s.broker.url + "/" + s.plugin.About.Manifest.Name)
		if err != nil {
			cancel() // nobody learns that it is there
		}
		ready <- err
	})
	select {
	case said := <-ready:
		if said != nil {
			return said
		}
	default:
	}
	return err
}
