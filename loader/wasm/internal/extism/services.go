package extism

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/ferrule-dev/ferrule/abi"
)

// service is a function that a plug-in imports and that is written in Go. An error ends the call.
type service struct {
	name string
	signature
	serve func(ctx context.Context, in *Instance, stack []uint64) error
}

// errOutside says that a function was called by no instance that is ready: by a start section, or as an export of the plug-in.
var errOutside = errors.New("a host function was called outside a call")

func (c *Code) export(b wazero.HostModuleBuilder, s service) {
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, stack []uint64) {
		in := c.instances.of(m)
		if in == nil {
			panic(errOutside) // which wazero makes the error of what was called
		}
		if err := s.serve(ctx, in, stack); err != nil {
			in.failure = err
			panic(err)
		}
	}), s.params, s.results).Export(s.name)
}

// hostFunction is one of the host's functions.
func (c *Code) hostFunction(f imported) service {
	return service{f.name, f.signature, func(ctx context.Context, in *Instance, stack []uint64) error {
		input, err := in.read(stack[0])
		if err != nil {
			return err
		}
		out, status := in.host.Call(ctx, f.ordinal, input)
		if status != abi.StatusOK {
			return &HostError{f.name, status, string(out)}
		}
		if len(f.results) == 1 {
			stack[0], err = in.write(out)
		}
		return err
	}}
}

// services are the functions of Extism's that the kernel does not have.
func (c *Code) services() []service {
	i32 := []api.ValueType{api.ValueTypeI32}
	list := []service{
		{"config_get", signature{i64, i64}, func(_ context.Context, in *Instance, s []uint64) error {
			key, err := in.read(s[0])
			if err != nil {
				return err
			}
			s[0] = 0
			if value, ok := c.offer.Config[string(key)]; ok {
				s[0], err = in.write([]byte(value))
			}
			return err
		}},
		{"var_get", signature{i64, i64}, func(_ context.Context, in *Instance, s []uint64) error {
			name, err := in.take(s[0])
			if err != nil {
				return err
			}
			s[0] = 0
			if value, ok := in.vars[name]; ok {
				s[0], err = in.write(value)
			}
			return err
		}},
		{"var_set", signature{[]api.ValueType{api.ValueTypeI64, api.ValueTypeI64}, nil}, func(_ context.Context, in *Instance, s []uint64) error {
			return in.setVar(s[0], s[1])
		}},
		{"http_request", signature{[]api.ValueType{api.ValueTypeI64, api.ValueTypeI64}, i64}, func(ctx context.Context, in *Instance, s []uint64) (err error) {
			s[0], err = in.request(s[0], s[1])
			return err
		}},
		{"http_status_code", signature{nil, i32}, func(_ context.Context, in *Instance, s []uint64) error {
			s[0] = uint64(uint32(in.response.status))
			return nil
		}},
		{"http_headers", signature{nil, i64}, func(_ context.Context, in *Instance, s []uint64) error {
			s[0] = 0
			if c.offer.HTTP == nil || !c.offer.HTTP.Headers {
				return nil
			}
			text, err := json.Marshal(in.response.headers)
			if err == nil {
				s[0], err = in.write(text)
			}
			return err
		}},
		{"get_log_level", signature{nil, i32}, func(_ context.Context, _ *Instance, s []uint64) error {
			s[0] = uint64(logLevel(c.offer.Level))
			return nil
		}},
	}
	for _, l := range []struct {
		name  string
		level abi.Level
	}{{"log_trace", abi.LogTrace}, {"log_debug", abi.LogDebug}, {"log_info", abi.LogInfo}, {"log_warn", abi.LogWarn}, {"log_error", abi.LogError}} {
		list = append(list, service{l.name, signature{i64, nil}, func(ctx context.Context, in *Instance, s []uint64) error {
			at := s[0]
			if l.level <= c.offer.Level {
				line, err := in.read(at)
				if err != nil {
					return err
				}
				in.host.Log(ctx, l.level, line)
			}
			return in.release(at)
		}})
	}
	return list
}

// logLevel is a level in Extism's numbers, which go up with the importance.
func logLevel(l abi.Level) uint32 {
	if l == 0 || l > abi.LogTrace {
		return math.MaxInt32
	}
	return uint32(abi.LogTrace - l)
}

// take reads a block and gives it back.
func (in *Instance) take(at uint64) (string, error) {
	b, err := in.read(at)
	if err != nil {
		return "", err
	}
	s := string(b)
	return s, in.release(at)
}

// varHead is what Extism counts for a variable besides its name and value: a slice and a string of Go's.
const varHead = 40

// setVar sets a variable, or deletes it where the value is at 0. The limit counts the value that is replaced, too, as Extism's does.
func (in *Instance) setVar(nameAt, valueAt uint64) error {
	limit := in.code.offer.Vars
	if limit < 0 {
		return &VarError{Max: limit}
	}
	name, err := in.take(nameAt)
	if err != nil {
		return err
	}
	before, had := in.vars[name]
	gone := int64(0)
	if had {
		gone = varHead + int64(len(name)) + int64(len(before))
	}
	if valueAt == 0 {
		delete(in.vars, name)
		in.varSize -= gone
		return nil
	}
	value, err := in.take(valueAt)
	if err != nil {
		return err
	}
	size := varHead + int64(len(name)) + int64(len(value))
	if in.varSize+size >= limit {
		return &VarError{name, limit}
	}
	in.vars[name] = []byte(value)
	in.varSize += size - gone
	return nil
}

// HTTP is how a plug-in may make requests.
type HTTP struct {
	// Hosts are those that requests may go to, redirected ones too: names, or patterns as path.Match takes them.
	Hosts []string
	// Headers says whether the plug-in may read the headers of the response.
	Headers bool
	// Max is the longest body of a response, in bytes; 0 is DefaultResponse.
	Max int64
	// Client makes the requests; nil is http.DefaultClient.
	Client *http.Client
}

// DefaultResponse is the longest body of a response without HTTP.Max.
const DefaultResponse = 50 << 20

func (h *HTTP) allows(u *url.URL) bool {
	if h == nil {
		return false
	}
	for _, pattern := range h.Hosts {
		if ok, _ := path.Match(pattern, u.Hostname()); ok || pattern == u.Hostname() {
			return true
		}
	}
	return false
}

// response is what the plug-in may ask about the last response.
type response struct {
	status  int
	headers map[string]string
}

// request makes a request, and returns where the body of the response is; 0 where it has none.
func (in *Instance) request(requestAt, bodyAt uint64) (uint64, error) {
	in.response = response{headers: map[string]string{}}
	text, err := in.take(requestAt)
	if err != nil {
		return 0, err
	}
	var wanted struct {
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
		Method  string            `json:"method"`
	}
	if err := json.Unmarshal([]byte(text), &wanted); err != nil {
		return 0, &HTTPError{"", err}
	}
	to, err := url.Parse(wanted.URL)
	if err != nil {
		return 0, &HTTPError{wanted.URL, err}
	}
	h := in.code.offer.HTTP
	if !h.allows(to) {
		return 0, &HTTPError{URL: wanted.URL}
	}
	var body io.Reader
	if bodyAt != 0 {
		b, err := in.take(bodyAt)
		if err != nil {
			return 0, err
		}
		body = strings.NewReader(b)
	}
	if wanted.Method == "" {
		wanted.Method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(in.host.Context(), strings.ToUpper(wanted.Method), wanted.URL, body)
	if err != nil {
		return 0, &HTTPError{wanted.URL, err}
	}
	for key, value := range wanted.Headers {
		r.Header.Set(key, value)
	}
	answer, err := h.client().Do(r)
	if err != nil {
		return 0, &HTTPError{wanted.URL, err}
	}
	defer func() { _ = answer.Body.Close() }()
	for key, values := range answer.Header {
		in.response.headers[strings.ToLower(key)] = strings.Join(values, ",")
	}
	in.response.status = answer.StatusCode
	limit := h.Max
	if limit == 0 {
		limit = DefaultResponse
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(http.MaxBytesReader(nil, answer.Body, limit)); err != nil {
		return 0, &HTTPError{wanted.URL, err}
	}
	if got.Len() == 0 {
		return 0, nil
	}
	return in.write(got.Bytes())
}

// client is one that is not redirected to where requests may not go.
func (h *HTTP) client() *http.Client {
	client := http.DefaultClient
	if h.Client != nil {
		client = h.Client
	}
	bound := *client
	bound.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if !h.allows(r.URL) {
			return &HTTPError{URL: r.URL.String()}
		}
		if client.CheckRedirect != nil {
			return client.CheckRedirect(r, via)
		}
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirects")
		}
		return nil
	}
	return &bound
}
