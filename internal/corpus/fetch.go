package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// item is a line of the list: a package that has libraries for one platform.
type item struct {
	platform string // macos-arm64, glibc-s390x …: what its package is for
	client   string // wheel, npm or deb
	name     string
	version  string
	tag      string // of a wheel its platform tag, of a Debian package its architecture

	newer string // the version that was had in its place, "" when it is the one of the list
}

func (i *item) String() string { return i.name + " " + i.version }

// readList reads the list of packages.
func readList(text string) ([]*item, error) {
	var items []*item
	for n, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		want := 4
		if len(f) > 1 && f[1] != "npm" {
			want = 5
		}
		if len(f) != want {
			return nil, fmt.Errorf("line %d of the list: %d words, expected %d", n+1, len(f), want)
		}
		i := &item{platform: f[0], client: f[1], name: f[2], version: f[3]}
		if want == 5 {
			i.tag = f[4]
		}
		switch i.client {
		case "wheel", "npm", "deb":
		default:
			return nil, fmt.Errorf("line %d of the list: no client %q", n+1, i.client)
		}
		items = append(items, i)
	}
	return items, nil
}

// fetcher gets packages through the registries' ordinary clients, as this machine has them set up.
type fetcher struct {
	ctx    context.Context
	work   string   // where everything lies
	python string   // the interpreter of a virtual environment
	apt    []string // options that keep apt's state out of the machine's own
}

// dir is where the libraries of a package lie once it is had.
func (f *fetcher) dir(i *item) string {
	safe := strings.NewReplacer("/", "_", ":", "_", "~", "_")
	return filepath.Join(f.work, "lib", i.platform, safe.Replace(i.name+"-"+i.version+"-"+i.tag))
}

// get fetches a package, unless it is there, and keeps the libraries in it.
func (f *fetcher) get(i *item) error {
	dir := f.dir(i)
	if newer, err := os.ReadFile(dir + ".done"); err == nil {
		i.newer = string(newer)
		return nil
	}
	tmp, err := os.MkdirTemp(f.work, "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	switch i.client {
	case "wheel":
		err = f.getWheel(i, tmp, dir)
	case "npm":
		err = f.getNPM(i, tmp, dir)
	case "deb":
		err = f.getDeb(i, tmp, dir)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", i, err)
	}
	return os.WriteFile(dir+".done", []byte(i.newer), 0o666)
}

// run runs a client in dir and returns what it printed. Its last line says why it failed.
func (f *fetcher) run(dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(f.ctx, name, args...)
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		return "", fmt.Errorf("%s %s: %w: %s", name, args[0], err, lines[max(0, len(lines)-1)])
	}
	return out.String(), nil
}

// one is the only file in dir that matches.
func one(dir, pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%d files %s, expected one", len(found), pattern)
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}

func (f *fetcher) getWheel(i *item, tmp, dir string) error {
	if _, err := f.run(tmp, f.python, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
		"--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--platform="+i.tag,
		i.name+"=="+i.version); err != nil {
		return err
	}
	path, err := one(tmp, "*.whl")
	if err != nil {
		return err
	}
	z, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, e := range z.File {
		if !mayBeLibrary(e.Name) {
			continue
		}
		r, err := e.Open()
		if err != nil {
			return err
		}
		if err := keep(r, dir, e.Name); err != nil {
			return err
		}
		r.Close()
	}
	return nil
}

func (f *fetcher) getNPM(i *item, tmp, dir string) error {
	if _, err := f.run(tmp, "npm", "pack", "--silent", i.name+"@"+i.version); err != nil {
		return err
	}
	path, err := one(tmp, "*.tgz")
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	for t := tar.NewReader(z); ; {
		e, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Typeflag == tar.TypeReg && mayBeLibrary(e.Name) {
			if err := keep(t, dir, e.Name); err != nil {
				return err
			}
		}
	}
}

// getDebs downloads Debian packages with one call: apt reads its lists at each. It takes other versions than the list's
// where those are gone: a release's archive has the newest ones only.
func (f *fetcher) getDebs(items []*item) error {
	dir := filepath.Join(f.work, "debs")
	var pinned, any []string
	for _, i := range items {
		if _, err := os.Stat(f.dir(i) + ".done"); err != nil && i.client == "deb" {
			any = append(any, i.name+":"+i.tag)
			pinned = append(pinned, i.name+":"+i.tag+"="+i.version)
		}
	}
	if len(any) == 0 {
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	_, err := f.run(dir, "apt-get", append(append(slices.Clone(f.apt), "download"), pinned...)...)
	if err != nil {
		_, err = f.run(dir, "apt-get", append(append(slices.Clone(f.apt), "download"), any...)...)
	}
	return err
}

func (f *fetcher) getDeb(i *item, tmp, dir string) error {
	path, err := one(filepath.Join(f.work, "debs"), i.name+"_*_"+i.tag+".deb")
	if err != nil {
		return err
	}
	if version := strings.ReplaceAll(strings.Split(filepath.Base(path), "_")[1], "%3a", ":"); version != i.version {
		i.newer = version
	}
	root := filepath.Join(tmp, "root")
	if _, err := f.run(tmp, "dpkg-deb", "-x", path, root); err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !mayBeLibrary(path) {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return keep(file, dir, name)
	})
}

// setUpApt gives apt lists of its own for the architectures, made of the sources of Debian that this machine has.
func (f *fetcher) setUpApt(archs []string) error {
	root := filepath.Join(f.work, "apt")
	for _, dir := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o777); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "status"), nil, 0o666); err != nil {
		return err
	}
	f.apt = []string{"-q", "-o", "Dir::State=" + root + "/state", "-o", "Dir::Cache=" + root + "/cache",
		"-o", "Dir::State::status=" + root + "/status", "-o", "APT::Architecture=" + archs[0],
		"-o", "Acquire::Languages=none", "-o", "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
		"-o", "APT::Sandbox::User=root"}
	for _, arch := range archs {
		f.apt = append(f.apt, "-o", "APT::Architectures::="+arch)
	}
	if lists, _ := filepath.Glob(filepath.Join(root, "state/lists/*_Packages*")); len(lists) > 0 {
		return nil
	}
	_, err := f.run(f.work, "apt-get", append(slices.Clone(f.apt), "update")...)
	if lists, _ := filepath.Glob(filepath.Join(root, "state/lists/*_Packages*")); len(lists) >= len(archs) {
		return nil // an archive of its updates may lack an architecture
	}
	return err
}

var libraryName = regexp.MustCompile(`\.(so|dylib|dll|pyd|node)(\.[0-9.]+)?$`)

// mayBeLibrary leaves out glibc's 250 converters of character sets, which are all alike.
func mayBeLibrary(path string) bool {
	return libraryName.MatchString(path) && !strings.Contains(path, "/gconv/")
}

// keep writes a file of a package into dir, under a name made of its path.
func keep(r io.Reader, dir, name string) error {
	path := filepath.Join(dir, strings.ReplaceAll(strings.Trim(filepath.ToSlash(name), "./"), "/", "+"))
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}
