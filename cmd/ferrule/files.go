package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/words"
	"github.com/ferrule-dev/ferrule/loader"
)

// libraryFiles are the files that the command line names. A folder stands for the libraries in it; where it has none it
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

// librariesIn are the libraries in a folder, by their names; the error says why they are not known.
func librariesIn(path string) (files []string, err error) {
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		if slices.Contains([]string{".so", ".dylib", ".dll", ".wasm"}, strings.ToLower(filepath.Ext(e.Name()))) && !e.IsDir() {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	return files, err
}

// inWords is an error in the words of this command. Of a folder in place of a library it says what is in it.
func inWords(err error) error {
	err = words.Error(err)
	open, ok := err.(*loader.OpenError)
	if !ok || open.Kind != loader.ErrNotRegular {
		return err
	}
	found, unread := librariesIn(open.Path)
	switch {
	case errors.Is(unread, fs.ErrPermission):
		open.Found, open.Remedy = "a folder that this user may not read", "Give the path of a library in it, or run this as a user who may read it"
	case unread != nil:
		return err
	case len(found) == 0:
		open.Found, open.Expected = "a folder with no library in it", "a file whose name ends with .so, .dylib, .dll or .wasm"
		open.Remedy = "Build the library, or give its own path: folders in a folder are not looked into"
	default:
		open.Found, open.Remedy = "a folder", "Give the path of a library in it, such as "+shellWord(found[0])
	}
	return open
}
