package gen

import (
	"errors"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

func TestMain(m *testing.M) {
	// The packages here are in modules of their own.
	for name, value := range map[string]string{"GOWORK": "off", "GOFLAGS": ""} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// module makes a module example.com/vowels of a text in which `-- NAME --` begins each file, and returns its folder. Without a go.mod it has one that requires
// the SDK of this tree.
func module(t *testing.T, files string) string {
	t.Helper()
	dir := t.TempDir()
	if !strings.Contains(files, "-- go.mod --") {
		files = "-- go.mod --\n" + goMod() + files
	}
	write(t, dir, files)
	return dir
}

func goMod() string {
	return "module example.com/vowels\n\ngo 1.24\n\nrequire " + sdk + " v0.1.0\n\nreplace " + sdk + " => " + filepath.ToSlash(filepath.Join(fixture.Root(), "sdk-go")) + "\n"
}

func write(t *testing.T, dir, files string) {
	t.Helper()
	parts := strings.Split("\n"+files, "\n-- ")
	for _, part := range parts[1:] {
		name, text, ok := strings.Cut(part, " --\n")
		require.True(t, ok, part)
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, []byte(text+"\n"), 0o666))
	}
}

func run(t *testing.T, dir string) *Result {
	t.Helper()
	r, err := Run(t.Context(), Options{Dir: dir})
	require.NoError(t, err)
	return r
}

// goCommand runs the go command in a folder.
func goCommand(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), out)
	return string(out)
}

// smallest is a plug-in with the function `f`.
const smallest = "-- vowels.go --\n// Package vowels counts.\n//\n//ferrule:plugin name=vowels version=1.0.0\npackage vowels\n\n//ferrule:export\nfunc F() {}\n"

// misuse are packages with one defect each, at the place of the sign §, and what is said of it. Files of a package begin with `-- NAME --`; what does not begin so stands in vowels.go
// behind the lines of a plug-in.
var misuse = map[string]struct{ files, want string }{
	"unknown directive":              {"//§ferrule:exprot\nfunc F() {}", `found "//ferrule:exprot", expected one of plugin, export, hook, import, want, start, stop, configure, save, resume. Did you mean //ferrule:export?`},
	"unexported function":            {"//ferrule:export\nfunc §count() {}", "found the unexported function count, expected an exported one: what a host calls is seen from outside. Name it Count."},
	"two functions of one name":      {"//ferrule:export\nfunc HTTPGet() {}\n\n//ferrule:export\nfunc §HttpGet() {}", "found a second function http_get, expected each name once, and one is at "},
	"two hooks of one point":         {"//ferrule:hook save\nfunc A() {}\n\n//ferrule:hook save\nfunc §B() {}", "found a second hook of the point save, expected each name once"},
	"an export twice":                {"//ferrule:export\n//§ferrule:export name=g\nfunc F() {}", "found a second //ferrule:export of F, expected one"},
	"a channel":                      {"//ferrule:export\nfunc F(§c chan int) {}", "found the parameter c of F of the type chan int, expected []byte, string, or a type that encoding/json decodes"},
	"a function as a parameter":      {"//ferrule:export\nfunc F(§f func()) {}", "found the parameter f of F of the type func(), expected []byte"},
	"a channel in a field":           {"type T struct{ A []struct{ C chan int } }\n\n//ferrule:export\nfunc F(§t T) {}", "of the type chan int in its field C in its field A, expected []byte"},
	"a map of keys that are no text": {"//ferrule:export\nfunc F(§m map[[2]int]int) {}", "of the type map[[2]int]int, whose keys are no text, expected"},
	"a complex number":               {"//ferrule:export\nfunc §F() complex128 { return 0 }", "found the result of F of the type complex128, expected []byte, string, or a type that encoding/json encodes"},
	"variadic":                       {"//ferrule:export\nfunc F(§n ...int) {}", "found the parameter n ...int of F, expected parameters of a fixed number. Take a slice."},
	"two values":                     {"//ferrule:export\nfunc F(a string, §b int) {}", "found the parameter b int of F, beside another value, expected one value at most: [ctx context.Context], [a value], [io.Reader], [io.Writer], in this order. Make them fields of a struct."},
	"two values without names":       {"//ferrule:export\nfunc F(string, §int) {}", "found parameter 2, a int of F, beside another value"},
	"an interface":                   {"import \"fmt\"\n\n//ferrule:export\nfunc F(§s fmt.Stringer) {}", "of the interface type fmt.Stringer, of which it is not known what to make, expected []byte"},
	"a context behind":               {"import \"context\"\n\n//ferrule:export\nfunc F(a int, §ctx context.Context) {}", "found the parameter ctx context.Context of F behind another, expected it to be the first"},
	"a value behind a stream":        {"import \"io\"\n\n//ferrule:export\nfunc F(r io.Reader, §a int) {}", "found the parameter a int of F behind a stream, expected [ctx context.Context]"},
	"a reader behind a writer":       {"import \"io\"\n\n//ferrule:export\nfunc F(w io.Writer, §r io.Reader) {}", "found the parameter r io.Reader of F behind an io.Writer, expected"},
	"two readers":                    {"import \"io\"\n\n//ferrule:export\nfunc F(r, §s io.Reader) {}", "found two input streams of F, expected one io.Reader at most"},
	"two writers":                    {"import \"io\"\n\n//ferrule:export\nfunc F(r, §s io.Writer) {}", "found two output streams of F, expected one io.Writer at most"},
	"a generic function":             {"//ferrule:export\nfunc §F[T any]() {}", "found the generic function F, expected one without type parameters. Export one that calls it with a type."},
	"three results":                  {"//ferrule:export\nfunc §F() (int, string, error) { return 0, \"\", nil }", "found the results (int, string, error) of F, expected nothing, error, a value, or a value and an error"},
	"an error first":                 {"//ferrule:export\nfunc §F() (error, int) { return nil, 0 }", "found the results (error, int) of F, expected"},
	"two errors":                     {"//ferrule:export\nfunc §F() (error, error) { return nil, nil }", "found the results (error, error) of F, expected"},
	"an error of its own":            {"type E struct{}\n\nfunc (*E) Error() string { return \"\" }\n\n//ferrule:export\nfunc §F() *E { return nil }", "found the result *E of F, a type of errors, expected error: a nil of another type is an error that is not nil"},
	"a name that is none":            {"//ferrule:export §name=count-vowels\nfunc F() {}", `found the name "count-vowels", expected a C identifier of 1 to 128 bytes`},
	"a name that Go allows":          {"//§ferrule:export\nfunc Größe() {}", `found the name "größe", which Größe makes, expected a C identifier of 1 to 128 bytes. Give one: //ferrule:export name=….`},
	"a key without a value":          {"//ferrule:export §name=\nfunc F() {}", "found name= without a value, expected one. Leave the key out, or write \"\"."},
	"a word that is no key":          {"//ferrule:export §idempotent\nfunc F() {}", `found "idempotent", expected key=value`},
	"a key twice":                    {"//ferrule:export since=1 §since=2\nfunc F() {}", "found the key since twice, expected each key once"},
	"a key that is none":             {"//ferrule:export §Since=1\nfunc F() {}", `found the key "Since", expected 1 to 64 bytes of a-z, 0-9, _, - and .`},
	"a key that is misspelt":         {"//ferrule:export §idempotant=yes\nfunc F() {}", "found the key idempotant, expected one that hosts know, or one of yours, which begins with x-. Did you mean idempotent?"},
	"a literal without an end":       {"//ferrule:export since=§\"1\nfunc F() {}", "found a value that is no Go string literal, expected"},
	"text behind a literal":          {"//ferrule:export since=\"1\"§2\nfunc F() {}", `found "2" right behind a literal, expected a blank there`},
	"a quote in a word":              {"//ferrule:export since=§1\"\nfunc F() {}", "found a quote within the word"},
	"a NUL":                          {"//ferrule:export §since=\"\\x00\"\nfunc F() {}", "found a NUL in the value of since, expected text without one"},
	"a value that is not UTF-8":      {"//ferrule:export §since=\"\\xff\"\nfunc F() {}", "found a value of since that is not UTF-8, expected UTF-8"},
	"another stream":                 {"//ferrule:export §stream=in\nfunc F() {}", "found stream=in, expected no stream, as its parameters say"},
	"a stream that is none":          {"//ferrule:export §stream=up\nfunc F() {}", `found stream="up", expected in, out or both (rule R24)`},
	"a hook without a point":         {"//§ferrule:hook\nfunc F() {}", "found //ferrule:hook without an extension point, expected //ferrule:hook POINT"},
	"a hook of two points":           {"//ferrule:hook a §b\nfunc F() {}", `found "b", expected the name of one extension point, and then key=value`},
	"a point that is no name":        {"//§ferrule:hook before-save\nfunc F() {}", `found the extension point "before-save", expected a C identifier`},
	"a hook with a name":             {"//ferrule:hook save §name=x\nfunc F() {}", "found the key name of a hook, expected its point's name as //ferrule:hook POINT"},
	"an empty line":                  {"//§ferrule:export\n\nfunc F() {}", "found //ferrule:export at a place where it means nothing, expected it in the doc comment of a function or a method. Is there an empty line between them?"},
	"within a function":              {"func F() {\n\t//§ferrule:export\n}", "found //ferrule:export at a place where it means nothing"},
	"a blank before it":              {"//§ ferrule:export\nfunc F() {}", "found a directive with a blank in it, expected //ferrule:export without one"},
	"a blank behind the colon":       {"//§ferrule: export\nfunc F() {}", `found "//ferrule:", expected one of plugin, export`},
	"blanks at all places":           {"//§  ferrule :\texport name=x\nfunc F() {}", "found a directive with a blank in it, expected //ferrule:export without one. Leave the blank out."},
	"a blank, and a point":           {"//§\tferrule:hook saved\nfunc F() {}", "found a directive with a blank in it, expected //ferrule:hook without one"},
	"its own byte in a test":         {smallest + "\n-- a_test.go --\npackage vowels\n\ntype §byte int", "found a declaration of byte, expected Go's own"},
	"a map of big numbers":           {"import \"math/big\"\n\n//ferrule:export\nfunc §F() []struct{ A map[string]struct{ N big.Int } } { return nil }", "found the result of F with map[string]struct{N big.Int}, for whose values encoding/json calls no method of a pointer's, expected a map of pointers"},
	"a map of names":                 {"type name string\n\nfunc (n *name) MarshalText() ([]byte, error) { return nil, nil }\n\n//ferrule:export\nfunc §F() map[name]int { return nil }", "found the result of F with map[name]int, for whose keys encoding/json calls no method of a pointer's, expected keys with a MarshalText of their own"},
	"a map with keys of JSON alone":  {"type key struct{}\n\nfunc (key) MarshalJSON() ([]byte, error) { return nil, nil }\n\n//ferrule:export\nfunc §F() map[key]int { return nil }", "of the type map[key]int, whose keys are no text, expected"},
	"a map that a host gets":         {"import (\"context\"; \"math/big\")\n\n//ferrule:import\nvar §f func(context.Context, map[string]big.Int) error", "found the parameter of the variable f with map[string]big.Int, for whose values"},
	"a codec of another form":        {"type T struct{ C chan int }\n\nfunc (T) MarshalJSON() string { return \"\" }\n\n//ferrule:export\nfunc §F() (t T) { return t }", "of the type chan int in its field C, expected"},
	"a field with the name -":        {"type T struct{ C chan int `json:\"-,\"` }\n\n//ferrule:export\nfunc §F() (t T) { return t }", "of the type chan int in its field C, expected"},
	"a doc comment that is too long": {"//§ferrule:export doc=\"" + strings.Repeat("x", 65525) + "\"\nfunc F(s string) {}", "found keys and a doc comment of 65560 bytes, expected 65536 at most (rule R1)"},
	"a manifest that is too long":    {"-- vowels.go --\n//§ferrule:plugin name=vowels version=1 license=\"" + strings.Repeat("x", 65500) + "\"\npackage vowels\n\n//ferrule:export\nfunc F() {}", "found keys and a doc comment of 65542 bytes, expected 65536 at most (rule R1)"},
	"a schema that is too long":      {"-- vowels.go --\n//ferrule:plugin name=vowels version=1 §config=`{\"a\":\"" + strings.Repeat("x", 1<<20-8) + "\"}`\npackage vowels\n\n//ferrule:export\nfunc F() {}", "found config= of 1048576 bytes, expected 1 MiB at most (rule R32)"},
	"texts that are too long":        {"-- vowels.go --\n//§ferrule:plugin name=vowels version=1 config=`{\"a\":\"" + strings.Repeat("x", 1<<20-60) + "\"}`\npackage vowels\n\n//ferrule:export\nfunc F() {}", "found a plug-in whose texts have 10"},
	"an export of a type":            {"//§ferrule:export\ntype T int", "found //ferrule:export in the doc comment of a type, expected it in the doc comment of a function or a method"},
	"an export of a variable":        {"//§ferrule:export\nvar V int", "found //ferrule:export in the doc comment of a variable, expected it in"},
	"an import of a function":        {"//§ferrule:import\nfunc F() {}", "found //ferrule:import in the doc comment of a function, expected it in the doc comment of a package variable"},
	"a plug-in at a function":        {"//§ferrule:plugin name=a version=1\nfunc F() {}", "found //ferrule:plugin in the doc comment of a function, expected it in the doc comment of the package"},
	"an import of a list":            {"import \"context\"\n\n//§ferrule:import\nvar (\n\tf func(context.Context) error\n)", "found //ferrule:import in the doc comment of a variable list, expected"},
	"an import of two":               {"import \"context\"\n\n//§ferrule:import\nvar f, g func(context.Context) error", "found //ferrule:import at 2 variables, expected it at one. Declare each by itself."},
	"an import with a value":         {"import \"context\"\n\n//ferrule:import\nvar f = §func(context.Context) error { return nil }", "found a value of the variable f, expected none: ferrule_gen.go sets it"},
	"an import of an internal type":  {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport \"example.com/vowels/lib\"\n\n//ferrule:import\nvar §f lib.Func\n\n//ferrule:export\nfunc F() {}\n\n-- lib/lib.go --\npackage lib\n\nimport (\n\t\"context\"\n\t\"example.com/vowels/lib/internal/own\"\n)\n\ntype Func func(context.Context, []*own.T) error\n\n-- lib/internal/own/own.go --\npackage own\n\ntype T struct{ A int }", "found the parameter of the variable f of the type []*own.T with example.com/vowels/lib/internal/own.T, from a package that example.com/vowels may not import, expected types that example.com/vowels can name. Declare one of its own with the same JSON."},
	"an import of a hidden type":     {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport \"example.com/vowels/lib\"\n\n//ferrule:import\nvar §f lib.Func\n\n//ferrule:export\nfunc F() {}\n\n-- lib/lib.go --\npackage lib\n\nimport \"context\"\n\ntype t struct{ A int }\n\ntype Func func(context.Context) (map[string]t, error)", "found the result of the variable f of the type map[string]lib.t with example.com/vowels/lib.t, which is unexported, expected types that example.com/vowels can name"},
	"an import of a hidden argument": {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport \"example.com/vowels/lib\"\n\n//ferrule:import\nvar §f lib.Func\n\n//ferrule:export\nfunc F() {}\n\n-- lib/lib.go --\npackage lib\n\nimport \"context\"\n\ntype t struct{ A int }\n\ntype G[T any] struct{ A T }\n\ntype Func func(context.Context, struct{ V G[t] }) error", "found the parameter of the variable f of the type struct{V lib.G[lib.t]} with example.com/vowels/lib.t, which is unexported, expected"},
	"an import of a hidden string":   {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport \"example.com/vowels/lib\"\n\n//ferrule:import\nvar §f lib.Func\n\n//ferrule:export\nfunc F() {}\n\n-- lib/lib.go --\npackage lib\n\nimport \"context\"\n\ntype t = string\n\ntype Func = func(context.Context, t) error", "found the parameter of the variable f of the type lib.t with example.com/vowels/lib.t, which is unexported, expected"},
	"an import of a hidden field":    {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport \"example.com/vowels/lib\"\n\n//ferrule:import\nvar §f lib.Func\n\n//ferrule:export\nfunc F() {}\n\n-- lib/lib.go --\npackage lib\n\nimport \"context\"\n\ntype Func func(context.Context, struct{ A, b int }) error", "with the field b of example.com/vowels/lib, which is unexported, expected"},
	"an import of a hidden method":   {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport \"example.com/vowels/lib\"\n\n//ferrule:import\nvar §f lib.Func\n\n//ferrule:export\nfunc F() {}\n\n-- lib/lib.go --\npackage lib\n\nimport (\n\t\"context\"\n\t\"encoding/json\"\n)\n\ntype C struct{ json.RawMessage }\n\ntype Func func(context.Context, struct{ *C; I interface{ m() } }) error", "with the method m of example.com/vowels/lib, which is unexported, expected"},
	"an import of a hidden function": {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport \"example.com/vowels/lib\"\n\n//ferrule:import\nvar §f lib.Func\n\n//ferrule:export\nfunc F() {}\n\n-- lib/lib.go --\npackage lib\n\nimport (\n\t\"context\"\n\t\"encoding/json\"\n)\n\ntype C struct{ json.RawMessage }\n\ntype t int\n\ntype Func func(context.Context, struct{ *C; I func(t) }) error", "with example.com/vowels/lib.t, which is unexported, expected"},
	"an import of their interface":   {"-- vowels.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\nimport \"example.com/vowels/lib\"\n\n//ferrule:import\nvar §f lib.Func\n\n//ferrule:export\nfunc F() {}\n\n-- lib/lib.go --\npackage lib\n\nimport \"context\"\n\ntype Func func(context.Context, interface{ M() }) error", "found parameter 2 of the variable f of the interface type interface{M()}, of which it is not known what to make, expected"},
	"an import without a context":    {"//ferrule:import\nvar §f func() error", "found the variable f of the type func() error, expected ctx context.Context as its first parameter and error as its last result"},
	"an import without an error":     {"import \"context\"\n\n//ferrule:import\nvar §f func(ctx context.Context)", "found the variable f of the type func(ctx context.Context), expected ctx"},
	"an import that is no function":  {"//ferrule:import\nvar §f int", "found the variable f of the type int, expected a function"},
	"an import of an interface":      {"import (\"context\"; \"fmt\")\n\n//ferrule:import\nvar §f func(ctx context.Context) (fmt.Stringer, error)", "found the result of the variable f of the interface type fmt.Stringer, of which"},
	"an import with a stream":        {"import (\"context\"; \"io\")\n\n//ferrule:import\nvar f func(ctx context.Context, §r io.Reader) error", "of the interface type io.Reader, of which it is not known what to make"},
	"an import and a want":           {"import \"context\"\n\n//ferrule:import\nvar f func(context.Context) error\n\n//ferrule:want name=f\nvar §g func(context.Context) error", "found a second import or want f, expected each name once"},
	"an import without a name":       {"import \"context\"\n\n//ferrule:import name=f\nvar §_ func(context.Context) error", "found the variable _, expected one with a name"},
	"a method without a start":       {"type T struct{}\n\n//ferrule:export\nfunc (t *T) §F() {}", "found the method T.F, and no //ferrule:start, expected a function with it that returns *T"},
	"a method of another type":       {state + "type U struct{}\n\n//ferrule:export\nfunc (u *U) §F() {}", "found the method U.F, expected one of *T, which New returns"},
	"a receiver that is a copy":      {state + "//ferrule:export\nfunc §(t T) F() {}", "found the receiver T of T.F, expected *T: each call would have a copy of the state"},
	"a generic state":                {"type T[A any] struct{}\n\n//ferrule:start\nfunc §New() *T[int] { return nil }", "found the result *T[int] of New, expected (*T, error) or *T, where T is a type of this package"},
	"an unexported state":            {"type §t struct{}\n\n//ferrule:start\nfunc New() *t { return nil }", "found the unexported type t, which New returns, expected an exported one: what a host calls is seen from outside. Name it T."},
	"a state of another package":     {"import \"time\"\n\n//ferrule:start\nfunc §New() *time.Time { return nil }", "found the result *time.Time of New, expected (*T, error) or *T"},
	"a start that returns nothing":   {"//ferrule:start\nfunc §New() {}", "found the results () of New, expected (*T, error) or *T"},
	"a start of two values":          {"type T struct{}\n\n//ferrule:start\nfunc New(a int, §b int) *T { return nil }", "found the parameter b int of New, beside another value, expected one value at most: [ctx context.Context], [a value], in this order"},
	"a start that is a method":       {state + "//§ferrule:start\nfunc (t *T) Again() *T { return nil }", "found //ferrule:start at the method T.Again, expected it at a function"},
	"two starts":                     {state + "//§ferrule:start\nfunc Again() *T { return nil }", "found a second //ferrule:start, expected one, as at "},
	"a start with keys":              {"type T struct{}\n\n//ferrule:start §name=x\nfunc New() *T { return nil }", "found the key name, expected //ferrule:start without keys"},
	"a stop that is a function":      {state + "//§ferrule:stop\nfunc Stop() {}", "found //ferrule:stop at the function Stop, expected it at a method of the type that //ferrule:start returns"},
	"a stop that takes something":    {state + "//ferrule:stop\nfunc (t *T) §Stop(n int) {}", "found func(n int) of T.Stop, expected Stop([ctx context.Context]) [error]"},
	"a configure without an error":   {state + "//ferrule:configure\nfunc (t *T) §Configure(n int) {}", "found func(n int) of T.Configure, expected Configure([ctx context.Context], C) error"},
	"two stops":                      {state + "//ferrule:stop\nfunc (t *T) A() {}\n\n//§ferrule:stop\nfunc (t *T) B() {}", "found a second //ferrule:stop, expected one, as at "},
	"save without resume":            {"-- vowels.go --\n" + saving + state + "//ferrule:save\nfunc (t *T) §Save() string { return \"\" }", "found //ferrule:save without //ferrule:resume, expected both (rule R29)"},
	"resume without save":            {state + "//ferrule:resume\nfunc (t *T) §Resume(s string) error { return nil }", "found //ferrule:resume without //ferrule:save, expected both (rule R29)"},
	"save of one type":               {"-- vowels.go --\n" + saving + state + "//ferrule:save\nfunc (t *T) Save() string { return \"\" }\n\n//ferrule:resume\nfunc (t *T) §Resume(n int) error { return nil }", "found that Resume takes int, and Save returns string, expected one type"},
	"a state= without save":          {"-- vowels.go --\n//ferrule:plugin name=vowels version=1 §state=a\npackage vowels\n\n//ferrule:export\nfunc F() {}", "found state=, and no //ferrule:save, expected methods with it and with //ferrule:resume (rule R29)"},
	"save without state=":            {"-- vowels.go --\n//§ferrule:plugin name=vowels version=1\npackage vowels\n\n" + state + "//ferrule:save\nfunc (t *T) Save() string { return \"\" }\n\n//ferrule:resume\nfunc (t *T) Resume(n string) error { return nil }", "found //ferrule:plugin without state=, and //ferrule:save, expected a word for the format"},
	"no plug-in":                     {"-- vowels.go --\npackage §vowels\n\n//ferrule:export\nfunc F() {}", "found no //ferrule:plugin in the package vowels, expected one in its doc comment. Write: //ferrule:plugin name=vowels version=0.1.0."},
	"two plug-ins":                   {"-- a.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\n//ferrule:export\nfunc F() {}\n\n-- b.go --\n//§ferrule:plugin name=vowels version=1\npackage vowels", "found a second //ferrule:plugin, expected one, as at "},
	"no function":                    {"-- vowels.go --\n//§ferrule:plugin name=vowels version=1\npackage vowels", "found a plug-in without a function, expected one at least. Write //ferrule:export into the doc comment of one."},
	"no name":                        {"-- vowels.go --\n//§ferrule:plugin version=1\npackage vowels\n\n//ferrule:export\nfunc F() {}", "found //ferrule:plugin without name=, expected it, such as name=vowels"},
	"no version":                     {"-- vowels.go --\n//§ferrule:plugin name=vowels\npackage vowels\n\n//ferrule:export\nfunc F() {}", "found //ferrule:plugin without version=, expected it, such as version=1.0.0"},
	"a bad name":                     {"-- vowels.go --\n//ferrule:plugin §name=vowels/x version=1\npackage vowels\n\n//ferrule:export\nfunc F() {}", `found name="vowels/x", expected 1 to 128 letters, digits, _, - or . (rule R1)`},
	"a name that Go does not build":  {"-- vowels.go --\n//ferrule:plugin §name=.vowels version=1\npackage vowels\n\n//ferrule:export\nfunc F() {}", `found the name ".vowels", which Go builds nothing in a folder of, expected`},
	"other threads":                  {"-- vowels.go --\n//ferrule:plugin name=vowels version=1 §threads=many\npackage vowels\n\n//ferrule:export\nfunc F() {}", `found threads="many", expected serial, concurrent or pinned (rule R13)`},
	"a schema that is none":          {"-- vowels.go --\n//ferrule:plugin name=vowels version=1 §config=`{`\npackage vowels\n\n//ferrule:export\nfunc F() {}", "found config= that is no JSON object: "},
	"a health that is not there":     {"-- vowels.go --\n//ferrule:plugin name=vowels version=1 §health=ok\npackage vowels\n\n//ferrule:export\nfunc F() {}", "found health=ok, expected the name of an exported function"},
	"the contract's key":             {"-- vowels.go --\n//ferrule:plugin name=vowels version=1 §ferrule=2\npackage vowels\n\n//ferrule:export\nfunc F() {}", "found the key ferrule, expected none: it is written by itself"},
	"package main":                   {"-- main.go --\n//ferrule:plugin name=vowels version=1\npackage §main\n\n//ferrule:export\nfunc F() {}\n\nfunc main() {}", "found package main, expected a package of another name: what is written imports it"},
	"a test":                         {smallest + "\n-- vowels_test.go --\npackage vowels\n\n//§ferrule:export\nfunc G() {}", "found //ferrule:export in a file that is a test, expected it in a file that every build of the package has. Call from there what is different here."},
	"a build line":                   {smallest + "\n-- a.go --\n//go:build !wasip1\n\npackage vowels\n\n//§ferrule:export\nfunc G() {}", "found //ferrule:export in a file that is built for some systems alone, expected it in"},
	"a name with a system":           {smallest + "\n-- a_wasip1.go --\npackage vowels\n\n//§ferrule:export\nfunc G() {}", "found //ferrule:export in a file that is no part of the package as it is built here, expected it in"},
	"a name with this system":        {smallest + "\n-- a_unix.go --\n//go:build unix || windows\n\npackage vowels\n\n//§ferrule:export\nfunc G() {}", "found //ferrule:export in a file that is built for some systems alone, expected it in"},
	"what is no Go":                  {"func F() { } §}", "expected declaration, found '}'"},
	"a type error":                   {"//ferrule:export\nfunc F() int { return §\"\" }", `cannot use "" (untyped string constant) as int value in return statement`},
	"an unknown type":                {"//ferrule:export\nfunc F(a §T) {}", "undefined: T"},
	"a package that is not there":    {"import _ §\"example.com/vowels/none\"\n\n//ferrule:export\nfunc F() {}", "could not import example.com/vowels/none"},
	"a package that does not build":  {smallest + "\n-- a.go --\npackage vowels\n\nimport _ §\"example.com/vowels/other\"\n\n-- other/other.go --\npackage other\n\nvar x int = \"\"", "could not import example.com/vowels/other"},
	"its own Plugin":                 {"var §Plugin int\n\n//ferrule:export\nfunc F() {}", "found a declaration of Plugin, expected none: ferrule_gen.go has it"},
	"a package under its name":       {"import §Plugin \"fmt\"\n\nvar _ = Plugin.Sprint\n\n//ferrule:export\nfunc F() {}", "found a declaration of Plugin, expected none: ferrule_gen.go has it"},
	"its own any":                    {"type §any int\n\n//ferrule:export\nfunc F() {}", "found a declaration of any, expected Go's own: what is written needs it"},
	"a file of cgo's":                {smallest + "\n-- c.go --\npackage vowels\n\nimport \"C\"\n\n//§ferrule:export\nfunc G() {}", "found //ferrule:export in a file that is built where there is cgo alone, expected it in a file that every build of the package has"},
	"a build line with cgo":          {smallest + "\n-- c.go --\n//go:build\tcgo || !cgo\n\npackage vowels\n\n//§ferrule:export\nfunc G() {}", "found //ferrule:export in a file that is built for some systems alone, expected it in"},
	"a build line of old":            {smallest + "\n-- c.go --\n//+build !wasip1\n\npackage vowels\n\n//§ferrule:export\nfunc G() {}", "found //ferrule:export in a file that is built for some systems alone, expected it in"},
	"a type of C":                    {smallest + "\n//ferrule:export\nfunc G(§n number) {}\n-- c.go --\npackage vowels\n\nimport \"C\"\n\ntype number = C.int", "found the parameter n of G of a type of C, expected one of Go's"},
	"a function that is init":        {"//ferrule:export\nfunc §init() {}", "found the function init, which nobody can call, expected one with a name"},
}

// state is a state T with its start, and saving the comment of a package that saves it.
const (
	state  = "type T struct{}\n\n//ferrule:start\nfunc New() *T { return nil }\n\n//ferrule:export\nfunc (t *T) G() {}\n\n"
	saving = "//ferrule:plugin name=vowels version=1.0.0 state=a\npackage vowels\n\n"
)

// TestMisuse: each defect is an error with its place, what was found, what was expected and what to do, and nothing else is one; and no file is written.
func TestMisuse(t *testing.T) {
	const head = "-- vowels.go --\n//ferrule:plugin name=vowels version=1.0.0\npackage vowels\n\n"
	for name, c := range misuse {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := c.files
			if !strings.HasPrefix(files, "-- ") {
				files = head + files
			}
			before, _, marked := strings.Cut(files, "§")
			require.True(t, marked)
			begin := strings.LastIndex(before, " --\n")
			name, text := before[strings.LastIndex(before[:begin], "-- ")+3:begin], before[begin+4:]
			at := token.Position{Line: 1 + strings.Count(text, "\n"), Column: len(text) - strings.LastIndex(text, "\n")}
			if strings.HasSuffix(text, "//") { // a comment is at its first byte
				at.Column -= 2
			}
			dir := module(t, strings.Replace(files, "§", "", 1))
			at.Filename = filepath.Join(dir, name)
			_, err := Run(t.Context(), Options{Dir: dir})
			var faults Faults
			require.True(t, errors.As(err, &faults), "%v", err)
			require.Len(t, faults, 1, "%v", err)
			assert.True(t, strings.HasPrefix(err.Error(), at.String()+": "), "%v, and not %v", err, at)
			assert.Contains(t, err.Error(), c.want)
			assert.NoFileExists(t, filepath.Join(dir, goFile))
			assert.NoDirExists(t, filepath.Join(dir, "cmd"))
		})
	}
}

// TestAllFaults: all that is wrong is said at once, in the order of the places.
func TestAllFaults(t *testing.T) {
	t.Parallel()
	dir := module(t, "-- b.go --\n//ferrule:plugin name=vowels version=1\npackage vowels\n\n//ferrule:export since=\"1\n//ferrule:hook a-b\nfunc f(a, b int) {}\n-- a.go --\npackage vowels\n\n//ferrule:exprot\nfunc G(c chan int) { return 1 }\n")
	_, err := Run(t.Context(), Options{Dir: dir})
	require.Error(t, err)
	var places []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		places = append(places, strings.Join(strings.SplitN(strings.TrimPrefix(line, dir+string(filepath.Separator)), ":", 4)[:3], ":"))
	}
	assert.Equal(t, []string{"a.go:3:1", "a.go:4:29", "b.go:4:24", "b.go:5:1", "b.go:6:6", "b.go:6:11"}, places, "%v", err)
}
