package oci

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// transportError is what the transport refuses, or what it waits for no longer.
type transportError struct {
	kind error
	text string
}

func (e *transportError) Error() string { return e.text }

// plain is the text of an error of somebody else's: the error itself may have a secret, and whoever unwraps it would show it. Of what it wrapped it keeps
// whether a context has ended.
type plain struct {
	text string
	err  error
}

func (p *plain) Error() string { return p.text }
func (p *plain) Unwrap() error { return p.err }

var (
	queries  = regexp.MustCompile(`\?[^\s"'>]+`) // of a URL: what one is redirected to may be signed by it
	userinfo = regexp.MustCompile(`//[^\s/"'@]+@`)
)

const maxText = 400 // bytes of a server's words

// clean returns a text without secrets: those that were sent, and what URLs have.
func (r *Registry) clean(text string) string {
	text = r.secrets.cut(text)
	text = queries.ReplaceAllString(text, "?…")
	text = userinfo.ReplaceAllString(text, "//…@")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// subject is what a fault is about. found is what there is none of where the registry has nothing.
type subject struct{ plugin, version, found string }

// fault makes an error what this package returns.
func (r *Registry) fault(ctx context.Context, of subject, err error) error {
	var done *registry.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &done):
		return done
	}
	e := &registry.Error{Plugin: of.plugin, Version: of.version, Source: r.url}
	if w := (*wrong)(nil); errors.As(err, &w) {
		e.Kind, e.Found, e.Expected = w.kind, r.clean(w.found), w.expected
		if e.Remedy = w.remedy; e.Remedy == "" {
			e.Remedy = "Ask who has published it, or who runs the registry: ferrule push publishes what can be read."
		}
		return e
	}
	cause := &plain{}
	e.Err = cause
	if ctx.Err() != nil {
		e.Kind, cause.text, cause.err = registry.ErrUnavailable, "it was ended: "+r.clean(context.Cause(ctx).Error()), ctx.Err()
		return e
	}
	var (
		response *errcode.ErrorResponse
		refused  *transportError
		keys     *credentialsError
		address  *url.Error
		network  net.Error
		verify   *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &keys):
		e.Kind, e.Remedy = registry.ErrRefused, "Look at docker's configuration and its credential helper, or docker login "+r.ref.Registry+" anew."
		cause.text = keys.Error()
	case errors.As(err, &refused):
		e.Kind, cause.text = refused.kind, r.clean(refused.text)
	case errors.As(err, &response):
		e.Kind = kindOf(response.StatusCode)
		if len(response.Errors) > 0 && response.Errors[0].Code == errcode.ErrorCodeDigestInvalid {
			e.Kind = registry.ErrDigest
		}
		cause.text = r.clean(words(response))
	case errors.Is(err, errdef.ErrNotFound):
		e.Kind = registry.ErrNotFound
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		e.Kind, cause.text = registry.ErrRefused, "it asks for a user and a password, and docker's configuration has none for it"
	case errors.Is(err, content.ErrMismatchedDigest):
		e.Kind, cause.text = registry.ErrDigest, r.clean(err.Error())
	case errors.As(err, &verify):
		e.Kind, cause.text = registry.ErrRefused, r.clean(verify.Error())
		e.Remedy = "Have the system trust who has signed the registry's certificate (SSL_CERT_FILE)."
	case errors.As(err, &address), errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		if address != nil {
			err = address.Err
		}
		e.Kind, cause.text = registry.ErrUnavailable, r.clean(err.Error())
	default:
		e.Kind, cause.text = registry.ErrMalformed, r.clean(err.Error())
	}
	if e.Remedy != "" {
		return e
	}
	switch e.Kind {
	case registry.ErrNotFound:
		e.Found = "no " + of.found
		if cause.text == "" {
			e.Err = nil
		}
		e.Remedy = "Look at its name, its versions (ferrule info) and the registry's url in config.yaml."
	case registry.ErrRefused:
		e.Remedy = "Log in by docker login " + r.ref.Registry + ", as somebody who may have it. Some registries say so of what there is none of, too."
	case registry.ErrUnavailable:
		e.Remedy = "Try it again, or name a mirror in config.yaml."
	default:
		e.Remedy = "Ask who runs the registry, or take another one."
	}
	return e
}

// kindOf is what a status of HTTP says.
func kindOf(status int) error {
	switch {
	case status == http.StatusNotFound:
		return registry.ErrNotFound
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return registry.ErrUnavailable
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusMethodNotAllowed, status == http.StatusPaymentRequired:
		return registry.ErrRefused
	}
	return registry.ErrMalformed
}

// words is what a registry's response says: not its URL, which may be signed.
func words(r *errcode.ErrorResponse) string {
	text := fmt.Sprintf("HTTP %d %s", r.StatusCode, http.StatusText(r.StatusCode))
	for _, e := range r.Errors[:min(len(r.Errors), 3)] {
		text += fmt.Sprintf("; %s: %s", e.Code, e.Message)
	}
	return text
}

// refuse is a fault of the caller's, before any request.
func (r *Registry) refuse(of subject, kind error, found, expected, remedy string) error {
	return &registry.Error{Plugin: of.plugin, Version: of.version, Source: r.url, Kind: kind, Found: found, Expected: expected, Remedy: remedy}
}

// secrets are what was sent to be let in. A server may say it again in its error.
type secrets struct{ guarded[[]string] }

// maxSecrets bounds them: a token is renewed each few minutes, and the old ones are worth nothing.
const maxSecrets = 64

func (s *secrets) add(values ...string) {
	s.do(func(all *[]string) {
		for _, v := range values {
			if len(v) > 3 && !slices.Contains(*all, v) {
				*all = append(*all, v)
			}
		}
		if n := len(*all); n > maxSecrets {
			*all = slices.Clone((*all)[n-maxSecrets:])
		}
	})
}

func (s *secrets) cut(text string) string {
	s.do(func(all *[]string) {
		for _, v := range *all {
			text = strings.ReplaceAll(text, v, "…")
			text = strings.ReplaceAll(text, url.QueryEscape(v), "…")
		}
	})
	return text
}
