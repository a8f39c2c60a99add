package oci

import (
	"context"
	"io"
	"path"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

func lastPart(r *remote.Repository) string { return path.Base(r.Reference.Repository) }

// Mirror copies versions of a plug-in from one registry to another, byte by byte: the same digests, for all platforms, with the signatures. Without versions it copies all. What is
// there already is not copied again, another release under a version is ErrReplaced. A lock that names the one registry is met by the other. copied are the versions that are there
// now, also when there is an error.
func Mirror(ctx context.Context, from, to *Registry, name string, versions ...string) (copied []string, err error) {
	if len(versions) == 0 {
		if versions, err = from.Versions(ctx, name); err != nil {
			return nil, err
		}
	}
	for _, version := range versions {
		if err := mirror(ctx, from, to, name, version); err != nil {
			return copied, err
		}
		copied = append(copied, version)
	}
	return copied, nil
}

func mirror(ctx context.Context, from, to *Registry, name, version string) error {
	of := subject{name, version, "version " + version}
	short, cancel, source, err := from.begin(ctx, of)
	if err != nil {
		return err
	}
	defer cancel()
	if err := checkVersion(version); err != nil {
		return from.fault(ctx, of, err)
	}
	i, d, text, err := from.fetchIndex(short, source, tagOf(version))
	if err == nil {
		err = i.is(name, version)
	}
	if err != nil {
		return from.fault(short, of, err)
	}
	read := &reading{ReadOnlyStorage: source, fault: func(err error) error { return from.fault(ctx, of, err) }}
	// Only what a release has is copied, whatever the texts point to.
	options := oras.CopyGraphOptions{FindSuccessors: func(ctx context.Context, fetcher content.Fetcher, at ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		all, err := i.successors(ctx, fetcher, at, d)
		return all, from.fault(ctx, of, err)
	}}
	return to.fault(ctx, of, to.publish(ctx, to.repository(name), version, read, d, text, options))
}

// successors are what the index, or a manifest of it, points to.
func (i *index) successors(ctx context.Context, fetcher content.Fetcher, at, top ocispec.Descriptor) (all []ocispec.Descriptor, err error) {
	if at.Digest == top.Digest {
		if _, err := fetch(ctx, fetcher, at); err != nil { // it is cached for the push of the index
			return nil, err
		}
		for _, p := range i.platforms {
			all = append(all, p.manifest)
		}
		return all, nil
	}
	for on, p := range i.platforms {
		if p.manifest.Digest != at.Digest {
			continue
		}
		text, err := fetch(ctx, fetcher, at)
		if err != nil {
			return nil, err
		}
		m, err := i.parseManifest(on, text)
		if err != nil {
			return nil, err
		}
		all = append(all, m.config, m.file)
		if m.signature != nil {
			all = append(all, *m.signature)
		}
		return all, nil
	}
	return nil, nil
}

// reading says of an error that it is the source's, and compares what comes with its digest before the last of it goes on: whom it is pushed to would be blamed.
type reading struct {
	content.ReadOnlyStorage
	fault func(error) error
}

// Fetch is content.Fetcher's.
func (r *reading) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	body, err := r.ReadOnlyStorage.Fetch(ctx, d)
	if err != nil {
		return nil, r.fault(err)
	}
	return &compared{body, d.Digest.Verifier(), d, d.Size, r.fault}, nil
}

type compared struct {
	io.ReadCloser
	verifier digest.Verifier
	d        ocispec.Descriptor
	left     int64
	fault    func(error) error
}

func (c *compared) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	_, _ = c.verifier.Write(p[:n]) // it is a hash: it takes all
	if c.left -= int64(n); c.left < 0 {
		return 0, c.fault(malformed(strconv.FormatInt(c.d.Size, 10), "more bytes than %s has", c.d.Digest))
	}
	switch {
	case err == io.EOF && c.left > 0:
		err = io.ErrUnexpectedEOF
	case c.left == 0 && !c.verifier.Verified():
		return 0, c.fault(&wrong{registry.ErrDigest, "other bytes", string(c.d.Digest), ""})
	case err == io.EOF:
		return n, io.EOF
	}
	return n, c.fault(err)
}
