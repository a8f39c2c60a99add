// Package config reads and edits an application's config.yaml: which plug-ins it has, what each of them may do, where they are
// looked for, and in which order they run at its points. It opens no plug-in, and reaches no network.
//
// Parse takes what Schema describes; docs/config.md has each key with an example. Errors are *Error, with every fault of the file,
// its line and its column; no value below `config:` is ever in one, since it may be a secret.
//
// Functions are for any goroutine. A Config is data: whoever shares one does not change it. A *File is for one goroutine at a time.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// MaxSize is how long a configuration file may be, in bytes.
const MaxSize = 1 << 20

// LevelCritical is the log level that config.yaml calls CRITICAL: only what ends the application is above it. The other words are
// slog's levels.
const LevelCritical = slog.LevelError + 4

// Config is a configuration file. The zero Config differs from an empty file's in its registry's tag alone.
type Config struct {
	Path     string              // of the file, as Load or Parse got it; "" for a text that is no file's
	Registry Registry            // where plug-ins come from that are in none of the folders
	Logging  Logging             // which lines are logged
	Plugins  []Plugin            // in the order of the file; no two have one name
	Folders  []string            // where plug-ins are looked for, in this order; absolute, where Path is not ""
	Dev      map[string]string   // the file that is in a plug-in's place, by its name; absolute, where Path is not ""
	Hooks    map[string][]string // the order at a point: names of plug-ins, and "*" once at most for all others
}

// Registry says where plug-ins come from that are not in a folder: see plugins.Download.
type Registry struct {
	URL        string   // https://, http://, oci:// or file://, with {name}, {repository}, {tag}, {plugin}, {version}, {os}, {arch} and {ext}; "": none
	Name       string   // what {name} stands for
	Repository string   // what {repository} stands for
	Tag        string   // what {tag} stands for; "latest" where the file says none
	Keys       []string // public keys of who may sign plug-ins that have no Keys of their own: RWQ…
	Revoked    []string // public keys, and ids of keys, that count no more
	Mirrors    []string // as URL
	Index      string   // the name that its signed index has, as registry.ValidIndex takes it; "": that of the index that was seen first
}

// Logging says which lines are logged.
type Logging struct {
	Level   slog.Level            // slog.LevelInfo where the file says none
	Plugins map[string]slog.Level // of a plug-in's own lines, by its name
}

// Plugin is one entry of the list of plug-ins.
type Plugin struct {
	Name     string        // as its manifest has it
	Version  string        // a range as semver.NewConstraint takes it; "": any
	Grant    []string      // names of offers, or the beginning of some and a *
	Permit   Permit        // what it may have of what it asks for
	Limit    time.Duration // of one call at a point; 0: what the point says
	Isolate  *Isolate      // nil: it runs in the application's process, but for a program, whose process is its own
	Data     string        // a folder of its own; absolute, where Config.Path is not ""; "": none
	Required bool          // the application does not start without it
	Enabled  bool          // true where the file says nothing
	Keys     []string      // public keys of who may sign it: only these count for it; none: the registry's
	Sidecar  *Sidecar      // the program that it is, in place of a file that is found; nil: none is named
	Config   *Value        // its settings; nil: the file has none

	Line, Column int // of the entry in the file, from 1
}

// Sidecar says which program a plug-in is: one that is started, or one that somebody else has started. One of Program and URL is not "".
type Sidecar struct {
	Program     string   // its file; absolute, where Config.Path is not ""
	Interpreter []string // what runs Program, a name or a path, with its arguments; none: the system does
	Args        []string // behind its name
	Env         *Value   // more of its environment: an object of texts, in which references are not resolved; or nil

	URL       string // unix:PATH, tcp:HOST:PORT, http://HOST:PORT, https://HOST:PORT, http+unix:PATH, fifo:IN,OUT or npipe:NAME; paths are as Program
	TokenFile string // has what the sidecar compares before it answers; as Program; "": none
	TLS       bool   // a tcp: URL is spoken to by TLS, as an https: URL is
	CA        string // a file with the certificates that count for either; as Program; "": the system's
}

// Granted returns the grant by which a plug-in may call a function or a service, as it is written: its name, or the beginning of it and a *. Of the
// nil Plugin, which is in no file, there is none.
func (p *Plugin) Granted(offer string) (by string, ok bool) {
	if p == nil {
		return "", false
	}
	for _, g := range p.Grant {
		if prefix, all := strings.CutSuffix(g, "*"); g == offer || all && strings.HasPrefix(offer, prefix) {
			return g, true
		}
	}
	return "", false
}

// Bare reports whether an entry says nothing but a name. It may be that name alone, to which no key can be added: whoever adds one writes the whole entry.
func (p *Plugin) Bare() bool {
	said := *p
	said.Line, said.Column = 0, 0
	return reflect.DeepEqual(said, Plugin{Name: p.Name, Enabled: true})
}

// Same reports whether two entries say the same, wherever in a file they stand. The nil Plugin, which is in no file, is the same as itself alone.
func (p *Plugin) Same(o *Plugin) bool {
	if p == nil || o == nil {
		return p == o
	}
	return reflect.DeepEqual(p.meaning(), o.meaning())
}

// meaning is what an entry says, without where.
type meaning struct {
	entry       Plugin
	config, env string // as JSON; "" where there is none
}

func (p *Plugin) meaning() meaning {
	m := meaning{entry: *p}
	m.entry.Line, m.entry.Column = 0, 0
	if len(p.Grant) == 0 {
		m.entry.Grant = nil
	}
	if p.Config != nil {
		m.config, m.entry.Config = string(p.Config.JSON()), nil
	}
	if p.Sidecar != nil && p.Sidecar.Env != nil {
		own := *p.Sidecar
		m.env, own.Env = string(own.Env.JSON()), nil
		m.entry.Sidecar = &own
	}
	return m
}

// Permit says which of what a plug-in's manifest asks for it may have.
type Permit struct {
	Read, Write []string // files and folders with all beneath; absolute, where Config.Path is not ""
	Connect     []int    // TCP ports from 1 to 65535
	Listen      []int    // TCP ports from 0 to 65535; 0 is one that the system chooses
	Memory      int64    // bytes; 0: not said

	Said bool // the file has the mapping, be it empty: a program that has it is shut in
}

// Covers reports whether something that a manifest asks for is permitted: a path to "read" or to "write", or a port to "connect" to or to "listen" on. A
// folder covers all beneath it, and what may be written may be read.
func (p Permit) Covers(what, item string) bool {
	switch what {
	case "read":
		return covers(p.Read, item) || covers(p.Write, item)
	case "write":
		return covers(p.Write, item)
	}
	port, err := strconv.ParseUint(item, 10, 16)
	return err == nil && (what == "connect" && slices.Contains(p.Connect, int(port)) || what == "listen" && slices.Contains(p.Listen, int(port)))
}

// covers reports whether one of the paths is item, or a folder above it.
func covers(paths []string, item string) bool {
	item = filepath.Clean(item)
	return slices.ContainsFunc(paths, func(p string) bool {
		p = filepath.Clean(p)
		rest, below := strings.CutPrefix(item, p)
		return below && (rest == "" || strings.HasSuffix(p, string(filepath.Separator)) || rest[0] == filepath.Separator)
	})
}

// Isolate says in which worker process a plug-in runs, and what holds for that worker; of a program, what holds for its process. Numbers are 0 where the file says nothing.
type Isolate struct {
	Group     string        // plug-ins of one group share a worker; "": one of its own
	Memory    int64         // bytes
	CPU       time.Duration // processor time in a worker's life
	Processes int           // beside the worker
	Files     int           // open at a time
	Grace     time.Duration // of a call after its limit, before the worker is killed
	Stop      time.Duration // of the plug-in when it is closed, before the worker is killed
	Sandbox   Sandbox       // SandboxFull where the file says nothing
}

// Sandbox says whether the system holds a worker to its permits.
type Sandbox string

// The kinds of Sandbox.
const (
	SandboxFull       Sandbox = "full"        // all layers, or the plug-in is not opened; the default
	SandboxBestEffort Sandbox = "best-effort" // those that the system has
	SandboxNone       Sandbox = "none"        // a process of its own is all
)

// Plugin returns the entry of that name, or nil. It is c's own.
func (c *Config) Plugin(name string) *Plugin {
	for i := range c.Plugins { // by its place: a copy of each would take most of the time
		if c.Plugins[i].Name == name {
			return &c.Plugins[i]
		}
	}
	return nil
}

// Load reads the file at path. An error that is not an *Error is the system's, such as one that is fs.ErrNotExist.
func Load(path string) (*Config, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text)
}

// Read returns the text of the file at path, as Load reads it: no more of it than shows that it is too long.
func Read(path string) ([]byte, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, unread(path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		if info, e := f.Stat(); e == nil && info.IsDir() {
			err = &fs.PathError{Op: "read", Path: path, Err: errors.New("found a folder, expected a configuration file")}
		}
		return nil, err
	}
	return text, nil
}

// Parse reads a configuration from its text. With a path, relative paths in it are made absolute by the path's folder, and ~ is the
// home folder; nothing is read from there. With "" they are left as written. It keeps nothing of text. Errors are *Error.
func Parse(path string, text []byte) (*Config, error) {
	r := &reader{}
	if path != "" {
		whole, err := abspath.Of(path)
		if err != nil {
			return nil, fmt.Errorf("the folder of %s: %w", path, err)
		}
		r.file, r.folder = path, filepath.Dir(whole)
	}
	c := empty
	if root := r.tree(text); root != nil {
		c = file.read(r, root)
	}
	if len(r.faults) > 0 {
		return nil, r.err(path)
	}
	c.Path = path
	return &c, nil
}

// path returns a path of the file as it is to be used: see Parse.
func (r *reader) path(n *node, written string) string {
	if r.file == "" {
		return written
	}
	path, err := absolute(r.folder, written)
	if err != nil {
		r.fault(n, "~, and no home folder ("+err.Error()+")", "a path", "Write the whole path")
	}
	return path
}

// absolute returns a path as it is to be opened: ~ is the home folder, and a relative one is below folder.
func absolute(folder, written string) (string, error) {
	rest, home := strings.CutPrefix(written, "~")
	switch {
	case home && (rest == "" || rest[0] == '/' || rest[0] == '\\'):
		user, err := os.UserHomeDir()
		return filepath.Join(user, rest), err
	case filepath.IsAbs(written):
		return filepath.Clean(written), nil
	}
	return filepath.Join(folder, written), nil
}
