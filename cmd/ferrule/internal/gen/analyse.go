package gen

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/doc"
	"go/token"
	"go/types"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	modpath "golang.org/x/mod/module"

	"github.com/ferrule-dev/ferrule/abi"
	sdkplugin "github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// plugin is what a package says of itself.
type plugin struct {
	pkg                          *pkg
	name, version                string
	threads, description, config string
	keys                         map[string]string // the others of its manifest
	functions, hooks             []*function
	imports, wants               []*function
	start                        *service
	stop, configure, save        *service
	resume                       *service
	state                        string // the type whose methods are called, without a start function ""
}

// function is a function, a hook, or a variable that is an import.
type function struct {
	name   string // for the host
	goName string
	method bool // of the state
	keys   map[string]string
	noted  *noted
	shape  shape
	typ    types.Type // of a variable
	at     token.Pos
}

// service is one of start, stop, configure, save and resume.
type service struct {
	err    bool // of start, whose results are the state's
	goName string
	shape  shape
	at     token.Pos
}

func names(list []*function) []string {
	all := make([]string, len(list))
	for i, f := range list {
		all[i] = f.name
	}
	return all
}

// noted is a directive at its place.
type noted struct {
	*directive
	comment *ast.Comment
	used    bool
}

// analysis is one reading of a package.
type analysis struct {
	*pkg
	plugin  *plugin
	pending []*noted // in their order
	at      map[*ast.CommentGroup][]*noted
	methods []method // with the type of each receiver
	main    *noted
	saved   map[string]value
}

type method struct {
	typ  string
	what string
	at   token.Pos
}

// analyse finds what a package says of itself, and notes each thing that is wrong in p.faults.
func analyse(p *pkg) *plugin {
	a := &analysis{pkg: p, plugin: &plugin{pkg: p, keys: map[string]string{}}, at: map[*ast.CommentGroup][]*noted{}, saved: map[string]value{}}
	for _, f := range p.files {
		a.collect(f)
	}
	for _, f := range p.files {
		if f.use == "" {
			a.file(f.syntax)
		}
	}
	for _, n := range a.pending {
		if !n.used {
			a.faultIn(n, 0, prefix+n.word+" at a place where it means nothing", "it in "+placeOf(n.word), "Is there an empty line between them?")
		}
	}
	a.whole()
	pl := a.plugin
	for _, list := range [][]*function{pl.functions, pl.hooks, pl.imports, pl.wants} {
		slices.SortFunc(list, func(a, b *function) int { return strings.Compare(a.name, b.name) })
	}
	return pl
}

// faultIn notes what is wrong with a directive, at a number of bytes from its comment's first.
func (a *analysis) faultIn(n *noted, at int, found, expected, remedy string) {
	a.fault(n.comment.Pos()+token.Pos(at), found, expected, remedy)
}

// spaced is a directive that is none for a blank before its word; behind the colon, where prose has one too, what follows are keys.
var spaced = regexp.MustCompile(`^//(?:[ \t]+ferrule[ \t]*:(\w+)(?:[ \t\r].*)?|[ \t]*ferrule[ \t]*:[ \t]*(\w+)(?:[ \t]+[\w.-]+=.*|[ \t\r]*))$`)

// collect reads the directives of a file.
func (a *analysis) collect(f *file) {
	for _, group := range f.syntax.Comments {
		for _, c := range group.List {
			if !strings.HasPrefix(c.Text, prefix) {
				if m := spaced.FindStringSubmatch(c.Text); m != nil && f.use == "" && placeOf(m[1]+m[2]) != "" {
					a.fault(c.Pos(), "a directive with a blank in it", prefix+m[1]+m[2]+" without one", "Leave the blank out")
				}
				continue
			}
			d, slips := parse(c.Text)
			n := &noted{directive: d, comment: c}
			for _, s := range slips {
				a.faultIn(n, s.at, s.found, s.expected, s.remedy)
			}
			switch {
			case placeOf(d.word) == "":
				continue
			case f.use != "":
				a.faultIn(n, 0, fmt.Sprintf("%s%s in a file that is %s", prefix, d.word, f.use), "it in a file that every build of the package has",
					"Call from there what is different here")
				continue
			}
			a.pending = append(a.pending, n)
			a.at[group] = append(a.at[group], n)
		}
	}
}

// take returns the directives of a doc comment that are among these words.
func (a *analysis) take(doc *ast.CommentGroup, words ...string) (found []*noted) {
	for _, n := range a.at[doc] {
		if slices.Contains(words, n.word) && !n.used {
			n.used = true
			found = append(found, n)
		}
	}
	return found
}

// misplaced notes those of a doc comment that are for something else.
func (a *analysis) misplaced(doc *ast.CommentGroup, place string) {
	for _, n := range a.at[doc] {
		if !n.used {
			n.used = true
			a.faultIn(n, 0, prefix+n.word+" in the doc comment of "+place, "it in "+placeOf(n.word), "")
		}
	}
}

// file reads the declarations of a file.
func (a *analysis) file(f *ast.File) {
	if f.Doc != nil {
		for _, n := range a.take(f.Doc, "plugin") {
			if a.main != nil {
				a.faultIn(n, 0, "a second "+prefix+"plugin", "one, as at "+a.fset.Position(a.main.comment.Pos()).String(), "")
				continue
			}
			a.main = n
			a.manifest(n, new(doc.Package).Synopsis(f.Doc.Text()))
		}
		a.misplaced(f.Doc, "the package")
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			a.funcDecl(d)
		case *ast.GenDecl:
			a.genDecl(d)
		}
	}
}

// genDecl reads variables; of others, and of more than one variable at a time, a directive means nothing.
func (a *analysis) genDecl(d *ast.GenDecl) {
	kind := "a declaration"
	switch d.Tok {
	case token.TYPE:
		kind = "a type"
	case token.CONST:
		kind = "a constant"
	case token.VAR:
		kind = "a variable"
	}
	for _, s := range d.Specs {
		v, ok := s.(*ast.ValueSpec)
		docs := []*ast.CommentGroup{}
		switch s := s.(type) {
		case *ast.ValueSpec:
			docs = append(docs, s.Doc)
		case *ast.TypeSpec:
			docs = append(docs, s.Doc)
		}
		if !d.Lparen.IsValid() {
			docs = append(docs, d.Doc)
		}
		for _, doc := range docs {
			if doc == nil {
				continue
			}
			if ok && d.Tok == token.VAR {
				for _, n := range a.take(doc, "import", "want") {
					a.variable(n, v, doc)
				}
			}
			a.misplaced(doc, kind)
		}
	}
	if d.Lparen.IsValid() && d.Doc != nil {
		a.misplaced(d.Doc, kind+" list")
	}
}

// variable reads an import.
func (a *analysis) variable(n *noted, v *ast.ValueSpec, doc *ast.CommentGroup) {
	if len(v.Names) != 1 {
		a.faultIn(n, 0, fmt.Sprintf("%s%s at %d variables", prefix, n.word, len(v.Names)), "it at one", "Declare each by itself")
		return
	}
	ident := v.Names[0]
	what := "the variable " + ident.Name
	if len(v.Values) > 0 {
		a.fault(v.Values[0].Pos(), "a value of "+what, "none: "+goFile+" sets it", "Leave it out; a test may set the variable")
		return
	}
	obj := a.info.Defs[ident]
	if obj == nil || ident.Name == "_" {
		a.fault(ident.Pos(), "the variable _", "one with a name", "")
		return
	}
	sig, ok := obj.Type().Underlying().(*types.Signature)
	if !ok {
		a.fault(ident.Pos(), what+" of the type "+a.text(obj.Type()), "a function: func(ctx context.Context, …) (…, error)", "")
		return
	}
	f := &function{noted: n, goName: ident.Name, typ: obj.Type(), at: ident.Pos()}
	before := len(a.faults)
	f.shape = a.shapeOf(what, sig, ident.Pos(), false)
	if len(a.faults) == before && (!f.shape.ctx || !f.shape.err) {
		a.fault(ident.Pos(), what+" of the type "+a.text(obj.Type()), "ctx context.Context as its first parameter and error as its last result", "")
	}
	// A host function's result comes from the host, its input goes there.
	a.turned(&f.shape, sig, ident.Pos(), what)
	if len(a.faults) == before {
		// Its type may be one of another package's, which need not say what that has for itself.
		a.nameable(f.shape.in, ident.Pos(), "the parameter of "+what)
		a.nameable(f.shape.out, ident.Pos(), "the result of "+what)
	}
	f.keys = a.keysOf(n, abi.KindImport, []string{"doc", "from", "why", "version"}, docText(doc))
	f.name = a.nameOf(n, ident.Name)
	list := &a.plugin.imports
	if n.word == "want" {
		list = &a.plugin.wants
	}
	for _, other := range slices.Concat(a.plugin.imports, a.plugin.wants) {
		if other.name == f.name {
			a.fault(ident.Pos(), "a second import or want "+f.name, "each name once, and one is at "+a.fset.Position(other.at).String(), "")
			return
		}
	}
	*list = append(*list, f)
}

// turned looks at the types of an import the other way round.
func (a *analysis) turned(s *shape, sig *types.Signature, at token.Pos, what string) {
	if s.out.form == asJSON {
		a.valueOf(sig.Results().At(0).Type(), at, "the result of "+what, true)
	}
	a.kept(s.in, at, "the parameter of "+what)
}

// funcDecl reads a function, or a method.
func (a *analysis) funcDecl(d *ast.FuncDecl) {
	if d.Doc == nil || len(a.at[d.Doc]) == 0 {
		return
	}
	obj, _ := a.info.Defs[d.Name].(*types.Func)
	if obj == nil {
		a.misplaced(d.Doc, "a function that does not compile")
		return
	}
	sig := obj.Type().(*types.Signature)
	what, receiver := d.Name.Name, ""
	if d.Recv != nil {
		what, receiver = a.receiver(d, sig)
	}
	if n := a.take(d.Doc, "start"); len(n) > 0 {
		if d.Recv != nil {
			a.faultIn(n[0], 0, prefix+"start at the method "+what, "it at a function", "")
		} else {
			a.once(n)
			a.startFunc(n[0], d, sig)
		}
	}
	for _, word := range []string{"stop", "configure", "save", "resume"} {
		n := a.take(d.Doc, word)
		if len(n) == 0 {
			continue
		}
		if d.Recv == nil {
			a.faultIn(n[0], 0, prefix+word+" at the function "+what, "it at a method of the type that "+prefix+"start returns", "")
			continue
		}
		a.once(n)
		a.methods = append(a.methods, method{receiver, what, d.Name.Pos()})
		a.service(n[0], word, d, sig, what)
	}
	exports := a.take(d.Doc, "export")
	for i, n := range exports {
		if i > 0 {
			a.faultIn(n, 0, "a second "+prefix+"export of "+what, "one", "")
			continue
		}
		a.function(n, d, sig, what, receiver, &a.plugin.functions)
	}
	for _, n := range a.take(d.Doc, "hook") {
		a.function(n, d, sig, what, receiver, &a.plugin.hooks)
	}
	a.misplaced(d.Doc, "a function")
}

// once notes directives that are there again.
func (a *analysis) once(n []*noted) {
	for _, again := range n[1:] {
		a.faultIn(again, 0, "a second "+prefix+again.word, "one", "")
	}
	for _, k := range n[0].keys {
		a.faultIn(n[0], k.at, "the key "+k.name, prefix+n[0].word+" without keys", "")
	}
}

// receiver is a method in words, and the name of its type.
func (a *analysis) receiver(d *ast.FuncDecl, sig *types.Signature) (what, typ string) {
	t := types.Unalias(sig.Recv().Type())
	pointer, ok := t.(*types.Pointer)
	if ok {
		t = types.Unalias(pointer.Elem())
	}
	n, isNamed := t.(*types.Named)
	if !isNamed {
		return d.Name.Name, "" // which does not compile
	}
	what, typ = a.text(n)+"."+d.Name.Name, n.Obj().Name()
	switch {
	case n.TypeParams().Len() > 0:
		a.fault(d.Recv.Pos(), "the method "+what+" of a generic type", "one of a type without parameters", "")
	case !n.Obj().Exported():
		a.fault(d.Recv.Pos(), "the unexported type "+typ, "an exported one: what a host calls is seen from outside", "Name it "+exportedName(typ))
	case !ok:
		a.fault(d.Recv.Pos(), "the receiver "+typ+" of "+what, "*"+typ+": each call would have a copy of the state", "")
	}
	return what, typ
}

func exportedName(name string) string {
	return strings.ToUpper(name[:1]) + name[1:]
}

// callable notes why what is wrapped cannot be called from what is written.
func (a *analysis) callable(d *ast.FuncDecl, sig *types.Signature, what string) {
	switch {
	case sig.TypeParams().Len() > 0:
		a.fault(d.Name.Pos(), "the generic function "+what, "one without type parameters", "Export one that calls it with a type")
	case d.Name.Name == "_" || d.Name.Name == "init":
		a.fault(d.Name.Pos(), "the function "+what+", which nobody can call", "one with a name", "")
	case !d.Name.IsExported():
		a.fault(d.Name.Pos(), "the unexported function "+what, "an exported one: what a host calls is seen from outside", "Name it "+exportedName(d.Name.Name))
	}
}

// keys of functions and hooks that hosts know.
var functionKeys = []string{"doc", "in", "out", "schema", "in-schema", "out-schema", "stream", "since", "deprecated", "idempotent", "quick"}
var hookKeys = append(slices.Clone(functionKeys), "order", "before", "after", "priority", "wrap", "optional")

// function reads a function, or a hook.
func (a *analysis) function(n *noted, d *ast.FuncDecl, sig *types.Signature, what, receiver string, list *[]*function) {
	a.callable(d, sig, what)
	f := &function{noted: n, goName: d.Name.Name, method: d.Recv != nil, at: d.Name.Pos()}
	f.shape = a.shapeOf(what, sig, d.Name.Pos(), true)
	a.kept(f.shape.out, d.Name.Pos(), "the result of "+what)
	if f.method {
		a.methods = append(a.methods, method{receiver, what, d.Name.Pos()})
	}
	kind, known := abi.KindFunc, functionKeys
	if n.word == "hook" {
		kind, known, f.name = abi.KindHook, hookKeys, n.point
		if n.point != "" && !abi.ValidName(n.point) {
			a.faultIn(n, 0, "the extension point "+short(n.point), "a C identifier of 1 to 128 bytes", "")
		}
		if _, at, ok := n.get("name"); ok {
			a.faultIn(n, at, "the key name of a hook", "its point's name as "+prefix+"hook POINT", "")
		}
	} else {
		f.name = a.nameOf(n, d.Name.Name)
	}
	f.keys = a.keysOf(n, kind, known, docText(d.Doc))
	if stream, at, ok := n.get("stream"); ok && slices.Contains([]string{"in", "out", "both"}, stream) && stream != f.shape.stream() {
		a.faultIn(n, at, "stream="+stream, cmp.Or(f.shape.stream(), "no stream")+", as its parameters say", "Leave the key out: an io.Reader and an io.Writer make it")
	}
	for key, text := range map[string]string{"in": f.shape.in.form.media(), "out": f.shape.out.form.media(), "stream": f.shape.stream()} {
		if _, ok := f.keys[key]; !ok && text != "" {
			f.keys[key] = text
		}
	}
	for _, other := range *list {
		if other.name == f.name && f.name != "" {
			remedy := "Give one another: " + prefix + "export name=…"
			if n.word == "hook" {
				remedy = "Have one call the other"
			}
			a.fault(d.Name.Pos(), "a second "+cmp.Or(map[string]string{"hook": "hook of the point "}[n.word], "function ")+f.name, "each name once, and one is at "+a.fset.Position(other.at).String(), remedy)
			return
		}
	}
	*list = append(*list, f)
}

// nameOf is the name that a host knows a function by.
func (a *analysis) nameOf(n *noted, goName string) string {
	if name, at, ok := n.get("name"); ok {
		if !abi.ValidName(name) {
			a.faultIn(n, at, "the name "+short(name), "a C identifier of 1 to 128 bytes", "")
		}
		return name
	}
	name := snake(goName)
	if !abi.ValidName(name) {
		a.faultIn(n, 0, "the name "+short(name)+", which "+goName+" makes", "a C identifier of 1 to 128 bytes", "Give one: "+prefix+n.word+" name=…")
	}
	return name
}

// keysOf are the keys of a meta text: those of the directive, and the doc comment.
func (a *analysis) keysOf(n *noted, kind abi.SymbolKind, known []string, doc string) map[string]string {
	keys := map[string]string{}
	if doc != "" {
		keys["doc"] = doc
	}
	for _, k := range n.keys {
		if k.name == "name" {
			continue
		}
		a.known(n, k, known)
		if err := new(abi.Symbol).Describe(abi.Text{{Key: k.name, Value: k.value}}); err != nil {
			a.contract(n, k.at, err)
		}
		keys[k.name] = k.value
	}
	maps.DeleteFunc(keys, func(_, value string) bool { return value == "" })
	return keys
}

// known notes a key that is likely to be another that is misspelt: hosts keep those that they do not know.
func (a *analysis) known(n *noted, k key, known []string) {
	if slices.Contains(known, k.name) || strings.HasPrefix(k.name, "x-") || strings.HasPrefix(k.name, "draft.") {
		return
	}
	if near := abi.Nearest(k.name, append([]string{"name"}, known...)); near != "" {
		a.faultIn(n, k.at, "the key "+k.name, "one that hosts know, or one of yours, which begins with x-", "Did you mean "+near+"?")
	}
}

// contract notes what package abi says of a value.
func (a *analysis) contract(n *noted, at int, err error) {
	if e, ok := err.(*abi.TextError); ok {
		found := e.Found
		if e.Key != "" && !strings.HasPrefix(found, "the key ") {
			found = e.Key + "=" + found
		}
		a.faultIn(n, at, found, e.Expected+" (rule "+e.Rule+")", "")
		return
	}
	a.faultIn(n, at, err.Error(), "what ferrule.h says", "")
}

// sizes notes each text that is longer than the contract allows, and the whole of them where no sidecar could send it.
func (a *analysis) sizes() {
	p := a.plugin
	d := sdkplugin.Definition{Name: p.name, Version: p.version, Description: p.description, Threads: p.threads, Keys: p.keys, Config: p.config}
	if p.start != nil {
		d.Start = func(context.Context, []byte) (any, error) { return nil, nil }
	}
	if p.stop != nil {
		d.Stop = func(context.Context, any) error { return nil }
	}
	if p.configure != nil {
		d.Configure = func(context.Context, any, []byte) error { return nil }
	}
	if p.save != nil && p.resume != nil {
		d.Save, d.Resume = func(context.Context, any) ([]byte, error) { return nil, nil }, func(context.Context, any, []byte) error { return nil }
	}
	size := func(n *noted, text string) {
		if size := len(text) + 1; size > abi.MaxText {
			a.faultIn(n, 0, "keys and a doc comment of "+strconv.Itoa(size)+" bytes", fmt.Sprintf("%d at most (rule R1)", abi.MaxText), "")
		}
	}
	size(a.main, p.text())
	nothing := func(context.Context, any, []byte) ([]byte, error) { return nil, nil }
	for _, list := range []struct {
		all []*function
		to  *[]sdkplugin.Function
	}{{p.functions, &d.Functions}, {p.hooks, &d.Hooks}} {
		for _, f := range list.all {
			size(f.noted, text(f.keys))
			*list.to = append(*list.to, sdkplugin.Function{Name: f.name, Keys: f.keys, Call: nothing})
		}
	}
	for _, list := range []struct {
		all []*function
		to  *[]sdkplugin.Import
	}{{p.imports, &d.Imports}, {p.wants, &d.Wants}} {
		for _, f := range list.all {
			size(f.noted, text(f.keys))
			*list.to = append(*list.to, sdkplugin.Import{Name: f.name, Keys: f.keys})
		}
	}
	if len(a.faults) > 0 {
		return
	}
	if size := len(sdkplugin.New(d).Manifest()); size > maxHello {
		a.faultIn(a.main, 0, "a plug-in whose texts have "+strconv.Itoa(size)+" bytes as JSON", fmt.Sprintf("%d at most, which is all that a sidecar may say of itself (docs/wire.md, W2)", maxHello),
			"Make its doc comments shorter, or its schema")
	}
}

// maxHello is the longest body of a sidecar's HELLO.
const maxHello = 1 << 20

// docText is a doc comment without its directives.
func docText(doc *ast.CommentGroup) string {
	if doc == nil {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(doc.Text(), "\uFFFD"))
}

// manifestKeys are the keys of a manifest that hosts know.
var manifestKeys = []string{"name", "version", "threads", "description", "config", "homepage", "license", "authors", "state", "health", "provides", "requires", "conflicts",
	"permit.read", "permit.write", "permit.connect", "permit.listen", "permit.memory"}

// manifest reads the directive of the plug-in itself.
func (a *analysis) manifest(n *noted, synopsis string) {
	p := a.plugin
	p.description = synopsis
	for _, k := range n.keys {
		switch k.name {
		case "name":
			p.name = k.value
		case "version":
			p.version = k.value
		case "threads":
			p.threads = k.value
		case "description":
			p.description = k.value
		case "ferrule":
			a.faultIn(n, k.at, "the key ferrule", "none: it is written by itself", "")
			continue
		case "config":
			var object map[string]any
			switch err := json.Unmarshal([]byte(k.value), &object); {
			case err != nil:
				a.faultIn(n, k.at, "config= that is no JSON object: "+err.Error(), "a JSON Schema", "")
			case len(k.value) >= 1<<20: // and its NUL
				a.faultIn(n, k.at, "config= of "+strconv.Itoa(len(k.value))+" bytes", "1 MiB at most (rule R32)", "")
			}
			p.config = k.value
			continue
		default:
			if k.value != "" {
				p.keys[k.name] = k.value
			}
		}
		if !strings.HasPrefix(k.name, "host.") {
			a.known(n, k, manifestKeys)
		}
	}
	for _, name := range []string{"name", "version"} {
		if value, at, _ := n.get(name); value == "" {
			a.faultIn(n, at, prefix+"plugin without "+name+"=", "it, such as "+map[string]string{"name": "name=" + a.types.Name(), "version": "version=1.0.0"}[name], "")
			return
		}
	}
	_, at, _ := n.get("name")
	if len(p.text()) >= abi.MaxText {
		return // which sizes says
	} else if _, err := abi.ParseManifest([]byte(p.text() + "\x00")); err != nil {
		at := 0
		if e, ok := err.(*abi.TextError); ok {
			_, at, _ = n.get(e.Key)
		}
		a.contract(n, at, err)
	} else if bad := badProgram(p.name); bad != "" {
		a.faultIn(n, at, "the name "+short(p.name)+", "+bad, "letters, digits, _, - and ., and a letter or a digit first", "")
	}
}

// badProgram says why there can be no folder cmd/NAME for a plug-in of this name that Go builds.
func badProgram(name string) string {
	if err := modpath.CheckImportPath("example.com/cmd/" + name); err != nil || strings.IndexByte("_.-", name[0]) >= 0 || name == "vendor" || name == "testdata" {
		return "which Go builds nothing in a folder of"
	}
	return ""
}

// NameFault says what is wrong with a name for a plug-in in Go, "" where nothing is.
func NameFault(name string) string {
	if _, err := abi.ParseManifest([]byte("ferrule=1\x00name=" + name + "\x00version=1\x00\x00")); err != nil {
		return "which is none of a plug-in"
	}
	return badProgram(name)
}

// startFunc reads the function that makes the state.
func (a *analysis) startFunc(n *noted, d *ast.FuncDecl, sig *types.Signature) {
	what := d.Name.Name
	if a.plugin.start != nil {
		a.faultIn(n, 0, "a second "+prefix+"start", "one, as at "+a.fset.Position(a.plugin.start.at).String(), "")
		return
	}
	s := &service{goName: what, at: d.Name.Pos()}
	a.plugin.start = s
	a.callable(d, sig, what)
	results := sig.Results()
	s.err = results.Len() == 2 && isError(results.At(1).Type())
	const expected = "(*T, error) or *T, where T is a type of this package"
	if results.Len() != 1 && !s.err {
		a.fault(d.Name.Pos(), "the results "+a.text(results)+" of "+what, expected, "")
		return
	}
	pointer, ok := types.Unalias(results.At(0).Type()).(*types.Pointer)
	var state *types.Named
	if ok {
		state, ok = types.Unalias(pointer.Elem()).(*types.Named)
	}
	switch {
	case !ok || state.Obj().Pkg() != a.types || state.TypeArgs().Len() > 0:
		if !a.uncertain || !invalid(results.At(0).Type()) {
			a.fault(d.Name.Pos(), "the result "+a.text(results.At(0).Type())+" of "+what, expected, "")
		}
		return
	case types.IsInterface(state):
		a.fault(d.Name.Pos(), "the result "+a.text(results.At(0).Type())+" of "+what+", a pointer to an interface", expected, "")
		return
	case !state.Obj().Exported():
		a.fault(state.Obj().Pos(), "the unexported type "+state.Obj().Name()+", which "+what+" returns", "an exported one: what a host calls is seen from outside",
			"Name it "+exportedName(state.Obj().Name()))
	}
	a.plugin.state = state.Obj().Name()
	only := types.NewSignatureType(nil, nil, nil, sig.Params(), nil, sig.Variadic())
	s.shape.ctx, s.shape.in = a.taken(what, only, d.Name.Pos())
}

func invalid(t types.Type) bool {
	for {
		p, ok := types.Unalias(t).(*types.Pointer)
		if !ok {
			return t == types.Typ[types.Invalid]
		}
		t = p.Elem()
	}
}

// taken are the parameters of what may have a context and a value.
func (a *analysis) taken(what string, sig *types.Signature, at token.Pos) (ctx bool, in value) {
	s := a.shapeOf(what, sig, at, false)
	return s.ctx, s.in
}

// service reads a method that has a part in the life of an instance.
func (a *analysis) service(n *noted, word string, d *ast.FuncDecl, sig *types.Signature, what string) {
	s := &service{goName: d.Name.Name, at: d.Name.Pos()}
	p := a.plugin
	to := map[string]**service{"stop": &p.stop, "configure": &p.configure, "save": &p.save, "resume": &p.resume}[word]
	if *to != nil {
		a.faultIn(n, 0, "a second "+prefix+word, "one, as at "+a.fset.Position((*to).at).String(), "")
		return
	}
	*to = s
	a.callable(d, sig, what)
	before := len(a.faults)
	s.shape = a.shapeOf(what, sig, d.Name.Pos(), false)
	a.kept(s.shape.out, d.Name.Pos(), "the result of "+what)
	if len(a.faults) > before {
		return
	}
	expected, ok := "", true
	switch word {
	case "stop":
		expected, ok = "Stop([ctx context.Context]) [error]", s.shape.in.form == none && s.shape.out.form == none
	case "configure":
		expected, ok = "Configure([ctx context.Context], C) error", s.shape.in.form != none && s.shape.out.form == none && s.shape.err
	case "save":
		expected, ok = "Save([ctx context.Context]) (S, error), or S", s.shape.in.form == none && s.shape.out.form != none
		a.saved[word] = s.shape.out
	case "resume":
		expected, ok = "Resume([ctx context.Context], S) error", s.shape.in.form != none && s.shape.out.form == none && s.shape.err
		a.saved[word] = s.shape.in
	}
	if !ok {
		a.fault(d.Name.Pos(), "func"+strings.TrimPrefix(a.text(sig), "func")+" of "+what, expected, "")
		delete(a.saved, word)
	}
}

// whole looks at what belongs together.
func (a *analysis) whole() {
	p := a.plugin
	if a.main == nil {
		at := token.NoPos
		for _, f := range a.files {
			if f.use == "" {
				at = f.syntax.Name.Pos()
				break
			}
		}
		a.fault(at, "no "+prefix+"plugin in the package "+a.types.Name(), "one in its doc comment", "Write: "+prefix+"plugin name="+a.types.Name()+" version=0.1.0")
		return
	}
	for _, m := range a.methods {
		switch {
		case p.start == nil:
			a.fault(m.at, "the method "+m.what+", and no "+prefix+"start", "a function with it that returns *"+m.typ, "")
		case p.state != "" && m.typ != "" && m.typ != p.state:
			a.fault(m.at, "the method "+m.what, "one of *"+p.state+", which "+p.start.goName+" returns", "")
		}
	}
	switch {
	case p.save != nil && p.resume == nil:
		a.fault(p.save.at, prefix+"save without "+prefix+"resume", "both (rule R29)", "")
	case p.save == nil && p.resume != nil:
		a.fault(p.resume.at, prefix+"resume without "+prefix+"save", "both (rule R29)", "")
	case p.save != nil && p.keys["state"] == "":
		a.faultIn(a.main, 0, prefix+"plugin without state=, and "+prefix+"save", "a word for the format of what is saved, such as state="+a.types.Name()+"-1 (rule R29)", "")
	case p.save == nil && p.keys["state"] != "":
		_, at, _ := a.main.get("state")
		a.faultIn(a.main, at, "state=, and no "+prefix+"save", "methods with it and with "+prefix+"resume (rule R29)", "")
	}
	if s, r := a.saved["save"], a.saved["resume"]; s.typ != nil && r.typ != nil && !types.Identical(s.typ, r.typ) {
		a.fault(p.resume.at, "that "+p.resume.goName+" takes "+a.text(r.typ)+", and "+p.save.goName+" returns "+a.text(s.typ), "one type", "")
	}
	if health := p.keys["health"]; health != "" && !slices.Contains(names(p.functions), health) {
		_, at, _ := a.main.get("health")
		a.faultIn(a.main, at, "health="+health, "the name of an exported function", "")
	}
	if len(p.functions)+len(p.hooks) == 0 && len(a.faults) == 0 {
		a.faultIn(a.main, 0, "a plug-in without a function", "one at least", "Write "+prefix+"export into the doc comment of one")
	}
	for _, f := range a.files {
		if f.syntax.Name.Name != a.types.Name() {
			continue // of another package, such as that of a test
		}
		for _, at := range declarations(f.syntax) {
			if slices.Contains([]string{"any", "byte", "error", "nil", "string", "int32"}, at.Name) {
				a.fault(at.Pos(), "a declaration of "+at.Name, "Go's own: what is written needs it", "Give this one another name")
			}
		}
	}
	a.sizes()
}

// text is the manifest.
func (p *plugin) text() string {
	all := "ferrule=1\x00name=" + p.name + "\x00version=" + p.version + "\x00"
	if p.threads != "" {
		all += "threads=" + p.threads + "\x00"
	}
	if p.description != "" {
		all += "description=" + p.description + "\x00"
	}
	return all + text(p.keys)
}

// text is a meta text: the keys in order, doc and what goes in and out before the others.
func text(keys map[string]string) string {
	order := slices.Sorted(maps.Keys(keys))
	first := []string{"doc", "in", "out"}
	rank := func(key string) int {
		if at := slices.Index(first, key); at >= 0 {
			return at
		}
		return len(first)
	}
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	all := ""
	for _, key := range order {
		all += key + "=" + keys[key] + "\x00"
	}
	return all
}
