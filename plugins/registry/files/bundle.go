package files

import (
	"archive/zip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/internal/layout"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// Bundle is a zip file with releases, their signatures and their indexes. It is a registry.Pusher.
//
// A zip that anybody packs of such a folder is one, too. One that could do harm where it is unpacked is refused as a whole: with paths that lead
// out of it or that mean something else on another system, links, two files under one name, a file that is a folder, too, something before the zip or
// more in it than its size allows.
type Bundle struct {
	*layout.Source
	path string
}

// NewBundle returns the bundle at a path. It need not be there before the first Push.
func NewBundle(path string) (*Bundle, error) { return newBundle(path, "") }

func newBundle(path, tag string) (*Bundle, error) {
	path, name, err := address(path)
	if err != nil {
		return nil, err
	}
	b := &Bundle{path: path}
	b.Source, err = layout.New(name, template(), tag, reader{b})
	return b, err
}

// What a bundle may have.
const (
	maxEntries = 100_000
	maxRatio   = 100     // how many times its own size all of its files may have, once that is
	freeSize   = 1 << 30 // more than this
)

// archive is a bundle that is open.
type archive struct {
	file  *os.File
	files map[string]*zip.File // by path
}

func (a *archive) Close() error { return a.file.Close() }

// archive opens the zip and checks all that it says of its files.
func (b *Bundle) archive() (_ *archive, err error) {
	file, err := regular.Open(b.path)
	if err != nil {
		return nil, &registry.Error{Kind: registry.ErrUnavailable, Err: err, Remedy: "Name a bundle that is there"}
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, &registry.Error{Kind: registry.ErrUnavailable, Err: err}
	}
	refuse := func(found, expected string) (*archive, error) {
		return nil, &registry.Error{Kind: registry.ErrMalformed, Found: found, Expected: expected, Remedy: "Make the bundle again, or get it from somebody whom you trust"}
	}
	z, err := zip.NewReader(file, info.Size())
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, &registry.Error{Kind: registry.ErrMalformed, Found: "a file that is no zip", Expected: "a bundle", Err: err}
	}
	if len(z.File) > maxEntries {
		return refuse(fmt.Sprintf("a bundle of %s", sentence.Count(len(z.File), "file")), fmt.Sprintf("at most %d", maxEntries))
	}
	a := &archive{file, map[string]*zip.File{}}
	names, files := map[string]bool{}, map[string]bool{} // without case, as some file systems have them
	var packed, size uint64
	for _, f := range z.File {
		name, folder := strings.CutSuffix(f.Name, "/")
		mode := f.Mode()
		switch {
		case layout.CheckPath(name) != nil: // which one system reads so, and another one otherwise
			return refuse("the path "+layout.Short(f.Name)+" in it", "one of a release's files, which stays in the bundle and is the same on each system")
		case mode&fs.ModeType&^fs.ModeDir != 0, mode.IsDir() != folder:
			return refuse(layout.Short(f.Name)+" in it, which is a link or something else that is no file", "files and folders")
		case names[strings.ToLower(name)]:
			return refuse(layout.Short(f.Name)+" in it twice", "each file once")
		case folder && f.UncompressedSize64 > 0:
			return refuse(layout.Short(f.Name)+" in it, a folder with bytes of its own", "folders without")
		case f.Flags&1 != 0:
			return refuse(layout.Short(f.Name)+" in it, which is encrypted", "files that anybody can read")
		case f.Method != zip.Store && f.Method != zip.Deflate:
			return refuse(fmt.Sprintf("%s in it, packed by method %d", layout.Short(f.Name), f.Method), "stored or deflated files")
		case f.CompressedSize64 > uint64(info.Size()):
			return refuse(fmt.Sprintf("%s in it, with %d packed bytes in a bundle of %d", layout.Short(f.Name), f.CompressedSize64, info.Size()), "no more than there are")
		case f.UncompressedSize64 > layout.MaxFile:
			return refuse(fmt.Sprintf("%s in it, with %s", layout.Short(f.Name), sentence.Count(f.UncompressedSize64, "byte")), fmt.Sprintf("at most %d", int64(layout.MaxFile)))
		}
		names[strings.ToLower(name)] = true
		packed, size = packed+f.CompressedSize64, size+f.UncompressedSize64
		if !folder {
			files[strings.ToLower(name)] = true
			a.files[name] = f
		}
	}
	for name := range names {
		for i, c := range name {
			if c == '/' && files[name[:i]] {
				return refuse(layout.Short(name[:i])+" in it, which is a file and a folder", "one of the two")
			}
		}
	}
	if len(z.File) > 0 && !atBegin(file, z.File) { // such as a program that unpacks itself, or another zip
		return refuse("something before its files", "a zip and nothing else")
	}
	if packed > uint64(info.Size()) {
		return refuse(fmt.Sprintf("%s of files in a bundle of %d: they overlap", sentence.Count(packed, "byte"), info.Size()), "files one after another")
	}
	if size > freeSize && size/maxRatio > uint64(info.Size()) {
		return refuse(fmt.Sprintf("%s in a bundle of %d", sentence.Count(size, "byte"), info.Size()), fmt.Sprintf("at most %d times as many", maxRatio))
	}
	return a, nil
}

// atBegin reports whether a zip begins with one of its files.
func atBegin(file io.ReaderAt, all []*zip.File) bool {
	head := make([]byte, 30)
	if _, err := file.ReadAt(head, 0); err != nil || string(head[:4]) != "PK\x03\x04" {
		return false
	}
	first := int64(len(head)) + int64(binary.LittleEndian.Uint16(head[26:])) + int64(binary.LittleEndian.Uint16(head[28:])) // behind its name and what else there is of it
	return slices.ContainsFunc(all, func(f *zip.File) bool {
		at, err := f.DataOffset()
		return err == nil && at == first
	})
}

func (b *Bundle) open(name string) (io.ReadCloser, int64, error) {
	a, err := b.archive()
	if err != nil {
		return nil, 0, err
	}
	f := a.files[name]
	if f == nil {
		a.Close()
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	content, err := f.Open()
	if err != nil {
		a.Close()
		return nil, 0, damaged(err)
	}
	return &packed{content, a}, int64(f.UncompressedSize64), nil
}

func (b *Bundle) names(folder string) (names []string, err error) {
	a, err := b.archive()
	if err != nil {
		return nil, err
	}
	defer a.Close() // it was read only
	for _, name := range slices.Sorted(maps.Keys(a.files)) {
		if folder != "." {
			var within bool
			if name, within = strings.CutPrefix(name, folder+"/"); !within {
				continue
			}
		}
		if name, _, _ = strings.Cut(name, "/"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// packed is a file of a bundle. The bundle is closed with it.
type packed struct {
	io.ReadCloser
	a *archive
}

func (p *packed) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if err != nil && err != io.EOF {
		err = damaged(err)
	}
	return n, err
}

func (p *packed) Close() error { return errors.Join(p.ReadCloser.Close(), p.a.Close()) }

// damaged is the error for a bundle whose bytes are not what it says.
func damaged(err error) error {
	return &registry.Error{Kind: registry.ErrMalformed, Found: "a bundle that is damaged", Err: err, Remedy: "Copy it again"}
}
