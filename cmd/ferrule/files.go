package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// libraryFiles are the files that the command line names; a folder stands for the libraries in it.
func libraryFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			files = append(files, path) // whoever opens it says what is wrong with it
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, failure(err)
		}
		before := len(files)
		for _, e := range entries {
			if slices.Contains([]string{".so", ".dylib", ".dll"}, strings.ToLower(filepath.Ext(e.Name()))) && !e.IsDir() {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		if len(files) == before {
			return nil, usage("the folder "+path+" without a library", "a library (.so, .dylib or .dll), or a folder with some",
				"Name the file, or the folder that it is in")
		}
	}
	return files, nil
}
