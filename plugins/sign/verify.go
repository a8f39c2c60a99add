package sign

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"aead.dev/minisign"
	"golang.org/x/crypto/blake2b"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/ctxio"
)

// maxLegacy is how long a file may be whose signature is over all its bytes, and not over their digest: it has to be in memory. minisign made such
// signatures before version 0.10, and makes them with -l.
const maxLegacy = 32 << 20

// A Verifier says whether a signature is good for a file.
type Verifier interface {
	// Verify reads file to the end where it has to, and returns the id of the key that has signed it. A nil error says that the signature is over these
	// bytes, by a key that counts for the plug-in, and for this very name, version and platform; nothing else says so. Errors are *registry.Error:
	// ErrUnsigned where signature is empty, ErrMalformed, ErrKey, ErrRevokedKey, ErrSignature, ErrComment, ErrSubject, ErrName, ErrVersion,
	// ErrPlatform; or those of ctx and of file. What file was read as before an error is good for nothing.
	Verify(ctx context.Context, s Subject, file io.Reader, signature []byte) (key string, err error)
}

// Trust says whose signatures count: keys for all plug-ins, keys for one alone, and keys that count no more. It does not change. The zero Trust trusts
// nobody: see FirstUse.
type Trust struct {
	keys       []PublicKey
	own        map[string][]PublicKey
	revoked    []PublicKey
	revokedIDs []string
}

var _ Verifier = (*Trust)(nil)

// NewTrust returns a trust in keys as ParsePublicKey reads them. keys count for all plug-ins but those that have keys in own, by name: of such a one only
// its own count. revoked has keys and ids of keys that do not count for any plug-in, whatever else says that they do. Errors are of the kind ErrKeyText.
func NewTrust(keys []string, own map[string][]string, revoked []string) (*Trust, error) {
	t := &Trust{own: map[string][]PublicKey{}}
	var err error
	if t.keys, err = parseKeys(keys); err != nil {
		return nil, err
	}
	for plugin, keys := range own {
		if len(keys) == 0 {
			continue
		}
		if t.own[plugin], err = parseKeys(keys); err != nil {
			return nil, err
		}
	}
	for _, text := range revoked {
		if id, ok := parseID(text); ok {
			t.revokedIDs = append(t.revokedIDs, id)
			continue
		}
		k, err := ParsePublicKey(text)
		if err != nil {
			return nil, err
		}
		t.revoked = append(t.revoked, k)
	}
	return t, nil
}

// TrustOf returns the trust that a configuration says: registry.keys, plugins[].keys and registry.revoked. What package config has parsed is no error.
func TrustOf(c *config.Config) (*Trust, error) {
	own := map[string][]string{}
	for _, p := range c.Plugins {
		own[p.Name] = p.Keys
	}
	return NewTrust(c.Registry.Keys, own, c.Registry.Revoked)
}

func parseKeys(texts []string) (keys []PublicKey, err error) {
	for _, text := range texts {
		k, err := ParsePublicKey(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// FirstUse says, in a sentence that has to be shown, that no key counts for a plug-in: what comes first is trusted then, and afterwards the digest in
// the lock. It is "" where keys count. Verify accepts nothing without a key: whoever installs on first use does so where FirstUse says this, and the
// error is ErrUnsigned or ErrKey, and with no other error.
func (t *Trust) FirstUse(plugin string) string {
	if len(t.counting(plugin)) > 0 {
		return ""
	}
	return plugin + ": NOT VERIFIED: no key is set for it, so what comes first is trusted, and from then on its digest in the lock. " +
		"Ask its author for the public key, and write it to registry.keys or plugins[].keys of config.yaml"
}

// counting are the keys that count for a plug-in, unless they are revoked.
func (t *Trust) counting(plugin string) []PublicKey {
	if own := t.own[plugin]; len(own) > 0 {
		return own
	}
	return t.keys
}

// isRevoked reports whether a key is on the list, whole or by its id.
func (t *Trust) isRevoked(k PublicKey) bool {
	return slices.Contains(t.revokedIDs, k.ID()) || slices.ContainsFunc(t.revoked, func(r PublicKey) bool { return r.raw().Equal(k.raw()) })
}

// isRevokedID reports whether a key of that id is on the list.
func (t *Trust) isRevokedID(id string) bool {
	return slices.Contains(t.revokedIDs, id) || hasID(t.revoked, id)
}

func hasID(keys []PublicKey, id string) bool {
	return slices.ContainsFunc(keys, func(k PublicKey) bool { return k.ID() == id })
}

// Verify is of Verifier. The untrusted comment of a signature is signed by nobody, and looked at by nobody: whoever changes it has changed nothing.
func (t *Trust) Verify(ctx context.Context, s Subject, file io.Reader, signature []byte) (key string, err error) {
	if err := s.Check(); err != nil {
		return "", err
	}
	about := registry.Error{Plugin: s.Name, Version: s.Version}
	key, comment, err := t.verify(ctx, about, t.counting(s.Name), file, signature)
	if err != nil {
		return "", err
	}
	if err := s.compare(about, comment); err != nil {
		return "", err
	}
	return key, nil
}

// VerifySubject verifies of a signature all but the bytes that it is over: that a key that counts for the plug-in has
// made it, and for this very name, version and platform. It is for who has the signature before the file, such as that
// of another platform: whoever loads the file has it verified by Verify. Errors are Verify's, but for those of ctx and
// of the file.
func (t *Trust) VerifySubject(s Subject, signature []byte) (key string, err error) {
	if err := s.Check(); err != nil {
		return "", err
	}
	about := registry.Error{Plugin: s.Name, Version: s.Version}
	sig, err := parseSignature(about, signature)
	if err != nil {
		return "", err
	}
	live, err := t.live(about, t.counting(s.Name), sig.id)
	if err != nil {
		return "", err
	}
	if err := sig.commentBy(about, live); err != nil {
		return "", err
	}
	if err := s.compare(about, sig.comment); err != nil {
		return "", err
	}
	return sig.id, nil
}

// Claims compares what a signature says of its file with the subject, and returns the id of the key that it says to be by. It verifies nothing: anybody can write that. It
// is for who publishes a signature whose key is not there, and says early what every Verifier would refuse. Errors are ErrUnsigned, ErrMalformed, ErrSubject, ErrName,
// ErrVersion and ErrPlatform.
func Claims(s Subject, signature []byte) (key string, err error) {
	about := registry.Error{Plugin: s.Name, Version: s.Version}
	sig, err := parseSignature(about, signature)
	if err != nil {
		return "", err
	}
	return sig.id, s.compare(about, sig.comment)
}

// SubjectOf returns what a signature says that it is for. It verifies nothing: anybody can write that. It is for who has a file that does not say what it is, such as a script, and has it
// verified by Verify for that subject before it is run. Errors are ErrUnsigned, ErrMalformed and ErrSubject.
func SubjectOf(signature []byte) (Subject, error) {
	sig, err := parseSignature(registry.Error{}, signature)
	if err != nil {
		return Subject{}, err
	}
	s, ok := parseComment(sig.comment)
	if !ok {
		return Subject{}, fail(registry.Error{}, registry.ErrSubject, "the trusted comment "+short(sig.comment), `"`+Subject{"NAME", "VERSION", "PLATFORM"}.Comment()+`"`, "Whoever has the key signs it with ferrule sign")
	}
	return s, nil
}

// compare compares the subject with a trusted comment.
func (s Subject) compare(about registry.Error, comment string) error {
	of, ok := parseComment(comment)
	expected := "one for " + s.String()
	switch {
	case !ok:
		return fail(about, registry.ErrSubject, "the trusted comment "+short(comment), `"`+s.Comment()+`"`,
			"Whoever has the key signs it with ferrule sign, or with minisign -S -t '"+s.Comment()+"'")
	case of.Name != s.Name:
		return fail(about, registry.ErrName, "a signature for "+of.String(), expected,
			"Do not use it: it is another plug-in's file under this name. Tell those who publish it")
	case of.Version != s.Version:
		return fail(about, registry.ErrVersion, "a signature for "+of.String(), expected,
			"Do not use it: it is another version's file under this number, such as an old one that is served again. Tell those who publish it")
	case of.Platform != s.Platform:
		return fail(about, registry.ErrPlatform, "a signature for "+of.String(), expected,
			"It is another platform's file, put in the wrong place: fetch the right one, or tell those who publish it")
	}
	return nil
}

// VerifyComment verifies what SignComment has signed, by the keys for all plug-ins. It returns the trusted comment, which the caller has to compare. Its
// errors are Verify's, but for those on what the comment says. what is for them: what the file is, such as "the index of https://…".
func (t *Trust) VerifyComment(ctx context.Context, what string, file io.Reader, signature []byte) (key, comment string, err error) {
	about := registry.Error{Source: what}
	key, comment, err = t.verify(ctx, about, t.keys, file, signature)
	if err == nil && strings.HasPrefix(comment, "ferrule ") {
		return "", "", fail(about, registry.ErrSubject, "the signature of a plug-in", "one that is for this", "Tell those who publish it")
	}
	return key, comment, err
}

// Counts says whether what a key has signed counts for a plug-in now, by the key's id: such as one that the lock says has signed it, when it was installed. It looks at
// no signature. Errors are *registry.Error of the kinds ErrKey and ErrRevokedKey.
func (t *Trust) Counts(plugin, key string) error {
	_, err := t.live(registry.Error{Plugin: plugin}, t.counting(plugin), key)
	return err
}

// live are those of the keys with an id that are not revoked, one at least.
func (t *Trust) live(about registry.Error, counting []PublicKey, id string) (live []PublicKey, err error) {
	for _, k := range counting {
		if k.ID() == id && !t.isRevoked(k) {
			live = append(live, k)
		}
	}
	switch {
	case len(live) > 0:
		return live, nil
	case t.isRevokedID(id) || hasID(counting, id):
		return nil, fail(about, registry.ErrRevokedKey, "a signature by key "+id+", which was revoked", "one by a key that counts",
			"Take a version that is signed by another key. Whoever publishes it signs it anew")
	}
	return nil, fail(about, registry.ErrKey, "a signature by key "+id, expectedKeys(counting), t.foreign(about.Plugin, id))
}

// fail is an error about something.
func fail(about registry.Error, kind error, found, expected, remedy string) error {
	about.Kind, about.Found, about.Expected, about.Remedy = kind, found, expected, remedy
	return &about
}

// verify verifies a signature by one of the keys that count, and returns its trusted comment.
func (t *Trust) verify(ctx context.Context, about registry.Error, counting []PublicKey, file io.Reader, text []byte) (id, comment string, err error) {
	sig, err := parseSignature(about, text)
	if err != nil {
		return "", "", err
	}
	id = sig.id
	live, err := t.live(about, counting, id)
	if err != nil {
		return "", "", err
	}
	message, err := sig.message(ctx, about, file)
	if err != nil {
		return "", "", err
	}
	i := slices.IndexFunc(live, func(k PublicKey) bool { return k.verifies(message, sig.bytes) })
	if i < 0 {
		return "", "", fail(about, registry.ErrSignature, "other bytes than those that key "+id+" has signed", "the same",
			"Fetch file and signature again. If they stay so, they were changed, or do not belong together: do not use the file, and tell those who publish it")
	}
	if err := sig.commentBy(about, live[i:i+1]); err != nil {
		return "", "", err
	}
	return id, sig.comment, nil
}

// commentBy verifies that one of the keys has signed the trusted comment, together with the signature over the file.
func (s *signature) commentBy(about registry.Error, keys []PublicKey) error {
	message := append(slices.Clone(s.bytes), s.comment...)
	if slices.ContainsFunc(keys, func(k PublicKey) bool { return k.verifies(message, s.global) }) {
		return nil
	}
	return fail(about, registry.ErrComment, "the trusted comment "+short(s.comment)+", which key "+s.id+" has not signed", "the one that it has signed",
		"Fetch the signature again. If it stays so, it was changed: do not use the file, and tell those who publish it")
}

// expectedKeys says which keys count.
func expectedKeys(keys []PublicKey) string {
	var ids []string
	for _, k := range keys {
		ids = append(ids, k.ID())
	}
	switch n := len(ids); n {
	case 0:
		return "a key that counts for it: there is none"
	case 1:
		return "one by key " + ids[0]
	default:
		return "one by key " + strings.Join(ids[:n-1], ", ") + " or " + ids[n-1]
	}
}

// foreign is the remedy for a signature by a key that does not count.
func (t *Trust) foreign(plugin, id string) string {
	trust := "ask its author for the public key by another way than this file's, and write it to "
	switch {
	case len(t.own[plugin]) == 0:
		return "If that is its author's key: " + trust + "registry.keys or plugins[].keys of config.yaml"
	case hasID(t.keys, id):
		return "The key counts for plug-ins without keys of their own. If it is to count for this one: write it to its keys in config.yaml, too"
	}
	return "If that is its author's new key: " + trust + "the keys of this plug-in in config.yaml"
}

// signature is what a .minisig file says.
type signature struct {
	legacy  bool // over the bytes themselves
	id      string
	bytes   []byte // over the file
	comment string
	global  []byte // over bytes and comment
}

// parseSignature reads the text of a signature: four lines, each as minisign writes it. Lines may end as on Windows.
func parseSignature(about registry.Error, text []byte) (*signature, error) {
	if len(text) == 0 {
		return nil, fail(about, registry.ErrUnsigned, "no signature", "one by a key that counts for it",
			"Whoever publishes it signs it: ferrule sign; it is a file beside it whose name ends with .minisig")
	}
	const expected = "the four lines of a minisign signature"
	if len(text) > registry.MaxSignature {
		return nil, fail(about, registry.ErrMalformed, "a signature of more than 4 KiB", expected, "Do not use it: it is no signature")
	}
	none := func(what string) error {
		return fail(about, registry.ErrMalformed, what, expected, "Is it the file whose name ends with .minisig? Fetch it again, or tell those who publish it")
	}
	const cut = "a signature that was cut off"
	lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n"), "\n")
	switch first := lines[0]; {
	case len(lines) == 1 && strings.HasPrefix(untrusted, first):
		return nil, none(cut)
	case !strings.HasPrefix(first, untrusted):
		return nil, none("a text that is no signature")
	case len(lines) < 4:
		return nil, none(cut)
	case len(lines) > 4:
		return nil, none("a signature with more behind it")
	}
	comment, ok := strings.CutPrefix(lines[2], trusted)
	own, global := encoded(lines[1]), encoded(lines[3])
	s := &signature{comment: comment, global: global}
	switch {
	case !ok || len(own) != 10+ed25519.SignatureSize:
		return nil, none("a text that is no signature")
	case len(global) != ed25519.SignatureSize:
		if len(lines[3]) < base64.StdEncoding.EncodedLen(ed25519.SignatureSize) {
			return nil, none(cut)
		}
		return nil, none("a text that is no signature")
	}
	switch algorithm := binary.LittleEndian.Uint16(own); algorithm {
	case minisign.EdDSA:
		s.legacy = true
	case minisign.HashEdDSA:
	default:
		return nil, none(fmt.Sprintf("a signature of the unknown kind %q", own[:2]))
	}
	s.id, s.bytes = idText(binary.LittleEndian.Uint64(own[2:])), own[10:]
	return s, nil
}

// encoded are the bytes of a line of base64; nil where it is none.
func encoded(line string) []byte {
	b, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil || strings.Contains(line, "\r") {
		return nil
	}
	return b
}

// message reads the file, and returns what the signature is over.
func (s *signature) message(ctx context.Context, about registry.Error, file io.Reader) ([]byte, error) {
	file = ctxio.Reader(ctx, file)
	if s.legacy {
		b, err := io.ReadAll(io.LimitReader(file, maxLegacy+1))
		if err == nil && len(b) > maxLegacy {
			err = fail(about, registry.ErrSignature, "a signature of the old kind over a file of more than 32 MiB", "one of the kind that minisign makes since version 0.10",
				"Whoever publishes it signs it anew: ferrule sign")
		}
		return b, err
	}
	h, err := blake2b.New512(nil)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(h, file); err != nil {
		return nil, fmt.Errorf("the file to verify: %w", err)
	}
	return h.Sum(nil), nil
}
