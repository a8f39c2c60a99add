package plugins

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/internal/grants"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

// grant decides what a plug-in may have. This is the only place where its functions are put together: what is not in sp.functions
// then is not there for it, whatever it asks for.
func (s *System) grant(p *plan, sp *spec, provider func(service string) string) {
	d := sp.found.desc
	entry := p.conf.Plugin(sp.name)
	sp.functions = map[string]loader.HostFunc{}
	var refused, unknown []string
	consider := func(f abi.Symbol, needed bool) {
		o, by := s.offers[f.Name], provider(f.Name)
		if by == sp.name {
			by = ""
		}
		if o == nil && by == "" {
			if s.surveying { // it may be the application's, which may offer it to all
				if _, ok := entry.Granted(f.Name); ok {
					sp.grants = append(sp.grants, f.Name)
					if _, listed := entry.Granted(f.Name); !listed && (o == nil || !o.public) {
						sp.decided = append(sp.decided, f.Name)
					}
				}
				return
			}
			if needed {
				unknown = append(unknown, f.Name)
			}
			return
		}
		what := "function"
		if o == nil {
			what = "service"
		}
		ask := Request{Plugin: sp.name, Version: d.Manifest.Version, What: what, Name: f.Name, Why: f.Keys.Get("why")}
		if o != nil && o.public || s.granted(entry, ask) {
			sp.grants = append(sp.grants, f.Name)
			if o != nil {
				sp.functions[f.Name] = s.traced(sp.name, f.Name, s.bounded(sp.name, o))
			} else {
				sp.functions[f.Name] = s.traced(sp.name, f.Name, s.service(f.Name, by))
				sp.providers = append(sp.providers, by)
				if needed { // what it only wants is looked for when it is called
					sp.needs = append(sp.needs, by)
				}
			}
			return
		}
		if needed {
			refused = append(refused, f.Name)
		} else {
			sp.refused = append(sp.refused, f.Name)
		}
	}
	for _, f := range d.Imports {
		consider(f, true)
	}
	for _, f := range d.Wants {
		consider(f, false)
	}
	slices.Sort(sp.grants)
	slices.Sort(sp.decided)
	if sp.err != nil {
		return
	}
	switch {
	case unknown != nil:
		var offered []string
		for name := range s.offers {
			offered = append(offered, name)
		}
		sp.err = &Error{Plugin: sp.name, Step: StepGrant, Kind: ErrImport, Found: "imports that nobody offers: " + strings.Join(unknown, ", "),
			Expected: fmt.Sprintf("functions of %s %s, or of another plug-in (provides)", s.app, s.version), Remedy: hint(unknown[0], offered)}
	default:
		s.permit(sp, entry, refused)
	}
}

func grantOf(entry *config.Plugin) []string {
	if entry == nil {
		return nil
	}
	return entry.Grant
}

// unslipped is an entry without grants that are slips: such a one is almost what is lacking, and of nothing that the plug-in asks for.
func unslipped(entry *config.Plugin, lacking []string, asked []abi.Symbol) *config.Plugin {
	if entry == nil {
		return nil
	}
	own := *entry
	own.Grant = nil
	for _, g := range entry.Grant {
		one := &config.Plugin{Grant: []string{g}}
		if abi.Nearest(g, lacking) == "" || slices.ContainsFunc(asked, func(f abi.Symbol) bool { _, ok := one.Granted(f.Name); return ok }) {
			own.Grant = append(own.Grant, g)
		}
	}
	return &own
}

// ungranted says what is to be written where, for what a plug-in was not granted.
func (s *System) ungranted(sp *spec, entry *config.Plugin, found, expected string, lacks []grants.Ask) *Error {
	e := &Error{Plugin: sp.name, Step: StepGrant, Kind: ErrGrant, Found: found, Expected: expected}
	if s.configPath == "" {
		e.Remedy = "Make the offers Public, or grant them by Grants"
		return e
	}
	var functions []string
	for _, ask := range lacks {
		if ask.What == "function" {
			functions = append(functions, ask.Item)
		}
	}
	wanted := unslipped(entry, functions, slices.Concat(sp.found.desc.Imports, sp.found.desc.Wants))
	written := grants.In(s.configName(), sp.name, entry, wanted, lacks)
	e.Remedy = strings.ToUpper(written[:1]) + written[1:]
	if entry != nil && len(functions) == len(lacks) {
		e.Remedy += " (ferrule grant)"
	}
	return e
}

// granted reports whether a plug-in gets what it asks for.
func (s *System) granted(entry *config.Plugin, r Request) bool {
	if _, ok := entry.Granted(r.Name); ok {
		return true
	}
	return s.ask(r)
}

// ask asks Grants, which is foreign: where it panics or ends its goroutine, nothing is granted.
func (s *System) ask(r Request) (granted bool) {
	if s.decide == nil {
		return false
	}
	done := make(chan struct{})
	said := any("its goroutine was ended")
	go func() {
		defer close(done)
		defer func() {
			if value := recover(); value != nil {
				granted, said = false, value
			}
		}()
		granted = s.decide(r)
		said = nil
	}()
	<-done
	if said != nil {
		s.log(slog.LevelError, "the function of Grants failed, and nothing was granted", slog.String("plugin", r.Plugin), slog.String("name", r.Name), slog.Any("err", said))
	}
	return granted
}

// bounded is a host function for one plug-in, with what its offer says of how often it may be called.
func (s *System) bounded(plugin string, o *offer) loader.HostFunc {
	if o.perSecond == 0 {
		return o.fn
	}
	q := s.quota(plugin, o)
	return func(ctx context.Context, in []byte) ([]byte, error) {
		if !q.take() {
			return nil, fmt.Errorf("%s may call %s %s a second, and has: %w", plugin, o.name, sentence.Count(o.perSecond, "time"), loader.ErrFailed)
		}
		return o.fn(ctx, in)
	}
}

// quota bounds calls within any one second: it knows when the last ones were. It is a plug-in's, all versions together.
type quota struct {
	most int

	mu     sync.Mutex
	taken  []time.Time // of the last calls, most at most; a ring once it is full
	oldest int         // where the ring begins
}

// take reports whether a call may be made now, which is then one of the last.
func (q *quota) take() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now() // under mu, so that the ring is in the order of time
	if len(q.taken) < q.most {
		q.taken = append(q.taken, now)
		return true
	}
	if now.Sub(q.taken[q.oldest]) < time.Second {
		return false
	}
	q.taken[q.oldest] = now
	q.oldest = (q.oldest + 1) % q.most
	return true
}

func (s *System) quota(plugin string, o *offer) *quota {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := plugin + "\x00" + o.name
	if s.quotas[key] == nil {
		s.quotas[key] = &quota{most: o.perSecond}
	}
	return s.quotas[key]
}

// service is a function of a plug-in for other plug-ins: whichever version runs when it is called.
func (s *System) service(name, provider string) loader.HostFunc {
	return func(ctx context.Context, in []byte) ([]byte, error) {
		f, err := s.Func(provider, name)
		if err != nil {
			return nil, fmt.Errorf("service %s: %v: %w", name, err, loader.ErrUnsupported)
		}
		out, status, err := f.attachment().try(ctx, nil, in)
		switch {
		case err != nil && f.a.entry.isGone():
			return nil, fmt.Errorf("service %s: %v: %w", name, err, loader.ErrUnsupported)
		case err != nil:
			return nil, fmt.Errorf("service %s: %w", name, err)
		case status != 0:
			return nil, status
		}
		return out, nil
	}
}

// isGone reports whether the plug-in is not there for calls.
func (e *entry) isGone() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.live == nil
}

// permit decides which files and ports a plug-in may use: what config.yaml permits, of which its manifest asks for some. What it asks for and does not have
// is an error, before anything of it runs, and so is refused: what it imports and was not granted.
func (s *System) permit(sp *spec, entry *config.Plugin, refused []string) {
	var have config.Permit
	if entry != nil {
		have = entry.Permit // the lists are copied: what is added to them is this plan's alone
		have.Read, have.Write, have.Connect, have.Listen = slices.Clone(have.Read), slices.Clone(have.Write), slices.Clone(have.Connect), slices.Clone(have.Listen)
	}
	keys := sp.found.desc.Manifest.Keys
	d := sp.found.desc
	if sp.err = s.overPermitted(sp); sp.err != nil {
		return
	}
	if sp.err = s.unpermittable(sp); sp.err != nil {
		return
	}
	var senseless []string
	var lacks []grants.Ask
	for _, name := range refused {
		lacks = append(lacks, grants.Ask{What: "function", Item: name})
	}
	var permits []string // of lacks, as the error has them
	more := int64(0)     // memory that Grants permits, more than config.yaml does; in bytes
	for _, kind := range []struct {
		name string
		add  func(item string)
	}{
		{"read", func(item string) { have.Read = append(have.Read, item) }},
		{"write", func(item string) { have.Write = append(have.Write, item) }},
		{"connect", func(item string) { have.Connect = append(have.Connect, number(item)) }},
		{"listen", func(item string) { have.Listen = append(have.Listen, number(item)) }},
	} {
		for _, item := range listOf(keys.Get("permit." + kind.name)) {
			ask := grants.Ask{What: kind.name, Item: item}
			switch {
			case ask.Senseless():
				senseless = append(senseless, ask.Said())
			case have.Covers(kind.name, item):
			case s.ask(Request{Plugin: sp.name, Version: d.Manifest.Version, What: kind.name, Name: item}):
				kind.add(item)
			default:
				lacks = append(lacks, ask)
				permits = append(permits, kind.name+" "+item)
			}
		}
	}
	if text := keys.Get("permit.memory"); text != "" {
		ask := grants.Ask{What: "memory", Item: text}
		asked, _ := strconv.ParseInt(text, 10, 64)
		limit := have.Memory
		if entry != nil && entry.Isolate != nil && entry.Isolate.Memory > 0 {
			limit = entry.Isolate.Memory // which comes first
		}
		if engine, ok := sp.engine.(engine.Permitting); ok && limit <= 0 {
			limit = engine.Memory() // which a library has not
		}
		switch {
		case ask.Senseless():
			senseless = append(senseless, ask.Said())
		case limit <= 0 || asked <= limit:
		case s.ask(Request{Plugin: sp.name, Version: d.Manifest.Version, What: "memory", Name: text}):
			more = asked
		default:
			lacks = append(lacks, ask)
			permits = append(permits, fmt.Sprintf("memory %s (of %d)", text, limit))
		}
	}
	if senseless != nil {
		sp.err = &Error{Plugin: sp.name, Step: StepGrant, Kind: ErrManifest, Found: "a manifest that says " + strings.Join(senseless, ", "),
			Expected: grants.Expected, Remedy: "Install a version of the plug-in that says so; no grant helps"}
		return
	}
	if lacks != nil {
		var found []string
		if refused != nil {
			found = append(found, "imports that it was not granted: "+strings.Join(refused, ", "))
		}
		if permits != nil {
			found = append(found, "a manifest that asks for "+strings.Join(permits, ", ")+", which it was not permitted")
		}
		expected := "a grant of each"
		switch {
		case refused == nil:
			expected = "a permit of each"
		case permits != nil:
			expected = "a grant or a permit of each"
		}
		sp.err = s.ungranted(sp, entry, strings.Join(found, ", and "), expected, lacks)
		return
	}
	sp.policy = policyOf(have, entry)
	sp.policy.Memory = max(sp.policy.Memory, more)
	for _, path := range have.Read {
		sp.permits = append(sp.permits, "read "+path)
	}
	for _, path := range have.Write {
		sp.permits = append(sp.permits, "write "+path)
	}
	for _, p := range have.Connect {
		sp.permits = append(sp.permits, "connect "+strconv.Itoa(p))
	}
	for _, p := range have.Listen {
		sp.permits = append(sp.permits, "listen "+strconv.Itoa(p))
	}
	slices.Sort(sp.permits)
	if sp.err = s.permitted(sp, entry); sp.err != nil {
		sp.permits = nil
	}
}

// policyOf is the sandbox that follows from permits.
func policyOf(have config.Permit, entry *config.Plugin) sandbox.Policy {
	p := sandbox.Policy{Read: have.Read, Write: have.Write, Memory: have.Memory}
	for _, n := range have.Connect {
		p.Connect = append(p.Connect, uint16(n))
	}
	for _, n := range have.Listen {
		p.Listen = append(p.Listen, uint16(n))
	}
	if entry != nil && entry.Isolate != nil {
		i := entry.Isolate
		if i.Memory > 0 {
			p.Memory = i.Memory
		}
		p.CPU, p.Processes, p.Files, p.BestEffort = i.CPU, i.Processes, i.Files, i.Sandbox == config.SandboxBestEffort
	}
	return p
}

// number reads a port; -1 is no port.
func number(item string) int {
	n, err := strconv.ParseUint(item, 10, 16)
	if err != nil {
		return -1
	}
	return int(n)
}
