package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/internal/grants"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// Opener opens what the url of a registry names; ok is false where the url begins with what it does not know. Those that there are: files.Open (folders and
// bundles), release.Pages (https) and, in a module of its own, oci.Registries.
type Opener func(config.Registry) (source registry.Source, ok bool, err error)

// OpenSource opens what a url names, by the first opener that knows it. The error is a *registry.Error.
func OpenSource(r config.Registry, openers ...Opener) (registry.Source, error) {
	for _, open := range openers {
		source, ok, err := open(r)
		if err != nil {
			return nil, err
		}
		if ok {
			return source, nil
		}
	}
	scheme, _, _ := strings.Cut(r.URL, "://")
	return nil, &registry.Error{Source: r.URL, Kind: registry.ErrUnavailable, Found: "an address that begins with " + scheme + "://", Expected: "one that this application can open",
		Remedy: "Correct the url of registry in config.yaml, or have the application open such addresses"}
}

// Configured returns the options that a config.yaml at path says: the lock beside it, the sources and mirrors that its registry names, the keys that count, what is
// revoked, and what each plug-in was granted. The application, the store and the rest are the caller's to add. Nothing is sent.
func Configured(c *config.Config, openers ...Opener) (Options, error) {
	o := Options{Lock: LockOf(c.Path)}
	trust, err := sign.TrustOf(c)
	if err != nil {
		return o, err
	}
	o.Trust = trust
	if c.Registry.URL != "" {
		source, err := OpenSource(c.Registry, openers...)
		if err != nil {
			return o, err
		}
		o.Sources = []registry.Source{source}
	}
	for _, url := range c.Registry.Mirrors {
		r := c.Registry
		r.URL = url
		mirror, err := OpenSource(r, openers...)
		if err != nil {
			return o, err
		}
		o.Mirrors = append(o.Mirrors, mirror)
	}
	if o.Sources != nil {
		o.Index = indexOf(o.Sources[0], o.Mirrors, trust, c.Registry.Index)
	}
	o.Granted = func(plugin, _ string, ask Ask) bool { return Grants(c, plugin, ask) }
	o.HowToGrant = HowToGrant(c)
	o.Ranges = map[string]string{}
	for _, w := range Wants(c, nil) {
		o.Ranges[w.Name] = w.Range
	}
	return o, nil
}

// LockName is the name of the lock of a file that is named config.yaml, beside it.
const LockName = "ferrule.lock"

// LockOf returns where the lock of a config.yaml lies, in its folder: that of config.yaml and config.yml is LockName, and that of shop.yaml is shop.lock. Two files in one
// folder have one lock where they differ in what is behind the dot alone, and where one is config.yaml and the other ferrule.yaml.
func LockOf(configPath string) string {
	folder, base := filepath.Split(configPath)
	name := strings.TrimSuffix(base, filepath.Ext(base)) + ".lock"
	if name == "config.lock" {
		name = LockName
	}
	return folder + name // not joined, as a .. may be behind a symbolic link
}

// Wants returns what a config.yaml wants to have installed: the plug-ins that it enables, but those of Dev, and those that here reports to be there already; it may be nil.
func Wants(c *config.Config, here func(name string) bool) []Want {
	var all []Want
	for _, p := range c.Plugins {
		if _, dev := c.Dev[p.Name]; dev || !p.Enabled || p.Sidecar != nil || here != nil && here(p.Name) {
			continue
		}
		all = append(all, Want{Name: p.Name, Range: p.Version})
	}
	return all
}

// Grants reports whether a config.yaml lets a plug-in have something that it asks for. Memory that the file does not bound is let pass: what bounds it may be the application's, such as the
// limit of its engine for WebAssembly modules, which the file does not say. By that the plug-in may be refused when it is to start.
func Grants(c *config.Config, plugin string, ask Ask) bool {
	p := c.Plugin(plugin)
	switch {
	case p == nil:
		return ask.What == "memory" && !grants.Ask(ask).Senseless() // which nothing in the file bounds
	case ask.What == "function" || ask.What == "service":
		_, ok := p.Granted(ask.Item)
		return ok
	case ask.What == "memory":
		n, err := strconv.ParseInt(ask.Item, 10, 64)
		limit := p.Permit.Memory
		if p.Isolate != nil && p.Isolate.Memory > 0 {
			limit = p.Isolate.Memory // which comes first
		}
		return err == nil && (limit <= 0 || n <= limit) // it bounds, and gives nothing
	}
	return p.Permit.Covers(ask.What, ask.Item)
}

// HowToGrant returns what says how a plug-in is granted what it lacks: what to write in its entry of a config.yaml, with all that stands there already.
func HowToGrant(c *config.Config) func(plugin string, lacks []Ask) string {
	return HowToGrantWith(c, c)
}

// HowToGrantWith is HowToGrant for a file that is to say more once all has gone well: wanted is what it is to say then, such as the range of a plug-in that is to be added.
func HowToGrantWith(file, wanted *config.Config) func(plugin string, lacks []Ask) string {
	return func(plugin string, lacks []Ask) string {
		var all []grants.Ask
		for _, ask := range lacks {
			all = append(all, grants.Ask(ask))
		}
		now, want := file.Plugin(plugin), wanted.Plugin(plugin)
		remedy := "If you trust it with that, " + grants.In(filepath.Base(file.Path), plugin, now, want, all)
		switch {
		case now != nil:
			return remedy
		case want != nil:
			return remedy + ". Then: ferrule install"
		}
		return remedy + ". Then try again" // another one requires it, which would not come by an install
	}
}

// indexed is a source that may have an index.
type indexed interface {
	// Index fetches the source's index.
	Index() index.Fetcher
}

// none is what a source without an index has revoked.
type none struct{}

func (none) Revoked(string, string, ...string) error { return nil }
func (none) RevokedKey(string) error                 { return nil }
func (none) Warnings() []*registry.Error             { return nil }

// indexOf is the index of a source; nil where it can have none. name is the registry's, "" where config.yaml does not say it: then it is that of the index that was seen first. Where the source
// cannot be reached, a mirror's does, if it is signed, of a name that is known already, and no older than the one that was seen: a mirror does not say which registry it is a mirror of. An index that
// nobody has signed is taken for what it revokes, and is not noted: it could have a serial that no other one could follow.
func indexOf(source registry.Source, mirrors []registry.Source, trust *sign.Trust, name string) *Index {
	from, ok := source.(indexed)
	if !ok {
		return nil
	}
	signed := trust.FirstUse("") == "" // there is a key that could have signed it
	return &Index{Source: source.String(), Open: func(ctx context.Context, seen lock.Index) (Revocations, lock.Index, error) {
		o := index.Options{Name: name, Seen: seen}
		if signed {
			o.Verifier = trust
		}
		x, err := index.Open(ctx, from.Index(), o)
		switch {
		case errors.Is(err, registry.ErrNotFound) && seen == (lock.Index{}) && name == "":
			return none{}, seen, nil
		case errors.Is(err, registry.ErrNotFound):
			expected := "one of serial " + strconv.FormatUint(seen.Serial, 10) + " or a later one, which was there before"
			if seen == (lock.Index{}) {
				expected = "that of " + name + ", which registry.index of config.yaml names"
			}
			return nil, seen, &registry.Error{Source: source.String(), Kind: registry.ErrStale, Found: "no index", Expected: expected,
				Remedy: "Ask whoever runs the registry; nothing new is installed until it is there"}
		case errors.Is(err, registry.ErrUnavailable) && signed && ctx.Err() == nil:
			if x, err = mirrored(ctx, mirrors, o, err); err != nil {
				return nil, seen, err
			}
		case err != nil:
			return nil, seen, err
		}
		if !signed {
			return x, seen, nil
		}
		return x, x.Seen(), nil
	}}
}

// mirrored opens the first index of a mirror that is to be believed. unreachable is why the source's is not to be had.
func mirrored(ctx context.Context, mirrors []registry.Source, o index.Options, unreachable error) (*index.Index, error) {
	all := []error{unreachable}
	if o.Name == "" && o.Seen.Name == "" {
		mirrors = nil
		all = append(all, errors.New("no mirror was asked, since neither registry.index of config.yaml nor the lock says the registry's name"))
	}
	for _, m := range mirrors {
		from, ok := m.(indexed)
		if !ok {
			continue
		}
		x, err := index.Open(ctx, from.Index(), o)
		if err == nil {
			return x, nil
		}
		all = append(all, err)
	}
	return nil, &registry.Error{Kind: registry.ErrUnavailable, Found: "no index of the registry's, neither there nor in a mirror", Expected: "a signed one in one of them, which says what was revoked", Err: errors.Join(all...),
		Remedy: "Try again when the registry can be reached, or name a mirror in registry.mirrors that has its index, too: the repository ferrule-index, or index.json, index.json.minisig and the folder index"}
}

// OpenIndex opens the index of a config.yaml's registry, to search in. It has the name that config.yaml says, or else the lock; where a lock is, it is no older than the one seen before. Shards are kept in the user's cache folder.
func OpenIndex(ctx context.Context, c *config.Config, openers ...Opener) (*index.Index, error) {
	source, err := OpenSource(c.Registry, openers...)
	if err != nil {
		return nil, err
	}
	from, ok := source.(indexed)
	if !ok {
		return nil, &registry.Error{Source: source.String(), Kind: registry.ErrNotFound, Found: "a source that has no index", Expected: "one that can be searched"}
	}
	trust, err := sign.TrustOf(c)
	if err != nil {
		return nil, err
	}
	o := index.Options{Name: c.Registry.Index}
	if trust.FirstUse("") == "" {
		o.Verifier = trust
	}
	if c.Path != "" {
		if l, err := lock.Load(LockOf(c.Path)); err == nil {
			o.Seen = l.Indexes[source.String()]
		}
	}
	if cache, err := os.UserCacheDir(); err == nil {
		sum := sha256.Sum256([]byte(source.String()))
		o.Cache = filepath.Join(cache, "ferrule", "index", hex.EncodeToString(sum[:8]))
	}
	x, err := index.Open(ctx, from.Index(), o)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, &registry.Error{Source: source.String(), Kind: registry.ErrNotFound, Found: "no index", Expected: index.RootFile + " and its other files, which a search reads",
			Remedy: "Ask whoever runs the registry to publish one (ferrule index), or name the plug-in to ferrule install"}
	}
	return x, err
}
