package install

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/Masterminds/semver/v3"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/plugins/internal/grants"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Release is the release whose libraries lie at these paths, one for each platform; one of several architectures is for all of them. A WebAssembly module is a release by itself, and so is a script with a header. What is of one release says the
// same of itself but for the platform. Nothing of it runs. contents has the paths, by platform, for registry.Pusher; the signatures are left to the caller. Errors are
// *registry.Error.
func Release(paths ...string) (r *registry.Release, contents map[string]registry.Content, err error) {
	contents = map[string]registry.Content{}
	first := ""
	for _, path := range paths {
		lib, err := inspect.File(path)
		if err != nil {
			return nil, nil, unfit(path, err)
		}
		if lib.Extism {
			return nil, nil, &registry.Error{Plugin: lib.Manifest.Name, Path: path, Kind: registry.ErrKind, Found: "a plug-in of Extism's, which says neither its name nor its version", Expected: "one of Ferrule's contract",
				Remedy: "Put it into a folder of the application's, or compile it with ferrule.h"}
		}
		this := describedFile(lib)
		if err := alone(this, path); err != nil {
			return nil, nil, err
		}
		if !anywhere(lib) && (lib.OS == "" || len(lib.Archs) == 0) {
			return nil, nil, &registry.Error{Plugin: this.Name, Version: this.Version, Path: path, Kind: registry.ErrPlatform, Found: "a library for " + lib.Machine,
				Expected: "one for a system and a processor that Go has words for", Remedy: "Leave it out"}
		}
		if r == nil {
			r, first = this, path
			if err := publishable(r, path); err != nil {
				return nil, nil, err
			}
		} else if this.Name != r.Name {
			return nil, nil, &registry.Error{Plugin: r.Name, Version: r.Version, Path: path, Kind: registry.ErrName, Found: "the plug-in " + this.Name + ", beside " + first + " of the plug-in " + r.Name,
				Expected: "the files of one plug-in", Remedy: "Publish one plug-in at a time: one push for each"}
		} else if this.Kind != r.Kind {
			return nil, nil, &registry.Error{Plugin: r.Name, Version: r.Version, Path: path, Kind: registry.ErrKind, Found: "a file of the kind " + string(this.Kind) + ", beside " + first + " of the kind " + string(r.Kind),
				Expected: "files of one kind: a module, or a script, runs on all platforms", Remedy: "Leave one of the two out, or give them two names and publish one plug-in at a time"}
		} else if err := compare(r, this, "", registry.AnyPlatform, ""); err != nil || r.License != this.License || r.Summary != this.Summary {
			return nil, nil, &registry.Error{Plugin: r.Name, Version: r.Version, Path: path, Kind: registry.ErrMalformed, Err: err,
				Found: "a library that says something else of itself than " + first, Expected: "the libraries of one version, one for each platform", Remedy: "Build all of them of one source, and publish one plug-in at a time"}
		}
		for _, platform := range Platforms(lib) {
			if other, ok := contents[platform]; ok {
				return nil, nil, &registry.Error{Plugin: r.Name, Version: r.Version, Path: path, Kind: registry.ErrPlatform, Found: fmt.Sprintf("a second library for %s, beside %s", platform, other.Path),
					Expected: "one for each platform", Remedy: "Leave one of the two out"}
			}
			contents[platform] = registry.Content{Path: path}
		}
	}
	return r, contents, nil
}

// publishable refuses a release that nobody could install: its version is in no index and in no lock, or it asks for what no grant covers. Once published, its version is taken.
func publishable(r *registry.Release, path string) error {
	if err := senseless(r, grants.Ask.SenselessAnywhere); err != nil {
		err.Path, err.Remedy = path, "Correct it in the manifest, and build it again: nobody could install it, whatever is granted"
		return err
	}
	const most = 128 // as a lock has it
	if v, err := semver.StrictNewVersion(r.Version); err == nil && v.String() == r.Version && len(r.Version) <= most {
		return nil
	}
	return &registry.Error{Plugin: r.Name, Path: path, Kind: registry.ErrMalformed, Found: "the version " + strconv.Quote(r.Version), Expected: fmt.Sprintf("a semantic version of three numbers, such as 1.2.0 or 1.2.0-rc.1, of at most %d bytes", most),
		Remedy: "Write such a one into the plug-in, and build it again: nobody could install another"}
}

// unfit says that a file to publish is none.
func unfit(path string, err error) error {
	if e, ok := errors.AsType[*inspect.Error](err); ok {
		said := *e
		said.Path = "" // which the error around it says
		err = &said
	}
	return &registry.Error{Path: path, Kind: registry.ErrMalformed, Found: "no plug-in that can be published", Err: err}
}
