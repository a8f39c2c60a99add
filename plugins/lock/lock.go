// Package lock reads and writes ferrule.lock, the file that says which plug-ins an application has, to the byte, on every platform. It is committed, and it is
// law: what is in it is what is loaded; only verbs such as update change it.
//
// It is text that is YAML too, with one plug-in in a block and one file in a line, sorted, and with the same bytes for the same content, so that a diff
// shows what has changed, and merges of changes to different plug-ins need no help.
package lock

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Format is the number of the file's format. A file with a greater one is an error: it may say what this program does not know of.
const Format = 1

// The bounds of a file.
const (
	MaxSize     = 16 << 20 // in bytes
	MaxFileSize = 1 << 40  // of a plug-in's file, in bytes
)

// Lock is what the file says. It is data: whoever shares one does not change it.
type Lock struct {
	Plugins map[string]*Entry // by the plug-in's name
	Indexes map[string]Index  // by source: the last index of it that was seen, which may not go back
}

// Index is which signed index a source had, and how new it was.
type Index struct {
	Name   string    // the registry's, as registry.ValidIndex takes it: an index of another name is another registry's
	Serial uint64    // greater with each index
	Date   time.Time // UTC
	Digest string    // sha256:… of its root: no other may have the same serial; "" where it is not known
}

// Entry is what is installed of a plug-in.
type Entry struct {
	Version string                   // as the manifest has it
	Source  string                   // where it came from, as registry.Source writes it; "" is a file of this machine
	Tag     string                   // of the release page; may be ""
	Digest  string                   // of the release's description in the source, such as an OCI index; may be ""
	Kind    registry.Kind            // "" is registry.Library, and is written so
	Files   map[string]registry.File // by platform, of all platforms; one at least, each with its digest and size

	// Signatures are those of Files that a key had signed, by platform: texts as their source has them
	// (ValidSignature). Each was verified when it was locked, but for the bytes of the files that were not there. So a
	// lock is no proof: whoever installs a file verifies its signature over the file, and asks a source only where
	// there is none here, or none that is good.
	Signatures map[string]string

	Key      string            // id of the key that has signed it; "" where no keys were asked for
	Requires map[string]string // the plug-ins that it needs, as they were resolved: name → version
	Grants   []string          // what it was granted, or asks for: "connect 443", "function loyalty_points"; sorted, none twice
	Says     []string          // of a script or a program, whose file does not say it, what its description says beside Grants: "host shop ^1", "provides taxes"; sorted, none twice
	Pinned   bool              // by a rollback: update leaves it as it is
}

// ValidSignature reports whether a lock can have the text of a signature: 1 to registry.MaxSignature bytes of UTF-8.
// What it cannot have is asked for by each host.
func ValidSignature(text string) bool {
	return text != "" && len(text) <= registry.MaxSignature && utf8.ValidString(text) && !strings.ContainsRune(text, utf8.RuneError)
}

// ValidLine reports whether a lock can have a text as an item of Grants or of Says: one line of 1 to 1000 bytes, without what cannot be seen.
func ValidLine(text string) bool { return checkLine(text) == nil }
