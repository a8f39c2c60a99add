package lock_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// digest is one whose digits are all the same.
func digest(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }

// signature is the text of one, with what has to be escaped in its comment.
const signature = "untrusted comment: by \"us\" \\o/\nRUSm\ntrusted comment: ferrule discount 1.2.0 darwin/arm64\nQ==\n"

// sample has everything that a lock may have.
func sample() *lock.Lock {
	return &lock.Lock{
		Plugins: map[string]*lock.Entry{
			"discount": {
				Version: "1.2.0", Kind: registry.Library, Source: "oci://registry.example.com/plugins", Digest: digest("a"), Key: "8F2A6C0E11D4B7A3",
				Files: map[string]registry.File{
					"linux/amd64":  {Digest: digest("1"), Size: 16384},
					"darwin/arm64": {Digest: digest("2"), Size: 32768, URL: "discount-1.2.0.dylib"},
				},
				Signatures: map[string]string{"darwin/arm64": signature},
				Requires:   map[string]string{"tax": "1.3.0-rc.1"},
				Grants:     []string{"connect 443", "function loyalty_points"},
				Pinned:     true,
			},
			"tax": {Version: "1.3.0-rc.1", Kind: registry.Wasm, Tag: "v1.3.0-rc.1",
				Files: map[string]registry.File{"any": {Digest: digest("3"), Size: 1}}},
		},
		Indexes: map[string]lock.Index{"oci://registry.example.com/index": {Name: "registry.example.com/plugins", Serial: 12, Date: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), Digest: "sha256:" + strings.Repeat("0a", 32)}},
	}
}

const sampleText = `# The plug-ins of this application, to the byte, on every platform. Ferrule writes this file; commit it.
# Where a merge has a conflict here, take one side, and install or update again.
format: 1

plugins:
  discount:
    version: 1.2.0
    kind: library
    source: oci://registry.example.com/plugins
    digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    key: "8F2A6C0E11D4B7A3"
    pinned: true
    requires:
      tax: 1.3.0-rc.1
    grants:
      - connect 443
      - function loyalty_points
    files:
      darwin/arm64: {digest: "sha256:2222222222222222222222222222222222222222222222222222222222222222", size: 32768, url: "discount-1.2.0.dylib", ` +
	`signature: "untrusted comment: by \"us\" \\o/\nRUSm\ntrusted comment: ferrule discount 1.2.0 darwin/arm64\nQ==\n"}
      linux/amd64: {digest: "sha256:1111111111111111111111111111111111111111111111111111111111111111", size: 16384}

  tax:
    version: 1.3.0-rc.1
    kind: wasm
    tag: v1.3.0-rc.1
    files:
      any: {digest: "sha256:3333333333333333333333333333333333333333333333333333333333333333", size: 1}

indexes:
  oci://registry.example.com/index:
    name: registry.example.com/plugins
    serial: 12
    date: "2026-11-01T12:00:00Z"
    digest: sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a
`

// A lock of before has no digest of its index, and is as good.
func TestIndexWithoutDigest(t *testing.T) {
	text := sampleText[:strings.LastIndex(sampleText, "    digest: ")]
	l, err := lock.Parse("ferrule.lock", []byte(text))
	require.NoError(t, err)
	assert.Empty(t, l.Indexes["oci://registry.example.com/index"].Digest)
	assert.Equal(t, text, string(l.Text()))
	_, err = lock.Parse("ferrule.lock", []byte(text+"    digest: none\n"))
	assert.ErrorIs(t, err, registry.ErrLock)
}

func TestText(t *testing.T) {
	assert.Equal(t, sampleText, string(sample().Text()))
	back, err := lock.Parse("ferrule.lock", []byte(sampleText))
	require.NoError(t, err)
	assert.Equal(t, sample(), back)
}

// What the description of a script says beside what it asks for is a list, which reads as it is written.
func TestSays(t *testing.T) {
	text := sampleText[:strings.Index(sampleText, "plugins:\n")] + `plugins:
  stamp:
    version: 2.0.0
    kind: script
    says:
      - "host shop ^1"
      - provides stamps
      - "summary Stamps: all of them"
    files:
      any: {digest: "` + digest("4") + `", size: 2}
`
	l := &lock.Lock{Plugins: map[string]*lock.Entry{"stamp": {Version: "2.0.0", Kind: registry.Script, Says: []string{"provides stamps", "summary Stamps: all of them", "host shop ^1"},
		Files: map[string]registry.File{"any": {Digest: digest("4"), Size: 2}}}}}
	assert.Equal(t, text, string(l.Text()))
	back, err := lock.Parse("ferrule.lock", []byte(text))
	require.NoError(t, err)
	assert.Equal(t, []string{"host shop ^1", "provides stamps", "summary Stamps: all of them"}, back.Plugins["stamp"].Says)
	assert.Equal(t, text, string(back.Text()))
	for written, want := range map[string]string{
		"      - provides stamps\n      - provides stamps":      `found the line "provides stamps" of "stamp" a second time`,
		"      - provides stamps\n      - \"a\\u0000b\"":        "expected a text of 1 to 1000 bytes in one line",
		"      - provides stamps\n    says:\n      - license x": `found "says" of "stamp" a second time`,
	} {
		_, err := lock.Parse("ferrule.lock", []byte(strings.Replace(text, "      - provides stamps", written, 1)))
		assert.ErrorContains(t, err, want, written)
	}
	assert.True(t, lock.ValidLine("a b"))
	assert.False(t, lock.ValidLine("a\nb"))
}
