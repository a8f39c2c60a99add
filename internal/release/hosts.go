package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"aead.dev/minisign"
)

// host is a program of somebody's own, which gets a package by go get.
type host struct {
	name    string   // its folder in testdata/hosts
	gets    []string // what it asks go get for, from the root's path on
	plugin  string   // what of the museum it opens
	expects string   // what it prints
}

// library is how a library of the museum for this system is named.
func (host) of(exhibit string) string {
	ext := map[string]string{"windows": ".dll", "darwin": ".dylib"}[runtime.GOOS]
	if ext == "" {
		ext = ".so"
	}
	return filepath.Join("abi", "museum", exhibit, runtime.GOOS+"-"+runtime.GOARCH+ext)
}

func hosts() []host {
	c := host{}.of("c-1.0")
	return []host{
		{"loader", []string{"/loader"}, c, "museum-c 42\n"},
		{"plugins", []string{"/plugins"}, c, "a letter, today, signed\n"},
		{"wasm", []string{"/loader/wasm"}, filepath.Join("abi", "museum", "c-1.0", "any.wasm"), "museum-c 42\n"},
		{"script", []string{"/loader/script"}, "", "next 42\n"},
		{"remote", []string{"/loader/remote"}, "", "next 42\n"},
	}
}

// rehearsal is a release of a tree into a folder: one that is to be published, or one that is not, which has another version than the tree.
type rehearsal struct {
	root, out string
	work      string // where what is of no use afterwards is made: outside of the tree, whose checks look at all that is in it
	version   string
	released  string // the version that the tree has: what has another one is not published
	platforms []string
	key       string              // the file of a private key; empty for one that is thrown away
	private   minisign.PrivateKey // what was read there
	commit    string
	tags      []string // in the order in which they are to be pushed
	log       io.Writer
}

func (r *rehearsal) say(format string, args ...any) { fmt.Fprintf(r.log, format+"\n", args...) }

// empty makes a folder anew.
func empty(dir string) (string, error) {
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o777)
}

// figures are what docs/releases.md says of a host that imports package loader alone.
type figures struct {
	graph []string // the modules, with their versions; those of the tree without
	bytes int64    // its size, stripped
}

// modules has somebody who has nothing but Go get, build and run the command, the hosts and a plug-in, from a proxy.
func (r *rehearsal) modules(ctx context.Context, p *proxy, museum string) (*figures, error) {
	dir, err := empty(filepath.Join(r.work, "user"))
	if err != nil {
		return nil, err
	}
	env, err := p.env(filepath.Join(r.work, "mod"), "GOBIN="+filepath.Join(dir, "bin"), "GOFLAGS=-modcacherw -mod=mod -trimpath", "CGO_ENABLED=0")
	if err != nil {
		return nil, err
	}
	run := func(at, program string, args ...string) (string, error) {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		return output(at, env, program, args...)
	}
	if _, err := run(dir, "go", "install", library+"/cmd/ferrule@"+p.version); err != nil {
		return nil, err
	}
	said, err := run(dir, filepath.Join(dir, "bin", "ferrule"+exe(runtime.GOOS)), "--version")
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(said, "ferrule "+p.version+", ") {
		return nil, fmt.Errorf("the command says that it is %q, expected ferrule %s", said, p.version)
	}
	r.say("go install %s/cmd/ferrule@%s: %s", library, p.version, strings.TrimSpace(said))

	// program is a folder of testdata/hosts as a module of its own.
	program := func(name string, gets []string) (at string, err error) {
		at = filepath.Join(dir, name)
		if err := os.CopyFS(at, os.DirFS(filepath.Join(r.root, "internal", "release", "testdata", "hosts", name))); err != nil {
			return "", err
		}
		if _, err := run(at, "go", "mod", "init", "example.com/"+name); err != nil {
			return "", err
		}
		for _, get := range gets {
			if _, err := run(at, "go", "get", library+get+"@"+p.version); err != nil {
				return "", err
			}
		}
		_, err = run(at, "go", "build", "-ldflags=-s -w", "-o", filepath.Join(at, "program"+exe(runtime.GOOS)), ".")
		return at, err
	}
	expect := func(name, expected, at, program string, args ...string) error {
		said, err := run(at, program, args...)
		if err != nil {
			return err
		}
		if said != expected {
			return fmt.Errorf("%s prints %q, expected %q", name, said, expected)
		}
		r.say("go get %s: built, and it prints %s", name, strconv.Quote(strings.TrimSpace(said)))
		return nil
	}
	found := &figures{}
	for _, h := range hosts() {
		at, err := program(h.name, h.gets)
		if err != nil {
			return nil, err
		}
		made := filepath.Join(at, "program"+exe(runtime.GOOS))
		if h.name == "loader" {
			if found.graph, err = graph(run, at); err != nil {
				return nil, err
			}
			info, err := os.Stat(made)
			if err != nil {
				return nil, err
			}
			found.bytes = info.Size()
			r.say("a host that imports loader alone has %d bytes, and these modules: %s", found.bytes, strings.Join(found.graph, ", "))
		}
		var args []string
		if h.plugin != "" {
			path := filepath.Join(museum, h.plugin)
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				r.say("go get %s%s: built; not run, since the museum has no plug-in for it on %s/%s", library, h.gets[0], runtime.GOOS, runtime.GOARCH)
				continue
			}
			// Alone in a folder: a system takes all that lies in one.
			alone := filepath.Join(at, "plug-ins", filepath.Base(path))
			if err := os.Mkdir(filepath.Dir(alone), 0o777); err != nil {
				return nil, err
			}
			if err := os.Link(path, alone); err != nil {
				return nil, err
			}
			args = append(args, alone)
		}
		if err := expect(library+h.gets[0], h.expects, at, made, args...); err != nil {
			return nil, err
		}
	}
	at, err := program("sdk-go", []string{"/sdk-go"})
	if err != nil {
		return nil, err
	}
	return found, expect(library+"/sdk-go", "42", at, filepath.Join(dir, "bin", "ferrule"+exe(runtime.GOOS)), "call", "--sidecar", filepath.Join(at, "program"+exe(runtime.GOOS)), "next", "--in", "41")
}

// graph are the modules whose packages the program in a folder has, as `go version -m` names them.
func graph(run func(at, program string, args ...string) (string, error), at string) (modules []string, err error) {
	out, err := run(at, "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", ".")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if path, _, _ := strings.Cut(line, " "); ours(path) {
			line = path
		}
		modules = append(modules, line)
	}
	slices.Sort(modules)
	return slices.Compact(modules), nil
}

func exe(system string) string {
	if system == "windows" {
		return ".exe"
	}
	return ""
}

// compare returns what a page says otherwise than what was found, of a host for the platform that it names.
func (f *figures) compare(page string) (wrong []string) {
	size := regexp.MustCompile(`(\d+\.\d) MB \(stripped, ([a-z0-9/]+)\)`).FindStringSubmatch(page)
	if size == nil {
		return []string{"found no size of a host on the page, expected a text such as 3.7 MB (stripped, linux/amd64)"}
	}
	if size[2] == runtime.GOOS+"/"+runtime.GOARCH {
		if is := fmt.Sprintf("%.1f", float64(f.bytes)/1e6); is != size[1] {
			wrong = append(wrong, fmt.Sprintf("the page says that a host has %s MB, and it has %s: write the page anew", size[1], is))
		}
		var named []string
		for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)`(?: ([v0-9][^ ]*))? \\|").FindAllStringSubmatch(page, -1) {
			named = append(named, strings.TrimSpace(row[1]+" "+row[2]))
		}
		slices.Sort(named)
		if !slices.Equal(named, f.graph) {
			wrong = append(wrong, fmt.Sprintf("the page says that a host has the modules %s, and it has %s", strings.Join(named, ", "), strings.Join(f.graph, ", ")))
		}
	}
	return wrong
}
