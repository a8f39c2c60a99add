// Package oci publishes plug-ins to OCI registries and installs them from there: a registry.Source and registry.Pusher over oras-go. Any registry that
// stores artefacts does, and so does any mirror of one: what counts is the lock's digest and the signature over a file's bytes.
//
//	source, err := oci.New("oci://registry.example/acme")
//	versions, err := source.Versions(ctx, "tax")           // the tags of registry.example/acme/tax
//
// A plug-in is a repository, a version a tag, and a release this:
//
//	index     artifactType application/vnd.ferrule.plugin.v1; title, version and ranges of the host as annotations, and the config's digest and size
//	manifest  one for each platform, or one without a platform for a file that runs on all; the index has the file's digest and size beside it
//	config    application/vnd.ferrule.plugin.config.v1+json: the release's description, the same for all platforms
//	layers    application/vnd.ferrule.plugin.library.v1, which is the file, and application/vnd.ferrule.plugin.signature.v1+minisign
//
// The signature is inside the artefact: as a referrer it would get lost when one copies. Its text is in the manifest's descriptor of it, too (data), so that
// it comes with that. A tag has no "+": the version 1.2.0+build.5 is the tag
// 1.2.0_build.5, and no version has a "_". Tags that are no versions are not looked at, but for latest: the newest version that is no prerelease.
//
// The index of all plug-ins, which a search reads (package index), is in the repository ferrule-index beside them, under the tag latest: a manifest with the
// artifactType application/vnd.ferrule.index.v1 whose layers are the root, its signature, and the shards. What is small of it is in the manifest, too.
//
// Credentials are those of docker's configuration and its helpers (docker login); none gets into an error. HTTP without TLS is for loopback hosts and for
// URLs that begin with oci+http:// only.
package oci
