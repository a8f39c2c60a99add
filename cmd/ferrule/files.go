package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/words"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// libraryFiles are the files that the command line names. A folder stands for the libraries and the scripts in it; where it has none it
// stays, and inWords says what is wrong.
func libraryFiles(paths []string) (files []string) {
	for _, path := range paths {
		if found, _ := librariesIn(path); len(found) > 0 {
			files = append(files, found...)
		} else {
			files = append(files, path)
		}
	}
	return files
}

// isScriptName reports whether a path is called as a script is.
func isScriptName(path string) bool {
	return slices.Contains(engines.ScriptExtensions, strings.TrimPrefix(strings.ToLower(filepath.Ext(path)), "."))
}

// withoutHeader is the error of a file that is no library, where it is called as a script is: what a script needs to be a plug-in.
func withoutHeader(open *loader.OpenError) error {
	if !isScriptName(open.Path) {
		return open
	}
	if strings.HasPrefix(open.Found, "a script whose first line ") { // it has a header
		return open
	}
	comment := "//"
	if strings.EqualFold(filepath.Ext(open.Path), ".py") {
		comment = "#"
	}
	sidecar := "Where it is a sidecar, name it as one (ferrule call --sidecar, ferrule check --sidecar)"
	open.Found = "a script without a header"
	if own, _, ok := strings.Cut(open.Remedy, "; otherwise"); ok && strings.HasPrefix(own, "Where it is a sidecar, ") {
		open.Found, sidecar = "a program, or a script without a header", own
	}
	open.Kind, open.Expected = loader.ErrManifest, "a comment such as "+comment+" ferrule: name=a version=1.0.0 fn=f, before the first statement"
	open.Remedy = "Write one, which names the functions that hosts may call (docs/scripts.md). " + sidecar
	return open
}

// librariesIn are the libraries in a folder, by their names, and the scripts with a header; the error says why they are not known.
func librariesIn(path string) (files []string, err error) {
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		file := filepath.Join(path, e.Name())
		if !e.IsDir() && (slices.Contains([]string{".so", ".dylib", ".dll", ".wasm"}, strings.ToLower(filepath.Ext(file))) || isScriptName(file) && hasHeader(file)) {
			files = append(files, file)
		}
	}
	return files, err
}

// hasHeader reports whether a file is a script that is a plug-in.
func hasHeader(path string) bool {
	f, err := regular.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, engine.HeadSize))
	return err == nil && inspect.ScriptOf(head) != ""
}

// inWords is an error in the words of this command. Of a folder in place of a library it says what is in it; of one in place of a program check.Program has.
func inWords(err error) error {
	err = words.Error(err)
	open, ok := err.(*loader.OpenError)
	if ok && open.Kind == loader.ErrNotLibrary {
		return withoutHeader(open)
	}
	if !ok || open.Kind != loader.ErrNotRegular || open.Found != "a directory" {
		return err
	}
	found, unread := librariesIn(open.Path)
	switch {
	case errors.Is(unread, fs.ErrPermission):
		open.Found, open.Remedy = "a folder that this user may not read", "Give the path of a library in it, or run this as a user who may read it"
	case unread != nil:
		return err
	case len(found) == 0:
		open.Found, open.Expected = "a folder with no library in it", "a file whose name ends with .so, .dylib, .dll or .wasm, or a script with a header"
		open.Remedy = "Build the library, or give its own path: folders in a folder are not looked into"
	default:
		open.Found, open.Remedy = "a folder", "Give the path of a library in it, such as "+shellWord(found[0])
	}
	return open
}
