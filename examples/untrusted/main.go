// Command untrusted adds up the numbers of JSON documents with a plug-in that it does not trust: in a worker process of
// its own, which may use 256 MB and open no file, and with a second for each document.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: untrusted PLUG-IN DOCUMENT...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "untrusted:", err)
		os.Exit(1)
	}
}

func run(plugin string, documents []string) error {
	policy := sandbox.Policy{Memory: 256 << 20}
	p, err := loader.Open(plugin, isolate.InWorker(sandbox.With(policy), isolate.WithGrace(100*time.Millisecond)))
	if err != nil {
		return err
	}
	defer p.Close()
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s\n", filepath.Base(document), sum(p, text))
	}
	return nil
}

// sum is the plug-in's answer, or what went wrong. The plug-in goes on being usable, whatever it was.
func sum(p *loader.Plugin, text []byte) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	out, err := p.Call(ctx, "sum", text)
	var crash *loader.CrashError
	var deadline *loader.DeadlineError
	var failed *loader.CallError
	switch {
	case err == nil:
		return string(out)
	case errors.As(err, &crash) && crash.Signal != nil:
		return fmt.Sprintf("the plug-in crashed: %s", crash.Signal)
	case errors.As(err, &deadline):
		return fmt.Sprintf("the plug-in was stopped: %v", deadline.Cause)
	case errors.As(err, &failed):
		return fmt.Sprintf("the plug-in refused it: %s", failed.Message)
	default:
		return err.Error()
	}
}
