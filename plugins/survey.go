package plugins

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/install"
)

// Overview is what a Survey has found. It is the caller's.
type Overview struct {
	Config  *config.Config // config.yaml; an empty one without it
	Plugins []Plugin       // by name
	Hooks   []Order        // by the point's name, of those points that some plug-in attaches to

	// More is what else is wrong with a plug-in that has failed, by its name: each an *Error, behind the one that its Err is.
	More map[string][]error

	// Programs are the programs, and the scripts without a header, in the folders that no entry names, by path, each with the entry by which it would be a plug-in (config.ProgramEntry). Nothing is run
	// because it lies there.
	Programs map[string]string

	Installed map[string]install.Installed // by name, what is in the lock and in the store, where Download is among the options
}

// Survey finds the plug-ins, and decides which can be there, what they may have and in which order they run at each point, as Start does. It runs nothing
// of them, and leaves nothing behind. It is for tools that know config.yaml, and not the application: what no plug-in provides is taken for a function
// of the application's, which a plug-in has where config.yaml grants it; every point may be there; and host.<application> of a manifest is not
// looked at. Without Builtin it does not know what is compiled in, and the error of what is not found says so.
//
// A plug-in that could be opened is StateReady. Its Err may say then that a secret of its settings is not there, which it may be for the
// application. The error is about the whole: config.yaml or an option.
//
// With Download it finds what is installed, too: what the lock has and the store. It asks nothing of a registry and installs nothing, so that Download needs no
// sources; what is not installed, or is not as the lock says, has failed.
func Survey(ctx context.Context, opts ...Option) (*Overview, error) {
	s := New("", "", append([]Option{Logger(slog.New(slog.DiscardHandler))}, opts...)...)
	defer s.end()
	defer func() { s.download.close() }()
	s.surveying = true
	if err := s.setUp(false); err != nil {
		return nil, err
	}
	p, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	s.plans, s.entries = p, s.planned(p)
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		if e := s.entries[name]; e.state == StateReady {
			e.err = e.spec.doubt
		}
	}
	o := &Overview{Config: p.conf, Plugins: s.List(), Hooks: s.Hooks(), More: map[string][]error{}, Programs: map[string]string{}}
	for _, path := range s.programsIn(p.conf) {
		o.Programs[path] = p.programEntry(path)
	}
	for name, sp := range p.specs {
		for _, fault := range sp.more {
			if sp.wanted && sp.enabled {
				o.More[name] = append(o.More[name], fault)
			}
		}
	}
	if s.download != nil {
		for _, a := range s.download.done { // one at most
			if a.err == nil {
				o.Installed = a.result.Plugins
			}
		}
	}
	return o, nil
}

// planned are the plug-ins of a plan, before any of them is opened.
func (s *System) planned(p *plan) map[string]*entry {
	entries := make(map[string]*entry, len(p.specs))
	for name, sp := range p.specs {
		e := newEntry(s, name)
		e.spec = sp
		e.state, e.err = initial(sp), sp.err
		entries[name] = e
	}
	return entries
}
