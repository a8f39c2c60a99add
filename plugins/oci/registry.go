package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Registry is a part of an OCI registry that has plug-ins: a registry.Source and a registry.Pusher. Its methods are for any goroutine. Tokens that the registry
// has given are kept in memory as long as the Registry is.
type Registry struct {
	url         string
	plain       bool
	ref         orasregistry.Reference // the repository is the part before the plug-in's name, and may be ""
	http        *auth.Client
	credentials func(ctx context.Context, host string) (auth.Credential, error)
	secrets     secrets
	silence     time.Duration
	pause       time.Duration // before the second try; it doubles with each
	page        int
	indexes     guarded[map[digest.Digest]*index]
}

var _ registry.Pusher = (*Registry)(nil)

// Option is one choice of New's.
type Option func(*choices)

type choices struct {
	registry  *Registry
	transport http.RoundTripper
}

// Transport sets what sends requests: one with certificates or a proxy of its own, say. It must not ask for compression. Without it, it is one of the Registry's, with the
// proxy that the environment names.
func Transport(t http.RoundTripper) Option { return func(c *choices) { c.transport = t } }

// Credentials sets who says with which user and password to log in at a host (host:port); both "" is without. It is called from any goroutine, each time that a
// host asks anew. Without it, docker's configuration says it (DOCKER_CONFIG, or .docker in the home folder), with the helpers that it names.
func Credentials(find func(ctx context.Context, host string) (user, password string, err error)) Option {
	return func(c *choices) {
		c.registry.credentials = func(ctx context.Context, host string) (auth.Credential, error) {
			user, password, err := find(ctx, host)
			return auth.Credential{Username: user, Password: password}, err
		}
	}
}

// Silence sets how long the registry may be silent: until it begins to answer, and for each 16 KiB that come. It is 30 seconds without this. What is short (all but the files) must
// have come in ten times that.
func Silence(d time.Duration) Option { return func(c *choices) { c.registry.silence = d } }

// New returns the registry at a URL as config.yaml has it: oci://host[:port]/path, or oci+http://… for one without TLS; hosts on loopback have none either.
// The plug-in tax is in the repository path/tax. It sends nothing.
func New(address string, options ...Option) (*Registry, error) {
	r := &Registry{silence: 30 * time.Second, pause: 250 * time.Millisecond, page: 1000}
	r.indexes.value = map[digest.Digest]*index{}
	c := choices{registry: r}
	for _, option := range options {
		option(&c)
	}
	u, err := url.Parse(address)
	if err == nil && u.User != nil {
		return nil, &registry.Error{Kind: registry.ErrMalformed, Found: "a user in the registry's url", Expected: u.Scheme + "://" + u.Host + u.Path,
			Remedy: "Log in by docker login " + u.Host + ": docker's configuration says who logs in"}
	}
	refuse := func(found string) error {
		return &registry.Error{Kind: registry.ErrMalformed, Found: found, Expected: "oci://host[:port]/path, in small letters, with nothing behind it",
			Remedy: "Mend the registry's url in config.yaml."}
	}
	if err != nil {
		return nil, refuse("a registry's url that is none")
	}
	r.url = strings.TrimSuffix(address, "/")
	r.ref = orasregistry.Reference{Registry: u.Host, Repository: strings.Trim(u.Path, "/")}
	if (u.Scheme != "oci" && u.Scheme != "oci+http") || u.Host == "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" || u.RawPath != "" {
		return nil, refuse("the registry's url " + quote(address))
	}
	for _, check := range []error{r.ref.ValidateRegistry(), r.repositoryRef("x").ValidateRepository()} {
		if check != nil {
			return nil, refuse("the registry's url " + quote(address))
		}
	}
	r.plain = u.Scheme == "oci+http" || loopback(u.Hostname())
	r.http = r.client(c.transport)
	return r, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// String is the URL.
func (r *Registry) String() string { return r.url }

func (r *Registry) repositoryRef(name string) orasregistry.Reference {
	ref := r.ref
	ref.Repository = strings.TrimPrefix(ref.Repository+"/"+name, "/")
	return ref
}

// repository is a plug-in's. Its name has been checked.
func (r *Registry) repository(name string) *remote.Repository {
	return &remote.Repository{
		Client: r.http, Reference: r.repositoryRef(name), PlainHTTP: r.plain,
		ManifestMediaTypes: []string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest},
		TagListPageSize:    r.page, TagListMaxPages: maxTagPages, MaxMetadataBytes: maxMetadata, SkipReferrersGC: true,
	}
}

// begin checks a plug-in's name, and limits the time of what is short.
func (r *Registry) begin(ctx context.Context, of subject) (context.Context, context.CancelFunc, *remote.Repository, error) {
	if err := checkName(of.plugin); err != nil {
		return nil, nil, nil, r.fault(ctx, of, err)
	}
	ctx, cancel := r.short(ctx)
	return ctx, cancel, r.repository(of.plugin), nil
}

// short limits the time of what is short.
func (r *Registry) short(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, 10*r.silence, &transportError{registry.ErrUnavailable, fmt.Sprintf("it was not done in %v", 10*r.silence)})
}

// Versions are the tags of the plug-in's repository that are semantic versions.
func (r *Registry) Versions(ctx context.Context, name string) ([]string, error) {
	of := subject{plugin: name, found: "repository " + r.repositoryRef(name).Repository}
	ctx, cancel, repository, err := r.begin(ctx, of)
	if err != nil {
		return nil, err
	}
	defer cancel()
	versions, err := r.versions(ctx, repository)
	return versions, r.fault(ctx, of, err)
}

func (r *Registry) versions(ctx context.Context, repository *remote.Repository) (versions []string, err error) {
	n := 0
	err = repository.Tags(ctx, "", func(tags []string) error {
		if n += len(tags); n > maxTags {
			return malformed(fmt.Sprintf("at most %d", maxTags), "a repository of more tags")
		}
		for _, tag := range tags {
			if version, ok := versionOf(tag); ok {
				versions = append(versions, version)
			}
		}
		return nil
	})
	slices.Sort(versions)
	return slices.Compact(versions), err
}

// Release describes a version by the index and the config, which are two requests. Without a version it takes the tag latest; where there is none, the newest
// version that is no prerelease.
func (r *Registry) Release(ctx context.Context, name, version string) (*registry.Release, error) {
	of := subject{plugin: name, version: version, found: "version " + version}
	if version == "" {
		of.found = "version that is no prerelease"
	}
	ctx, cancel, repository, err := r.begin(ctx, of)
	if err != nil {
		return nil, err
	}
	defer cancel()
	release, err := r.release(ctx, repository, name, version)
	return release, r.fault(ctx, of, err)
}

func (r *Registry) release(ctx context.Context, repository *remote.Repository, name, version string) (*registry.Release, error) {
	tag := latest
	if version != "" {
		if err := checkVersion(version); err != nil {
			if w := (*wrong)(nil); errors.As(err, &w) {
				w.kind = registry.ErrNotFound // there may be such a tag, but no release
			}
			return nil, err
		}
		tag = tagOf(version)
	}
	i, d, _, err := r.fetchIndex(ctx, repository, tag)
	if version == "" && (isNotFound(err) || isForeign(err)) {
		versions, err := r.versions(ctx, repository)
		if err != nil {
			return nil, err
		}
		if version, _, _, err = r.newestOf(ctx, repository, versions); err != nil {
			return nil, err
		}
		if version == "" {
			return nil, errdef.ErrNotFound
		}
		return r.release(ctx, repository, name, version)
	}
	if err != nil {
		return nil, err
	}
	if err := i.is(name, version); err != nil {
		return nil, err
	}
	config, err := fetch(ctx, repository.Blobs(), i.config)
	if err != nil {
		return nil, err
	}
	return i.parseConfig(config, d.Digest)
}

// newestOf finds the newest of these versions that is no prerelease, and no tag of something that is no plug-in; "" is none.
func (r *Registry) newestOf(ctx context.Context, repository *remote.Repository, versions []string) (version string, d ocispec.Descriptor, text []byte, err error) {
	versions = slices.Clone(versions)
	for version = newest(versions); version != ""; version = newest(versions) {
		_, d, text, err = r.fetchIndex(ctx, repository, tagOf(version))
		if !isForeign(err) {
			return version, d, text, err
		}
		versions = slices.DeleteFunc(versions, func(v string) bool { return v == version })
	}
	return "", d, nil, nil
}

// is compares the index with what was asked for; no version is any.
func (i *index) is(name, version string) error {
	switch {
	case i.name != name:
		return &wrong{registry.ErrName, "the plug-in " + quote(i.name), quote(name), ""}
	case version != "" && i.version != version:
		return &wrong{registry.ErrVersion, "the version " + quote(i.version), quote(version), ""}
	}
	return nil
}

func isNotFound(err error) bool {
	var response *errcode.ErrorResponse
	return errors.Is(err, errdef.ErrNotFound) || errors.As(err, &response) && response.StatusCode == http.StatusNotFound
}

// maxIndexes bounds what is kept of indexes. One that was dropped is fetched again.
const maxIndexes = 128

// fetchIndex fetches an index by a tag or digest.
func (r *Registry) fetchIndex(ctx context.Context, repository *remote.Repository, reference string) (*index, ocispec.Descriptor, []byte, error) {
	d, body, err := repository.FetchReference(ctx, reference)
	if err != nil {
		return nil, d, nil, err
	}
	defer body.Close()
	if err := checkDescriptor("an index", d, ocispec.MediaTypeImageIndex, maxMetadata); err != nil {
		if d.MediaType != ocispec.MediaTypeImageIndex {
			err = &foreign{err}
		}
		return nil, d, nil, err
	}
	text, err := content.ReadAll(body, d)
	if err != nil {
		return nil, d, nil, err
	}
	i, err := parseIndex(text)
	if err != nil {
		return nil, d, nil, err
	}
	r.indexes.do(func(all *map[digest.Digest]*index) {
		if len(*all) >= maxIndexes {
			clear(*all)
		}
		(*all)[d.Digest] = i
	})
	return i, d, text, nil
}

// index returns a release's: that of its digest, or of its version where it has none.
func (r *Registry) index(ctx context.Context, repository *remote.Repository, release *registry.Release) (i *index, err error) {
	reference := digest.Digest(release.Digest)
	if release.Digest == "" {
		if err := checkVersion(release.Version); err != nil {
			return nil, err
		}
		i, _, _, err = r.fetchIndex(ctx, repository, tagOf(release.Version))
	} else if r.indexes.do(func(all *map[digest.Digest]*index) { i = (*all)[reference] }); i == nil {
		if reference.Validate() != nil {
			return nil, malformed("sha256: and 64 hexadecimal digits", "the release's digest %s", quote(release.Digest))
		}
		i, _, _, err = r.fetchIndex(ctx, repository, release.Digest)
	}
	if err != nil {
		return nil, err
	}
	return i, i.is(release.Name, release.Version)
}

// file returns what the index says of the release's file for a platform. It must be what the release says, if it says it.
func (i *index) file(release *registry.Release, on string) (platform, error) {
	p, ok := i.platforms[on]
	if !ok {
		return p, errdef.ErrNotFound
	}
	if file := release.Files[on]; file.Digest != "" && file.Digest != p.file.Digest {
		return p, &wrong{registry.ErrReplaced, "the file " + p.file.Digest + " for " + on, file.Digest + ", as it was", ""}
	}
	return p, nil
}

func fetch(ctx context.Context, from content.Fetcher, d ocispec.Descriptor) ([]byte, error) {
	return content.FetchAll(ctx, from, d)
}

// Signature returns the signature that is beside the file in its manifest. With an index that was fetched before it takes one request, and another one where whoever
// has published it has left it out of the manifest.
func (r *Registry) Signature(ctx context.Context, release *registry.Release, platform string) ([]byte, error) {
	of := subject{release.Name, release.Version, "file for " + quote(platform)}
	ctx, cancel, repository, err := r.begin(ctx, of)
	if err != nil {
		return nil, err
	}
	defer cancel()
	signature, err := r.signature(ctx, repository, release, platform)
	return signature, r.fault(ctx, of, err)
}

func (r *Registry) signature(ctx context.Context, repository *remote.Repository, release *registry.Release, platform string) ([]byte, error) {
	i, err := r.index(ctx, repository, release)
	if err != nil {
		return nil, err
	}
	p, err := i.file(release, platform)
	if err != nil {
		return nil, err
	}
	text, err := fetch(ctx, repository.Manifests(), p.manifest)
	if err != nil {
		return nil, err
	}
	m, err := i.parseManifest(platform, text)
	if err != nil || m.signature == nil {
		return nil, err
	}
	return embedded(ctx, repository, *m.signature)
}

// Open reads a file by its digest, which is one request where the release has it, as one from a lock does. It compares the length, not the digest: whoever keeps the file
// does that.
func (r *Registry) Open(ctx context.Context, release *registry.Release, platform string, from int64) (body io.ReadCloser, at, size int64, err error) {
	of := subject{release.Name, release.Version, "file for " + quote(platform)}
	short, cancel, repository, err := r.begin(ctx, of)
	if err != nil {
		return nil, 0, 0, err
	}
	defer cancel()
	file, ok := release.Files[platform]
	if !ok && release.Digest == "" && len(release.Files) > 0 {
		return nil, 0, 0, r.fault(ctx, of, errdef.ErrNotFound)
	}
	if file.Digest == "" {
		i, err := r.index(short, repository, release)
		if err != nil {
			return nil, 0, 0, r.fault(short, of, err)
		}
		p, err := i.file(release, platform)
		if err != nil {
			return nil, 0, 0, r.fault(short, of, err)
		}
		file = p.file
	}
	d := ocispec.Descriptor{MediaType: typeLibrary, Digest: digest.Digest(file.Digest), Size: file.Size}
	if err := checkDescriptor("a file", d, typeLibrary, maxFile); err != nil {
		return nil, 0, 0, r.fault(ctx, of, err)
	}
	b, err := r.open(ctx, repository, d, from)
	if err != nil {
		return nil, 0, 0, r.fault(ctx, of, err)
	}
	b.fault = func(err error) error { return r.fault(ctx, of, err) }
	return b, b.at, file.Size, nil
}

// Registries opens what the url of a registry names, where it begins with oci:// or oci+http://; ok is false where it begins with something else. It sends nothing.
func Registries(r config.Registry) (source registry.Source, ok bool, err error) {
	if !strings.HasPrefix(r.URL, "oci://") && !strings.HasPrefix(r.URL, "oci+http://") {
		return nil, false, nil
	}
	to, err := New(r.URL)
	if err != nil {
		return nil, true, err
	}
	return to, true, nil
}
