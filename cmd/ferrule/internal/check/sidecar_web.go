package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/inspect"
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
}

func (k *probe) http() *web {
	w := &web{k: k, base: strings.TrimSuffix(k.Target, "/")}
	t := &http.Transport{MaxIdleConnsPerHost: 32}
	if k.kind == isWebUnix {
		w.base = "http://sidecar"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", k.place)
		}
	}
	w.client = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return w
}

func (w *web) ask(method, path string, body []byte, fields ...string) (*answered, error) {
	ctx, stop := context.WithDeadline(w.k.ctx, w.k.until)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, method, w.base+path, bytes.NewReader(body))
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
		r.Header.Set(fields[i], fields[i+1])
	}
	response, err := w.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	a := &answered{code: response.StatusCode, header: response.Header}
	a.body, err = io.ReadAll(io.LimitReader(response.Body, wire.MaxBody))
	return a, err
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
			broke("an answer", "Answer each request, whatever happens in the function", "%v", errors.Unwrap(err))
			k.without[f.label] = "it was not answered in case " + k.result.Case
		}
		return nil, false
	}
	switch a.code {
	case 200, 499, 503:
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
		panic(errStart{&inspect.Error{Path: k.Target, Kind: inspect.ErrRead, Found: "no sidecar that answers", Err: err, Remedy: "Start it, and check the address"}})
	}
	k.stop = "the sidecar has no manifest that a host takes"
	if a.code != 200 {
		k.add(Error, "W18", "", fmt.Sprintf("GET /ferrule/manifest: %d", a.code), "200, with the manifest", "Serve it there; where it wants a token, give that (--token)")
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
			k.add(Error, "W18", "", fmt.Sprintf("POST %s: %v", path, errors.Unwrap(err)), "404", "Answer with 404 where there is no such function")
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
					seen += err.Error()
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
				w.call(f, in, "")
			}
		}
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
					k.add(Error, "W18", f.label, fmt.Sprintf("%s at the same time as others: %v", f.label, errors.Unwrap(err)), "an answer", "Answer each request")
				case a.code != 503 && a.of() != outputs[n%len(outputs)]:
					k.add(Error, "W9", f.label, fmt.Sprintf("%s at the same time as others: %s instead of %s", f.label, brief([]byte(a.of())), brief([]byte(outputs[n%len(outputs)]))),
						"what it gives alone", "Keep what belongs to a call with the call")
				}
			})
		}
		wait.Wait()
	}
}
