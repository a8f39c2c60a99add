package builtin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
)

// Engine returns an engine for loader.WithEngine that opens these plug-ins, each by its name in place of a path:
//
//	loader.Open("greeter", loader.WithEngine(builtin.Engine(greeter, counter)), loader.WithEngine(loader.Native()))
//
// opens the plug-in in Go of that name, and any other path as native code. A Plugin that is nil, or is not as its fields ask for, is a
// *loader.OpenError of the kind loader.ErrOption when it is used.
func Engine(plugins ...*Plugin) engine.Engine {
	e := &goEngine{plugins: make(map[string]*described, len(plugins))}
	for i, p := range plugins {
		if p == nil {
			e.fault = faulty(fmt.Sprintf("nil as plug-in %d", i+1), "a *builtin.Plugin")
			return e
		}
		d, err := describe(p)
		if err != nil {
			e.fault = err
			return e
		}
		if e.plugins[p.Name] != nil {
			e.fault = faulty(fmt.Sprintf("two plug-ins of the name %q", p.Name), "one of each name")
			return e
		}
		e.plugins[p.Name] = d
	}
	return e
}

type goEngine struct {
	plugins map[string]*described
	fault   error
}

// described is a plug-in with what a host is told of it.
type described struct {
	*Plugin
	about *abi.Description
	funcs []Func // in the order of about's Funcs, then of its Hooks
	lent  bool   // all of them are as From has made them, and so keep nothing of a call
}

// Name is engine.Engine's.
func (e *goEngine) Name() string { return "builtin.Engine" }

// Words is engine.Engine's.
func (e *goEngine) Words() engine.Words {
	names := make([]string, 0, len(e.plugins))
	for name := range e.plugins {
		names = append(names, name)
	}
	slices.Sort(names)
	return engine.Words{Kind: "plug-ins in Go", Names: names, Twice: "Give one builtin.Engine all plug-ins; builtin.Open gives one of its own",
		Overdue: "it holds its caller until then. Have it return when its context ends",
		Import:  "Imports: ", Start: "Start", Starting: "its Start"}
}

// Fault is engine.Engine's.
func (e *goEngine) Fault() error { return e.fault }

// Recognises is engine.Engine's.
func (e *goEngine) Recognises(f *engine.File) bool { return e.plugins[f.Path] != nil }

// Open is engine.Engine's.
func (e *goEngine) Open(ctx context.Context, f *engine.File, o *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	d := e.plugins[f.Path] // which is there: it opens what it recognises
	if o.SHA256 != nil {
		return nil, nil, &loader.OpenError{Path: f.Path, Kind: loader.ErrOption, Found: "WithSHA256 for a plug-in in Go", Expected: "no digest: there is no file",
			Remedy: "Leave it out"}
	}
	host, err := accept(d.about)
	if err != nil {
		return nil, nil, err
	}
	p, err := pool.Open(ctx, d.code(), host, o)
	if err != nil {
		return nil, nil, err
	}
	return p, d.about, nil
}

// code is the plug-in as package pool runs it.
func (d *described) code() *pool.Code {
	code := &pool.Code{About: d.about, Lent: d.lent, Names: pool.Names{Start: "Start", Stop: "Stop", Configure: "Configure", Save: "Save", Resume: "Resume"},
		Call: func(c *pool.Call, fn int, dst, in []byte) ([]byte, abi.Status, error) {
			out, err := d.funcs[fn](c, in)
			if err != nil {
				message, status := failure(err)
				return append(dst, message...), status, nil
			}
			return append(dst, out...), abi.StatusOK, nil
		}}
	if d.Start != nil {
		code.Start = func(c *pool.Call, config []byte) ([]byte, abi.Status, error) {
			state, err := d.Start(c, config)
			c.SetState(state)
			return outcome(nil, err)
		}
	}
	switch {
	case d.Stop != nil:
		code.Stop = func(c *pool.Call) { d.Stop(c.State()) }
	case d.StopContext != nil:
		code.Stop = func(c *pool.Call) {
			if err := d.StopContext(c, c.State()); err != nil {
				text := "Stop: "
				message, status := failure(err)
				if text += status.String(); len(message) > 0 {
					text += ": " + string(message)
				}
				c.Log(c, abi.LogWarn, []byte(text), nil)
			}
		}
	}
	if d.Configure != nil {
		code.Configure = func(c *pool.Call, config []byte) ([]byte, abi.Status, error) {
			return outcome(nil, d.Configure(c, c.State(), config))
		}
	}
	if d.Save != nil {
		code.Save = func(c *pool.Call, _ []byte) ([]byte, abi.Status, error) { return outcome(d.Save(c, c.State())) }
		code.Resume = func(c *pool.Call, saved []byte) ([]byte, abi.Status, error) {
			return outcome(nil, d.Resume(c, c.State(), saved))
		}
	}
	return code
}

// outcome is what package pool wants to know of what a function has returned.
func outcome(out []byte, err error) ([]byte, abi.Status, error) {
	if err != nil {
		message, status := failure(err)
		return message, status, nil
	}
	return out, abi.StatusOK, nil
}

func faulty(found, expected string) error {
	return &loader.OpenError{Kind: loader.ErrOption, Found: "builtin.Engine with " + found, Expected: expected, Remedy: "Change the builtin.Plugin"}
}

// faultyText is faulty for a text that a manifest, or a meta text, could not have.
func faultyText(of string, err error) error {
	if text, ok := errors.AsType[*abi.TextError](err); ok {
		found := text.Found
		if !strings.HasPrefix(found, "the key ") {
			found = fmt.Sprintf("key %q: %s", text.Key, found)
		}
		return faulty(of+": "+found, text.Expected)
	}
	return faulty(of+": "+err.Error(), "UTF-8 without a NUL")
}

// describe checks a plug-in as inspection checks a library.
func describe(p *Plugin) (*described, error) {
	if p.wrong != nil {
		return nil, p.wrong
	}
	if found, expected := fault(p); found != "" {
		return nil, faulty(found, expected)
	}
	text := fmt.Sprintf("ferrule=%d\x00name=%s\x00version=%s\x00threads=%s\x00", abi.Major, p.Name, p.Version, p.Threads)
	if p.Description != "" {
		text += "description=" + p.Description + "\x00"
	}
	if p.StateFormat != "" {
		text += "state=" + p.StateFormat + "\x00"
	}
	text, err := keys(text, p.Keys)
	if err != nil {
		return nil, faultyText(fmt.Sprintf("the Keys of %q", p.Name), err)
	}
	manifest, err := abi.ParseManifest([]byte(text + "\x00"))
	if err != nil {
		return nil, faultyText(fmt.Sprintf("the Keys of %q", p.Name), err)
	}
	d := &described{Plugin: p, lent: true, about: &abi.Description{Manifest: manifest, HasStart: p.Start != nil, HasStop: p.Stop != nil || p.StopContext != nil, ConfigSchema: p.ConfigSchema,
		HasConfigure: p.Configure != nil, HasSave: p.Save != nil, HasResume: p.Resume != nil}}
	for _, kind := range []struct {
		word string
		list []Function
		to   *[]abi.Symbol
	}{{"function", p.Funcs, &d.about.Funcs}, {"hook", p.Hooks, &d.about.Hooks}} {
		list := slices.Clone(kind.list)
		slices.SortFunc(list, func(a, b Function) int { return strings.Compare(a.Name, b.Name) })
		for i, f := range list {
			if err := named(p, kind.word, f.Name, i > 0 && list[i-1].Name == f.Name); err != nil {
				return nil, err
			}
			if f.Call == nil {
				return nil, faulty(fmt.Sprintf("the %s %s of %q without a Call", kind.word, f.Name, p.Name), "a function")
			}
			keys, err := meta(&f)
			if err != nil {
				return nil, faultyText(fmt.Sprintf("the %s %s of %q", kind.word, f.Name, p.Name), err)
			}
			symbol := abi.Symbol{Name: f.Name}
			if err := symbol.Describe(keys); err != nil {
				return nil, faultyText(fmt.Sprintf("the %s %s of %q", kind.word, f.Name, p.Name), err)
			}
			*kind.to = append(*kind.to, symbol)
			d.funcs = append(d.funcs, f.Call)
			d.lent = d.lent && f.made != nil && reflect.ValueOf(f.Call).Pointer() == reflect.ValueOf(f.made).Pointer() // the code of a wrapper is another
		}
	}
	for _, kind := range []struct {
		word string
		list []string
		to   *[]abi.Symbol
	}{{"import", p.Imports, &d.about.Imports}, {"want", p.Wants, &d.about.Wants}} {
		list := slices.Sorted(slices.Values(kind.list))
		for i, name := range list {
			if err := named(p, kind.word, name, i > 0 && list[i-1] == name); err != nil {
				return nil, err
			}
			symbol := abi.Symbol{Name: name}
			text, err := keys("", p.ImportKeys[name])
			if err == nil && text != "" {
				var parsed abi.Text
				if parsed, err = abi.ParseText([]byte(text + "\x00")); err == nil {
					err = symbol.Describe(parsed)
				}
			}
			if err != nil {
				return nil, faultyText(fmt.Sprintf("the %s %s of %q", kind.word, name, p.Name), err)
			}
			*kind.to = append(*kind.to, symbol)
		}
	}
	for _, want := range p.Wants {
		if slices.Contains(p.Imports, want) {
			return nil, faulty(fmt.Sprintf("%s of %q as an import and as a want", want, p.Name), "one of the two (rule R23)")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.ImportKeys)) {
		if !slices.Contains(p.Imports, name) && !slices.Contains(p.Wants, name) {
			return nil, faulty(fmt.Sprintf("%.140q among the ImportKeys of %q", name, p.Name), "one of its Imports or Wants")
		}
	}
	return d, nil
}

// fault says what is wrong with the plug-in's own fields, "" where nothing is, in the words of Go: the manifest's are of C.
func fault(p *Plugin) (found, expected string) {
	name := func(c rune) bool {
		return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
	}
	if p.Name == "" || len(p.Name) > abi.MaxName || strings.IndexFunc(p.Name, func(c rune) bool { return !name(c) }) >= 0 {
		return fmt.Sprintf("the Name %.140q", p.Name), fmt.Sprintf("1 to %d letters, digits, _, - or .", abi.MaxName)
	}
	if p.Version == "" {
		return fmt.Sprintf("%q without a Version", p.Name), "one such as 1.0.0"
	}
	if p.Threads > abi.Pinned {
		return fmt.Sprintf("%q with the Threads %d", p.Name, p.Threads), "abi.Serial, abi.Concurrent or abi.Pinned"
	}
	if (p.Save != nil) != (p.StateFormat != "") || (p.Resume != nil) != (p.StateFormat != "") {
		return fmt.Sprintf("%q with some of StateFormat, Save and Resume", p.Name), "all three, or none (rule R29)"
	}
	if p.Stop != nil && p.StopContext != nil {
		return fmt.Sprintf("%q with Stop and StopContext", p.Name), "one of the two"
	}
	for _, text := range [][2]string{{"Version", p.Version}, {"Description", p.Description}, {"StateFormat", p.StateFormat}} {
		if strings.Contains(text[1], "\x00") || !utf8.ValidString(text[1]) {
			return fmt.Sprintf("%q with the %s %.140q", p.Name, text[0], text[1]), "UTF-8 without a NUL"
		}
	}
	return "", ""
}

// meta is the function's meta text, nil where nothing is said of it.
func meta(f *Function) (abi.Text, error) {
	text := ""
	for _, kv := range []abi.KeyValue{{Key: "doc", Value: f.Doc}, {Key: "in", Value: f.In}, {Key: "out", Value: f.Out}, {Key: "schema", Value: f.Schema},
		{Key: "stream", Value: f.Stream.String()}} {
		if strings.Contains(kv.Value, "\x00") {
			return nil, fmt.Errorf("a NUL byte in its %s", kv.Key)
		}
		if kv.Value != "" {
			text += kv.Key + "=" + kv.Value + "\x00"
		}
	}
	text, err := keys(text, f.Keys)
	if err != nil || text == "" {
		return nil, err
	}
	return abi.ParseText([]byte(text + "\x00"))
}

// keys appends further keys to a text.
func keys(text string, more map[string]string) (string, error) {
	for _, key := range slices.Sorted(maps.Keys(more)) {
		if strings.ContainsAny(key, "=\x00") || strings.Contains(more[key], "\x00") {
			return "", fmt.Errorf("the key %.140q, or its value, with a NUL or an equals sign", key)
		}
		text += key + "=" + more[key] + "\x00"
	}
	return text, nil
}

func named(p *Plugin, kind, name string, twice bool) error {
	switch {
	case !abi.ValidName(name):
		return faulty(fmt.Sprintf("the %s %.140q of %q", kind, name, p.Name), "a C identifier of at most 128 bytes")
	case twice:
		return faulty(fmt.Sprintf("two of the %s %s of %q", kind, name, p.Name), "each name once")
	}
	return nil
}

// failure makes a status and a message of the error of a function of the plug-in's.
func failure(err error) (message []byte, status abi.Status) {
	if s, ok := err.(*said); ok {
		return []byte(s.message), s.status
	}
	if _, others := errors.AsType[*loader.CallError](err); others {
		return engine.Failure(err)
	}
	status, _ = engine.StatusOf(err)
	return engine.Message(err, status), status
}

// Describe returns what a plug-in says of itself, without opening it, as loader.Inspect does for a file. The error is the *loader.OpenError that Open
// would return for a Plugin that is not as its fields ask for. The description is shared: read it only.
func Describe(p *Plugin) (*abi.Description, error) {
	if p == nil {
		return nil, faulty("nil", "a *builtin.Plugin")
	}
	d, err := describe(p)
	if err != nil {
		return nil, err
	}
	return d.about, nil
}
