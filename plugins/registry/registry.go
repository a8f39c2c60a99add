// Package registry has the words that all of distribution shares: what a release of a plug-in is, where releases come from (Source), and what can be
// wrong with one (Error). It reaches no network: package release reads release pages by URL, package oci OCI registries.
//
// A registry is trusted with nothing. What counts is the lock's digest, and at the first install the signature over the file's bytes: see packages lock and
// sign. So any mirror does, and a release page needs no more than a folder that is served.
package registry

import (
	"context"
	"io"
	"runtime"
	"strings"
)

// Kind says what a plug-in's file is.
type Kind string

// The kinds.
const (
	Library Kind = "library" // a native library, one for each platform
	Wasm    Kind = "wasm"    // a WebAssembly module
	Script  Kind = "script"  // a script that begins with #!, which is a sidecar
	Program Kind = "program" // a program, which is a sidecar

	JavaScript Kind = "javascript" // a script that is a plug-in by its header
	Python     Kind = "python"
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{Library, Wasm, Script, Program, JavaScript, Python} }

// AnyPlatform is the platform of a file that runs on all.
const AnyPlatform = "any"

// ThisPlatform returns the platform that this program runs on: its GOOS and GOARCH, as in linux/amd64.
func ThisPlatform() string { return runtime.GOOS + "/" + runtime.GOARCH }

// Release is one version of a plug-in, as a source describes it: whether it fits is known before its file is fetched. What its
// manifest says is compared with this after the file has come, and the manifest counts. It is data: whoever shares one does not change it.
type Release struct {
	Name    string `json:"name"`              // as in the manifest
	Version string `json:"version"`           // as in the manifest
	Kind    Kind   `json:"kind,omitempty"`    // Library where it is ""
	Summary string `json:"summary,omitempty"` // for people, one line
	License string `json:"license,omitempty"` // as SPDX writes it

	Host      map[string]string   `json:"host,omitempty"`      // by application: the range of host.<application>
	Requires  []string            `json:"requires,omitempty"`  // a line each, as in the manifest: "tax ^1.2"
	Conflicts []string            `json:"conflicts,omitempty"` // a line each
	Provides  []string            `json:"provides,omitempty"`  // functions that other plug-ins import from it
	Imports   []string            `json:"imports,omitempty"`   // host functions that it cannot do without
	Permits   map[string][]string `json:"permits,omitempty"`   // by kind (read, write, connect, listen, memory): what it asks for

	Files map[string]File `json:"files"`         // by platform: linux/amd64, or any
	Tag   string          `json:"tag,omitempty"` // of the release page; "" elsewhere

	// Digest is of the description as the source has it, such as an OCI index: sha256:… With it a source finds the same release again. "" is where there is none.
	Digest string `json:"digest,omitempty"`
}

// File is what is known of a release's file for one platform.
type File struct {
	Digest string `json:"digest"`        // of its bytes: sha256: and 64 hexadecimal digits; "" where the source does not say (a release page without an index)
	Size   int64  `json:"size"`          // in bytes; 0 with no Digest
	URL    string `json:"url,omitempty"` // its name in the release's own folder, where it is not the usual one
}

// For returns the release's file for a platform: its own, or the one that runs on all. on is the key of Files.
func (r *Release) For(platform string) (file File, on string, ok bool) {
	if f, ok := r.Files[platform]; ok {
		return f, platform, true
	}
	f, ok := r.Files[AnyPlatform]
	return f, AnyPlatform, ok
}

// Source is a place where plug-ins are published. Its methods may be called from several goroutines at a time. They end when the context does, and
// return *Error: ErrNotFound where there is no such plug-in, version or platform, ErrUnavailable where the place cannot be reached, which is worth
// another try. What a source reads is bounded in time, memory and size, whatever the other end sends.
type Source interface {
	// String is the source as config.yaml and the lock write it, without what is secret: a URL.
	String() string

	// Versions are the versions of a plug-in, in no order. A source that cannot list them tells the one that it has.
	Versions(ctx context.Context, name string) ([]string, error)

	// Release describes one version; "" is the newest that is no prerelease, or the one that the source calls the latest.
	Release(ctx context.Context, name, version string) (*Release, error)

	// Open reads the release's file for a platform, which is a key of its Files, from an offset on. Where the other end cannot begin there, at is less than
	// from. size is the whole file's, -1 where nobody says.
	Open(ctx context.Context, r *Release, platform string, from int64) (body io.ReadCloser, at, size int64, err error)

	// Signature is of the file for a platform: the text of a minisign signature. It is nil where there is none.
	Signature(ctx context.Context, r *Release, platform string) ([]byte, error)
}

// Pusher is a Source that can publish, too.
type Pusher interface {
	Source

	// Push publishes a release with all its files. What is there already stays: another release of the same version is ErrReplaced, and so is one whose files would take
	// another's place; the same one is no error. A Pusher may add platforms and signatures that the release does not have yet, or refuse that.
	Push(ctx context.Context, r *Release, files map[string]Content) error
}

// Content is a file to publish, and its signature.
type Content struct {
	Path      string // of the file
	Signature []byte // the text of a minisign signature; nil is none
}

// Hex returns the 64 hexadecimal digits of a digest, "" where the text is none: sha256: and 64 digits, whose letters are small ones. So it is fit for
// a file's name.
func Hex(digest string) string {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return ""
	}
	return hex
}
