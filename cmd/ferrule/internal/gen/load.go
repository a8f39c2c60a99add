package gen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/build/constraint"
	"go/importer"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/ferrule-dev/ferrule/loader/abspath"
)

// The packages of the SDK that what is written imports.
const (
	sdk        = "github.com/ferrule-dev/ferrule/sdk-go"
	sdkPlugin  = sdk + "/plugin"
	sdkSidecar = sdk + "/sidecar"
	sdkLibrary = sdk + "/library"
	sdkModule  = sdk + "/module"
)

// pkg is a package of an author's, without what was written for it before.
type pkg struct {
	dir, path string
	module    string // its path
	mod       string // its go.mod
	fset      *token.FileSet
	files     []*file // all of its folder, by name
	types     *types.Package
	info      *types.Info
	faults    Faults
	uncertain bool // the compiler has found something: what is not known of a type is no fault of its own
}

// file is one of its files.
type file struct {
	name   string
	syntax *ast.File
	use    string // how the package uses it: "" as every build does, otherwise why not
	built  bool   // it is part of the package as it is built here
}

// fault notes what is wrong at a place.
func (p *pkg) fault(at token.Pos, found, expected, remedy string) {
	p.faults = append(p.faults, &Fault{p.fset.Position(at), found, expected, remedy})
}

// listed is what the go command knows of a package.
type listed struct {
	ImportPath, Export string
	GoFiles, CgoFiles  []string
	DepOnly            bool
	ImportMap          map[string]string
	Module             *inModule
	Error              *struct{ Pos, Err string }
}

// inModule is what it knows of a package's module.
type inModule struct{ Path, GoVersion, GoMod string }

// load reads the package in a folder. What it was given before is no part of it: that may be of another version, or not compile.
func load(ctx context.Context, dir string) (*pkg, error) {
	p := &pkg{dir: dir, fset: token.NewFileSet()}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, &Unready{"that the folder cannot be read: " + err.Error(), "the folder of a Go package", "Name it: ferrule gen DIR"}
	}
	name := ""
	for _, e := range entries {
		if e.Name() == goFile && e.IsDir() {
			return nil, &Unready{"the folder " + filepath.Join(dir, goFile), "a file of this name, or none", "Move the folder"}
		}
		if readByGo(e.Name()) {
			if err := regularOrNone(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
		if filepath.Ext(e.Name()) != ".go" || e.IsDir() || e.Name() == goFile || strings.ContainsAny(e.Name()[:1], "._") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		text, err := read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a link to nothing, such as an editor's lock
		}
		if err != nil {
			return nil, err
		}
		syntax, err := parser.ParseFile(p.fset, path, text, parser.ParseComments|parser.SkipObjectResolution|parser.AllErrors)
		var list scanner.ErrorList
		switch {
		case errors.As(err, &list):
			for _, e := range list {
				p.faults = append(p.faults, &Fault{At: e.Pos, Found: e.Msg})
			}
		case err != nil:
			return nil, err
		}
		if syntax == nil {
			continue
		}
		f := &file{name: e.Name(), syntax: syntax}
		if ok, err := build.Default.MatchFile(dir, f.name); err == nil && ok && !strings.HasSuffix(f.name, "_test.go") && name == "" {
			name = syntax.Name.Name
		}
		p.files = append(p.files, f)
	}
	if len(p.faults) > 0 {
		return nil, p.faults.sorted()
	}
	if name == "" {
		return nil, &Unready{"no Go package in " + dir, "the folder of one", "Name it: ferrule gen DIR"}
	}
	if name == "main" {
		for _, f := range p.files {
			for _, group := range f.syntax.Comments {
				for _, c := range group.List {
					if strings.HasPrefix(c.Text, prefix) {
						p.fault(f.syntax.Name.Pos(), "package main", "a package of another name: what is written imports it", "Name the package after the plug-in; the program is made of it")
						return nil, p.faults
					}
				}
			}
		}
		return nil, &Unready{"package main in " + dir, "a package of another name, with " + prefix + "plugin in its doc comment", "Name the package's folder: ferrule gen DIR"}
	}
	if err := modules(dir); err != nil {
		return nil, err
	}
	stub := p.stub(name)
	all, err := p.list(ctx, stub)
	if err != nil {
		return nil, err
	}
	own, err := p.own(all)
	if err != nil {
		return nil, err
	}
	if first := slices.IndexFunc(p.files, func(f *file) bool { return f.built }); first >= 0 {
		for _, f := range p.files[first:] {
			if want, got := p.files[first].syntax.Name.Name, f.syntax.Name; f.built && got.Name != want {
				p.fault(got.Pos(), "package "+got.Name, "package "+want+", as in "+p.files[first].name, "")
			}
		}
		if len(p.faults) > 0 {
			return nil, p.faults
		}
	}
	return p, p.check(own, all, stub)
}

// built are the endings of the files of a package that the go command reads, beside Go's own: it asks of each which systems it is for, and a part of the build it is where cgo is used.
var built = []string{".go", ".c", ".cc", ".cpp", ".cxx", ".m", ".h", ".hh", ".hpp", ".hxx", ".f", ".F", ".for", ".f90", ".s", ".S", ".sx", ".swig", ".swigcxx", ".syso"}

// readByGo reports whether the go command reads a file of this name in a package's folder. It would wait for a named pipe.
func readByGo(name string) bool {
	return slices.Contains(built, filepath.Ext(name)) && !strings.ContainsAny(name[:1], "._")
}

// modules refuses a file of the package's module that the go command would wait for: the go.mod that it finds, what is beside that, and a go.work above.
func modules(dir string) error {
	at, err := abspath.Of(dir)
	if err != nil {
		return err
	}
	found := false
	for {
		names := []string{"go.work", "go.work.sum"}
		if !found {
			names = append(names, "go.mod", "go.sum")
		}
		for _, name := range names {
			if err := regularOrNone(filepath.Join(at, name)); err != nil {
				return err
			}
		}
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			found = true
		}
		if filepath.Dir(at) == at {
			return nil
		}
		at = filepath.Dir(at)
	}
}

// stub stands for the file that is written.
func (p *pkg) stub(name string) string {
	sdk := p.namer().name("plugin")
	return "package " + name + "\n\nimport " + sdk + " \"" + sdkPlugin + "\"\n\nvar Plugin *" + sdk + ".Plugin\n"
}

// namer gives names to imports of the file that is written: what the package declares in any of its files, those of tests and of other systems too, is none.
func (p *pkg) namer() *namer {
	n := &namer{map[string]bool{"init": true, "_": true, "Plugin": true}}
	for _, f := range p.files {
		for _, at := range declarations(f.syntax) {
			n.taken[at.Name] = true
		}
	}
	return n
}

// list asks the go command for the package and all that it imports, with a stub in the place of the file that is written.
func (p *pkg) list(ctx context.Context, stub string) ([]*listed, error) {
	top, err := abspath.Of(os.TempDir()) // the go command runs in the package's folder
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(top, "ferrule-gen-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	file := filepath.Join(tmp, "stub.go")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {goFile: file}})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, []byte(stub), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(tmp, "overlay.json"), overlay, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-deps", "-export", "-overlay", filepath.Join(tmp, "overlay.json"),
		"-json=ImportPath,Export,GoFiles,CgoFiles,DepOnly,ImportMap,Module,Error", ".")
	cmd.Dir = p.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return nil, &Unready{"no go command in PATH", "Go 1.24 or newer", "See https://go.dev/doc/install"}
	case err != nil:
		return nil, &Unready{"that go list does not read the package in " + p.dir + ": " + told(stderr.String()), "one of a module", "Is there a go.mod? go mod init makes one"}
	}
	var all []*listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		l := new(listed)
		if err := d.Decode(l); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("what go list has printed: %w", err)
		}
		all = append(all, l)
	}
}

// told is what a command has said, as part of a sentence.
func told(text string) string {
	return strings.TrimRight(strings.Join(strings.Fields(text), " "), ".")
}

// own finds the package itself among those that were listed, and says of each file how it is used.
func (p *pkg) own(all []*listed) (*listed, error) {
	at := slices.IndexFunc(all, func(l *listed) bool { return !l.DepOnly })
	if at < 0 {
		return nil, &Unready{"no package in " + p.dir, "one", ""}
	}
	own := all[at]
	p.path = own.ImportPath
	if own.Module == nil {
		remedy := "Make one: go mod init example.com/NAME"
		if own.Error != nil { // such as that its path is one of Go's own packages'
			remedy += ". The go command says: " + told(own.Error.Err)
		}
		return nil, &Unready{"that the package in " + p.dir + " is of no module", "one of a module", remedy}
	}
	p.module, p.mod = own.Module.Path, own.Module.GoMod
	for _, l := range all {
		if l.ImportPath == sdkPlugin && l.Error != nil && !p.requires(own.Module.GoMod) {
			return nil, &Unready{"that " + own.Module.GoMod + " does not require " + sdk, "it to",
				"Run: go get " + sdk + ". The go command says: " + told(l.Error.Err)}
		}
	}
	for _, f := range p.files {
		f.built = slices.Contains(own.GoFiles, f.name) || slices.Contains(own.CgoFiles, f.name)
		switch {
		case strings.HasSuffix(f.name, "_test.go"):
			f.use = "a test"
		case importsC(f):
			f.use = "built where there is cgo alone"
		case !f.built:
			f.use = "no part of the package as it is built here"
		case constrained(f):
			f.use = "built for some systems alone"
		}
	}
	return own, nil
}

// requires reports whether a go.mod requires the SDK, which need not be in the folder vendor as long as nothing imports it.
func (p *pkg) requires(path string) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	mod, err := modfile.ParseLax(path, text, nil)
	if err != nil {
		return false
	}
	vendored, err := os.Stat(filepath.Join(filepath.Dir(path), "vendor", "modules.txt"))
	return err == nil && vendored.Mode().IsRegular() && slices.ContainsFunc(mod.Require, func(r *modfile.Require) bool { return r.Mod.Path == sdk })
}

// constrained reports whether some builds leave a file out: by a line of its own, or by its name. What such a file has, not every form of the plug-in would have.
func constrained(f *file) bool {
	for _, group := range f.syntax.Comments {
		if group.Pos() > f.syntax.Package {
			break
		}
		for _, c := range group.List {
			if constraint.IsGoBuild(c.Text) || constraint.IsPlusBuild(c.Text) {
				return true
			}
		}
	}
	// A name that means a system is left out of a build for one that does not exist.
	none := build.Default
	none.GOOS, none.GOARCH, none.CgoEnabled = "none", "none", true
	none.OpenFile = func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("package p\n")), nil }
	ok, err := none.MatchFile("", f.name)
	return err == nil && !ok
}

// importsC reports whether a file is one of cgo's, which a WebAssembly module has none of.
func importsC(f *file) bool {
	return slices.ContainsFunc(f.syntax.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"C"` || i.Path.Value == "`C`" })
}

// check has the types of the package checked.
func (p *pkg) check(own *listed, all []*listed, stub string) error {
	exports := map[string]*listed{}
	for _, l := range all {
		exports[l.ImportPath] = l
	}
	lookup := func(path string) (io.ReadCloser, error) {
		l := exports[path]
		switch {
		case l == nil:
			return nil, errors.New("the go command does not list it")
		case l.Export == "" && l.Error != nil:
			return nil, errors.New(told(l.Error.Err))
		case l.Export == "":
			return nil, errors.New("it does not compile")
		}
		return os.Open(l.Export)
	}
	imports := &sdkImporter{importer.ForCompiler(p.fset, "gc", lookup), own.ImportMap}
	var files []*ast.File
	for _, f := range p.files {
		if f.built {
			files = append(files, f.syntax)
		}
	}
	if at := declared(files, "Plugin"); at.IsValid() {
		p.fault(at, "a declaration of Plugin", "none: "+goFile+" has it", "Give this one another name")
	} else {
		syntax, err := parser.ParseFile(p.fset, filepath.Join(p.dir, goFile), stub, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, syntax)
	}
	p.info = &types.Info{Defs: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: imports, FakeImportC: true, Error: func(err error) {
		p.uncertain = true
		var e types.Error
		if errors.As(err, &e) {
			p.faults = append(p.faults, &Fault{At: p.fset.Position(e.Pos), Found: told(e.Msg)})
		}
	}}
	if v := own.Module.GoVersion; v != "" {
		conf.GoVersion = "go" + v
	}
	p.types, _ = conf.Check(p.path, p.fset, files, p.info)
	return nil
}

// sdkImporter imports packages, and a package plugin of the SDK's that is to come: the folder vendor has it once what is written imports it.
type sdkImporter struct {
	types.Importer
	paths map[string]string
}

func (i *sdkImporter) Import(path string) (*types.Package, error) {
	if to := i.paths[path]; to != "" {
		path = to
	}
	found, err := i.Importer.Import(path)
	if err != nil && path == sdkPlugin {
		found = types.NewPackage(path, "plugin")
		name := types.NewTypeName(token.NoPos, found, "Plugin", nil)
		types.NewNamed(name, types.NewStruct(nil, nil), nil)
		found.Scope().Insert(name)
		found.MarkComplete()
		return found, nil
	}
	return found, err
}

// declared is where files declare a name for the whole package, or for an import, which is in the way of one.
func declared(files []*ast.File, name string) token.Pos {
	for _, f := range files {
		for _, at := range declarations(f) {
			if at.Name == name {
				return at.Pos()
			}
		}
		for _, i := range f.Imports {
			if i.Name != nil && i.Name.Name == name {
				return i.Name.Pos()
			}
		}
	}
	return token.NoPos
}

// declarations are the names that a file declares for its whole package.
func declarations(f *ast.File) (names []*ast.Ident) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name)
				case *ast.ValueSpec:
					names = append(names, s.Names...)
				}
			}
		}
	}
	return names
}
