package plugins

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// isScript reports whether a file's name is that of a script, which may be a plug-in, a module that another script imports, or a program.
func isScript(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".js", ".mjs", ".py"}, strings.ToLower(filepath.Ext(name)))
}

// scripts reports whether a format is one of scripts.
func scripts(format inspect.Format) bool {
	return format == inspect.JavaScript || format == inspect.Python
}

// hasHeader reports whether a script is a plug-in. One that cannot be read may be.
func hasHeader(path string) bool {
	file := &engine.File{Path: path}
	defer file.Close()
	head, err := file.Head()
	return err != nil || inspect.ScriptOf(head) != ""
}

// headless is the error of a script that was a plug-in and is none any more.
func headless(path string) error {
	return &inspect.Error{Path: path, Kind: loader.ErrManifest, Found: "a script without a header, which had one", Expected: "a comment such as // ferrule: name=discount version=1.0.0 before the first statement, with # in Python",
		Remedy: "Write it again, or take the plug-in out of config.yaml where the file is no plug-in any more"}
}

// part is a file that a script imports, there or not, as it was when it was looked at.
type part struct {
	path   string
	info   fs.FileInfo // nil where it is not there
	fresh  bool        // as found.fresh
	digest *[sha256.Size]byte
}

// partsOf are those of a script.
func partsOf(script string) []part {
	names, err := inspect.Imported(script)
	if err != nil {
		return nil // it has gone: what opens it says so
	}
	all := make([]part, len(names))
	for i, name := range names {
		all[i] = lookAt(filepath.Join(filepath.Dir(script), filepath.FromSlash(name)), nil)
	}
	return all
}

// lookAt looks at a file; before is what it was the last time, or nil.
func lookAt(path string, before *part) part {
	p := part{path: path}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return p
	}
	age := time.Since(info.ModTime())
	if p.info, p.fresh = info, info.Size() <= maxDigested && age < tick && age > -tick; p.fresh || before != nil && before.fresh && sameFile(before.info, info) {
		p.digest = digest(path)
	}
	return p
}

// same reports whether it is the same file, with the same content as far as the system tells, or none both times.
func (p part) same(o part) bool {
	switch {
	case p.path != o.path || (p.info == nil) != (o.info == nil):
		return false
	case p.info == nil:
		return true
	case !sameFile(p.info, o.info):
		return false
	}
	return !p.fresh && !o.fresh || p.digest != nil && o.digest != nil && *p.digest == *o.digest
}

func sameParts(a, b []part) bool { return slices.EqualFunc(a, b, part.same) }

// partsNow are the parts as they are now: where none has changed, the script imports the same ones.
func partsNow(script string, before []part) []part {
	now := make([]part, len(before))
	for i := range before {
		now[i] = lookAt(before[i].path, &before[i])
	}
	if sameParts(now, before) {
		return now
	}
	return partsOf(script)
}
