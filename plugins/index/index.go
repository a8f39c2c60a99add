// Package index has the index of a registry's plug-ins: what there is by name and by word, and what is revoked. It stays quick and small for 100,000
// plug-ins, needs no server that computes, and a mirror needs not be trusted with it.
//
// An index is a root and shards. The root (index.json) has the registry's name, a serial number and a date that never go back, the digest and size of every
// shard, and the list of what is revoked. It is signed by minisign with the registry's key (index.json.minisig), whose trusted comment is
//
//	ferrule-index NAME SERIAL DATE
//
// with the root's name, serial and date. The name tells one registry's index from another's that the same key has signed; a mirror has the same. Shards (index/<SHA-256 in hexadecimal>) are found by their digest alone, so they need no signature, and one that did not
// change is not fetched again. There are two families:
//
//   - By name: a plug-in is in the shard that the SHA-256 of its name says: its first 32 bits, big-endian, modulo the number of shards, a power of two.
//   - By word: each shard has the words from one on up to the next shard's first. A word has its plug-ins, the best of them where there are many. Words are
//     of names, keywords and summaries, so the beginning of a word finds it, too.
//
// A shard is lines of JSON, compressed by gzip. Build makes an index, a Fetcher brings it from where it is published, and Open reads it.
package index

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// What an index may have. Build cuts what is too long, or refuses it; Open refuses it.
const (
	MaxRoot     = 4 << 20 // bytes of a root
	MaxShard    = 1 << 20 // bytes of a shard, compressed
	MaxShards   = 4096    // of one family
	MaxRevoked  = 5000    // entries of each list of what is revoked
	MaxSummary  = 200     // bytes of a plug-in's summary
	MaxKeywords = 16      // of a plug-in
	MaxVersions = 64      // of a plug-in, the newest
	MaxHits     = 500     // plug-ins of one word, the best
	MaxWord     = 32      // bytes of a word: of a longer one its beginning counts

	maxInflated = 2 << 20 // bytes of a shard's lines
	maxText     = 300     // bytes of a text that is not named above
	format      = 1
)

// Entry is a plug-in as the shards by name have it. It is data: whoever shares one does not change it.
type Entry struct {
	Name     string        `json:"name"`               // the plug-in's, as its manifest has it
	Summary  string        `json:"summary,omitempty"`  // one line
	Kind     registry.Kind `json:"kind,omitempty"`     // registry.Library where it is ""
	License  string        `json:"license,omitempty"`  // as SPDX writes it
	Keywords []string      `json:"keywords,omitempty"` // in lower case

	// Versions are semantic versions, the newest first, at most MaxVersions. Which are revoked is for Index.Revoked to say.
	Versions []string `json:"versions"`

	Platforms []string          `json:"platforms,omitempty"` // of the newest version: linux/amd64, or any
	Host      map[string]string `json:"host,omitempty"`      // of the newest version: ranges of host versions, by application

	// Weight ranks those that match a search equally well: downloads, or what else the registry counts. More is better.
	Weight uint32 `json:"weight,omitempty"`
}

// Latest returns the newest version that is no prerelease, or the newest where all are.
func (e *Entry) Latest() string {
	for _, v := range e.Versions {
		if v, err := semver.NewVersion(v); err == nil && v.Prerelease() == "" {
			return v.Original()
		}
	}
	if len(e.Versions) == 0 {
		return ""
	}
	return e.Versions[0]
}

// Hit is a plug-in as a search finds it.
type Hit struct {
	Name     string   `json:"name"`               // the plug-in's
	Version  string   `json:"version"`            // as Entry.Latest says
	Summary  string   `json:"summary,omitempty"`  // as in Entry
	Keywords []string `json:"keywords,omitempty"` // as in Entry
	Weight   uint32   `json:"weight,omitempty"`   // as in Entry
}

// Revocation says which releases nobody is to install or load any more. With a Digest it is the file of that digest, under any name where Name is ""; else
// it is the versions of Name that Versions says.
type Revocation struct {
	Name     string `json:"name,omitempty"`     // the plug-in's
	Versions string `json:"versions,omitempty"` // a version or a range, which has prereleases in it, too; "*" is all
	Digest   string `json:"digest,omitempty"`   // sha256:…
	Why      string `json:"why"`                // for people, as the end of a sentence
	Remedy   string `json:"remedy,omitempty"`   // a sentence, such as Update to 1.2.4
}

func (r *Revocation) check() error {
	switch {
	case r.Name != "" && !registry.ValidName(r.Name):
		return fmt.Errorf("a revoked plug-in has the name %.140q", r.Name)
	case r.Digest != "" && registry.Hex(r.Digest) == "":
		return fmt.Errorf("a revocation has the digest %.100q", r.Digest)
	case r.Digest != "" && r.Versions != "":
		return fmt.Errorf("the revocation of %.140q has versions and a digest", r.Name)
	case r.Digest == "" && (r.Name == "" || r.Versions == ""):
		return errors.New("a revocation has neither a digest nor a name with versions")
	case r.Why == "":
		return errors.New("a revocation does not say why")
	case len(r.Versions) > maxText || len(r.Why) > maxText || len(r.Remedy) > maxText:
		return fmt.Errorf("the revocation of %.140q has a text of more than %d bytes", r.Name, maxText)
	}
	if r.Versions != "" {
		if _, err := semver.NewConstraint(r.Versions); err != nil {
			return fmt.Errorf("the revocation of %q has the versions %.100q: %w", r.Name, r.Versions, err)
		}
	}
	return nil
}

// has reports whether a release is revoked. A version that cannot be compared is in every range: in doubt nothing is loaded.
func (r *Revocation) has(name, version string, digests []string) bool {
	if r.Name != "" && r.Name != name {
		return false
	}
	if r.Digest != "" {
		for _, d := range digests {
			if d == r.Digest {
				return true
			}
		}
		return false
	}
	v, err := semver.NewVersion(version)
	if err != nil {
		return true
	}
	c, err := semver.NewConstraint(r.Versions)
	if err != nil {
		return true
	}
	c.IncludePrerelease = true
	return c.Check(v)
}

// RevokedKey is a key whose signatures count no more.
type RevokedKey struct {
	ID     string `json:"id"`               // of a minisign key: 16 hexadecimal digits in upper case
	Why    string `json:"why"`              // for people, as the end of a sentence
	Remedy string `json:"remedy,omitempty"` // a sentence; "" is what the index says itself
}

func (k *RevokedKey) check() error {
	switch {
	case len(k.ID) != 16 || strings.Trim(k.ID, "0123456789ABCDEF") != "":
		return fmt.Errorf("a revoked key has the id %.40q, expected 16 hexadecimal digits in upper case", k.ID)
	case k.Why == "":
		return fmt.Errorf("the revocation of key %s does not say why", k.ID)
	case len(k.Why) > maxText || len(k.Remedy) > maxText:
		return fmt.Errorf("the revocation of key %s has a text of more than %d bytes", k.ID, maxText)
	}
	return nil
}

// root is index.json.
type root struct {
	Format      int                           `json:"format"`
	Name        string                        `json:"name"` // of the registry, as registry.ValidIndex takes it
	Serial      uint64                        `json:"serial"`
	Date        time.Time                     `json:"date"` // in UTC, whole seconds
	Plugins     int                           `json:"plugins"`
	Revoked     list[Revocation, *Revocation] `json:"revoked,omitempty"`
	RevokedKeys list[RevokedKey, *RevokedKey] `json:"revoked_keys,omitempty"`
	Names       list[reference, *reference]   `json:"names"` // a power of two
	Words       list[wordsFrom, *wordsFrom]   `json:"words,omitempty"`
}

// comment is the trusted comment of the root's signature.
func (r *root) comment() string {
	return fmt.Sprintf("ferrule-index %s %d %s", r.Name, r.Serial, r.Date.Format(time.RFC3339))
}

// check says what is wrong with a root beyond its single entries.
func (r *root) check() error {
	switch n := len(r.Names); {
	case !registry.ValidIndex(r.Name):
		return fmt.Errorf("the registry's name %.140q", r.Name)
	case r.Serial == 0:
		return errors.New("serial 0")
	case r.Date.IsZero() || r.Date.Location() != time.UTC || r.Date.Nanosecond() != 0:
		return fmt.Errorf("the date %s", r.Date.Format(time.RFC3339Nano))
	case r.Plugins < 0:
		return fmt.Errorf("%d plug-ins", r.Plugins)
	case n == 0 || n&(n-1) != 0 || n > MaxShards:
		return fmt.Errorf("%s by name", sentence.Count(n, "shard"))
	case len(r.Words) > MaxShards:
		return fmt.Errorf("%s by word", sentence.Count(len(r.Words), "shard"))
	case len(r.Revoked) > MaxRevoked || len(r.RevokedKeys) > MaxRevoked:
		return fmt.Errorf("%s and %d of keys", sentence.Count(len(r.Revoked), "revocation"), len(r.RevokedKeys))
	}
	for i := range r.Words {
		if from := r.Words[i].From; (i == 0) != (from == "") || i > 0 && from <= r.Words[i-1].From || from != cut(from, MaxWord) {
			return fmt.Errorf("shard %d by word begins with %.40q", i, from)
		}
	}
	return nil
}

// reference is a shard as the root has it.
type reference struct {
	SHA256 string `json:"sha256"` // of the shard, compressed: 64 hexadecimal digits
	Size   int64  `json:"size"`   // in bytes, compressed
}

func (r *reference) check() error {
	if registry.Hex("sha256:"+r.SHA256) == "" {
		return fmt.Errorf("a shard has the digest %.100q", r.SHA256)
	}
	if r.Size <= 0 || r.Size > MaxShard {
		return fmt.Errorf("a shard has %s", sentence.Count(r.Size, "byte"))
	}
	return nil
}

// wordsFrom is a shard by word: it has the words from From on up to the next shard's.
type wordsFrom struct {
	From string `json:"from"` // the first has ""
	reference
}

// checked is a pointer to an entry of a list.
type checked[T any] interface {
	*T
	check() error
}

// list is checked entry by entry while it is read: what is hostile ends it before it takes memory.
type list[T any, P checked[T]] []T

// UnmarshalJSON reads an array.
func (l *list[T, P]) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errors.Join(errors.New("no list"), err)
	}
	*l = nil
	for d.More() {
		var one T
		if err := d.Decode(&one); err != nil {
			return err
		}
		if err := P(&one).check(); err != nil {
			return err
		}
		*l = append(*l, one)
	}
	return nil
}
