package gen

import (
	"fmt"
	"go/token"
	"go/types"
	"reflect"
	"strings"
)

// form is how a value crosses: as bytes, as text, or as JSON.
type form int

const (
	none form = iota
	asBytes
	asText
	asJSON
)

// media is the media type of a form.
func (f form) media() string {
	switch f {
	case asBytes:
		return "application/octet-stream"
	case asText:
		return "text/plain; charset=utf-8"
	case asJSON:
		return "application/json"
	}
	return ""
}

// value is a parameter or a result that crosses.
type value struct {
	form form
	typ  types.Type
}

// shape is a function's signature: what is handed to it and what it returns.
type shape struct {
	ctx           bool
	in            value
	reader, write bool // the streams
	out           value
	err           bool
}

// stream is the value of the key stream.
func (s *shape) stream() string {
	switch {
	case s.reader && s.write:
		return "both"
	case s.reader:
		return "in"
	case s.write:
		return "out"
	}
	return ""
}

// expectedParameters are those of functions and hooks, in words.
const expectedParameters = "[ctx context.Context], [a value], [io.Reader], [io.Writer], in this order"

// shapeOf reads the signature of a function, or a variable; what is it in words. streams says that it may have streams. Faults are noted.
func (p *pkg) shapeOf(what string, sig *types.Signature, at token.Pos, streams bool) (s shape) {
	expected := expectedParameters
	if !streams {
		expected = "[ctx context.Context], [a value], in this order"
	}
	params := sig.Params()
	for i := range params.Len() {
		v := params.At(i)
		where := v.Pos()
		if !where.IsValid() || v.Pkg() != p.types { // such as of a type of another package's
			where = at
		}
		name := "the parameter "
		if v.Name() == "" {
			name = fmt.Sprintf("parameter %d, a ", i+1)
		} else {
			name += v.Name() + " "
		}
		switch {
		case sig.Variadic() && i == params.Len()-1:
			p.fault(where, name+"..."+p.text(v.Type().(*types.Slice).Elem())+" of "+what, "parameters of a fixed number", "Take a slice")
		case named(v.Type(), "context", "Context"):
			if i > 0 {
				p.fault(where, name+"context.Context of "+what+" behind another", "it to be the first", "")
			}
			s.ctx = true
		case streams && named(v.Type(), "io", "Reader"):
			switch {
			case s.reader:
				p.fault(where, "two input streams of "+what, "one io.Reader at most", "")
			case s.write:
				p.fault(where, name+"io.Reader of "+what+" behind an io.Writer", expected, "")
			}
			s.reader = true
		case streams && named(v.Type(), "io", "Writer"):
			if s.write {
				p.fault(where, "two output streams of "+what, "one io.Writer at most", "")
			}
			s.write = true
		case s.in.form != none:
			p.fault(where, name+p.text(v.Type())+" of "+what+", beside another value", "one value at most: "+expected, "Make them fields of a struct")
		default:
			if s.reader || s.write {
				p.fault(where, name+p.text(v.Type())+" of "+what+" behind a stream", expected, "")
			}
			s.in = p.valueOf(v.Type(), where, strings.TrimSuffix(strings.TrimSpace(name), ", a")+" of "+what, true)
		}
	}
	results := sig.Results()
	n := results.Len()
	if n > 0 && isError(results.At(n-1).Type()) {
		s.err = true
		n--
	}
	switch {
	case n > 1 || n == 1 && isError(results.At(0).Type()):
		p.fault(at, "the results "+p.text(results)+" of "+what, "nothing, error, a value, or a value and an error", "")
	case n == 1:
		v := results.At(0)
		if t := v.Type(); implementsError(t) {
			p.fault(at, "the result "+p.text(t)+" of "+what+", a type of errors", "error: a nil of another type is an error that is not nil", "")
			break
		}
		s.out = p.valueOf(v.Type(), at, "the result of "+what, false)
	}
	return s
}

// valueOf says how a type crosses; what is it a type of, in words. decode says that it comes from the host.
func (p *pkg) valueOf(t types.Type, at token.Pos, what string, decode bool) value {
	switch b, ok := types.Unalias(t).(*types.Basic); {
	case ok && b.Kind() == types.Invalid:
		if !p.uncertain {
			p.fault(at, what+" of a type of C", "one of Go's", "")
		}
		return value{asBytes, t}
	case ok && b.Kind() == types.String:
		return value{asText, t}
	case types.Identical(t, types.NewSlice(types.Typ[types.Byte])):
		return value{asBytes, t}
	}
	if bad := p.unfit(t, decode, map[types.Type]bool{}); bad != "" {
		expected := "[]byte, string, or a type that encoding/json encodes"
		if decode {
			expected = "[]byte, string, or a type that encoding/json decodes"
		}
		p.fault(at, what+" of "+bad, expected, "")
	}
	return value{asJSON, t}
}

// unfit says why encoding/json cannot take a type, "" where it can.
func (p *pkg) unfit(t types.Type, decode bool, seen map[types.Type]bool) string {
	t = types.Unalias(t)
	if seen[t] {
		return ""
	}
	seen[t] = true
	if hasCodec(t, decode) {
		return ""
	}
	within := func(t types.Type, part string) string {
		if bad := p.unfit(t, decode, seen); bad != "" {
			return bad + part
		}
		return ""
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		if u.Info()&types.IsComplex != 0 || u.Kind() == types.UnsafePointer {
			return "the type " + p.text(t)
		}
	case *types.Chan, *types.Signature:
		return "the type " + p.text(t)
	case *types.Interface:
		if decode && !u.Empty() {
			return "the interface type " + p.text(t) + ", of which it is not known what to make"
		}
	case *types.Pointer:
		return within(u.Elem(), "")
	case *types.Slice:
		return within(u.Elem(), "")
	case *types.Array:
		return within(u.Elem(), "")
	case *types.Map:
		if b, ok := u.Key().Underlying().(*types.Basic); !(ok && b.Info()&(types.IsString|types.IsInteger) != 0) && !hasMethod(u.Key(), "Text", decode, decode) {
			return "the type " + p.text(t) + ", whose keys are no text"
		}
		return within(u.Elem(), "")
	case *types.Struct:
		for i := range u.NumFields() {
			f := u.Field(i)
			if !crosses(u, i) {
				continue
			}
			if bad := within(f.Type(), " in its field "+f.Name()); bad != "" {
				return bad
			}
		}
	}
	return ""
}

// crosses reports whether encoding/json looks at a field of a struct.
func crosses(s *types.Struct, i int) bool {
	f := s.Field(i)
	return reflect.StructTag(s.Tag(i)).Get("json") != "-" && (f.Exported() || f.Embedded())
}

// hasCodec reports whether a type has its own form in JSON.
func hasCodec(t types.Type, decode bool) bool {
	return hasMethod(t, "JSON", decode, true) || hasMethod(t, "Text", decode, true)
}

// hasMethod reports whether a type has the method of encoding/json for JSON, or for text; byAddress says that one of its pointer's does.
func hasMethod(t types.Type, way string, decode, byAddress bool) bool {
	if _, ok := t.Underlying().(*types.Interface); ok {
		return false
	}
	if _, ok := types.Unalias(t).(*types.Pointer); byAddress && !ok {
		t = types.NewPointer(t)
	}
	name := "Marshal" + way
	if decode {
		name = "Unmarshal" + way
	}
	method := types.NewMethodSet(t).Lookup(nil, name)
	if method == nil {
		return false
	}
	bytes := types.NewVar(token.NoPos, nil, "", types.NewSlice(types.Typ[types.Byte]))
	failure := types.NewVar(token.NoPos, nil, "", errorType)
	want := types.NewSignatureType(nil, nil, nil, nil, types.NewTuple(bytes, failure), false)
	if decode {
		want = types.NewSignatureType(nil, nil, nil, types.NewTuple(bytes), types.NewTuple(failure), false)
	}
	return types.Identical(method.Type(), want)
}

// encodes says whether encoding/json calls a method of a type's own where it encodes a value, and whether it has to have the value's address for that.
func encodes(t types.Type) (own, byAddress bool) {
	for _, way := range []string{"JSON", "Text"} {
		switch {
		case hasMethod(t, way, false, false):
			return true, false
		case hasMethod(t, way, false, true):
			return true, true
		}
	}
	return false, false
}

// addressed reports whether a value has to be handed to encoding/json by its address, for the sake of its methods or of those of its parts.
func addressed(t types.Type) bool {
	if own, byAddress := encodes(t); own {
		return byAddress
	}
	switch u := t.Underlying().(type) {
	case *types.Array:
		return addressed(u.Elem())
	case *types.Struct:
		for i := range u.NumFields() {
			if crosses(u, i) && addressed(u.Field(i).Type()) {
				return true
			}
		}
	}
	return false
}

// kept notes a value with a map whose keys or values, which have no address, encoding/json would not encode by their own methods; what is it, in words.
func (p *pkg) kept(v value, at token.Pos, what string) {
	if v.form != asJSON {
		return
	}
	switch m, part := lost(v.typ, map[types.Type]bool{}); part {
	case "keys":
		p.fault(at, what+" with "+p.text(m)+", for whose keys encoding/json calls no method of a pointer's", "keys with a MarshalText of their own", "")
	case "values":
		p.fault(at, what+" with "+p.text(m)+", for whose values encoding/json calls no method of a pointer's", "a map of pointers", "")
	}
}

// lost finds such a map in a type, and says whether it is about its keys or its values.
func lost(t types.Type, seen map[types.Type]bool) (m *types.Map, part string) {
	t = types.Unalias(t)
	if own, _ := encodes(t); own || seen[t] {
		return nil, ""
	}
	seen[t] = true
	switch u := t.Underlying().(type) {
	case *types.Map:
		if hasMethod(u.Key(), "Text", false, true) && !hasMethod(u.Key(), "Text", false, false) {
			return u, "keys"
		}
		if addressed(u.Elem()) {
			return u, "values"
		}
		return lost(u.Elem(), seen)
	case *types.Struct:
		for i := range u.NumFields() {
			if crosses(u, i) {
				if m, part := lost(u.Field(i).Type(), seen); m != nil {
					return m, part
				}
			}
		}
	case interface{ Elem() types.Type }: // a pointer, a slice or an array
		return lost(u.Elem(), seen)
	}
	return nil, ""
}

// nameable notes a value whose type what is written could not name; what is it, in words.
func (p *pkg) nameable(v value, at token.Pos, what string) {
	if v.form == none {
		return
	}
	if part, why := p.hidden(v.typ); part != "" {
		p.fault(at, what+" of the type "+p.text(v.typ)+" with "+part+", "+why, "types that "+p.path+" can name", "Declare one of its own with the same JSON")
	}
}

// hidden finds what a package cannot name in a type, and says why; part is empty where there is nothing.
func (p *pkg) hidden(t types.Type) (part, why string) {
	ofName := func(name *types.TypeName, args *types.TypeList) (part, why string) {
		if other := name.Pkg(); other != nil && other != p.types {
			text := other.Path() + "." + name.Name()
			switch {
			case !name.Exported():
				return text, "which is unexported"
			case !p.imports(other.Path()):
				return text, "from a package that " + p.path + " may not import"
			}
		}
		for i := range args.Len() {
			if part, why = p.hidden(args.At(i)); part != "" {
				return part, why
			}
		}
		return "", ""
	}
	switch t := t.(type) {
	case *types.Alias:
		return ofName(t.Obj(), t.TypeArgs())
	case *types.Named:
		return ofName(t.Obj(), t.TypeArgs())
	case *types.Map:
		if part, why = p.hidden(t.Key()); part != "" {
			return part, why
		}
		return p.hidden(t.Elem())
	case *types.Struct:
		for i := range t.NumFields() {
			f := t.Field(i)
			if !f.Exported() && f.Pkg() != p.types {
				return "the field " + f.Name() + " of " + f.Pkg().Path(), "which is unexported"
			}
			if part, why = p.hidden(f.Type()); part != "" {
				return part, why
			}
		}
	case *types.Interface:
		for i := range t.NumMethods() {
			if m := t.Method(i); !m.Exported() && m.Pkg() != p.types {
				return "the method " + m.Name() + " of " + m.Pkg().Path(), "which is unexported"
			} else if part, why = p.hidden(m.Type()); part != "" {
				return part, why
			}
		}
	case *types.Signature:
		for _, all := range []*types.Tuple{t.Params(), t.Results()} {
			for i := range all.Len() {
				if part, why = p.hidden(all.At(i).Type()); part != "" {
					return part, why
				}
			}
		}
	case interface{ Elem() types.Type }: // a pointer, a slice, an array or a channel
		return p.hidden(t.Elem())
	}
	return "", ""
}

// imports reports whether Go lets the package import another, of which it has a type.
func (p *pkg) imports(other string) bool {
	if strings.HasPrefix(other, "vendor/") || other == "internal" || strings.HasPrefix(other, "internal/") { // of Go's own
		return other == p.module || strings.HasPrefix(other, p.module+"/")
	}
	parent, ok := internalTo(other)
	return !ok || p.path == parent || strings.HasPrefix(p.path, parent+"/")
}

// named reports whether a type is the one with this name of a package.
func named(t types.Type, path, name string) bool {
	n, ok := types.Unalias(t).(*types.Named)
	return ok && n.Obj().Name() == name && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == path
}

var errorType = types.Universe.Lookup("error").Type()

func isError(t types.Type) bool { return types.Identical(t, errorType) }

func implementsError(t types.Type) bool {
	return types.Implements(t, errorType.Underlying().(*types.Interface))
}

// text is a type as the author writes it.
func (p *pkg) text(t types.Type) string {
	return types.TypeString(t, func(other *types.Package) string {
		if other == p.types {
			return ""
		}
		return other.Name()
	})
}
