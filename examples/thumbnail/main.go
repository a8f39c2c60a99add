// Command thumbnail makes a small picture of a JPEG or PNG file with a plug-in.
//
//	thumbnail [-size N] PLUGIN IN OUT
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"os"

	"github.com/ferrule-dev/ferrule/examples/internal/command"
	"github.com/ferrule-dev/ferrule/loader"
)

func main() {
	size := flag.Int("size", 128, "the longest side in pixels")
	command.Main("thumbnail [-size N] PLUGIN IN OUT", 3, func(ctx context.Context, args []string) error {
		return run(ctx, args[0], args[1], args[2], *size)
	})
}

func run(ctx context.Context, plugin, from, to string, size int) error {
	p, err := loader.Open(plugin, loader.WithConfig(fmt.Appendf(nil, `{"size": %d}`, size)))
	if err != nil {
		return err
	}
	defer p.Close()
	picture, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	small, err := p.Call(ctx, "thumbnail", picture)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	// What a plug-in returns is looked at before it is used.
	config, format, err := image.DecodeConfig(bytes.NewReader(small))
	if err != nil {
		return fmt.Errorf("what the plug-in made: %w", err)
	}
	if err := os.WriteFile(to, small, 0o666); err != nil {
		return err
	}
	fmt.Printf("%s: %s, %d x %d pixels\n", to, format, config.Width, config.Height)
	return nil
}
