package oci_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// The user of the registries here. Its password's hash is bcrypt's.
const (
	user     = "ann"
	password = "pass-word-of-ann"
	htpasswd = "ann:$2a$04$8OthZKS.P7T6QkdScrbBOuIhXKnfqMXxyubEGC7rVM6jV7OZ2X6.S\n"
)

// basic starts a registry that asks for a user and a password.
func basic(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "htpasswd")
	require.NoError(t, os.WriteFile(path, []byte(htpasswd), 0o600))
	return distribution(t, t.TempDir(), object{"auth": object{"htpasswd": object{"realm": "this test", "path": path}}})
}

// token starts a registry that asks for a token, and who gives them: to the user one for all that it asks for, to others none.
func token(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	b64 := base64.RawURLEncoding.EncodeToString
	point, err := key.PublicKey.Bytes() // 4, x, y
	require.NoError(t, err)
	jwks := filepath.Join(t.TempDir(), "jwks.json")
	require.NoError(t, os.WriteFile(jwks, []byte(marshal(object{"keys": []object{{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k",
		"x": b64(point[1:33]), "y": b64(point[33:])}}})), 0o666))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, p, _ := r.BasicAuth()
		if u != user || p != password {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var access []object
		for _, scope := range r.URL.Query()["scope"] {
			if part := strings.Split(scope, ":"); len(part) == 3 {
				access = append(access, object{"type": part[0], "name": part[1], "actions": strings.Split(part[2], ",")})
			}
		}
		now := time.Now().Unix()
		signed := b64([]byte(`{"typ":"JWT","alg":"ES256","kid":"k"}`)) + "." + b64([]byte(marshal(object{"iss": "test", "aud": "registry", "sub": u, "jti": fmt.Sprint(now),
			"iat": now, "nbf": now - 10, "exp": now + 300, "access": access})))
		sum := sha256.Sum256([]byte(signed))
		x, y, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		signature := make([]byte, 64)
		x.FillBytes(signature[:32])
		y.FillBytes(signature[32:])
		_ = json.NewEncoder(w).Encode(object{"token": signed + "." + b64(signature), "expires_in": 300})
	}))
	t.Cleanup(server.Close)
	return distribution(t, t.TempDir(), object{"auth": object{"token": object{"realm": server.URL + "/token", "issuer": "test", "service": "registry", "jwks": jwks}}})
}

// login has the user's credentials, and a password of the caller's.
func login(word string) oci.Option {
	return oci.Credentials(func(context.Context, string) (string, string, error) { return user, word, nil })
}

// Whoever a registry redirects to gets no credentials of its own, at another port of the same machine either.
func TestCredentialsStay(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		assert.Empty(t, r.Header.Get("Authorization"), "they came to another host")
		_, _ = io.WriteString(w, `{"tags":["1.0.0"]}`)
	}))
	t.Cleanup(other.Close)
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(r.URL.Path, "/away/") {
			http.Redirect(w, r, other.URL+"/x", http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.WriteString(w, `{"tags":["1.0.0"]}`)
	}))
	t.Cleanup(own.Close)
	r := open(t, "oci://"+strings.TrimPrefix(own.URL, "http://"), login(password))
	for _, name := range []string{"here", "away"} {
		versions, err := r.Versions(within(t, time.Minute), name)
		require.NoError(t, err, name)
		assert.Equal(t, []string{"1.0.0"}, versions, name)
	}
	assert.Equal(t, int64(1), asked.Load())
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) string{"basic": basic, "token": token} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, time.Minute)
			host := start(t)
			r := open(t, "oci://"+host+"/acme", login(password))
			require.NoError(t, r.Push(ctx, tax("1.0.0"), contents(t, "1.0.0", "linux/amd64")))
			require.NoError(t, everything(ctx, r))
			requests := &counter{}
			r = open(t, "oci://"+host+"/acme", login(password), oci.Transport(requests))
			require.NoError(t, everything(ctx, r))
			n := requests.requests()
			assert.LessOrEqual(t, n, 8, "the first is refused, and a token is asked for once")
			require.NoError(t, everything(ctx, r))
			assert.Equal(t, 5-1, requests.requests()-1, "the token is kept")

			// With the wrong password, and with none.
			for _, options := range [][]oci.Option{{login("wrong-" + password)}, nil} {
				r := open(t, "oci://"+host+"/acme", options...)
				for _, err := range []error{everything(ctx, r), r.Push(ctx, tax("1.0.1"), contents(t, "x", "linux/amd64"))} {
					assert.ErrorIs(t, err, registry.ErrRefused)
					assert.Contains(t, err.Error(), "docker login "+host)
					secretless(t, err)
				}
			}

			// A mirror between one that asks and one that does not.
			to := open(t, "oci://"+fixture.Registry(t, "tiny"))
			copied, err := oci.Mirror(ctx, open(t, "oci://"+host+"/acme", login(password)), to, "tax")
			require.NoError(t, err)
			assert.Equal(t, []string{"1.0.0"}, copied)
			same(t, open(t, "oci://"+host+"/acme", login(password)), to, "1.0.0")
		})
	}
}

// secretless looks for the password in an error and in all that it wraps.
func secretless(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for _, secret := range []string{password, base64.StdEncoding.EncodeToString([]byte(user + ":" + password))} {
		assert.NotContains(t, text, secret)
	}
	switch e := err.(type) { //nolint:errorlint // each is looked at
	case interface{ Unwrap() error }:
		secretless(t, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			secretless(t, err)
		}
	}
}

// A registry may say in its error what it was sent, or be redirected to where the URL is a secret.
func TestErrorsHaveNoSecrets(t *testing.T) {
	t.Parallel()
	var host string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header.Get("Authorization")
		u, p, _ := r.BasicAuth()
		switch {
		case r.URL.Path == "/signed":
			w.Header().Set("Content-Type", "text/plain; "+r.URL.RawQuery)
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"%s is not %s"}]}`, r.URL.RawQuery, r.URL)
		case sent == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/tags/list"):
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED %s","message":"%s may not, with %s, %s"}]}`, p, u, p, sent)
		default:
			http.Redirect(w, r, "http://"+host+"/signed?X-Signature="+password, http.StatusTemporaryRedirect)
		}
	}))
	t.Cleanup(server.Close)
	host = strings.TrimPrefix(server.URL, "http://")
	r := open(t, "oci://"+host, login(password))
	ctx := within(t, time.Minute)
	_, err := r.Versions(ctx, "tax")
	require.ErrorIs(t, err, registry.ErrRefused)
	assert.Contains(t, err.Error(), "ann may not, with …")
	secretless(t, err)
	_, err = r.Release(ctx, "tax", "1.0.0")
	require.Error(t, err)
	secretless(t, err)
	_, _, _, err = r.Open(ctx, &registry.Release{Name: "tax", Version: "1.0.0", Files: map[string]registry.File{"any": {Digest: digestOf("x"), Size: 1}}}, "any", 0)
	require.Error(t, err)
	secretless(t, err)

	_, err = oci.New("oci://" + user + ":" + password + "@" + host + "/acme")
	require.ErrorIs(t, err, registry.ErrMalformed)
	secretless(t, err)
	_, err = oci.New("oci://" + user + ":" + password + "@" + host + "/%zz")
	require.ErrorIs(t, err, registry.ErrMalformed)
	secretless(t, err)
	r = open(t, "oci://"+host, oci.Credentials(func(context.Context, string) (string, string, error) {
		return "", "", errors.New("helper wrote " + password)
	}))
	_, err = r.Versions(ctx, "tax")
	require.ErrorIs(t, err, registry.ErrRefused)
	secretless(t, err)
}

// Without the option, docker's configuration says who logs in, and its helpers do.
func TestDockerConfiguration(t *testing.T) {
	host := basic(t)
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	write := func(config object) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(marshal(config)), 0o600))
	}
	fresh := func() *oci.Registry {
		r, err := oci.New("oci://" + host)
		require.NoError(t, err)
		return r
	}
	ctx := within(t, time.Minute)
	_, err := fresh().Versions(ctx, "tax")
	assert.ErrorIs(t, err, registry.ErrRefused)
	assert.Contains(t, err.Error(), "docker login")
	write(object{"auths": object{host: object{"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}}})
	require.NoError(t, fresh().Push(ctx, tax("1.0.0"), contents(t, "x", "linux/amd64")))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"+password), 0o600))
	_, err = fresh().Versions(ctx, "tax")
	assert.ErrorIs(t, err, registry.ErrRefused)
	secretless(t, err)

	if runtime.GOOS == "windows" {
		return // the helper is a shell script
	}
	helper := func(script string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "docker-credential-ferruletest"), []byte("#!/bin/sh\n"+script), 0o700))
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	write(object{"credHelpers": object{host: "ferruletest"}})
	helper(`[ "$1" = get ] && [ "$(cat)" = ` + host + ` ] && echo '` + marshal(object{"ServerURL": host, "Username": user, "Secret": password}) + `'`)
	assert.NoError(t, everything(ctx, fresh()))
	helper("echo " + password + "; echo " + password + " >&2; exit 1")
	_, err = fresh().Versions(ctx, "tax")
	assert.ErrorIs(t, err, registry.ErrRefused)
	assert.Contains(t, err.Error(), "credential helper")
	secretless(t, err)
}

// Without TLS only loopback is asked, or what is said to be without. Nobody is sent from TLS to elsewhere.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"oci://registry.example/a": "https", "oci+http://registry.example/a": "http", "oci://127.0.0.1:5000": "http", "oci://127.9.9.9/a": "http", "oci://localhost/a": "http",
		"oci://[::1]:5000": "http", "oci://10.0.0.1": "https", "oci://localhost.example": "https", "oci://127.0.0.1.example": "https", "oci://docker.io/a": "https",
	} {
		var scheme string
		r := open(t, url, oci.Transport(transport(func(r *http.Request) (*http.Response, error) {
			scheme = r.URL.Scheme
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"tags":[]}`)), Request: r}, nil
		})))
		_, err := r.Versions(within(t, time.Minute), "tax")
		assert.NoError(t, err, url)
		assert.Equal(t, want, scheme, url)
	}
	asked := 0
	r := open(t, "oci://registry.example", oci.Transport(transport(func(r *http.Request) (*http.Response, error) {
		asked++
		return &http.Response{StatusCode: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"http://127.0.0.1/x"}}, Body: http.NoBody, Request: r}, nil
	})))
	_, err := r.Versions(within(t, time.Minute), "tax")
	assert.ErrorIs(t, err, registry.ErrMalformed)
	assert.Contains(t, err.Error(), "expected https")
	assert.Equal(t, 1, asked)
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestURLs(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "oci://", "oci:///a", "https://registry.example/a", "oci:registry.example", "oci://registry.example/A", "oci://registry.example/a/../b",
		"oci://registry.example/a?x=1", "oci://registry.example/a#x", "oci://registry.example/a%2fb", "oci://registry.example//a//b", "oci://a b/c", "oci://x/a:1", "oci+https://x/a", "\x00"} {
		_, err := oci.New(url)
		assert.ErrorIs(t, err, registry.ErrMalformed, "%q", url)
	}
}
