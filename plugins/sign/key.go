package sign

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"aead.dev/minisign"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// MaxKey is how long the text of a key may be, in bytes, with its comment.
const MaxKey = 4 << 10

// A PublicKey verifies signatures. The zero PublicKey verifies none, and ParsePublicKey refuses its text.
type PublicKey struct{ key minisign.PublicKey }

// A PrivateKey makes signatures. Printing one shows its id and nothing else of it. The zero PrivateKey is none: signatures
// with it verify with no key.
type PrivateKey struct{ key minisign.PrivateKey }

// ParsePublicKey reads a public key: its line alone, RWQ…, or a file's text, with a comment before it. Errors are *registry.Error of the kind ErrKeyText.
func ParsePublicKey(text string) (PublicKey, error) {
	const expected = "a minisign public key: 56 characters that begin with RW"
	var k PublicKey
	line, err := keyLine(text, expected)
	if err != nil {
		return PublicKey{}, err
	}
	if err := k.key.UnmarshalText([]byte(line)); err != nil {
		remedy := "It is the second line of the .pub file that ferrule keygen or minisign -G has written"
		if isPrivate(line) {
			return PublicKey{}, keyError("a private key", expected, "Keep it to yourself, and give the public one. "+remedy, nil)
		}
		return PublicKey{}, keyError(short(line), expected, remedy, nil)
	}
	if smallOrder(k.raw()) {
		return PublicKey{}, keyError("a key with which anybody can sign, "+short(line), expected, "Nobody has made it by chance: trust nothing that came with it", nil)
	}
	return k, nil
}

// keyLine is the line of a key's text that has the key. A comment may be before it, and nothing but empty lines after it.
func keyLine(text, expected string) (string, error) {
	if len(text) > MaxKey {
		return "", keyError(fmt.Sprintf("a text of %s", sentence.Count(len(text), "byte")), expected, "It is no key: name the right file", nil)
	}
	lines := strings.Split(strings.ReplaceAll(strings.TrimRight(text, "\r\n"), "\r\n", "\n"), "\n")
	if strings.HasPrefix(lines[0], untrusted) {
		lines = lines[1:]
	}
	switch {
	case len(lines) == 0 || len(lines) == 1 && strings.TrimSpace(lines[0]) == "":
		return "", keyError("no key", expected, "Was it cut off on the way?", nil)
	case len(lines) > 1:
		return "", keyError("more lines than a key has", expected, "One key is in one file", nil)
	}
	return strings.TrimSpace(lines[0]), nil
}

// privateSize is how many bytes a private key has before they are written as text.
const privateSize = 158

// isPrivate reports whether a line looks like a private key, which no error shows.
func isPrivate(line string) bool {
	b, err := base64.StdEncoding.DecodeString(line)
	return err == nil && len(b) == privateSize
}

// keyError is the error of a text that is no key.
func keyError(found, expected, remedy string, err error) error {
	return &registry.Error{Found: found, Expected: expected, Remedy: remedy, Kind: registry.ErrKeyText, Err: err}
}

// short is what somebody wrote, quoted, and cut to what a line bears.
func short(s string) string {
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:60]) + "…"
	}
	return `"` + escape.Line(s) + `"`
}

// ID is the key's id: 16 hexadecimal digits. minisign shows it without zeros in front. It is no secret, and proves nothing.
func (k PublicKey) ID() string { return idText(k.key.ID()) }

// String is the key as one line: RWQ…
func (k PublicKey) String() string { return k.key.String() }

// Text is the key as the text of a file, with a comment that has its id, byte for byte as minisign writes it. It is the caller's.
func (k PublicKey) Text() []byte {
	return fmt.Appendf(nil, "%sminisign public key %X\n%s\n", untrusted, k.key.ID(), k)
}

// raw is the key of Ed25519.
func (k PublicKey) raw() ed25519.PublicKey {
	b, err := base64.StdEncoding.DecodeString(k.String())
	if err != nil || len(b) != 10+ed25519.PublicKeySize { // it is of package minisign's own making
		return nil
	}
	return b[10:]
}

// verifies reports whether this key has signed the message.
func (k PublicKey) verifies(message, signature []byte) bool {
	raw := k.raw()
	return !smallOrder(raw) && ed25519.Verify(raw, message, signature)
}

// lowPoints are the points of Ed25519 whose order is 1, 2, 4 or 8, by their y, in hexadecimal and as bytes are in a key, without the sign. The last two are other forms of 0 and 1,
// which package ed25519 takes, too.
var lowPoints = []string{
	"0000000000000000000000000000000000000000000000000000000000000000", // 0, of order 4
	"0100000000000000000000000000000000000000000000000000000000000000", // 1, of order 1
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // of order 8
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // of order 8
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p-1, of order 2
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p+1
}

// smallOrder reports whether a key is a point of so small an order that one signature in eight, or more, is good for it without any private key.
func smallOrder(key ed25519.PublicKey) bool {
	if len(key) != ed25519.PublicKeySize {
		return true
	}
	y := slices.Clone(key)
	y[len(y)-1] &= 0x7f
	return slices.Contains(lowPoints, hex.EncodeToString(y))
}

func idText(id uint64) string { return fmt.Sprintf("%016X", id) }

// parseID reads a key's id as people write it, in upper case.
func parseID(text string) (id string, ok bool) {
	if len(text) != 16 || strings.Trim(text, "0123456789abcdefABCDEF") != "" {
		return "", false
	}
	return strings.ToUpper(text), true
}

// Generate makes a new key from the system's randomness.
func Generate() (PrivateKey, error) {
	_, key, err := minisign.GenerateKey(rand.Reader)
	return PrivateKey{key}, err
}

// Encrypted reports whether a private key's text needs a password.
func Encrypted(text []byte) bool {
	line, err := keyLine(string(text), "")
	return err == nil && minisign.IsEncrypted([]byte(line))
}

// ParsePrivateKey reads the text of a private key's file. The password is of no use where the key is not Encrypted. Decryption takes seconds and up to
// 1 GiB of memory: that is what makes guessing passwords dear. Errors are *registry.Error of the kind ErrKeyText, or ErrPassword.
func ParsePrivateKey(text []byte, password string) (PrivateKey, error) {
	const expected = "a minisign private key"
	line, err := keyLine(string(text), expected)
	if err != nil {
		return PrivateKey{}, err
	}
	const remedy = "It is the file that ferrule keygen or minisign -G has written"
	if !isPrivate(line) {
		found := "a text that is none"
		if new(minisign.PublicKey).UnmarshalText([]byte(line)) == nil {
			found = "a public key"
		}
		return PrivateKey{}, keyError(found, expected, remedy, nil)
	}
	var k PrivateKey
	if minisign.IsEncrypted([]byte(line)) {
		if k.key, err = minisign.DecryptKey(password, []byte(line)); err != nil {
			return PrivateKey{}, &registry.Error{Found: "another password than the key's, or a key that was changed", Expected: "the key's password",
				Remedy: "Type it again", Kind: registry.ErrPassword}
		}
	} else if err := k.key.UnmarshalText([]byte(line)); err != nil {
		return PrivateKey{}, keyError("a text that is none", expected, remedy, err)
	}
	// A key without a password has nothing else to be known as whole by.
	if !minisign.Verify(k.Public().key, nil, minisign.Sign(k.key, nil)) {
		return PrivateKey{}, keyError("a key whose halves do not belong together", expected, "It was changed: get it from where it is kept safe", nil)
	}
	return k, nil
}

// Public returns the key that verifies what this one signs.
func (k PrivateKey) Public() PublicKey { return PublicKey{k.key.Public().(minisign.PublicKey)} }

// ID is the key's id, and its public key's.
func (k PrivateKey) ID() string { return idText(k.key.ID()) }

// Format prints the key's id, whatever the verb: what is secret of it is in no log.
func (k PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "private key "+k.ID()) }

// Text is the key as the text of a file that needs no password, as of minisign -G -W. Whoever reads that file can sign. It is the caller's.
func (k PrivateKey) Text() []byte {
	text, err := k.key.MarshalText()
	if err != nil {
		panic(err) // it has none
	}
	return append(text, '\n')
}

// Encrypt is the key as the text of a file that needs a password, as of minisign -G. It takes seconds, and 1 GiB of memory. It is the caller's.
func (k PrivateKey) Encrypt(password string) ([]byte, error) {
	text, err := minisign.EncryptKey(password, k.key)
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}
