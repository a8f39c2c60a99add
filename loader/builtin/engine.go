package builtin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/engine"
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
}

// Name is engine.Engine's.
func (e *goEngine) Name() string { return "builtin.Engine" }

// Fault is engine.Engine's.
func (e *goEngine) Fault() error { return e.fault }

// Recognises is engine.Engine's.
func (e *goEngine) Recognises(f *engine.File) bool { return e.plugins[f.Path] != nil }

// Open is engine.Engine's.
func (e *goEngine) Open(ctx context.Context, f *engine.File, o *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	d := e.plugins[f.Path]
	if d == nil {
		names := make([]string, 0, len(e.plugins))
		for name := range e.plugins {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, nil, &loader.OpenError{Path: f.Path, Kind: loader.ErrNoEngine, Found: "no name of a plug-in in Go",
			Expected: cmp.Or(strings.Join(names, " or "), "one; the engine was given none"),
			Remedy:   "Give builtin.Engine the plug-in, or add the engine that opens such files with loader.WithEngine"}
	}
	if o.SHA256 != nil {
		return nil, nil, &loader.OpenError{Path: f.Path, Kind: loader.ErrOption, Found: "WithSHA256 for a plug-in in Go", Expected: "no digest: there is no file",
			Remedy: "Leave it out"}
	}
	host, err := accept(d.about)
	if err != nil {
		return nil, nil, err
	}
	p, err := start(ctx, d, host, o)
	if err != nil {
		return nil, nil, err
	}
	return p, d.about, nil
}

func faulty(found, expected string) error {
	return &loader.OpenError{Kind: loader.ErrOption, Found: "builtin.Engine with " + found, Expected: expected, Remedy: "Change the builtin.Plugin"}
}

// describe checks a plug-in as inspection checks a library.
func describe(p *Plugin) (*described, error) {
	text := fmt.Sprintf("ferrule=%d\x00name=%s\x00version=%s\x00threads=%s\x00", abi.Major, p.Name, p.Version, p.Threads)
	if p.Description != "" {
		text += "description=" + p.Description + "\x00"
	}
	if strings.Count(text, "\x00") > 5 || p.Description == "" && strings.Count(text, "\x00") > 4 {
		return nil, faulty(fmt.Sprintf("a NUL byte in %q, its version or its description", p.Name), "none")
	}
	manifest, err := abi.ParseManifest([]byte(text + "\x00"))
	if err != nil {
		return nil, faulty(fmt.Sprintf("%q: %v", p.Name, err), "what a manifest may say")
	}
	d := &described{Plugin: p, about: &abi.Description{Manifest: manifest, HasStart: p.Start != nil, HasStop: p.Stop != nil}}
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
				return nil, faulty(fmt.Sprintf("the %s %s of %q: %v", kind.word, f.Name, p.Name, err), "what a meta text may say")
			}
			*kind.to = append(*kind.to, abi.Symbol{Name: f.Name, Doc: f.Doc, In: f.In, Out: f.Out, Schema: f.Schema, Keys: keys})
			d.funcs = append(d.funcs, f.Call)
		}
	}
	imports := slices.Sorted(slices.Values(p.Imports))
	for i, name := range imports {
		if err := named(p, "import", name, i > 0 && imports[i-1] == name); err != nil {
			return nil, err
		}
		d.about.Imports = append(d.about.Imports, abi.Symbol{Name: name})
	}
	return d, nil
}

// meta is the function's meta text, nil where nothing is said of it.
func meta(f *Function) (abi.Text, error) {
	text := ""
	for _, kv := range []abi.KeyValue{{Key: "doc", Value: f.Doc}, {Key: "in", Value: f.In}, {Key: "out", Value: f.Out}, {Key: "schema", Value: f.Schema}} {
		if strings.Contains(kv.Value, "\x00") {
			return nil, fmt.Errorf("a NUL byte in its %s", kv.Key)
		}
		if kv.Value != "" {
			text += kv.Key + "=" + kv.Value + "\x00"
		}
	}
	if text == "" {
		return nil, nil
	}
	return abi.ParseText([]byte(text + "\x00"))
}

func named(p *Plugin, kind, name string, twice bool) error {
	switch {
	case !abi.ValidName(name):
		return faulty(fmt.Sprintf("the %s %q of %q", kind, name, p.Name), "a C identifier of at most 128 bytes")
	case twice:
		return faulty(fmt.Sprintf("two of the %s %s of %q", kind, name, p.Name), "each name once")
	}
	return nil
}
