// Command watch prints what changes in a folder, of which a plug-in tells it while no call runs, until it is interrupted or
// has printed N changes.
//
//	watch [-isolated] [-n N] PLUGIN FOLDER
package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"

	"github.com/ferrule-dev/ferrule/examples/internal/command"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func main() {
	isolated := flag.Bool("isolated", false, "run the plug-in in a worker process")
	n := flag.Int("n", 0, "end after so many changes; 0 goes on")
	command.Main("watch [-isolated] [-n N] PLUGIN FOLDER", 2, func(ctx context.Context, args []string) error {
		return run(ctx, args[0], args[1], *isolated, *n)
	})
}

func run(ctx context.Context, plugin, folder string, isolated bool, n int) error {
	folder, err := filepath.Abs(folder) // a worker has another working directory
	if err != nil {
		return err
	}
	changes := make(chan string)
	opts := []loader.Option{loader.WithConfig([]byte(folder)),
		loader.WithHostFunc("changed", func(ctx context.Context, line []byte) ([]byte, error) {
			select { // on a goroutine for the plug-in's thread; its context ends when the plug-in is closed
			case changes <- string(line):
				return nil, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})}
	if isolated {
		opts = append(opts, isolate.InWorker())
	}
	p, err := loader.Open(plugin, opts...)
	if err != nil {
		return err
	}
	defer p.Close()
	fmt.Println("watching")
	for i := 0; n == 0 || i < n; i++ {
		select {
		case line := <-changes:
			fmt.Println(line)
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
