package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Fetcher reads what lies at an address. Its errors are *registry.Error, ErrNotFound where nothing lies there. hops are the addresses that it was sent on
// to, in their order, also where it ends in an error.
type Fetcher interface {
	// Text reads all of a small file: of more than limit bytes it is an error.
	Text(ctx context.Context, address string, limit int64) (text []byte, hops []string, err error)
	// Probe asks whether a file is there, and for its size: -1 where nobody says.
	Probe(ctx context.Context, address string) (size int64, hops []string, err error)
	// Open is Source.Open. What it reads is at most as much as want says.
	Open(ctx context.Context, address string, from int64, kind registry.Kind, want registry.File) (body io.ReadCloser, at, size int64, err error)
}

// Source is a registry.Source of what lies in this layout.
type Source struct {
	name     string
	template *Template
	tag      string // Latest: any release
	fetch    Fetcher

	mu      sync.Mutex
	indexes map[string]*reached // by plug-in, as they were last seen; of the newest release only
}

// reached is what was found of a plug-in under a tag.
type reached struct {
	index *Index // nil: there is none
	tag   string // the tag that was reached; Latest where nobody says
}

// New returns the source of what is at template, under a tag. name is what its String returns.
func New(name string, template *Template, tag string, fetch Fetcher) (*Source, error) {
	if tag == "" {
		tag = Latest
	}
	if err := CheckTag(tag); err != nil {
		return nil, of(err, name, "", "")
	}
	return &Source{name: name, template: template, tag: tag, fetch: fetch, indexes: map[string]*reached{}}, nil
}

// of says in an error what it is about.
func of(err error, source, plugin, version string) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*registry.Error](err)
	if !ok {
		return &registry.Error{Source: source, Plugin: plugin, Version: version, Kind: registry.ErrUnavailable, Err: err}
	}
	said := *e
	said.Source, said.Plugin, said.Version = source, plugin, version
	return &said
}

// String implements registry.Source.
func (s *Source) String() string { return s.name }

// Forget drops what was seen of a plug-in, because it has changed.
func (s *Source) Forget(plugin string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.indexes, plugin)
}

// text reads what lies at a place. tag is the one that it was reached by; "" where that is not known.
func (s *Source) text(ctx context.Context, p Place, limit int64) (text []byte, tag string, err error) {
	for _, address := range p.Addresses {
		var hops []string
		text, hops, err = s.fetch.Text(ctx, address, limit)
		tag = p.Reached(hops)
		if err == nil || !errors.Is(err, registry.ErrNotFound) || tag != "" {
			return text, tag, err
		}
	}
	return nil, "", err
}

// at reads a plug-in's index under a tag.
func (s *Source) at(ctx context.Context, w Where) (*reached, error) {
	place := s.template.Index(w)
	text, tag, err := s.text(ctx, place, MaxIndex)
	if tag == "" {
		tag = w.Tag
	}
	if errors.Is(err, registry.ErrNotFound) {
		return &reached{tag: tag}, nil
	}
	if err != nil {
		return nil, err
	}
	x, err := ParseIndex(text)
	if err != nil {
		return nil, err
	}
	if x.Name != w.Plugin {
		return nil, &registry.Error{Kind: registry.ErrName, Found: "an index of " + x.Name, Expected: "one of " + w.Plugin}
	}
	for _, r := range x.Releases {
		if r.Tag == "" {
			r.Tag = tag
		}
	}
	if s.tag != Latest && s.template.Tagged() { // that release and no other
		x.Releases = slices.DeleteFunc(x.Releases, func(r *registry.Release) bool { return r.Tag != s.tag })
	}
	return &reached{index: x, tag: tag}, nil
}

// newest reads the index of all releases.
func (s *Source) newest(ctx context.Context, w Where) (*reached, error) {
	found, err := s.at(ctx, w)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.indexes) > 100 {
		clear(s.indexes)
	}
	s.indexes[w.Plugin] = found
	return found, nil
}

// Versions implements registry.Source.
func (s *Source) Versions(ctx context.Context, name string) ([]string, error) {
	versions, err := s.versions(ctx, name)
	return versions, of(err, s.name, name, "")
}

func (s *Source) versions(ctx context.Context, name string) ([]string, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	w := Where{Plugin: name, Tag: s.tag}
	found, err := s.newest(ctx, w)
	if err != nil {
		return nil, err
	}
	if found.index == nil {
		r, err := s.without(ctx, w, found.tag)
		if err != nil {
			return nil, err
		}
		return []string{r.Version}, nil
	}
	var versions []string
	for _, r := range found.index.Releases {
		versions = append(versions, r.Version)
	}
	if versions == nil {
		return nil, s.none(found, "")
	}
	return versions, nil
}

// none is the error for a version that an index does not have.
func (s *Source) none(found *reached, version string) error {
	e := &registry.Error{Kind: registry.ErrNotFound, Found: "no release in the index", Remedy: "Ask for another version"}
	if n := len(found.index.Releases); n > 0 {
		e.Found = fmt.Sprintf("%s, the newest is %s", sentence.Count(n, "release"), found.index.Releases[0].Version)
	}
	switch {
	case s.tag != Latest && s.template.Tagged():
		e.Remedy = "The registry's tag is " + s.tag + ": there is no other release than that one. Ask for another version, or for the tag latest"
	case version == "":
		e.Expected = "one that is no prerelease"
		e.Remedy = "Ask for a version by its number"
	}
	return e
}

// Release implements registry.Source.
func (s *Source) Release(ctx context.Context, name, version string) (*registry.Release, error) {
	r, err := s.release(ctx, name, version)
	return r, of(err, s.name, name, version)
}

func (s *Source) release(ctx context.Context, name, version string) (*registry.Release, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if version != "" {
		if err := CheckVersion(version); err != nil {
			return nil, err
		}
		s.mu.Lock()
		known := s.indexes[name]
		s.mu.Unlock()
		if known != nil && known.index != nil { // a release does not change, once it is there
			if r := known.index.Find(version); r != nil {
				return r, nil
			}
		}
	}
	w := Where{Plugin: name, Tag: s.tag}
	found, err := s.newest(ctx, w)
	if err != nil {
		return nil, err
	}
	if found.index != nil {
		if r := found.index.Find(version); r != nil {
			return r, nil
		}
		return nil, s.none(found, version)
	}
	w.Version = version
	if s.tag == Latest && version != "" && s.template.Tagged() {
		return s.tagged(ctx, w, found.tag)
	}
	return s.without(ctx, w, found.tag)
}

// tagged looks for one version where nothing lists them: under the tags that it may have, then under the newest one.
func (s *Source) tagged(ctx context.Context, w Where, newest string) (*registry.Release, error) {
	for _, tag := range []string{"v" + w.Version, w.Version} {
		w.Tag = tag
		found, err := s.at(ctx, w)
		if err != nil {
			return nil, err
		}
		if found.index != nil {
			if r := found.index.Find(w.Version); r != nil {
				return r, nil
			}
		}
		r, err := s.without(ctx, w, tag)
		if err == nil && r.Version == "" {
			r.Version = w.Version // its tag says so
		}
		if err == nil || !errors.Is(err, registry.ErrNotFound) {
			return r, err
		}
	}
	return s.without(ctx, w, newest)
}

// without finds a release that no index describes: which of the usual files are there, and what the signature's comment says of it.
func (s *Source) without(ctx context.Context, w Where, tag string) (*registry.Release, error) {
	w.Tag = tag
	r := &registry.Release{Name: w.Plugin, Files: map[string]registry.File{}}
	if s.template.Tagged() {
		r.Tag = tag
	}
	seen := map[string]bool{} // addresses: a template may have nothing of the platform in it
	this := registry.ThisPlatform()
	first := "" // what was asked for first
	for _, platform := range slices.Concat([]string{this}, Platforms, []string{registry.AnyPlatform}) {
		w.Platform, w.Kind, w.Tag = platform, registry.Library, tag
		if platform == registry.AnyPlatform {
			if len(r.Files) > 0 {
				break
			}
			w.Kind = registry.Wasm
		}
		place := s.template.File(w, "", "")
		address := place.Addresses[len(place.Addresses)-1]
		if seen[address] {
			continue
		}
		seen[address] = true
		if first == "" {
			first = address
		}
		there, reached, err := s.probe(ctx, place)
		if err != nil {
			return nil, err
		}
		if reached != "" && tag == Latest {
			tag, r.Tag = reached, reached // what follows is asked of the same release
		}
		if !there {
			continue
		}
		r.Files[platform], r.Kind = registry.File{}, w.Kind
		if r.Version != "" {
			continue
		}
		w.Tag = tag
		text, _, err := s.text(ctx, s.template.File(w, "", ".minisig"), registry.MaxSignature)
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			return nil, err
		}
		name, version, _, ok := Comment(text)
		if !ok {
			continue
		}
		if name != w.Plugin {
			return nil, &registry.Error{Kind: registry.ErrName, Found: "a signature of " + name + " " + version, Expected: "one of " + w.Plugin}
		}
		if w.Version != "" && w.Version != version {
			return nil, &registry.Error{Kind: registry.ErrNotFound, Found: "version " + version, Expected: w.Version, Remedy: "Publish an index with the releases, or set the registry's tag to the one of that version"}
		}
		r.Version = version
	}
	if len(r.Files) == 0 {
		remedy := "Look at the registry's url, name, repository and tag, and at the plug-in's name"
		if !s.template.tag {
			remedy = "Write {tag} in the registry's url where each release has a place of its own (https://host/{tag}), and look at the plug-in's name"
		}
		return nil, &registry.Error{Kind: registry.ErrNotFound, Found: "neither " + IndexName(w.Plugin) + " nor a file for any platform",
			Expected: first[strings.LastIndexByte(first, '/')+1:] + " or others of its kind", Remedy: remedy}
	}
	return r, nil
}

func (s *Source) probe(ctx context.Context, p Place) (there bool, tag string, err error) {
	for _, address := range p.Addresses {
		_, hops, err := s.fetch.Probe(ctx, address)
		tag := p.Reached(hops)
		if err == nil {
			return true, tag, nil
		}
		if !errors.Is(err, registry.ErrNotFound) {
			return false, "", err
		}
		if tag != "" {
			return false, tag, nil
		}
	}
	return false, "", nil
}

// where is the place of a release's file, or of what has a suffix beside it.
func (s *Source) where(r *registry.Release, platform, suffix string) (Place, registry.File, error) {
	none := Place{}
	f, ok := r.Files[platform]
	if !ok {
		return none, f, &registry.Error{Kind: registry.ErrNotFound, Found: "files for " + strings.Join(slices.Sorted(maps.Keys(r.Files)), ", "), Expected: "one for " + Short(platform)}
	}
	w := Where{Plugin: r.Name, Version: r.Version, Tag: r.Tag, Platform: platform, Kind: r.Kind}
	if w.Tag == "" {
		w.Tag = s.tag
	}
	errs := []error{CheckName(r.Name), CheckTag(w.Tag), CheckPlatform(platform)}
	if r.Version != "" {
		errs = append(errs, CheckVersion(r.Version))
	}
	if f.URL != "" {
		errs = append(errs, checkURL(f.URL))
	}
	for _, err := range errs { // it may come from a lock that somebody wrote
		if err != nil {
			return none, f, err
		}
	}
	return s.template.File(w, f.URL, suffix), f, nil
}

// Open implements registry.Source.
func (s *Source) Open(ctx context.Context, r *registry.Release, platform string, from int64) (body io.ReadCloser, at, size int64, err error) {
	place, f, err := s.where(r, platform, "")
	if err == nil && from < 0 {
		err = &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("the offset %d", from), Expected: "0 or more"}
	}
	if err != nil {
		return nil, 0, 0, of(err, s.name, r.Name, r.Version)
	}
	for _, address := range place.Addresses {
		body, at, size, err = s.fetch.Open(ctx, address, from, r.Kind, f)
		if !errors.Is(err, registry.ErrNotFound) {
			break
		}
	}
	if err != nil {
		return nil, 0, 0, of(err, s.name, r.Name, r.Version)
	}
	return &said{body, s, r}, at, size, nil
}

// said is a body whose errors say what they are about.
type said struct {
	io.ReadCloser
	s *Source
	r *registry.Release
}

func (b *said) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = of(err, b.s.name, b.r.Name, b.r.Version)
	}
	return n, err
}

// Signature implements registry.Source.
func (s *Source) Signature(ctx context.Context, r *registry.Release, platform string) ([]byte, error) {
	place, _, err := s.where(r, platform, ".minisig")
	if err != nil {
		return nil, of(err, s.name, r.Name, r.Version)
	}
	text, _, err := s.text(ctx, place, registry.MaxSignature)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil
	}
	if err == nil && !strings.HasPrefix(string(text), "untrusted comment:") {
		err = &registry.Error{Kind: registry.ErrMalformed, Found: "a signature that is none", Expected: "a text that begins with untrusted comment:"}
	}
	if err != nil {
		return nil, of(err, s.name, r.Name, r.Version)
	}
	return text, nil
}
