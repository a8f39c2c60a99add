package plugins

import (
	"errors"
	"os"
	"slices"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/internal/settings"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// settle reads the plug-in's settings: what config.yaml has for it, with the secrets that it refers to, against the schema that the plug-in has.
func (s *System) settle(p *plan, sp *spec) {
	if sp.err != nil || sp.found.sidecar != nil && sp.found.sidecar.nodes {
		return
	}
	entry := p.conf.Plugin(sp.name)
	if entry == nil {
		entry = &config.Plugin{Name: sp.name}
	}
	var err error
	sp.settings, sp.secrets, err = settings.Resolve(entry, sp.found.desc.ConfigSchema, os.LookupEnv, func(path string) ([]byte, error) {
		p.read = append(p.read, path)
		return regular.Read(path, config.MaxSize)
	})
	if n := sp.found.sidecar; n != nil {
		sp.secrets = append(sp.secrets, n.secrets...)
	}
	if err == nil {
		return
	}
	var faults *settings.Error
	if errors.As(err, &faults) && faults.Path == "" {
		faults.Path = p.conf.Path // of an entry without settings
	}
	fault := &Error{Plugin: sp.name, Step: StepSettings, Kind: ErrSettings, Err: err}
	if s.surveying && secret(err) {
		sp.doubt = fault
		return
	}
	sp.err = fault
}

// secret reports whether settings lack nothing but secrets that they refer to.
func secret(err error) bool {
	var faults *settings.Error
	return errors.As(err, &faults) && !slices.ContainsFunc(faults.Faults, func(f settings.Fault) bool { return f.Reference == "" })
}
