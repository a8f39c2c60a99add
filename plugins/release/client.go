package release

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/plugins/internal/layout"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// limits bound what a server can make of one request.
type limits struct {
	connect  time.Duration // to a connection
	answer   time.Duration // to the answer's header, with the connection
	idle     time.Duration // in which pace bytes come
	pace     int64
	text     time.Duration // for all of a small file
	headers  int64         // bytes
	hops     int           // redirects
	tries    int           // of one request
	backoff  time.Duration // before the second try; then twice as long each time
	patience time.Duration // the longest wait that a server may ask for
}

var usual = limits{connect: 15 * time.Second, answer: 30 * time.Second, idle: 30 * time.Second, pace: 8 << 10, text: time.Minute, headers: 64 << 10,
	hops: 10, tries: 5, backoff: 500 * time.Millisecond, patience: 2 * time.Minute}

// client is the layout.Fetcher of pages at one origin.
type client struct {
	limits
	origin *url.URL
	http   *http.Client

	mu   sync.Mutex
	own  *secret           // nil as long as nothing was asked
	tags map[string]string // the strong entity tag that an address had
}

func newClient(origin *url.URL) *client {
	c := &client{limits: usual, origin: origin, tags: map[string]string{}}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: c.connect, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:    c.connect,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // net/http would inflate whatever comes
			MaxResponseHeaderBytes: c.headers,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // see follow
	}
	return c
}

// secret is what the origin is told. It is looked for at the first request, since a host whose lock and store are met makes none.
func (c *client) secret() (secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil {
		s, err := credentials(c.origin)
		if err != nil {
			return s, err
		}
		c.own = &s
	}
	return *c.own, nil
}

// show is an address without what may be secret in it.
func show(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

func refused(kind error, found, expected, remedy string) *registry.Error {
	return &registry.Error{Kind: kind, Found: found, Expected: expected, Remedy: remedy}
}

// get asks for an address, again where another try may do. The caller closes the body.
func (c *client) get(ctx context.Context, address string, header http.Header) (*http.Response, []string, error) {
	for try := 1; ; try++ {
		resp, hops, err := c.follow(ctx, address, header)
		wait, again := c.again(ctx, resp, err)
		if !again {
			return resp, hops, err
		}
		if resp != nil {
			err = c.status(resp)
			c.body(resp, -1, 0).drop()
		}
		if try >= c.tries {
			return nil, hops, err
		}
		if wait < 0 {
			wait = time.Duration(rand.Int64N(int64(min(c.backoff<<(try-1), 30*time.Second)) + 1)) // full jitter
		} else {
			wait += time.Duration(rand.Int64N(int64(min(wait/4, 5*time.Second)) + 1)) // not all of a fleet at the same second
		}
		if end, ok := ctx.Deadline(); wait > c.patience || ok && time.Until(end) < wait {
			e, _ := errors.AsType[*registry.Error](err)
			late := *e
			late.Found = fmt.Sprintf("%s, to be asked again in %s", e.Found, sentence.Wait(wait, time.Second))
			return nil, hops, &late
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, hops, &registry.Error{Kind: registry.ErrUnavailable, Err: context.Cause(ctx)}
		}
	}
}

// again reports whether a request is worth another try, and when: wait is what the server asks for, less than 0 where it does not say.
func (c *client) again(ctx context.Context, resp *http.Response, err error) (wait time.Duration, again bool) {
	if err != nil {
		e, ok := errors.AsType[*registry.Error](err)
		return -1, ok && ctx.Err() == nil && e.Kind == registry.ErrUnavailable && e.Remedy == "" // a remedy is what has to be done first
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return asked(resp.Header), true
	case http.StatusForbidden: // the way in which some say that there were too many
		if !limited(resp.Header) {
			return 0, false
		}
		return asked(resp.Header), true
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		return asked(resp.Header), true
	}
	return 0, false
}

// limited reports whether an answer is about the number of requests.
func limited(h http.Header) bool {
	return h.Get("Retry-After") != "" || h.Get("X-RateLimit-Remaining") == "0" || h.Get("RateLimit-Remaining") == "0"
}

// asked is how long a server wants to be left alone: less than 0 where it does not say.
func asked(h http.Header) time.Duration {
	const most = int64(1e9) // seconds: what is more overflows
	if text := h.Get("Retry-After"); text != "" {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
			return time.Duration(min(n, most)) * time.Second
		}
		if at, err := http.ParseTime(text); err == nil {
			return max(time.Until(at), 0)
		}
	}
	if n, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64); err == nil && n > 0 && h.Get("X-RateLimit-Remaining") == "0" {
		return max(min(time.Until(time.Unix(n, 0)), time.Duration(most)*time.Second), 0)
	}
	return -1
}

// follow asks for an address and goes where it is sent. hops are the addresses after the first one.
func (c *client) follow(ctx context.Context, address string, header http.Header) (*http.Response, []string, error) {
	at, err := url.Parse(address)
	if err != nil {
		return nil, nil, refused(registry.ErrMalformed, "an address that is none", "https:// or http://, a host and a path", "Correct registry.url")
	}
	secret, err := c.secret()
	if err != nil {
		return nil, nil, err
	}
	seen := map[string]bool{}
	var hops []string
	for {
		seen[at.String()] = true
		req := (&http.Request{Method: http.MethodGet, URL: at, Header: header.Clone(), Host: at.Host}).WithContext(ctx)
		req.Header.Set("User-Agent", "ferrule")
		if secret.header != "" && at.Scheme == c.origin.Scheme && at.Host == c.origin.Host {
			req.Header.Set("Authorization", secret.header)
		}
		timer, slow, cancel := c.header(ctx)
		resp, err := c.http.Do(req.WithContext(slow))
		if !timer.Stop() && err == nil {
			resp.Body.Close()
			err = errSilent
		}
		if err != nil {
			e := failed(slow, at, err)
			cancel(nil)
			return nil, hops, e
		}
		switch resp.StatusCode {
		default:
			return resp, hops, nil
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		}
		c.body(resp, -1, 0).drop()
		to, err := at.Parse(resp.Header.Get("Location"))
		if err != nil || resp.Header.Get("Location") == "" {
			return nil, hops, refused(registry.ErrMalformed, "a redirect from "+show(at)+" to no address", "a Location", "")
		}
		to.User, to.Fragment = nil, ""
		switch {
		case to.Scheme == "http" && at.Scheme == "https":
			return nil, hops, refused(registry.ErrMalformed, "a redirect from "+show(at)+" to http://"+to.Host, "one that stays with https", "Tell the page's owner")
		case to.Scheme != "http" && to.Scheme != "https" || to.Host == "":
			return nil, hops, refused(registry.ErrMalformed, "a redirect from "+show(at)+" to "+layout.Short(to.Scheme+":…"), "one to https", "Tell the page's owner")
		case seen[to.String()]:
			return nil, hops, refused(registry.ErrMalformed, "redirects in a circle, by "+show(to), "a file at their end", "Tell the page's owner; it may want you to log in")
		case len(hops) >= c.hops:
			return nil, hops, refused(registry.ErrMalformed, fmt.Sprintf("more than %d redirects", c.hops), "a file at their end", "Tell the page's owner")
		}
		hops, at = append(hops, to.String()), to
	}
}

var (
	errSilent = errors.New("no answer came in time")
	errSlow   = errors.New("the bytes came too slowly")
)

// header is a context for a request, which ends where no header comes in time; stopped in time, it lasts on with the body.
func (c *client) header(ctx context.Context) (*time.Timer, context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	return time.AfterFunc(c.answer, func() { cancel(errSilent) }), context.WithValue(ctx, cancelKey{}, cancel), cancel
}

// cancelKey has what ends a request's context.
type cancelKey struct{}

// failed is a request's error in the words of a source. What net/http says has the address in it, and with it what may be secret: only its cause is kept.
func failed(ctx context.Context, at *url.URL, err error) *registry.Error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	e := &registry.Error{Kind: registry.ErrUnavailable, Err: err}
	if cause := context.Cause(ctx); cause != nil {
		e.Err = cause
		return e
	}
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	text := err.Error()
	dns, _ := errors.AsType[*net.DNSError](err)
	switch {
	case dns != nil && dns.IsNotFound:
		e.Remedy = "Look at the host of registry.url"
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid):
		e.Kind, e.Remedy = registry.ErrRefused, "Look at the certificates of "+at.Host+" and of this machine, and at its clock"
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		e.Kind, e.Err = registry.ErrMalformed, nil
		e.Found, e.Expected, e.Remedy = "an answer of "+at.Host+" in plain HTTP", "TLS", "Write http:// if that is meant"
	case strings.Contains(text, "malformed HTTP"), strings.Contains(text, "malformed MIME"), strings.Contains(text, "invalid header"), strings.Contains(text, "1xx"):
		e.Kind, e.Err = registry.ErrMalformed, nil // the error has what the server sent
		e.Found, e.Expected, e.Remedy = "an answer of "+at.Host+" that is no HTTP", "a release page", "Look at the host and the port of registry.url"
	case strings.Contains(text, "response headers exceeded"), strings.Contains(text, "header list"):
		e.Kind, e.Err = registry.ErrMalformed, nil
		e.Found, e.Expected = "an answer of "+at.Host+" with a longer header than one has", "64 KiB at most"
	}
	return e
}

// status is the error for an answer that is not the file.
func (c *client) status(resp *http.Response) *registry.Error {
	at := resp.Request.URL
	e := &registry.Error{Found: fmt.Sprintf("status %d (%s) from %s", resp.StatusCode, http.StatusText(resp.StatusCode), show(at)), Expected: "the file"}
	secret, _ := c.secret() // there was a request, so it is known
	access := ""
	switch {
	case secret.header != "":
		access = "The credentials for " + c.origin.Hostname() + " may have no access"
	case secret.plain:
		access = "The credentials were not sent, because the address begins with http://: use https://"
	case secret.variable != "":
		access = "Where it wants credentials, set " + secret.variable + " to a token, or add the host to .netrc"
	default:
		access = "Where it wants credentials, add the host to .netrc"
	}
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		e.Kind, e.Remedy = registry.ErrNotFound, "Look at the registry's url, name, repository and tag, and at the plug-in's name"
		if secret.header != "" || secret.plain || c.origin.Scheme == "https" { // a host may hide from a stranger what there is
			e.Remedy += ". " + access
		}
	case code == http.StatusProxyAuthRequired:
		e.Kind, e.Remedy = registry.ErrRefused, "Set HTTPS_PROXY with what the proxy wants"
	case code == http.StatusTooManyRequests || code == http.StatusForbidden && limited(resp.Header):
		e.Kind, e.Expected, e.Remedy = registry.ErrUnavailable, "", "Wait, or use a mirror"
		if secret.header == "" {
			e.Remedy += ". It may let more be asked with credentials: " + access
		}
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusUnavailableForLegalReasons:
		e.Kind, e.Remedy = registry.ErrRefused, access
	case code >= 500 || code == http.StatusRequestTimeout || code == http.StatusTooEarly:
		e.Kind, e.Remedy = registry.ErrUnavailable, "Try it later, or use a mirror"
	default:
		e.Kind, e.Remedy = registry.ErrMalformed, "Look at registry.url"
	}
	return e
}

// body reads an answer. It ends it where fewer bytes come than pace in idle; only the time counts in which somebody reads.
type body struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	resp   *http.Response
	from   io.Reader
	idle   time.Duration
	pace   int64

	left time.Duration // for the rest of the bytes of this pace
	got  int64
	read int64 // of all
	size int64 // that are to come; -1: nobody says
	most int64 // that may come
	want int64 // what was announced for the whole file, for an error
}

func (c *client) body(resp *http.Response, size, most int64) *body {
	ctx := resp.Request.Context()
	cancel := ctx.Value(cancelKey{}).(context.CancelCauseFunc)
	return &body{ctx: ctx, cancel: cancel, resp: resp, from: resp.Body, idle: c.idle, pace: c.pace, left: c.idle, size: size, most: most}
}

func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	timer := time.AfterFunc(max(b.left, 0), func() { b.cancel(errSlow) })
	begin := time.Now()
	n, err := b.from.Read(p[:min(int64(len(p)), max(b.most-b.read, 0)+1)]) // one more than may come, to see it
	timer.Stop()
	b.left -= time.Since(begin)
	b.read, b.got = b.read+int64(n), b.got+int64(n)
	if b.got >= b.pace {
		b.got, b.left = 0, b.idle
	}
	if b.read > b.most {
		kind, found := registry.ErrMalformed, "more bytes than a source may send"
		if b.want > 0 {
			kind, found = registry.ErrDigest, "more bytes than were announced"
		}
		b.cancel(kind)
		return n - int(b.read-b.most), refused(kind, found, fmt.Sprintf("%d at most", b.most), "Ask the page's owner; a mirror may have the right file")
	}
	if err == io.EOF && b.size >= 0 && b.read < b.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
		err = &registry.Error{Kind: registry.ErrUnavailable, Found: fmt.Sprintf("a transfer that broke off after %s", sentence.Count(b.read, "byte")), Err: err}
	}
	return n, err
}

// drop closes an answer that nobody reads. What is short is read first, so that the connection is there for the next request.
func (b *body) drop() {
	const short = 8 << 10
	timer := time.AfterFunc(time.Second, func() { b.cancel(errSlow) })
	_, _ = io.CopyN(io.Discard, b.resp.Body, short+1) // it is not wanted
	timer.Stop()
	_ = b.Close()
}

func (b *body) Close() error {
	err := b.resp.Body.Close()
	b.cancel(context.Canceled)
	return err
}

// page returns an error where an answer is a page for people, such as one to log in.
func page(resp *http.Response, begin []byte) error {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if strings.EqualFold(strings.TrimSpace(kind), "text/html") || len(begin) > 0 && strings.HasPrefix(http.DetectContentType(begin), "text/html") {
		return refused(registry.ErrMalformed, "a page in HTML from "+show(resp.Request.URL), "the file", "Open the address in a browser: you may have to log in, in the network or there")
	}
	return nil
}

// Text implements layout.Fetcher.
func (c *client) Text(ctx context.Context, address string, limit int64) ([]byte, []string, error) {
	resp, hops, err := c.get(ctx, address, http.Header{"Accept-Encoding": {"gzip"}})
	if err != nil {
		return nil, hops, err
	}
	b := c.body(resp, resp.ContentLength, limit)
	defer b.Close()
	timer := time.AfterFunc(c.text, func() { b.cancel(errSlow) })
	defer timer.Stop()
	if resp.StatusCode != http.StatusOK {
		b.drop()
		return nil, hops, c.status(resp)
	}
	var from io.Reader = b
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		if from, err = gzip.NewReader(b); err != nil {
			return nil, hops, unpacked(err)
		}
	default:
		return nil, hops, refused(registry.ErrMalformed, "a file packed by "+layout.Short(encoding), "gzip at most", "")
	}
	text, err := io.ReadAll(io.LimitReader(from, limit+1)) // inflated it has a limit, too
	if err := page(resp, text); err != nil {
		return nil, hops, err
	}
	if err != nil {
		return nil, hops, unpacked(err)
	}
	if int64(len(text)) > limit {
		return nil, hops, refused(registry.ErrMalformed, "a file of more than is allowed for it", fmt.Sprintf("%d bytes at most", limit), "")
	}
	return text, hops, nil
}

func unpacked(err error) error {
	if _, ok := errors.AsType[*registry.Error](err); ok {
		return err
	}
	return &registry.Error{Kind: registry.ErrMalformed, Found: "a file that is not packed as its header says", Err: err}
}

// whole asks for bytes as they are.
func whole() http.Header { return http.Header{"Accept-Encoding": {"identity"}} }

// Probe implements layout.Fetcher. It asks for one byte and not by HEAD: signed addresses are made for GET.
func (c *client) Probe(ctx context.Context, address string) (int64, []string, error) {
	header := whole()
	header.Set("Range", "bytes=0-0")
	resp, hops, err := c.get(ctx, address, header)
	if err != nil {
		return 0, hops, err
	}
	b := c.body(resp, -1, 0)
	if resp.StatusCode == http.StatusOK { // all of the file, which nobody wants
		defer b.Close()
	} else {
		defer b.drop()
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.ContentLength, hops, page(resp, nil)
	case http.StatusPartialContent:
		_, size, _ := contentRange(resp.Header.Get("Content-Range"))
		return size, hops, page(resp, nil)
	case http.StatusRequestedRangeNotSatisfiable: // it has no byte
		return 0, hops, nil
	}
	return 0, hops, c.status(resp)
}

// contentRange reads "bytes 5-9/10", or "bytes */10" with from -1. size is -1 where it is *.
func contentRange(text string) (from, size int64, ok bool) {
	unit, rest, _ := strings.Cut(text, " ")
	part, all, found := strings.Cut(strings.TrimSpace(rest), "/")
	if !strings.EqualFold(unit, "bytes") || !found {
		return 0, -1, false
	}
	number := func(text string) int64 {
		n, err := strconv.ParseUint(text, 10, 62)
		if err != nil {
			return -1
		}
		return int64(n)
	}
	first, last, _ := strings.Cut(part, "-")
	from, size = number(first), number(all)
	return from, size, part == "*" || from >= 0 && number(last) >= from && (size < 0 || number(last) < size)
}

// Open implements layout.Fetcher.
func (c *client) Open(ctx context.Context, address string, from int64, kind registry.Kind, want registry.File) (io.ReadCloser, int64, int64, error) {
	header := whole()
	c.mu.Lock()
	tag := c.tags[address]
	c.mu.Unlock()
	if want.Digest == "" && tag == "" {
		from = 0 // nobody would see that the rest is of other bytes
	}
	if from > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		if tag != "" {
			header.Set("If-Range", tag)
		}
	}
	resp, _, err := c.get(ctx, address, header)
	if err != nil {
		return nil, 0, 0, err
	}
	b := c.body(resp, resp.ContentLength, layout.MaxFile)
	stop := func(err error) (io.ReadCloser, int64, int64, error) {
		b.Close()
		return nil, 0, 0, err
	}
	at, size := int64(0), resp.ContentLength
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusPartialContent:
		first, all, ok := contentRange(resp.Header.Get("Content-Range"))
		if from == 0 || !ok || first < 0 || first > from {
			return stop(refused(registry.ErrMalformed, "a part of the file that was not asked for", fmt.Sprintf("its bytes from %d on", from), ""))
		}
		at, size = first, all
		if size < 0 && resp.ContentLength >= 0 {
			size = at + resp.ContentLength
		}
	case http.StatusRequestedRangeNotSatisfiable:
		b.Close()
		if _, all, ok := contentRange(resp.Header.Get("Content-Range")); ok && all == from && (want.Size == 0 || all == want.Size) {
			return io.NopCloser(bytes.NewReader(nil)), from, all, nil // all of it was had
		}
		if from == 0 {
			return nil, 0, 0, c.status(resp)
		}
		c.remember(address, "")
		return c.Open(ctx, address, 0, kind, want)
	default:
		b.drop()
		return nil, 0, 0, c.status(resp)
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return stop(refused(registry.ErrMalformed, "the file packed by "+layout.Short(encoding), "its own bytes, as they were asked for", "Have the server send such files as they are"))
	}
	if want.Size > 0 {
		if size >= 0 && size != want.Size {
			return stop(refused(registry.ErrDigest, fmt.Sprintf("a file of %s", sentence.Count(size, "byte")), fmt.Sprint(want.Size), "Ask the page's owner; a mirror may have the right file"))
		}
		size, b.size, b.most, b.want = want.Size, want.Size-at, want.Size-at, want.Size
	} else if size > layout.MaxFile {
		return stop(refused(registry.ErrMalformed, fmt.Sprintf("a file of %s", sentence.Count(size, "byte")), fmt.Sprintf("%d at most", int64(layout.MaxFile)), ""))
	}
	var begin []byte
	if at == 0 && kind != registry.Script { // a script may look like a page
		begin = make([]byte, 512)
		n, err := io.ReadFull(b, begin)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return stop(err)
		}
		begin = begin[:n]
	}
	if err := page(resp, begin); err != nil {
		return stop(err)
	}
	if resp.StatusCode == http.StatusOK {
		tag := resp.Header.Get("ETag")
		if !strings.HasPrefix(tag, `"`) {
			tag = "" // a weak one does for no range
		}
		c.remember(address, tag)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(begin), b), b}, at, size, nil
}

// remember keeps an entity tag, "" forgets it.
func (c *client) remember(address, tag string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tags) > 1000 {
		clear(c.tags)
	}
	if tag == "" {
		delete(c.tags, address)
		return
	}
	c.tags[address] = tag
}
