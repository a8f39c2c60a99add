package layout

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Template is where the files of a release are: an address with placeholders. It is immutable.
type Template struct {
	files string // the address of a file
	index string // of the index; "" where there can be none
	page  string // of the release's folder
	tag   bool   // whether {tag} is in it
}

// Where is what the placeholders of a Template stand for.
type Where struct {
	Plugin, Version, Tag, Platform string
	Kind                           registry.Kind
}

var (
	placeholder = regexp.MustCompile(`\{[^{}]*\}`)
	known       = []string{"{tag}", "{plugin}", "{version}", "{os}", "{arch}", "{ext}"}
	ofPlatform  = regexp.MustCompile(`\{(?:os|arch|ext)\}`)
	namesFile   = regexp.MustCompile(`\{ext\}|\.(?:so|dll|dylib|wasm|js|py|exe)$`)
)

// download is by what a release page is known on which releases/latest/download/ leads to the newest release: GitHub's and those of servers made like it.
const download = "/releases/download/{tag}"

// ParseTemplate reads an address with placeholders: of a file where its last part has {ext} or ends like a file, otherwise of a folder. {name} and
// {repository} are replaced already.
func ParseTemplate(text string) (*Template, error) {
	for _, p := range placeholder.FindAllString(text, -1) {
		if !slices.Contains(known, p) {
			return nil, malformed("placeholder", p, "{name}, {repository}, "+strings.Join(known, ", "))
		}
	}
	if strings.ContainsAny(placeholder.ReplaceAllString(text, ""), "{}#") {
		return nil, &registry.Error{Kind: registry.ErrMalformed, Found: "a {, } or # by itself in the address", Expected: "placeholders such as {tag}, and no fragment"}
	}
	path, query, _ := strings.Cut(text, "?")
	if query != "" {
		query = "?" + query
	}
	path = strings.TrimRight(path, "/")
	page, file := path, "{plugin}-{os}-{arch}.{ext}"
	if last := strings.LastIndexByte(path, '/'); namesFile.MatchString(path[last+1:]) {
		page, file = path[:max(last, 0)], path[last+1:]
	}
	shared := page // the folder that all platforms have in common
	if loc := ofPlatform.FindStringIndex(shared); loc != nil {
		shared = shared[:max(strings.LastIndexByte(shared[:loc[0]], '/'), 0)]
	}
	t := &Template{files: page + "/" + file + query, page: page + "/{file}" + query, index: shared + "/{plugin}.json" + query,
		tag: strings.Contains(text, "{tag}")}
	return t, nil
}

// expand replaces the placeholders. What they stand for was checked: nothing in it has a meaning in a path.
func expand(text string, w Where) string {
	system, arch, ok := strings.Cut(w.Platform, "/")
	if !ok {
		arch = system
	}
	e := ext(w.Kind, system)
	if !ok {
		text = strings.ReplaceAll(text, "{plugin}-{os}-{arch}", "{plugin}-{os}")
	}
	if e == "" {
		text = strings.ReplaceAll(text, ".{ext}", "")
	}
	version := w.Version
	if version == "" {
		version = Latest
	}
	path, query, asks := strings.Cut(text, "?")
	values := []string{"{tag}", w.Tag, "{plugin}", w.Plugin, "{version}", version, "{os}", system, "{arch}", arch, "{ext}", e}
	path = strings.NewReplacer(values...).Replace(path)
	if !asks {
		return path
	}
	for i := 1; i < len(values); i += 2 {
		values[i] = url.QueryEscape(values[i])
	}
	return path + "?" + strings.NewReplacer(values...).Replace(query)
}

// Place is where something lies: a file, a signature, an index.
type Place struct {
	Addresses []string // to be asked in this order: of a page like GitHub's the newest release has two
	template  string   // of them
	where     Where
}

func (t *Template) place(text string, w Where) Place {
	p := Place{template: text, where: w}
	if w.Tag == Latest && strings.Contains(text, download+"/") {
		p.Addresses = append(p.Addresses, expand(strings.Replace(text, download+"/", "/releases/latest/download/", 1), w))
	}
	p.Addresses = append(p.Addresses, expand(text, w))
	return p
}

// File returns the place of a file, and of what lies beside it under its name and a suffix. url is what an index says; "" where it does not.
func (t *Template) File(w Where, url, suffix string) Place {
	text := t.files
	if url != "" {
		text = strings.Replace(t.page, "{file}", url, 1)
	}
	path, query, asks := strings.Cut(text, "?")
	text = path + suffix
	if asks {
		text += "?" + query
	}
	return t.place(text, w)
}

// Index returns the place of a plug-in's index.
func (t *Template) Index(w Where) Place { return t.place(t.index, w) }

// Tagged reports whether a tag changes what an address says.
func (t *Template) Tagged() bool { return t.tag }

// Reached returns the tag that one of the addresses has by which the place was reached; "" where none has one. On a page like GitHub's the owner and the
// repository may be others: they may have been renamed.
func (p Place) Reached(hops []string) string {
	if len(hops) == 0 || !strings.Contains(p.template, tagged) {
		return ""
	}
	w := p.where
	w.Tag = tagged
	want, err := url.Parse(expand(p.template, w))
	if err != nil {
		return ""
	}
	const page = "/releases/download/"
	_, end, renamed := strings.Cut(want.Path, page)
	renamed = renamed && strings.Contains(end, tagged)
	for _, hop := range hops {
		at, err := url.Parse(hop)
		if err != nil || at.Host != want.Host {
			continue
		}
		tag := tagIn(want.Path, at.Path)
		if i := strings.Index(at.Path, page); tag == "" && renamed && i > 1 {
			tag = tagIn(end, at.Path[i+len(page):])
		}
		if tag != Latest && CheckTag(tag) == nil {
			return tag
		}
	}
	return ""
}

const tagged = "{tag}"

// tagIn returns what stands for {tag} in a path of a pattern: the same wherever the pattern has it, so its length is known. It is "" where the path is not
// of the pattern, and where the pattern has no {tag}, as an address that has it in its query only.
func tagIn(pattern, path string) string {
	before, _, _ := strings.Cut(pattern, tagged)
	rest, ok := strings.CutPrefix(path, before)
	n := strings.Count(pattern, tagged)
	length := len(path) - len(pattern) + n*len(tagged)
	if !ok || n == 0 || length < 0 || length%n != 0 || length/n > len(rest) {
		return ""
	}
	tag := rest[:length/n]
	if strings.ReplaceAll(pattern, tagged, tag) != path {
		return ""
	}
	return tag
}
