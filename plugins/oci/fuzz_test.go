package oci

import (
	"path"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// sample is a release as it is pushed.
func sample(tb testing.TB) (index, manifest, config []byte) {
	tb.Helper()
	r := &registry.Release{Name: "tax", Version: "1.2.0+b", Kind: registry.Library, Host: map[string]string{"shop": "^1"}, Permits: map[string][]string{"read": {"/x"}}}
	file := registry.File{Digest: "sha256:" + strings.Repeat("a", 64), Size: 5}
	p, err := pack(r, map[string]registry.File{"linux/amd64": file, "any": file}, map[string]registry.Content{"linux/amd64": {Signature: []byte("s")}})
	if err != nil {
		tb.Fatal(err)
	}
	i, err := parseIndex(p.texts[p.index.Digest])
	if err != nil {
		tb.Fatal(err)
	}
	return p.texts[p.index.Digest], p.texts[i.platforms["linux/amd64"].manifest.Digest], p.texts[i.config.Digest]
}

// What a parser takes can be used for what it is used: a tag, a path, a URL, a length.
func FuzzIndex(f *testing.F) {
	index, _, _ := sample(f)
	f.Add(index)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{}]}`))
	f.Add([]byte(strings.Repeat("[", 1000)))
	f.Fuzz(func(t *testing.T, text []byte) {
		i, err := parseIndex(text)
		if err != nil {
			return
		}
		if i.name != path.Base(i.name) || strings.Contains(i.name, "..") || len(i.platforms) == 0 || len(i.platforms) > maxPlatforms {
			t.Fatalf("taken: %+v", i)
		}
		if version, ok := versionOf(tagOf(i.version)); !ok || version != i.version {
			t.Fatalf("the version %q is %q after it was a tag", i.version, version)
		}
		for on, p := range i.platforms {
			if strings.Contains(on, "..") || p.file.Size < 0 || digest.Digest(p.file.Digest).Validate() != nil || p.manifest.Digest.Validate() != nil || p.manifest.Size > maxMetadata {
				t.Fatalf("taken for %s: %+v", on, p)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	index, manifest, _ := sample(f)
	i, err := parseIndex(index)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(manifest)
	f.Add([]byte(`{"schemaVersion":2,"layers":[{"urls":["x"]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := i.parseManifest("linux/amd64", text)
		if err != nil {
			return
		}
		if said := i.platforms["linux/amd64"].file; string(m.file.Digest) != said.Digest || m.file.Size != said.Size || m.config.Digest != i.config.Digest {
			t.Fatalf("taken: %+v", m)
		}
		if s := m.signature; s != nil && (s.Size < 0 || s.Size > maxSignature || s.Digest.Validate() != nil || len(s.URLs) > 0) {
			t.Fatalf("taken: %+v", s)
		}
	})
}

func FuzzConfig(f *testing.F) {
	index, _, config := sample(f)
	i, err := parseIndex(index)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(config)
	f.Add([]byte(`{"name":"tax","version":"1.2.0+b","files":{"any":{"digest":"x"}},"digest":"x","tag":"x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := i.parseConfig(text, "sha256:x")
		if err != nil {
			return
		}
		// What the index says is not the config's to say.
		if r.Name != i.name || r.Version != i.version || r.Digest != "sha256:x" || r.Tag != "" || len(r.Files) != 2 || r.Files["any"] != i.platforms["any"].file {
			t.Fatalf("taken: %+v", r)
		}
	})
}
