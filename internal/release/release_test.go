//go:build unix

package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

var when = time.Date(2026, 2, 3, 4, 5, 6, 7, time.FixedZone("", 3600))

// Each module that is published comes behind those that it requires; what they require is published.
func TestPublished(t *testing.T) {
	t.Parallel()
	modules, version, err := published(fixture.Root())
	require.NoError(t, err)
	assert.Regexp(t, `^v\d+\.\d+\.\d+$`, version)
	tagged := map[string]bool{}
	for _, m := range modules {
		for _, of := range m.own() {
			assert.True(t, tagged[of], "%s is tagged before %s, which it requires", m.path, of)
		}
		tagged[m.path] = true
	}
	for _, path := range []string{"", "/cmd/ferrule", "/loader/wasm", "/loader/script", "/loader/remote", "/plugins", "/plugins/oci", "/plugins/otel", "/sdk-go"} {
		assert.True(t, tagged[library+path], path)
	}
	assert.Len(t, modules, 9, "another module is published, or belongs to kept")
	assert.Equal(t, "v1.2.3", modules[0].tag("v1.2.3"))
	assert.Equal(t, "cmd/ferrule/v1.2.3", modules[len(modules)-1].tag("v1.2.3"))
}

// A tree from which nothing can be tagged is refused, with why.
func TestNotPublished(t *testing.T) {
	t.Parallel()
	for want, files := range map[string]map[string]string{
		"in a circle": {"a/go.mod": "module " + library + "/a\n\nrequire " + library + "/b v0.1.0\n", "b/go.mod": "module " + library + "/b\n\nrequire " + library + "/a v0.1.0\n",
			"go.work": "go 1.26.0\n\nuse (\n\t./a\n\t./b\n)\n"},
		library + "/bench, which is not published": {"a/go.mod": "module " + library + "/a\n\nrequire " + library + "/bench v0.1.0\n", "bench/go.mod": "module " + library + "/bench\n",
			"go.work": "go 1.26.0\n\nuse (\n\t./a\n\t./bench\n)\n"},
		"expected one version": {"go.work": "go 1.26.0\n\nreplace " + library + " v0.1.0 => ./\n\nreplace " + library + "/a v0.2.0 => ./a\n"},
	} {
		dir := t.TempDir()
		for name, text := range files {
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777))
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666))
		}
		_, _, err := published(dir)
		assert.ErrorContains(t, err, want)
	}
}

// An archive has what it is given, whatever order that comes in, and no more.
func TestArchiveIsNoMachines(t *testing.T) {
	t.Parallel()
	all := []packed{{"bin/ferrule", []byte("program"), 0o755}, {"LICENSE", []byte("MIT"), 0o644}}
	turned := []packed{all[1], all[0]}
	for _, pack := range []func(io.Writer, string, []packed, time.Time) error{tarball, zipped} {
		var a, b bytes.Buffer
		require.NoError(t, pack(&a, "ferrule_1", all, when))
		require.NoError(t, pack(&b, "ferrule_1", turned, when.In(time.UTC)))
		assert.Equal(t, a.Bytes(), b.Bytes())
		require.NoError(t, pack(&b, "ferrule_1", all, when.Add(time.Hour)))
		assert.NotEqual(t, a.Bytes(), b.Bytes())
	}
	var text bytes.Buffer
	require.NoError(t, tarball(&text, "ferrule_1", all, when))
	compressed, err := gzip.NewReader(&text)
	require.NoError(t, err)
	r := tar.NewReader(compressed)
	for _, want := range []packed{all[1], all[0]} {
		header, err := r.Next()
		require.NoError(t, err)
		assert.Equal(t, "ferrule_1/"+want.name, header.Name)
		assert.Equal(t, want.mode, header.FileInfo().Mode())
		assert.Empty(t, header.Uname+header.Gname)
		assert.True(t, when.Truncate(time.Second).Equal(header.ModTime), header.ModTime)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		assert.Equal(t, want.text, got)
	}
	_, err = r.Next()
	assert.ErrorIs(t, err, io.EOF)
	text.Reset()
	require.NoError(t, zipped(&text, "ferrule_1", all, when))
	z, err := zip.NewReader(bytes.NewReader(text.Bytes()), int64(text.Len()))
	require.NoError(t, err)
	require.Len(t, z.File, 2)
	assert.Equal(t, os.FileMode(0o755), z.File[1].Mode())
}

// Two folders of archives are the same, or the first file that differs is named.
func TestSame(t *testing.T) {
	t.Parallel()
	folder := func(files map[string]string) string {
		dir := t.TempDir()
		for name, text := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666))
		}
		return dir
	}
	a := folder(map[string]string{"a": "1", "b": "2"})
	assert.NoError(t, same(a, folder(map[string]string{"a": "1", "b": "2"})))
	assert.ErrorContains(t, same(a, folder(map[string]string{"a": "1", "b": "3"})), "b was built twice, and the bytes differ")
	assert.ErrorContains(t, same(a, folder(map[string]string{"a": "1"})), "found 2 files")
	assert.ErrorContains(t, same(a, folder(map[string]string{"a": "1", "c": "2"})), "b was built twice")
	assert.Error(t, same(folder(nil), folder(nil)), "nothing was built")
}

// The bill of a program names its modules, with what go.sum has of them, and Go's own library; a checkout's program has none.
func TestMaterials(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Path: library + "/cmd/ferrule", Main: debug.Module{Path: library + "/cmd/ferrule", Version: "v0.1.0"},
		Deps: []*debug.Module{{Path: library, Version: "v0.1.0", Sum: "h1:a="}, {Path: "example.com/m", Version: "v1.0.0+incompatible", Sum: "h1:b="}}}
	text, err := materials(info, "linux/amd64", sha256.Sum256([]byte("program")), when)
	require.NoError(t, err)
	var b bill
	require.NoError(t, json.Unmarshal(text, &b))
	assert.Equal(t, "CycloneDX 1.5", b.BOMFormat+" "+b.SpecVersion)
	assert.Equal(t, "2026-02-03T03:05:06Z", b.Metadata.Timestamp)
	assert.Equal(t, "pkg:golang/"+library+"/cmd/ferrule@v0.1.0", b.Metadata.Component.PURL)
	assert.Equal(t, []string{b.Metadata.Component.Ref}, b.Compositions[0].Assemblies)
	assert.Regexp(t, `^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, b.SerialNumber)
	var purls []string
	for _, c := range b.Components {
		purls = append(purls, c.PURL)
	}
	assert.Equal(t, []string{"pkg:golang/std@1.26.8", "pkg:golang/" + library + "@v0.1.0", "pkg:golang/example.com/m@v1.0.0+incompatible"}, purls)
	assert.Equal(t, []property{{"go.sum", "h1:b="}}, b.Components[2].Properties)

	info.Deps[0].Replace = &debug.Module{Path: "../m"}
	_, err = materials(info, "linux/amd64", [32]byte{}, when)
	assert.ErrorContains(t, err, "in place of")
	info.Main.Version = "(devel)"
	_, err = materials(info, "linux/amd64", [32]byte{}, when)
	assert.ErrorContains(t, err, "no version of its module")
}

// What is signed is verified by the key beside it, by minisign itself too; a file that was changed is not, nor one under another name of the release.
func TestSign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"a.tar.gz": "a", "empty": ""} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666))
	}
	require.NoError(t, sums(dir))
	text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
	require.NoError(t, err)
	assert.Contains(t, string(text), "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a.tar.gz\n")
	_, private, err := minisign.GenerateKey(nil)
	require.NoError(t, err)
	r := &rehearsal{version: "v1.2.3", released: "v1.2.3", private: private, log: io.Discard}
	require.NoError(t, r.sign(dir))
	key, err := minisign.PublicKeyFromFile(filepath.Join(dir, "ferrule.pub"))
	require.NoError(t, err)
	signature, err := os.ReadFile(filepath.Join(dir, "a.tar.gz.minisig"))
	require.NoError(t, err)
	assert.True(t, minisign.Verify(key, []byte("a"), signature))
	assert.False(t, minisign.Verify(key, []byte("b"), signature))
	assert.Contains(t, string(signature), "trusted comment: ferrule release v1.2.3 a.tar.gz\n")
	program := fixture.Tool(t, "minisign", "apt-get install minisign")
	for _, name := range []string{"a.tar.gz", "empty", "SHA256SUMS"} {
		_, err := output(dir, nil, program, "-V", "-p", "ferrule.pub", "-m", name)
		assert.NoError(t, err)
	}
	r.version = "v1.2.3-rehearsal"
	require.NoError(t, r.sign(dir))
	signature, err = os.ReadFile(filepath.Join(dir, "a.tar.gz.minisig"))
	require.NoError(t, err)
	assert.Contains(t, string(signature), "trusted comment: ferrule rehearsal v1.2.3-rehearsal a.tar.gz\n")
}

// An archive is installed by the page's commands.
func TestArchiveIsInstalled(t *testing.T) {
	t.Parallel()
	shell := fixture.Tool(t, "sh", "on Windows see https://gitforwindows.org")
	fixture.Tool(t, "tar", "apt-get install tar")
	page, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "releases.md"))
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(page), "\n## To install it\n")
	require.True(t, ok)
	_, section, ok = strings.Cut(section, "```sh\n")
	require.True(t, ok)
	commands, _, ok := strings.Cut(section, "```")
	require.True(t, ok)
	name := regexp.MustCompile(`ferrule_[0-9.]+_linux_amd64`).FindString(commands)
	require.NotEmpty(t, name)

	dir, home := t.TempDir(), t.TempDir()
	archive, err := os.Create(filepath.Join(dir, name+".tar.gz"))
	require.NoError(t, err)
	defer archive.Close()
	require.NoError(t, tarball(archive, name, []packed{{"LICENSE", nil, 0o644}, {"bin/ferrule", []byte("the program"), 0o755}, {"share/man/man1/ferrule.1", nil, 0o644}}, when))
	cmd := exec.Command(shell, "-ec", commands)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+home)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.FileExists(t, filepath.Join(home, ".local", "bin", "ferrule"))
	assert.FileExists(t, filepath.Join(home, ".local", "share", "man", "man1", "ferrule.1"))
	assert.NoFileExists(t, filepath.Join(home, ".local", "LICENSE"))
}

// What a page says of a host is compared with what was found.
func TestFigures(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "releases.md"))
	require.NoError(t, err)
	assert.Regexp(t, `\d\.\d MB \(stripped, linux/amd64\)`, string(page))
	f := &figures{[]string{"example.com/m v1.0.0", library}, 4_149_999}
	good := "A host has 4.1 MB (stripped, " + runtime.GOOS + "/" + runtime.GOARCH + ")\n\n| module | |\n|---|---|\n| `" + library + "` | this |\n| `example.com/m` v1.0.0 | why |\n"
	assert.Empty(t, f.compare(good))
	assert.Len(t, (&figures{f.graph, 4_150_001}).compare(good), 1)
	assert.Len(t, (&figures{append(f.graph, "example.com/n v1.0.0"), 3_600_000}).compare(good), 2)
	assert.Len(t, f.compare("nothing"), 1)
}

// The headers' archive is made of the tree, moved, and plug-ins are built by it.
func TestHeaders(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"make", "cc", "pkg-config", "cmake"} {
		fixture.Tool(t, tool, "apt-get install make gcc pkg-config cmake")
	}
	var said bytes.Buffer
	r := &rehearsal{root: fixture.Root(), out: t.TempDir(), work: t.TempDir(), version: "v1.2.3-rehearsal", log: &said}
	dist, err := empty(filepath.Join(r.out, "dist"))
	require.NoError(t, err)
	require.NoError(t, r.headers(r.root, dist, when))
	require.NoError(t, r.moved(dist))
	assert.Contains(t, said.String(), "built by pkg-config, and runs")
	assert.Contains(t, said.String(), "built by cmake, and runs")
	moved := filepath.Join(r.work, "moved", "then", "elsewhere")
	all, err := files(moved, "")
	require.NoError(t, err)
	for _, f := range all {
		assert.NotContains(t, string(f.text), r.out, f.name)
		assert.NotContains(t, string(f.text), r.work, f.name)
	}
}

// The command's archive has what it needs to be handed on, and nothing of where it was built. That it has the same bytes when it is built once more, in another folder, is
// looked at wherever one is made, by make release; see TestSame.
func TestArchive(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the command from an empty cache of modules; run without -short")
	}
	fixture.Tool(t, "git", "apt-get install git")
	root := fixture.Root()
	if _, err := listed(root); err != nil {
		t.Skip("what is published are the files that git lists, and here it lists none: ", err)
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	r := &rehearsal{root: root, out: t.TempDir(), work: t.TempDir(), platforms: []string{platform}, log: io.Discard}
	p, err := publish(root, filepath.Join(r.out, "proxy"), "v0.1.0-archive", when)
	require.NoError(t, err)
	require.NoError(t, r.archives(t.Context(), p, root, "dist", when, false))

	name := "ferrule_0.1.0-archive_" + strings.ReplaceAll(platform, "/", "_")
	unpacked := filepath.Join(r.out, "unpacked")
	require.NoError(t, unpack(filepath.Join(r.out, "dist", name+".tar.gz"), unpacked))
	all, err := files(unpacked, "")
	require.NoError(t, err)
	for _, f := range all {
		assert.NotContains(t, string(f.text), r.out, f.name)
		assert.NotContains(t, string(f.text), r.work, f.name)
		assert.NotContains(t, string(f.text), root+"/", f.name)
	}
	for _, want := range []string{"LICENSE", "CHANGELOG.md", "share/man/man1/ferrule.1", "share/bash-completion/completions/ferrule", "licences/go/LICENSE",
		"licences/" + library + "/LICENSE", "licences/github.com/spf13/cobra/LICENSE.txt", "licences/github.com/tetratelabs/wazero/NOTICE", "licences/" + library + "/loader/wasm/internal/extism/kernel.LICENSE",
		"licences/" + library + "/loader/script/javascript/quickjs.LICENSE", "licences/github.com/vbauerster/mpb/v8/UNLICENSE"} {
		assert.FileExists(t, filepath.Join(unpacked, filepath.FromSlash(want)))
	}
	said, err := output(r.out, nil, filepath.Join(unpacked, "bin", "ferrule"), "--version")
	require.NoError(t, err)
	assert.Contains(t, said, "ferrule v0.1.0-archive, ")

	// Its bill has the modules that Go has written into it.
	info, err := buildinfo.ReadFile(filepath.Join(unpacked, "bin", "ferrule"))
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(r.out, "dist", name+".cdx.json"))
	require.NoError(t, err)
	var b bill
	require.NoError(t, json.Unmarshal(text, &b))
	assert.Len(t, b.Components, 1+len(info.Deps))
	for i, m := range info.Deps {
		assert.Equal(t, m.Path+" "+m.Version, b.Components[i+1].Name+" "+b.Components[i+1].Version)
		assert.Regexp(t, "^h1:", b.Components[i+1].Properties[0].Value)
	}
}
