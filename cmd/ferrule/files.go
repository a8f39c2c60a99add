package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// libraryFiles are the files that the command line names. A folder stands for the libraries in it; where it has none it
// stays, and whoever opens it says what is wrong.
func libraryFiles(paths []string) (files []string) {
	for _, path := range paths {
		before := len(files)
		entries, _ := os.ReadDir(path)
		for _, e := range entries {
			if slices.Contains([]string{".so", ".dylib", ".dll"}, strings.ToLower(filepath.Ext(e.Name()))) && !e.IsDir() {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		if len(files) == before {
			files = append(files, path)
		}
	}
	return files
}
