package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/words"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// checkSandbox opens the library as a host does that gives it this sandbox, and compares what its functions give there
// with what they give here.
func checkSandbox(k *kit) {
	const expected, mend = "what it gives without the sandbox", "Do without what the sandbox refuses, or say to hosts what the plug-in " +
		"needs; with --allow-read, --allow-write, --allow-connect, --memory and --procs the sandbox gives more"
	k.expect("R20", anyInput, mendInput)
	if !k.openFunctions() {
		return
	}
	opts := []loader.Option{loader.WithConfig(k.Config), loader.WithLogger(slog.New(slog.DiscardHandler)),
		isolate.InWorker(sandbox.With(*k.Policy), isolate.WithStartTimeout(24*time.Hour))} // the case's own limit ends it
	for ordinal, i := range k.lib.Ordinals() {
		opts = append(opts, loader.WithHostFunc(i.Name, func(_ context.Context, in []byte) ([]byte, error) {
			if status, out := k.serve(uint32(ordinal), in); status != abi.StatusOK {
				return nil, errors.New(string(out))
			} else {
				return out, nil
			}
		}))
	}
	const opens = "a library that opens in the sandbox, as it does without"
	k.send(event{Step: &step{What: "opening the library in the sandbox", Rule: "R20", Expected: opens, Mend: mend}})
	p, err := loader.Open(k.Path, opts...)
	if err != nil {
		k.find(Finding{Rule: "R20", Severity: Error, Seen: "in the sandbox it does not open: " + words.Error(err).Error(),
			Expected: opens, Mend: mend})
		return
	}
	defer p.Close()
	if state, ok := p.Isolation(); ok {
		k.note("the sandbox has the layers: %s", strings.Join(state.Layers, ", "))
	}
	k.each(func(i *instance, f function) {
		name, hook := strings.CutPrefix(f.label, "hook ")
		get := p.Func
		if hook {
			get = p.Hook
		}
		fn, err := get(name)
		if err != nil {
			k.note("%s was not tried: %v", f.label, err)
			return
		}
		i.calls(f, k.samples(f), options{plain: true}, func(in input, r *outcome) {
			if r.status != abi.StatusOK || r.breach != nil {
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), budget+5*time.Second)
			defer cancel()
			if _, err := fn.Call(ctx, in.bytes); err != nil {
				k.find(Finding{Rule: "R20", Severity: Error, Function: f.label,
					Seen: fmt.Sprintf("%s with %s, in the sandbox: %v", f.label, in.name, words.Error(err)), Expected: expected, Mend: mend})
			}
		})
	})
}
