package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

const (
	typePlugin    = "application/vnd.ferrule.plugin.v1"
	typeConfig    = "application/vnd.ferrule.plugin.config.v1+json"
	typeLibrary   = "application/vnd.ferrule.plugin.library.v1"
	typeSignature = "application/vnd.ferrule.plugin.signature.v1+minisign"

	keyConfigDigest = "dev.ferrule.plugin.config.digest" // of the index
	keyConfigSize   = "dev.ferrule.plugin.config.size"
	keyFileDigest   = "dev.ferrule.plugin.file.digest" // of a manifest in the index
	keyFileSize     = "dev.ferrule.plugin.file.size"
	keyHost         = "dev.ferrule.host." // and the application: its range
)

// What a registry may send, in bytes and numbers. An index of 256 platforms has less than 200 KiB.
const (
	maxMetadata  = 1 << 20
	maxPlatforms = 256
	maxSignature = 16 << 10
	maxTagPages  = 1000
	maxTags      = 100_000
	maxTag       = 128
)

// latest is the tag of the newest version that is no prerelease.
const latest = "latest"

// A platform as in GOOS and GOARCH.
var isPlatform = regexp.MustCompile(`^[a-z0-9]{1,32}/[a-z0-9_]{1,32}$`)

// A plug-in's name is the last part of a repository's, for which OCI allows less than a manifest does. So no name leaves its folder.
var isName = regexp.MustCompile(`^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$`)

// wrong is a text that is not what it should be. Whose it is, the caller adds.
type wrong struct {
	kind                    error
	found, expected, remedy string
}

func (w *wrong) Error() string { return "found " + w.found + ", expected " + w.expected }

func malformed(expected, found string, args ...any) error {
	return &wrong{registry.ErrMalformed, fmt.Sprintf(found, args...), expected, ""}
}

// foreign is the error of what is no plug-in at all, such as an image that somebody has pushed under a tag in the same repository.
type foreign struct{ error }

func (f *foreign) Unwrap() error { return f.error }

func isForeign(err error) bool {
	_, ok := errors.AsType[*foreign](err)
	return ok
}

func checkName(name string) error {
	if name == indexName {
		return &wrong{registry.ErrMalformed, "the plug-in's name " + quote(name), "another: in an OCI registry this one is the index's", "Give the plug-in another name in its manifest."}
	}
	if len(name) > registry.MaxName || !isName.MatchString(name) {
		return &wrong{registry.ErrMalformed, "the plug-in's name " + quote(name), "small letters and digits, with . _ __ or any number of - between them, as OCI names a repository",
			"Give the plug-in another name in its manifest, or publish it elsewhere than in an OCI registry."}
	}
	return nil
}

// checkVersion holds versions to the three numbers of semantic versions: tags like 1 and 1.2 are moved from version to version by custom.
func checkVersion(version string) error {
	if v, err := semver.StrictNewVersion(version); err != nil || v.String() != version || len(version) > maxTag {
		return &wrong{registry.ErrMalformed, "the version " + quote(version), "a semantic version such as 1.2.0 or 1.2.0-rc.1, of at most 128 bytes",
			"Give the plug-in such a version in its manifest."}
	}
	return nil
}

// tagOf is the tag of a version, which has been checked; versionOf the version of a tag.
func tagOf(version string) string { return strings.Replace(version, "+", "_", 1) }

func versionOf(tag string) (version string, ok bool) {
	version = strings.Replace(tag, "_", "+", 1)
	return version, !strings.Contains(tag, "+") && checkVersion(version) == nil
}

// newest returns the newest version that is no prerelease; "" is none. All have been checked. Of versions that differ in their build only it is the one whose text is
// the greatest, so that everybody takes the same one.
func newest(versions []string) (best string) {
	var of *semver.Version
	for _, text := range versions {
		v := semver.MustParse(text)
		if v.Prerelease() != "" {
			continue
		}
		if c := 1; of != nil {
			if c = v.Compare(of); c < 0 || c == 0 && text < best {
				continue
			}
		}
		best, of = text, v
	}
	return best
}

// counted is a number of things for people.
func counted(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// shownPlatform is all that a platform says, for people.
func shownPlatform(p ocispec.Platform) string {
	words := []string{p.OS + "/" + p.Architecture}
	for _, word := range append([]string{p.Variant, p.OSVersion}, p.OSFeatures...) {
		if word != "" {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strconv.Quote(s)
}

// index is what counts of an OCI index.
type index struct {
	name, version string
	config        ocispec.Descriptor
	platforms     map[string]platform
}

type platform struct {
	manifest ocispec.Descriptor
	file     registry.File
}

// checkDescriptor is for what a text of somebody else's points to.
func checkDescriptor(what string, d ocispec.Descriptor, mediaType string, most int64) error {
	switch {
	case d.MediaType != mediaType:
		return malformed(mediaType, "%s of the type %s", what, quote(d.MediaType))
	case registry.Hex(string(d.Digest)) == "": // asked for its algorithm, what is no digest panics
		return malformed("sha256: and 64 hexadecimal digits", "%s with the digest %s", what, quote(string(d.Digest)))
	case d.Size < 0 || d.Size > most:
		return malformed(fmt.Sprintf("0 to %d", most), "%s of %s", what, counted(d.Size, "byte"))
	case len(d.URLs) > 0:
		return malformed("none: what is elsewhere is in no mirror", "%s with a URL, %s", what, quote(d.URLs[0]))
	}
	return nil
}

// annotated reads a digest and a size from annotations.
func annotated(what string, a map[string]string, keyDigest, keySize, mediaType string, most int64) (d ocispec.Descriptor, err error) {
	size, err := strconv.ParseInt(a[keySize], 10, 64)
	if err != nil {
		return d, malformed("its size in bytes", "%s whose annotation %s is %s", what, keySize, quote(a[keySize]))
	}
	d = ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(a[keyDigest]), Size: size}
	return d, checkDescriptor(what, d, mediaType, most)
}

func unmarshal(what string, text []byte, into any) error {
	if len(text) > maxMetadata {
		return malformed(fmt.Sprintf("at most %d", maxMetadata), "%s of %s", what, counted(int64(len(text)), "byte"))
	}
	if err := json.Unmarshal(text, into); err != nil {
		return malformed("JSON of OCI's form", "%s that cannot be read: %v", what, err)
	}
	return nil
}

const maxFile = 1<<63 - 1

// parseIndex reads the index of a plug-in.
func parseIndex(text []byte) (*index, error) {
	var x ocispec.Index
	if err := unmarshal("an index", text, &x); err != nil {
		return nil, err
	}
	if x.SchemaVersion != 2 || x.MediaType != ocispec.MediaTypeImageIndex || x.ArtifactType != typePlugin {
		return nil, &foreign{malformed("an index with the artifactType "+typePlugin, "mediaType %s, artifactType %s", quote(x.MediaType), quote(x.ArtifactType))}
	}
	if n := len(x.Manifests); n == 0 || n > maxPlatforms {
		return nil, malformed(fmt.Sprintf("1 to %d", maxPlatforms), "an index of %s", counted(int64(n), "manifest"))
	}
	i := &index{name: x.Annotations[ocispec.AnnotationTitle], version: x.Annotations[ocispec.AnnotationVersion], platforms: map[string]platform{}}
	if err := errors.Join(checkName(i.name), checkVersion(i.version)); err != nil {
		return nil, err
	}
	var err error
	if i.config, err = annotated("a config", x.Annotations, keyConfigDigest, keyConfigSize, typeConfig, maxMetadata); err != nil {
		return nil, err
	}
	for _, m := range x.Manifests {
		if err := checkDescriptor("a manifest", m, ocispec.MediaTypeImageManifest, maxMetadata); err != nil {
			return nil, err
		}
		on := registry.AnyPlatform
		if p := m.Platform; p != nil {
			on = p.OS + "/" + p.Architecture
			if !isPlatform.MatchString(on) || p.Variant != "" || p.OSVersion != "" || len(p.OSFeatures) > 0 {
				return nil, malformed("an operating system and an architecture, as in linux/amd64", "a manifest for the platform %s", quote(shownPlatform(*p)))
			}
		}
		if _, twice := i.platforms[on]; twice {
			return nil, malformed("one for each", "two manifests for %s", on)
		}
		file, err := annotated("a file", m.Annotations, keyFileDigest, keyFileSize, typeLibrary, maxFile)
		if err != nil {
			return nil, err
		}
		i.platforms[on] = platform{
			ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size},
			registry.File{Digest: string(file.Digest), Size: file.Size},
		}
	}
	return i, nil
}

// differs says what of a release is not as it is there, and what to do: the first of it that a person would look for.
func (i *index) differs(there *index) (found, expected, remedy string) {
	remedy = "Publish it as a new version: who has the other one in a lock would be told that it was replaced."
	for _, on := range slices.Sorted(maps.Keys(i.platforms)) {
		if was, ok := there.platforms[on]; ok && was.file != i.platforms[on].file {
			return "another file for " + on + " there, " + was.file.Digest, "the one that is published, " + i.platforms[on].file.Digest, remedy
		}
	}
	if is, was := slices.Sorted(maps.Keys(i.platforms)), slices.Sorted(maps.Keys(there.platforms)); !slices.Equal(is, was) {
		return "this version there for " + strings.Join(was, ", "), "it for the same platforms, not for " + strings.Join(is, ", "),
			"Push the files for all platforms at once, as a new version: in an OCI registry one platform more is another digest of the release, and locks have the one that is there."
	}
	return "the same files there with another description or other signatures", "the same", remedy
}

// manifest is what counts of an OCI manifest.
type manifest struct {
	config, file ocispec.Descriptor
	signature    *ocispec.Descriptor // nil is none
}

// parseManifest reads the manifest of one platform, which must say what the index says.
func (i *index) parseManifest(on string, text []byte) (*manifest, error) {
	var x ocispec.Manifest
	if err := unmarshal("a manifest", text, &x); err != nil {
		return nil, err
	}
	if x.SchemaVersion != 2 || x.MediaType != ocispec.MediaTypeImageManifest || x.ArtifactType != typePlugin {
		return nil, malformed("a manifest with the artifactType "+typePlugin, "mediaType %s, artifactType %s", quote(x.MediaType), quote(x.ArtifactType))
	}
	if n := len(x.Layers); n == 0 || n > 2 {
		return nil, malformed("the file, and its signature where there is one", "a manifest of %s", counted(int64(n), "layer"))
	}
	m := &manifest{config: x.Config, file: x.Layers[0]}
	if err := checkDescriptor("a config", x.Config, typeConfig, maxMetadata); err != nil {
		return nil, err
	}
	if err := checkDescriptor("a file", m.file, typeLibrary, maxFile); err != nil {
		return nil, err
	}
	if len(x.Layers) == 2 {
		m.signature = &x.Layers[1]
		if err := checkDescriptor("a signature", *m.signature, typeSignature, maxSignature); err != nil {
			return nil, err
		}
	}
	said := i.platforms[on].file
	if m.config.Digest != i.config.Digest || m.config.Size != i.config.Size || string(m.file.Digest) != said.Digest || m.file.Size != said.Size {
		return nil, &wrong{registry.ErrDigest, fmt.Sprintf("a manifest of %s with the file %s of %s and the config %s", on, m.file.Digest, counted(m.file.Size, "byte"), m.config.Digest),
			fmt.Sprintf("what its index says: %s of %s and %s", said.Digest, counted(said.Size, "byte"), i.config.Digest), ""}
	}
	return m, nil
}

// described is a release as a config has it: without what the index says.
type described struct {
	registry.Release
	Files  *struct{} `json:"files,omitempty"`
	Tag    *struct{} `json:"tag,omitempty"`
	Digest *struct{} `json:"digest,omitempty"`
}

var kinds = append(registry.Kinds(), "")

// parseConfig reads the description and completes it with what the index says.
func (i *index) parseConfig(text []byte, indexDigest digest.Digest) (*registry.Release, error) {
	var d described
	if err := unmarshal("a config", text, &d); err != nil {
		return nil, err
	}
	r := d.Release
	switch {
	case r.Name != i.name:
		return nil, &wrong{registry.ErrName, "a config of " + quote(r.Name), quote(i.name) + ", as the index says", ""}
	case r.Version != i.version:
		return nil, &wrong{registry.ErrVersion, "a config of the version " + quote(r.Version), quote(i.version) + ", as the index says", ""}
	case !slices.Contains(kinds, r.Kind):
		return nil, &wrong{registry.ErrKind, "the kind " + quote(string(r.Kind)), "library, wasm, script or program", ""}
	}
	r.Digest, r.Files = string(indexDigest), make(map[string]registry.File, len(i.platforms))
	for on, p := range i.platforms {
		r.Files[on] = p.file
	}
	return &r, nil
}

// packed is a release as it is pushed: its texts, and where its files are.
type packed struct {
	texts map[digest.Digest][]byte
	files map[digest.Digest]string // by path
	index ocispec.Descriptor
}

func (p *packed) add(mediaType string, text []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(text), Size: int64(len(text))}
	p.texts[d.Digest] = text
	return d
}

// pack makes the texts of a release. The same release makes the same bytes, whoever pushes it: encoding/json sorts, and nothing has a date. files are the digest and size
// of each file, by platform.
func pack(r *registry.Release, files map[string]registry.File, contents map[string]registry.Content) (*packed, error) {
	p := &packed{texts: map[digest.Digest][]byte{}, files: map[digest.Digest]string{}}
	var fault error
	marshal := func(mediaType string, value any) ocispec.Descriptor {
		text, err := json.Marshal(value)
		fault = errors.Join(fault, err)
		return p.add(mediaType, text)
	}
	config := marshal(typeConfig, described{Release: *r})
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: typePlugin, Annotations: map[string]string{
		ocispec.AnnotationTitle: r.Name, ocispec.AnnotationVersion: r.Version,
		keyConfigDigest: string(config.Digest), keyConfigSize: strconv.FormatInt(config.Size, 10),
	}}
	for key, value := range map[string]string{ocispec.AnnotationDescription: r.Summary, ocispec.AnnotationLicenses: r.License} {
		if value != "" {
			x.Annotations[key] = value
		}
	}
	for application, versions := range r.Host {
		x.Annotations[keyHost+application] = versions
	}
	for _, on := range slices.Sorted(maps.Keys(files)) {
		file := ocispec.Descriptor{MediaType: typeLibrary, Digest: digest.Digest(files[on].Digest), Size: files[on].Size}
		p.files[file.Digest] = contents[on].Path
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: typePlugin, Config: config}
		m.Layers = append(m.Layers, file)
		if signature := contents[on].Signature; len(signature) > 0 {
			layer := p.add(typeSignature, signature)
			layer.Data = signature // so that it comes with the manifest
			m.Layers = append(m.Layers, layer)
		}
		d := marshal(ocispec.MediaTypeImageManifest, m)
		d.ArtifactType = typePlugin
		if on != registry.AnyPlatform {
			system, architecture, _ := strings.Cut(on, "/")
			d.Platform = &ocispec.Platform{OS: system, Architecture: architecture}
		}
		d.Annotations = map[string]string{keyFileDigest: files[on].Digest, keyFileSize: strconv.FormatInt(files[on].Size, 10)}
		x.Manifests = append(x.Manifests, d)
	}
	p.index = marshal(ocispec.MediaTypeImageIndex, x)
	if fault != nil {
		return nil, fault
	}
	// What no reader would take is not pushed.
	i, err := parseIndex(p.texts[p.index.Digest])
	if err != nil {
		return nil, err
	}
	for on := range i.platforms {
		if _, err := i.parseManifest(on, p.texts[i.platforms[on].manifest.Digest]); err != nil {
			return nil, err
		}
	}
	_, err = i.parseConfig(p.texts[config.Digest], p.index.Digest)
	return p, err
}
