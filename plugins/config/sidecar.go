package config

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// beside is a key of an entry that is one of its Sidecar's.
func beside[V any](name, doc string, value rule[V], at func(*Sidecar) *V) field[Plugin] {
	return key(name, doc, value, func(p *Plugin) *V {
		if p.Sidecar == nil {
			p.Sidecar = &Sidecar{}
		}
		return at(p.Sidecar)
	})
}

const noKeys = "Take it out: only what is installed from a registry is verified"

// instead are the keys that say what is in place of a file that is found, and unfit those that no plug-in can have with each of them.
var (
	instead = []string{"program", "url"}
	unfit   = map[string]map[string]string{
		"program": {"keys": noKeys},
		"url": {
			"isolate": "Take it out: a sidecar is a process of its own by itself, which is not started here",
			"permit":  "Take it out: nothing here shuts in what somebody else has started. Have what starts it do so, or name its program in place of url",
			"keys":    noKeys,
		},
	}
	only = map[string]string{"interpreter": "program", "args": "program", "env": "program", "token-file": "url", "tls": "url", "ca": "url"} // what each of these keys needs
)

// besides says in JSON Schema which keys of an entry need, or cannot have, which others.
func besides() schema {
	with := schema{}
	for name, of := range only {
		with[name] = []string{of}
	}
	for i, name := range instead {
		none := []schema{{"required": []string{instead[1-i]}}}
		for _, other := range slices.Sorted(maps.Keys(unfit[name])) {
			none = append(none, schema{"required": []string{other}})
		}
		if name == "program" { // as alone says
			for _, senseless := range []schema{{"enum": []any{false}}, {"type": "object", "required": []string{"group"}}} {
				none = append(none, schema{"required": []string{"isolate"}, "properties": schema{"isolate": senseless}})
			}
		}
		with[name] = schema{"not": schema{"anyOf": none}}
	}
	return with
}

// sidecar finds the keys of an entry that make no sense beside each other.
func (r *reader) sidecar(n *node, p *Plugin) {
	if p.Sidecar == nil {
		return
	}
	by := ""
	for _, name := range instead {
		at := n.get(name)
		switch {
		case at == nil:
		case by != "":
			r.fault(at, "url beside program", "one of the two", "Take out url where the program is to be started, or program where somebody else does so")
		default:
			by = name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(unfit[by])) {
		if at := n.get(name); at != nil {
			r.fault(at, name+" beside "+by, "none", unfit[by][name])
		}
	}
	if by == "program" {
		r.alone(n.get("isolate"))
	}
	for _, name := range slices.Sorted(maps.Keys(only)) {
		if at, of := n.get(name), only[name]; at != nil && n.get(of) == nil {
			r.fault(at, name+" without "+of, "it beside "+of, "Take it out, or add "+of+":")
		}
	}
	if i := p.Sidecar.Interpreter; len(i) > 0 && strings.ContainsAny(i[0], `/\`) {
		i[0] = r.path(n.get("interpreter"), i[0])
	}
	url := p.Sidecar.URL
	if IsBroker(url) {
		r.broker(n, url)
		return
	}
	secure := strings.HasPrefix(url, "https:")
	if at := n.get("tls"); at != nil && url != "" && !strings.HasPrefix(url, "tcp:") {
		remedy := "Take it out: nobody else reads what goes through a socket, or a pipe, of this computer"
		switch {
		case secure:
			remedy = "Take it out: https: is spoken by TLS anyway"
		case strings.HasPrefix(url, "http:"):
			remedy = "Take it out, and write https: in the url"
		}
		r.fault(at, "tls for a url that is not tcp:", "it beside a tcp: url", remedy)
	}
	if at := n.get("ca"); at != nil && url != "" && !p.Sidecar.TLS && !secure {
		remedy := "Add tls: true"
		if !strings.HasPrefix(url, "tcp:") {
			remedy = "Take it out: there is no certificate"
		}
		r.fault(at, "ca without tls", "tls: true beside it, or an https: url", remedy)
	}
	for _, name := range []string{"data", "config"} {
		if at := n.get(name); at != nil && !at.null() && IsHTTP(url) {
			r.fault(at, name+" for an HTTP server", "none", "Take it out: HTTP has no way to give it that. Have the plug-in served at a socket (unix:) or a port (tcp:), which have")
		}
	}
}

// broker finds the keys that make no sense where nodes are, which a broker reaches.
func (r *reader) broker(n *node, url string) {
	for _, c := range []struct{ name, remedy string }{
		{"token-file", "Take it out: the application gives credentials to the engine, such as nats.WithConnection or mqtt.WithCredentials"},
		{"tls", "Take it out, and write tls://, or mqtts://, in the url"},
		{"ca", "Take it out: the application gives it to the engine, by nats.WithTLS or mqtt.WithTLS"},
		{"data", "Take it out: its nodes have a folder of their own, or none"},
		{"config", "Take it out: its nodes have that (ferrule serve --config)"},
	} {
		if at := n.get(c.name); at != nil && !at.null() {
			r.fault(at, c.name+" for a plug-in that a broker reaches", "none", c.remedy)
		}
	}
}

// IsBroker reports whether the URL of a Sidecar names a plug-in on nodes that a broker of messages reaches: NATS, or one of MQTT.
func IsBroker(url string) bool {
	scheme, _, ok := strings.Cut(url, "://")
	return ok && slices.Contains([]string{"nats", "tls", "mqtt", "mqtts"}, scheme)
}

// alone finds what isolate cannot say of a program, which is a process of its own by itself, and shares it with nobody. isolate is nil where it is not there.
func (r *reader) alone(isolate *node) {
	if isolate == nil {
		return
	}
	if isolate.Kind == yaml.ScalarNode && isolate.Tag == "!!bool" && !strings.EqualFold(isolate.Value, "true") {
		r.fault(isolate, "isolate: false beside program", "true, or a mapping", "Take it out: a program is a process of its own by itself. One without a sandbox has no permit, or isolate: {sandbox: none}")
	}
	if group := isolate.get("group"); group != nil {
		r.fault(group, "a group beside program", "none", "Take it out: a program is a process of its own, which no other plug-in shares")
	}
}

// IsHTTP reports whether the URL of a Sidecar is that of an HTTP server.
func IsHTTP(url string) bool {
	scheme, _, _ := strings.Cut(url, ":")
	return scheme == "http" || scheme == "https" || scheme == "http+unix"
}

// words are texts, of which one may stand there twice.
func words(expected string) rule[[]string] {
	all := items(expected, argument)
	all.schema = all.schema.with("uniqueItems", false)
	return all
}

var argument = text("a text without NUL bytes", `[^\x00]*`, 0, nil)

// environment is more of a program's environment. Its values may be secrets.
var environment = func() rule[*Value] {
	named := table("a mapping of variables to texts", text("the name of a variable", `[^=\x00-\x1f\x7f]+`, 0, nil), orNumber(argument))
	return rule[*Value]{named.schema, func(r *reader, n *node) *Value {
		if named.read(r, n); n.null() {
			return nil
		}
		return &Value{n, r.file}
	}}
}()

const expectedURL = "unix: and a path, tcp: with a host and a port, http://, https:// or http+unix: as an HTTP server has it, nats://, tls://, mqtt:// or mqtts:// with a broker and the plug-in's name, fifo: and two paths with a comma between them, or npipe: and a name"

// sidecarURL is where a sidecar is that somebody else has started. A user or a query may be a secret, and is not shown.
var sidecarURL = func() rule[string] {
	const host = `(?:\[[0-9A-Fa-f:.]+\]|[^\x00-\x20!-,/:-@\[-\^\x60{-\x7f]+)`
	known := text(expectedURL, `(?:unix|npipe|http\+unix):[^\x00-\x1f\x7f]+|fifo:[^,\x00-\x1f\x7f]+,[^,\x00-\x1f\x7f]+|tcp:(?:\[[0-9A-Fa-f:.]+\]|[^:/\[\]\x00-\x20\x7f]+):[0-9]{1,5}|`+
		`https?://`+host+`(?::[0-9]{1,5})?(?:/(?:[^?#%\x00-\x20\x7f]|%[0-9A-Fa-f]{2})*)?|`+
		`(?:nats|tls|mqtts?)://`+host+`(?::[0-9]{1,5})?(?:,`+host+`(?::[0-9]{1,5})?)*/[0-9A-Za-z_.-]{1,128}(?:@[^/?#@%\x00-\x1f\x7f]+)?`, 0, func(s string) string {
		switch {
		case IsBroker(s):
			return "Write it as nats://host:port/name, or nats://host:port/name@^2"
		case strings.ContainsAny(s, `/\`) && !strings.Contains(s, ":"):
			return "Write unix: before it where it is a socket, and program: in place of url: where it is a program"
		case strings.HasPrefix(s, "https:"), strings.HasPrefix(s, "http:"):
			return "Write it as https://host:port"
		}
		return ""
	})
	return to(rule[string]{known.schema, func(r *reader, n *node) string {
		scheme, rest, _ := strings.Cut(n.Value, ":")
		if n.text() && (scheme == "http" || scheme == "https" || scheme == "tcp") {
			switch {
			case strings.Contains(rest, "@"):
				r.fault(n, "an address with a user", expectedURL, "Take the user out: a token is in the file that token-file names")
				return ""
			case strings.ContainsAny(rest, "?#"):
				r.fault(n, "an address with a query", expectedURL, "Take out what begins with ? or #: a token is in the file that token-file names")
				return ""
			}
		}
		hosts, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "/")
		if n.text() && IsBroker(n.Value) && strings.Contains(hosts, "@") {
			r.fault(n, "an address with a user", expectedURL, "Take the user out: the application gives credentials to the engine")
			return ""
		}
		return known.read(r, n)
	}}, sidecarPaths)
}()

// sidecarPaths makes the paths of a URL absolute.
func sidecarPaths(r *reader, n *node, s string) string {
	scheme, rest, _ := strings.Cut(s, ":")
	if scheme != "unix" && scheme != "http+unix" && scheme != "fifo" || strings.HasPrefix(rest, "@") { // a socket without a file
		return s
	}
	paths := []string{rest}
	if scheme == "fifo" {
		paths = strings.Split(rest, ",")
	}
	for i, path := range paths {
		paths[i] = r.path(n, strings.TrimPrefix(path, "//"))
	}
	return scheme + ":" + strings.Join(paths, ",")
}
