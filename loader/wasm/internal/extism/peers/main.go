// Command peers runs a plug-in on Extism's Go SDK, for the tests of package extism: it reads what to do from its input, in JSON, and writes what came of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	extism "github.com/extism/go-sdk"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"
)

// job is what the tests ask for; see there.
type job struct {
	Path   string
	Config map[string]string
	Hosts  []string
	Folder string
	Vars   int64
	Calls  []struct{ Fn, In string }
	Rounds int
}

type outcome struct {
	Out     string
	Code    int32
	Message string
	Fatal   bool
}

type said struct {
	All   []outcome
	Heard []string
	Nanos int64
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		return err
	}
	var answer said
	ctx := context.Background()
	hear := func(line string) { answer.Heard = append(answer.Heard, line) }
	extism.SetLogLevel(extism.LogLevelTrace)
	if j.Rounds > 0 {
		extism.SetLogLevel(extism.LogLevelOff)
	}
	memory := &extism.ManifestMemory{MaxHttpResponseBytes: -1, MaxVarBytes: -1}
	if j.Vars != 0 {
		memory.MaxVarBytes = max(j.Vars, 0)
	}
	config := wazero.NewModuleConfig()
	if j.Folder != "" {
		config = config.WithFSConfig(wazero.NewFSConfig().WithDirMount(j.Folder, "/mnt"))
	}
	p, err := extism.NewPlugin(ctx, extism.Manifest{Wasm: []extism.Wasm{extism.WasmFile{Path: j.Path}}, Config: j.Config, AllowedHosts: j.Hosts, Memory: memory},
		extism.PluginConfig{EnableWasi: true, EnableHttpResponseHeaders: j.Hosts != nil, ModuleConfig: config}, functions(hear))
	if err != nil {
		return err
	}
	p.SetLogger(func(level extism.LogLevel, text string) {
		for _, own := range []string{"Calling ", "Initializ", "Error running reactor"} { // the SDK's own lines
			if strings.HasPrefix(text, own) {
				return
			}
		}
		hear(fmt.Sprintf("%d %s", extism.LogLevelError+1-level, text)) // as Ferrule numbers levels
	})
	start := time.Now()
	for round := range j.Rounds + 1 {
		if round == 1 { // the first is not measured
			start = time.Now()
		}
		answer.All = answer.All[:0]
		for _, c := range j.Calls {
			code, out, err := p.Call(c.Fn, []byte(c.In))
			o := outcome{Out: string(out), Code: int32(code)}
			if exit, ok := errors.AsType[*sys.ExitError](err); ok {
				o.Fatal, o.Code = true, int32(exit.ExitCode())
			} else if err != nil && (strings.Contains(err.Error(), "wasm stack trace") || strings.Contains(err.Error(), "closed")) {
				o.Fatal, o.Code = true, 0
			} else if err != nil {
				o.Message = err.Error()
			}
			answer.All = append(answer.All, o)
		}
	}
	answer.Nanos = time.Since(start).Nanoseconds()
	return json.NewEncoder(os.Stdout).Encode(answer)
}

// functions are the host functions of the tests.
func functions(hear func(string)) (all []extism.HostFunction) {
	block := []extism.ValueType{extism.ValueTypePTR}
	for name, answer := range map[string]func(string) string{
		"shout":             strings.ToUpper,
		"hostGreenMessage":  func(in string) string { return "\U0001f7e2" + in },
		"hostPurpleMessage": func(in string) string { return "\U0001f7e3" + in },
		"tell":              nil,
	} {
		results := block
		if answer == nil {
			results = nil
		}
		all = append(all, extism.NewHostFunctionWithStack(name, func(_ context.Context, p *extism.CurrentPlugin, stack []uint64) {
			in, err := p.ReadString(stack[0])
			if err != nil {
				panic(err)
			}
			if answer == nil {
				hear(name + " " + in)
			} else if stack[0], err = p.WriteString(answer(in)); err != nil {
				panic(err)
			}
		}, block, results))
	}
	return all
}
