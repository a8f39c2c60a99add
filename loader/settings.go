package loader

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// Configure gives the plug-in new settings while it runs, in place of those of WithConfig: all of its instances take them, or none does
// (rule R28). Calls that run end first, and those that come meanwhile wait; so Configure fails, with ErrReentrant, in a host function of
// a call of the plug-in's. config is copied.
//
// A plug-in that exports no ferrule_configure gets new instances, which are started beside the old ones and then take their place:
// what those held is gone. Open sessions keep their settings. When Configure has returned nil, instances that are started anew, and new sessions,
// get config; otherwise all is as it was, but that an instance which does not take its old settings back is started anew. A plug-in
// without ferrule_start and ferrule_configure has no settings, and takes any.
//
// When ctx ends while Configure waits for calls, nothing was changed. What has begun is not given up half way; isolated, isolate.WithStartTimeout
// bounds it, and ends its worker: a *CrashError, before new instances are in place or after, when those that they replace are stopped. A host function that ferrule_configure calls cannot call the plug-in, and meanwhile neither can one that the plug-in calls between calls:
// that is ErrReentrant. Two plug-ins that are configured in each other's host functions wait for each other until a context ends. The error is Func.Append's: a *CallError of ferrule_configure with what the
// plug-in says, or an *OpenError when new instances do not start.
func (p *Plugin) Configure(ctx context.Context, config []byte) error {
	e, ok := p.engine.(engine.Configurable)
	if !ok {
		return p.cannot("Configure")
	}
	message, status, err := e.Configure(ctx, bytes.Clone(config))
	if err == nil && status == abi.StatusOK {
		return nil
	}
	return startedWith("that Configure was given", callError(p.Name(), abi.SymbolConfigure, status, message, err, ctx))
}

// cannot is the error of what a plug-in's engine does not have.
func (p *Plugin) cannot(what string) error {
	return &UsageError{p.Name(), "", ErrNotHere, "the engine that runs it has no " + what}
}

// State is what the instances of a plug-in hold, on its way to a successor (rule R29). It is only read, and may be used more than once, from any goroutine.
type State struct {
	format string   // the manifest's state=
	saved  [][]byte // by instance
}

// Format returns the state's format, as the manifest of the plug-in that it is of says.
func (s *State) Format() string { return s.format }

// Instances returns the state of each instance. It is shared: read it only.
func (s *State) Instances() [][]byte { return s.saved }

// NewState returns a state of this format, one of saved for each instance: for one that was kept elsewhere. The bytes are not copied.
func NewState(format string, saved [][]byte) *State { return &State{format, saved} }

// WithState has each instance of the plug-in take over the state of one of another plug-in's, right after its start (rule R29). There
// must be as many instances as the state has, and the plug-in's manifest must say the same format: otherwise Open returns an *OpenError of the
// kind ErrState, before anything of the plug-in runs. Where the plug-in does not take its state over, Open fails as for a ferrule_start that fails. Instances that
// are started anew later do not get it.
func WithState(s *State) Option {
	return once("WithState", func(o *options) error {
		if s == nil {
			return optionError("WithState", "nil", "a state, as Handover gives it")
		}
		o.state = s
		return nil
	})
}

// acceptState reports why a plug-in cannot take over the state that the options have.
func (o *options) acceptState(path string, d *abi.Description) error {
	if o.state == nil {
		return nil
	}
	found := d.Manifest.State
	switch {
	case found != o.state.format:
		if found == "" {
			found = "a plug-in that takes over no state"
		} else {
			found = fmt.Sprintf("a plug-in that takes over a state of the format %q", found)
		}
		return &OpenError{Path: path, Kind: ErrState, Found: found, Expected: fmt.Sprintf("one for the format %q", o.state.format),
			Remedy: "Open it without WithState, which loses the state, or open a version of it that knows this format"}
	case len(o.state.saved) != o.instances:
		return &OpenError{Path: path, Kind: ErrState, Found: fmt.Sprintf("the state of %s", count.Of(len(o.state.saved), "instance")),
			Expected: fmt.Sprintf("one for each of %d", o.instances), Remedy: "Open it with as many instances as its predecessor has (WithInstances)"}
	}
	return nil
}

// Handover replaces a plug-in by its successor, which takes its state over: no call that has returned is lost, and none is counted twice. It waits
// until no call of the plug-in runs, and has those that come wait; it saves the state of all instances; open opens the successor with it,
// by an Open with WithState (the state itself, or one that was made of it with NewState), and may put it in the plug-in's place, for other goroutines to find. Then the plug-in is closed, in the background (Close waits for the end of that): calls that
// have waited fail with ErrClosed, without having run, and are made again with the successor.
//
// The successor has the options of its own Open, and nothing of the plug-in's but the state. Open it with the settings
// that count now (WithConfig), and with all other options; settings that Configure has given do not come along.
//
// On any failure the plug-in goes on as it was, with the calls that have waited. The error is a *UsageError of the kind ErrState when the plug-in has no
// state to hand over, or its successor was opened without one (which is then closed, because it would begin from nothing), a *CallError of ferrule_save, what open returns, or Func.Append's. When ctx ends before no call runs, nothing was done; saving is not given up half way. Open sessions end
// with the plug-in; they have no successor. What the plug-in changes between calls, after it has saved, is lost. open gets one State, and must not call the plug-in, which would wait for itself.
// Meanwhile host functions that the plug-in calls between calls cannot call it: that is ErrReentrant.
func (p *Plugin) Handover(ctx context.Context, open func(*State) (*Plugin, error)) (*Plugin, error) {
	e, ok := p.engine.(engine.Holder)
	switch {
	case !ok:
		return nil, p.cannot("Handover")
	case p.info.Manifest.State == "":
		return nil, &UsageError{p.Name(), "", ErrState, "it exports no ferrule_save, or its manifest does not say state=: open its successor beside it, and close it"}
	case open == nil:
		return nil, &UsageError{p.Name(), "", ErrNilArgument, "Handover was given nil for the function that opens the successor"}
	}
	hold, err := e.Hold(ctx)
	if err != nil {
		return nil, callError(p.Name(), "", 0, nil, err, ctx)
	}
	held := true
	defer func() {
		if held {
			hold.Release()
		}
	}()
	saved, message, status, err := hold.Save()
	if err != nil || status != abi.StatusOK {
		return nil, callError(p.Name(), abi.SymbolSave, status, message, err, ctx)
	}
	next, err := open(&State{p.info.Manifest.State, saved})
	switch {
	case err != nil:
		return nil, err
	case next == nil:
		return nil, &UsageError{p.Name(), "", ErrNilArgument, "the function that opens the successor returned neither that nor an error"}
	case next == p:
		return nil, &UsageError{p.Name(), "", ErrState, "the function that opens the successor returned the plug-in itself, which goes on as it was: have it open one, with WithState"}
	case !next.resumed:
		_ = next.Shutdown(ctx) // nobody else may know of it
		return nil, &UsageError{p.Name(), "", ErrState, "the function that opens the successor did not give it the state: pass loader.WithState(state) to Open. The plug-in goes on as it was, and what was opened in its place is closed"}
	}
	held = false
	hold.Retire()
	return next, nil
}
