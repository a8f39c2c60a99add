package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/extism"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/guest"
)

// extismCode makes a plug-in of Extism's one that package pool runs.
func (e *wasmEngine) extismCode(p *plugin, path string, module []byte, about *abi.Description, o *engine.Options) (*pool.Code, error) {
	offer := &extism.Offer{Level: abi.LogTrace, HTTP: e.http}
	if len(o.Config) > 0 {
		if err := json.Unmarshal(o.Config, &offer.Config); err != nil {
			return nil, &loader.OpenError{Path: path, Kind: loader.ErrOption, Found: "WithConfig with what is no JSON object of texts, for a plug-in of Extism's", Err: err,
				Expected: `one such as {"key": "value"}`, Remedy: "Change the configuration"}
		}
	}
	var imports []string
	for _, s := range about.Imports {
		imports = append(imports, s.Name)
	}
	code, err := extism.Compile(context.Background(), p.runtime.Runtime, p.runtime.Compile, module, imports, offer)
	if err != nil {
		return nil, refusedByExtism(path, err)
	}
	x := &extismPlugin{p, code, about, o.Config}
	return &pool.Code{About: about, Exclusive: true, Start: x.start, Stop: stopExtism, Call: callExtism,
		Names: pool.Names{Start: "its initialisation", Stop: "its end", Configure: "its configuration"}}, nil
}

// refusedByExtism says why a plug-in of Extism's was not compiled.
func refusedByExtism(path string, err error) error {
	if missing, ok := errors.AsType[*extism.ImportError](err); ok {
		return &inspect.Error{Path: path, Kind: loader.ErrMissingImport, Symbol: missing.Name, Found: fmt.Sprintf("%s of %s", missing.Found, missing.Module), Expected: missing.Expected,
			Remedy: "Offer what it needs, or use a plug-in that does without"}
	}
	if wrong, ok := errors.AsType[*extism.PatternError](err); ok {
		return &loader.OpenError{Path: path, Kind: loader.ErrOption, Found: fmt.Sprintf("wasm.WithHTTP with the host %q", wrong.Pattern), Expected: "a pattern as path.Match takes it",
			Remedy: "Change that option"}
	}
	return refused(path, err)
}

// extismPlugin is a plug-in of Extism's.
type extismPlugin struct {
	plugin *plugin
	code   *extism.Code
	about  *abi.Description
	config []byte // what it was opened with
}

// extismInstance is an instance of one.
type extismInstance struct {
	*extism.Instance
	guest *guest.Guest
	fns   []api.Function
}

var errNoRoom = errors.New("the memory limit (wasm.WithMemory) is less than what the module and Extism's kernel have at first")

// patience is how long a plug-in of Extism's may take to be initialised, where nobody who waits for it says less.
const patience = 10 * time.Second

// extismHost is the host as an instance sees it.
type extismHost struct{ guest *guest.Guest }

func (h extismHost) Call(_ context.Context, ordinal uint32, in []byte) ([]byte, abi.Status) {
	c := h.guest.Call()
	out, status := c.Host(c.Context(), ordinal, in)
	h.guest.AskEnded() // not where a panic passes
	return out, status
}

func (h extismHost) Context() context.Context { return h.guest.Call() }

func (h extismHost) Log(_ context.Context, level abi.Level, text []byte) {
	c := h.guest.Call()
	c.Log(c.Context(), level, text, nil)
	h.guest.AskEnded()
}

func (x *extismPlugin) start(c *pool.Call, config []byte) ([]byte, abi.Status, error) {
	if !bytes.Equal(config, x.config) {
		return []byte("a plug-in of Extism's gets its configuration when it is opened, and no other later"), abi.StatusUnsupported, nil
	}
	g, budget := x.plugin.runtime.NewGuest(), x.plugin.runtime.NewBudget() // of Extism's kernel and the plug-in together
	g.ServeAtMost(c, patience, "its initialisation")
	prepare := func(m api.Module) error {
		if budget.Over() {
			return errNoRoom
		}
		if err := g.Bind(context.Background(), m); err != nil {
			return err
		}
		g.ServeAtMost(c, patience, "its initialisation")
		return g.Start()
	}
	in, err := x.code.Instantiate(budget.Context(context.Background()), g.Config(x.plugin.config()), extismHost{g}, prepare, g.Enter)
	if err != nil {
		g.Unbind()
		if err == errNoRoom {
			return []byte(err.Error()), abi.StatusNoMemory, nil
		}
		return extismOutcome(nil, err)
	}
	i := &extismInstance{Instance: in, guest: g}
	for _, f := range x.about.Funcs {
		i.fns = append(i.fns, in.Function(f.Name))
	}
	c.SetState(i)
	return nil, abi.StatusOK, nil
}

func stopExtism(c *pool.Call) {
	if i, ok := c.State().(*extismInstance); ok {
		i.guest.Unbind()
		i.Close(context.Background())
	}
}

func callExtism(c *pool.Call, fn int, dst, in []byte) ([]byte, abi.Status, error) {
	i := c.State().(*extismInstance)
	i.guest.Serve(c)
	before := len(dst)
	out, err := i.Append(i.fns[fn], dst, in)
	if err == nil {
		if i.Ended() { // it has exited, with a result
			c.Spoil()
		}
		return out, abi.StatusOK, nil
	}
	out, status, err := extismOutcome(out[:before], err)
	if err == nil && status == abi.StatusFailed && i.Ended() { // it cannot go on
		status = abi.StatusPanic
	}
	return out, status, err
}

// extismOutcome is what a call comes to that has an error.
func extismOutcome(dst []byte, err error) ([]byte, abi.Status, error) {
	if overrun, ok := errors.AsType[*engine.Overrun](err); ok {
		return dst, 0, overrun
	}
	switch e := err.(type) {
	case *extism.Failed:
		return append(dst, e.Error()...), statusOf(e.Code), nil
	case *extism.HostError:
		return append(dst, e.Error()...), abi.StatusFailed, nil
	}
	return append(dst, err.Error()...), abi.StatusPanic, nil
}

// statusOf is the status of a plug-in that returned a code: the code where an author is known to mean it, since Extism's
// own hosts give the others no meaning.
func statusOf(code int32) abi.Status {
	if status := abi.Status(code); status == abi.StatusInvalid || status >= abi.StatusOwn {
		return status
	}
	return abi.StatusFailed
}
