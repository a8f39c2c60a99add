package files

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/internal/filelock"
	"github.com/ferrule-dev/ferrule/plugins/internal/layout"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/ctxio"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// entry is a file to write.
type entry struct {
	name     string // in the tree, with slashes
	platform string // of a file or a signature
	path     string // of what it is copied from; "" where it is text
	digest   string // of what is at path
	text     []byte
}

// prepare checks what is to be published, and completes it: digests, sizes, names of the files, and a tag.
func prepare(ctx context.Context, r *registry.Release, files map[string]registry.Content) (*registry.Release, []entry, error) {
	done := *r
	done.Files = map[string]registry.File{}
	if done.Tag == "" {
		done.Tag = "v" + strings.TrimPrefix(r.Version, "v")
	}
	for platform := range r.Files {
		if _, ok := files[platform]; !ok {
			return nil, nil, &registry.Error{Kind: registry.ErrNotFound, Found: "no file for " + layout.Short(platform), Expected: "one for each platform of the release"}
		}
	}
	var entries []entry
	for _, platform := range slices.Sorted(maps.Keys(files)) {
		c, said := files[platform], r.Files[platform]
		if err := errors.Join(layout.CheckName(r.Name), layout.CheckPlatform(platform)); err != nil {
			return nil, nil, err
		}
		digest, size, err := sum(ctx, c.Path)
		if err != nil {
			return nil, nil, err
		}
		if said.Digest != "" && said.Digest != digest {
			return nil, nil, &registry.Error{Kind: registry.ErrDigest, Found: digest + " for " + platform, Expected: said.Digest}
		}
		usual := layout.FileName(r.Name, r.Kind, platform)
		name := usual
		if kind := r.Kind; kind == registry.Script || kind == registry.Program {
			if ext := filepath.Ext(c.Path); path.Ext(name) == "" && ext != ".json" && ext != ".minisig" {
				name += ext
			}
		}
		f := registry.File{Digest: digest, Size: size}
		if name != usual {
			f.URL = name
		}
		done.Files[platform] = f
		name = path.Join(done.Tag, name)
		entries = append(entries, entry{name: name, platform: platform, path: c.Path, digest: digest})
		if c.Signature != nil {
			if len(c.Signature) > registry.MaxSignature {
				return nil, nil, &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("a signature of %s", sentence.Count(len(c.Signature), "byte")), Expected: fmt.Sprintf("at most %d", registry.MaxSignature)}
			}
			entries = append(entries, entry{name: name + ".minisig", platform: platform, text: c.Signature})
		}
	}
	return &done, entries, layout.CheckRelease(&done)
}

// sum is the digest and the size of a regular file.
func sum(ctx context.Context, path string) (digest string, size int64, err error) {
	file, err := regular.Open(path)
	if err != nil {
		return "", 0, &registry.Error{Kind: registry.ErrNotFound, Err: err, Remedy: "Build it"}
	}
	defer file.Close()
	h := sha256.New()
	size, err = io.Copy(h, during{ctxio.Reader(ctx, file)})
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), size, err
}

const stays = "Publish it under a new version: what is published stays as it is"

// same returns ErrReplaced where two descriptions of one version differ, and says in what. A platform that one of them alone has is no difference.
func same(was, now *registry.Release) error {
	replaced := func(found, expected string) error {
		return &registry.Error{Kind: registry.ErrReplaced, Found: found, Expected: expected + ", as it was published", Remedy: stays}
	}
	for _, platform := range slices.Sorted(maps.Keys(now.Files)) {
		there, ok := was.Files[platform]
		switch f := now.Files[platform]; {
		case !ok || there == f:
		case there.Digest != f.Digest:
			return replaced(f.Digest+" for "+platform, there.Digest)
		default:
			return replaced("the file "+f.URL+" for "+platform, there.URL)
		}
	}
	a, b := normal(was), normal(now)
	for _, field := range []struct {
		name     string
		was, now any
	}{{"tag", a.Tag, b.Tag}, {"kind", a.Kind, b.Kind}, {"summary", a.Summary, b.Summary}, {"license", a.License, b.License}, {"host", a.Host, b.Host},
		{"requires", a.Requires, b.Requires}, {"conflicts", a.Conflicts, b.Conflicts}, {"provides", a.Provides, b.Provides}, {"imports", a.Imports, b.Imports},
		{"permits", a.Permits, b.Permits}} {
		if !reflect.DeepEqual(field.was, field.now) {
			return replaced(field.name+" "+layout.Short(fmt.Sprint(field.now)), layout.Short(fmt.Sprint(field.was)))
		}
	}
	return nil
}

// normal is a release without what two of the same may differ in: lists with nothing in them are none.
func normal(r *registry.Release) registry.Release {
	n := *r
	if n.Kind == "" {
		n.Kind = registry.Library
	}
	for _, list := range []*[]string{&n.Requires, &n.Conflicts, &n.Provides, &n.Imports} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	if len(n.Host) == 0 {
		n.Host = nil
	}
	if len(n.Permits) == 0 {
		n.Permits = nil
	}
	return n
}

// indexIn reads a plug-in's index in the folder of a tag. One that is not there has no releases.
func indexIn(ctx context.Context, t tree, tag, plugin string) (*layout.Index, error) {
	text, _, err := reader{t}.Text(ctx, path.Join(tag, layout.IndexName(plugin)), layout.MaxIndex)
	if errors.Is(err, registry.ErrNotFound) || errors.Is(err, errNone) {
		return &layout.Index{Name: plugin}, nil
	}
	if err != nil {
		return nil, err
	}
	return layout.ParseIndex(text)
}

// publish adds a release to what a tree has, or adds platforms and signatures to one that is there. It returns what is to be written, in this order: the index of
// all releases is the last one, and only with it the release is there. Nothing is to be written where all of it is there already.
func publish(ctx context.Context, t tree, r *registry.Release, files map[string]registry.Content) ([]entry, error) {
	if err := layout.CheckName(r.Name); err != nil {
		return nil, err
	}
	all, err := indexIn(ctx, t, layout.Latest, r.Name)
	if err != nil {
		return nil, err
	}
	listed := all.Find(r.Version)
	wanted := *r
	if wanted.Tag == "" && listed != nil {
		wanted.Tag = listed.Tag // it lies there, and is the same for all that
	}
	done, entries, err := prepare(ctx, &wanted, files)
	if err != nil {
		return nil, err
	}
	done.Digest = ""
	own, err := indexIn(ctx, t, done.Tag, r.Name)
	if err != nil {
		return nil, err
	}
	whole := *done
	whole.Files = maps.Clone(done.Files)
	for _, was := range []*registry.Release{listed, own.Find(r.Version)} { // the second alone, where a Push was cut off
		if was == nil {
			continue
		}
		if err := same(was, done); err != nil {
			return nil, err
		}
		for platform, f := range was.Files {
			if _, ok := whole.Files[platform]; !ok && listed != nil {
				whole.Files[platform] = f
			}
		}
	}
	if entries, err = missingOf(ctx, t, entries, listed); err != nil || len(entries) == 0 {
		return nil, err
	}
	if err := free(t, entries, done, all, own); err != nil {
		return nil, err
	}
	if listed != nil && len(whole.Files) == len(listed.Files) {
		return entries, nil // signatures
	}
	indexes, err := indexed(ctx, t, &whole, all, own)
	return append(entries, indexes...), err
}

// missingOf are those of a release's files and signatures that are not there yet. Another signature than the one that is there is ErrReplaced.
func missingOf(ctx context.Context, t tree, entries []entry, listed *registry.Release) (missing []entry, err error) {
	for _, e := range entries {
		if listed == nil || listed.Files[e.platform].Digest == "" {
			missing = append(missing, e)
			continue
		}
		if e.path != "" {
			continue
		}
		text, _, err := reader{t}.Text(ctx, e.name, registry.MaxSignature)
		switch {
		case errors.Is(err, registry.ErrNotFound):
			missing = append(missing, e)
		case err != nil:
			return nil, err
		case string(text) != string(e.text):
			return nil, &registry.Error{Kind: registry.ErrReplaced, Found: "another signature for " + e.platform, Expected: "the one that was published", Remedy: stays}
		}
	}
	return missing, nil
}

// free returns an error where a name is taken: by another version of the plug-in under the same tag, or by one that differs in case only, which some file systems
// take for the same.
func free(t tree, entries []entry, r *registry.Release, indexes ...*layout.Index) error {
	for _, x := range indexes {
		for _, other := range x.Releases {
			if other.Version == r.Version {
				continue
			}
			for platform, f := range other.Files {
				name := path.Join(other.Tag, fileName(other, platform, f))
				if slices.ContainsFunc(entries, func(e entry) bool { return strings.EqualFold(e.name, name) }) {
					return &registry.Error{Kind: registry.ErrReplaced, Found: name + ", which is of version " + other.Version, Expected: "no file under this name",
						Remedy: "Publish each version under a tag of its own"}
				}
			}
		}
	}
	seen := map[string]bool{}
	names := []string{path.Join(layout.Latest, layout.IndexName(r.Name)), path.Join(r.Tag, layout.IndexName(r.Name))}
	for _, e := range entries {
		names = append(names, e.name)
	}
	for _, name := range names {
		for part := name; part != "."; part = path.Dir(part) {
			if seen[part] {
				continue
			}
			seen[part] = true
			there, err := t.names(path.Dir(part))
			if err != nil {
				return err
			}
			for _, other := range there {
				if base := path.Base(part); other != base && strings.EqualFold(other, base) {
					return &registry.Error{Kind: registry.ErrName, Found: path.Join(path.Dir(part), other) + " there, which differs from " + base + " in case only",
						Expected: "names that no file system takes for one", Remedy: "Publish it under another name, or under another tag"}
				}
			}
		}
	}
	return nil
}

// fileName is the name of a release's file in the folder of its tag.
func fileName(r *registry.Release, platform string, f registry.File) string {
	if f.URL != "" {
		return f.URL
	}
	return layout.FileName(r.Name, r.Kind, platform)
}

// indexed are the indexes that say of a release what is in it now. In the folder of its tag are those of the other plug-ins, too, since the newest release of a page
// is one for all.
func indexed(ctx context.Context, t tree, r *registry.Release, all, own *layout.Index) (entries []entry, err error) {
	with := func(x *layout.Index) *layout.Index {
		releases := slices.DeleteFunc(slices.Clone(x.Releases), func(other *registry.Release) bool { return other.Version == r.Version })
		return &layout.Index{Name: x.Name, Releases: append(releases, r)}
	}
	add := func(tag string, x *layout.Index) error {
		text, err := x.Text()
		entries = append(entries, entry{name: path.Join(tag, layout.IndexName(x.Name)), text: text})
		return err
	}
	others, err := t.names(layout.Latest)
	if err != nil {
		return nil, err
	}
	there, err := t.names(r.Tag)
	if err != nil {
		return nil, err
	}
	for _, name := range others {
		plugin, ok := strings.CutSuffix(name, layout.IndexName(""))
		if !ok || layout.CheckName(plugin) != nil || plugin == r.Name || slices.Contains(there, name) {
			continue
		}
		x, err := indexIn(ctx, t, layout.Latest, plugin)
		if err == nil {
			err = add(r.Tag, x)
		}
		if err != nil {
			return nil, err
		}
	}
	if all.Find(r.Version) != nil { // it has platforms more than before
		tags := map[string]bool{r.Tag: true, "": true}
		for _, other := range all.Releases {
			if tags[other.Tag] {
				continue
			}
			tags[other.Tag] = true
			x, err := indexIn(ctx, t, other.Tag, r.Name)
			if err == nil && x.Find(r.Version) != nil {
				err = add(other.Tag, with(x))
			}
			if err != nil {
				return nil, err
			}
		}
	}
	all = with(all)
	own = with(own)
	own.Releases = append(own.Releases, missing(all, own)...)
	if err := add(r.Tag, own); err != nil {
		return nil, err
	}
	return entries, add(layout.Latest, all)
}

// missing are the releases of one index that another does not have.
func missing(x, from *layout.Index) (releases []*registry.Release) {
	for _, r := range x.Releases {
		if from.Find(r.Version) == nil {
			releases = append(releases, r)
		}
	}
	return releases
}

// errNone is the cause where a bundle or a folder is not there yet.
var errNone = errors.New("there is none yet")

// lock keeps others who write away. Its file lies in the folder of root, and goes when it is given back.
func lock(ctx context.Context, root *os.Root, name string) (*filelock.Lock, error) {
	l, err := filelock.Acquire(ctx, root, name, 0o644)
	if err != nil {
		return nil, failed(fmt.Errorf("locking %s: %w", name, err))
	}
	return l, nil
}

// said completes the error of a Push.
func said(err error, source string, r *registry.Release) error {
	if err == nil {
		return nil
	}
	e := *failed(err)
	e.Source, e.Plugin, e.Version = source, r.Name, r.Version
	return &e
}

// Push implements registry.Pusher. It writes into the folder of the release's Tag; without one that is where the version is already, or else the version with a v
// before it. Platforms and signatures that a release does not have yet are added to it. Names that differ in case only are registry.ErrName. A Push that
// fails takes away what it has begun, but for what an index names by then: where a platform is added, the index in the folder of the tag names it before the index of all releases
// does. The next Push completes that. Files whose Push was cut off are in no index, and the next Push writes them again.
func (f *Folder) Push(ctx context.Context, r *registry.Release, files map[string]registry.Content) error {
	defer f.Forget(r.Name)
	return said(f.alone(ctx, func(root *os.Root) error { return f.push(ctx, root, r, files) }), f.String(), r)
}

const staging = ".new" // in the folder: what is not whole yet

// alone has do write into the folder, which is made where it is missing, while nobody else does.
func (f *Folder) alone(ctx context.Context, do func(root *os.Root) error) error {
	if err := os.MkdirAll(f.path, 0o755); err != nil {
		return err
	}
	root, err := f.root()
	if err != nil {
		return err
	}
	defer root.Close()
	held, err := lock(ctx, root, ".lock")
	if err != nil {
		return err
	}
	defer held.Release()
	return do(root)
}

func (f *Folder) push(ctx context.Context, root *os.Root, r *registry.Release, files map[string]registry.Content) (err error) {
	entries, err := publish(ctx, f, r, files)
	if err != nil {
		return err
	}
	if err := root.RemoveAll(staging); err != nil { // of one that was cut off
		return err
	}
	var made, folders []string // what nothing that was there before names, and the folders that were not there
	defer func() {
		if err == nil {
			return
		}
		_ = root.RemoveAll(staging)
		for _, name := range slices.Backward(made) {
			_ = root.Remove(name)
		}
		slices.Sort(folders)
		for _, dir := range slices.Backward(folders) { // each before the one that it lies in
			_ = root.Remove(dir)
		}
	}()
	for _, e := range entries {
		if _, err := root.Lstat(e.name); errors.Is(err, fs.ErrNotExist) {
			made = append(made, e.name)
		}
		for dir := path.Dir(e.name); dir != "."; dir = path.Dir(dir) {
			if _, err := root.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
				folders = append(folders, dir)
			}
		}
		if err := root.MkdirAll(path.Dir(e.name), 0o755); err != nil {
			return err
		}
		if err := root.MkdirAll(staging, 0o755); err != nil {
			return err
		}
		half := path.Join(staging, "file")
		out, err := root.OpenFile(half, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		if err := errors.Join(e.write(ctx, out), out.Sync(), out.Close()); err != nil {
			return err
		}
		if e.path != "" { // the signature of one that was cut off is none of this file's
			if err := root.Remove(e.name + ".minisig"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := root.Rename(half, e.name); err != nil {
			return err
		}
		if e.platform == "" && !slices.Contains(made, e.name) { // an index that was there may name what was made by now
			made = nil
		}
	}
	made = nil
	return root.RemoveAll(staging)
}

// write writes what belongs into a file.
func (e *entry) write(ctx context.Context, out io.Writer) error {
	if e.path == "" {
		_, err := out.Write(e.text)
		return err
	}
	in, err := regular.Open(e.path)
	if err != nil {
		return err
	}
	defer in.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, h), during{ctxio.Reader(ctx, in)}); err != nil {
		return err
	}
	if digest := "sha256:" + hex.EncodeToString(h.Sum(nil)); digest != e.digest {
		return &registry.Error{Kind: registry.ErrDigest, Found: digest, Expected: e.digest, Remedy: "Something changed " + e.path + " while it was read: publish it again"}
	}
	return nil
}

// Push implements registry.Pusher. The file is written anew, beside the old one, and then takes its place. While it is written, a file with .lock behind
// the bundle's name keeps others away who write.
func (b *Bundle) Push(ctx context.Context, r *registry.Release, files map[string]registry.Content) error {
	defer b.Forget(r.Name)
	return said(b.push(ctx, r, files), b.String(), r)
}

// absent is a tree with nothing in it.
type absent struct{}

func (absent) open(string) (io.ReadCloser, int64, error) { return nil, 0, errNone }
func (absent) names(string) ([]string, error)            { return nil, nil }

func (b *Bundle) push(ctx context.Context, r *registry.Release, files map[string]registry.Content) error {
	if err := os.MkdirAll(filepath.Dir(b.path), 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(filepath.Dir(b.path))
	if err != nil {
		return err
	}
	defer root.Close()
	held, err := lock(ctx, root, filepath.Base(b.path)+".lock")
	if err != nil {
		return err
	}
	defer held.Release()
	var old *archive
	var was tree = absent{}
	if _, err := os.Lstat(b.path); !errors.Is(err, fs.ErrNotExist) {
		if old, err = b.archive(); err != nil {
			return err
		}
		defer old.Close() // it was read only
		was = b
	}
	entries, err := publish(ctx, was, r, files)
	if err != nil || len(entries) == 0 {
		return err
	}
	half := b.path + ".new" // nobody else writes it: it is under the lock
	out, err := os.OpenFile(half, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(pack(ctx, out, old, entries), out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(half))
	}
	if old != nil {
		old.Close() // Windows replaces no file that is open
	}
	return os.Rename(half, b.path)
}

// pack writes a zip with what an old one has and with more.
func pack(ctx context.Context, out io.Writer, old *archive, entries []entry) error {
	z := zip.NewWriter(out)
	if old != nil {
		for _, name := range slices.Sorted(maps.Keys(old.files)) {
			if !slices.ContainsFunc(entries, func(e entry) bool { return e.name == name }) {
				if err := errors.Join(ended(ctx), z.Copy(old.files[name])); err != nil {
					return err
				}
			}
		}
	}
	for _, e := range entries {
		w, err := z.CreateHeader(&zip.FileHeader{Name: e.name, Method: zip.Deflate})
		if err != nil {
			return err
		}
		if err := e.write(ctx, w); err != nil {
			return err
		}
	}
	return z.Close()
}
