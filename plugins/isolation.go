package plugins

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/plugins/config"
)

// isolation has a plug-in run in a worker process, in the sandbox that follows from what it was permitted.
func (s *System) isolation(sp *spec) loader.Option {
	opts := isolationOf(sp, sp.policy)
	if sp.group == "" {
		return isolate.InWorker(opts...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sp.groupKey()
	g := s.groups[key]
	if g == nil {
		g = isolate.NewGroup(sp.group, opts...)
		s.groups[key] = g
	}
	return isolate.InGroup(g)
}

// isolationOf are the options of a plug-in's worker, in the sandbox of a policy where it is in one.
func isolationOf(sp *spec, policy sandbox.Policy) (opts []isolate.Option) {
	if sp.sandboxed {
		opts = append(opts, sandbox.With(policy))
	}
	if sp.grace > 0 {
		opts = append(opts, isolate.WithGrace(sp.grace))
	}
	if sp.stop > 0 {
		opts = append(opts, isolate.WithStopTimeout(sp.stop))
	}
	return opts
}

// groupKey tells groups apart: another policy is another worker.
func (sp *spec) groupKey() string {
	return fmt.Sprintf("%q %v %v %v %+v", sp.group, sp.sandboxed, sp.grace, sp.stop, sp.policy)
}

// forgetUnused forgets the groups that no plug-in of a plan is in, and the quotas of plug-ins that it does not have. A version that is still being closed has its own
// hold on its group. s.mu is held.
func (s *System) forgetUnused(p *plan) {
	used := map[string]bool{}
	for _, sp := range p.specs {
		if sp.group != "" {
			used[sp.groupKey()] = true
		}
	}
	maps.DeleteFunc(s.groups, func(key string, _ *isolate.Group) bool { return !used[key] })
	maps.DeleteFunc(s.quotas, func(key string, _ *quota) bool {
		plugin, _, _ := strings.Cut(key, "\x00")
		return p.specs[plugin] == nil
	})
}

// group compares the plug-ins that share a worker: to security they are one plug-in, so what one of them may, all may. One that has other grants or
// permits than the first of them by name cannot be with them.
func (s *System) group(p *plan) {
	first := map[string]*spec{}
	for _, name := range slices.Sorted(maps.Keys(p.specs)) {
		sp := p.specs[name]
		if sp.group == "" || !sp.usable() {
			continue
		}
		model := first[sp.group]
		if model == nil {
			first[sp.group] = sp
			continue
		}
		own, others := p.conf.Plugin(name), p.conf.Plugin(model.name)
		grants := func(entry *config.Plugin) string {
			return "grant: " + config.QuoteList(slices.Sorted(slices.Values(grantOf(entry))))
		}
		found, expected := "", ""
		switch {
		case grants(own) != grants(others):
			found, expected = grants(own), grants(others)
		case !slices.Equal(sp.decided, model.decided):
			found, expected = "by Grants: ["+strings.Join(sp.decided, ", ")+"]", "by Grants: ["+strings.Join(model.decided, ", ")+"]"
		case sp.sandboxed != model.sandboxed || sp.grace != model.grace || sp.stop != model.stop || !reflect.DeepEqual(sp.policy, model.policy):
			found, expected = "other permits or limits", "those"
		default:
			continue
		}
		sp.err = &Error{Plugin: name, Step: StepGrant, Kind: ErrGrant, Found: found + " in the group " + sp.group, Expected: expected + " of " + model.name + ", with which it would share a worker",
			Remedy: "What one plug-in of a group may, all may: write the same for each, or take it out of the group"}
	}
}

// keepApart has no two plug-ins have one data folder: the first of them by name has it.
func (s *System) keepApart(p *plan) {
	owner := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.specs)) {
		sp := p.specs[name]
		if sp.data == "" || !sp.usable() {
			continue
		}
		if other, taken := owner[sp.data]; taken {
			sp.err = &Error{Plugin: name, Step: StepGrant, Kind: ErrGrant, Found: "the data folder of " + other + ", " + sp.data, Expected: "one of its own",
				Remedy: "Name another one in its entry of " + s.configName()}
			continue
		}
		owner[sp.data] = name
	}
}

// inProcess are the options of a plug-in in this process. Of a file that may be replaced while it runs, a copy is loaded.
func (s *System) inProcess(*spec) []loader.Option {
	if s.watching {
		return []loader.Option{loader.WithPrivateCopy()}
	}
	return nil
}

// levelled is a handler that drops what is below a level.
type levelled struct {
	slog.Handler
	level *slog.LevelVar
}

func (l *levelled) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= l.level.Level() && l.Handler.Enabled(ctx, level)
}

func (l *levelled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &levelled{l.Handler.WithAttrs(attrs), l.level}
}

func (l *levelled) WithGroup(name string) slog.Handler {
	return &levelled{l.Handler.WithGroup(name), l.level}
}
