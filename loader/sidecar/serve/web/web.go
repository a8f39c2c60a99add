// Package web serves a plug-in as an HTTP server, as rule W18 of docs/wire.md has it: to hosts (package loader/sidecar/web), and to whatever else speaks HTTP.
//
//	p, err := serve.File("vowels.so")
//	h, err := web.Open(p, web.Options{}, loader.WithInstances(4))
//	err = web.Serve(ctx, listener, h, 2*time.Second)
//
// It is apart from package serve because it brings net/http along.
package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve/numbers"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// Options are for serving. The zero value has no token, and the wire's own bounds.
type Options struct {
	Token   string       // what a request has to have as its Bearer token; "" asks for none
	MaxBody int64        // how long an input may be, in bytes; 0 is 256 MiB
	Calls   int          // how many there may run at a time, those that wait for an instance among them; 0 is 1024. Others are answered with 503
	Logger  *slog.Logger // for what the server has to say; nil is slog.Default

	Metrics *serve.Metrics // counts what is served, connections where Serve does; nil is the handler's own
}

// Handler is an http.Handler that serves an open plug-in:
//
//	POST /fn/NAME, /hook/NAME   a call: the input and the output are the bodies
//	GET  /ferrule/manifest      what the plug-in says of itself
//	GET  /ferrule/openapi.json  the same as a description of these paths, in OpenAPI 3.1
//	GET  /ferrule/metrics       calls and their times, in the text format of Prometheus
//	GET  /ferrule/health        whether calls are taken; it asks for no token
//
// A call is cancelled when its client goes away. A body has the type application/octet-stream, or the one that the function says of its input. A function that works on
// streams has none here: where it can do nothing without, it is answered with status 3.
//
// Where a request comes in on a loopback address, it has to ask for a name of that address, such as localhost; and a browser's that is for another page than one
// of this server is refused: otherwise any page could call the plug-in of who looks at it.
type Handler struct {
	guard
	options  Options
	plugin   *loader.Plugin
	manifest []byte
	openapi  []byte
	funcs    [2]map[string]*function // functions and hooks
	places   chan struct{}           // of calls that run, or wait for an instance
	bodies   chan struct{}           // of calls whose input comes, whose output goes, or that are between
	patience time.Duration

	mu     sync.Mutex
	closed bool
}

// function is one that can be called.
type function struct {
	*loader.Func
	kind, name string
	in, out    string // media types
	stream     bool   // it works on streams, which a request has not
	numbers    *numbers.Function
}

// guard keeps out who may not ask.
type guard struct {
	token   *[sha256.Size]byte // nil asks for none
	foreign *http.CrossOriginProtection
	metrics *serve.Metrics
}

func newGuard(o *Options) guard {
	g := guard{foreign: http.NewCrossOriginProtection(), metrics: o.Metrics}
	if o.Token != "" {
		token := sha256.Sum256([]byte(o.Token))
		g.token = &token
	}
	return g
}

// The types of bodies.
const (
	typeBytes = "application/octet-stream"
	typeText  = "text/plain; charset=utf-8"
	typeJSON  = "application/json"

	typeMetrics = "text/plain; version=0.0.4; charset=utf-8"
)

// statusCancelled is the HTTP status of a call that was cancelled, which net/http has no name for.
const statusCancelled = 499

// Open opens a plug-in with these options, and returns what serves it, until Close. The error is a *loader.OpenError: of a plug-in that imports host functions as well, which
// HTTP has no way for.
func Open(p serve.Plugin, o Options, opts ...loader.Option) (*Handler, error) {
	if p.About == nil {
		_, err := p.Open()
		return nil, err
	}
	if len(p.About.Imports) > 0 {
		var names []string
		for _, f := range p.About.Imports {
			names = append(names, f.Name)
		}
		return nil, &loader.OpenError{Path: p.About.Manifest.Name, Kind: loader.ErrMissingImport, Found: "imports: " + strings.Join(names, ", "),
			Expected: "none: HTTP has no way back to a host (rule W18 of docs/wire.md)", Remedy: "Serve it over a stream, such as a socket"}
	}
	if o.MaxBody == 0 {
		o.MaxBody = wire.MaxBody
	}
	if o.Calls == 0 {
		o.Calls = 1024
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Metrics == nil {
		o.Metrics = new(serve.Metrics)
	}
	o.Metrics.Of(p.About, true)
	plugin, err := p.Open(opts...)
	if err != nil {
		return nil, err
	}
	h := &Handler{guard: newGuard(&o), options: o, plugin: plugin, places: make(chan struct{}, o.Calls), bodies: make(chan struct{}, o.Calls+waiting), patience: patience}
	about := shown(p.About)
	h.manifest = wire.FormatManifest(about, false)
	for i, symbols := range [][]abi.Symbol{p.About.Funcs, p.About.Hooks} {
		h.funcs[i] = make(map[string]*function)
		kind, get := [...]string{"fn", "hook"}[i], plugin.Func
		if i == 1 {
			get = plugin.Hook
		}
		for _, symbol := range symbols {
			f, err := get(symbol.Name)
			if err != nil {
				_ = plugin.Close()
				return nil, err
			}
			own := &function{Func: f, kind: kind, name: symbol.Name, in: mediaType(symbol.In), out: mediaType(symbol.Out), stream: symbol.Stream != 0, numbers: o.Metrics.Function(numbers.Kind(i), symbol.Name)}
			h.funcs[i][symbol.Name] = own
		}
	}
	if h.openapi, err = describe(about, h.options, h.streams); err != nil {
		_ = plugin.Close()
		return nil, err
	}
	return h, nil
}

// shown is what is said of a plug-in here: without what HTTP does not have.
func shown(of *abi.Description) *abi.Description {
	about, manifest := *of, *of.Manifest
	manifest.State = ""
	manifest.Keys = slices.DeleteFunc(slices.Clone(manifest.Keys), func(kv abi.KeyValue) bool { return kv.Key == "state" })
	about.Manifest, about.Imports, about.Wants, about.ConfigSchema = &manifest, nil, nil, ""
	about.HasStart, about.HasStop, about.HasConfigure, about.HasSave, about.HasResume = false, false, false, false, false
	for _, symbols := range []*[]abi.Symbol{&about.Funcs, &about.Hooks} {
		*symbols = slices.Clone(*symbols)
		for i := range *symbols {
			s := &(*symbols)[i]
			s.Stream, s.Keys = 0, slices.DeleteFunc(slices.Clone(s.Keys), func(kv abi.KeyValue) bool { return kv.Key == "stream" })
		}
	}
	return &about
}

// mediaType is what a function says of its input or output, where that can be a body's type.
func mediaType(said string) string {
	if kind, _, err := mime.ParseMediaType(said); err == nil && strings.Contains(kind, "/") && !strings.Contains(kind, "*") {
		return kind
	}
	return typeBytes
}

// Close closes the plug-in, as loader.Plugin.Close does: it waits for calls. What comes afterwards is answered with 503.
func (h *Handler) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	return h.plugin.Close()
}

// Running returns how many calls run, or wait for an instance: those that are still to come in, and those whose outputs are on their way, are not among them.
func (h *Handler) Running() int { return len(h.places) }

// ServeHTTP is http.Handler's.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	if !h.admits(w, r) {
		return
	}
	if r.URL.Path == "/ferrule/health" {
		h.health(w, r)
		return
	}
	if !h.admitsCalls(w, r) {
		return
	}
	for i, prefix := range [...]string{"/fn/", "/hook/"} {
		name, ok := strings.CutPrefix(r.URL.Path, prefix)
		if !ok {
			continue
		}
		f := h.funcs[i][name]
		switch {
		case f == nil:
			h.refuse(w, http.StatusNotFound, "it has no such "+[...]string{"function", "hook"}[i]+": "+h.names(i))
		case r.Method != http.MethodPost:
			head.Set("Allow", "POST")
			h.refuse(w, http.StatusMethodNotAllowed, "found "+r.Method+", expected POST with the input as the body")
		default:
			h.call(w, r, f)
		}
		return
	}
	kind, text := "", []byte(nil)
	switch r.URL.Path {
	case "/ferrule/manifest":
		kind, text = typeJSON, h.manifest
	case "/ferrule/openapi.json":
		kind, text = typeJSON, h.openapi
	case "/ferrule/metrics":
		kind, text = typeMetrics, h.text()
	default:
		h.refuse(w, http.StatusNotFound, "found another path, expected /fn/NAME, /hook/NAME, or /ferrule/ with manifest, openapi.json, metrics or health")
		return
	}
	if h.reads(w, r) {
		answer(w, http.StatusOK, kind, text)
	}
}

// noStreams says what a function needs that HTTP has not.
const noStreams = "works on streams, which are not to be had by HTTP: have the plug-in served over a stream, such as a socket"

// streams reports whether a function, or a hook, works on streams.
func (h *Handler) streams(kind int, name string) bool { return h.funcs[kind][name].stream }

// names says which functions, or hooks, there are.
func (h *Handler) names(kind int) string {
	const most = 20
	all := slices.Sorted(maps.Keys(h.funcs[kind]))
	if len(all) == 0 {
		return "it has none"
	}
	text := "it has " + strings.Join(all[:min(most, len(all))], ", ")
	if more := len(all) - most; more > 0 {
		text += fmt.Sprintf(" and %d more, see /ferrule/manifest", more)
	}
	return text
}

// admits sets what every answer has, and reports whether a request may be looked at; otherwise it was answered.
func (g *guard) admits(w http.ResponseWriter, r *http.Request) bool {
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("X-Content-Type-Options", "nosniff")
	if !mayAsk(r) {
		g.refuse(w, http.StatusMisdirectedRequest, "found a request for another name than one of this machine, expected localhost, or an address of it")
		return false
	}
	if err := g.foreign.Check(r); err != nil {
		g.refuse(w, http.StatusForbidden, "found a request that a page from elsewhere has made, expected one of this server's, or of no page")
		return false
	}
	return true
}

// admitsCalls reports whether a request has the token; otherwise it was answered.
func (g *guard) admitsCalls(w http.ResponseWriter, r *http.Request) bool {
	if g.mayCall(r) {
		return true
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	g.refuse(w, http.StatusUnauthorized, "found no token, or a wrong one, expected Authorization: Bearer TOKEN")
	return false
}

// text is the numbers as they are now.
func (g *guard) text() []byte {
	var b bytes.Buffer
	_, _ = g.metrics.WriteTo(&b)
	return b.Bytes()
}

// reads reports whether a request only asks for something; otherwise it was answered.
func (g *guard) reads(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	g.refuse(w, http.StatusMethodNotAllowed, "found "+r.Method+", expected GET")
	return false
}

// answer answers a request with what is short.
func answer(w http.ResponseWriter, status int, kind string, body []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// give answers a call with its output, as fast as the client has to take it.
func (h *Handler) give(w http.ResponseWriter, kind string, out []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	control := http.NewResponseController(w)
	for sent := 0; ; {
		_ = control.SetWriteDeadline(time.Now().Add(h.patience)) // which is for the end of the answer as well, behind this function
		if sent == len(out) {
			return
		}
		n, err := w.Write(out[sent:min(len(out), sent+piece)])
		if sent += n; err != nil {
			return
		}
	}
}

// refuse answers a request that is no call.
func (g *guard) refuse(w http.ResponseWriter, status int, text string) {
	g.metrics.Refused.Add(status)
	answer(w, status, typeText, []byte(text+"\n"))
}

func (h *Handler) health(w http.ResponseWriter, r *http.Request) {
	if !h.reads(w, r) {
		return
	}
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		answer(w, http.StatusServiceUnavailable, typeText, []byte("closed\n"))
		return
	}
	answer(w, http.StatusOK, typeText, []byte("ok\n"))
}

// mayCall reports whether a request has the token.
func (g *guard) mayCall(r *http.Request) bool {
	if g.token == nil {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	said := sha256.Sum256([]byte(strings.TrimLeft(token, " ")))
	return subtle.ConstantTimeCompare(said[:], g.token[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// mayAsk reports whether a request asks for a name that this server has.
func mayAsk(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !at.IP.IsLoopback() {
		return true
	}
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if ip, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// What clients may take for a body, in either direction.
const (
	patience = 30 * time.Second // for each piece of it
	piece    = 64 << 10         // bytes
	waiting  = 256              // how many bodies there may be under way beside those of calls that run
)

// input reads a call's input; ok is false where the request was answered. What is read has room as it comes, whatever its length says.
func (h *Handler) input(w http.ResponseWriter, r *http.Request, f *function) (in []byte, ok bool) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != typeBytes && kind != f.in {
		types := typeBytes
		if f.in != typeBytes {
			types += " or " + f.in
		}
		h.refuse(w, http.StatusUnsupportedMediaType, fmt.Sprintf("found the Content-Type %q, expected %s", r.Header.Get("Content-Type"), types))
		return nil, false
	}
	long := func() {
		w.Header().Set("Connection", "close") // nobody reads the rest
		h.refuse(w, http.StatusRequestEntityTooLarge, "found an input that is too long, expected "+count.Of(h.options.MaxBody, "byte")+" at most")
	}
	if r.ContentLength > h.options.MaxBody {
		long()
		return nil, false
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		h.refuse(w, http.StatusUnsupportedMediaType, fmt.Sprintf("found Content-Encoding: %.40q, expected an input as it is", coding))
		return nil, false
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{}) // the answer before had one, and reading may write: 100 Continue
	body := http.MaxBytesReader(w, r.Body, h.options.MaxBody)
	if n := r.ContentLength; n > 0 {
		in = make([]byte, 0, min(n, 64<<10)+1)
	}
	for due := 0; ; {
		if len(in) >= due { // otherwise the piece before is not there yet
			_ = control.SetReadDeadline(time.Now().Add(h.patience))
			due = len(in) + piece
		}
		in = slices.Grow(in, 512)
		n, err := body.Read(in[len(in):cap(in)])
		in = in[:len(in)+n]
		var tooLong *http.MaxBytesError
		switch {
		case err == nil:
			continue
		case err == io.EOF:
			_ = control.SetReadDeadline(time.Time{})
			return in, true
		case errors.As(err, &tooLong):
			long()
		default:
			w.Header().Set("Connection", "close")
			h.refuse(w, http.StatusBadRequest, "found a body that breaks off, expected the whole input")
		}
		return nil, false
	}
}

// takes takes a place; without one the request was answered.
func (h *Handler) takes(w http.ResponseWriter, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
		w.Header().Set("Retry-After", "1")
		h.refuse(w, http.StatusServiceUnavailable, "found "+count.Of(cap(places), "call")+", expected fewer: there may be no more at a time. Try again")
		return false
	}
}

// run runs a call that has a place, which is free then.
func (h *Handler) run(ctx context.Context, f *function, in []byte) ([]byte, error) {
	defer func() { <-h.places }()
	return f.Append(ctx, nil, in)
}

// call answers a call.
func (h *Handler) call(w http.ResponseWriter, r *http.Request, f *function) {
	ctx := r.Context()
	if text := r.Header.Get("Ferrule-Timeout"); text != "" {
		ms, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			h.refuse(w, http.StatusBadRequest, "found a Ferrule-Timeout that is no number, expected milliseconds")
			return
		}
		if ms > 0 {
			limited, cancel := context.WithTimeout(ctx, time.Duration(min(ms, 1<<40))*time.Millisecond)
			defer cancel()
			ctx = limited
		}
	}
	if parent := r.Header.Get(loader.TraceParent); parent != "" && utf8.ValidString(parent) {
		ctx = loader.WithInfo(ctx, loader.TraceParent, parent)
	}
	if !h.takes(w, h.bodies) {
		return
	}
	defer func() { <-h.bodies }()
	in, ok := h.input(w, r, f)
	if !ok || !h.takes(w, h.places) { // a client that is slow keeps no other out
		return
	}
	f.numbers.Took(len(in))
	begun := f.numbers.Begin()
	out, err := h.run(ctx, f, in)
	if err == nil {
		f.numbers.Gave(len(out))
		f.numbers.End(begun, abi.StatusOK)
		h.give(w, f.out, out)
		return
	}
	if errors.Is(err, loader.ErrCrash) && !errors.Is(err, loader.ErrSuspended) { // to the client it is a status and a message
		h.options.Logger.Error(err.Error())
	}
	status, message, _ := serve.Answer(err)
	if f.stream && status == abi.StatusUnsupported {
		if len(message) > 0 {
			message = append(message, ". "...)
		}
		message = append(message, "The function "+noStreams...)
	}
	message = []byte(strings.ToValidUTF8(string(message), "\uFFFD"))
	f.numbers.Gave(len(message))
	f.numbers.End(begun, status)
	switch {
	case errors.Is(err, loader.ErrClosed):
		answer(w, http.StatusServiceUnavailable, typeText, []byte("it is ending\n"))
	case status == abi.StatusCancelled:
		answer(w, statusCancelled, typeText, message)
	default:
		w.Header().Set("Ferrule-Status", strconv.Itoa(int(status)))
		answer(w, http.StatusUnprocessableEntity, typeText, message)
	}
}

// Metrics returns what serves these metrics alone, with the token, the bounds and the refusals that a Handler has:
//
//	GET  /metrics, /ferrule/metrics   the numbers, in the text format of Prometheus
//	GET  /ferrule/health              that it serves; it asks for no token
//
// It is for what is served by another way than HTTP, or at an address of its own. What it refuses it counts in no metrics.
func Metrics(m *serve.Metrics, o Options) http.Handler {
	o.Metrics = new(serve.Metrics)
	g := newGuard(&o)
	shown := guard{metrics: m}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !g.admits(w, r):
		case r.URL.Path == "/ferrule/health":
			if g.reads(w, r) {
				answer(w, http.StatusOK, typeText, []byte("ok\n"))
			}
		case !g.admitsCalls(w, r):
		case r.URL.Path != "/metrics" && r.URL.Path != "/ferrule/metrics":
			g.refuse(w, http.StatusNotFound, "found another path, expected /metrics, /ferrule/metrics or /ferrule/health")
		case g.reads(w, r):
			answer(w, http.StatusOK, typeMetrics, shown.text())
		}
	})
}

// ServeMetrics serves Metrics to whoever connects to l, until ctx ends. Then it closes the listener, and returns nil. Otherwise it returns the listener's error.
func ServeMetrics(ctx context.Context, l net.Listener, m *serve.Metrics, o Options) error {
	server := newServer(Metrics(m, o), &o)
	server.ReadTimeout = patience // there is no body
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

func newServer(h http.Handler, o *Options) *http.Server {
	logger := o.Logger
	if logger == nil {
		logger = slog.Default()
	}
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug)}
}

// Serve serves h to whoever connects to l, until ctx ends. Then it closes the listener, lets calls end that run, for as long as grace, asks them to stop then, and returns nil. Meanwhile
// each answer is its connection's last one, and says so; a connection that is idle for a quarter of grace, or a second, is closed. Otherwise it returns the listener's error. The plug-in stays open.
func Serve(ctx context.Context, l net.Listener, h *Handler, grace time.Duration) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var leaves atomic.Bool
	server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l := &last{ResponseWriter: w, leaves: &leaves}
		h.ServeHTTP(l, r)
		l.begin() // an answer without a body
	}), &h.options)
	server.BaseContext = func(net.Listener) context.Context { return running }
	var mu sync.Mutex
	ends, ended := make(map[net.Conn]func()), make(chan struct{}, 1) // of connections that are open
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew:
			ends[conn] = h.metrics.Connections.Begin()
		case http.StateClosed, http.StateHijacked:
			if end := ends[conn]; end != nil {
				end()
				delete(ends, conn)
			}
			select {
			case ended <- struct{}{}:
			default:
			}
		}
	}
	over := make(chan error, 1)
	go func() { over <- server.Serve(l) }()
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	leaves.Store(true)
	_ = l.Close()
	// Who is between two requests may be sending one: each connection has an answer that says that it is the last one, before those that are idle are closed.
	for idle := time.After(min(grace/4, lingers)); ; {
		mu.Lock()
		open := len(ends)
		mu.Unlock()
		if open == 0 {
			break
		}
		select {
		case <-ended:
			continue
		case <-idle:
		}
		break
	}
	if server.Shutdown(within) != nil {
		stop()
		// For what calls say about it. Where none runs, clients are left that do not read, or do not send: for them was time enough.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		for h.Running() > 0 && last.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		answered, cancel := context.WithTimeout(last, 400*time.Millisecond)
		defer cancel()
		_ = server.Shutdown(answered)
		_ = server.Close()
	}
	return nil
}

// lingers is how long a client's connection that is idle stays open at most when the server ends.
const lingers = time.Second

// last says in an answer that it is its connection's last one, when the server ends.
type last struct {
	http.ResponseWriter
	leaves *atomic.Bool
	begun  bool
}

// begin begins an answer that has not begun.
func (l *last) begin() {
	if !l.begun {
		l.WriteHeader(http.StatusOK)
	}
}

// Write is http.ResponseWriter's.
func (l *last) Write(b []byte) (int, error) {
	l.begin()
	return l.ResponseWriter.Write(b)
}

// WriteHeader is http.ResponseWriter's.
func (l *last) WriteHeader(status int) {
	l.begun = true
	if l.leaves.Load() {
		l.Header().Set("Connection", "close")
	}
	l.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (l *last) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// text is JSON that is indented.
func text(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}
