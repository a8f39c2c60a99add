package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/ctxio"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// File is a source of one release: the library at path, for the platform that it says it is for. signature is the path of its signature; where it is "" that
// is the library's with .minisig behind it, and none where there is no such file. The file is read each time that it is asked for.
func File(path, signature string) registry.Source {
	if abs, err := abspath.Of(path); err == nil {
		path = abs
	}
	return &single{path: path, signature: signature}
}

// ProgramFile is File for the script or the program at path, of which about is what it says of itself, as whoever installs it has asked it (AskProgram): nothing in its file says it.
func ProgramFile(about *abi.Description, path, signature string) registry.Source {
	s := File(path, signature).(*single)
	s.about = about
	return s
}

type single struct {
	path, signature string
	about           *abi.Description // of a script or a program; nil of a library
}

func (s *single) String() string { return "file:" + filepath.ToSlash(s.path) }

// read describes the file, with its digest.
func (s *single) read(ctx context.Context) (*registry.Release, error) {
	r, platform, err := s.describe()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &registry.Error{Source: s.String(), Kind: registry.ErrNotFound, Found: "no such file", Expected: "a library", Remedy: "Correct the path"}
	}
	if own, ok := errors.AsType[*registry.Error](err); ok {
		return nil, own
	}
	if err != nil {
		return nil, unreadable("", "", s.String(), err)
	}
	f, err := regular.Open(s.path)
	if err != nil {
		return nil, unreadable(r.Name, r.Version, s.String(), err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, ctxio.Reader(ctx, f))
	if err != nil {
		return nil, err
	}
	r.Files = map[string]registry.File{platform: {Digest: "sha256:" + hex.EncodeToString(h.Sum(nil)), Size: n}}
	return r, nil
}

// describe says what the file is, and for which platform.
func (s *single) describe() (r *registry.Release, platform string, err error) {
	if s.about == nil {
		return Describe(s.path)
	}
	if _, err := os.Stat(s.path); err != nil {
		return nil, "", err
	}
	r, contents, err := ReleaseOfPrograms(s.about, s.path)
	for platform = range contents { // of one file there is one
	}
	return r, platform, err
}

func (s *single) Versions(ctx context.Context, name string) ([]string, error) {
	r, err := s.Release(ctx, name, "")
	if err != nil {
		return nil, err
	}
	return []string{r.Version}, nil
}

func (s *single) Release(ctx context.Context, name, version string) (*registry.Release, error) {
	r, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	if r.Name != name || version != "" && r.Version != version {
		return nil, &registry.Error{Plugin: name, Version: version, Source: s.String(), Kind: registry.ErrNotFound, Found: r.Name + " " + r.Version, Remedy: "Name the file of that plug-in"}
	}
	return r, nil
}

func (s *single) Open(ctx context.Context, r *registry.Release, platform string, from int64) (io.ReadCloser, int64, int64, error) {
	f, err := regular.Open(s.path)
	if err != nil {
		return nil, 0, 0, &registry.Error{Plugin: r.Name, Version: r.Version, Source: s.String(), Kind: registry.ErrNotFound, Err: err, Remedy: "Correct the path"}
	}
	size := int64(-1)
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	if from > size {
		from = 0
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		f.Close()
		return nil, 0, 0, &registry.Error{Plugin: r.Name, Version: r.Version, Source: s.String(), Kind: registry.ErrUnavailable, Err: err}
	}
	return f, from, size, nil
}

func (s *single) Signature(ctx context.Context, r *registry.Release, platform string) ([]byte, error) {
	path := s.signature
	if path == "" {
		path = s.path + ".minisig"
	}
	f, err := regular.Open(path)
	if errors.Is(err, fs.ErrNotExist) && s.signature == "" {
		return nil, nil
	}
	if err != nil {
		return nil, &registry.Error{Plugin: r.Name, Version: r.Version, Source: s.String(), Kind: registry.ErrNotFound, Expected: "its signature", Err: err, Remedy: "Correct the signature's path"}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, registry.MaxSignature+1))
	if err == nil && len(text) > registry.MaxSignature {
		err = errors.New("it is too long for one")
	}
	if err != nil {
		return nil, &registry.Error{Plugin: r.Name, Version: r.Version, Source: s.String(), Kind: registry.ErrMalformed, Found: path, Expected: "a signature", Err: err}
	}
	return text, nil
}
