package config

import (
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"go.yaml.in/yaml/v3"
)

// file is config.yaml: the one place that says which keys there are.
var file = maybe(empty, mapping("a mapping with "+alternatives([]string{"registry", "logging", "plugins"})+" …", empty,
	key("registry", "Where plug-ins are to come from that are in none of the folders. An application that has sources for its url installs them from there.", registry, func(c *Config) *Registry { return &c.Registry }),
	key("logging", "Which lines are logged.", logging, func(c *Config) *Logging { return &c.Logging }),
	key("plugins", "The plug-ins that the application has.", plugins, func(c *Config) *[]Plugin { return &c.Plugins }),
	key("folders", "Where plug-ins are looked for: folders, the first one first.", paths, func(c *Config) *[]string { return &c.Folders }),
	key("dev", "While you develop: the file that is in a plug-in's place.", table("a mapping of plug-ins to files", pluginName, path),
		func(c *Config) *map[string]string { return &c.Dev }),
	key("hooks", "The order in which plug-ins run at a point. It has the last word.",
		table("a mapping of points to lists of plug-ins", pointName, list("a list of plug-ins, with * for all others", inOrder)),
		func(c *Config) *map[string][]string { return &c.Hooks }),
))

var empty = Config{Registry: unsaid}

var unsaid = Registry{Tag: "latest"}

var registry = maybe(unsaid, mapping("a mapping with url and others", unsaid,
	key("url", "The address of a plug-in's file, with {name}, {repository}, {tag}, {plugin}, {version}, {os}, {arch} and {ext} in it, or oci://… or file://…", address(true),
		func(r *Registry) *string { return &r.URL }),
	key("name", "What {name} stands for.", line, func(r *Registry) *string { return &r.Name }),
	key("repository", "What {repository} stands for.", line, func(r *Registry) *string { return &r.Repository }),
	key("tag", "What {tag} stands for: a release. Without it, or empty, the latest one.", tag, func(r *Registry) *string { return &r.Tag }),
	key("keys", "The public keys of who may sign plug-ins that have no keys of their own.", list("a list of keys", publicKey), func(r *Registry) *[]string { return &r.Keys }),
	key("revoked", "Public keys, and ids of keys, that count no more, for any plug-in.", list("a list of keys and of their ids", revokedKey),
		func(r *Registry) *[]string { return &r.Revoked }),
	key("mirrors", "Addresses that have the same files, asked in this order when url does not answer.", list("a list of addresses", address(false)),
		func(r *Registry) *[]string { return &r.Mirrors }),
	key("index", "The name that the registry's signed index has. Without it, that of the index that was seen first, which the lock has.", indexName,
		func(r *Registry) *string { return &r.Index }),
))

var logging = maybe(Logging{}, mapping("a mapping with level and plugins", Logging{},
	key("level", "The least level of the lines that are logged. Without it INFO.", level, func(l *Logging) *slog.Level { return &l.Level }),
	key("plugins", "The level of one plug-in's own lines.", table("a mapping of plug-ins to levels", pluginName, level),
		func(l *Logging) *map[string]slog.Level { return &l.Plugins }),
))

// entry is an item of plugins that is a mapping.
var entry = mapping("a plug-in's name, or a mapping with name and others", Plugin{Enabled: true},
	required(key("name", "The plug-in's name, as its manifest has it.", pluginName, func(p *Plugin) *string { return &p.Name })),
	key("version", "Which versions may be used: a range such as ^2 or '>=1.2, <3'. Without it any.", versions, func(p *Plugin) *string { return &p.Version }),
	beside("program", "The program that the plug-in is, in place of a library that is found: a sidecar.", path, func(c *Sidecar) *string { return &c.Program }),
	beside("interpreter", "What runs the program, where the system does not do so itself: [python3, -u].", words("a list of texts: the name or the path of a program, and its arguments"), func(c *Sidecar) *[]string { return &c.Interpreter }),
	beside("args", "The program's arguments.", words("a list of texts"), func(c *Sidecar) *[]string { return &c.Args }),
	beside("env", "What the program's environment has beside PATH, HOME, TMPDIR, LANG and TZ. ${env:NAME} and ${file:path} in a text stand for secrets.", environment, func(c *Sidecar) **Value { return &c.Env }),
	beside("url", "Where the sidecar is that somebody else has started: unix:PATH, tcp:HOST:PORT, https://HOST:PORT, http://HOST:PORT, http+unix:PATH, fifo:IN,OUT or npipe:NAME.", sidecarURL, func(c *Sidecar) *string { return &c.URL }),
	beside("token-file", "A file with the token that the sidecar of the url asks for.", path, func(c *Sidecar) *string { return &c.TokenFile }),
	beside("tls", "Whether a tcp: url is spoken to by TLS, as an https: url is.", boolean(), func(c *Sidecar) *bool { return &c.TLS }),
	beside("ca", "A file with the certificates of who may have signed that of the url, as PEM. Without it the system's.", path, func(c *Sidecar) *string { return &c.CA }),
	key("grant", "Functions of the application that the plug-in may call. loyalty_* grants all whose names begin so.",
		list("a list of the application's functions", offerName), func(p *Plugin) *[]string { return &p.Grant }),
	key("permit", "Files, network and memory that the plug-in may have. It is enforced where the plug-in is isolated, where it is a program, and where it is a WebAssembly module; of a script in Python it is the sandbox of its worker, and one in JavaScript has memory alone.", permit,
		func(p *Plugin) *Permit { return &p.Permit }),
	key("limit", "How long one call may take: 50ms. Without it as long as the point says.", duration, func(p *Plugin) *time.Duration { return &p.Limit }),
	key("isolate", "Whether it runs in a worker process, and in which; of a program, what bounds its process. A WebAssembly module, and a script in JavaScript that runs as one, has none.", isolate, func(p *Plugin) **Isolate { return &p.Isolate }),
	key("data", "A folder of its own, where it may keep files. It is made when the plug-in is opened.", path, func(p *Plugin) *string { return &p.Data }),
	key("required", "Whether the application must not start without it.", boolean(), func(p *Plugin) *bool { return &p.Required }),
	key("enabled", "Whether it is used. Without it, it is.", boolean(), func(p *Plugin) *bool { return &p.Enabled }),
	key("keys", "The public keys of who may sign it. Only these count for it. Without them those of the registry.", list("a list of keys", publicKey),
		func(p *Plugin) *[]string { return &p.Keys }),
	key("config", "The plug-in's own settings. ${env:NAME} and ${file:path} in a text stand for secrets.", settings, func(p *Plugin) **Value { return &p.Config }),
)

var permit = maybe(Permit{}, mapping("a mapping with read, write, connect, listen and memory", Permit{Said: true},
	key("read", "Files that it may read, and folders with all beneath.", paths, func(p *Permit) *[]string { return &p.Read }),
	key("write", "Files and folders that it may also change.", paths, func(p *Permit) *[]string { return &p.Write }),
	key("connect", "TCP ports that it may connect to.", list("a list of ports", port(1)), func(p *Permit) *[]int { return &p.Connect }),
	key("listen", "TCP ports that it may listen on. 0 is one that the system chooses.", list("a list of ports", port(0)), func(p *Permit) *[]int { return &p.Listen }),
	key("memory", "How much memory it may have: 256MiB, or a number of bytes; 64KiB or more.", size(64<<10, "64KiB"), func(p *Permit) *int64 { return &p.Memory }),
))

var worker = mapping("true, false, or a mapping with group and others", Isolate{Sandbox: SandboxFull},
	key("group", "Plug-ins of one group share a worker, and what each of them may do.", groupName, func(i *Isolate) *string { return &i.Group }),
	key("memory", "How much memory the worker may have: 256MiB, or a number of bytes; 1MiB or more. The worker itself needs up to 64MiB of it.", size(1<<20, "1MiB"), func(i *Isolate) *int64 { return &i.Memory }),
	key("cpu", "How much processor time the worker may use in its life: 10m.", duration, func(i *Isolate) *time.Duration { return &i.CPU }),
	key("processes", "How many processes it may have beside the worker.", count, func(i *Isolate) *int { return &i.Processes }),
	key("files", "How many files, sockets and pipes it may have open at a time.", count, func(i *Isolate) *int { return &i.Files }),
	key("grace", "How long a call may go on after its limit before the worker is killed: 100ms. Without it 500ms.", duration, func(i *Isolate) *time.Duration { return &i.Grace }),
	key("stop", "How long the plug-in may take to stop before the worker is killed: 10s. Without it 2s.", duration, func(i *Isolate) *time.Duration { return &i.Stop }),
	key("sandbox", "What the system is to enforce: full, best-effort (what this system has) or none. Without it full.", sandbox,
		func(i *Isolate) *Sandbox { return &i.Sandbox }),
)

// required is a key that must be there.
func required[T any](f field[T]) field[T] {
	f.required = true
	return f
}

// either is a value that has one rule as a scalar, and another as anything else.
func either[T any](scalar, other rule[T]) rule[T] {
	return rule[T]{schema{"anyOf": []schema{scalar.schema, other.schema}}, func(r *reader, n *node) T {
		if n.Kind == yaml.ScalarNode && !n.null() {
			return scalar.read(r, n)
		}
		return other.read(r, n)
	}}
}

var isolate = either(
	to(boolean(), func(_ *reader, _ *node, yes bool) *Isolate {
		if !yes {
			return nil
		}
		return &Isolate{Sandbox: SandboxFull}
	}),
	to(worker, func(_ *reader, _ *node, i Isolate) *Isolate { return &i }))

// plugins is the list of entries; a name alone is a plug-in of which nothing else is said.
var plugins = func() rule[[]Plugin] {
	entry := rule[Plugin]{entry.schema.with("dependencies", besides()), func(r *reader, n *node) Plugin {
		p := entry.read(r, n)
		r.sidecar(n, &p)
		return p
	}}
	one := either(to(pluginName, func(_ *reader, _ *node, name string) Plugin { return Plugin{Name: name, Enabled: true} }), entry)
	all := items("a list of plug-ins, each with - before it", rule[Plugin]{one.schema, func(r *reader, n *node) Plugin {
		// `- name:` is a mapping, and looks like a name.
		if key := n.onlyKey(); key != "" {
			r.fault(n, "the mapping "+quote(key+":"), "a plug-in's name, or a mapping with name and others", "Write - "+key+", or - name: "+key)
			return Plugin{}
		}
		p := one.read(r, n)
		p.Line, p.Column = n.position()
		return p
	}})
	return rule[[]Plugin]{all.schema, func(r *reader, n *node) []Plugin {
		found := all.read(r, n)
		first := map[string]int{}
		for i, p := range found {
			at := n.items[i]
			if line, again := first[p.Name]; again {
				r.fault(at, fmt.Sprintf("the plug-in %s a second time", p.Name), "each plug-in once",
					fmt.Sprintf("Make one of it and of the one in line %d", line))
			} else if p.Name != "" {
				first[p.Name] = p.Line
			}
		}
		return found
	}}
}()

// onlyKey returns the key of a mapping that has no other, which is no key of an entry but may be a plug-in's name; or "".
func (n *node) onlyKey() string {
	if n.Kind != yaml.MappingNode || len(n.items) != 1 {
		return ""
	}
	key := n.items[0].key.Value
	if _, known := entry.schema["properties"].(schema)[key]; known || !nameOf.MatchString(key) || !n.items[0].null() && n.items[0].Kind != yaml.MappingNode {
		return ""
	}
	return key
}

// settings are a plug-in's own. They may be anything that JSON can say.
var settings = rule[*Value]{schema{}, func(r *reader, n *node) *Value {
	if n.null() {
		return nil
	}
	r.finite(n)
	return &Value{n, r.file}
}}

// finite finds numbers that JSON does not have.
func (r *reader) finite(n *node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!float" {
		var f float64
		if n.Decode(&f) != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			r.fault(n, "a number without an end, or none", "a number that JSON has", "Put a text in quotes")
		}
	}
	for _, item := range n.items {
		r.finite(item)
	}
}

const keyPattern = `RW[QRST][A-Za-z0-9+/]{53}`

// noKey is the remedy for a text that is no key.
func noKey(s string) string {
	if len(s) > 56 && strings.HasPrefix(s, "RW") {
		return "A private key is of no use here, and is to be kept secret: write the line that begins with RW in the .pub file"
	}
	return "It is the line that begins with RW in the .pub file of ferrule keygen or minisign -G"
}

// indexPart is what registry.ValidName takes.
const indexPart = `[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?`

// maxName is how long a plug-in's name may be.
const maxName = 128

const namePattern = `[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*`

var (
	nameOf     = regexp.MustCompile("^" + namePattern + "$")
	pluginName = text("a plug-in's name: letters, digits, _, - and ., 128 of them at most, not dots alone", namePattern, maxName, nil)
	groupName  = text("a group's name: letters, digits, _, - and ., 128 of them at most, not dots alone", namePattern, 128, nil)
	indexName  = text("a registry's name: letters, digits, _, -, . and /, 128 of them at most, no part of which begins with . or -, or ends with .",
		indexPart+`(?:/`+indexPart+`)*`, 128, nil)
	inOrder   = text("a plug-in's name, or * once for all others", `\*|`+namePattern, 128, nil)
	pointName = text("a point's name: letters, digits and _, 128 of them at most, no digit first", `[A-Za-z_][A-Za-z0-9_]*`, 128, nil)
	offerName = text("a function's name, or the beginning of one and a *: letters, digits and _, 128 of them at most, no digit first",
		`\*|[A-Za-z_][A-Za-z0-9_]{0,127}\*?`, 0, nil)
	line = text("a text without control characters", `[^\x00-\x1f\x7f]*`, 0, nil)

	// A public key is 42 bytes in base64, the first two of which are Ed.
	publicKey  = text("a public key of minisign: 56 characters that begin with RW", keyPattern, 0, noKey)
	revokedKey = text("a public key of minisign, or the 16 hexadecimal digits of a key's id", keyPattern+"|[0-9A-Fa-f]{16}", 0, noKey)

	path = to(text("a path", `~|~[/\\][^\x00-\x1f\x7f]*|[^\x00-\x1f\x7f~][^\x00-\x1f\x7f]*`, 0, func(s string) string {
		if strings.HasPrefix(s, "~") {
			return "~ is the home folder where a / is behind it, or nothing: write the whole path"
		}
		return ""
	}), (*reader).path)
	paths = list("a list of paths", path)

	levels = []string{"CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"}
	level  = word(levels, map[string]slog.Level{"CRITICAL": LevelCritical, "ERROR": slog.LevelError, "WARNING": slog.LevelWarn,
		"INFO": slog.LevelInfo, "DEBUG": slog.LevelDebug})
	sandbox = word([]string{string(SandboxFull), string(SandboxBestEffort), string(SandboxNone)},
		map[string]Sandbox{string(SandboxFull): SandboxFull, string(SandboxBestEffort): SandboxBestEffort, string(SandboxNone): SandboxNone})

	count = narrow(integer("a number from 0 to 65535", 0, math.MaxUint16))
	tag   = to(orNumber(line), func(_ *reader, _ *node, s string) string {
		if s == "" {
			return unsaid.Tag
		}
		return s
	})
	versions = to(orNumber(line), func(r *reader, n *node, s string) string {
		if _, err := semver.NewConstraint(s); err != nil && s != "" {
			help := ""
			if strings.EqualFold(s, "latest") {
				help = "Leave it out for any version"
			}
			r.fault(n, n.found(), "a range of versions, such as ^2, ~1.4 or '>=1.2, <3'", help)
		}
		return s
	})
)

func port(low int64) rule[int] {
	return narrow(integer(fmt.Sprintf("a port from %d to 65535", low), low, math.MaxUint16))
}

func narrow(of rule[int64]) rule[int] {
	return to(of, func(_ *reader, _ *node, v int64) int { return int(v) })
}

// orNumber lets a text be written as a number, of which it has the digits: 1.10 is not 1.1.
func orNumber(of rule[string]) rule[string] {
	return rule[string]{of.schema.with("type", []string{"string", "number"}).with("minimum", 0), func(r *reader, n *node) string {
		if n.Kind == yaml.ScalarNode && (n.Tag == "!!int" || n.Tag == "!!float") && n.Value[0] >= '0' && n.Value[0] <= '9' {
			return n.Value
		}
		return of.read(r, n)
	}}
}

var duration = to(
	text("more than 0 with a unit, such as 50ms, 2s or 1m30s", `(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+`, 0, func(s string) string {
		if decimal.MatchString(s) && s[0] > '0' {
			return fmt.Sprintf("Say the unit: %sms, or %ss", s, s)
		}
		if joined := strings.ReplaceAll(s, " ", ""); joined != s {
			if d, err := time.ParseDuration(joined); err == nil && d > 0 {
				return "Did you mean " + joined + "?"
			}
		}
		return ""
	}),
	func(r *reader, n *node, s string) time.Duration {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			r.fault(n, n.found(), "more than 0 with a unit, such as 50ms, 2s or 1m30s, and at most 290 years", "Leave the key out where there is to be none")
		}
		return d
	})

// maxBytes is what no memory of today has.
const maxBytes = 1 << 50

// size is an amount of memory, of which less than least is never enough: 64 KiB are a page of a WebAssembly module's, and 1 MiB is too little for the messages of a worker.
func size(least int64, written string) rule[int64] {
	expected := "a size from " + written + " to 1024TiB, such as 256MiB, or a number of bytes"
	units := map[string]int{"": 0, "B": 0, "K": 10, "KiB": 10, "M": 20, "MiB": 20, "G": 30, "GiB": 30, "T": 40, "TiB": 40}
	parts := regexp.MustCompile(`^([0-9]+)(.*)$`)
	amount := to(text(expected, `[1-9][0-9]{0,15}(?:B|KiB|K|MiB|M|GiB|G|TiB|T)?`, 0, func(s string) string {
		p := parts.FindStringSubmatch(s)
		if p == nil || p[2] == "" {
			return ""
		}
		unit := strings.ToUpper(strings.TrimSpace(p[2]))
		if len(unit) > 3 || !strings.Contains("KMGT", unit[:min(1, len(unit))]) {
			return ""
		}
		return "Did you mean " + p[1] + unit[:min(1, len(unit))] + "iB?"
	}), func(r *reader, n *node, s string) int64 {
		p := parts.FindStringSubmatch(s)
		v := number(p[1])
		if v > maxBytes>>units[p[2]] || v<<units[p[2]] < least {
			r.fault(n, n.found(), expected, "")
			return 0
		}
		return v << units[p[2]]
	})
	bytes := integer(expected, least, maxBytes)
	return rule[int64]{schema{"anyOf": []schema{bytes.schema, amount.schema}}, func(r *reader, n *node) int64 {
		switch {
		case n.Kind != yaml.ScalarNode || n.Tag != "!!int":
			return amount.read(r, n)
		case decimal.MatchString(n.Value) && 0 < number(n.Value) && number(n.Value) < least:
			remedy := "Say the unit: " + n.Value + "MiB"
			if number(n.Value) >= 10_000 { // which are bytes
				remedy = "It is a number of bytes: the least is " + strconv.FormatInt(least, 10)
			}
			r.fault(n, n.found(), expected, remedy)
			return 0
		}
		return bytes.read(r, n)
	}}
}

// number is the value of digits that a pattern has let through.
func number(digits string) int64 {
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return v
}

var placeholders = []string{"name", "repository", "tag", "plugin", "version", "os", "arch", "ext"}

// schemes are what addresses begin with. Behind the last one no placeholders are taken.
var schemes = []string{"https", "http", "oci", "oci+http", "file"}

// aPath is how a text begins that is no address of a server, but a path from this folder, the home folder or a drive.
var aPath = regexp.MustCompile(`^(?:(?:\.{1,2}|~|[A-Za-z]:)(?:[/\\]|$)|\\)`)

var braces = regexp.MustCompile(`\{([^{}]*)\}`)

// address is the template of an address. It may have a password in it, and is shown in no error.
func address(none bool) rule[string] {
	const expected = "an address that begins with https://, http://, oci://, oci+http:// or file://, without spaces"
	// Of files there is this computer's alone, and a path from its root.
	const plain = `[^{}\x00-\x20\x7f]`
	const file = `file://(?:localhost)?/(?:[^{}?#%\x00-\x20\x7f]|%[0-9A-Fa-f]{2})*`
	pattern := `(?:` + file + `|(?:` + strings.ReplaceAll(strings.Join(schemes[:len(schemes)-1], "|"), "+", `\+`) + `)://(?:` + plain + `|\{(?:` + strings.Join(placeholders, "|") + `)\})+)`
	if none {
		pattern = `(?:` + pattern + `)?`
	}
	of := text(expected, pattern, 0, nil)
	valid := regexp.MustCompile(of.schema["pattern"].(string))
	return rule[string]{of.schema, func(r *reader, n *node) string {
		if !n.text() || valid.MatchString(n.Value) {
			return of.read(r, n)
		}
		for _, found := range braces.FindAllStringSubmatch(n.Value, -1) {
			if name := found[1]; !valid.MatchString("oci://{" + name + "}") {
				r.fault(n, "{"+strings.Trim(quote(name), `"`)+"}", "{"+strings.Join(placeholders, "}, {")+"}", didYouMean(name, placeholders))
				return ""
			}
		}
		scheme, _, ok := strings.Cut(n.Value, "://")
		switch {
		case !ok:
			remedy := "Write https:// before it"
			switch {
			case strings.HasPrefix(n.Value, "/"):
				remedy = "It is a path: write file:// before it"
			case aPath.MatchString(n.Value):
				remedy = "It is a path: write file:// and the whole path, such as file:///path/of/a/folder"
			}
			r.fault(n, "an address without ://", expected, remedy)
		case scheme == "file" && braces.MatchString(n.Value):
			r.fault(n, "a placeholder in an address of files", "file:// and the path of a folder or of a .zip alone: each release has its place in it", "Leave out what begins with {")
		case scheme == "file":
			found := "the address " + quote(n.Value)
			if strings.Contains(n.Value, "@") { // what stands before it may be a password
				found = "an address of files with a user, or with characters that a path may not have"
			}
			r.fault(n, found, "file:///path/of/a/folder or file:///path/of/a.zip, with the whole path",
				"In a path a space is written %20, ? %3F, # %23, % %25 and { %7B")
		case strings.ContainsAny(braces.ReplaceAllString(n.Value, ""), "{}"):
			r.fault(n, "a { or } by itself", "{"+strings.Join(placeholders, "}, {")+"}", "")
		case !slices.Contains(schemes, scheme):
			r.fault(n, "an address that begins with "+quote(scheme)+"://", expected, didYouMean(scheme, schemes))
		default:
			r.fault(n, "an address with a space, or with nothing behind ://", expected, "")
		}
		return ""
	}}
}
