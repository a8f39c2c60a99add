package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// listed is what `go list -deps -test -json` says of a package, each behind what it imports. One that has tests is there once more with these, and so is what imports that
// one for them.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string          // with those of the tests, where it is a package with these
	ImportMap       map[string]string // what a path stands for, where that is not the package of this path
	Module          *struct {
		Main      bool
		GoVersion string
	}
}

// own reports whether the package is of this tree.
func (l *listed) own() bool { return l.Module != nil && l.Module.Main }

// checkTypes checks the types in all that would be built for each platform, tests included, without compiling anything: a twentieth of the work. Of what the tree imports,
// only the declarations are looked at.
func checkTypes(ctx context.Context) error {
	if err := os.Chdir(fixture.Root()); err != nil {
		return err
	}
	var all []func() error
	for _, p := range platforms() {
		for _, r := range p.runs {
			if !r.onlyBuilds() {
				continue
			}
			all = append(all, func() error {
				var log bytes.Buffer
				m := &machine{ctx: ctx, log: &log}
				packages, err := m.packagesOf(&r)
				if err == nil {
					err = m.check(&r, packages)
				}
				if err != nil {
					return fmt.Errorf("%s, %s:\n%w\n%s", p.name, r.crossing(), err, log.String())
				}
				return nil
			})
		}
	}
	wrong := make([]error, len(all))
	var running sync.WaitGroup
	places := make(chan struct{}, runtime.NumCPU())
	for i, check := range all {
		places <- struct{}{}
		running.Go(func() {
			wrong[i] = check()
			<-places
		})
	}
	running.Wait()
	return errors.Join(wrong...)
}

// check returns what is wrong with the types.
func (m *machine) check(r *run, packages []string) error {
	fields := "-json=ImportPath,Dir,GoFiles,ImportMap,Module"
	cmd := exec.CommandContext(m.ctx, "go", append([]string{"list", "-deps", "-test", fields, r.tags()}, packages...)...)
	cmd.Env = append(os.Environ(), r.environment()...)
	cmd.Stderr = m.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var wrong []error
	said := make(map[string]bool) // a file is checked again with each test that it is in
	known := map[string]*types.Package{"unsafe": types.Unsafe}
	checked := 0
	for decoder := json.NewDecoder(out); ; {
		var l listed
		if err := decoder.Decode(&l); err == io.EOF {
			break
		} else if err != nil {
			return errors.Join(fmt.Errorf("go list: %w", err), cmd.Wait())
		}
		if l.ImportPath == "unsafe" || strings.HasSuffix(l.ImportPath, ".test") { // the program of a test, which the go command writes
			continue
		}
		if l.own() {
			checked++
		}
		for _, err := range l.check(r, known) {
			if text := err.Error(); !said[text] {
				said[text], wrong = true, append(wrong, err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	if checked == 0 {
		return fmt.Errorf("found no package of this tree among %v", packages)
	}
	return errors.Join(wrong...)
}

// check checks a package, and adds it to those that are known, which has what it imports.
func (l *listed) check(r *run, known map[string]*types.Package) (wrong []error) {
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range l.GoFiles {
		f, err := parser.ParseFile(set, filepath.Join(l.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return []error{err}
		}
		files = append(files, f)
	}
	config := types.Config{
		IgnoreFuncBodies: !l.own(),
		Sizes:            types.SizesFor("gc", r.goarch),
		Error: func(err error) {
			if l.own() { // what others get wrong here is not built here, or the compiler knows better
				wrong = append(wrong, err)
			}
		},
		Importer: importer(func(path string) (*types.Package, error) {
			if to, ok := l.ImportMap[path]; ok {
				path = to
			}
			if p := known[path]; p != nil {
				return p, nil
			}
			return nil, fmt.Errorf("go list has not said what %s is", path)
		}),
	}
	if l.Module != nil && l.Module.GoVersion != "" {
		config.GoVersion = "go" + l.Module.GoVersion
	}
	path, _, _ := strings.Cut(l.ImportPath, " ")
	p, _ := config.Check(path, set, files, nil)
	known[l.ImportPath] = p
	return wrong
}

// importer is a types.Importer.
type importer func(path string) (*types.Package, error)

func (i importer) Import(path string) (*types.Package, error) { return i(path) }
