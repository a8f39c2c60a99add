package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/ctxio"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// Push publishes a release: the files and descriptions first, then the tag, so that nobody sees half of it, and the tag latest where it is the newest version. It may be repeated after any
// failure. Two that push other bytes as the same version at the same moment: OCI has nothing to decide between them, so both write the tag, the last one stays, and the other
// gets ErrReplaced unless it had ended before.
func (r *Registry) Push(ctx context.Context, release *registry.Release, contents map[string]registry.Content) error {
	if err := r.Takes(release); err != nil {
		return err
	}
	of := pushing(release)
	files := make(map[string]registry.File, len(contents))
	for on, c := range contents {
		file, err := measure(ctx, c.Path)
		if err != nil {
			return &registry.Error{Plugin: of.plugin, Version: of.version, Kind: registry.ErrNotFound, Err: err, Remedy: "Build it for " + on + "."}
		}
		if said := release.Files[on]; said.Digest != "" && (said.Digest != file.Digest || said.Size != file.Size) {
			return r.refuse(of, registry.ErrDigest, c.Path+" with "+file.Digest, said.Digest+", as the release says", "Describe the release anew.")
		}
		files[on] = file
	}
	for on := range release.Files {
		if _, ok := contents[on]; !ok {
			return r.refuse(of, registry.ErrPlatform, "no file for "+on, "one for each platform of the release", "Build it for "+on+", or leave it out.")
		}
	}
	p, err := pack(release, files, contents)
	if err != nil {
		return r.fault(ctx, of, err)
	}
	return r.fault(ctx, of, r.publish(ctx, r.repository(release.Name), release.Version, p, p.index, p.texts[p.index.Digest], oras.CopyGraphOptions{}))
}

// Takes says why no OCI registry can have a release under its name and version, before anything else is done for it: Push would refuse it. Nothing is sent.
func (r *Registry) Takes(release *registry.Release) error {
	err := checkName(release.Name)
	if err == nil {
		err = checkVersion(release.Version)
	}
	return r.fault(context.Background(), pushing(release), err)
}

// pushing is what errors of a push are about.
func pushing(release *registry.Release) subject {
	return subject{plugin: release.Name, version: release.Version, found: "repository that takes it"}
}

// measure returns the digest and size of a file.
func measure(ctx context.Context, path string) (f registry.File, err error) {
	file, err := regular.Open(path)
	if err != nil {
		return f, err
	}
	defer file.Close()
	hash := sha256.New()
	f.Size, err = io.Copy(hash, ctxio.Reader(ctx, file))
	f.Digest = "sha256:" + hex.EncodeToString(hash.Sum(nil))
	return f, err
}

// Fetch and Exists make what is packed the source of a copy.
func (p *packed) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if text, ok := p.texts[d.Digest]; ok {
		return io.NopCloser(bytes.NewReader(text)), nil
	}
	if path, ok := p.files[d.Digest]; ok {
		return regular.Open(path)
	}
	return nil, errdef.ErrNotFound
}

// Exists is content.ReadOnlyStorage's.
func (p *packed) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	return p.texts[d.Digest] != nil || p.files[d.Digest] != "", nil
}

// publish copies what an index points to, and gives it its tag.
func (r *Registry) publish(ctx context.Context, to *remote.Repository, version string, from content.ReadOnlyStorage, d ocispec.Descriptor, text []byte, options oras.CopyGraphOptions) error {
	there, err := r.tagged(ctx, to, version, d, text)
	if err != nil {
		return err
	}
	if !there {
		options.MaxMetadataBytes = maxMetadata
		if err := r.patiently(ctx, func() error { return oras.CopyGraph(ctx, from, to, d, options) }); err != nil {
			return err
		}
		if there, err = r.tagged(ctx, to, version, d, text); err != nil {
			return err // by somebody who was quicker
		}
	}
	if !there {
		if err := to.PushReference(ctx, d, bytes.NewReader(text), tagOf(version)); err != nil {
			return err
		}
		if there, err = r.tagged(ctx, to, version, d, text); err != nil || !there {
			return errors.Join(err, errdef.ErrNotFound)
		}
	}
	return r.moveLatest(ctx, to, version)
}

// tagged reports whether a version's tag is there. Where it is another release's than the one with this text, that is an error, which says what differs.
func (r *Registry) tagged(ctx context.Context, repository *remote.Repository, version string, d ocispec.Descriptor, text []byte) (bool, error) {
	other, err := repository.Resolve(ctx, tagOf(version))
	switch {
	case isNotFound(err):
		return false, nil
	case err != nil:
		return false, err
	case other.Digest == d.Digest:
		return true, nil
	}
	e := &registry.Error{Plugin: lastPart(repository), Version: version, Source: r.url, Kind: registry.ErrReplaced,
		Found: "another release of this version there, " + string(other.Digest), Expected: "none, or " + string(d.Digest),
		Remedy: "Publish it as a new version: who has the other one in a lock would be told that it was replaced."}
	there, _, _, err := r.fetchIndex(ctx, repository, string(other.Digest))
	switch is, fault := parseIndex(text); {
	case isForeign(err):
		e.Found = "something under this tag there that is no plug-in, " + string(other.Digest)
		e.Remedy = "Delete that tag if it is yours, or publish it as a new version."
	case err == nil && fault == nil:
		e.Found, e.Expected, e.Remedy = is.differs(there)
	}
	return false, e
}

// patiently repeats a copy that the registry was too busy for, or that was cut off. What has come is there already then.
func (r *Registry) patiently(ctx context.Context, copy func() error) error {
	for try := 0; ; try++ {
		err := copy()
		if err == nil || try == maxTries-1 || !errors.Is(r.fault(ctx, subject{}, err), registry.ErrUnavailable) {
			return err
		}
		if err := r.wait(ctx, try); err != nil {
			return err
		}
	}
}

// moveLatest has the tag latest be the newest version's. Of several that do it at the same time each looks again whether it is.
func (r *Registry) moveLatest(ctx context.Context, repository *remote.Repository, pushed string) error {
	for try := range maxTries {
		if done, err := r.isLatest(ctx, repository, pushed); done || err != nil && !isNotFound(err) {
			return err
		} else if err == nil {
			continue // it was moved: look again
		}
		// A tag that somebody else is writing is listed before it is there.
		if err := r.wait(ctx, try); err != nil {
			return err
		}
	}
	return &transportError{registry.ErrUnavailable, "others publish versions all the time, and the tag latest moves with each"}
}

// isLatest reports whether the tag latest is the newest version's, and moves it where it is not.
func (r *Registry) isLatest(ctx context.Context, repository *remote.Repository, pushed string) (bool, error) {
	versions, err := r.versions(ctx, repository)
	if err != nil {
		return false, err
	}
	if !slices.Contains(versions, pushed) {
		versions = append(versions, pushed) // a list may be behind
	}
	version, d, text, err := r.newestOf(ctx, repository, versions)
	if err != nil || version == "" {
		return err == nil, err
	}
	now, err := repository.Resolve(ctx, latest)
	if err == nil && now.Digest == d.Digest {
		return true, nil
	}
	if err != nil && !isNotFound(err) {
		return false, err
	}
	return false, repository.PushReference(ctx, d, bytes.NewReader(text), latest)
}

// wait waits before another try, longer with each.
func (r *Registry) wait(ctx context.Context, try int) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(jitter(r.pause << try)):
		return nil
	}
}
