// Package files has releases where no server is: in a folder (Folder), and in one file, a zip (Bundle), which is carried to where no network is. Both lie as
// release pages do, so a folder that any web server serves is one: see docs/distribution.md.
//
// Both may be read and written by any number of goroutines and processes at a time: whoever writes waits for the others, and a release is there with all
// that belongs to it, or not at all.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/internal/diskfull"
	"github.com/ferrule-dev/ferrule/plugins/internal/layout"
	"github.com/ferrule-dev/ferrule/plugins/internal/readonlyfs"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/ctxio"
)

// Open opens what a registry's url names, where it begins with file://: a Bundle where the path ends with .zip, a Folder otherwise. ok is false where it begins
// with something else. The registry's tag is obeyed.
func Open(r config.Registry) (source registry.Source, ok bool, err error) {
	if !strings.HasPrefix(r.URL, "file://") {
		return nil, false, nil
	}
	u, err := url.Parse(r.URL)
	if err != nil || u.Host != "" && u.Host != "localhost" || u.Path == "" || strings.ContainsAny(r.URL, "{?#") {
		return nil, true, &registry.Error{Kind: registry.ErrMalformed, Found: "the address of files " + shown(r.URL),
			Expected: "file:///path/of/a/folder or file:///path/of/a.zip, without placeholders",
			Remedy:   "In a path ? is written %3F, # %23, % %25 and { %7B"}
	}
	path := u.Path
	if len(path) > 2 && path[0] == '/' && path[2] == ':' { // /C:/releases
		path = path[1:]
	}
	path = filepath.FromSlash(path)
	if strings.HasSuffix(path, ".zip") {
		source, err = newBundle(path, r.Tag)
	} else {
		source, err = newFolder(path, r.Tag)
	}
	return source, true, err
}

// shown is an address for an error, without what stands before an @: that may be a password.
func shown(address string) string {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		address = "file://…" + address[i:]
	}
	return layout.Short(address)
}

// Address returns the address that Open opens a path by, whatever characters it has.
func Address(path string) (string, error) {
	_, address, err := address(path)
	return address, err
}

// address is a path as a URL, and as an absolute one.
func address(path string) (absolute, address string, err error) {
	absolute, err = abspath.Of(path)
	if err != nil {
		return "", "", &registry.Error{Source: path, Kind: registry.ErrUnavailable, Err: err}
	}
	slashes := filepath.ToSlash(absolute)
	if !strings.HasPrefix(slashes, "/") {
		slashes = "/" + slashes
	}
	return absolute, (&url.URL{Scheme: "file", Path: slashes}).String(), nil
}

// template is the layout, from the root of a tree of files.
func template() *layout.Template {
	t, err := layout.ParseTemplate("{tag}")
	if err != nil {
		panic(err) // it is this package's own
	}
	return t
}

// tree is where files are read from by their paths with slashes.
type tree interface {
	// open opens a regular file. An error is as the system has it, or a *registry.Error.
	open(name string) (content io.ReadCloser, size int64, err error)
	// names are those of the files and folders in a folder; none where there is no such folder. The tree's own is ".".
	names(folder string) ([]string, error)
}

// reader is a layout.Fetcher of a tree.
type reader struct{ tree }

// failed is an error of a file system in the words of a source.
func failed(err error) *registry.Error {
	if e, ok := errors.AsType[*registry.Error](err); ok {
		return e
	}
	e := &registry.Error{Kind: registry.ErrUnavailable, Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist), notFolder(err):
		e.Kind = registry.ErrNotFound
	case diskfull.Is(err):
		e.Kind, e.Found, e.Expected, e.Remedy = registry.ErrRefused, "no room there", "room for the release", "Free space there, or raise the quota or the limit on the size of files; then try again"
	case readonlyfs.Is(err):
		e.Kind, e.Found, e.Expected, e.Remedy = registry.ErrRefused, "a file system that may only be read", "one that may be written to", "Name another folder, or make that file system writable"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Remedy = registry.ErrRefused, "Look at the permissions of the file and its folders"
	case strings.Contains(err.Error(), "escapes"): // what os.Root says has no value to compare with
		e.Kind, e.Found, e.Expected = registry.ErrMalformed, "a link that leads out of the folder", "files that lie in it"
	}
	return e
}

func (r reader) Text(ctx context.Context, name string, limit int64) ([]byte, []string, error) {
	if err := ended(ctx); err != nil {
		return nil, nil, err
	}
	content, size, err := r.open(name)
	if err != nil {
		return nil, nil, failed(err)
	}
	defer content.Close()
	text, err := io.ReadAll(io.LimitReader(content, limit+1))
	if err != nil {
		return nil, nil, failed(err)
	}
	if n := max(size, int64(len(text))); n > limit {
		return nil, nil, &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("%s with %s", layout.Short(name), sentence.Count(n, "byte")), Expected: fmt.Sprintf("at most %d", limit)}
	}
	return text, nil, nil
}

func (r reader) Probe(ctx context.Context, name string) (int64, []string, error) {
	if err := ended(ctx); err != nil {
		return 0, nil, err
	}
	content, size, err := r.open(name)
	if err != nil {
		return 0, nil, failed(err)
	}
	return size, nil, content.Close()
}

func (r reader) Open(ctx context.Context, name string, from int64, _ registry.Kind, want registry.File) (body io.ReadCloser, at, size int64, err error) {
	if err := ended(ctx); err != nil {
		return nil, 0, 0, err
	}
	content, size, err := r.open(name)
	if err != nil {
		return nil, 0, 0, failed(err)
	}
	defer func() {
		if err != nil {
			content.Close()
		}
	}()
	if want.Size > 0 && size != want.Size {
		return nil, 0, 0, &registry.Error{Kind: registry.ErrDigest, Found: fmt.Sprintf("%s with %s", layout.Short(name), sentence.Count(size, "byte")),
			Expected: fmt.Sprint(want.Size), Remedy: "Copy the release again from where it was published"}
	}
	if size > layout.MaxFile {
		return nil, 0, 0, &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("%s with %s", layout.Short(name), sentence.Count(size, "byte")),
			Expected: fmt.Sprintf("at most %d", int64(layout.MaxFile))}
	}
	if from > size {
		from = 0
	}
	if s, ok := content.(io.Seeker); ok {
		_, err = s.Seek(from, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, during{ctxio.Reader(ctx, content)}, from)
	}
	if err != nil {
		return nil, 0, 0, failed(err)
	}
	return struct {
		io.Reader
		io.Closer
	}{during{ctxio.Reader(ctx, &exactly{content, size - from})}, content}, from, size, nil
}

// ended is the error for a context that has ended.
func ended(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return &registry.Error{Kind: registry.ErrUnavailable, Err: err}
	}
	return nil
}

// during reads, and says what goes wrong in the words of a source.
type during struct{ from io.Reader }

func (d during) Read(p []byte) (int, error) {
	n, err := d.from.Read(p)
	if err != nil && err != io.EOF {
		err = failed(err)
	}
	return n, err
}

// exactly reads as many bytes as were said: neither fewer nor more.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF // it was cut while it was read
	}
	return n, err
}

// Folder is a folder with releases. It is a registry.Pusher.
type Folder struct {
	*layout.Source
	path string
}

// NewFolder returns the folder at a path. It need not be there before the first Push.
func NewFolder(path string) (*Folder, error) { return newFolder(path, "") }

func newFolder(path, tag string) (*Folder, error) {
	path, name, err := address(path)
	if err != nil {
		return nil, err
	}
	f := &Folder{path: path}
	f.Source, err = layout.New(name, template(), tag, reader{f})
	return f, err
}

// Index fetches the index that lies in the folder: see index.Built.Write.
func (f *Folder) Index() index.Fetcher { return index.Folder(f.path) }

// Names lists the plug-ins that have releases in the folder, sorted.
func (f *Folder) Names(ctx context.Context) ([]string, error) {
	names, err := f.plugins(ctx)
	if err != nil {
		e := *failed(err)
		e.Source = f.String()
		return nil, &e
	}
	return names, nil
}

func (f *Folder) plugins(ctx context.Context) (names []string, err error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	all, err := f.names(layout.Latest)
	for _, name := range all { // sorted
		if name, ok := strings.CutSuffix(name, layout.IndexName("")); ok && layout.CheckName(name) == nil {
			names = append(names, name)
		}
	}
	return names, err
}

func (f *Folder) names(folder string) (names []string, err error) {
	root, err := f.root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// PushIndex publishes an index of the folder's plug-ins, as index.Built.Write does, where Built.Follows allows it.
func (f *Folder) PushIndex(ctx context.Context, built *index.Built, signature []byte) error {
	err := f.alone(ctx, func(*os.Root) error {
		if err := built.Follows(ctx, f.Index()); err != nil {
			return err
		}
		return built.Write(f.path, signature)
	})
	if err != nil {
		return failed(err)
	}
	return nil
}

func (f *Folder) open(name string) (io.ReadCloser, int64, error) {
	root, err := f.root()
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	return openIn(root, name)
}

// root opens the folder. Nothing is reached by it that lies outside, not by links either.
func (f *Folder) root() (*os.Root, error) {
	root, err := os.OpenRoot(f.path)
	if err != nil {
		return nil, &registry.Error{Kind: registry.ErrUnavailable, Err: err, Remedy: "Make the folder, or name another one"}
	}
	return root, nil
}

// openIn opens a file that is a regular one: another would block, or have no end.
func openIn(root *os.Root, name string) (io.ReadCloser, int64, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, &registry.Error{Kind: registry.ErrMalformed, Found: layout.Short(name) + ", which is no file", Expected: "a file"}
	}
	file, err := root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	return file, info.Size(), nil
}
