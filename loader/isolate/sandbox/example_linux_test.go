package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// The plug-in reads what it may, and nothing else of this machine.
func ExampleWith() {
	library, ok := fixture.OfExample("sandbox_attempts") // its functions try what a sandbox is to refuse
	if !ok {
		panic("no library " + library + ": a C compiler is missing: apt-get install gcc")
	}
	folder, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "fonts.conf")
	if err := os.WriteFile(file, []byte("serif"), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	p, err := loader.Open(library, isolate.InWorker(sandbox.With(sandbox.Policy{Read: []string{folder}})))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	for _, attempt := range []struct{ function, in string }{
		{"read_file", file}, {"read_file", "/etc/passwd"}, {"write_file", file}, {"fork", ""},
	} {
		_, err := p.Call(context.Background(), attempt.function, []byte(attempt.in))
		fmt.Println(attempt.function, errors.Is(err, loader.ErrFailed))
	}
	// Output:
	// read_file false
	// read_file true
	// write_file true
	// fork true
}

// What the system cannot keep a plug-in to is an error of Open's, before anything of it runs.
func ExamplePolicy() {
	library, ok := fixture.OfExample("sandbox_attempts")
	if !ok {
		panic("no library " + library + ": a C compiler is missing: apt-get install gcc")
	}
	for _, policy := range []sandbox.Policy{{Memory: -1}, {Read: []string{"/no/such/folder"}}} {
		_, err := loader.Open(library, isolate.InWorker(sandbox.With(policy)))
		fmt.Println(errors.Is(err, loader.ErrOption), errors.Is(err, loader.ErrSandbox))
	}
	// Output:
	// true false
	// false true
}
