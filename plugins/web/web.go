// Package web shows a system of plug-ins as a page: what `ferrule top` shows on a terminal. The page is in the program, needs no network, and is read only.
//
// It tells names, versions, states, numbers of calls and errors, which may have paths in them, to everybody who reaches it: have the server listen on a loopback address, or
// put the handler behind what the application asks people for.
package web

import (
	"embed"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

//go:embed page.html page.css page.js
var files embed.FS

// pages are the paths that there are, but for stats.json.
var pages = map[string]struct{ file, kind string }{
	"/":         {"page.html", "text/html; charset=utf-8"},
	"/page.css": {"page.css", "text/css; charset=utf-8"},
	"/page.js":  {"page.js", "text/javascript; charset=utf-8"},
}

// policy lets the page have what comes with it, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// handler serves the page of one system.
type handler struct {
	sys   *plugins.System
	hosts map[string]bool
	wrong string // what Handler was given and cannot serve; every request is answered with it
}

// Option is one choice of a Handler's.
type Option func(*handler)

// Host has requests on a loopback address answered that ask for this name, or address: that of a proxy on the same machine, which passes it on. A port of it is not looked at. May be given more
// than once.
func Host(name string) Option { return func(h *handler) { h.hosts[normal(name)] = true } }

// normal is a name or an address as a request asks for it, in the one form in which two of them can be compared: without a port, a dot at the end, or brackets.
func normal(name string) string {
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if ip, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return ip.Unmap().String()
	}
	return name
}

// Handler returns what serves the page of a system at /, and its numbers at /stats.json, which is a monitor.Snapshot. It answers GET and HEAD alone, and changes nothing. To have it elsewhere than at
// the root of a server:
//
//	mux.Handle("/plugins/", http.StripPrefix("/plugins", web.Handler(sys)))
//
// It may serve any number of requests at the same time, before the system is started and after it is closed, too.
//
// Requests that come in on a loopback address have to ask for a name of that address, such as localhost, or one of Host: otherwise a page from anywhere could have its own name lead here, and
// read this one in the browser of who looks at both.
//
// Without a system, or with an option that is nil, every request is answered with status 500, and what is wrong.
func Handler(sys *plugins.System, opts ...Option) http.Handler {
	h := &handler{sys: sys, hosts: map[string]bool{}}
	if sys == nil {
		h.wrong = "web.Handler: found nil, expected a system"
	}
	for _, opt := range opts {
		if opt == nil {
			h.wrong = "web.Handler: found nil for an option, expected one that is made by a function of this package"
			continue
		}
		opt(h)
	}
	return h
}

// ServeHTTP answers a request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("Content-Security-Policy", policy)
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("X-Content-Type-Options", "nosniff")
	page, known := pages[r.URL.Path]
	switch {
	case !h.mayAsk(r):
		http.Error(w, "found another name than one of this machine in the request, expected localhost, or an address of it. Behind a proxy: web.Host", http.StatusMisdirectedRequest)
	case h.wrong != "":
		http.Error(w, h.wrong, http.StatusInternalServerError)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		head.Set("Allow", "GET, HEAD")
		http.Error(w, "found "+r.Method+", expected GET: nothing can be changed here", http.StatusMethodNotAllowed)
	case r.URL.Path == "/stats.json":
		text, err := json.Marshal(monitor.Take(h.sys))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		head.Set("Content-Type", "application/json")
		_, _ = w.Write(text)
	case known:
		text, err := files.ReadFile(page.file)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		head.Set("Content-Type", page.kind)
		_, _ = w.Write(text)
	default:
		http.NotFound(w, r)
	}
}

// mayAsk reports whether a request asks for a name that this server has.
func (h *handler) mayAsk(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !at.IP.IsLoopback() {
		return true
	}
	name := normal(r.Host)
	if h.hosts[name] {
		return true
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.IsLoopback()
	}
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
