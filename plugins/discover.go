package plugins

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

// found is a plug-in that was found: a file, which was read and not run, or one that is compiled in. It never changes.
type found struct {
	path    string          // of its file
	format  inspect.Format  // of that
	engine  engine.Engine   // of those of Engines, the first one that recognises it; nil where none does, and of native code
	info    fs.FileInfo     // of the file that was read
	builtin *builtin.Plugin // or that
	sidecar *named          // or how the sidecar is reached that its entry names: path is of its program, or its URL
	desc    *abi.Description
	err     error // why it cannot be read; desc is nil then

	// fresh is whether the file was changed so shortly before it was read that another one, written within the same tick of the file system's clock, may have
	// its number, size and time. digest is of its bytes then; nil where nobody needs it.
	fresh  bool
	digest *[sha256.Size]byte
	parts  []part // of a script, the files that it imports

	sha256     string // of an installed one: the digest that it is loaded with, in hexadecimal
	installed  bool   // it is wanted although config.yaml does not name it: what it names requires it
	was        string // the name that the file at this path had when it could be read; may be empty
	precedence int    // of several with one name, the lowest counts
}

// source says where it comes from.
func (f *found) source() string {
	if f.builtin != nil {
		return "compiled in"
	}
	return f.path
}

// same reports whether it is the same file, with the same content as far as the system tells.
func (f *found) same(o *found) bool {
	if f == nil || o == nil || f.builtin != o.builtin || f.path != o.path || (f.sidecar == nil) != (o.sidecar == nil) {
		return f == o
	}
	if f.sidecar != nil {
		if !f.sameSidecar(o) {
			return false
		}
		if f.info == nil && o.info == nil {
			return true
		}
	}
	if f.builtin != nil {
		return true
	}
	if !sameFile(f.info, o.info) || !sameParts(f.parts, o.parts) {
		return false
	}
	return !f.fresh && !o.fresh || f.digest != nil && o.digest != nil && *f.digest == *o.digest
}

func sameFile(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// extensions are those of libraries, by system.
var extensions = map[string][]string{"windows": {".dll"}, "darwin": {".dylib", ".so"}}

// isPlugin reports whether a file's name is one that plug-ins have on this system: that of a library, of a WebAssembly module, or of a script, which may be none. Names that begin with a dot are those of files that are
// being written.
func isPlugin(name string) bool {
	ext, ok := extensions[runtime.GOOS]
	if !ok {
		ext = []string{".so"}
	}
	own := strings.ToLower(filepath.Ext(name))
	return !strings.HasPrefix(name, ".") && (own == ".wasm" || isScript(name) || slices.Contains(ext, own))
}

// dev is the precedence of a file that config.yaml puts in a plug-in's place, named that of a sidecar that its entry names, and builtins that of what is compiled in. Folders are
// between the last two.
const (
	devPrecedence     = -1
	namedPrecedence   = 0
	builtinPrecedence = 1 << 20
)

// discover looks for plug-ins: dev overrides, the sidecars that entries name, the files of the folders, and what is compiled in. Nothing of them runs, but that a sidecar says what it
// is. before is what was found the last time: a file that is the same is not read again.
func (s *System) discover(ctx context.Context, conf *config.Config, before []*found) ([]*found, error) {
	folders, known := s.foldersOf(conf), knownOf(before)
	var all []*found
	for _, path := range conf.Dev {
		all = append(all, &found{path: path, precedence: devPrecedence})
	}
	instead := map[string]bool{} // the names of those in whose place an entry names a sidecar
	for _, f := range s.sidecars(conf) {
		instead[f.sidecar.name] = true
		all = append(all, f)
	}
	seen := map[string]bool{}
	for i, folder := range folders {
		if seen[folder] {
			continue
		}
		seen[folder] = true
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a warning says so; what was there before may be there still, and stays
			for _, path := range slices.Sorted(maps.Keys(known)) {
				if filepath.Dir(path) == folder && known[path].sidecar == nil {
					all = append(all, &found{path: path, precedence: 1 + i})
				}
			}
		}
		for _, e := range entries {
			path := filepath.Join(folder, e.Name())
			if isPlugin(e.Name()) && (known[path] != nil || !isScript(e.Name()) || hasHeader(path)) {
				all = append(all, &found{path: path, precedence: 1 + i})
			}
		}
	}
	s.readAll(ctx, all, known)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	all = slices.DeleteFunc(all, func(f *found) bool { return errors.Is(f.err, fs.ErrNotExist) && f.precedence > namedPrecedence })
	for _, b := range s.builtins {
		f := &found{builtin: b, precedence: builtinPrecedence}
		p, err := builtin.Describe(b)
		f.desc, f.err = p, err
		all = append(all, f)
	}
	return slices.DeleteFunc(all, func(f *found) bool { return f.sidecar == nil && f.precedence != devPrecedence && instead[f.name()] }), nil
}

// knownOf is what was found by its key.
func knownOf(all []*found) map[string]*found {
	known := make(map[string]*found, len(all))
	for _, f := range all {
		if f.builtin == nil {
			known[f.key()] = f
		}
	}
	return known
}

// key is what tells from one look to the next which of those found it is: its path, and of a sidecar, of whose program there may be several, its name.
func (f *found) key() string {
	if f.sidecar != nil {
		return "\x00" + f.sidecar.name
	}
	return f.path
}

// readAll reads the files that are not known, several at a time.
func (s *System) readAll(ctx context.Context, all []*found, known map[string]*found) {
	var next atomic.Int64
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	if slices.ContainsFunc(all, func(f *found) bool { return f.sidecar != nil }) { // which are waited for
		workers = max(workers, 16)
	}
	for range min(workers, len(all)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(all) || ctx.Err() != nil {
					return
				}
				if f := all[i]; f.sidecar != nil {
					s.consult(ctx, f, known[f.key()])
				} else {
					s.read(f, known[f.key()])
				}
			}
		})
	}
	wg.Wait()
}

// read reads a file, unless it is the same as before.
func (s *System) read(f, before *found) {
	if before != nil {
		f.was = before.was
		if before.desc != nil {
			f.was = before.name()
		}
	}
	info, err := os.Stat(f.path)
	if err != nil {
		if to, e := os.Readlink(f.path); e == nil && errors.Is(err, fs.ErrNotExist) {
			err = &danglingError{f.path, to}
		}
		f.err = err
		return
	}
	f.stamp(info)
	known := before != nil && sameFile(before.info, info)
	if before != nil {
		f.parts = partsNow(f.path, before.parts)
	}
	if known && !before.fresh && !errors.Is(before.err, loader.ErrRead) { // what could not be read may be by now

		f.desc, f.err, f.format, f.engine, f.digest = before.desc, before.err, before.format, before.engine, before.digest
		return
	}
	if f.fresh || known && before.fresh {
		f.digest = digest(f.path)
	}
	if known && f.same(before) {
		f.desc, f.err, f.format, f.engine = before.desc, before.err, before.format, before.engine
		return
	}
	lib, err := loader.Inspect(f.path)
	if err != nil {
		if f.err = err; isScript(f.path) && !hasHeader(f.path) {
			f.err = headless(f.path)
		}
		return
	}
	f.desc, f.format = &lib.Description, lib.Format
	f.parts = nil
	if scripts(f.format) {
		f.parts = partsOf(f.path)
	}
	f.engine = s.engineFor(f)
}

// danglingError is the error of a symbolic link to what is not there: somebody has put it into a folder, other than a file that is gone.
type danglingError struct{ path, to string }

func (e *danglingError) Error() string {
	return "found " + e.path + ", a symbolic link to " + e.to + ", which is not there"
}

// stamp notes what the file was when it was read.
func (f *found) stamp(info fs.FileInfo) {
	age := time.Since(info.ModTime())
	f.info, f.fresh = info, info.Mode().IsRegular() && info.Size() <= maxDigested && age < tick && age > -tick
}

// tick is longer than the clocks of file systems take from one time to the next.
const tick = 3 * time.Second

// maxDigested is how long a file may be, in bytes, for its content to be looked at in the place of its time.
const maxDigested = 256 << 20

// digest is of a file's bytes; nil where it cannot be read.
func digest(path string) *[sha256.Size]byte {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(file, maxDigested)); err != nil {
		return nil
	}
	return (*[sha256.Size]byte)(h.Sum(nil))
}

// name returns the plug-in's name; of a file that cannot be read, its own without what libraries have before and behind it.
func (f *found) name() string {
	switch {
	case f.desc != nil:
		return f.desc.Manifest.Name
	case f.builtin != nil:
		return f.builtin.Name
	case f.was != "":
		return f.was
	}
	name := filepath.Base(f.path)
	return strings.TrimPrefix(strings.TrimSuffix(name, filepath.Ext(name)), "lib")
}

// unreadable is the error of a file that is no plug-in.
func (f *found) unreadable() *Error {
	if f.sidecar != nil {
		return f.silent()
	}
	e := &Error{Plugin: f.name(), Step: StepDiscover, Kind: ErrUnreadable, Err: f.err}
	var open *loader.OpenError
	if link, ok := f.err.(*danglingError); ok {
		e.Found, e.Expected, e.Err, e.Remedy = strings.TrimPrefix(link.Error(), "found "), "a library", nil, "Correct or remove the link"
	} else if !errors.As(f.err, &open) {
		e.Found, e.Expected = "no file that can be read", "a library"
	}
	return e
}

// missing is the error of a plug-in that was not found. here says that its remedy is of what is here: a plug-in of nearly that name, or a program.
func (s *System) missing(name string, conf *config.Config, all []*found, programs func() []string) (e *Error, here bool) {
	folders := s.foldersOf(conf)
	var names []string
	for _, f := range all {
		if f.desc != nil && !slices.Contains(names, f.name()) {
			names = append(names, f.name())
		}
	}
	where := "no folder is named"
	var unread []string
	for i, folder := range folders {
		if err := folderError(folder); err != nil {
			unread = append(unread, folder)
			folders[i] += ", which cannot be read"
		}
	}
	if len(folders) > 0 {
		where = "in " + strings.Join(folders, ", ")
	}
	remedy := hint(name, names)
	here = abi.Nearest(name, names) != ""
	if unfetched := s.download == nil && conf.Registry.URL != ""; len(names) == 0 || unfetched && !here {
		remedy = "Name a folder in folders:"
		if len(folders) > 0 {
			remedy = "Put its file into a folder of folders:"
		}
		remedy += ", or have the application install it: plugins.Download; by hand: ferrule install"
	}
	if len(unread) > 0 && !here {
		remedy = "Look into " + strings.Join(unread, ", ") + ", which this process cannot"
	}
	for _, path := range programs() {
		if stem(path) == name || filepath.Base(path) == name {
			here, remedy = true, "There is a program "+path+", which is not run because it lies there. Where it is this plug-in, write its entry so: "+config.ProgramEntry(name, path)
		}
	}
	expected := "a library whose manifest has this name"
	if s.surveying {
		expected += ", unless the application has it compiled in"
	}
	return &Error{Plugin: name, Step: StepDiscover, Kind: ErrNotFound, Found: fmt.Sprintf("no plug-in of this name (%s; %s)", where, sentence.Count(len(names), "other")),
		Expected: expected, Remedy: remedy, Unsure: s.surveying}, here
}

// folderError is why it cannot be said what is in a folder; nil where it can, or where there is none.
func folderError(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%s: found a file, expected a folder", path)
	}
	if err == nil {
		var folder *os.File
		if folder, err = os.Open(path); err == nil {
			_ = folder.Close()
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// programsIn are the programs and the scripts that lie in folders of plug-ins, by their paths, but for those that entries name. Which plug-in one is it says when it runs, and nothing is run because it lies
// somewhere: it is none until an entry names it.
func (s *System) programsIn(conf *config.Config) (all []string) {
	done := map[string]bool{} // those that entries name, and those that were found
	for _, p := range conf.Plugins {
		if p.Sidecar != nil {
			done[p.Sidecar.Program] = true
		}
	}
	for _, folder := range s.foldersOf(conf) {
		entries, _ := os.ReadDir(folder) // what cannot be read is said elsewhere
		for _, e := range entries {
			path := filepath.Join(folder, e.Name())
			if !strings.HasPrefix(e.Name(), ".") && (!isPlugin(e.Name()) || isScript(e.Name()) && !hasHeader(path)) && !done[path] && isProgram(path) {
				done[path] = true
				all = append(all, path)
			}
		}
	}
	return all
}

// isProgram reports whether a file may be run and begins as programs and scripts do.
func isProgram(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || runtime.GOOS != "windows" && info.Mode()&0o111 == 0 || runtime.GOOS == "windows" && !strings.EqualFold(filepath.Ext(path), ".exe") {
		return false
	}
	file := &engine.File{Path: path}
	defer file.Close()
	return sidecar.Engine().Recognises(file)
}

// stem is a file's name without its extension.
func stem(path string) string {
	name := filepath.Base(path)
	return strings.TrimSuffix(name, filepath.Ext(name))
}

// hint is the remedy for a name that nobody has; "" where there are no names at all.
func hint(name string, names []string) string {
	if near := abi.Nearest(name, names); near != "" {
		return "Did you mean " + near + "?"
	}
	sorted := slices.Sorted(slices.Values(names))
	switch {
	case len(sorted) == 0:
		return ""
	case len(sorted) == 1:
		return "There is only " + sorted[0]
	case len(sorted) > 8:
		return fmt.Sprintf("There are %s, and %d more", strings.Join(sorted[:8], ", "), len(sorted)-8)
	}
	return "There are " + strings.Join(sorted, ", ")
}
