package abi_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unsafe"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// What this file holds together: layout.golden, include/ferrule.h and package abi. Each check below returns what is
// wrong as sentences, so that TestLayoutChecksCanFail can hand it something broken and look for them.

const (
	goldenPath = "layout.golden"
	headerPath = "../include/ferrule.h"
)

func TestLayoutGo(t *testing.T) {
	golden := readGolden(t)
	report(t, checkGo(golden, readPackage(t)))
	report(t, checkCompiledGo(golden))
}

func TestLayoutHeader(t *testing.T) {
	report(t, checkHeader(readGolden(t), readFile(t, headerPath)))
}

func TestLayoutC(t *testing.T) {
	source := cSource(readGolden(t))
	for _, c := range []struct {
		name    string
		command []string // what compiles C from standard input; nil: the environment's own compiler
		install string
	}{
		{"native", nil, "gcc"},
		{"32 bits", []string{"cc", "-m32", "-ffreestanding"}, "gcc"},
		{"Windows", []string{"x86_64-w64-mingw32-gcc"}, "gcc-mingw-w64-x86-64"},
		{"WebAssembly", []string{"clang", "--target=wasm32-wasi"}, "clang wasi-libc libclang-rt-dev-wasm32"},
	} {
		t.Run(c.name, func(t *testing.T) {
			command := c.command
			if command == nil {
				command = nativeCompiler()
			}
			fixture.Tool(t, command[0], "apt-get install "+c.install)
			if out, err := compile(command, "#include <stdint.h>\n"); err != nil && c.name == "32 bits" {
				t.Skipf("cc has no 32-bit target on this machine: %s", out)
			}
			if out, err := compile(command, source); err != nil {
				t.Errorf("%v: the header is not what %s says:\n%s", command, goldenPath, out)
			}
		})
	}
}

// TestLayoutChecksCanFail breaks the golden, the header and the Go package, one at a time, and wants to be told.
func TestLayoutChecksCanFail(t *testing.T) {
	goldenText, header, pkg := readFile(t, goldenPath), readFile(t, headerPath), readPackage(t)
	edit := func(t *testing.T, text, old, new string) string {
		t.Helper()
		if n := strings.Count(text, old); n != 1 {
			t.Fatalf("%q stands %d times in the text that is to be broken, expected once", old, n)
		}
		return strings.Replace(text, old, new, 1)
	}
	wantProblem := func(t *testing.T, problems []string, want string) {
		t.Helper()
		if !strings.Contains(strings.Join(problems, "\n"), want) {
			t.Errorf("found %q, expected a problem that contains %q", problems, want)
		}
	}

	const (
		cancel = "    const uint32_t *cancel;\n"
		kept   = "    uint32_t kept;\n"
		stride = "    size_t stride;\n"
		count  = "    size_t count;\n"
		behind = "/* FERRULE_HAS(p, member)" // what follows the structs
	)
	for _, c := range []struct{ name, old, new, want string }{
		{"member added", cancel, cancel + "    void *extra;\n", "ferrule_call.extra"},
		{"member dropped", stride, "", "ferrule_frames.stride"},
		{"member renamed", kept, "    uint32_t keep;\n", "ferrule_request.keep"},
		{"members swapped", stride + count, count + stride, "ferrule_frames"},
		{"function member renamed", "(*log)(", "(*logs)(", "ferrule_host.logs"},
		{"two members in one line", stride + count, "    size_t stride, count;\n", "one member"},
		{"bit-field", kept, "    uint32_t kept : 8;\n", "bit-field"},
		{"array", kept, "    uint32_t kept[2];\n", "array"},
		{"struct added", behind, "struct ferrule_new {\n    size_t size;\n};\n" + behind, "ferrule_new"},
		{"struct without a name", behind, "typedef struct {\n    size_t size;\n} ferrule_new;\n" + behind,
			"without a name"},
		{"status added", "    FERRULE_MORE = 8,", "    FERRULE_NEW = 10,\n    FERRULE_MORE = 8,", "FERRULE_NEW"},
		{"status dropped", "    FERRULE_UNSUPPORTED = 3,", "", "FERRULE_UNSUPPORTED"},
		{"status renumbered", "FERRULE_INVALID = 2", "FERRULE_INVALID = 3", "FERRULE_INVALID"},
		{"status without a number", "FERRULE_INVALID = 2", "FERRULE_INVALID", "FERRULE_INVALID"},
		{"number added", behind, "#define FERRULE_NEW 0x10u\n" + behind, "FERRULE_NEW"},
		{"number in disguise", behind, "#define FERRULE_NEW (1 << 4)\n" + behind, "FERRULE_NEW"},
		{"number changed", "#define FERRULE_STATUS_OWN 1000", "#define FERRULE_STATUS_OWN 2000", "FERRULE_STATUS_OWN"},
		{"include added", "#include <stdint.h>", "#include <stdint.h>\n#include <stdio.h>", "<stdio.h>"},
		{"bool", kept, "    bool kept;\n", "bool"},
		{"float", "    size_t done;", "    double done;", "double"},
		{"struct by value", "(*next)(ferrule_call *call, ferrule_request *request);", "(*next)(ferrule_call *call, ferrule_request request);", "by value"},
		{"struct as a result", "int32_t (*ferrule_function)", "ferrule_call (*ferrule_function)", "by value"},
	} {
		t.Run("header/"+c.name, func(t *testing.T) {
			wantProblem(t, checkHeader(parseGolden(t, goldenText), edit(t, header, c.old, c.new)), c.want)
		})
	}

	const host = "struct ferrule_host 80 40\n"
	wide := map[string]bool{"offset": true, "member's size": true, "struct's size": true}
	for _, c := range []struct{ name, old, new, want string }{
		{"offset", "ferrule_call out_cap 48 8 24 4", "ferrule_call out_cap 56 8 24 4", "ferrule_call.out_cap"},
		{"32-bit offset", "ferrule_call out_cap 48 8 24 4", "ferrule_call out_cap 48 8 20 4", "ferrule_call.out_cap"},
		{"member's size", "ferrule_request kept 52 4 28 4", "ferrule_request kept 52 8 28 4", "ferrule_request.kept"},
		{"struct's size", "struct ferrule_frames 56 28", "struct ferrule_frames 64 28", "ferrule_frames"},
		{"32-bit size", "struct ferrule_frames 56 28", "struct ferrule_frames 56 32", "ferrule_frames"},
		{"number", "const FERRULE_NO_MEMORY 6", "const FERRULE_NO_MEMORY 19", "FERRULE_NO_MEMORY"},
		{"member dropped", "field ferrule_host log 16 8 8 4", "", "ferrule_host.log"},
		{"member added", host, host + "field ferrule_host extra_member 80 8 40 4\n", "extra_member"},
		{"number dropped", "const FERRULE_LOG_WARN 2\n", "", "FERRULE_LOG_WARN"},
		{"number added", "const FERRULE_ABI 1\n", "const FERRULE_ABI 1\nconst FERRULE_NEW 1\n", "FERRULE_NEW"},
	} {
		t.Run("golden/"+c.name, func(t *testing.T) {
			golden := parseGolden(t, edit(t, goldenText, c.old, c.new))
			wantProblem(t, checkGo(golden, pkg), c.want)
			if strings.Contains(c.name, "dropped") {
				// C has no reflection: the text of the header stands for it.
				wantProblem(t, checkHeader(golden, header), c.want)
				return
			}
			command := nativeCompiler()
			if wide[c.name] && strconv.IntSize == 32 {
				t.Skip("a number of 64-bit platforms")
			}
			if strings.HasPrefix(c.name, "32-bit") && strconv.IntSize == 64 {
				command = append(command, "-m32", "-ffreestanding")
			}
			fixture.Tool(t, command[0], "apt-get install gcc")
			if _, err := compile(command, "#include <stdint.h>\n"); err != nil {
				t.Skipf("%v does not work on this machine", command)
			}
			out, _ := compile(command, cSource(golden))
			wantProblem(t, []string{out}, c.want)
		})
	}

	for _, c := range []struct{ name, old, new, want string }{
		{"field added", "	Kept    uint32  //", "	New, Kept uint32 //", "ferrule_request.new"},
		{"field dropped", "	Kept    uint32  //", "	//", "ferrule_request.kept"},
		{"field renamed", "	Kept    uint32  //", "	Keep    uint32 //", "ferrule_request.keep"},
		{"field of another size", "	Kept    uint32  //", "	Kept    uint16 //", "ferrule_request.kept"},
		{"struct added", "const Major = 1", "const Major = 1\n\ntype New struct{ Size uintptr }", "ferrule_new"},
		{"status added", "StatusMore        Status = 8", "StatusMore, StatusNew Status = 8, 10", "FERRULE_NEW"},
		{"status renumbered", "StatusMore        Status = 8", "StatusMore        Status = 10", "FERRULE_MORE"},
		{"status dropped", "StatusMore        Status = 8", "_                 Status = 8", "FERRULE_MORE"},
		{"level renumbered", "LogTrace Level = 5", "LogTrace Level = 6", "FERRULE_LOG_TRACE"},
		{"major", "const Major = 1", "const Major = 2", "FERRULE_ABI"},
	} {
		t.Run("Go/"+c.name, func(t *testing.T) {
			broken := map[string]string{}
			edits := 0
			for name, text := range pkg {
				if strings.Contains(text, c.old) {
					text = edit(t, text, c.old, c.new)
					edits++
				}
				broken[name] = text
			}
			if edits != 1 {
				t.Fatalf("%q stands in %d files, expected one", c.old, edits)
			}
			wantProblem(t, checkGo(parseGolden(t, goldenText), broken), c.want)
		})
	}

	t.Run("compiled Go", func(t *testing.T) {
		golden := parseGolden(t, goldenText)
		golden.structs[0].fields[1].offset = [2]uint64{3, 3}
		wantProblem(t, checkCompiledGo(golden), "ferrule_call.state")
	})
}

// layout is what layout.golden says. Numbers come in pairs: with 64-bit and with 32-bit pointers.
type layout struct {
	consts  []constValue
	structs []structLayout
}

type constValue struct {
	name  string
	value uint64
}

type structLayout struct {
	name   string
	size   [2]uint64 // bytes
	fields []fieldLayout
}

type fieldLayout struct {
	name         string
	offset, size [2]uint64 // bytes
}

func parseGolden(t *testing.T, text string) *layout {
	t.Helper()
	golden := &layout{}
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		bad := func() {
			t.Fatalf("%s:%d: found %q, expected one of the forms that its head shows", goldenPath, i+1, line)
		}
		numbers := func(words []string) []uint64 {
			var all []uint64
			for _, word := range words {
				n, err := strconv.ParseUint(word, 10, 64)
				if err != nil {
					bad()
				}
				all = append(all, n)
			}
			return all
		}
		switch {
		case words[0] == "const" && len(words) == 3:
			golden.consts = append(golden.consts, constValue{words[1], numbers(words[2:])[0]})
		case words[0] == "struct" && len(words) == 4:
			golden.structs = append(golden.structs, structLayout{name: words[1], size: [2]uint64(numbers(words[2:]))})
		case words[0] == "field" && len(words) == 7 && len(golden.structs) > 0 &&
			golden.structs[len(golden.structs)-1].name == words[1]:
			s := &golden.structs[len(golden.structs)-1]
			n := numbers(words[3:])
			s.fields = append(s.fields, fieldLayout{words[2], [2]uint64{n[0], n[2]}, [2]uint64{n[1], n[3]}})
		default:
			bad()
		}
	}
	return golden
}

// problems collects sentences about what is wrong.
type problems []string

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

// sameNames compares two lists of names, order included.
func (p *problems) sameNames(what, where string, found, golden []string) {
	for _, name := range found {
		if !slices.Contains(golden, name) {
			p.addf("%s has the %s %s, which %s does not have: add it there, at the end of what it belongs to",
				where, what, name, goldenPath)
		}
	}
	for _, name := range golden {
		if !slices.Contains(found, name) {
			p.addf("%s has no %s %s, which %s has", where, what, name, goldenPath)
		}
	}
	if len(*p) == 0 && !slices.Equal(found, golden) {
		p.addf("%s has each %s in the order %v, %s in the order %v", where, what, found, goldenPath, golden)
	}
}

// same compares one number.
func (p *problems) same(what, where string, found, golden uint64) {
	if found != golden {
		p.addf("%s is %d in %s, %d in %s", what, found, where, golden, goldenPath)
	}
}

func (l *layout) constNames() (names []string) {
	for _, c := range l.consts {
		names = append(names, c.name)
	}
	return names
}

func (l *layout) structNames() (names []string) {
	for _, s := range l.structs {
		names = append(names, s.name)
	}
	return names
}

func (s *structLayout) fieldNames() (names []string) {
	for _, f := range s.fields {
		names = append(names, s.name+"."+f.name)
	}
	return names
}

// ---- Go ----------------------------------------------------------------------------------------------------------

// goNames are the constants of package abi that are named otherwise than in the header. All others of the types Status
// and Level are the header's names in Go's style, and so are all structs that start with the field Size.
var goNames = map[string]string{
	"Major":     "FERRULE_ABI",
	"Unbound":   "FERRULE_UNBOUND",
	"StatusOK":  "FERRULE_OK",
	"StatusOwn": "FERRULE_STATUS_OWN",
}

// snake turns InLen into in_len, and NoMemory into no_memory.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// checkGo compares the constants and structs of package abi, given as its files' texts, with the golden, for 64-bit and
// for 32-bit pointers.
func checkGo(golden *layout, files map[string]string) []string {
	var p problems
	pkg, err := typeCheck(files)
	if err != nil {
		return []string{"package abi: " + err.Error()}
	}
	targets := [2]types.Sizes{types.SizesFor("gc", "amd64"), types.SizesFor("gc", "386")}

	consts := map[string]uint64{}
	structs := map[string]*types.Struct{}
	for _, name := range pkg.Scope().Names() {
		switch object := pkg.Scope().Lookup(name).(type) {
		case *types.Const:
			c, ok := goNames[name]
			if kind := strings.TrimPrefix(object.Type().String(), pkg.Path()+"."); !ok && kind == "Status" {
				c, ok = "FERRULE_"+strings.ToUpper(snake(strings.TrimPrefix(name, "Status"))), true
			} else if !ok && kind == "Level" {
				c, ok = "FERRULE_"+strings.ToUpper(snake(name)), true
			}
			if value, exact := constant.Uint64Val(constant.ToInt(object.Val())); ok && exact {
				consts[c] = value
			}
		case *types.TypeName:
			s, ok := object.Type().Underlying().(*types.Struct)
			if ok && s.NumFields() > 0 && s.Field(0).Name() == "Size" {
				structs["ferrule_"+snake(name)] = s
			}
		}
	}

	const where = "package abi"
	p.sameNames("constant", where, sortedLike(consts, golden.constNames()), golden.constNames())
	for _, c := range golden.consts {
		if value, ok := consts[c.name]; ok {
			p.same(c.name, where, value, c.value)
		}
	}
	p.sameNames("struct", where, sortedLike(structs, golden.structNames()), golden.structNames())
	for _, s := range golden.structs {
		found, ok := structs[s.name]
		if !ok {
			continue
		}
		var fields []*types.Var
		var names []string
		for i := range found.NumFields() {
			fields = append(fields, found.Field(i))
			names = append(names, s.name+"."+snake(found.Field(i).Name()))
		}
		p.sameNames("member", where, names, s.fieldNames())
		if !slices.Equal(names, s.fieldNames()) {
			continue
		}
		for i, sizes := range targets {
			target := where + [2]string{" with 64-bit pointers", " with 32-bit pointers"}[i]
			p.same("the size of "+s.name, target, uint64(sizes.Sizeof(found)), s.size[i])
			for j, offset := range sizes.Offsetsof(fields) {
				p.same("the offset of "+names[j], target, uint64(offset), s.fields[j].offset[i])
				p.same("the size of "+names[j], target, uint64(sizes.Sizeof(fields[j].Type())), s.fields[j].size[i])
			}
		}
	}
	return p
}

// checkCompiledGo compares the structs as this test was compiled, for its own pointer size.
func checkCompiledGo(golden *layout) []string {
	var p problems
	width := 0
	if unsafe.Sizeof(uintptr(0)) == 4 {
		width = 1
	}
	compiled := map[string]reflect.Type{
		"ferrule_call":    reflect.TypeFor[abi.Call](),
		"ferrule_request": reflect.TypeFor[abi.Request](),
		"ferrule_host":    reflect.TypeFor[abi.Host](),
		"ferrule_frames":  reflect.TypeFor[abi.Frames](),
	}
	p.sameNames("struct", "this test", sortedLike(compiled, golden.structNames()), golden.structNames())
	for _, s := range golden.structs {
		found, ok := compiled[s.name]
		if !ok {
			continue
		}
		p.same("the size of "+s.name, "compiled Go", uint64(found.Size()), s.size[width])
		for _, f := range s.fields {
			field, ok := found.FieldByNameFunc(func(name string) bool { return snake(name) == f.name })
			if !ok {
				p.addf("compiled Go has no %s.%s", s.name, f.name)
				continue
			}
			p.same("the offset of "+s.name+"."+f.name, "compiled Go", uint64(field.Offset), f.offset[width])
			p.same("the size of "+s.name+"."+f.name, "compiled Go", uint64(field.Type.Size()), f.size[width])
		}
	}
	return p
}

// sortedLike returns the keys of m: those in order first, in its order, then the others.
func sortedLike[V any](m map[string]V, order []string) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		place := func(key string) int {
			if i := slices.Index(order, key); i >= 0 {
				return i
			}
			return len(order)
		}
		return cmp.Or(cmp.Compare(place(a), place(b)), strings.Compare(a, b))
	})
	return keys
}

func typeCheck(files map[string]string) (*types.Package, error) {
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range sortedLike(files, nil) {
		file, err := parser.ParseFile(fset, name, files[name], 0)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, file)
	}
	// The compiler has the last word on the code; imports and what they are used for do not matter to the layout.
	config := types.Config{IgnoreFuncBodies: true, Error: func(error) {}}
	pkg, _ := config.Check("abi", fset, parsed, nil)
	return pkg, nil
}

// ---- C -----------------------------------------------------------------------------------------------------------

// cSource is a C file that compiles when the header is what the golden says.
func cSource(golden *layout) string {
	var b strings.Builder
	b.WriteString("#include <ferrule.h>\n")
	is := func(message, what string, value [2]uint64) {
		fmt.Fprintf(&b, "_Static_assert((%s) == (sizeof(void *) == 8 ? %dull : %dull), %q);\n",
			what, value[0], value[1], message)
	}
	for _, c := range golden.consts {
		is(c.name, c.name, [2]uint64{c.value, c.value})
	}
	for _, s := range golden.structs {
		is("the size of "+s.name, "sizeof(struct "+s.name+")", s.size)
		for _, f := range s.fields {
			is("the offset of "+s.name+"."+f.name, "offsetof(struct "+s.name+", "+f.name+")", f.offset)
			is("the size of "+s.name+"."+f.name, "sizeof(((struct "+s.name+" *)0)->"+f.name+")", f.size)
		}
	}
	return b.String()
}

// compile has a C compiler look at source, and returns what it says.
func compile(command []string, source string) (string, error) {
	include := "-I" + filepath.Dir(headerPath)
	args := slices.Concat(command[1:], []string{"-std=c11", "-fsyntax-only", include, "-x", "c", "-"})
	cmd := exec.Command(command[0], args...)
	cmd.Stdin = strings.NewReader(source)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func nativeCompiler() []string {
	if cc := strings.Fields(os.Getenv("CC")); len(cc) > 0 {
		return cc
	}
	return []string{"cc"}
}

// ---- The header's text -------------------------------------------------------------------------------------------

var (
	commentPattern = regexp.MustCompile(`(?s)/\*.*?\*/`)
	literalPattern = regexp.MustCompile(`"(?:[^"\\\n]|\\.)*"`)
	includePattern = regexp.MustCompile(`(?m)^[ \t]*#[ \t]*include[ \t]*(\S+)`)
	definePattern  = regexp.MustCompile(`(?m)^[ \t]*#[ \t]*define[ \t]+(\w+)(\(?)(.*)$`)
	numberPattern  = regexp.MustCompile(`^(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]*$`)
	enumPattern    = regexp.MustCompile(`(?s)\benum\b\s*(\w*)\s*\{(.*?)\}`)
	structPattern  = regexp.MustCompile(`(?s)\b(struct|union)\s*(\w*)\s*\{(.*?)\n\}`)
	memberPattern  = regexp.MustCompile(`^[^,:\[\]{}]*?(?:\(\*(\w+)\)\([^()]*\)|\b(\w+))$`)
	noABIPattern   = regexp.MustCompile(`\b(float|double|bool|_Bool|_Complex|wchar_t|long|short|va_list)\b`)
)

// checkHeader compares the text of the header with the golden: every member, enumerator and number, in the same order,
// and no other. It also finds what may not cross the boundary.
func checkHeader(golden *layout, header string) []string {
	const where = "ferrule.h"
	var p problems
	code := literalPattern.ReplaceAllString(commentPattern.ReplaceAllString(header, ""), `""`)
	code = strings.ReplaceAll(code, "\\\n", " ") // a macro is one line

	var includes []string
	for _, m := range includePattern.FindAllStringSubmatch(header, -1) {
		includes = append(includes, m[1])
	}
	if want := []string{"<stddef.h>", "<stdint.h>"}; !slices.Equal(includes, want) {
		p.addf("%s includes %v, expected %v and nothing else", where, includes, want)
	}

	consts := map[int]constValue{} // by place in the text
	for _, m := range definePattern.FindAllStringSubmatchIndex(code, -1) {
		name, body := code[m[2]:m[3]], strings.TrimSpace(code[m[6]:m[7]])
		if m[4] != m[5] || strings.HasSuffix(name, "_") || !strings.ContainsAny(body, "0123456789") {
			continue // a function-like macro, one that is not for authors, or no number
		}
		p.addNumber(consts, m[0], name, body)
	}
	for _, m := range enumPattern.FindAllStringSubmatchIndex(code, -1) {
		for i, item := range strings.Split(code[m[4]:m[5]], ",") {
			if name, body, _ := strings.Cut(item, "="); strings.TrimSpace(name) != "" {
				p.addNumber(consts, m[4]+i, strings.TrimSpace(name), strings.TrimSpace(body))
			}
		}
	}
	var names []string
	values := map[string]uint64{}
	places := []int{}
	for place := range consts {
		places = append(places, place)
	}
	slices.Sort(places)
	for _, place := range places {
		names = append(names, consts[place].name)
		values[consts[place].name] = consts[place].value
	}
	p.sameNames("constant", where, names, golden.constNames())
	for _, c := range golden.consts {
		if value, ok := values[c.name]; ok {
			p.same(c.name, where, value, c.value)
		}
	}

	var structs []string
	for _, m := range structPattern.FindAllStringSubmatch(code, -1) {
		kind, name, body := m[1], m[2], m[3]
		if kind == "union" || name == "" {
			p.addf("%s has a union, or a %s without a name: only named structs can be pinned", where, kind)
			continue
		}
		structs = append(structs, name)
		at := slices.Index(golden.structNames(), name)
		if at < 0 {
			continue
		}
		var members []string
		for _, declaration := range strings.Split(body, ";") {
			declaration = strings.Join(strings.Fields(declaration), " ")
			if declaration == "" {
				continue
			}
			member := memberPattern.FindStringSubmatch(declaration)
			if member == nil {
				p.addf("%s: %s: found %q, expected one member, no bit-field, no array", where, name, declaration)
				continue
			}
			members = append(members, name+"."+member[1]+member[2])
		}
		p.sameNames("member", where, members, golden.structs[at].fieldNames())
	}
	p.sameNames("struct", where, structs, golden.structNames())

	if word := noABIPattern.FindString(code); word != "" {
		p.addf("%s has the type %s, whose size or passing differs between compilers", where, word)
	}
	byValue := regexp.MustCompile(`\b(?:` + strings.Join(golden.structNames(), "|") + `)\b\s*([^\s*])`)
	// The table of a module in WebAssembly is an object of its own.
	rest := regexp.MustCompile(`typedef struct \w+ \w+;|struct \w+ \{|const ferrule_host ferrule_services(?:;| = \{)|sizeof\(ferrule_host\)`).ReplaceAllString(code, "")
	for _, m := range byValue.FindAllStringIndex(rest, -1) {
		line := rest[strings.LastIndexByte(rest[:m[0]], '\n')+1:]
		line, _, _ = strings.Cut(line, "\n")
		p.addf("%s: a struct passes by value in %q, expected a pointer", where, strings.TrimSpace(line))
	}
	return p
}

// addNumber records a constant at its place in the text.
func (p *problems) addNumber(consts map[int]constValue, place int, name, body string) {
	m := numberPattern.FindStringSubmatch(body)
	if m == nil {
		p.addf("ferrule.h: %s: found %q, expected a plain number, which can be pinned", name, body)
		return
	}
	value, err := strconv.ParseUint(m[1], 0, 64)
	if err != nil {
		p.addf("ferrule.h: %s: %v", name, err)
		return
	}
	consts[place] = constValue{name, value}
}

// ---- Files -------------------------------------------------------------------------------------------------------

func report(t *testing.T, problems []string) {
	t.Helper()
	for _, problem := range problems {
		t.Error(problem)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

func readGolden(t *testing.T) *layout {
	t.Helper()
	return parseGolden(t, readFile(t, goldenPath))
}

// readPackage returns the texts of package abi's files, without its tests.
func readPackage(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, path := range paths {
		if !strings.HasSuffix(path, "_test.go") {
			files[path] = readFile(t, path)
		}
	}
	return files
}
