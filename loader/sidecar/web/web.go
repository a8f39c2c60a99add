// Package web opens plug-ins that are HTTP servers, as rule W18 of docs/wire.md has it. It is apart from package sidecar because it brings net/http along.
//
//	p, err := loader.Open("http://localhost:8080", web.Server())
//
// http:, https: and http+unix:PATH are its URLs. Such a plug-in has no state that a host could give it, no host functions, no streams, no log lines and no
// sessions of its own: one that has imports or services is refused. Calls are requests, over connections that are kept open. Where no answer comes, the
// call fails with a *loader.CrashError. Where all connections were gone, another server may be there by now: the next call asks for its manifest first, and fails
// with a *loader.OpenError where that is another one.
package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/sidecar/internal/reach"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// Option is one choice of Server's and Engine's; see the With… functions. Each is given once. What is wrong with one is a *loader.OpenError of the kind
// loader.ErrOption, which Open returns.
type Option func(*options) error

type options struct {
	token      string
	tls        *tls.Config
	maxMessage int64
	start      time.Duration
	given      engine.Given
}

// Server has loader.Open take a URL as a plug-in that is an HTTP server: it is loader.WithEngine of Engine.
func Server(opts ...Option) loader.Option { return loader.WithEngine(Engine(opts...)) }

// Engine returns an engine for loader.WithEngine that opens http:, https: and http+unix: URLs, beside engines for other plug-ins.
func Engine(opts ...Option) engine.Engine {
	e := &webEngine{options: options{maxMessage: wire.MaxBody, start: 30 * time.Second, given: engine.Given{By: by}}}
	e.fault = engine.Take(&e.given, &e.options, opts)
	return e
}

// by is the package's name, as errors have it.
const by = "web"

func faulty(option, found, expected string) error {
	return (&engine.Given{By: by}).Faulty(option, found, expected)
}

func once(name string, set func(*options) error) Option {
	return func(o *options) error {
		if err := o.given.Once(name); err != nil {
			return err
		}
		return set(o)
	}
}

// WithToken sets the token of the field Authorization: printable ASCII.
func WithToken(token string) Option {
	return once("WithToken", func(o *options) error {
		o.token = token
		return sendable(token)
	})
}

func sendable(token string) error {
	if token == "" || len(token) > 1024 || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return faulty("WithToken", "a token that cannot be sent", "1 to 1024 printable ASCII characters, none of which is a space")
	}
	return nil
}

// WithTLS sets how https: is spoken, such as by which authorities and with which certificate of this process's. config is not changed.
func WithTLS(config *tls.Config) Option {
	return once("WithTLS", func(o *options) error {
		if config == nil {
			return faulty("WithTLS", "nil", "a configuration")
		}
		o.tls = config.Clone()
		return nil
	})
}

// WithMaxMessage sets how long an input or an output may be, in bytes; without it 256 MiB. What is longer fails its call with loader.ErrNoMemory.
func WithMaxMessage(n int64) Option {
	return once("WithMaxMessage", func(o *options) error {
		o.maxMessage = n
		if n < 1 || n > math.MaxInt32 {
			return faulty("WithMaxMessage", fmt.Sprint(n), "1 to 2147483647")
		}
		return nil
	})
}

// WithStartTimeout sets how long Open waits for the manifest; without it 30 seconds. d is more than 0.
func WithStartTimeout(d time.Duration) Option {
	return once("WithStartTimeout", func(o *options) error {
		o.start = d
		if d <= 0 {
			return faulty("WithStartTimeout", d.String(), "more than 0")
		}
		return nil
	})
}

type webEngine struct {
	options
	fault error
}

// Name is engine.Engine's.
func (e *webEngine) Name() string { return "web.Engine" }

// Words is engine.Engine's.
func (e *webEngine) Words() engine.Words {
	return engine.Words{Kind: "HTTP servers", Twice: "Give it once, with all its options", Overdue: "its request was given up",
		Import: "imports: ", Start: wire.Start, Starting: "the server"}
}

// Fault is engine.Engine's.
func (e *webEngine) Fault() error { return e.fault }

// Recognises is engine.Engine's.
func (e *webEngine) Recognises(f *engine.File) bool {
	scheme, _, ok := strings.Cut(f.Path, ":")
	return ok && (scheme == "http" || scheme == "https" || scheme == "http+unix")
}

// Reach is engine.Reaching's.
func (e *webEngine) Reach(a engine.Access) (engine.Engine, error) {
	own := &webEngine{options: e.options, fault: e.fault}
	if a.Token != "" {
		if err := sendable(a.Token); err != nil {
			return nil, err
		}
		own.token = a.Token
	}
	if a.CA != nil {
		if own.tls = e.tls.Clone(); own.tls == nil {
			own.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if own.tls.RootCAs = x509.NewCertPool(); !own.tls.RootCAs.AppendCertsFromPEM(a.CA) {
			return nil, faulty("WithTLS", "no certificate of an authority", "one, as PEM")
		}
	}
	return own, nil
}

// Open is engine.Engine's.
func (e *webEngine) Open(ctx context.Context, f *engine.File, o *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	if o.SHA256 != nil {
		return nil, nil, &inspect.Error{Path: f.Path, Kind: loader.ErrOption, Found: "WithSHA256 for a URL", Expected: "no digest: there is no file", Remedy: "Leave it out"}
	}
	s, err := e.server(f.Path)
	if err != nil {
		return nil, nil, err
	}
	about, err := s.manifest(ctx)
	if err != nil {
		s.client.CloseIdleConnections()
		return nil, nil, err
	}
	s.about, s.is = about, wire.FormatManifest(about, false)
	s.sure.Store(s.first.Load())
	host, err := accept(about)
	if err != nil {
		s.client.CloseIdleConnections()
		return nil, nil, err
	}
	p, err := pool.Open(ctx, &pool.Code{About: about, Call: s.call}, host, o)
	if err != nil {
		s.client.CloseIdleConnections()
		return nil, nil, err
	}
	return &plugin{p, s}, about, nil
}

// plugin is an open one.
type plugin struct {
	*pool.Pool
	server *server
}

// Close is engine.Plugin's.
func (p *plugin) Close() error {
	err := p.Pool.Close()
	p.server.client.CloseIdleConnections()
	return err
}

// Shutdown is engine.Plugin's.
func (p *plugin) Shutdown(ctx context.Context) error {
	err := p.Pool.Shutdown(ctx)
	p.server.client.CloseIdleConnections()
	return err
}

// server is what is spoken to.
type server struct {
	*options
	path   string // as the host gave it
	base   string
	client *http.Client
	about  *abi.Description
	is     []byte // the manifest of about, as it was when the plug-in was opened

	connections atomic.Int64  // that are open
	first       atomic.Int64  // how often one was made while there was none: another server may be there since
	sure        atomic.Int64  // the value of first since which the server is known to be the one that was opened
	asking      chan struct{} // has one thing in it while a call asks what it is
}

// connection is one that is counted until it is closed.
type connection struct {
	net.Conn
	closed func()
}

// Close is net.Conn's.
func (c *connection) Close() error {
	c.closed()
	return c.Conn.Close()
}

// counted counts the connections that dial makes.
func (s *server) counted(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if s.connections.Add(1) == 1 {
			s.first.Add(1)
		}
		return &connection{c, sync.OnceFunc(func() { s.connections.Add(-1) })}, nil
	}
}

// same makes sure that the server is the one that was opened, where another one may be there. The error is an *inspect.Error, or the context's.
func (s *server) same(ctx context.Context) error {
	if s.sure.Load() == s.first.Load() {
		return nil
	}
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	before := s.first.Load()
	if s.sure.Load() == before {
		return nil
	}
	about, err := s.manifest(ctx)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(wire.FormatManifest(about, false), s.is):
		return &inspect.Error{Path: s.path, Kind: loader.ErrLoad, Found: "a server that says something else of itself than when it was opened", Expected: "the same manifest",
			Remedy: "Close the plug-in and open it again, where the server was replaced"}
	}
	if now := s.first.Load(); now <= before+1 { // one may have been made to ask
		s.sure.Store(now)
	}
	return nil
}

// idle is how many connections are kept open.
const idle = 64

// server makes one of a URL.
func (e *webEngine) server(path string) (*server, error) {
	transport := &http.Transport{MaxIdleConns: idle, MaxIdleConnsPerHost: idle, IdleConnTimeout: 90 * time.Second, TLSClientConfig: e.tls, DisableCompression: true,
		TLSHandshakeTimeout: 10 * time.Second} // no proxy of the environment's: the URL is where the plug-in is
	s := &server{options: &e.options, path: path, asking: make(chan struct{}, 1), base: strings.TrimSuffix(path, "/"), client: &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	transport.DialContext = s.counted((&net.Dialer{}).DialContext)
	if socket, ok := strings.CutPrefix(path, "http+unix:"); ok {
		socket = strings.TrimPrefix(socket, "//")
		transport.DialContext = s.counted(func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		})
		s.base = "http://localhost"
		if socket != "" {
			return s, nil
		}
	} else if u, err := url.Parse(path); err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" {
		return s, nil
	}
	return nil, &inspect.Error{Path: path, Kind: loader.ErrOption, Found: "a URL that is not as it has to be", Expected: "http://HOST:PORT, https://HOST:PORT or http+unix:PATH, without a query",
		Remedy: "Correct it; a token is for web.WithToken"}
}

// manifest asks the server what it is.
func (s *server) manifest(ctx context.Context) (*abi.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, s.start)
	defer cancel()
	unread := func(found string, err error, remedy string) error {
		return &inspect.Error{Path: s.path, Kind: loader.ErrRead, Found: found, Err: err, Expected: "a manifest (rule W18 of docs/wire.md)", Remedy: remedy}
	}
	answer, err := s.ask(ctx, http.MethodGet, "/ferrule/manifest", nil)
	if err != nil {
		if certificate := (*tls.CertificateVerificationError)(nil); errors.As(err, &certificate) {
			return nil, &inspect.Error{Path: s.path, Kind: loader.ErrRead, Found: "a certificate that does not count: " + certificate.Unwrap().Error(), Err: err, Expected: "one of this host, signed by an authority that does",
				Remedy: "Name who has signed it (web.WithTLS; in config.yaml: ca), or check the address"}
		}
		if reach.Connecting(err) || reach.Timeout(err) {
			found, remedy := reach.Failed("server", err)
			return nil, unread(found, err, remedy)
		}
		return nil, unread("something that is no answer by HTTP, or by TLS where that is spoken ("+reach.Cause(err)+")", err, "Check the address: its scheme, and what listens there")
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, unread("a server that refuses the token, or asks for one", nil, "Give its token with web.WithToken")
	default:
		return nil, unread("the HTTP status "+answer.Status, nil, "Check the address")
	}
	if why := unreadable(answer); why != "" {
		return nil, unread("a manifest "+why, nil, "Correct the server, or check the address")
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, wire.MaxManifest+1))
	switch {
	case endless(answer):
		return nil, unread(saysNoLength, nil, "Have the server send Content-Length, or chunks")
	case err != nil:
		return nil, unread("a manifest that breaks off", err, "See what the server says")
	case len(body) > wire.MaxManifest:
		return nil, unread("a manifest of more than 1 MiB", nil, "Check the address")
	}
	about, err := wire.ParseManifest(body)
	if err != nil {
		return nil, &inspect.Error{Path: s.path, Kind: loader.ErrMalformed, Found: "a manifest that breaks the wire", Err: err, Expected: "one as docs/wire.md has it", Remedy: "Correct the server, or check the address"}
	}
	var more []string
	for _, of := range []struct {
		has  bool
		what string
	}{{len(about.Imports) > 0, "imports"}, {about.HasStart, "the service start"}, {about.HasStop, "the service stop"}, {about.HasConfigure, "the service configure"},
		{about.HasSave || about.HasResume, "the services save and resume"}} {
		if of.has {
			more = append(more, of.what)
		}
	}
	if len(more) > 0 {
		return nil, &inspect.Error{Path: s.path, Kind: loader.ErrLoad, Found: "a plug-in with " + strings.Join(more, " and "), Expected: "one without: HTTP has no way back to the host (rule W18 of docs/wire.md)",
			Remedy: "Reach it by unix: or tcp: (package sidecar), which have"}
	}
	for _, symbols := range [][]abi.Symbol{about.Funcs, about.Hooks} {
		for i := range symbols {
			symbols[i].Stream = 0
		}
	}
	return about, nil
}

// endless reports whether an answer's body ends where the connection does: nobody sees that such a one was cut off.
func endless(answer *http.Response) bool {
	return answer.ProtoMajor == 1 && answer.ContentLength < 0 && len(answer.TransferEncoding) == 0
}

const saysNoLength = "an answer that does not say how long it is"

func (s *server) ask(ctx context.Context, method, path string, in []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.base+path, nil)
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(in)), int64(len(in))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(in)), nil }
		if len(in) == 0 {
			r.Body = http.NoBody
		}
		r.Header.Set("Content-Type", "application/octet-stream")
		if at, ok := ctx.Deadline(); ok {
			r.Header.Set("Ferrule-Timeout", strconv.FormatInt(max(1, int64((time.Until(at)+time.Millisecond-1)/time.Millisecond)), 10))
		}
	}
	if c, ok := ctx.(*pool.Call); ok {
		parent, status := c.Host(c, engine.Info, []byte(loader.TraceParent))
		if status == abi.StatusOK && !bytes.ContainsFunc(parent, func(c rune) bool { return c < ' ' || c > '~' }) { // what is none is not sent
			r.Header.Set(loader.TraceParent, string(parent))
		}
	}
	r.Header.Set("Accept-Encoding", "identity")
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	return s.client.Do(r)
}

// call is pool.Code's Call.
func (s *server) call(c *pool.Call, fn int, dst, in []byte) ([]byte, abi.Status, error) {
	if int64(len(in)) > s.maxMessage {
		return nil, 0, &engine.TooLong{Text: "the input is longer than the longest message (web.WithMaxMessage)"}
	}
	path := "/fn/"
	symbols := s.about.Funcs
	if n := len(symbols); fn >= n {
		path, symbols, fn = "/hook/", s.about.Hooks, fn-n
	}
	if err := s.same(c); err != nil {
		return s.unknown(c, dst, err)
	}
	// The request's goroutines may use the input for a moment after the call; it is the caller's.
	answer, err := s.ask(c, http.MethodPost, path+symbols[fn].Name, bytes.Clone(in))
	if err != nil {
		return s.failed(c, dst, err)
	}
	defer answer.Body.Close()
	if why := unreadable(answer); why != "" {
		return nil, 0, s.crash("answering " + why)
	}
	out, err := s.read(dst, answer)
	if err != nil {
		if _, long := err.(*engine.TooLong); long {
			return nil, 0, err
		}
		return s.failed(c, dst, err)
	}
	if endless(answer) {
		return nil, 0, s.crash("giving " + saysNoLength + " (rule W18 of docs/wire.md)")
	}
	switch answer.StatusCode {
	case http.StatusOK:
		return out, abi.StatusOK, nil
	case http.StatusUnprocessableEntity:
		if n, ok := wire.Number([]byte(answer.Header.Get("Ferrule-Status"))); ok && n > 0 && n <= math.MaxInt32 {
			return out, abi.Status(n), nil
		}
	case http.StatusNotFound:
		return append(dst, "the server has no such function"...), abi.StatusUnsupported, nil
	case 499:
		return out, abi.StatusCancelled, nil
	case http.StatusServiceUnavailable:
		return append(dst, "the server has no room for the call now"...), abi.StatusNoMemory, nil
	case http.StatusRequestEntityTooLarge:
		return append(dst, "the input is longer than the server takes"...), abi.StatusNoMemory, nil
	}
	reason := "answering with the HTTP status " + answer.Status
	if kind, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type")); err == nil && kind == "text/plain" {
		reason += ": " + strings.TrimSpace(strings.ToValidUTF8(string(out[len(dst):][:min(len(out)-len(dst), 200)]), "\uFFFD"))
	}
	return nil, 0, s.crash(reason)
}

// unreadable says why an answer's body is none that can be taken (rule W18); "" for one that is.
func unreadable(answer *http.Response) string {
	coding := answer.Header.Get("Content-Encoding")
	switch {
	case answer.StatusCode == http.StatusSwitchingProtocols: // its body is the connection, which ends with no context
		return "with the HTTP status " + answer.Status
	case coding != "" && !strings.EqualFold(coding, "identity"):
		return fmt.Sprintf("with Content-Encoding: %.40q, expected a body as it is", coding)
	}
	return ""
}

// read appends an answer's body to dst.
func (s *server) read(dst []byte, answer *http.Response) ([]byte, error) {
	tooLong := &engine.TooLong{Text: "the output is longer than the longest message (web.WithMaxMessage)"}
	if answer.ContentLength > s.maxMessage {
		return dst, tooLong
	}
	out := bytes.NewBuffer(dst)
	n, err := io.Copy(out, io.LimitReader(answer.Body, s.maxMessage+1))
	switch {
	case err != nil:
		return dst, err
	case n > s.maxMessage:
		return dst, tooLong
	}
	return out.Bytes(), nil
}

// unknown is what becomes of a call where the server did not say that it is the one that was opened.
func (s *server) unknown(c *pool.Call, dst []byte, err error) ([]byte, abi.Status, error) {
	other, ok := errors.AsType[*inspect.Error](err)
	switch {
	case !ok || other.Kind == loader.ErrRead && other.Err != nil:
		if ok {
			err = other.Err
		}
		return s.failed(c, dst, err)
	case other.Kind == loader.ErrRead:
		return nil, 0, s.crash("asked what it is, with " + other.Found)
	}
	return nil, 0, err
}

// failed is what has become of a call that has no answer.
func (s *server) failed(c *pool.Call, dst []byte, err error) ([]byte, abi.Status, error) {
	if c.Err() != nil {
		return dst, abi.StatusCancelled, nil
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // its text repeats the address
	}
	return nil, 0, s.crash("not reached, or gone before it had answered: " + err.Error())
}

func (s *server) crash(reason string) *engine.Crash {
	return &engine.Crash{Subject: "the server at " + s.path, Code: -1, Reason: reason, Attempt: 1}
}
