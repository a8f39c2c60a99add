package oci

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// guarded is a value under a lock.
type guarded[T any] struct {
	mu    sync.Mutex
	value T
}

func (g *guarded[T]) do(f func(*T)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(&g.value)
}

const (
	maxRedirects = 5
	maxTries     = 5
	maxWait      = time.Minute // of a Retry-After: who says more is not waited for
	maxBusy      = 100         // hosts that are remembered as busy
	leastBytes   = 16 << 10    // that come in the time in which the other end may be silent
)

// client is what all requests go through: authentication over redirects over retries over limits.
func (r *Registry) client(base http.RoundTripper) *auth.Client {
	if base == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DisableCompression = true // what is compressed has another length than it says
		t.MaxResponseHeaderBytes = 64 << 10
		base = t
	}
	limited := &limits{base: base, plain: r.plain, silence: &r.silence, secrets: &r.secrets}
	return &auth.Client{
		Client: &http.Client{
			Transport: &retry.Transport{Base: limited, Policy: func() retry.Policy { return again{r.pause} }},
			CheckRedirect: func(_ *http.Request, via []*http.Request) error {
				if len(via) > maxRedirects {
					return &transportError{registry.ErrMalformed, fmt.Sprintf("more than %d redirects, one after the other", maxRedirects)}
				}
				return nil
			},
		},
		Header:     http.Header{"User-Agent": {"ferrule"}},
		Cache:      auth.NewCache(),
		ClientID:   "ferrule",
		Credential: r.credential,
	}
}

// credentialsError hides what a credential helper has written.
type credentialsError struct{ host string }

func (e *credentialsError) Error() string {
	return "docker's configuration, or the credential helper that it names, cannot say who logs in at " + e.host
}

// credential asks for who logs in. Docker's configuration is read at the first time that a registry asks.
func (r *Registry) credential(ctx context.Context, host string) (auth.Credential, error) {
	find := r.credentials
	if find == nil {
		store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
		if err != nil {
			return auth.EmptyCredential, &credentialsError{host}
		}
		find = credentials.Credential(store)
	}
	c, err := find(ctx, host)
	if err != nil {
		return auth.EmptyCredential, &credentialsError{host}
	}
	r.secrets.add(c.Password, c.AccessToken, c.RefreshToken)
	return c, nil
}

// again says when a request is sent once more.
type again struct{ pause time.Duration }

// Retry is retry.Policy's: less than 0 is never.
func (a again) Retry(attempt int, response *http.Response, err error) (time.Duration, error) {
	if attempt >= maxTries-1 {
		return -1, nil
	}
	if err != nil {
		var op *net.OpError
		lost := errors.As(err, &op) && op.Op != "dial" || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if !lost || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return -1, nil // who is not there is not waited for: a mirror may be
		}
		return jitter(a.pause << attempt), nil
	}
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return -1, nil
	}
	wait := a.pause << attempt
	if asked := retryAfter(response.Header.Get("Retry-After"), time.Now()); asked > maxWait {
		return -1, nil
	} else if asked > 0 {
		return asked + rand.N(asked/4+a.pause), nil // never before it: a fleet that comes at the same moment is refused again
	}
	return jitter(wait), nil
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d+1) }

// retryAfter reads the header: seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return at.Sub(now)
	}
	return 0
}

// limits refuses what nobody may be sent to, and ends what is silent.
type limits struct {
	base    http.RoundTripper
	plain   bool
	silence *time.Duration
	secrets *secrets
	busy    guarded[map[string]time.Time] // by host: until when it wants to be left alone
}

// left waits as long as a host wants to be left alone, by what it has said to any request. All that come after one that was refused would be refused, too.
func (l *limits) left(ctx context.Context, host string) error {
	var until time.Time
	l.busy.do(func(all *map[string]time.Time) { until = (*all)[host] })
	wait := time.Until(until)
	if wait <= 0 {
		return nil
	}
	wait += rand.N(wait/4 + 1) // not all at the same moment
	if end, ok := ctx.Deadline(); ok && time.Until(end) < wait {
		return &transportError{registry.ErrUnavailable, fmt.Sprintf("it is too busy, and wants to be asked again in %v", (wait + time.Second - 1).Truncate(time.Second))}
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
}

// refused keeps until when a host that is busy wants to be left alone.
func (l *limits) refused(host string, response *http.Response) {
	if response.StatusCode != http.StatusTooManyRequests && response.StatusCode != http.StatusServiceUnavailable {
		return
	}
	now := time.Now()
	if asked := retryAfter(response.Header.Get("Retry-After"), now); asked > 0 && asked <= maxWait {
		l.busy.do(func(all *map[string]time.Time) {
			if *all == nil || len(*all) > maxBusy {
				*all = map[string]time.Time{}
			}
			(*all)[host] = now.Add(asked)
		})
	}
}

func (l *limits) RoundTrip(request *http.Request) (*http.Response, error) {
	if s := request.URL.Scheme; s != "https" && (s != "http" || !l.plain) {
		closeBody(request)
		return nil, &transportError{registry.ErrMalformed, "it sends one to " + s + "://" + request.URL.Host + ", expected https"}
	}
	if kind, secret, ok := strings.Cut(request.Header.Get("Authorization"), " "); ok {
		l.secrets.add(secret)
		if text, err := base64.StdEncoding.DecodeString(secret); err == nil && strings.EqualFold(kind, "Basic") {
			_, password, _ := strings.Cut(string(text), ":")
			l.secrets.add(password)
		}
	}
	if err := l.left(request.Context(), request.URL.Host); err != nil {
		closeBody(request)
		return nil, err
	}
	silent := &transportError{registry.ErrUnavailable, fmt.Sprintf("it was silent for %v, or sent less than %d bytes in that time", *l.silence, leastBytes)}
	ctx, cancel := context.WithCancelCause(request.Context())
	clock := time.AfterFunc(*l.silence, func() { cancel(silent) })
	why := func(err error) error {
		if err != nil && err != io.EOF && context.Cause(ctx) == error(silent) {
			return silent
		}
		return err
	}
	request = request.Clone(ctx)
	if request.Body != nil && request.Body != http.NoBody {
		request.Body = &sent{request.Body, func() { clock.Reset(*l.silence) }}
	}
	response, err := l.base.RoundTrip(request)
	clock.Stop()
	if err != nil {
		err = why(err)
		cancel(nil)
		return nil, err
	}
	l.refused(request.URL.Host, response)
	body := &received{body: response.Body, clock: clock, silence: *l.silence, left: *l.silence, why: why, end: func() { cancel(nil) }}
	response.Body = body
	if e := response.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		body.Close()
		return nil, &transportError{registry.ErrMalformed, "it sends with the encoding " + quote(e) + ", which nobody has asked for"}
	}
	return response, nil
}

func closeBody(request *http.Request) {
	if request.Body != nil {
		request.Body.Close()
	}
}

// sent is a body on its way to a server, which is not silent as long as it takes it.
type sent struct {
	io.ReadCloser
	taken func()
}

func (s *sent) Read(p []byte) (int, error) {
	s.taken()
	return s.ReadCloser.Read(p)
}

// received is a body on its way from a server. The time that its reader takes does not count.
type received struct {
	body    io.ReadCloser
	clock   *time.Timer
	silence time.Duration
	left    time.Duration
	got     int
	why     func(error) error
	end     func()
}

func (b *received) Read(p []byte) (int, error) {
	begin := time.Now()
	b.clock.Reset(b.left)
	n, err := b.body.Read(p)
	b.clock.Stop()
	b.left -= time.Since(begin)
	if b.got += n; b.got >= leastBytes {
		b.left, b.got = b.silence, 0
	}
	b.left = max(b.left, 1)
	return n, b.why(err)
}

func (b *received) Close() error {
	b.clock.Stop()
	b.end()
	return b.body.Close()
}
