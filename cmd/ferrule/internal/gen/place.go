package gen

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	modpath "golang.org/x/mod/module"

	"github.com/ferrule-dev/ferrule/loader/abspath"
)

// elsewhere is what to do about a folder that is none for the program.
const elsewhere = "Name another folder with -o"

// place says why a folder is none for the program of the package, nil where it is one.
func (p *pkg) place(out string, about *plugin) error {
	const expected = "a folder of its own for the program, in the package's module"
	dir, err := real(p.dir)
	if err != nil {
		return err
	}
	to, err := real(out)
	if err != nil {
		return &Unready{"that " + out + " can be no folder: " + err.Error(), expected, elsewhere}
	}
	root, err := real(filepath.Dir(p.mod))
	if err != nil {
		return err
	}
	within, err := filepath.Rel(root, to)
	if same(dir, to) {
		return &Unready{"the package's own folder for its program", expected, elsewhere + ", or leave it out: " + path.Join("cmd", about.name)}
	}
	if err != nil || !filepath.IsLocal(within) {
		return &Unready{"the folder " + out + ", which is not in the module " + p.module + " in " + root, expected, elsewhere}
	}
	for at := to; !same(at, root) && at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return &Unready{"the folder " + out + ", which is in another module: " + filepath.Join(at, "go.mod"), expected, elsewhere}
		}
	}
	within = filepath.ToSlash(within)
	program := path.Join(p.module, within)
	if first, _, _ := strings.Cut(within, "/"); first == "vendor" || within != "." && modpath.CheckImportPath("example.com/"+within) != nil {
		return &Unready{"the folder " + out + ", in which Go builds nothing", expected, elsewhere}
	}
	if parent, ok := internalTo(p.path); ok && program != parent && !strings.HasPrefix(program, parent+"/") {
		return &Unready{"the folder " + out + ", from which Go imports no " + p.path, "one in " + parent, elsewhere}
	}
	return p.beside(out, about)
}

// internalTo is the tree that alone may import a package, of one that is internal.
func internalTo(pkg string) (parent string, ok bool) {
	parts := strings.Split(pkg, "/")
	for i := len(parts) - 1; i >= 0; i-- {
		if parts[i] == "internal" {
			return strings.Join(parts[:i], "/"), i > 0
		}
	}
	return "", false
}

// beside says which file in the program's folder cannot be there with those that are written.
func (p *pkg) beside(out string, about *plugin) error {
	entries, err := os.ReadDir(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &Unready{"that " + out + " can be no folder: " + err.Error(), "a folder for the program", elsewhere}
	}
	taken := []string{"main"}
	for _, s := range about.symbols() {
		taken = append(taken, s.name)
	}
	for _, o := range about.objects() {
		taken = append(taken, o.name)
	}
	taken = append(taken, about.slots()...)
	for _, e := range entries {
		file := filepath.Join(out, e.Name())
		if filepath.Ext(e.Name()) != ".go" || e.IsDir() || strings.ContainsAny(e.Name()[:1], "._") || slices.Contains(program, e.Name()) || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		text, err := read(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a link to nothing, such as an editor's lock
		}
		if err != nil {
			return err
		}
		syntax, _ := parser.ParseFile(token.NewFileSet(), file, text, parser.ParseComments|parser.SkipObjectResolution)
		if syntax == nil || ignored(syntax) {
			continue
		}
		found := ""
		if syntax.Name.Name != "main" {
			found = "package " + syntax.Name.Name
		}
		for _, at := range declarations(syntax) {
			if slices.Contains(taken, at.Name) {
				found = "a declaration of " + at.Name
			}
		}
		if found != "" {
			return &Unready{file + ", which ferrule gen has not written, with " + found, "no such file beside the program", "Move it, or name another folder with -o"}
		}
	}
	return nil
}

// ignored reports whether no build has a file: it says so by a word that nobody sets.
func ignored(f *ast.File) bool {
	for _, group := range f.Comments {
		for _, c := range group.List {
			if group.Pos() < f.Package && strings.TrimSpace(c.Text) == "//go:build ignore" {
				return true
			}
		}
	}
	return false
}

// program are the files of the program.
var program = []string{"library.go", "main.go", "module.go"}

// foreign reports whether somebody else has written a file, who would miss it. What is left of one of those that are written here, by an editor, a merge or a full disk, is none.
func foreign(text []byte, name string) bool {
	if marked(text) || strings.HasPrefix(header, string(bytes.TrimSpace(text))) {
		return false
	}
	syntax, _ := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
	return name != goFile || syntax != nil && len(syntax.Decls) > 0
}

// marked reports whether a file says that it was written here: a line before its package clause, since any code may have those words in a text.
func marked(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimPrefix(bytes.TrimRight(line, "\r\n"), []byte("\ufeff"))
		if string(line) == header {
			return true
		}
		if bytes.HasPrefix(line, []byte("package ")) {
			return false
		}
	}
	return false
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// same reports whether two paths lead to one file, or folder.
func same(a, b string) bool {
	if a == b {
		return true
	}
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// real is where a path leads, of which the end need not be there.
func real(of string) (string, error) {
	at, err := abspath.Of(of)
	if err != nil {
		return "", err
	}
	rest := ""
	for {
		switch there, err := filepath.EvalSymlinks(at); {
		case err == nil && rest != "" && !isFolder(there):
			return "", &fs.PathError{Op: "mkdir", Path: of, Err: errors.New(there + " is a file")}
		case err == nil:
			return filepath.Join(there, rest), nil
		case !errors.Is(err, fs.ErrNotExist) || filepath.Dir(at) == at:
			return "", err
		}
		at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest)
	}
}
