package monitor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

// welcome is a plug-in that is compiled in.
var welcome = &builtin.Plugin{Name: "welcome", Version: "1.0.0", Hooks: []builtin.Function{{Name: "before_checkout",
	Call: func(context.Context, []byte) ([]byte, error) { return []byte("20"), nil }}}}

// A host serves its system, and somebody else, here in the same process, asks for it.
func Example() {
	run := func(ctx context.Context, socket string) error {
		sys := plugins.New("shop", "1.4.0", plugins.Builtin(welcome), plugins.Counting())
		defer sys.Close()
		discount := plugins.First[[]byte, []byte](sys, "before_checkout")
		if err := sys.Start(ctx); err != nil {
			return err
		}
		watched, err := monitor.Serve(sys, socket)
		if err != nil {
			return err
		}
		defer watched.Close()
		if _, _, err := discount.Call(ctx, []byte("ann")); err != nil {
			return err
		}

		host, err := monitor.Dial(ctx, socket)
		if err != nil {
			return err
		}
		defer host.Close()
		seen, err := host.Snapshot(ctx)
		if err != nil {
			return err
		}
		for _, p := range seen.Plugins {
			fmt.Println(p.Name, p.State, seen.Counting && p.Calls.Calls > 0)
		}
		return nil
	}
	folder, err := os.MkdirTemp("", "shop-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	if err := run(context.Background(), filepath.Join(folder, "plugins.sock")); err != nil {
		fmt.Println(err)
	}
	// Output:
	// welcome started true
}
