package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve/web"
)

func init() { verbs = append(verbs, serveVerb) }

// tokenVariable is where a token can be that is in no file.
const tokenVariable = "FERRULE_TOKEN"

func serveVerb(a *app) *cobra.Command {
	s := &server{app: a}
	cmd := &cobra.Command{
		Use:   "serve FILE",
		Short: "Serve a plug-in to hosts that run elsewhere, as a sidecar",
		Long: `Serve a plug-in, a library or a WebAssembly module, as a sidecar: other programs call it, in other processes or on other
machines, by the wire that docs/wire.md has. A Go program opens it with sidecar.Program(), by the address that is printed here. One of
these says where:
  - --stdio: the program that starts this one, over standard input and output, or the descriptors that it names
  - --unix PATH: a unix socket, which only this user may connect to; one that was left behind is replaced
  - --tcp ADDRESS: a TCP port, such as 127.0.0.1:4242; port 0 takes one that is free
  - --fifo IN,OUT: two FIFOs, for one host after the other; they are made where they are not there (not on Windows)
  - --http ADDRESS: HTTP, at HOST:PORT or unix:PATH; see below
  - --nats URL: as a node that a NATS server reaches, from any number of machines; see below
  - --mqtt URL: the same, of an MQTT 5 broker's

Each host that connects has an instance of the plug-in, with a state of its own, which it configures, and whose imports it serves. When it is
ready, one line is printed, with the address; with --json it is an object with plugin, version, address, tls and token
(whether one is asked for). With --stdio nothing is printed: the standard output is the wire, and what the plug-in prints itself goes to
the standard error.

With --http a call is a request: POST /fn/NAME, or /hook/NAME, with the input as the body, of the type application/octet-stream or the one
that the function says. 200 has the output; 422 is another status, which the field Ferrule-Status has, with the message; 404 a
function that is not there, 401 a token that is wrong or missing, 413 an input that is too long, 415 another type, 499 a call that was cancelled,
503 one that finds no room. There are no streams: what a function cannot do without its stream is answered with 422, and the status 3.
Ferrule-Timeout says how many milliseconds it may take. A client that goes away cancels its call,
and one that takes more than 30 s for 64 KiB of an input, or of an output, is given up. The
plug-in is opened once, with as many instances as --instances says and what --config says; its log lines go to the standard error. One with
imports is refused. GET has:
  /ferrule/manifest      what the plug-in says of itself
  /ferrule/openapi.json  what can be called, in OpenAPI 3.1
  /ferrule/metrics       calls and their times, in the text format of Prometheus
  /ferrule/health        200 while calls are taken; it asks for no token

A Go program opens it with web.Server() of loader/sidecar/web.

With --metrics ADDRESS the numbers are served there as well, whatever the way is by which the plug-in is, in the text format of Prometheus:
calls by status and their times, bytes, calls in flight, connections and sessions. The paths are /metrics, /ferrule/metrics and
/ferrule/health. The address, token and TLS are as with --http. It is printed in a line of its own, behind the first one, or in the object's metrics;
with --stdio on the standard error. A page in a browser that is not of this server is refused.

With --nats and --mqtt the plug-in is opened once, with as many instances as --instances says and what --config says, and --workers of its calls run at a
time, of all hosts; --queue more wait for a place, and others find a busy node. A Go program opens it with nats.Plugin() of loader/remote/nats, or
mqtt.Plugin() of loader/remote/mqtt, by the address that is printed, in which @VERSIONS may stand behind the name; docs/remote.md says more. The node ends
where no server is there when it begins, and goes on when its connection breaks later. Several servers of a cluster are nats://HOST:PORT,HOST:PORT; tls:// and mqtts:// have the connection encrypted.

A token keeps strangers out: what is in --token-file, without the newline at its end, or in the variable FERRULE_TOKEN. It is no option,
since everybody on a machine can read command lines. --cert and --key have the connection encrypted. On an address that others
reach, which is any but loopback, both are required. NATS servers and MQTT brokers have credentials of their own: --nats-creds, --mqtt-user and
--mqtt-password-file, and --client-cert and --client-key; --ca says who may vouch for the server.

SIGTERM, SIGINT and SIGHUP end it in order: no more calls are taken, hosts are told so, calls that run may end within --grace, and are
asked to stop then. A second signal ends it at once.

A library runs in this process, and a crash of it ends all sessions, with this command: mostly with exit code 2 and a report of the
Go runtime's on the standard error, of hundreds of lines, which does not name the plug-in. So serve with --isolated what may crash: then
each session has a worker process of its own, where a crash ends that one alone. Its host hears of a panic (status 5), with the signal or
the exit code in the message, and so does a client by HTTP (422); the standard error has a line with level=ERROR. A WebAssembly module
reaches nothing but its own memory and its imports, in any case.

Exit codes:
  0    ended by a signal, or by the host (--stdio)
  1    it cannot go on: the host broke the wire, the address is in use or cannot be listened at
  2    the command line is wrong, or has no token or no TLS where both are required; or a library has crashed in this process, and the
       Go runtime reports that
  3    the file cannot be opened as a plug-in; with --http also one that has imports, or whose ferrule_start fails
  130  ended at once by a second signal`,
		Example: `  ferrule serve vowels.so --stdio
  ferrule serve vowels.so --unix /run/user/1000/vowels.sock
  ferrule serve --isolated --instances 8 --timeout 2s parser.so --unix /run/parser.sock
  ferrule serve vowels.wasm --tcp 127.0.0.1:4242
  ferrule serve --http 127.0.0.1:8080 discount.py
  ferrule serve vowels.so --tcp :4242 --cert cert.pem --key key.pem --token-file token
  ferrule serve --http 127.0.0.1:8080 --instances 4 vowels.so
  ferrule serve vowels.so --unix /run/vowels.sock --metrics 127.0.0.1:9464
  ferrule serve discount.so --nats nats://localhost:4222 --workers 8
  ferrule serve discount.so --mqtt mqtts://broker.example --mqtt-user node1 --mqtt-password-file password --ca ca.pem
  curl -H 'Content-Type: application/octet-stream' --data-binary hello http://127.0.0.1:8080/fn/count_vowels`,
		Args: arguments("FILE"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return libraries(cmd, args, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return s.run(args[0], cmd.Flags()) },
	}
	f := cmd.Flags()
	f.BoolVar(&s.stdio, "stdio", false, "serve the program that has started this one")
	f.StringVar(&s.unix, "unix", "", "serve at a unix socket, a `PATH`")
	f.StringVar(&s.tcp, "tcp", "", "serve at a TCP `ADDRESS`, HOST:PORT")
	f.StringVar(&s.fifo, "fifo", "", "serve over two FIFOs, `IN,OUT`: what hosts write, and what they read")
	f.StringVar(&s.http, "http", "", "serve by HTTP at an `ADDRESS`, HOST:PORT or unix:PATH")
	s.broker.add(f)
	f.StringVar(&s.metrics, "metrics", "", "serve numbers for Prometheus by HTTP at an `ADDRESS`, HOST:PORT or unix:PATH")
	f.IntVar(&s.instances, "instances", 0, "`HOW MANY` hosts there may be at a time, of a socket: others are turned away. Without it any number. With --http, --nats and --mqtt how many instances there are; without it 1")
	f.IntVar(&s.calls, "max-calls", 0, "with --http: `HOW MANY` calls there may be at a time, those that wait for an instance among them. Without it 1024")
	f.StringVar(&s.config, "config", "", "with --http, --nats and --mqtt: the configuration for a plug-in with a ferrule_start: `TEXT`, @FILE, @@… for a text that starts with @")
	f.StringVar(&s.tokenFile, "token-file", "", "ask for the token that is in this `FILE`")
	f.StringVar(&s.cert, "cert", "", "the certificate for TLS, a `FILE` in PEM, with those that it relies on")
	f.StringVar(&s.key, "key", "", "the certificate's private key, a `FILE` in PEM")
	f.BoolVar(&s.isolated, "isolated", false, "have a worker process for each session, where a crash costs that one alone")
	f.DurationVar(&s.timeout, "timeout", 0, "the `TIME` that a call may run, such as 500ms or 2s; 0 is no limit (default 0)")
	f.StringVar(&s.message, "max-message", "", "how long an input may be, a `SIZE` such as 16MiB. Without it 256MiB")
	f.DurationVar(&s.grace, "grace", 2*time.Second, "the `TIME` that calls have to end when this command is to end")
	return cmd
}

// server is one run of `ferrule serve`.
type server struct {
	*app
	ctx                  context.Context // ends with the first signal
	configuration        []byte          // of --config
	http, config         string
	broker               brokerFlags
	metrics              string
	metricsAt            net.Listener // or nil
	metricsAddress       string
	numbers              serve.Metrics
	calls                int
	stdio                bool
	unix, tcp, fifo      string
	instances            int
	tokenFile, cert, key string
	isolated             bool
	timeout, grace       time.Duration
	message              string
	options              serve.Options
	tls                  *tls.Config
	handler              *web.Handler // of --http
	plugin               serve.Plugin
}

// ready is what is printed when it serves.
type ready struct {
	Plugin  string `json:"plugin"`
	Version string `json:"version"`
	Address string `json:"address"`
	TLS     bool   `json:"tls"`
	Token   bool   `json:"token"`
	Metrics string `json:"metrics,omitempty"`
}

func (s *server) run(path string, flags *pflag.FlagSet) error {
	way, err := s.way(flags)
	if err != nil {
		return err
	}
	if err := s.limits(way, flags); err != nil {
		return err
	}
	if err := s.secrets(way, flags); err != nil {
		return err
	}
	if err := s.exposed(way); err != nil {
		return err
	}
	lib, err := loader.Inspect(path)
	if err != nil {
		return failure(err)
	}
	foreign := &foreignLines{to: s.err, from: "plug-in"}
	defer foreign.end()
	var opts []loader.Option
	switch {
	case engines.IsPython(lib):
		adapter, err := s.adapter(path)
		if err != nil {
			return err
		}
		worker, err := engines.Python(adapter, path, nil, isolate.WithOutput(foreign))
		if err != nil {
			return err
		}
		opts = append(opts, worker)
	case engines.IsBoxed(lib):
		module, err := inBox(lib, nil)
		if err != nil {
			return failure(err)
		}
		opts = append(opts, module)
	case s.isolated:
		opts = append(opts, inWorker(nil, isolate.WithOutput(foreign)))
	}
	if s.timeout > 0 {
		opts = append(opts, loader.WithCallTimeout(s.timeout))
	}
	s.plugin = serve.Plugin{About: &lib.Description, Open: func(more ...loader.Option) (*loader.Plugin, error) {
		return loader.Open(path, append(opts[:len(opts):len(opts)], more...)...)
	}}
	if way == "http" || brokers[way] != nil { // it is opened once, for all
		if err := s.readConfig(way, lib, flags); err != nil {
			return err
		}
	}
	var stop context.CancelFunc
	s.ctx, stop = interruptible(0) // what has been read so far may have been a FIFO, that nobody writes: any signal ended that
	defer stop()
	s.options.Metrics, s.options.Logger = &s.numbers, s.logger()
	s.numbers.Of(s.plugin.About, way == "http")
	if way == "http" {
		if err := s.openHTTP(); err != nil {
			return err
		}
	}
	start, err := s.prepare(way)
	if errors.Is(err, context.Canceled) && s.ctx.Err() != nil {
		return nil
	} else if err != nil {
		return err
	}
	return s.until(s.ctx, start)
}

// counts serves the numbers until the function that it returns is called.
func (s *server) counts() (end func()) {
	if s.metricsAt == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := web.ServeMetrics(ctx, s.metricsAt, &s.numbers, web.Options{Token: s.options.Token, Logger: s.logger()}); err != nil {
			fmt.Fprintln(s.err, "ferrule: --metrics:", err)
		}
	}()
	return func() {
		cancel()
		<-over
		_ = s.metricsAt.Close()
	}
}

// logger is for what the plug-in and the server have to say by HTTP.
func (s *server) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(escapedLines{s.err}, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
}

// way is the option that says where it serves.
func (s *server) way(flags *pflag.FlagSet) (string, error) {
	var given []string
	for _, name := range ways {
		if flags.Changed(name) && (name != "stdio" || s.stdio) {
			given = append(given, "--"+name)
		}
	}
	const one = "one of --stdio, --unix, --tcp, --fifo, --http, --nats and --mqtt"
	switch {
	case len(given) == 0:
		return "", usage("no place to serve at", one, "A program that starts this command for itself has --stdio")
	case len(given) > 1:
		return "", usage(strings.Join(given, " and "), one, "Run this command once for each")
	case given[0] == "--stdio" && s.json:
		return "", usage("--json with --stdio", "one of them, as the standard output is the wire", "Leave out --json")
	}
	way := given[0][2:]
	for _, name := range []string{way, "metrics"} {
		if f := flags.Lookup(name); f.Changed && (f.Value.String() == "" || f.Value.String() == "unix:" && (name == "http" || name == "metrics")) {
			word, _ := pflag.UnquoteUsage(f)
			return "", usage(strings.TrimSpace("--"+name+" "+f.Value.String())+" with nothing (is a variable not set?)", "--"+name+" "+word, "")
		}
	}
	return way, nil
}

var ways = []string{"stdio", "unix", "tcp", "fifo", "http", "nats", "mqtt"}

// limits checks the options that are numbers.
func (s *server) limits(way string, flags *pflag.FlagSet) error {
	switch {
	case s.timeout < 0:
		return usage(fmt.Sprintf("--timeout %v", s.timeout), "a time that is not negative", "")
	case s.grace < 0:
		return usage(fmt.Sprintf("--grace %v", s.grace), "a time that is not negative", "")
	case flags.Changed("instances") && (way == "stdio" || way == "fifo"):
		return usage("--instances with --"+way, "it with a socket: "+map[string]string{"stdio": "the standard streams", "fifo": "two FIFOs"}[way]+" are one session at a time", "Leave it out")
	case flags.Changed("instances") && (s.instances < 1 || s.instances > math.MaxInt32):
		return usage(fmt.Sprintf("--instances %d", s.instances), "1 or more", "Leave it out for any number")
	}
	if err := s.broker.check(way, s.metrics != "", flags); err != nil {
		return err
	}
	for _, name := range []string{"config", "max-calls"} {
		if flags.Changed(name) && way != "http" && (name != "config" || brokers[way] == nil) {
			return usage("--"+name+" with --"+way, map[string]string{"config": "it with --http, --nats or --mqtt", "max-calls": "it with --http"}[name], map[string]string{"config": "Leave it out: each host configures its own instance",
				"max-calls": "Leave it out: a host has as many calls as the plug-in takes"}[name])
		}
	}
	if flags.Changed("max-calls") && (s.calls < 1 || s.calls > math.MaxInt32) {
		return usage(fmt.Sprintf("--max-calls %d", s.calls), "1 or more", "Leave it out for 1024")
	}
	s.options.Sessions, s.options.Grace = s.instances, s.grace
	if flags.Changed("max-message") {
		n, err := parseSize(s.message)
		if err != nil || n > math.MaxInt32 {
			return usage("--max-message "+s.message, "a size such as 64KiB or 16MiB, less than 2GiB", "")
		}
		s.options.MaxBody = n
	}
	return nil
}

// secrets reads the token, the certificate and its key.
func (s *server) secrets(way string, flags *pflag.FlagSet) error {
	token, from := os.Getenv(tokenVariable), tokenVariable
	_ = os.Unsetenv(tokenVariable) // it is for nobody whom this process starts, and for no plug-in
	if flags.Changed("token-file") {
		text, err := os.ReadFile(s.tokenFile)
		if err != nil {
			return unreadable("--token-file", err)
		}
		token, from = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), "--token-file "+s.tokenFile
		if token == "" {
			return usage(from+" with nothing in it", "a file with a token", "Make one: openssl rand -hex 32 >"+shellWord(s.tokenFile))
		}
	}
	if len(token) > 1024 || strings.Trim(token, " ") != token || strings.ContainsFunc(token, func(c rune) bool { return c < ' ' || c > '~' }) {
		return usage(from+" with a token that cannot be sent", "1 to 1024 printable ASCII characters in one line, none of which is a space at an end", "Make one: openssl rand -hex 32")
	}
	if (way == "http" || s.metrics != "") && strings.Contains(token, " ") {
		return usage(from+" with a token that has a space", "one without, as HTTP asks for it", "Make one: openssl rand -hex 32")
	}
	s.options.Token = token
	if s.cert == "" && s.key == "" && !flags.Changed("cert") && !flags.Changed("key") {
		return nil
	}
	switch {
	case (way != "tcp" && way != "http" || socketOf(s.http) != "") && (s.metrics == "" || socketOf(s.metrics) != ""):
		return usage("--cert or --key with --"+way+" "+flags.Lookup(way).Value.String(), "them with a TCP port", "Leave them out: what goes there stays on this machine")
	case s.cert == "" || s.key == "":
		return usage("one of --cert and --key", "both", "")
	}
	pair, err := keyPair("cert", s.cert, "key", s.key)
	if err != nil {
		return err
	}
	s.tls = &tls.Config{Certificates: []tls.Certificate{*pair}, MinVersion: tls.VersionTLS12}
	return nil
}

// keyPair reads a certificate and its private key, whose files two options name.
func keyPair(certFlag, cert, keyFlag, key string) (*tls.Certificate, error) {
	var texts [2][]byte // each is read once: it may be a FIFO
	for i, f := range []struct{ flag, path string }{{certFlag, cert}, {keyFlag, key}} {
		var err error
		if texts[i], err = os.ReadFile(f.path); err != nil {
			return nil, unreadable("--"+f.flag, err)
		}
	}
	pair, err := tls.X509KeyPair(texts[0], texts[1])
	if err != nil {
		return nil, usage(fmt.Sprintf("--%s %s and --%s %s, which do not make a certificate (%v)", certFlag, cert, keyFlag, key, err), "a certificate and its private key, in PEM", "")
	}
	return &pair, nil
}

// exposed refuses an address that others reach, where nothing keeps them out or what they send can be read.
func (s *server) exposed(way string) error {
	for _, flag := range []string{way, "metrics"} {
		address := map[string]*string{"tcp": &s.tcp, "http": &s.http, "metrics": &s.metrics}[flag]
		if address != nil && *address != "" && (flag == "tcp" || socketOf(*address) == "") {
			if err := s.exposes(flag, address); err != nil {
				return err
			}
		}
	}
	return nil
}

// exposes is exposed of one address.
func (s *server) exposes(way string, address *string) error {
	at, err := net.ResolveTCPAddr("tcp", *address)
	if err != nil {
		return usage(fmt.Sprintf("--%s %s (%v)", way, *address, err), "HOST:PORT, such as 127.0.0.1:4242", "")
	}
	given := *address
	*address = at.String() // what was looked at is what is listened at
	if at.IP != nil && at.IP.IsLoopback() {
		return nil
	}
	var missing []string
	if s.tls == nil {
		missing = append(missing, "--cert and --key")
	}
	if s.options.Token == "" {
		missing = append(missing, "a token (--token-file, or "+tokenVariable+")")
	}
	if missing == nil {
		return nil
	}
	return usage(fmt.Sprintf("--%s %s, which others reach, without %s", way, given, strings.Join(missing, " and ")), "a token and TLS where the address is not of this machine alone",
		"Give them, or listen at 127.0.0.1 or [::1]")
}

// prepare takes the place, and returns what serves there until its context ends.
func (s *server) prepare(way string) (func(context.Context) error, error) {
	if s.metrics != "" {
		var err error
		if s.metricsAt, s.metricsAddress, err = s.listen("metrics", s.metrics); err != nil {
			if s.handler != nil {
				_ = s.handler.Close()
			}
			return nil, err
		}
	}
	start, err := s.prepared(way)
	if err != nil && s.metricsAt != nil {
		_ = s.metricsAt.Close()
	}
	return start, err
}

// prepared is prepare without the numbers.
func (s *server) prepared(way string) (func(context.Context) error, error) {
	switch way {
	case "stdio":
		return func(ctx context.Context) error {
			conn, err := serve.Streams()
			if err != nil {
				return err
			}
			if s.metricsAddress != "" {
				fmt.Fprintln(s.err, escape.Line("metrics at "+s.metricsAddress))
			}
			return serve.Session(ctx, conn, s.plugin, s.options)
		}, nil
	case "nats", "mqtt":
		return func(ctx context.Context) error { return s.serveNode(ctx, way) }, nil
	case "fifo":
		in, out, ok := strings.Cut(s.fifo, ",")
		if !ok || in == "" || out == "" || in == out {
			return nil, usage("--fifo "+s.fifo, "two paths with a comma between them: IN, which hosts write, and OUT, which they read", "")
		}
		remove, err := makeFIFOs(in, out)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) error {
			defer remove()
			if err := s.ready("fifo:" + in + "," + out); err != nil {
				return err
			}
			return serveFIFOs(ctx, in, out, s.plugin, s.options)
		}, nil
	}
	l, address, err := s.listen(way, map[string]string{"unix": "unix:" + s.unix, "tcp": s.tcp, "http": s.http}[way])
	if err != nil {
		if s.handler != nil {
			_ = s.handler.Close()
		}
		return nil, err
	}
	if way == "http" {
		return func(ctx context.Context) error {
			defer l.Close()
			err := s.ready(address)
			if err == nil {
				err = web.Serve(ctx, l, s.handler, s.grace)
			}
			return errors.Join(err, s.handler.Close())
		}, nil
	}
	return func(ctx context.Context) error {
		defer l.Close()
		if err := s.ready(address); err != nil {
			return err
		}
		return serve.Listen(ctx, l, s.plugin, s.options)
	}, nil
}

// listen listens at an address, HOST:PORT or unix:PATH.
func (s *server) listen(way, at string) (l net.Listener, address string, err error) {
	scheme, secure := "tcp:", s.tls
	if way != "tcp" && way != "unix" {
		scheme = "http://"
		if s.tls != nil {
			scheme = "https://"
			secure = s.tls.Clone()
			secure.NextProtos = []string{"h2", "http/1.1"}
		}
	}
	if socket := socketOf(at); socket != "" {
		path, err := abspath.Of(socket)
		if err != nil {
			return nil, "", unreadable("--"+way, err)
		}
		l, err := listenUnix(s.ctx, "--"+way, path)
		return l, map[bool]string{true: "unix:", false: "http+unix:"}[way == "unix"] + path, err
	}
	if l, err = net.Listen("tcp", at); err != nil {
		return nil, "", fmt.Errorf("--%s: %w", way, err)
	}
	address = scheme + l.Addr().String()
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	return l, address, nil
}

// socketOf is the path of the unix socket that an address names, if it does.
func socketOf(address string) string {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return ""
	}
	return path
}

// readConfig reads what --config says, for a plug-in that may be served so.
func (s *server) readConfig(way string, lib *inspect.Library, flags *pflag.FlagSet) error {
	if way == "http" && len(lib.Imports) > 0 {
		var names []string
		for _, f := range lib.Imports {
			names = append(names, f.Name)
		}
		return &exit{code: exitOpen, err: &wrong{"--http for " + lib.Manifest.Name + ", which imports " + strings.Join(names, ", "), "a plug-in without imports: HTTP has no way back to a host",
			"Serve it with --unix or --tcp, whose hosts serve imports"}}
	}
	host := hostFlags{config: s.config}
	if err := host.checkConfig(lib); err != nil {
		return err
	}
	var err error
	if flags.Changed("config") {
		if s.configuration, err = s.read(source{text: s.config}, "--config"); s.configuration == nil {
			s.configuration = []byte{}
		}
	}
	return err
}

// openHTTP opens the plug-in for all clients.
func (s *server) openHTTP() error {
	logger := s.logger()
	opts := append(s.shared(), loader.WithLogger(logger))
	var err error
	s.handler, err = web.Open(s.plugin, web.Options{Token: s.options.Token, MaxBody: s.options.MaxBody, Calls: s.calls, Logger: logger, Metrics: &s.numbers}, opts...)
	return err
}

// shared are the options of a plug-in that is opened once, for all.
func (s *server) shared() (opts []loader.Option) {
	if s.configuration != nil {
		opts = append(opts, loader.WithConfig(s.configuration))
	}
	if s.instances > 0 {
		opts = append(opts, loader.WithInstances(s.instances))
	}
	return opts
}

// ready says that it serves.
func (s *server) ready(address string) error {
	m := s.plugin.About.Manifest
	line := []byte(escape.Line(fmt.Sprintf("serving %s %s at %s", m.Name, m.Version, address)))
	if s.metricsAddress != "" {
		line = append(line, "\n"+escape.Line("metrics at "+s.metricsAddress)...)
	}
	if s.json {
		scheme, _, _ := strings.Cut(address, ":")
		byTLS := scheme == "https" || scheme == "tls" || scheme == "mqtts" || scheme == "tcp" && s.tls != nil
		var err error
		if line, err = json.Marshal(&ready{m.Name, m.Version, address, byTLS, s.options.Token != "" && s.broker.url == "", s.metricsAddress}); err != nil {
			return err
		}
		line = escape.JSON(line)
	}
	_, err := s.out.Write(append(line, '\n'))
	return err
}

// until serves until ctx ends, and no longer than calls may go on then: nothing ends a function of a library in this process that does not return.
func (s *server) until(ctx context.Context, start func(context.Context) error) error {
	defer s.counts()()
	done := make(chan error, 1)
	go func() { done <- start(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return err
	case <-time.After(s.grace + grace):
		if s.handler != nil && s.handler.Running() == 0 {
			fmt.Fprintf(s.err, "ferrule: a client has not taken its answer, or not sent all of a call, in %v: its connection is closed\n", s.grace)
			return nil
		}
		fmt.Fprintf(s.err, "ferrule: a call has not ended in %v, nor in the %v after it was asked to: it is ended with this process\n", s.grace, grace)
		return nil
	}
}
