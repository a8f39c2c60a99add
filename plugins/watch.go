package plugins

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/ferrule-dev/ferrule/loader/abspath"
)

// watcher has Reload called when config.yaml or a folder has changed.
type watcher struct {
	fs   *fsnotify.Watcher
	done chan struct{}

	watched places // of run's goroutine, once that is there
}

// places are the folders that are watched, and which names in each matter: those of the files that are looked for, of symbolic links that lead there, and of what is not
// there yet. Under the name "" those of plug-ins do. No other one does, whatever is beside it: the application's log may be, and a reload writes to that.
type places map[string]map[string]bool

// maxLinks is how many symbolic links a path may lead through, as systems bound it.
const maxLinks = 40

// add adds where it would be seen that something else is at a path, or that something in it has changed, where it is a folder: in the folders of the symbolic links
// that lead there, and where it is. Of what is not there, that is the nearest folder above it.
func (w places) add(path string) {
	root := filepath.VolumeName(path) + string(filepath.Separator)
	at, rest := root, strings.Split(strings.TrimPrefix(path, root), string(filepath.Separator))
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			w.name(at, name)
			return
		case info.Mode()&fs.ModeSymlink != 0 && links < maxLinks:
			links++
			w.name(at, name)
			to, err := os.Readlink(next)
			if err != nil {
				return
			}
			to = filepath.FromSlash(to)
			if filepath.IsAbs(to) {
				root = filepath.VolumeName(to) + string(filepath.Separator)
				at, to = root, strings.TrimPrefix(to, root)
			}
			rest = append(strings.Split(to, string(filepath.Separator)), rest...)
		case info.IsDir():
			at = next // without links: .. in one leads to the folder above
		default:
			w.name(at, name)
			return
		}
	}
	w.name(at, "")
}

func (w places) name(folder, name string) {
	if w[folder] == nil {
		w[folder] = map[string]bool{}
	}
	w[folder][folded(name)] = true
}

// folded is a name as it is compared: where the system takes two names for one, the one that was asked for may not be the one that events have.
func folded(name string) string {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		return strings.ToLower(name)
	}
	return name
}

// matter reports whether what has happened at a path may have changed something.
func (w places) matter(path string) bool {
	folder, itself := w[filepath.Dir(path)], w[path] // what happens to a folder itself has its own name
	name := filepath.Base(path)
	return itself != nil || folder[""] && isPlugin(name) || folder[folded(name)]
}

const (
	settle    = 50 * time.Millisecond  // nothing has changed for so long: who writes a file has written it
	settleMax = 500 * time.Millisecond // or something has changed for so long
)

// watch begins to watch what a plan depends on: folders, and not files, so that a file that another one is renamed to is seen, and each by its path without
// symbolic links, so that a link that leads elsewhere by now has another folder watched.
func (s *System) watch(p *plan) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching for changes: %w", err)
	}
	started := &watcher{fs: w, done: make(chan struct{})}
	if _, err := started.add(s, p); err != nil {
		_ = w.Close()
		return err
	}
	s.mu.Lock()
	s.watcher = started
	s.mu.Unlock()
	go started.run(s)
	return nil
}

// add watches what a plan depends on, and what a refused config.yaml does, and no more. more is whether it watches something that it did not before.
func (w *watcher) add(s *System, p *plan) (more bool, err error) {
	for range 8 { // what is made, or linked to somewhere else, while folders are added, is in the next look
		now, known := s.places(p), w.fs.WatchList()
		fresh := false
		for folder, names := range now {
			err := w.fs.Add(folder) // also one that is known: it may be another one by now
			switch {
			case err == nil:
				fresh = fresh || !slices.Contains(known, folder)
			case errors.Is(err, fs.ErrNotExist), folderError(folder) != nil: // the folder above it is watched
			case names[""]:
				return false, fmt.Errorf("watching %s for changes: %w", folder, err)
			case w.watched[folder] == nil:
				s.log(slog.LevelWarn, "a folder with a symbolic link that matters cannot be watched", slog.String("folder", folder), slog.Any("err", err))
			}
		}
		for folder := range w.watched {
			if now[folder] == nil {
				_ = w.fs.Remove(folder) // it may be gone
			}
		}
		same := maps.EqualFunc(now, w.watched, maps.Equal)
		w.watched = now
		if same && !fresh {
			break
		}
		more = true
	}
	return more, nil
}

// places are those of a plan's folders and files, of config.yaml, and of what a config.yaml reads that was not taken over: it may be as it should when that has changed.
func (s *System) places(p *plan) places {
	w := places{}
	var files []string
	if s.configPath != "" {
		files = append(files, s.configPath)
	}
	if lock := s.lockPath(); s.download != nil && lock != "" {
		files = append(files, lock)
	}
	s.mu.Lock()
	refused := s.refusal
	s.mu.Unlock()
	plans := []*plan{p}
	if refused != nil && refused.plan != nil {
		plans = append(plans, refused.plan)
	}
	for _, p := range plans {
		for _, folder := range s.foldersOf(p.conf) {
			w.add(folder)
		}
		files = slices.AppendSeq(files, maps.Values(p.conf.Dev))
		files = append(files, p.read...)
		for _, f := range p.found {
			if f.builtin == nil && (f.sidecar == nil || !f.sidecar.url) {
				files = append(files, f.path) // it may be a link to one elsewhere
				for _, p := range f.parts {
					files = append(files, p.path)
				}
			}
		}
	}
	for _, file := range files {
		if path, err := abspath.Of(file); err == nil {
			w.add(path)
		}
	}
	return w
}

// run waits for changes until the watcher is closed.
func (w *watcher) run(s *System) {
	defer close(w.done)
	var first time.Time
	timer := time.NewTimer(settle) // what has changed while plug-ins were opened, before anybody watched
	for {
		select {
		case ev, ok := <-w.fs.Events:
			if !ok {
				return
			}
			if !w.watched.matter(ev.Name) || ev.Op == fsnotify.Chmod && !s.denied() { // which is told of much that changes nothing
				continue
			}
			now := time.Now()
			if first.IsZero() {
				first = now
			}
			timer.Reset(min(settle, max(0, first.Add(settleMax).Sub(now))))
		case err, ok := <-w.fs.Errors:
			if !ok {
				return
			}
			s.log(slog.LevelWarn, "watching for changes", slog.Any("err", err))
			timer.Reset(settle) // some may have been missed
		case <-timer.C:
			first = time.Time{}
			w.reload(s)
		}
	}
}

// reload takes over what has changed, also in folders that it watches from now on, of which nobody has told what changed before.
func (w *watcher) reload(s *System) {
	for more := true; more; {
		_ = s.reload(s.changes, false) // what fails is an event, and in List
		if s.changes.Err() != nil {
			return
		}
		s.mu.Lock()
		p := s.plans
		s.mu.Unlock()
		var err error
		if more, err = w.add(s, p); err != nil {
			s.log(slog.LevelWarn, "watching for changes", slog.Any("err", err))
		}
	}
}

// denied reports whether the rights of a file keep a plug-in from running, or a config.yaml from being taken over: what changes them matters then.
func (s *System) denied() bool {
	s.mu.Lock()
	plans, refused := []*plan{s.plans}, s.refusal
	s.mu.Unlock()
	if refused != nil {
		if errors.Is(refused.cause, fs.ErrPermission) {
			return true
		}
		plans = append(plans, refused.plan)
	}
	for _, p := range plans {
		if p != nil && slices.ContainsFunc(s.foldersOf(p.conf), func(folder string) bool { return errors.Is(folderError(folder), fs.ErrPermission) }) {
			return true
		}
		if p != nil && slices.ContainsFunc(p.found, func(f *found) bool { return errors.Is(f.err, fs.ErrPermission) }) {
			return true
		}
	}
	return slices.ContainsFunc(s.all(), func(e *entry) bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.err != nil && errors.Is(e.err, fs.ErrPermission)
	})
}

// unwatch ends watching.
func (s *System) unwatch() {
	s.mu.Lock()
	w := s.watcher
	s.watcher = nil
	s.mu.Unlock()
	if w != nil {
		_ = w.fs.Close()
		<-w.done
	}
}
