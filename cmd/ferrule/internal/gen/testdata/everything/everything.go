// Package context is a plug-in that uses all that there is, and has names in the way of those that are written: it's 100% "sure".
//
//ferrule:plugin name=every-thing version=1.0.0 threads=concurrent state=every-1 homepage=https://example.com requires="a\nb" config=`{"type": "object", "properties": {"first": {"type": "integer"}}}`
package context

import (
	ctx "context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"time"

	other "example.com/everything/plugin"
)

//go:generate ferrule gen

// What is written has to give way to these.
type (
	value  struct{ A, B int }
	in     []string
	result = map[string]value
	state  = time.Duration
	err    string
)

// Pair has a type of its own for what is in it.
type Pair[A any] struct{ First, Second A }

// Counter is the state.
type Counter struct{ n int }

// Settings are what it is configured by.
type Settings struct {
	First int `json:"first"`
}

// New begins at the first.
//
//ferrule:start
func New(_ ctx.Context, s *Settings) (*Counter, error) {
	if s == nil {
		return &Counter{}, nil
	}
	return &Counter{s.First}, nil
}

// Stop has nothing to do.
//
//ferrule:stop
func (c *Counter) Stop(ctx.Context) error { return nil }

// Configure begins again.
//
//ferrule:configure
func (c *Counter) Configure(s Settings) error {
	c.n = s.First
	return nil
}

// Save is what a successor gets.
//
//ferrule:save
func (c *Counter) Save() int { return c.n }

// Resume goes on.
//
//ferrule:resume
func (c *Counter) Resume(n int) error {
	c.n = n
	return nil
}

// Next counts on.
//
//ferrule:export
func (c *Counter) Next(by int) int {
	c.n += by
	return c.n
}

// Around runs what is behind it.
//
//ferrule:hook before_save wrap=yes order=first
func (c *Counter) Around(_ ctx.Context, in json.RawMessage) (json.RawMessage, error) { return in, nil }

// Twice is a function, and a hook of its name: */ does not end what it is in.
//
//ferrule:export idempotent=yes since="1.0"
//ferrule:hook twice
func Twice(n value) result { return result{"a": n, "b": n} }

// Two
// lines, and ünicode.
//
//ferrule:export name=renamed doc="Another text.\nIn two lines?" in=text/plain
func Bytes(b []byte) ([]byte, error) { return b, nil }

//ferrule:export
func HTTPGet(s string) string { return s }

//ferrule:export
func Names(n in) (err, error) { return "", errors.New("none") }

//ferrule:export
func Times(_ ctx.Context, d state) (other.Value, error) { return other.Value{}, nil }

//ferrule:export
func Pairs(p Pair[other.Value]) *url.URL { return nil }

//ferrule:export
func Any(a any) (any, error) { return a, nil }

//ferrule:export
func Copy(r io.Reader, w io.Writer) error {
	_, err := io.Copy(w, r)
	return err
}

//ferrule:export
func Sum(_ ctx.Context, _ string, r io.Reader) (int, error) { return 0, nil }

//ferrule:export
func Write(w io.Writer) {}

//ferrule:export
func Fail() error { return io.EOF }

//ferrule:export
func Nothing() {}

//ferrule:export
func Rest(c ctx.Context) (string, error) {
	if err := tell(c, url.Values{}); err != nil {
		return "", err
	}
	if _, err := look(c, value{}); err != nil {
		return "", err
	}
	if _, err := raw(c, nil); err != nil {
		return "", err
	}
	if _, err := text(c, value{}); err != nil {
		return "", err
	}
	if err := plain(c); err != nil {
		return "", err
	}
	rate, err := rate(c, "EUR")
	return time.Duration(rate).String(), err
}

// Rate asks the host.
//
//ferrule:import from=host why="It has the rates."
var rate func(ctx ctx.Context, currency string) (float64, error)

// Tell is what a function without a result is.
//
//ferrule:want
var tell func(ctx.Context, url.Values) error

type looks func(ctx.Context, value) (map[string]state, error)

var (
	//ferrule:want name=look_up
	look looks
	//ferrule:want
	raw func(ctx.Context, []byte) ([]byte, error)
	//ferrule:import
	text func(ctx.Context, value) (string, error)
	//ferrule:import
	plain func(ctx.Context) error
)
