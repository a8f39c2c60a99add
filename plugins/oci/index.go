package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	search "github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// The index of a registry's plug-ins is a manifest under the tag latest of a repository of its own, in which no plug-in can be.
const (
	indexName = "ferrule-index"

	typeSearch          = "application/vnd.ferrule.index.v1"
	typeSearchRoot      = "application/vnd.ferrule.index.root.v1+json"
	typeSearchSignature = "application/vnd.ferrule.index.signature.v1+minisign"
	typeSearchShard     = "application/vnd.ferrule.index.shard.v1"

	maxSearch   = 4 << 20   // bytes of the manifest: registries take no more
	maxEmbedded = 256 << 10 // bytes of a root that is in the manifest, too: one of 100,000 plug-ins has half of it
	maxPlugins  = 1_000_000 // that are listed
)

// Index fetches the index that PushIndex has published: the root and its signature are one request (two where the root is large), a shard is one. Nothing is
// sent yet.
func (r *Registry) Index() search.Fetcher { return &indexFetcher{r} }

type indexFetcher struct{ *Registry }

// about is what a fault is about.
func (f *indexFetcher) about() subject {
	return subject{found: "index in the repository " + f.repositoryRef(indexName).Repository}
}

// fault says what to do where no index is: what it says of plug-ins is no help.
func (f *indexFetcher) fault(ctx context.Context, err error) error {
	err = f.Registry.fault(ctx, f.about(), err)
	if e, ok := errors.AsType[*registry.Error](err); ok && e.Kind == registry.ErrNotFound {
		e.Remedy = "Ask who runs the registry for one: ferrule index publishes it."
	}
	return err
}

func (f *indexFetcher) repository() *remote.Repository {
	repository := f.Registry.repository(indexName)
	repository.MaxMetadataBytes = maxSearch
	return repository
}

func (f *indexFetcher) Root(ctx context.Context) (root, signature []byte, err error) {
	ctx, cancel := f.short(ctx)
	defer cancel()
	root, signature, err = f.root(ctx, f.repository())
	return root, signature, f.fault(ctx, err)
}

func (f *indexFetcher) root(ctx context.Context, from *remote.Repository) (root, signature []byte, err error) {
	d, body, err := from.FetchReference(ctx, latest)
	if err != nil {
		return nil, nil, err
	}
	defer body.Close()
	if err := checkDescriptor("an index's manifest", d, ocispec.MediaTypeImageManifest, maxSearch); err != nil {
		return nil, nil, err
	}
	text, err := content.ReadAll(body, d)
	if err != nil {
		return nil, nil, err
	}
	layers, err := parseSearch(text)
	if err != nil {
		return nil, nil, err
	}
	if root, err = embedded(ctx, from, layers[0]); err != nil || len(layers) == 1 {
		return root, nil, err
	}
	signature, err = embedded(ctx, from, layers[1])
	return root, signature, err
}

// parseSearch returns the root and, where there is one, its signature. The shards are found by the root alone.
func parseSearch(text []byte) ([]ocispec.Descriptor, error) {
	var x ocispec.Manifest
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, malformed("JSON of OCI's form", "an index's manifest that cannot be read: %v", err)
	}
	if x.SchemaVersion != 2 || x.MediaType != ocispec.MediaTypeImageManifest || x.ArtifactType != typeSearch {
		return nil, malformed("a manifest with the artifactType "+typeSearch, "mediaType %s, artifactType %s", quote(x.MediaType), quote(x.ArtifactType))
	}
	if len(x.Layers) == 0 {
		return nil, malformed("the index's root", "an index's manifest without layers")
	}
	if err := checkDescriptor("the root of an index", x.Layers[0], typeSearchRoot, search.MaxRoot); err != nil {
		return nil, err
	}
	if len(x.Layers) == 1 || x.Layers[1].MediaType != typeSearchSignature {
		return x.Layers[:1], nil
	}
	return x.Layers[:2], checkDescriptor("the signature of an index", x.Layers[1], typeSearchSignature, registry.MaxSignature)
}

// embedded returns what a descriptor is of: from the descriptor itself, where it has it.
func embedded(ctx context.Context, from *remote.Repository, d ocispec.Descriptor) ([]byte, error) {
	if len(d.Data) == 0 {
		return fetch(ctx, from.Blobs(), d)
	}
	if int64(len(d.Data)) != d.Size || digest.FromBytes(d.Data) != d.Digest {
		return nil, &wrong{registry.ErrDigest, fmt.Sprintf("%s in a manifest", counted(int64(len(d.Data)), "other byte")), fmt.Sprintf("the %d of %s", d.Size, d.Digest), ""}
	}
	return d.Data, nil
}

func (f *indexFetcher) Shard(ctx context.Context, of string, size int64) ([]byte, error) {
	ctx, cancel := f.short(ctx)
	defer cancel()
	d := ocispec.Descriptor{MediaType: typeSearchShard, Digest: digest.Digest(of), Size: size}
	if err := checkDescriptor("a shard", d, typeSearchShard, search.MaxShard); err != nil {
		return nil, f.fault(ctx, err)
	}
	body, err := f.open(ctx, f.repository(), d, 0)
	if err != nil {
		return nil, f.fault(ctx, err)
	}
	defer body.Close()
	body.fault = func(err error) error { return err }
	text, err := io.ReadAll(body)
	return text, f.fault(ctx, err)
}

// PushIndex publishes an index and its signature, which may be nil: the shards and the root first, those that are there already not again, then the tag, so that
// nobody sees half of it. ErrIndex is where the index that is there is another registry's, ErrStale where it is of the same serial or a later one, or of a
// later date; the same index is no error, so it may be repeated after any failure. Of two that publish at the same moment one gets ErrReplaced, unless it had ended before.
func (r *Registry) PushIndex(ctx context.Context, built *search.Built, signature []byte) error {
	f := &indexFetcher{r}
	p, manifest, err := packSearch(built, signature)
	if err != nil {
		return f.fault(ctx, err)
	}
	to := f.repository()
	if err := built.Follows(ctx, f); err != nil {
		return err
	}
	copied := func() error {
		return oras.CopyGraph(ctx, p, to, manifest, oras.CopyGraphOptions{MaxMetadataBytes: maxSearch})
	}
	if err := r.patiently(ctx, copied); err != nil {
		return f.fault(ctx, err)
	}
	if err := built.Follows(ctx, f); err != nil {
		return err // by somebody who was quicker
	}
	if err := to.PushReference(ctx, manifest, bytes.NewReader(p.texts[manifest.Digest]), latest); err != nil {
		return f.fault(ctx, err)
	}
	now, err := to.Resolve(ctx, latest)
	if err == nil && now.Digest != manifest.Digest {
		return r.refuse(subject{}, registry.ErrReplaced, "another index there, "+string(now.Digest), "the one that was published, "+string(manifest.Digest),
			"Somebody else publishes the index, too. Build it anew over the one that is there")
	}
	return f.fault(ctx, err)
}

// packSearch makes the manifest of an index. The same index makes the same bytes.
func packSearch(built *search.Built, signature []byte) (*packed, ocispec.Descriptor, error) {
	p := &packed{texts: map[digest.Digest][]byte{}}
	config := ocispec.DescriptorEmptyJSON
	p.texts[config.Digest] = config.Data
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: typeSearch, Config: config}
	layer := func(mediaType string, text []byte, embed bool) {
		d := p.add(mediaType, text)
		if embed {
			d.Data = text
		}
		m.Layers = append(m.Layers, d)
	}
	layer(typeSearchRoot, built.Root, len(built.Root) <= maxEmbedded)
	if signature != nil {
		layer(typeSearchSignature, signature, true)
	}
	shards := built.Shards()
	for _, of := range slices.Sorted(maps.Keys(shards)) {
		layer(typeSearchShard, shards[of], false)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	if len(text) > maxSearch {
		return nil, ocispec.Descriptor{}, malformed(fmt.Sprint(maxSearch), "an index whose manifest has %s", counted(int64(len(text)), "byte"))
	}
	d := p.add(ocispec.MediaTypeImageManifest, text)
	_, err = parseSearch(text) // what no reader would take is not pushed
	return p, d, err
}

// Names lists the plug-ins of this part of the registry, sorted, by the registry's catalogue. Many registries have none, or show it to nobody: ErrNotFound or
// ErrRefused. A repository that has something else than a plug-in is listed, too.
func (r *Registry) Names(ctx context.Context) ([]string, error) {
	of := subject{found: "catalogue of its repositories"}
	ctx, cancel := r.short(ctx)
	defer cancel()
	catalogue := &remote.Registry{RepositoryListPageSize: r.page, RepositoryOptions: remote.RepositoryOptions{
		Client: r.http, Reference: r.ref, PlainHTTP: r.plain, MaxMetadataBytes: maxMetadata}}
	catalogue.Reference.Repository = ""
	var names []string
	total, pages := 0, 0
	err := catalogue.Repositories(ctx, "", func(all []string) error {
		if total, pages = total+len(all), pages+1; total > maxPlugins || pages > maxTagPages {
			return malformed(fmt.Sprintf("at most %d, in %d parts", maxPlugins, maxTagPages), "a catalogue of more repositories")
		}
		for _, repository := range all {
			name, ok := repository, true
			if r.ref.Repository != "" {
				name, ok = strings.CutPrefix(repository, r.ref.Repository+"/")
			}
			if ok && checkName(name) == nil {
				names = append(names, name)
			}
		}
		return nil
	})
	if err = r.fault(ctx, of, err); err != nil {
		if e, ok := errors.AsType[*registry.Error](err); ok && (e.Kind == registry.ErrNotFound || e.Kind == registry.ErrRefused) {
			e.Remedy = "Name the plug-ins: this registry does not list them."
		}
		return nil, err
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
