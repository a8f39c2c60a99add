package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// The name and the version that are built, in whose place others of the same length come.
const nobody, unversioned = "soak_nobody", "1.0.100000"

func version(n int) string { return fmt.Sprintf("1.0.%d", 100000+n) }

// plugin is one of the system's.
type plugin struct {
	*Member
	form, place string
	built       []byte // its file, of nobody's name and version
	file        string // where it lies beneath the run's folder; "" where it is no file, or comes from the registry
	registry    string // the ending of its file there; "" where it does not come from one
	entry       string // of config.yaml: what is not said of every one
	cycle       int    // how many versions there are, where each is compiled for long; 0 is any number
	plain       bool   // it has neither settings nor imports
	crash, loop Kind   // how a call ends that is told to; "" where it cannot be told
	panics      Kind   // how a call ends that fails or panics
	worker      bool   // it runs in a worker that can be killed
	program     bool   // it is a program that can be killed
	role        string // what this program is in its place; "" where it is none
	address     string

	version int
	number  uint32
	enabled bool
}

// name is as long as nobody.
func name(word string) string { return "soak_" + word }

// fixtures makes the plug-ins. Each has a word of six letters.
func fixtures(t testing.TB, socket, server, broker string) []*plugin {
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	c, rust, module := read(fixture.C(t, "soak")), read(fixture.Rust(t, "fixture-soak")), read(fixture.WasmC(t, "soak"))
	all := []*plugin{
		{Member: &Member{Name: "native"}, form: "C", place: "this process", built: c, file: "plugins/native.so", panics: Failed},
		{Member: &Member{Name: "worker"}, form: "C, from the registry", place: "a worker", built: c, registry: ".so", entry: "isolate: {sandbox: none}", crash: Crashed, loop: Killed, panics: Failed, worker: true},
		{Member: &Member{Name: "sealed"}, form: "C", place: "a worker in a sandbox", built: c, file: "plugins/sealed.so", entry: "isolate: {memory: 64MiB, files: 64}", crash: Crashed, loop: Killed, panics: Failed, worker: true},
		{Member: &Member{Name: "rustic"}, form: "Rust", place: "a worker", built: rust, file: "plugins/rustic.so", entry: "isolate: {sandbox: none}", crash: Crashed, loop: Killed, panics: Panicked, worker: true},
		{Member: &Member{Name: "module"}, form: "WebAssembly of C, from the registry", place: "this process, shut in", built: module, registry: ".wasm", crash: Panicked, loop: Killed, panics: Failed},
		{Member: &Member{Name: "gowasm"}, form: "WebAssembly of Go", place: "this process, shut in", built: read(fixture.SDKGo(t, nobody, fixture.GoModule)), file: "plugins/gowasm.wasm", crash: Panicked, loop: Killed, panics: Panicked, cycle: 3},
		{Member: &Member{Name: "golibs"}, form: "a library of Go", place: "a worker", built: read(fixture.SDKGo(t, nobody, fixture.GoLibrary)), file: "plugins/golibs.so", entry: "isolate: {sandbox: none}", crash: Crashed, loop: Killed, panics: Panicked, worker: true},
		{Member: &Member{Name: "piping"}, form: "a program of Go", place: "a process, over pipes", built: read(fixture.SDKGo(t, nobody, fixture.GoProgram)), file: "programs/piping", entry: "program: programs/piping", crash: Crashed, loop: Killed, panics: Panicked, program: true},
		{Member: &Member{Name: "socket"}, form: "a sidecar in Go", place: "a server, over a Unix socket", entry: "url: 'unix:" + socket + "'", panics: Panicked, role: "socket", address: socket},
		{Member: &Member{Name: "server"}, form: "a plug-in in Go, served", place: "a server, over HTTP", entry: "url: 'http://" + server + "'", panics: Panicked, role: "server", address: server, plain: true},
		{Member: &Member{Name: "remote"}, form: "a plug-in in Go, served", place: "two nodes, over NATS", entry: "url: '" + broker + "/soak_remote'", panics: Panicked, role: "node", address: broker, plain: true},
		{Member: &Member{Name: "script"}, form: "JavaScript, from the registry", place: "this process, shut in", built: read("testdata/soak.js"), registry: ".js", loop: Cancelled, panics: Failed},
		{Member: &Member{Name: "python"}, form: "Python", place: "a worker", built: read("testdata/soak.py"), file: "plugins/python.py", crash: Crashed, loop: Cancelled, panics: Failed, worker: true},
		{Member: &Member{Name: "inside"}, form: "Go, compiled in", place: "this process", panics: Panicked},
	}
	for i, p := range all {
		p.enabled = true
		if !p.plain {
			p.number = uint32(i + 1)
		}
		p.Member = NewMember(name(p.Name), &Expectation{Versions: []string{version(0)}, Numbers: []uint32{p.number}})
	}
	return all
}

// bytesOf is the file of a version.
func (p *plugin) bytesOf(n int) []byte {
	data := bytes.ReplaceAll(p.built, []byte(nobody), []byte(p.Name))
	return bytes.ReplaceAll(data, []byte(unversioned), []byte(version(n)))
}

// put writes a file in one step.
func put(path string, data []byte) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(tmp, data, 0o755), os.Rename(tmp, path))
}

// publish publishes a version, signed.
func (p *plugin) publish(ctx context.Context, to registry.Pusher, key sign.PrivateKey, tmp string, n int) error {
	path, data := filepath.Join(tmp, p.Name+p.registry), p.bytesOf(n)
	if err := os.WriteFile(path, data, 0o755); err != nil {
		return err
	}
	defer os.Remove(path)
	r, contents, err := install.Release(path)
	if err != nil {
		return err
	}
	for platform, c := range contents {
		if c.Signature, err = sign.Sign(key, sign.Subject{Name: r.Name, Version: r.Version, Platform: platform}, bytes.NewReader(data)); err != nil {
			return err
		}
		contents[platform] = c
	}
	return to.Push(ctx, r, contents)
}

// configOf is the text of config.yaml.
func configOf(all []*plugin, registry, key string) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "registry: {url: '%s', keys: [%s]}\nlogging: {level: ERROR}\nfolders: [plugins]\nplugins:\n", registry, key)
	for _, p := range all {
		fmt.Fprintf(&b, "  - name: %s\n    enabled: %v\n", p.Name, p.enabled)
		if p.entry != "" {
			fmt.Fprintf(&b, "    %s\n", p.entry)
		}
		if p.role != "server" {
			b.WriteString("    grant: [points]\n")
		}
		if !p.plain {
			fmt.Fprintf(&b, "    config: {n: %d}\n", p.number)
		}
	}
	return b.String()
}

// wants are what is wanted of the registry.
func wants(all []*plugin) (w []install.Want) {
	for _, p := range all {
		if p.registry != "" {
			w = append(w, install.Want{Name: p.Name})
		}
	}
	return w
}
