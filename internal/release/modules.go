package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// library is the path of the root's module, with which the paths of the others begin.
const library = "github.com/ferrule-dev/ferrule"

// kept are the folders of modules that are for work on the tree, and that nobody gets.
var kept = []string{"bench", "examples", "internal/release", "internal/soak", "loader/wasm/internal/extism/peers", "plugins/enginetest", "plugins/web/browsertest", "sdk-go/formstest"}

// goModule is a module of the tree that is published.
type goModule struct {
	path   string
	folder string // from the root, with slashes; empty for the root's
	file   *modfile.File
}

// tag is what git calls a version of it.
func (m goModule) tag(version string) string { return path.Join(m.folder, version) }

// own are the paths of the modules of the tree that it requires.
func (m goModule) own() (paths []string) {
	for _, r := range m.file.Require {
		if ours(r.Mod.Path) {
			paths = append(paths, r.Mod.Path)
		}
	}
	return paths
}

func ours(path string) bool { return path == library || strings.HasPrefix(path, library+"/") }

// published returns the modules of a tree that are published, each behind those that it requires, and the version at which
// they require each other: the one that go.work replaces.
func published(root string) (all []goModule, version string, err error) {
	text, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		return nil, "", err
	}
	work, err := modfile.ParseWork("go.work", text, nil)
	if err != nil {
		return nil, "", err
	}
	for _, r := range work.Replace {
		if version != "" && version != r.Old.Version {
			return nil, "", fmt.Errorf("go.work: found replaces of %s and of %s, expected one version: modules are tagged together", version, r.Old.Version)
		}
		version = r.Old.Version
	}
	rest := map[string]goModule{}
	for _, use := range work.Use {
		folder := strings.TrimPrefix(path.Clean(filepath.ToSlash(use.Path)), "./")
		if slices.Contains(kept, folder) {
			continue
		}
		if folder == "." {
			folder = ""
		}
		name := filepath.Join(root, filepath.FromSlash(folder), "go.mod")
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, "", err
		}
		file, err := modfile.Parse(name, text, nil)
		if err != nil {
			return nil, "", err
		}
		rest[file.Module.Mod.Path] = goModule{file.Module.Mod.Path, folder, file}
	}
	for _, m := range rest {
		for _, of := range m.own() {
			if _, ok := rest[of]; !ok {
				return nil, "", fmt.Errorf("%s requires %s, which is not published: take it out of the list of what is kept, or the requirement out of go.mod", m.path, of)
			}
		}
	}
	for len(rest) > 0 {
		var next []goModule
		for _, m := range rest {
			if !slices.ContainsFunc(m.own(), func(of string) bool { _, still := rest[of]; return still }) {
				next = append(next, m)
			}
		}
		if len(next) == 0 {
			return nil, "", errors.New("modules of go.work require each other in a circle: none can be tagged first")
		}
		slices.SortFunc(next, func(a, b goModule) int { return strings.Compare(a.path, b.path) })
		for _, m := range next {
			delete(rest, m.path)
		}
		all = append(all, next...)
	}
	return all, version, nil
}

// at returns a go.mod that requires the modules of the tree at a version. At the one that it has, it is the file as it is.
func at(file *modfile.File, version string) ([]byte, error) {
	changed := false
	for _, r := range file.Require {
		if ours(r.Mod.Path) && r.Mod.Version != version {
			changed = true
			if err := file.AddRequire(r.Mod.Path, version); err != nil {
				return nil, err
			}
		}
	}
	if !changed {
		return os.ReadFile(file.Syntax.Name)
	}
	return file.Format()
}

// listed are the files of a tree that git knows, as far as they are there: what is published.
func listed(root string) (names []string, err error) {
	out, err := output(root, nil, "git", "ls-files", "-z")
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if info, err := os.Lstat(filepath.Join(root, name)); err == nil && info.Mode().IsRegular() {
			names = append(names, name)
		}
	}
	return names, nil
}

// proxy is a folder from which the go command takes modules.
type proxy struct {
	folder  string
	version string
	modules []goModule
}

// publish makes a proxy with the published modules of a tree at a version, as of a time.
func publish(root, folder, version string, when time.Time) (*proxy, error) {
	modules, _, err := published(root)
	if err != nil {
		return nil, err
	}
	names, err := listed(root)
	if err != nil {
		return nil, err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{version, when.UTC()})
	if err != nil {
		return nil, err
	}
	for _, m := range modules {
		requirements, err := at(m.file, version)
		if err != nil {
			return nil, err
		}
		files := []zip.File{textFile{"go.mod", requirements}}
		for _, name := range names {
			in := name
			if m.folder != "" {
				var ok bool
				if in, ok = strings.CutPrefix(name, m.folder+"/"); !ok {
					continue
				}
			}
			if in != "go.mod" {
				files = append(files, treeFile{in, filepath.Join(root, filepath.FromSlash(name))})
			}
		}
		// As the go command does where it packs a tag itself.
		if !slices.ContainsFunc(files, func(f zip.File) bool { return f.Path() == "LICENSE" }) {
			files = append(files, treeFile{"LICENSE", filepath.Join(root, "LICENSE")})
		}
		var archive bytes.Buffer
		// It has the rules of the go command: what names of files may be, and that a module ends where another begins.
		if err := zip.Create(&archive, module.Version{Path: m.path, Version: version}, files); err != nil {
			return nil, err
		}
		to := filepath.Join(folder, filepath.FromSlash(m.path), "@v")
		if err := os.MkdirAll(to, 0o777); err != nil {
			return nil, err
		}
		for name, text := range map[string][]byte{"list": []byte(version + "\n"), version + ".info": info, version + ".mod": requirements, version + ".zip": archive.Bytes()} {
			if err := os.WriteFile(filepath.Join(to, name), text, 0o666); err != nil {
				return nil, err
			}
		}
	}
	return &proxy{folder, version, modules}, nil
}

// env is the environment of somebody who has no checkout, and no module yet: what is published comes from the proxy, what others
// have published from the cache of this machine, and what that lacks from where it did.
func (p *proxy) env(modules string, more ...string) ([]string, error) {
	out, err := output("", nil, "go", "env", "-json", "GOMODCACHE", "GOPROXY")
	if err != nil {
		return nil, err
	}
	var of struct{ GOMODCACHE, GOPROXY string }
	if err := json.Unmarshal([]byte(out), &of); err != nil {
		return nil, err
	}
	// Where others are asked at their origins, the paths of this tree are looked for there, too.
	chain := append([]string{url(p.folder), url(filepath.Join(of.GOMODCACHE, "cache", "download"))},
		slices.DeleteFunc(strings.FieldsFunc(of.GOPROXY, func(r rune) bool { return r == ',' || r == '|' }), func(at string) bool { return at == "direct" })...)
	return append(append(os.Environ(),
		"GOPROXY="+strings.Join(chain, ","),
		// The same version may have had other files the last time: Go's index of modules knows them by folder and version alone.
		"GODEBUG=goindex=0",
		"GOWORK=off", "GOFLAGS=-modcacherw", "GOSUMDB=off", "GOENV=off", "GOPRIVATE=", "GONOPROXY=", "GO111MODULE=on", "GOMODCACHE="+modules), more...), nil
}

// treeFile is a file of the tree in a module.
type treeFile struct{ name, path string }

func (f treeFile) Path() string                 { return f.name }
func (f treeFile) Lstat() (os.FileInfo, error)  { return os.Lstat(f.path) }
func (f treeFile) Open() (io.ReadCloser, error) { return os.Open(f.path) }

// textFile is a file in a module that no file of the tree is.
type textFile struct {
	name string
	text []byte
}

func (f textFile) Path() string                 { return f.name }
func (f textFile) Lstat() (os.FileInfo, error)  { return textInfo(f), nil }
func (f textFile) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(f.text)), nil }

type textInfo textFile

func (i textInfo) Name() string     { return path.Base(i.name) }
func (i textInfo) Size() int64      { return int64(len(i.text)) }
func (textInfo) Mode() os.FileMode  { return 0o644 }
func (textInfo) ModTime() time.Time { return time.Time{} }
func (textInfo) IsDir() bool        { return false }
func (textInfo) Sys() any           { return nil }

func url(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return "file://" + path
}

// together runs a program in a folder and returns all that it says.
func together(dir, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// output runs a program in a folder and returns what it prints. Its error has what it said besides.
func output(dir string, env []string, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	var errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stderr = dir, env, &errs
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, out, &errs)
	}
	return string(out), nil
}
