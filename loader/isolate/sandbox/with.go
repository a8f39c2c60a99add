package sandbox

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/confine"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/host"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/worker"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func init() {
	mark.OfSandbox()
	if requested, sandbox := worker.Requested(); requested && sandbox {
		worker.Main(apply)
	}
}

// granting is resolve of the policy with a folder of the plug-in's own (loader.WithDataFolder), where it is not "".
func (p Policy) granting(folder string) ([]byte, error) {
	if folder != "" {
		p.Write = append(slices.Clip(p.Write), folder)
	}
	return p.resolve()
}

// systemFiles is what every plug-in may read: where dlopen looks for what a library needs, what it reads to know where,
// and the time zones, without which the C library tells another time and no error.
var systemFiles = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64",
	"/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/ld-musl-*.path",
	"/etc/localtime", "/usr/share/zoneinfo", "/etc/zoneinfo", "/share/zoneinfo"}

// readable reports whether the policy lets every plug-in read the file at path, which is absolute and has no links in it.
func (p Policy) readable(path string) bool {
	return slices.ContainsFunc(slices.Concat(systemFiles, p.Read, p.Write), func(granted string) bool {
		granted, err := filepath.EvalSymlinks(granted)
		return err == nil && (path == granted || strings.HasPrefix(path, strings.TrimSuffix(granted, string(filepath.Separator))+string(filepath.Separator)))
	})
}

// With puts the worker under the policy before it opens the plug-in's library. It is given once: a second one is an error. The policy
// is copied when isolate.InWorker is called.
//
// Open fails with an *loader.OpenError of the kind loader.ErrOption where the policy makes no sense, and of the kind loader.ErrSandbox where
// this system cannot keep to it, or a path is not there; a call that needs a new worker fails with the latter when a path leads to
// something else by then. What keeps to it is in Plugin.Isolation's Layers.
func With(p Policy) isolate.Option {
	return func(o *host.Options) error {
		if err := o.Once("sandbox.With"); err != nil {
			return err
		}
		p, err := p.absolute()
		if err != nil {
			return wrong(err)
		}
		o.Sandbox, o.Memory, o.Time, o.CPU, o.Readable = p.granting, p.Memory, p.Time, p.CPU, p.readable
		return nil
	}
}

// Bounds is for sidecar.WithSandbox, which takes a Policy: what a sidecar's process takes upon itself before it is the sidecar's program. The error is
// a *loader.OpenError of the kind loader.ErrOption: the policy makes no sense.
func (p Policy) Bounds() (*confine.Bounds, error) {
	p, err := p.absolute()
	if err != nil {
		return nil, wrong(err)
	}
	return &confine.Bounds{Resolve: p.granting, Memory: p.Memory, CPU: p.CPU, Time: p.Time, Processes: p.Processes, BestEffort: p.BestEffort}, nil
}

// wrong is an error of absolute's, each of which is a mistake in the policy.
func wrong(err error) error {
	e := *err.(*loader.OpenError)
	e.Kind = loader.ErrOption
	return &e
}
