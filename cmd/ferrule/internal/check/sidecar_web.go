package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// web is a host's end of HTTP.
type web struct {
	k      *probe
	client *http.Client
	base   string
}

// answered is what came by HTTP.
type answered struct {
	code   int
	header http.Header
	body   []byte
	open   bool // nothing says how long the body is
}

func (k *probe) http() *web {
	w := &web{k: k, base: strings.TrimSuffix(k.Target, "/")}
	// As hosts have it: without a proxy of the environment's, and without compression.
	t := &http.Transport{MaxIdleConnsPerHost: 32, TLSClientConfig: k.TLS, DisableCompression: true}
	k.idle = append(k.idle, t.CloseIdleConnections)
	if k.kind == isWebUnix {
		w.base = "http://sidecar"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", k.place)
		}
	}
	w.client = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return w
}

// chunked is, among the fields of ask, a body whose length the request does not say.
const chunked = "Transfer-Encoding"

func (w *web) ask(method, path string, body []byte, fields ...string) (*answered, error) {
	ctx, stop := context.WithDeadline(w.k.ctx, w.k.until)
	defer stop()
	var in io.Reader = bytes.NewReader(body)
	if slices.Contains(fields, chunked) {
		in = io.MultiReader(in) // whose length net/http does not know
	}
	r, err := http.NewRequestWithContext(ctx, method, w.base+path, in)
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/octet-stream")
	}
	if w.k.Token != "" {
		r.Header.Set("Authorization", "Bearer "+w.k.Token)
	}
	for i := 0; i < len(fields); i += 2 {
		if fields[i] != chunked {
			r.Header.Set(fields[i], fields[i+1])
		}
	}
	response, err := w.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	a := &answered{code: response.StatusCode, header: response.Header,
		open: response.ProtoMajor == 1 && response.ContentLength < 0 && len(response.TransferEncoding) == 0}
	a.body, err = io.ReadAll(io.LimitReader(response.Body, wire.MaxBody))
	return a, err
}

// reason is why no answer came, without the address, which errors of net/http repeat.
func reason(err error) string {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return err.Error()
}

const mendLength = "Send Content-Length, or the body in chunks"

// whole looks at what every answer has to have.
func (k *probe) whole(a *answered, function, what string) {
	if a.open {
		k.once("length", Error, "W18", function, what+": a body whose length nothing says, in HTTP/1", "Content-Length, or chunks: where the connection's end is the body's, nobody sees that it was cut off", mendLength)
	}
}

func webPath(f function) string {
	if name, hook := strings.CutPrefix(f.label, "hook "); hook {
		return "/hook/" + url.PathEscape(name)
	}
	return "/fn/" + url.PathEscape(f.label)
}

// call makes a call. What is wrong with the answer is a finding; false says that none came.
func (w *web) call(f function, in input, how string, fields ...string) (*answered, bool) {
	k := w.k
	what := f.label + " with " + in.name + how
	broke := func(expected, mend, seen string, args ...any) {
		k.add(Error, "W18", f.label, what+": "+fmt.Sprintf(seen, args...), expected, mend)
	}
	a, err := w.ask(http.MethodPost, webPath(f), in.bytes, fields...)
	if err != nil {
		if k.ctx.Err() == nil {
			broke("an answer", "Answer each request, whatever happens in the function", "%s", reason(err))
			k.without[f.label] = "it was not answered in case " + k.result.Case
		}
		return nil, false
	}
	k.whole(a, f.label, what)
	switch a.code {
	case 200, 499, 503:
	case 413:
		if len(in.bytes) <= 64<<10 {
			broke("200, 422, 499 or 503 for an input of "+plural(len(in.bytes), "byte"), "Answer with 413 where an input is too long, and take short ones", "413")
		} else {
			k.note("%s takes no input of %s", f.label, plural(len(in.bytes), "byte"))
		}
	case 422:
		n, err := strconv.ParseUint(a.header.Get("Ferrule-Status"), 10, 31)
		switch {
		case err != nil || n == 0:
			broke("a status of W8, which is not 0", "Say the status in Ferrule-Status", "422 with Ferrule-Status: %.40q", a.header.Get("Ferrule-Status"))
		case n == 8 || n > 9 && n < 1000:
			broke("a status of W8", "Use 1 for what has failed, or a number of your own from 1000 on", "the status %d", n)
		}
		if !utf8.Valid(a.body) {
			k.add(Error, "W8", f.label, what+": the message "+brief(a.body), "a message in UTF-8", "Encode the message as UTF-8")
		}
		kind, set, err := mime.ParseMediaType(a.header.Get("Content-Type"))
		if len(a.body) > 0 && (err != nil || kind != "text/plain" || !strings.EqualFold(set["charset"], "utf-8")) {
			k.once("type", Error, "W18", f.label, fmt.Sprintf("%s: a message with Content-Type: %.60q", what, a.header.Get("Content-Type")), "text/plain; charset=utf-8", "Say so in the answer")
		}
	default:
		broke("200, 422, 499 or 503 for a function of the manifest", "Answer with 200 and the output, or with 422 and Ferrule-Status", "%d", a.code)
	}
	return a, true
}

// of is what an answer says, to be compared.
func (a *answered) of() string {
	return fmt.Sprintf("%d %s %s", a.code, a.header.Get("Ferrule-Status"), a.body)
}

func (k *probe) webHello() {
	a, err := k.http().ask(http.MethodGet, "/ferrule/manifest", nil)
	if err != nil {
		panic(k.unreached(err))
	}
	k.stop = "the sidecar has no manifest that a host takes"
	if a.code != 200 {
		k.add(Error, "W18", "", fmt.Sprintf("GET /ferrule/manifest: %d", a.code), "200, with the manifest", "Serve it there; where it wants a token, give that (--token)")
		return
	}
	k.whole(a, "", "the manifest")
	if len(a.body) > wire.MaxManifest {
		k.add(Error, "W2", "", "a manifest of "+plural(len(a.body), "byte"), "1 MiB at most", "Leave out what nobody reads")
		return
	}
	kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	if strings.TrimSpace(kind) != "application/json" {
		k.add(Error, "W18", "", fmt.Sprintf("the manifest with Content-Type: %.60q", a.header.Get("Content-Type")), "application/json", "Say so in the answer")
	}
	k.stop, k.manifest = "", a.body
	if about, err := wire.ParseManifest(a.body); err == nil {
		k.about = about
	}
}

// webEach calls functions with inputs.
func (k *probe) webEach(inputs func(function) []input) {
	w := k.http()
	for _, f := range k.called(false) {
		for _, in := range inputs(f) {
			if k.late() {
				k.note("not every function was tried: the case has no more time (--timeout)")
				return
			}
			if k.without[f.label] == "" && !k.slow[f.label] {
				w.limited(f, in)
			}
		}
	}
}

// limited makes a call, which is cancelled where it takes long: by closing its connection.
func (w *web) limited(f function, in input) {
	k := w.k
	ctx, stop := context.WithTimeout(k.ctx, k.budget())
	defer stop()
	long := *k
	long.ctx = ctx
	own := *w
	own.k = &long
	if _, ok := own.call(f, in, ""); !ok && ctx.Err() != nil && k.ctx.Err() == nil {
		k.slow[f.label] = true
		k.note("%s runs until it is cancelled: most cases leave it out", f.label)
	}
}

func (k *probe) webCall() { k.webEach(k.samples) }

func (k *probe) webInputs() {
	k.webEach(func(function) []input {
		return append(append([]input{}, notUTF8...), input{fmt.Sprintf("10,000 random bytes (--seed %d)", k.options.Seed), k.bytes(10_000)})
	})
}

func (k *probe) webUnknown() {
	w := k.http()
	for _, path := range []string{webPath(nobody), webPath(function{label: "hook " + nobody.label}), "/fn/", "/fn/ferrule.start"} {
		a, err := w.ask(http.MethodPost, path, []byte("hello"))
		switch {
		case err != nil:
			k.add(Error, "W18", "", fmt.Sprintf("POST %s: %s", path, reason(err)), "404", "Answer with 404 where there is no such function")
		case a.code != 404:
			k.add(Error, "W18", "", fmt.Sprintf("POST %s: %d", path, a.code), "404", "Answer with 404 where there is no such function")
		}
	}
}

func (k *probe) webToken() {
	if k.Token == "" {
		k.skip("no token was given (--token)")
		return
	}
	w := k.http()
	for _, token := range []string{"", "Bearer " + k.Token + "x", "Basic " + k.Token} {
		for _, r := range []struct{ method, path string }{{http.MethodGet, "/ferrule/manifest"}, {http.MethodPost, webPath(nobody)}} {
			if a, err := w.ask(r.method, r.path, nil, "Authorization", token); err != nil || a.code != 401 {
				seen := fmt.Sprintf("%s %s with Authorization: %q: ", r.method, r.path, strings.ReplaceAll(token, k.Token, "TOKEN"))
				if err != nil {
					seen += reason(err)
				} else {
					seen += strconv.Itoa(a.code)
				}
				k.add(Error, "W18", "", seen, "401", "Compare the token before anything else is said")
			}
		}
	}
}

func (k *probe) webBodies() {
	w := k.http()
	for _, in := range []input{{"no body", nil}, {"a body of one byte", []byte{0}}, {"64 KiB", bytes.Repeat([]byte("0123456789abcde\n"), 4<<10)}, {"8 MiB", k.bytes(8 << 20)}} {
		for _, f := range k.called(false)[:min(3, len(k.called(false)))] {
			if !k.late() {
				w.chunks(f, in)
			}
		}
	}
}

// chunks makes a call with a body whose length the request says, and with one in chunks.
func (w *web) chunks(f function, in input) {
	first, ok := w.call(f, in, "")
	if !ok {
		return
	}
	second, ok := w.call(f, in, "")
	if !ok {
		return
	}
	a, ok := w.call(f, in, ", in chunks", chunked, "")
	if ok && first.of() == second.of() && a.of() != first.of() && a.code != http.StatusServiceUnavailable {
		w.k.add(Error, "W18", f.label, fmt.Sprintf("%s with %s, in chunks: %s instead of %s", f.label, in.name, brief([]byte(a.of())), brief([]byte(first.of()))), "what it gives for the same input with Content-Length",
			"Read a body with Transfer-Encoding: chunked as well")
	}
}

func (k *probe) webTimeout() {
	w := k.http()
	for _, f := range k.called(false)[:min(3, len(k.called(false)))] {
		for _, ms := range []string{"60000", "1", "0", strconv.FormatUint(1<<63-1, 10)} {
			if !k.late() {
				w.call(f, k.samples(f)[1], ", with Ferrule-Timeout: "+ms, "Ferrule-Timeout", ms)
			}
		}
	}
}

// broken makes a call whose connection is closed: as soon as the request is written, or when the function has run for a while. It reports whether that was before
// an answer.
func (w *web) broken(f function, in input, after time.Duration) bool {
	ctx, stop := context.WithCancel(w.k.ctx)
	defer stop()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) {
		if after == 0 {
			stop()
		} else {
			time.AfterFunc(after, stop)
		}
	}})
	long := *w.k
	long.ctx = ctx
	own := *w
	own.k = &long
	_, err := own.ask(http.MethodPost, webPath(f), in.bytes)
	return err != nil
}

const mendClosed = "Look whether the connection is closed while a function runs, and have that cost its own call alone"

func (k *probe) webCancel() {
	w := k.http()
	for _, f := range k.called(false)[:min(3, len(k.called(false)))] {
		for _, in := range k.samples(f)[:3] {
			if k.late() || k.without[f.label] != "" {
				break
			}
			w.broken(f, in, 0)
			w.call(f, in, ", behind a call whose connection was closed")
		}
	}
}

// webCancelRunning closes the connection of what runs until it is cancelled. Where calls are not concurrent, the next one shows whether that was seen.
func (k *probe) webCancelRunning() {
	w := k.http()
	others := k.called(false)
	any := false
	for _, f := range k.called(true) {
		if !k.slow[f.label] || k.late() {
			continue
		}
		any = true
		if !w.broken(f, k.samples(f)[0], 50*time.Millisecond) || len(others) == 0 {
			continue
		}
		next := others[0]
		long := *k
		ctx, stop := context.WithDeadline(k.ctx, k.soon(k.patience()))
		long.ctx = ctx
		own := *w
		own.k = &long
		for {
			a, err := own.ask(http.MethodPost, webPath(next), k.samples(next)[0].bytes)
			if err == nil && a.code == http.StatusServiceUnavailable && ctx.Err() == nil {
				time.Sleep(10 * time.Millisecond) // it has no room yet
				continue
			}
			if (err != nil || a.code == http.StatusServiceUnavailable) && k.ctx.Err() == nil {
				severity := Error
				if k.about.Manifest.Threads != abi.Concurrent { // a function need not look meanwhile
					severity = Warning
				}
				k.add(severity, "W18", f.label, fmt.Sprintf("%s, whose connection was closed: %s is not answered in the %v behind it", f.label, next.label, k.patience()), "the end of the call, soon after its connection has ended", mendClosed)
			}
			break
		}
		stop()
	}
	if !any {
		k.skip("no function runs until it is cancelled")
	}
}

func (k *probe) webMany() {
	w, all := k.http(), k.called(false)
	for n := range many {
		if len(all) == 0 || k.late() {
			k.note("%s of %d: the case has no more time (--timeout)", plural(n, "call"), many)
			return
		}
		f := all[n%min(3, len(all))]
		if _, ok := w.call(f, k.samples(f)[1+n%2], fmt.Sprintf(", after %s", plural(n, "call")), "Ferrule-Timeout", "60000"); !ok {
			return
		}
	}
}

func (k *probe) webConcurrent() {
	if k.about.Manifest.Threads != abi.Concurrent {
		k.skip("the sidecar is %s: a host has one call at a time", k.about.Manifest.Threads)
		return
	}
	w := k.http()
	for _, f := range k.called(false) {
		if k.late() {
			return
		}
		var inputs []input
		var outputs []string
		for _, in := range k.samples(f) {
			first, ok := w.call(f, in, "")
			if !ok {
				break
			}
			if second, ok := w.call(f, in, ""); ok && first.of() == second.of() {
				inputs, outputs = append(inputs, in), append(outputs, first.of())
			}
		}
		if len(inputs) == 0 {
			continue
		}
		var mu sync.Mutex
		var wait sync.WaitGroup
		for n := range 16 {
			wait.Go(func() {
				a, err := w.ask(http.MethodPost, webPath(f), inputs[n%len(inputs)].bytes)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case k.ctx.Err() != nil:
				case err != nil:
					k.add(Error, "W18", f.label, fmt.Sprintf("%s at the same time as others: %s", f.label, reason(err)), "an answer", "Answer each request")
				case a.code != 503 && a.of() != outputs[n%len(outputs)]:
					k.add(Error, "W9", f.label, fmt.Sprintf("%s at the same time as others: %s instead of %s", f.label, brief([]byte(a.of())), brief([]byte(outputs[n%len(outputs)]))),
						"what it gives alone", "Keep what belongs to a call with the call")
				}
			})
		}
		wait.Wait()
	}
}
