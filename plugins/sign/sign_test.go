package sign_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"aead.dev/minisign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

var (
	library = bytes.Repeat([]byte("the bytes of a library\n"), 5000)
	loyalty = sign.Subject{Name: "loyalty", Version: "1.4.0", Platform: "linux/amd64"}
)

func generate(t testing.TB) sign.PrivateKey {
	t.Helper()
	k, err := sign.Generate()
	require.NoError(t, err)
	return k
}

func signed(t testing.TB, k sign.PrivateKey, s sign.Subject) []byte {
	t.Helper()
	text, err := sign.Sign(k, s, bytes.NewReader(library))
	require.NoError(t, err)
	return text
}

func trust(t testing.TB, keys ...sign.PrivateKey) *sign.Trust {
	t.Helper()
	var texts []string
	for _, k := range keys {
		texts = append(texts, k.Public().String())
	}
	tr, err := sign.NewTrust(texts, nil, nil)
	require.NoError(t, err)
	return tr
}

func TestVerify(t *testing.T) {
	k := generate(t)
	text := signed(t, k, loyalty)
	id, err := trust(t, generate(t), k).Verify(t.Context(), loyalty, iotest.OneByteReader(bytes.NewReader(library)), text)
	require.NoError(t, err)
	assert.Equal(t, k.ID(), id)
	assert.Contains(t, string(text), "\ntrusted comment: ferrule loyalty 1.4.0 linux/amd64\n")
	windows := bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	_, err = trust(t, k).Verify(t.Context(), loyalty, bytes.NewReader(library), windows)
	assert.NoError(t, err)
	_, err = trust(t, k).Verify(t.Context(), loyalty, bytes.NewReader(library), bytes.TrimSuffix(text, []byte("\n")))
	assert.NoError(t, err)
}

// Each attack and each mistake is an error of its own kind, which says what to do; none is taken for another.
func TestWhatIsRefused(t *testing.T) {
	k, foreign, revoked, mailers := generate(t), generate(t), generate(t), generate(t)
	tr, err := sign.NewTrust([]string{k.Public().String(), revoked.Public().String()},
		map[string][]string{"mailer": {mailers.Public().String()}, "none": nil}, []string{revoked.ID()})
	require.NoError(t, err)
	good := string(signed(t, k, loyalty))
	lines := strings.Split(good, "\n")
	line := func(i int, text string) string {
		changed := append([]string(nil), lines...)
		changed[i] = text
		return strings.Join(changed, "\n")
	}
	changed := bytes.Clone(library)
	changed[len(changed)/2] ^= 1
	mailer := sign.Subject{Name: "mailer", Version: "1.4.0", Platform: "linux/amd64"}
	flipped := []byte(lines[1])
	flipped[40] = map[bool]byte{true: 'B', false: 'A'}[flipped[40] == 'A']
	commented := func(comment string) string {
		r := minisign.NewReader(bytes.NewReader(library))
		_, err := io.Copy(io.Discard, r)
		require.NoError(t, err)
		var key minisign.PrivateKey
		require.NoError(t, key.UnmarshalText(k.Text()))
		return string(r.SignWithComments(key, comment, "x"))
	}
	for name, c := range map[string]struct {
		subject   sign.Subject
		file      []byte
		signature string
		kind      error
		found     string
		remedy    string
	}{
		"a changed byte":              {loyalty, changed, good, registry.ErrSignature, "other bytes than those that key " + k.ID() + " has signed", "do not use the file"},
		"a byte less":                 {loyalty, library[1:], good, registry.ErrSignature, "other bytes", "Fetch file and signature again"},
		"a changed signature":         {loyalty, library, line(1, string(flipped)), registry.ErrSignature, "other bytes", "Fetch"},
		"another trusted comment":     {loyalty, library, line(2, "trusted comment: ferrule loyalty 9.9.9 linux/amd64"), registry.ErrComment, "has not signed", "Fetch the signature again"},
		"another one's for a comment": {loyalty, library, line(3, strings.Split(string(signed(t, k, mailer)), "\n")[3]), registry.ErrComment, "has not signed", "changed"},
		"a foreign key":               {loyalty, library, string(signed(t, foreign, loyalty)), registry.ErrKey, "key " + foreign.ID(), "registry.keys"},
		"a revoked key":               {loyalty, library, string(signed(t, revoked, loyalty)), registry.ErrRevokedKey, "revoked", "another key"},
		"the key of all for one with keys": {mailer, library, string(signed(t, k, mailer)), registry.ErrKey, "key " + k.ID(),
			"If it is to count for this one"},
		"the key of one for another":    {loyalty, library, string(signed(t, mailers, loyalty)), registry.ErrKey, "key " + mailers.ID(), "registry.keys"},
		"a foreign key for one of them": {mailer, library, string(signed(t, foreign, mailer)), registry.ErrKey, "key " + foreign.ID(), "keys of this plug-in"},
		"another plug-in":               {loyalty, library, string(signed(t, k, mailer)), registry.ErrName, "a signature for mailer 1.4.0 for linux/amd64", "another plug-in's"},
		"an older version": {loyalty, library, string(signed(t, k, sign.Subject{Name: "loyalty", Version: "1.3.9", Platform: "linux/amd64"})),
			registry.ErrVersion, "loyalty 1.3.9", "an old one that is served again"},
		"another platform": {loyalty, library, string(signed(t, k, sign.Subject{Name: "loyalty", Version: "1.4.0", Platform: "linux/arm64"})),
			registry.ErrPlatform, "linux/arm64", "another platform's"},
		"any for one": {loyalty, library, string(signed(t, k, sign.Subject{Name: "loyalty", Version: "1.4.0", Platform: "any"})),
			registry.ErrPlatform, "for any", "another platform's"},
		"unsigned":                {loyalty, library, "", registry.ErrUnsigned, "no signature", "ferrule sign"},
		"minisign's own comment":  {loyalty, library, commented("timestamp:1700000000\tfile:loyalty.so"), registry.ErrSubject, `"timestamp:1700000000\tfile:loyalty.so"`, "-t 'ferrule loyalty 1.4.0 linux/amd64'"},
		"an index's signature":    {loyalty, library, commented("ferrule-index acme 3"), registry.ErrSubject, "ferrule-index acme 3", "ferrule sign"},
		"two spaces":              {loyalty, library, commented("ferrule loyalty  1.4.0 linux/amd64"), registry.ErrSubject, "loyalty  1.4.0", "ferrule sign"},
		"a word more":             {loyalty, library, commented("ferrule loyalty 1.4.0 linux/amd64 x"), registry.ErrSubject, "amd64 x", "ferrule sign"},
		"a space behind":          {loyalty, library, commented("ferrule loyalty 1.4.0 linux/amd64 "), registry.ErrSubject, "amd64 ", "ferrule sign"},
		"upper case":              {loyalty, library, commented("Ferrule loyalty 1.4.0 linux/amd64"), registry.ErrSubject, "Ferrule", "ferrule sign"},
		"what looks like a name":  {loyalty, library, commented("ferrule loya\u200blty 1.4.0 linux/amd64"), registry.ErrSubject, `loya\u{200b}lty`, "ferrule sign"},
		"garbage":                 {loyalty, library, "<html>404</html>", registry.ErrMalformed, "a text that is no signature", ".minisig"},
		"zeros":                   {loyalty, library, strings.Repeat("\x00", 300), registry.ErrMalformed, "a text that is no signature", ".minisig"},
		"a public key":            {loyalty, library, string(k.Public().Text()), registry.ErrMalformed, "cut off", ".minisig"},
		"too long":                {loyalty, library, line(0, lines[0]+strings.Repeat("x", registry.MaxSignature)), registry.ErrMalformed, "more than 4 KiB", "no signature"},
		"more behind it":          {loyalty, library, good + "\n\n" + good, registry.ErrMalformed, "more behind it", ".minisig"},
		"an unknown kind":         {loyalty, library, line(1, "Rk"+lines[1][2:]), registry.ErrMalformed, "unknown kind", ".minisig"},
		"no base64":               {loyalty, library, line(1, "!"+lines[1][1:]), registry.ErrMalformed, "no signature", ".minisig"},
		"no trusted comment":      {loyalty, library, line(2, "comment: x"), registry.ErrMalformed, "no signature", ".minisig"},
		"a name that is none":     {sign.Subject{Name: "a b", Version: "1", Platform: "any"}, library, good, registry.ErrName, `the name "a b"`, ""},
		"a platform that is none": {sign.Subject{Name: "a", Version: "1", Platform: "linux"}, library, good, registry.ErrPlatform, `the platform "linux"`, ""},
		"a version that is none":  {sign.Subject{Name: "a", Version: "1 2", Platform: "any"}, library, good, registry.ErrVersion, `the version "1 2"`, "manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := tr.Verify(t.Context(), c.subject, bytes.NewReader(c.file), []byte(c.signature))
			require.Error(t, err)
			assert.Empty(t, id)
			assert.Same(t, c.kind, kindOf(t, err).Kind, "%v", err)
			assert.Contains(t, kindOf(t, err).Found, c.found)
			assert.Contains(t, kindOf(t, err).Remedy, c.remedy)
			assert.NotEmpty(t, kindOf(t, err).Expected)

			id, err = tr.VerifySubject(c.subject, []byte(c.signature))
			if c.signature == good && c.kind == registry.ErrSignature {
				require.NoError(t, err, "what is wrong is the file, which it does not see")
				assert.Equal(t, k.ID(), id)
				return
			}
			kind := c.kind
			if kind == registry.ErrSignature {
				kind = registry.ErrComment // the signature over the comment is over that over the file, too
			}
			require.Error(t, err)
			assert.Empty(t, id)
			assert.Same(t, kind, kindOf(t, err).Kind, "%v", err)
		})
	}
}

// What a signature says is compared without a key. Nothing is verified: the bytes may be any.
func TestClaims(t *testing.T) {
	k := generate(t)
	text := signed(t, k, loyalty)
	id, err := sign.Claims(loyalty, text)
	require.NoError(t, err)
	assert.Equal(t, k.ID(), id)
	for kind, s := range map[error]sign.Subject{
		registry.ErrName:     {Name: "mailer", Version: "1.4.0", Platform: "linux/amd64"},
		registry.ErrVersion:  {Name: "loyalty", Version: "1.4.1", Platform: "linux/amd64"},
		registry.ErrPlatform: {Name: "loyalty", Version: "1.4.0", Platform: "any"},
	} {
		_, err := sign.Claims(s, text)
		assert.Same(t, kind, kindOf(t, err).Kind)
	}
	_, err = sign.Claims(loyalty, nil)
	assert.Same(t, registry.ErrUnsigned, kindOf(t, err).Kind)
	_, err = sign.Claims(loyalty, text[:100])
	assert.Same(t, registry.ErrMalformed, kindOf(t, err).Kind)
	other, err := sign.SignComment(k, "ferrule-index acme 3", bytes.NewReader(library))
	require.NoError(t, err)
	_, err = sign.Claims(loyalty, other)
	assert.Same(t, registry.ErrSubject, kindOf(t, err).Kind)
}

func kindOf(t *testing.T, err error) *registry.Error {
	t.Helper()
	var e *registry.Error
	require.ErrorAs(t, err, &e)
	return e
}

// Wherever a signature is cut off it is refused as one that is not whole; only the last line break may be missing.
func TestTruncated(t *testing.T) {
	k := generate(t)
	text := signed(t, k, loyalty)
	for n := 1; n < len(text)-1; n++ {
		_, err := trust(t, k).Verify(t.Context(), loyalty, bytes.NewReader(library), text[:n])
		require.ErrorIs(t, err, registry.ErrMalformed, "%d", n)
		require.Equal(t, "a signature that was cut off", kindOf(t, err).Found, "%d: %q", n, text[:n])
	}
}

// The untrusted comment is for people, and nobody has signed it: whoever changes it has changed nothing.
func TestUntrustedComment(t *testing.T) {
	k := generate(t)
	_, rest, _ := strings.Cut(string(signed(t, k, loyalty)), "\n")
	id, err := trust(t, k).Verify(t.Context(), loyalty, bytes.NewReader(library), []byte("untrusted comment: ferrule other 9 any\n"+rest))
	require.NoError(t, err)
	assert.Equal(t, k.ID(), id)
}

// A key is revoked by its id or as a whole. That another key has the same id, which is no secret, takes nothing away from either.
func TestRevoked(t *testing.T) {
	k, other := generate(t), generate(t)
	verify := func(revoked ...string) error {
		tr, err := sign.NewTrust([]string{k.Public().String()}, map[string][]string{"loyalty": {k.Public().String()}}, revoked)
		require.NoError(t, err)
		_, err = tr.Verify(t.Context(), loyalty, bytes.NewReader(library), signed(t, k, loyalty))
		return err
	}
	assert.NoError(t, verify())
	assert.NoError(t, verify(other.ID(), other.Public().String()))
	for _, revoked := range []string{k.ID(), strings.ToLower(k.ID()), k.Public().String(), string(k.Public().Text())} {
		assert.ErrorIs(t, verify(revoked), registry.ErrRevokedKey, revoked)
	}
	assert.NoError(t, verify(withID(t, other.Public(), k.Public()).String()))
	assert.ErrorIs(t, verify(withID(t, k.Public(), other.Public()).String()), registry.ErrRevokedKey, "the same key under another id")
	nobody, err := sign.NewTrust(nil, nil, []string{k.ID()})
	require.NoError(t, err)
	_, err = nobody.Verify(t.Context(), loyalty, bytes.NewReader(library), signed(t, k, loyalty))
	assert.ErrorIs(t, err, registry.ErrRevokedKey, "also where no key counts")
}

// withID is a key under the id of another.
func withID(t *testing.T, key, of sign.PublicKey) sign.PublicKey {
	t.Helper()
	a, err := base64.StdEncoding.DecodeString(key.String())
	require.NoError(t, err)
	b, err := base64.StdEncoding.DecodeString(of.String())
	require.NoError(t, err)
	copy(a[2:10], b[2:10])
	k, err := sign.ParsePublicKey(base64.StdEncoding.EncodeToString(a))
	require.NoError(t, err)
	require.Equal(t, of.ID(), k.ID())
	return k
}

// With a key of small order anybody can sign: one of a few points is what the signature lacks, and one try in so many hits it. Each is refused where keys are read. That the
// forgery is one is shown by package ed25519, which accepts it.
func TestSmallOrder(t *testing.T) {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	for _, y := range []string{
		strings.Repeat("00", 32), "01" + strings.Repeat("00", 31), "ec" + strings.Repeat("ff", 30) + "7f", "ed" + strings.Repeat("ff", 30) + "7f", "ee" + strings.Repeat("ff", 30) + "7f",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		strings.Repeat("00", 31) + "80", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	} {
		raw, err := hex.DecodeString(y)
		require.NoError(t, err)
		forged := false
		for range 200 { // R = sB and S = s, which is right where the hash is a multiple of the order
			seed := make([]byte, ed25519.SeedSize)
			_, _ = rand.Read(seed)
			digest := sha512.Sum512(seed)
			digest[0], digest[31] = digest[0]&248, digest[31]&127|64
			slices.Reverse(digest[:32])
			s := new(big.Int).Mod(new(big.Int).SetBytes(digest[:32]), order).FillBytes(make([]byte, 32))
			slices.Reverse(s)
			signature := append(slices.Clone(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)), s...)
			if forged = ed25519.Verify(raw, library, signature); forged {
				break
			}
		}
		assert.True(t, forged, y)
		text := base64.StdEncoding.EncodeToString(slices.Concat([]byte("Ed12345678"), raw))
		_, err = sign.ParsePublicKey(text)
		assert.Same(t, registry.ErrKeyText, kindOf(t, err).Kind, y)
		_, err = sign.NewTrust([]string{text}, nil, nil)
		assert.ErrorIs(t, err, registry.ErrKeyText)
	}
	_, err := sign.ParsePublicKey(sign.PublicKey{}.String())
	assert.ErrorIs(t, err, registry.ErrKeyText, "the zero key")
}

// Of several keys with one id, each verifies its own signatures.
func TestKeysOfOneID(t *testing.T) {
	k, other := generate(t), generate(t)
	tr, err := sign.NewTrust([]string{withID(t, other.Public(), k.Public()).String(), k.Public().String()}, nil, nil)
	require.NoError(t, err)
	_, err = tr.Verify(t.Context(), loyalty, bytes.NewReader(library), signed(t, k, loyalty))
	assert.NoError(t, err)
	tr, err = sign.NewTrust([]string{withID(t, other.Public(), k.Public()).String()}, nil, nil)
	require.NoError(t, err)
	_, err = tr.Verify(t.Context(), loyalty, bytes.NewReader(library), signed(t, k, loyalty))
	assert.ErrorIs(t, err, registry.ErrSignature, "an id proves nothing")
}

// Where no key counts nothing is verified, and it is said; Verify does not accept a thing.
func TestFirstUse(t *testing.T) {
	k := generate(t)
	own, err := sign.NewTrust(nil, map[string][]string{"mailer": {k.Public().String()}}, nil)
	require.NoError(t, err)
	assert.Empty(t, own.FirstUse("mailer"))
	for _, tr := range []*sign.Trust{{}, own} {
		assert.Contains(t, tr.FirstUse("loyalty"), "loyalty: NOT VERIFIED")
		_, err := tr.Verify(t.Context(), loyalty, bytes.NewReader(library), signed(t, k, loyalty))
		assert.ErrorIs(t, err, registry.ErrKey)
		_, err = tr.Verify(t.Context(), loyalty, bytes.NewReader(library), nil)
		assert.ErrorIs(t, err, registry.ErrUnsigned)
	}
	assert.Empty(t, trust(t, k).FirstUse("loyalty"))
	revoked, err := sign.NewTrust([]string{k.Public().String()}, nil, []string{k.ID()})
	require.NoError(t, err)
	assert.Empty(t, revoked.FirstUse("loyalty"), "that all its keys are revoked does not make a plug-in one without")
}

// config.yaml says whose signatures count.
func TestTrustOf(t *testing.T) {
	all, own, revoked := generate(t), generate(t), generate(t)
	c, err := config.Parse("", fmt.Appendf(nil, "registry: {keys: [%s, %s], revoked: [%q]}\nplugins: [{name: mailer, keys: [%s]}, loyalty]\n",
		all.Public(), revoked.Public(), revoked.ID(), own.Public()))
	require.NoError(t, err)
	tr, err := sign.TrustOf(c)
	require.NoError(t, err)
	for name, of := range map[string]struct {
		key  sign.PrivateKey
		want error
	}{"loyalty": {all, nil}, "other": {all, nil}, "mailer": {own, nil}, "revoked": {revoked, registry.ErrRevokedKey}} {
		s := sign.Subject{Name: name, Version: "1", Platform: "any"}
		_, err := tr.Verify(t.Context(), s, bytes.NewReader(library), signed(t, of.key, s))
		assert.ErrorIs(t, err, of.want, name)
	}
	s := sign.Subject{Name: "mailer", Version: "1", Platform: "any"}
	_, err = tr.Verify(t.Context(), s, bytes.NewReader(library), signed(t, all, s))
	assert.ErrorIs(t, err, registry.ErrKey)
	_, err = sign.TrustOf(&config.Config{Registry: config.Registry{Keys: []string{"RW"}}})
	assert.ErrorIs(t, err, registry.ErrKeyText)
	_, err = sign.TrustOf(&config.Config{Registry: config.Registry{Revoked: []string{"0123"}}})
	assert.ErrorIs(t, err, registry.ErrKeyText)
}

// What is signed as something else than a plug-in verifies as that alone.
func TestComment(t *testing.T) {
	k := generate(t)
	text, err := sign.SignComment(k, "ferrule-index acme 12", bytes.NewReader(library))
	require.NoError(t, err)
	id, comment, err := trust(t, k).VerifyComment(t.Context(), "an index", bytes.NewReader(library), text)
	require.NoError(t, err)
	assert.Equal(t, []string{k.ID(), "ferrule-index acme 12"}, []string{id, comment})
	_, _, err = trust(t, k).VerifyComment(t.Context(), "an index", bytes.NewReader(library), signed(t, k, loyalty))
	assert.ErrorIs(t, err, registry.ErrSubject)
	assert.ErrorContains(t, err, "an index: found the signature of a plug-in")
	_, _, err = trust(t, generate(t)).VerifyComment(t.Context(), "an index", bytes.NewReader(library), text)
	assert.ErrorIs(t, err, registry.ErrKey)
	for _, comment := range []string{"", "ferrule loyalty 1.4.0 any", "two\nlines", " x", "x ", "é", strings.Repeat("x", 513)} {
		_, err := sign.SignComment(k, comment, bytes.NewReader(library))
		assert.ErrorIs(t, err, registry.ErrComment, comment)
	}
}

// Signatures of minisign before 0.10, over the bytes themselves, are good for files that fit into memory.
func TestLegacy(t *testing.T) {
	k := generate(t)
	var key minisign.PrivateKey
	require.NoError(t, key.UnmarshalText(k.Text()))
	text := minisign.SignWithComments(key, library, loyalty.Comment(), "x")
	id, err := trust(t, k).Verify(t.Context(), loyalty, bytes.NewReader(library), text)
	require.NoError(t, err)
	assert.Equal(t, k.ID(), id)
	_, err = trust(t, k).Verify(t.Context(), loyalty, bytes.NewReader(library[1:]), text)
	assert.ErrorIs(t, err, registry.ErrSignature)
	_, err = trust(t, k).Verify(t.Context(), loyalty, io.LimitReader(zeros{}, 1<<40), text)
	assert.ErrorIs(t, err, registry.ErrSignature)
	assert.ErrorContains(t, err, "more than 32 MiB")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A file that cannot be read, and a context that has ended, are no statement on the signature.
func TestReading(t *testing.T) {
	k := generate(t)
	text, broken := signed(t, k, loyalty), errors.New("broken")
	_, err := trust(t, k).Verify(t.Context(), loyalty, iotest.ErrReader(broken), text)
	assert.ErrorIs(t, err, broken)
	_, err = sign.Sign(k, loyalty, iotest.ErrReader(broken))
	assert.ErrorIs(t, err, broken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = trust(t, k).Verify(ctx, loyalty, zeros{}, text)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestSubjects(t *testing.T) {
	k := generate(t)
	for _, s := range []sign.Subject{{"a", "1", "any"}, {"_", "v1.2.3-rc.1+build.5", "windows/amd64"}, {strings.Repeat("a", 128), strings.Repeat("1", 128), "linux/mips64le"}} {
		_, err := trust(t, k).Verify(t.Context(), s, bytes.NewReader(library), signed(t, k, s))
		assert.NoError(t, err)
	}
	for _, c := range []struct {
		sign.Subject
		kind error
	}{
		{sign.Subject{"", "1", "any"}, registry.ErrName}, {sign.Subject{"..", "1", "any"}, registry.ErrName}, {sign.Subject{"a/b", "1", "any"}, registry.ErrName},
		{sign.Subject{"-rf", "1", "any"}, registry.ErrName}, {sign.Subject{".a", "1", "any"}, registry.ErrName}, {sign.Subject{"a.", "1", "any"}, registry.ErrName},
		{sign.Subject{"a\n", "1", "any"}, registry.ErrName}, {sign.Subject{strings.Repeat("a", 129), "1", "any"}, registry.ErrName},
		{sign.Subject{"a", "", "any"}, registry.ErrVersion}, {sign.Subject{"a", "1\n", "any"}, registry.ErrVersion}, {sign.Subject{"a", "é", "any"}, registry.ErrVersion},
		{sign.Subject{"a", "1", ""}, registry.ErrPlatform}, {sign.Subject{"a", "1", "linux"}, registry.ErrPlatform}, {sign.Subject{"a", "1", "linux/amd64/v2"}, registry.ErrPlatform},
		{sign.Subject{"a", "1", "../x"}, registry.ErrPlatform},
	} {
		_, err := sign.Sign(k, c.Subject, bytes.NewReader(library))
		assert.ErrorIs(t, err, c.kind, "%q", c.Subject)
	}
}

func TestPublicKeys(t *testing.T) {
	k := generate(t).Public()
	for _, text := range []string{k.String(), string(k.Text()), k.String() + "\n", "untrusted comment: minisign public key\r\n" + k.String() + "\r\n"} {
		got, err := sign.ParsePublicKey(text)
		require.NoError(t, err, text)
		assert.Equal(t, k.String(), got.String())
		assert.Regexp(t, "^[0-9A-F]{16}$", got.ID())
	}
	const zero = "untrusted comment: minisign public key 8DA9D0416B68F71\nRWRxj7YWBJ3aCIbMq1HGjmy+vXKipHXxN7f6W7CrE8kUAC6G0wbbON4Z\n"
	got, err := sign.ParsePublicKey(zero)
	require.NoError(t, err)
	assert.Equal(t, "08DA9D0416B68F71", got.ID())
	assert.Equal(t, zero, string(got.Text()), "as minisign wrote it: an id with a zero in front, which one key of 16 has")
	for name, c := range map[string]struct{ text, found string }{
		"nothing":        {"", "no key"},
		"a comment":      {"untrusted comment: x\n", "no key"},
		"a word":         {"RWQabc", `"RWQabc"`},
		"one less":       {k.String()[1:], k.String()[1:]},
		"two keys":       {k.String() + "\n" + k.String(), "more lines"},
		"a private key":  {string(generate(t).Text()), "a private key"},
		"another kind":   {"AA" + k.String()[2:], "AA"},
		"a long text":    {strings.Repeat("x", sign.MaxKey+1), "4097 bytes"},
		"what is hidden": {"RW\x1b[2J", `\x1b`},
	} {
		_, err := sign.ParsePublicKey(c.text)
		assert.ErrorIs(t, err, registry.ErrKeyText, name)
		assert.Contains(t, kindOf(t, err).Found, c.found, name)
	}
	_, err = sign.NewTrust(nil, map[string][]string{"a": {"RW"}}, nil)
	assert.ErrorIs(t, err, registry.ErrKeyText)
}

func TestPrivateKeys(t *testing.T) {
	k := generate(t)
	assert.False(t, sign.Encrypted(k.Text()))
	got, err := sign.ParsePrivateKey(k.Text(), "")
	require.NoError(t, err)
	assert.Equal(t, k.Public(), got.Public())
	_, err = trust(t, k).Verify(t.Context(), loyalty, bytes.NewReader(library), signed(t, got, loyalty))
	assert.NoError(t, err)

	line := strings.Split(string(k.Text()), "\n")[1]
	b, err := base64.StdEncoding.DecodeString(line)
	require.NoError(t, err)
	b[70] ^= 1
	for name, c := range map[string]struct{ text, found string }{
		"a changed key": {base64.StdEncoding.EncodeToString(b), "halves"},
		"a public key":  {string(k.Public().Text()), "a public key"},
		"nothing":       {"", "no key"},
		"cut off":       {line[:100], "none"},
		"another kind":  {"AA" + line[2:], "none"},
	} {
		_, err := sign.ParsePrivateKey([]byte(c.text), "")
		assert.ErrorIs(t, err, registry.ErrKeyText, name)
		assert.Contains(t, kindOf(t, err).Found, c.found, name)
	}

	// What is secret is shown nowhere.
	seed := b[62+8 : 62+40]
	asJSON, err := json.Marshal([]any{k})
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		for _, of := range []any{k, &k, struct{ K sign.PrivateKey }{k}, []sign.PrivateKey{k}} {
			shown := fmt.Sprintf(verb, of) + string(asJSON)
			assert.NotContains(t, shown, fmt.Sprintf("%d %d %d", seed[1], seed[2], seed[3]), verb)
			assert.NotContains(t, shown, fmt.Sprintf("%x", seed[1:5]), verb)
			assert.Contains(t, shown, k.ID(), verb)
		}
	}
}

// Whether a key counts is known without a signature, and is what Verify says of one by it.
func TestCounts(t *testing.T) {
	a, b, own, gone := generate(t), generate(t), generate(t), generate(t)
	text := func(k sign.PrivateKey) string { return k.Public().String() }
	tr, err := sign.NewTrust([]string{text(a), text(gone)}, map[string][]string{"tax": {text(own)}}, []string{gone.ID()})
	require.NoError(t, err)
	for _, tt := range []struct {
		plugin string
		key    sign.PrivateKey
		kind   error
	}{{"rates", a, nil}, {"rates", b, registry.ErrKey}, {"rates", own, registry.ErrKey}, {"rates", gone, registry.ErrRevokedKey}, {"tax", own, nil}, {"tax", a, registry.ErrKey}, {"tax", gone, registry.ErrRevokedKey}} {
		err := tr.Counts(tt.plugin, tt.key.ID())
		subject := sign.Subject{Name: tt.plugin, Version: "1.0.0", Platform: "any"}
		_, verified := tr.Verify(t.Context(), subject, bytes.NewReader(library), signed(t, tt.key, subject))
		if tt.kind == nil {
			assert.NoError(t, err, tt.plugin)
			assert.NoError(t, verified, tt.plugin)
			continue
		}
		assert.ErrorIs(t, err, tt.kind, tt.plugin)
		assert.Equal(t, verified.(*registry.Error).Found, err.(*registry.Error).Found)
	}
}

// What a signature says that it is for is read of it, and verified by nobody.
func TestSubjectOf(t *testing.T) {
	key, err := sign.Generate()
	require.NoError(t, err)
	of := sign.Subject{Name: "tax", Version: "1.2.0", Platform: "any"}
	text, err := sign.Sign(key, of, strings.NewReader("x"))
	require.NoError(t, err)
	got, err := sign.SubjectOf(text)
	require.NoError(t, err)
	assert.Equal(t, of, got)
	text, err = sign.SignComment(key, "something else", strings.NewReader("x"))
	require.NoError(t, err)
	_, err = sign.SubjectOf(text)
	assert.ErrorIs(t, err, registry.ErrSubject)
	_, err = sign.SubjectOf(nil)
	assert.ErrorIs(t, err, registry.ErrUnsigned)
	_, err = sign.SubjectOf([]byte("no signature\n"))
	assert.ErrorIs(t, err, registry.ErrMalformed)
}
