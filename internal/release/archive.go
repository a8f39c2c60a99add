package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
)

// platforms are those of which the command's archives are.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

// packed is a file of an archive.
type packed struct {
	name string // with slashes
	text []byte
	mode fs.FileMode
}

// files are those below a folder, under a name, none of them a program.
func files(folder, under string) (all []packed, err error) {
	err = filepath.WalkDir(folder, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, at)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(at)
		all = append(all, packed{path.Join(under, filepath.ToSlash(name)), text, 0o644})
		return err
	})
	return all, err
}

// tarball is a .tar.gz of files below one folder. Their order, times and owners are no machine's.
func tarball(w io.Writer, folder string, all []packed, when time.Time) error {
	compressed := gzip.NewWriter(w)
	t := tar.NewWriter(compressed)
	for _, f := range sorted(all) {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(folder, f.name), Size: int64(len(f.text)), Mode: int64(f.mode), ModTime: when.UTC().Truncate(time.Second), Format: tar.FormatPAX}); err != nil {
			return err
		}
		if _, err := t.Write(f.text); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), compressed.Close())
}

// zipped is the same as a .zip.
func zipped(w io.Writer, folder string, all []packed, when time.Time) error {
	z := zip.NewWriter(w)
	for _, f := range sorted(all) {
		header := &zip.FileHeader{Name: path.Join(folder, f.name), Method: zip.Deflate, Modified: when.UTC().Truncate(time.Second)}
		header.SetMode(f.mode)
		to, err := z.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := to.Write(f.text); err != nil {
			return err
		}
	}
	return z.Close()
}

func sorted(all []packed) []packed {
	return slices.SortedFunc(slices.Values(all), func(a, b packed) int { return strings.Compare(a.name, b.name) })
}

// archives makes the command's archives, from the proxy as anybody can: with a compiler's cache and modules in a folder of their
// own, or with the user's cache where cold is false. They go into a folder that is made anew, each with its bill of materials.
func (r *rehearsal) archives(ctx context.Context, p *proxy, tree, folder string, when time.Time, cold bool) error {
	dir, err := empty(filepath.Join(r.out, folder))
	if err != nil {
		return err
	}
	// Nothing here may come from where the others were built.
	work, err := empty(filepath.Join(r.work, folder))
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	common, err := r.common(p, tree, filepath.Join(work, "common"))
	if err != nil {
		return err
	}
	for _, platform := range r.platforms {
		if err := ctx.Err(); err != nil {
			return err
		}
		program, licences, err := r.build(p, platform, work, cold)
		if err != nil {
			return err
		}
		info, err := buildinfo.Read(bytes.NewReader(program))
		if err != nil {
			return err
		}
		goos, goarch, _ := strings.Cut(platform, "/")
		name := strings.Join([]string{"ferrule", strings.TrimPrefix(p.version, "v"), goos, goarch}, "_")
		all := slices.Concat(common, licences, []packed{{"bin/ferrule" + exe(goos), program, 0o755}})
		var text bytes.Buffer
		ext, pack := ".tar.gz", tarball
		if goos == "windows" {
			ext, pack = ".zip", zipped
		}
		if err := pack(&text, name, all, when); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+ext), text.Bytes(), 0o666); err != nil {
			return err
		}
		bill, err := materials(info, platform, sha256.Sum256(program), when)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".cdx.json"), bill, 0o666); err != nil {
			return err
		}
		r.say("%s%s: %d bytes", name, ext, text.Len())
	}
	return nil
}

// common is what the archives of all platforms have: manual pages and completions, as the command itself writes them.
func (r *rehearsal) common(p *proxy, tree, work string) (all []packed, err error) {
	command := filepath.Join(work, "ferrule"+exe(runtime.GOOS))
	env, err := p.env(filepath.Join(r.work, "mod"), "GOBIN="+work, "GOFLAGS=-modcacherw -trimpath", "CGO_ENABLED=0", "GOOS=", "GOARCH=")
	if err != nil {
		return nil, err
	}
	if _, err := output("", env, "go", "install", "-ldflags=-s -w", library+"/cmd/ferrule@"+p.version); err != nil {
		return nil, err
	}
	pages := filepath.Join(work, "man1")
	if err := os.Mkdir(pages, 0o777); err != nil {
		return nil, err
	}
	if _, err := output("", env, command, "man", pages); err != nil {
		return nil, err
	}
	if all, err = files(pages, "share/man/man1"); err != nil {
		return nil, err
	}
	for shell, name := range map[string]string{"bash": "share/bash-completion/completions/ferrule", "zsh": "share/zsh/site-functions/_ferrule", "fish": "share/fish/vendor_completions.d/ferrule.fish"} {
		text, err := output("", env, command, "completion", shell)
		if err != nil {
			return nil, err
		}
		all = append(all, packed{name, []byte(text), 0o644})
	}
	for _, name := range []string{"LICENSE", "CHANGELOG.md"} {
		text, err := os.ReadFile(filepath.Join(tree, name))
		if err != nil {
			return nil, err
		}
		all = append(all, packed{name, text, 0o644})
	}
	return all, nil
}

// build returns the command for a platform, built in a folder, and the licences of all that is in it.
func (r *rehearsal) build(p *proxy, platform, work string, cold bool) (program []byte, licences []packed, err error) {
	goos, goarch, _ := strings.Cut(platform, "/")
	modules := filepath.Join(work, "go", "pkg", "mod")
	more := []string{"GOPATH=" + filepath.Join(work, "go"), "GOBIN=", "GOFLAGS=-modcacherw -trimpath", "CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch,
		"GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT="} // whatever the user has set
	if cold {
		more = append(more, "GOCACHE="+filepath.Join(work, "cache"))
	}
	env, err := p.env(modules, more...)
	if err != nil {
		return nil, nil, err
	}
	if _, err := output("", env, "go", "install", "-ldflags=-s -w", library+"/cmd/ferrule@"+p.version); err != nil {
		return nil, nil, err
	}
	made := filepath.Join(work, "go", "bin", "ferrule"+exe(goos))
	if goos != runtime.GOOS || goarch != runtime.GOARCH {
		made = filepath.Join(work, "go", "bin", goos+"_"+goarch, "ferrule"+exe(goos))
	}
	if program, err = os.ReadFile(made); err != nil {
		return nil, nil, err
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return nil, nil, err
	}
	root, err := output("", env, "go", "env", "GOROOT")
	if err != nil {
		return nil, nil, err
	}
	licences, err = licencesIn(strings.TrimSpace(root), "go")
	if err != nil {
		return nil, nil, err
	}
	for _, m := range info.Deps {
		folder, err := folderOf(modules, m)
		if err != nil {
			return nil, nil, err
		}
		found, err := licencesIn(folder, m.Path)
		if err != nil {
			return nil, nil, err
		}
		if ours(m.Path) && m.Path != library { // of others it has what they may not be without; its own text is the root's
			found = slices.DeleteFunc(found, func(f packed) bool { return f.name == "licences/"+m.Path+"/LICENSE" })
		}
		licences = append(licences, found...)
	}
	return program, licences, nil
}

func folderOf(modules string, m *debug.Module) (string, error) {
	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(m.Version)
	return filepath.Join(modules, filepath.FromSlash(escaped)+"@"+version), err
}

var licence = regexp.MustCompile(`(?i)(^|[._-])((un)?licen[cs]e|copying|notice|patents)([._-]|$)`)

// licencesIn are the texts about rights in a module's folder and, of what it has from others, below it. A binary may be handed on with them alone.
func licencesIn(folder, path string) (all []packed, err error) {
	err = filepath.WalkDir(folder, func(at string, entry fs.DirEntry, err error) error {
		name, relErr := filepath.Rel(folder, at)
		switch {
		case err != nil || relErr != nil:
			return errors.Join(err, relErr)
		case entry.IsDir():
			// Of Go itself the root's text is for all of it, and what is for tests gets into no program.
			if at != folder && (path == "go" || entry.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		case filepath.Ext(name) == ".go" || !entry.Type().IsRegular() || !licence.MatchString(entry.Name()):
			return nil
		}
		text, err := os.ReadFile(at)
		all = append(all, packed{"licences/" + path + "/" + filepath.ToSlash(name), text, 0o644})
		return err
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("found no licence in %s, expected a file such as LICENSE: the command's archive must have it", folder)
	}
	return all, err
}

// same compares two folders of archives.
func same(a, b string) error {
	inA, err := files(a, "")
	if err != nil {
		return err
	}
	inB, err := files(b, "")
	if err != nil {
		return err
	}
	if len(inA) == 0 || len(inA) != len(inB) {
		return fmt.Errorf("found %d files in %s and %d in %s, expected as many", len(inA), a, len(inB), b)
	}
	for i := range inA {
		if inA[i].name != inB[i].name || !bytes.Equal(inA[i].text, inB[i].text) {
			return fmt.Errorf("%s was built twice, and the bytes differ: something of where or when it was built is in it. Both are there: %s and %s", inA[i].name, a, b)
		}
	}
	return nil
}
