package install_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/internal/reexec"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// task is what another process installs, which is this program again.
type task struct {
	Lock, Store  string
	Files, Names []string // the libraries that there are, and what is wanted
	User         int      // who does it; 0 is who runs the tests
}

// become has this process go on as another user.
var become = func(user int) error { return errors.ErrUnsupported }

func TestMain(m *testing.M) { reexec.Main(m, installed) }

func installed(do task) error {
	if do.User != 0 {
		if err := become(do.User); err != nil {
			return err
		}
	}
	s, err := store.Open(do.Store)
	if err != nil {
		return err
	}
	defer s.Close()
	var sources []registry.Source
	for _, path := range do.Files {
		sources = append(sources, install.File(path, ""))
	}
	in, err := install.New(install.Options{Lock: do.Lock, Store: s, Sources: sources})
	if err != nil {
		return err
	}
	r, err := in.Ensure(context.Background(), wants(do.Names...))
	if err != nil {
		return err
	}
	return r.Err()
}

// Any number of processes install into one lock and one store at once: all of them are well, and the lock has what each of them was asked for.
func TestProcesses(t *testing.T) {
	p := newPlace(t)
	shared := p.build(library{tag: "aaaa", version: "1.0.0"})
	var group sync.WaitGroup
	errs := make([]error, 12)
	for i := range errs {
		own := library{tag: fmt.Sprintf("p%03d", i), version: "1.0.0"}
		cmd := reexec.Command(t, task{Lock: p.lock, Store: p.store, Files: []string{shared, p.build(own)}, Names: []string{"dist_aaaa", own.name()}})
		group.Go(func() {
			if out, err := cmd.Output(); err != nil {
				errs[i] = fmt.Errorf("%w: %s", err, out)
			}
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	assert.Len(t, p.locked(), 13)
	r, err := p.installer(func(o *install.Options) { o.Trust = nil }).Verify(t.Context())
	require.NoError(t, err)
	require.NoError(t, r.Err())
	assert.Len(t, r.Plugins, 13)
}

// What is done at once is told one after the other, and how much is done at once changes nothing of what comes out.
func TestProgress(t *testing.T) {
	p := newPlace(t)
	var names []string
	for i := range 9 {
		l := library{tag: fmt.Sprintf("n%03d", i), version: "1.0.0"}
		p.publish(l)
		names = append(names, l.name())
	}
	var texts []string
	for _, parallel := range []int{1, 3, 0} {
		require.NoError(t, errors.Join(os.RemoveAll(p.store), os.RemoveAll(p.lock)))
		told := map[string][]install.Progress{}
		waits := 0
		p.ensure(p.installer(func(o *install.Options) {
			o.Parallel = parallel
			o.Progress = func(now install.Progress) { told[now.Plugin] = append(told[now.Plugin], now) }
			o.First = func(context.Context) error { waits++; return nil }
		}), names...)
		assert.Equal(t, 1, waits)
		require.Len(t, told, 9)
		for name, all := range told {
			first, last := all[0], all[len(all)-1]
			assert.Equal(t, install.StageFetch, first.Stage, name)
			assert.Positive(t, first.Total, name)
			assert.Equal(t, install.StageDone, last.Stage, name)
			assert.Equal(t, first.Total, last.Bytes, name)
			for i, now := range all[1:] {
				assert.LessOrEqual(t, all[i].Bytes, now.Bytes, name)
			}
		}
		texts = append(texts, p.text())
	}
	assert.Equal(t, texts[0], texts[1])
	assert.Equal(t, texts[0], texts[2])
}

// A call that ends in the middle leaves the lock as it was and no file half in its place; the next one goes on where it ended.
func TestCancelled(t *testing.T) {
	p := newPlace(t)
	p.publish(plain, library{tag: "bbbb", version: "1.0.0"})
	p.ensure(p.installer(), "dist_bbbb")
	text := p.text()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const half = 5000
	p.source.open = func(ctx context.Context, r *registry.Release, platform string, from int64) (io.ReadCloser, int64, int64, error) {
		body, at, size, err := p.source.Source.Open(ctx, r, platform, from)
		if err != nil {
			return nil, 0, 0, err
		}
		stop := iotest.ErrReader(nil)
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(body, half), readerFunc(func([]byte) (int, error) {
			cancel()
			<-ctx.Done()
			return stop.Read(nil)
		})), body}, at, size, nil
	}
	_, err := p.installer().Ensure(ctx, wants("dist_aaaa", "dist_bbbb"))
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, text, p.text())
	whole, err := filepath.Glob(filepath.Join(p.store, "sha256", "*", "*"))
	require.NoError(t, err)
	assert.Len(t, whole, 1)

	var from []int64
	p.source.open = func(ctx context.Context, r *registry.Release, platform string, at int64) (io.ReadCloser, int64, int64, error) {
		from = append(from, at)
		return p.source.Source.Open(ctx, r, platform, at)
	}
	p.ensure(p.installer(), "dist_aaaa", "dist_bbbb")
	assert.Equal(t, []int64{half}, from)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A source that tells neither versions nor digests is read by its libraries. Other platforms are added to the lock on demand, verified as this one's are.
func TestWithoutDescriptions(t *testing.T) {
	p := newPlace(t)
	a := library{tag: "aaaa", version: "1.0.0", requires: "dist_bbbb ^1", host: ">=1.1"}
	p.publish(library{tag: "bbbb", version: "1.0.0"})
	here, there := p.build(a), p.windows(a)
	r, platform, err := install.Describe(here)
	require.NoError(t, err)
	on := subject(a)
	on.Platform = windows
	p.push(r, map[string]registry.Content{platform: {Path: here, Signature: p.sign(p.key, subject(a), here)}, windows: {Path: there, Signature: p.sign(p.key, on, there)}})
	// What is left is a folder with files, as somebody would copy them to a server by hand.
	plainFiles := filepath.Join(t.TempDir(), "files", "latest")
	require.NoError(t, os.MkdirAll(plainFiles, 0o755))
	for _, l := range []library{a, {tag: "bbbb", version: "1.0.0"}} {
		all, err := filepath.Glob(filepath.Join(p.folder, "v1.0.0", l.name()+"-*"))
		require.NoError(t, err)
		for _, f := range all {
			data, err := os.ReadFile(f)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(plainFiles, filepath.Base(f)), data, 0o644))
		}
	}
	p.source.Source = folder(t, filepath.Dir(plainFiles))
	result := p.ensure(p.installer(), "dist_aaaa")
	assert.Len(t, result.Plugins, 2)
	assert.Equal(t, map[string]string{"dist_aaaa": "1.0.0", "dist_bbbb": "1.0.0"}, p.locked())
	require.Len(t, p.plugins()["dist_aaaa"].Files, 1)

	changes, failed, _, err := p.installer().LockPlatforms(t.Context(), windows)
	require.NoError(t, err)
	assert.Equal(t, []install.Change{{Name: "dist_aaaa", From: "1.0.0", To: "1.0.0", Platforms: []string{windows}}}, changes)
	assert.ErrorIs(t, failed["dist_bbbb"], registry.ErrPlatform)
	assert.Len(t, failed, 1)
	assert.Len(t, p.plugins()["dist_aaaa"].Files, 2)
	assert.Len(t, p.plugins()["dist_aaaa"].Signatures, 2)

	require.NoError(t, os.Remove(p.lock))
	require.NoError(t, os.RemoveAll(p.store))
	p.refused(p.installer(func(o *install.Options) { o.Version = "1.0.0" }), registry.ErrHost, "dist_aaaa")
	p.ensure(p.installer(), "dist_aaaa")
	require.NoError(t, os.WriteFile(filepath.Join(plainFiles, "dist_aaaa-windows-amd64.dll.minisig"), p.sign(p.key, subject(a), there), 0o644))
	changes, failed, _, err = p.installer().LockPlatforms(t.Context(), windows)
	require.NoError(t, err)
	assert.Empty(t, changes)
	assert.ErrorIs(t, failed["dist_aaaa"], registry.ErrPlatform, "a signature for another platform")
}
