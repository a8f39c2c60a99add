package gen

import (
	"bytes"
	"fmt"
	"go/format"
	"go/token"
	"go/types"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
)

// source is Go code in the making.
type source struct{ bytes.Buffer }

func (s *source) line(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// formatted is the code as gofmt has it.
func (s *source) formatted() []byte {
	text, err := format.Source(s.Bytes())
	if err != nil {
		panic(fmt.Sprintf("what is written is no Go: %v\n%s", err, s.Bytes())) // a fault of this package
	}
	return text
}

// namer gives names that nothing else has: to imports, and to variables.
type namer struct{ taken map[string]bool }

func (n *namer) name(wanted string) string {
	name := wanted
	for i := 2; n.taken[name] || token.IsKeyword(name) || types.Universe.Lookup(name) != nil; i++ {
		name = wanted + strconv.Itoa(i)
	}
	n.taken[name] = true
	return name
}

// bindings is the file beside the author's.
func (p *plugin) bindings() []byte {
	n := p.pkg.namer()
	b := &binder{plugin: p, imports: map[string]string{}}
	b.write() // which packages there are
	used := b.imports
	b.imports, b.named = map[string]string{}, true
	for _, at := range slices.Sorted(maps.Keys(used)) {
		b.imports[at] = n.name(used[at])
	}
	for _, v := range []struct {
		to   *string
		name string
	}{{&b.ctx, "ctx"}, {&b.state, "state"}, {&b.in, "in"}, {&b.value, "value"}, {&b.result, "result"}, {&b.err, "err"}} {
		*v.to = n.name(v.name)
	}
	b.source.Reset()
	b.write()
	body := slices.Clone(b.source.Bytes())
	b.source.Reset()
	b.line("%s\n\npackage %s\n\nimport (", header, p.pkg.types.Name())
	standard := func(at string) bool { first, _, _ := strings.Cut(at, "/"); return !strings.Contains(first, ".") }
	for _, group := range []bool{true, false} {
		for _, at := range slices.Sorted(maps.Keys(used)) {
			if standard(at) == group {
				b.line("%s", importLine(b.imports[at], used[at], at))
			}
		}
		b.line("")
	}
	b.line(")\n")
	b.Write(body)
	return b.formatted()
}

// importLine imports a package; its name stands there where it is not its own, or not what its path says.
func importLine(name, own, at string) string {
	if name == own && own == path.Base(at) {
		return strconv.Quote(at)
	}
	return name + " " + strconv.Quote(at)
}

// binder writes what calls an author's functions.
type binder struct {
	source
	*plugin
	imports                            map[string]string // names by path
	named                              bool              // the names are final
	ctx, state, in, value, result, err string
}

// importName is the name of an imported package.
func (b *binder) importName(at, own string) string {
	if !b.named {
		b.imports[at] = own
	}
	return b.imports[at]
}

func (b *binder) sdk() string     { return b.importName(sdkPlugin, "plugin") }
func (b *binder) context() string { return b.importName("context", "context") + ".Context" }

// typ is a type in what is written.
func (b *binder) typ(t types.Type) string {
	return types.TypeString(t, func(other *types.Package) string {
		if other == b.pkg.types {
			return ""
		}
		return b.importName(other.Path(), other.Name())
	})
}

func (b *binder) write() {
	p := b.plugin
	b.line("// Plugin is what the comments of this package make of it, for each form of a plug-in.")
	b.line("var Plugin = %s.New(%[1]s.Definition{", b.sdk())
	b.line("Name: %q,\nVersion: %q,", p.name, p.version)
	for _, f := range [][2]string{{"Description", p.description}, {"Threads", p.threads}, {"Config", p.config}} {
		if f[1] != "" {
			b.line("%s: %s,", f[0], literal(f[1]))
		}
	}
	if len(p.keys) > 0 {
		b.line("Keys: %s,", stringMap(p.keys))
	}
	b.functions("Functions", p.functions)
	b.functions("Hooks", p.hooks)
	for _, list := range []struct {
		name string
		all  []*function
	}{{"Imports", p.imports}, {"Wants", p.wants}} {
		if len(list.all) == 0 {
			continue
		}
		b.line("%s: []%s.Import{", list.name, b.sdk())
		for _, f := range list.all {
			if len(f.keys) == 0 {
				b.line("{Name: %q},", f.name)
			} else {
				b.line("{Name: %q, Keys: %s},", f.name, stringMap(f.keys))
			}
		}
		b.line("},")
	}
	if s := p.start; s != nil {
		b.line("Start: func(%s %s, %s []byte) (any, error) {", b.param(b.ctx, s.shape.ctx), b.context(), b.param(b.in, s.shape.in.form != none))
		args := b.args(s.shape, "nil, ", true)
		if s.err {
			b.line("return %s(%s)", s.goName, args)
		} else {
			b.line("return %s(%s), nil", s.goName, args)
		}
		b.line("},")
	}
	if s := p.stop; s != nil {
		b.line("Stop: func(%s %s, %s any) error {", b.param(b.ctx, s.shape.ctx), b.context(), b.state)
		b.method(s, b.args(s.shape, "", false))
	}
	if s := p.configure; s != nil {
		b.line("Configure: func(%s %s, %s any, %s []byte) error {", b.param(b.ctx, s.shape.ctx), b.context(), b.state, b.in)
		b.method(s, b.args(s.shape, "", true))
	}
	if s := p.save; s != nil {
		b.line("Save: func(%s %s, %s any) ([]byte, error) {", b.param(b.ctx, s.shape.ctx), b.context(), b.state)
		b.returning(fmt.Sprintf("%s.(*%s).%s(%s)", b.state, p.state, s.goName, b.args(s.shape, "", false)), s.shape)
		b.line("},")
	}
	if s := p.resume; s != nil {
		b.line("Resume: func(%s %s, %s any, %s []byte) error {", b.param(b.ctx, s.shape.ctx), b.context(), b.state, b.in)
		b.method(s, b.args(s.shape, "", false))
	}
	b.line("})")
	if len(p.imports)+len(p.wants) > 0 {
		b.line("\nfunc init() {")
		for _, f := range slices.Concat(p.imports, p.wants) {
			b.variable(f)
		}
		b.line("}")
	}
}

// method ends a function that returns what a method of the state does: an error, or nothing.
func (b *binder) method(s *service, args string) {
	call := fmt.Sprintf("%s.(*%s).%s(%s)", b.state, b.plugin.state, s.goName, args)
	if s.shape.err {
		b.line("return %s", call)
	} else {
		b.line("%s\nreturn nil", call)
	}
	b.line("},")
}

// param is the name of a parameter, or that it has none.
func (b *binder) param(name string, used bool) string {
	if used {
		return name
	}
	return "_"
}

func (b *binder) functions(field string, all []*function) {
	if len(all) == 0 {
		return
	}
	b.line("%s: []%s.Function{", field, b.sdk())
	for _, f := range all {
		s := f.shape
		b.line("{\nName: %q,", f.name)
		if len(f.keys) > 0 {
			b.line("Keys: %s,", stringMap(f.keys))
		}
		b.line("Call: func(%s %s, %s any, %s []byte) ([]byte, error) {", b.param(b.ctx, s.ctx || s.reader || s.write), b.context(), b.param(b.state, f.method),
			b.param(b.in, s.in.form != none))
		call := f.goName
		if f.method {
			call = fmt.Sprintf("%s.(*%s).%s", b.state, b.plugin.state, f.goName)
		}
		b.returning(call+"("+b.args(s, "nil, ", false)+")", s)
		b.line("},\n},")
	}
	b.line("},")
}

// args writes what makes the arguments of a call, and returns them. before is what is returned before an error; settings says that the value is a configuration.
func (b *binder) args(s shape, before string, settings bool) string {
	var args []string
	if s.ctx {
		args = append(args, b.ctx)
	}
	made := func(by string) {
		b.line("%s, %s := %s\nif %[2]s != nil {\nreturn %[4]s%[2]s\n}", b.value, b.err, by, before)
		args = append(args, b.value)
	}
	switch s.in.form {
	case asBytes:
		args = append(args, b.in)
	case asText:
		made(fmt.Sprintf("%s.Text(%s)", b.sdk(), b.in))
	case asJSON:
		decode := "FromJSON"
		if settings {
			decode = "Settings"
		}
		made(fmt.Sprintf("%s.%s[%s](%s)", b.sdk(), decode, b.typ(s.in.typ), b.in))
	}
	if s.reader {
		args = append(args, fmt.Sprintf("%s.Input(%s)", b.sdk(), b.ctx))
	}
	if s.write {
		args = append(args, fmt.Sprintf("%s.Output(%s)", b.sdk(), b.ctx))
	}
	return strings.Join(args, ", ")
}

// returning writes a call, and the return of its result as bytes.
func (b *binder) returning(call string, s shape) {
	byAddress := s.out.form == asJSON && addressed(s.out.typ)
	switch {
	case s.err && (s.out.form == asText || s.out.form == asJSON):
		b.line("%s, %s := %s\nif %[2]s != nil {\nreturn nil, %[2]s\n}", b.result, b.err, call)
		call = b.result
	case byAddress:
		b.line("%s := %s", b.result, call)
		call = b.result
	}
	if byAddress {
		call = "&" + call
	}
	switch {
	case s.out.form == asText:
		b.line("return []byte(%s), nil", call)
	case s.out.form == asJSON:
		b.line("return %s.ToJSON(%s)", b.sdk(), call)
	case s.out.form == asBytes && s.err:
		b.line("return %s", call)
	case s.out.form == asBytes:
		b.line("return %s, nil", call)
	case s.err:
		b.line("return nil, %s", call)
	default:
		b.line("%s\nreturn nil, nil", call)
	}
}

// variable sets an import.
func (b *binder) variable(f *function) {
	s := f.shape
	params := b.ctx + " " + b.context()
	in := "nil"
	if s.in.form != none {
		params += ", " + b.value + " " + b.typ(s.in.typ)
		in = b.value
	}
	results := "error"
	if s.out.form != none {
		results = "(" + b.typ(s.out.typ) + ", error)"
		if s.in.form == asJSON && s.out.form == asJSON {
			results = "(" + b.result + " " + b.typ(s.out.typ) + ", " + b.err + " error)" // a zero value of any type
		}
	}
	b.line("%s = func(%s) %s {", f.goName, params, results)
	switch s.in.form {
	case asText:
		in = "[]byte(" + b.value + ")"
	case asJSON:
		zero := map[form]string{none: "", asBytes: "nil, ", asText: `"", `, asJSON: b.result + ", "}[s.out.form]
		if addressed(s.in.typ) {
			in = "&" + in
		}
		b.line("%s, %s := %s.ToJSON(%s)\nif %[2]s != nil {\nreturn %[5]s%[2]s\n}", b.in, b.err, b.sdk(), in, zero)
		in = b.in
	}
	ask := fmt.Sprintf("%s, %q, %s)", b.ctx, f.name, in)
	switch s.out.form {
	case none:
		assign := ":="
		if s.in.form == asJSON { // there is one already
			assign = "="
		}
		b.line("_, %s %s %s.Ask(%s\nreturn %[1]s", b.err, assign, b.sdk(), ask)
	case asBytes:
		b.line("return %s.Ask(%s", b.sdk(), ask)
	case asText:
		b.line("return %s.AskText(%s", b.sdk(), ask)
	case asJSON:
		b.line("return %s.AskJSON[%s](%s", b.sdk(), b.typ(s.out.typ), ask)
	}
	b.line("}")
}

// literal is a text in Go: as it stands where it has quotes and can.
func literal(text string) string {
	if strings.ContainsAny(text, `"\`) && strconv.CanBackquote(text) {
		return "`" + text + "`"
	}
	return strconv.Quote(text)
}

func stringMap(m map[string]string) string {
	var b strings.Builder
	b.WriteString("map[string]string{")
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q: %s", k, literal(m[k]))
	}
	return b.String() + "}"
}

// symbol is a function that a library, or a module, exports, with the call of the SDK's that it makes: of the number of a function of Plugin's.
type symbol struct{ name, call string }

// symbols are those of the plug-in.
func (p *plugin) symbols() (all []symbol) {
	for i, f := range p.functions {
		all = append(all, symbol{abi.PrefixFunc + f.name, fmt.Sprintf("Call(%%s.Plugin, %d, call)", i)})
	}
	for i, f := range p.hooks {
		all = append(all, symbol{abi.PrefixHook + f.name, fmt.Sprintf("Call(%%s.Plugin, %d, call)", len(p.functions)+i)})
	}
	for _, s := range []struct {
		name string
		has  bool
		call string
	}{
		{abi.SymbolStart, p.start != nil, "Start"}, {abi.SymbolStop, p.start != nil || p.stop != nil, "Stop"}, {abi.SymbolConfigure, p.configure != nil, "Configure"},
		{abi.SymbolSave, p.save != nil, "Save"}, {abi.SymbolResume, p.resume != nil, "Resume"},
	} {
		if s.has {
			all = append(all, symbol{s.name, s.call + "(%s.Plugin, call)"})
		}
	}
	return all
}

// object is a text that a library, or a module, has under a name.
type object struct{ name, text string }

// objects are those of the plug-in: its manifest, and what is said of each function.
func (p *plugin) objects() []object {
	all := []object{{abi.SymbolManifest, p.text()}}
	for _, list := range []struct {
		prefix string
		all    []*function
	}{{abi.PrefixFuncMeta, p.functions}, {abi.PrefixHookMeta, p.hooks}, {abi.PrefixImportMeta, p.imports}, {abi.PrefixWantMeta, p.wants}} {
		for _, f := range list.all {
			if len(f.keys) > 0 {
				all = append(all, object{list.prefix + f.name, text(f.keys)})
			}
		}
	}
	if p.config != "" {
		all = append(all, object{abi.SymbolConfigMeta, p.config})
	}
	return all
}

// slots are the names of the numbers by which host functions are called.
func (p *plugin) slots() (all []string) {
	for _, f := range p.imports {
		all = append(all, abi.PrefixImport+f.name)
	}
	for _, f := range p.wants {
		all = append(all, abi.PrefixWant+f.name)
	}
	return all
}

// author is the name under which a program imports the author's package, and its import line. Nothing else in the program may have that name.
func (p *plugin) author(imports ...string) (name, line string) {
	n := &namer{map[string]bool{"main": true, "init": true, "C": true, "_": true, "call": true}}
	for _, i := range imports {
		n.taken[i] = true
	}
	for _, s := range p.symbols() {
		n.taken[s.name] = true
	}
	for _, o := range p.objects() {
		n.taken[o.name] = true
	}
	for _, s := range p.slots() {
		n.taken[s] = true
	}
	own := p.pkg.types.Name()
	name = n.name(own)
	return name, importLine(name, own, p.pkg.path)
}

// sidecar is the program that is a sidecar; in a library its main does not run.
func (p *plugin) sidecar() []byte {
	s := &source{}
	name, line := p.author("sidecar")
	s.line("%s\n\n//go:build !wasip1\n", header)
	s.line("// Command %s is the plug-in %s: a sidecar. Built with -buildmode=c-shared it is a shared library, or a WebAssembly module.\npackage main\n", p.name, p.name)
	s.line("import (\n%s", strconv.Quote(sdkSidecar))
	s.line("%s\n)\n\nfunc main() { sidecar.Main(%s.Plugin) }", line, name)
	return s.formatted()
}

// library is what the program exports as a shared library.
func (p *plugin) library() []byte {
	s := &source{}
	name, line := p.author("library", "unsafe")
	s.line("%s\n\n//go:build cgo && !wasip1\n\npackage main\n\n/*\n#include <stdint.h>\n", header)
	s.line("// Go cannot export data. More than one C file has this comment, and of what is defined here one of each stays.")
	s.line("#if defined(_WIN32)\n#define EXPORT __declspec(dllexport) __declspec(selectany)\n#else\n#define EXPORT __attribute__((visibility(\"default\"), weak))\n#endif\n")
	s.line("#define TEXT(symbol) EXPORT const char symbol[]")
	for _, o := range p.objects() {
		s.line("TEXT(%s) =%s;", o.name, cText(o.text))
	}
	if slots := p.slots(); len(slots) > 0 {
		s.line("\n#define SLOT(symbol) EXPORT uint32_t symbol = 0xFFFFFFFFu")
		for _, slot := range slots {
			s.line("SLOT(%s);", slot)
		}
	}
	s.line("*/\nimport \"C\"\n\nimport (\n\"unsafe\"\n\n%s", strconv.Quote(sdkLibrary))
	s.line("%s\n)", line)
	for _, f := range p.symbols() {
		s.line("\n//export %s\nfunc %[1]s(call unsafe.Pointer) int32 { return library.%s }", f.name, fmt.Sprintf(f.call, name))
	}
	return s.formatted()
}

// module is the program as a WebAssembly module.
func (p *plugin) module() []byte {
	s := &source{}
	name, line := p.author("module", "unsafe")
	s.line("%s\n\n//go:build wasip1\n\npackage main\n\nimport (\n\"unsafe\"\n\n%s", header, strconv.Quote(sdkModule))
	s.line("%s\n)\n\nfunc main() {}", line)
	for _, f := range p.symbols() {
		s.line("\n//go:wasmexport %s\nfunc %[1]s(call unsafe.Pointer) int32 { return module.%s }", f.name, fmt.Sprintf(f.call, name))
	}
	s.line("\n// Go cannot export data: what follows has it in its names.")
	for _, o := range p.objects() {
		s.line("\n//go:wasmexport %s=%s\nfunc %[1]s() {}", o.name, escaped(o.text))
	}
	for _, slot := range p.slots() {
		s.line("\n//go:wasmexport %s=\nfunc %[1]s() {}", slot)
	}
	return s.formatted()
}

// cText is an array of C with a text, and the NUL that C adds: a literal for each of its NULs, on lines of their own.
func cText(text string) string {
	var b strings.Builder
	for part := range strings.SplitAfterSeq(text, "\x00") {
		if part == "" {
			continue
		}
		b.WriteString("\n\t\"")
		for i := range len(part) {
			switch c := part[i]; {
			case c == 0:
				b.WriteString(`\0`) // the literal ends here: no digit follows
			case c == '"' || c == '\\' || c == '?': // of ?, C has trigraphs
				b.WriteString(`\` + string(c))
			case c == '\n':
				b.WriteString(`\n`)
			case c < ' ' || c > '~' || c == '/' && i > 0 && part[i-1] == '*': // the end of the comment that this is in
				fmt.Fprintf(&b, `\%03o`, c)
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte('"')
	}
	return b.String()
}

// escaped is a text in the name of an export: the directive ends at a blank, and Go has no byte order mark within a file.
func escaped(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		if r == '%' || r == '\ufeff' || unicode.IsControl(r) || unicode.IsSpace(r) || r == utf8.RuneError && n == 1 {
			for i := range n {
				fmt.Fprintf(&b, "%%%02X", text[i])
			}
		} else {
			b.WriteString(text[:n])
		}
		text = text[n:]
	}
	return b.String()
}
