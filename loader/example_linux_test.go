package loader_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// A host for two plug-ins: its own in this process, and one that it does not trust in a worker. An example cannot be skipped: on Linux there is a
// compiler, which all tests need.
func ExampleOpen_host() {
	own, ok := fixture.OfExample("services")
	foreign, built := fixture.OfExample("fault_infinite_loop")
	if !ok || !built {
		panic("a C compiler is missing: apt-get install gcc")
	}
	folder, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	ctx := context.Background()

	upper := func(_ context.Context, text []byte) ([]byte, error) { return bytes.ToUpper(text), nil }
	needed := func(context.Context, []byte) ([]byte, error) { return nil, nil }
	options := []loader.Option{
		loader.WithHostFunc("upper", upper), loader.WithHostFunc("needed", needed), // what plug-ins may call
		loader.WithCallTimeout(time.Second), // for each call
	}
	trusted, err := loader.Open(own, append(options, loader.WithDataFolder(folder))...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer trusted.Close()
	isolated, err := loader.Open(foreign, append(options, isolate.InWorker(isolate.WithGrace(100*time.Millisecond)))...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer isolated.Close()

	text, err := trusted.Call(ctx, "upper", []byte("ada")) // it calls the host's function
	fmt.Println(string(text), err)
	data, err := trusted.Call(ctx, "info", []byte("data")) // it asks for its folder
	fmt.Println(string(data) == folder, err)
	_, err = isolated.Call(ctx, "fault", nil) // it never returns
	var late *loader.DeadlineError
	fmt.Println("stopped:", errors.As(err, &late))
	text, err = isolated.Call(ctx, "echo", []byte("in the next worker"))
	fmt.Println(string(text), err)
	// Output:
	// ADA <nil>
	// true <nil>
	// stopped: true
	// in the next worker <nil>
}
