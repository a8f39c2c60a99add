// Command zstd compresses and decompresses files with a plug-in over libzstd, in the format of the zstd command.
//
//	zstd [-d] [-level N] PLUGIN IN OUT
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/ferrule-dev/ferrule/examples/internal/command"
	"github.com/ferrule-dev/ferrule/loader"
)

func main() {
	decompress := flag.Bool("d", false, "decompress")
	level := flag.Int("level", 3, "compress that hard")
	// An interrupt ends the context, of which the plug-in hears between two slices of its work.
	command.Main("zstd [-d] [-level N] PLUGIN IN OUT", 3, func(ctx context.Context, args []string) error {
		return run(ctx, args[0], args[1], args[2], *decompress, *level)
	})
}

func run(ctx context.Context, plugin, from, to string, decompress bool, level int) error {
	p, err := loader.Open(plugin, loader.WithConfig(fmt.Appendf(nil, "level=%d", level)))
	if err != nil {
		return err
	}
	defer p.Close()
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()

	// What is at `to` is replaced by a whole result or not at all.
	part := to + ".part"
	out, err := os.Create(part)
	if err != nil {
		return err
	}
	defer os.Remove(part)
	work := compressFile
	if decompress {
		work = decompressFile
	}
	read, written, err := work(ctx, p, in, out)
	if err := cmp.Or(err, out.Close()); err != nil {
		return err
	}
	if err := os.Rename(part, to); err != nil {
		return err
	}
	fmt.Printf("%s: %d bytes, from %d\n", to, written, read)
	return nil
}

const blockSize = 4 << 20

// compressFile makes each block a frame of its own; one frame after the other is a zstd file.
func compressFile(ctx context.Context, p *loader.Plugin, r io.Reader, w io.Writer) (read, written int, err error) {
	compress, err := p.Func("compress")
	if err != nil {
		return 0, 0, err
	}
	block := make([]byte, blockSize)
	frame := make([]byte, 0, blockSize+blockSize/128) // as long as a frame may become, so that it is written in place
	for first := true; ; first = false {
		n, err := io.ReadFull(r, block)
		if err == io.EOF && !first { // an empty file becomes one empty frame
			return read, written, nil
		}
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return read, written, err
		}
		if frame, err = compress.Append(ctx, frame[:0], block[:n]); err != nil {
			return read, written, err
		}
		if _, err := w.Write(frame); err != nil {
			return read, written, err
		}
		read, written = read+n, written+len(frame)
	}
}

// decompressFile needs the whole file at once: where a frame ends is seen only by decompressing it. How long the result
// may become is limited by the plug-in.
func decompressFile(ctx context.Context, p *loader.Plugin, r io.Reader, w io.Writer) (read, written int, err error) {
	frames, err := io.ReadAll(r)
	if err != nil {
		return 0, 0, err
	}
	text, err := p.Call(ctx, "decompress", frames)
	if err != nil {
		return len(frames), 0, err
	}
	written, err = w.Write(text)
	return len(frames), written, err
}
