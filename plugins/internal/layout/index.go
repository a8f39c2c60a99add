package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Index is what a page says of one plug-in: its releases, each with all platforms.
type Index struct {
	Format   int                 `json:"format"` // 1
	Name     string              `json:"name"`
	Releases []*registry.Release `json:"releases"` // the newest first; no two have one version
}

// ParseIndex reads an index. It takes nothing but what Text writes, in any order and with any space between: a field that it does not know, one that is
// there twice, and a value that is none are errors, so that nobody reads something else out of it.
func ParseIndex(text []byte) (*Index, error) {
	fault := func(err error) error {
		return &registry.Error{Kind: registry.ErrMalformed, Found: "an index that is none", Expected: `{"format": 1, "name": …, "releases": […]}`, Err: err}
	}
	if len(text) > MaxIndex {
		return nil, fault(fmt.Errorf("it has more than %d bytes", MaxIndex))
	}
	if err := doubles(text); err != nil {
		return nil, fault(err)
	}
	var format struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &format); err == nil && format.Format > 1 {
		return nil, &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("an index of format %d", format.Format), Expected: "format 1",
			Remedy: "A newer version of this program may read it"}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	x := new(Index)
	if err := d.Decode(x); err != nil {
		return nil, fault(err)
	}
	if x.Format != 1 {
		return nil, fault(fmt.Errorf("found format %d", x.Format))
	}
	if err := x.check(); err != nil {
		return nil, fault(err)
	}
	x.sort()
	return x, nil
}

func (x *Index) check() error {
	if err := CheckName(x.Name); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, r := range x.Releases {
		if r == nil {
			return fmt.Errorf("releases[%d]: found null", i)
		}
		if err := CheckRelease(r); err != nil {
			return fmt.Errorf("releases[%d]: %w", i, err)
		}
		switch {
		case r.Name != x.Name:
			return fmt.Errorf("releases[%d]: found the name %s, expected %s", i, r.Name, x.Name)
		case seen[r.Version]:
			return fmt.Errorf("releases[%d]: found %s for the second time", i, r.Version)
		}
		seen[r.Version] = true
	}
	return nil
}

// CheckRelease returns an error where a release has something that none can have.
func CheckRelease(r *registry.Release) error {
	errs := []error{CheckName(r.Name), CheckVersion(r.Version)}
	if r.Tag != "" {
		errs = append(errs, CheckTag(r.Tag))
		if first, _, _ := strings.Cut(r.Tag, "/"); strings.EqualFold(first, Latest) {
			errs = append(errs, malformed("tag", r.Tag, "the tag of one release"))
		}
	}
	if r.Kind != "" && !slices.Contains(registry.Kinds(), r.Kind) {
		errs = append(errs, malformed("kind", string(r.Kind), "library, wasm, script, program, javascript or python"))
	}
	if r.Digest != "" && registry.Hex(r.Digest) == "" {
		errs = append(errs, malformed("digest", r.Digest, "sha256: and 64 hexadecimal digits"))
	}
	if len(r.Files) == 0 {
		errs = append(errs, errors.New("found no files"))
	}
	for platform, f := range r.Files {
		errs = append(errs, CheckPlatform(platform))
		if registry.Hex(f.Digest) == "" {
			errs = append(errs, malformed("digest", f.Digest, "sha256: and 64 hexadecimal digits"))
		}
		if f.Size <= 0 || f.Size > MaxFile {
			errs = append(errs, fmt.Errorf("found a file of %s, expected 1 to %d", sentence.Count(f.Size, "byte"), int64(MaxFile)))
		}
		if f.URL != "" {
			errs = append(errs, checkURL(f.URL))
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Text is the index as it is stored: the same bytes for the same releases.
func (x *Index) Text() ([]byte, error) {
	x.Format = 1
	if err := x.check(); err != nil {
		return nil, err
	}
	x.sort()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(x); err != nil {
		return nil, err
	}
	if b.Len() > MaxIndex {
		return nil, &registry.Error{Kind: registry.ErrMalformed, Plugin: x.Name, Found: fmt.Sprintf("an index of %s", sentence.Count(b.Len(), "byte")),
			Expected: fmt.Sprintf("at most %d", MaxIndex), Remedy: "Remove old releases"}
	}
	return b.Bytes(), nil
}

func (x *Index) sort() {
	slices.SortFunc(x.Releases, func(a, b *registry.Release) int { return compare(b.Version, a.Version) })
}

// Find returns the release of a version; that of "" is the newest that is no prerelease.
func (x *Index) Find(version string) *registry.Release {
	for _, r := range x.Releases {
		if version == r.Version || version == "" && !prerelease(r.Version) {
			return r
		}
	}
	return nil
}

// parse is a version as it is compared; nil where it cannot be: such are older than all others.
func parse(version string) *semver.Version {
	v, err := semver.NewVersion(version)
	if err != nil {
		return nil
	}
	return v
}

func prerelease(version string) bool {
	v := parse(version)
	return v != nil && v.Prerelease() != ""
}

// compare is a total order: versions that mean the same are ordered by their text.
func compare(a, b string) int {
	va, vb := parse(a), parse(b)
	n := 0
	switch {
	case va != nil && vb != nil:
		n = va.Compare(vb)
	case va != nil:
		n = 1
	case vb != nil:
		n = -1
	}
	if n == 0 {
		n = strings.Compare(a, b)
	}
	return n
}

// doubles returns an error where a text is not one JSON value, or where an object has a key twice, in any case: encoding/json takes the last one, and
// does not mind the case.
func doubles(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	var within []map[string]bool // by depth: the keys so far; nil for a list
	key := false                 // whether a key is next, where this is an object
	for {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		top := len(within) - 1
		switch v := token.(type) {
		case json.Delim:
			switch v {
			case '{':
				within, key = append(within, map[string]bool{}), true
			case '[':
				within, key = append(within, nil), false
			default:
				within = within[:top]
				key = top > 0 && within[top-1] != nil
			}
			if len(within) > 16 {
				return errors.New("found more than 16 levels")
			}
		default:
			if top < 0 || within[top] == nil {
				break
			}
			if !key {
				key = true
				break
			}
			name := strings.ToLower(v.(string))
			if within[top][name] {
				return fmt.Errorf("found the key %s twice", Short(name))
			}
			within[top][name], key = true, false
		}
		if len(within) == 0 {
			if _, err := d.Token(); err != io.EOF {
				return errors.New("found something behind its end")
			}
			return nil
		}
	}
}
