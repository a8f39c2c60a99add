package native

import (
	"context"
	"path/filepath"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// Engine opens libraries in this process. It is loader.Native.
type Engine struct{}

var _ engine.Engine = Engine{}

// Name is engine.Engine's.
func (Engine) Name() string { return "loader.Native" }

// Words is engine.Engine's.
func (Engine) Words() engine.Words {
	return engine.NativeCode("Leave one of them out",
		"it holds its caller until then. Have it look at ferrule_cancelled, or open the plug-in isolated (isolate.InWorker), where it is ended")
}

// Fault is engine.Engine's: there are no options of its own.
func (Engine) Fault() error { return nil }

// Recognises is engine.Engine's.
func (Engine) Recognises(f *engine.File) bool { return IsLibrary(f) }

// IsLibrary reports whether the file is native code, by how it begins.
func IsLibrary(f *engine.File) bool {
	head, err := f.Head()
	return err == nil && inspect.Recognises(head)
}

// Open is engine.Engine's.
func (Engine) Open(ctx context.Context, f *engine.File, o *engine.Options, accept engine.Accept) (engine.Plugin, *abi.Description, error) {
	var host engine.Host
	image, err := Load(ctx, f.Path, LoadOptions{File: f.Take(), SHA256: o.SHA256, Private: o.Private, Unload: o.Unload, ExecStack: o.ExecStack,
		Accept: func(lib *inspect.Library) (err error) {
			host, err = accept(&lib.Description)
			return err
		}})
	if err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		_ = image.Release()
		return nil, nil, err
	}
	folder := ""
	if abs, err := engine.Absolute(f.Path); err == nil {
		folder = filepath.Dir(abs)
	}
	p, err := New(image, Options{Host: host, Config: o.Config, State: o.State, Instances: o.Instances, MaxCalls: o.MaxCalls, Owner: o.Owner, Folder: folder})
	if err != nil {
		return nil, nil, err
	}
	return p, &image.lib.Description, nil
}

// Library returns what was read from the file that was opened.
func (p *Plugin) Library() *inspect.Library { return p.image.lib }
