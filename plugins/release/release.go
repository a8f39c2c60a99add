// Package release reads release pages: addresses with placeholders, below which the files of a release lie. Any web server will do, and so do the pages
// of code hosts. What is asked for where, and with which credentials, is in docs/distribution.md.
//
// Nothing that a server sends is believed: each answer is bounded in time and size, each redirect is checked. Whether the bytes are right is known by
// the lock's digest and the signature alone.
package release

import (
	"net/url"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/internal/layout"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Pages opens what a registry's url names, where it begins with https:// or http://: a host gives it to those who do not import net/http themselves. ok
// is false where the url begins with something else.
func Pages(r config.Registry) (source registry.Source, ok bool, err error) {
	scheme, _, _ := strings.Cut(r.URL, "://")
	if scheme != "https" && scheme != "http" {
		return nil, false, nil
	}
	source, err = New(r)
	return source, true, err
}

// New returns the release page that a registry's url names, with its name, repository and tag. Credentials are read from the environment and from
// .netrc at the first request, and are in no error and in no String. Nothing is asked of the page yet. The source may be used by several goroutines at a time.
func New(r config.Registry) (registry.Source, error) { return open(r, func(*client) {}) }

// open is New; change is for tests, which are not patient.
func open(r config.Registry, change func(*client)) (registry.Source, error) {
	wrong := func(found, expected, remedy string) error {
		return &registry.Error{Kind: registry.ErrMalformed, Found: found, Expected: expected, Remedy: remedy}
	}
	text := r.URL
	for placeholder, value := range map[string]string{"{name}": r.Name, "{repository}": r.Repository} {
		if !strings.Contains(text, placeholder) {
			continue
		}
		key := "registry." + strings.Trim(placeholder, "{}")
		if value == "" {
			return nil, wrong("no "+key, "what "+placeholder+" of the url stands for", "Add it to config.yaml")
		}
		if layout.CheckTag(value) != nil {
			return nil, wrong(key+" "+layout.Short(value), "letters, digits, ., -, +, _, ~ or @, parts with a / between them", "Correct it in config.yaml")
		}
		text = strings.ReplaceAll(text, placeholder, value)
	}
	c, address, name, err := reach(text)
	if err != nil {
		return nil, err
	}
	template, err := layout.ParseTemplate(address)
	if err != nil {
		return nil, err
	}
	change(c)
	source, err := layout.New(name, template, r.Tag, c)
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(above(address))
	if err != nil {
		return nil, wrong("an address that is none", "https:// or http://, a host and a path", "Correct registry.url")
	}
	base.RawQuery = fixed(address)
	return &indexed{source, &pages{c, base, above(name)}}, nil
}

// indexed is a release page with what fetches its index.
type indexed struct {
	*layout.Source
	index *pages
}

// Index fetches the registry's index from the folder of the address that is the same for all releases: that of https://plugins.example/acme/{tag} from
// https://plugins.example/acme. What the address' query has without placeholders is sent, too.
func (p *indexed) Index() index.Fetcher { return p.index }

// above is an address up to what differs from release to release.
func above(address string) string {
	address, _, _ = strings.Cut(address, "?")
	if fixed, _, ok := strings.Cut(address, "{"); ok {
		address = fixed[:strings.LastIndexByte(fixed, '/')]
	}
	return strings.TrimSuffix(address, "/")
}

// fixed is what an address' query has that is the same for all releases, such as a key.
func fixed(address string) string {
	_, query, _ := strings.Cut(address, "?")
	return strings.Join(slices.DeleteFunc(strings.Split(query, "&"), func(part string) bool { return strings.Contains(part, "{") }), "&")
}

// reach makes the client of an address's origin. It returns the address without credentials, and as it is shown.
func reach(text string) (c *client, address, name string, err error) {
	wrong := func(found, expected, remedy string) (*client, string, string, error) {
		return nil, "", "", refused(registry.ErrMalformed, found, expected, remedy)
	}
	scheme, rest, _ := strings.Cut(text, "://")
	authority, _, _ := strings.Cut(rest, "/")
	authority, _, _ = strings.Cut(authority, "?")
	if scheme != "https" && scheme != "http" || strings.Contains(authority, "{") {
		return wrong("an address of a release page that is none", "https:// or http://, and a host without placeholders", "Correct registry.url")
	}
	origin, err := url.Parse(scheme + "://" + authority)
	if err != nil || origin.Hostname() == "" {
		return wrong("an address without a host", "https://, a host and a path", "Correct registry.url") // the error would show a password
	}
	name, _, _ = strings.Cut(text, "?") // there may be a key in the query
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		name = strings.Replace(name, authority[:i+1], "", 1)
	}
	return newClient(origin), scheme + "://" + origin.Host + rest[len(authority):], name, nil
}
