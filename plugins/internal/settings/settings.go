// Package settings makes of a plug-in's settings in config.yaml what the plug-in gets: JSON in which references to secrets are
// resolved, and that is as the plug-in's schema says. No text of an error has a value of the settings in it: any may be a secret.
package settings

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/config"
)

// Error is what is wrong with a plug-in's settings.
type Error struct {
	Path   string // of the configuration file, or ""
	Plugin string
	Faults []Fault // one at least
}

// Fault is one thing that is wrong.
type Fault struct {
	config.Fault
	Reference string // what cannot be resolved, such as ${env:TOKEN}; "": the value is not as the plug-in's schema says
	Err       error  // why it cannot be resolved, or nil
}

// Error has a line for each fault.
func (e *Error) Error() string {
	c := config.Error{Path: e.Path}
	for _, f := range e.Faults {
		c.Faults = append(c.Faults, f.Fault)
	}
	return c.Error()
}

// Unwrap returns the causes of references that cannot be resolved.
func (e *Error) Unwrap() (causes []error) {
	for _, f := range e.Faults {
		if f.Err != nil {
			causes = append(causes, f.Err)
		}
	}
	return causes
}

// SchemaError says that a plug-in's schema of its settings is none. It is the plug-in's fault: no settings would do.
type SchemaError struct {
	Plugin string
	Err    error
}

func (e *SchemaError) Error() string {
	why := escape.Lines(e.Err.Error()) // it has words of the plug-in's
	if runes := []rune(why); len(runes) > 500 {
		why = string(runes[:500]) + "…"
	}
	return fmt.Sprintf("%s: the schema of its settings (ferrule_meta_config) is broken: %s. Ask the plug-in's author: this is not about your settings", e.Plugin, why)
}

func (e *SchemaError) Unwrap() error { return e.Err }

// Resolve returns the settings of a plug-in as JSON. In every text, though not in keys, ${env:NAME} and ${file:path} are replaced by the
// variable and by the file's text without the line break at its end; $${ is ${. A path is what config.Value.Path makes of it. What stands
// in the place of a reference is not looked at again.
//
// schema is the plug-in's JSON Schema, or "" when it has none; it loads no other. Without settings the result is nil: the plug-in is
// given none. Where its schema takes neither {} nor null then, what it lacks is an error, as if the settings were {}.
//
// secrets are the texts that references stand for, for a Redactor; those resolved so far when there is an error. An error is an *Error, or
// a *SchemaError. It is for any goroutine, as env and readFile are.
func Resolve(p *config.Plugin, schema string, env func(string) (string, bool), readFile func(string) ([]byte, error)) (settings []byte, secrets []string, err error) {
	r := &resolver{plugin: p, env: env, readFile: readFile}
	check, err := compile(schema)
	if err != nil {
		return nil, nil, &SchemaError{p.Name, err}
	}
	value := any(map[string]any{})
	if p.Config != nil {
		if value, err = decode(p.Config.JSON()); err != nil {
			return nil, nil, err
		}
		value = r.resolve(value, nil)
	}
	if check != nil && (tooMuch(check, value) || p.Config == nil && tooMuch(check, nil)) {
		return nil, r.secrets, &SchemaError{p.Name, fmt.Errorf("to check these settings by it takes more than %d steps", maxWork)}
	}
	if len(r.faults) == 0 && check != nil && (p.Config != nil || guarded(func() error { return check.Validate(nil) }) != nil) {
		if err := r.validate(check, schema, value); err != nil {
			return nil, r.secrets, &SchemaError{p.Name, err}
		}
	}
	if len(r.faults) > 0 {
		return nil, r.secrets, r.err()
	}
	if p.Config == nil {
		return nil, nil, nil
	}
	if len(r.secrets) == 0 && !r.changed {
		return p.Config.JSON(), nil, nil // in the order of the file
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, r.secrets, fmt.Errorf("%s: its settings as JSON: %w", p.Name, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), r.secrets, nil
}

// decode reads JSON, with numbers as they are written.
func decode(text []byte) (value any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return value, d.Decode(&value)
}

type resolver struct {
	plugin   *config.Plugin
	env      func(string) (string, bool)
	readFile func(string) ([]byte, error)
	secrets  []string
	changed  bool // a text is not as it was written
	faults   []Fault
}

func (r *resolver) err() error {
	e := &Error{Plugin: r.plugin.Name, Faults: r.faults}
	if r.plugin.Config != nil {
		e.Path = r.plugin.Config.File()
	}
	slices.SortStableFunc(e.Faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Where, b.Where), cmp.Compare(a.Expected, b.Expected))
	})
	return e
}

// fault returns a fault at a path in the settings.
func (r *resolver) fault(path []string, found, expected, remedy string) *Fault {
	f := Fault{Fault: config.Fault{Line: r.plugin.Line, Column: r.plugin.Column, Where: r.plugin.Name + ": config", Found: found, Expected: expected, Remedy: remedy}}
	if v := r.plugin.Config; v != nil {
		f.Line, f.Column = v.Position(path...)
		f.Where = v.Where(path...)
	}
	r.faults = append(r.faults, f)
	return &r.faults[len(r.faults)-1]
}

// resolve replaces the references below a value.
func (r *resolver) resolve(value any, path []string) any {
	switch v := value.(type) {
	case string:
		return r.text(v, path)
	case json.Number:
		if outsized(v) {
			r.fault(path, fmt.Sprintf("the number %.40s", v), sized, "Write a text, if the plug-in takes one")
		}
	case []any:
		for i := range v {
			v[i] = r.resolve(v[i], append(path, strconv.Itoa(i)))
		}
	case map[string]any:
		for key := range v {
			v[key] = r.resolve(v[key], append(path, key))
		}
	}
	return value
}

// text replaces the references in a text.
func (r *resolver) text(s string, path []string) string {
	var b strings.Builder
	for {
		at := strings.Index(s, "${")
		if at < 0 {
			b.WriteString(s)
			return b.String()
		}
		r.changed = true
		if at > 0 && s[at-1] == '$' {
			b.WriteString(s[:at-1] + "${")
			s = s[at+2:]
			continue
		}
		b.WriteString(s[:at])
		inside, rest, ok := strings.Cut(s[at+2:], "}")
		if !ok {
			r.fault(path, "a ${ that no } ends", "${env:NAME} or ${file:path}", "Write $${ where no reference is meant")
			return ""
		}
		secret, ok := r.reference(inside, path)
		if ok && secret != "" && !slices.Contains(r.secrets, secret) {
			r.secrets = append(r.secrets, secret)
		}
		b.WriteString(secret)
		s = rest
	}
}

// reference returns what a reference stands for.
func (r *resolver) reference(inside string, path []string) (secret string, ok bool) {
	kind, name, _ := strings.Cut(inside, ":")
	missing := func(found, expected, remedy string, err error) {
		f := r.fault(path, found, expected, remedy)
		f.Reference, f.Err = "${"+inside+"}", err
	}
	switch {
	case kind == "env" && name != "":
		if secret, ok = r.env(name); !ok {
			missing(fmt.Sprintf("${env:%s}, and no such variable in the environment", show(name)), "a variable that is set", "Set "+show(name)+" where the application is started", nil)
		} else if !utf8.ValidString(secret) {
			missing(fmt.Sprintf("${env:%s}, which is not UTF-8", show(name)), "a text", "", nil)
			return "", false
		}
		return secret, ok
	case kind == "file" && name != "":
		at, err := name, error(nil)
		if r.plugin.Config != nil {
			at, err = r.plugin.Config.Path(name)
		}
		var text []byte
		if err == nil {
			text, err = r.readFile(at)
		}
		switch {
		case err != nil:
			missing(fmt.Sprintf("${file:%s}, which cannot be read: %v", show(name), reason(err)), "a file with the secret", "", err)
			return "", false
		case !utf8.Valid(text):
			missing(fmt.Sprintf("${file:%s}, which is not UTF-8", show(name)), "a text file", "", nil)
			return "", false
		}
		return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), true
	}
	// What is inside may be anything, a part of a password as well.
	remedy := "Write $${ where no reference is meant"
	if near := abi.Nearest(kind, []string{"env", "file"}); near != "" && name != "" {
		remedy = "Did you mean ${" + near + ":…}?"
	}
	r.fault(path, "a ${…} that is no reference", "${env:NAME} or ${file:path}", remedy)
	return "", false
}

// show is a name in an error.
func show(name string) string {
	quoted := strconv.Quote(name)
	return quoted[1 : len(quoted)-1]
}

// reason is what the system says of a file, without its path: that is there already.
func reason(err error) error {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(next) {
		err = next
	}
	return err
}
