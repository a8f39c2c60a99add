package script

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/abspath"
)

// PythonReads returns what a sandbox has to let a worker read in which scripts in Python run: the libraries of the Python that the adapter at this path embeds, and these folders,
// such as those of the scripts, and of a virtual environment. Each is an absolute path.
//
//	reads, err := script.PythonReads("python.so", "scripts", "venv")
//	script.WithPython("python.so", isolate.Engine(sandbox.With(sandbox.Policy{Read: reads})))
//
// The error is that of reading the adapter, or of a folder that is not there.
func PythonReads(adapter string, folders ...string) ([]string, error) {
	about, err := loader.Inspect(adapter)
	if err != nil {
		return nil, err
	}
	reads := strings.Split(about.Manifest.Keys.Get("permit.read"), "\n")
	// A system may have one of them alone.
	reads = slices.DeleteFunc(reads, func(path string) bool {
		_, err := os.Stat(path)
		return err != nil
	})
	if len(reads) == 0 {
		return nil, &loader.OpenError{Path: adapter, Kind: loader.ErrOption, Found: "no folder of Python's library in its manifest", Expected: "an adapter of this version of the module, whose Python is installed",
			Remedy: "Build it by script.BuildPython"}
	}
	for _, folder := range folders {
		abs, err := abspath.Of(folder)
		if err == nil {
			_, err = os.Stat(abs)
		}
		if err != nil {
			return nil, fmt.Errorf("script: PythonReads: %w", err)
		}
		reads = append(reads, abs)
	}
	return reads, nil
}
