package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/lock"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

func init() { verbs = append(verbs, updateVerb, rollbackVerb, removeVerb, lockVerb, gcVerb) }

// changes is what the verbs print that change a lock. Its JSON is documented in their help and grows only.
type changes struct {
	Lock     string    `json:"lock"`
	DryRun   bool      `json:"dry_run,omitempty"`
	Changes  []moved   `json:"changes"`
	Failed   []refusal `json:"failed,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`

	why string // what goes does so
}

// moved is what becomes of one plug-in.
type moved struct {
	Plugin string   `json:"plugin"`
	From   string   `json:"from,omitempty"`
	To     string   `json:"to,omitempty"`
	Grants []string `json:"grants,omitempty"`

	Platforms []string `json:"platforms,omitempty"`
	Replaced  bool     `json:"replaced,omitempty"`
	Unpinned  bool     `json:"unpinned,omitempty"`

	why string // it goes
}

// changesHelp documents them.
const changesHelp = registryCodes + `
With --json there is one object:
  lock                      the path of ferrule.lock
  dry_run                   true with --dry-run; not there without
  changes                   each with plugin, from (not there of one that is new, or that was not in the lock), to (not there of one that goes),
                            grants: what it asks for and did not before, platforms: of 'ferrule lock', those that were added, and
                            replaced: true of a version that has other bytes now, and unpinned: true of one that a rollback had pinned, and that
                            is not pinned any more. to is from where it stays at its version
  failed                    each with ` + refusalHelp + `
  warnings                  texts`

// report prints what has changed, and ends the verb.
func (d *distributed) report(c *changes, made []install.Change, failed map[string]error, notices []install.Notice) error {
	c.Changes = []moved{}
	for _, m := range made {
		if m.Err != nil {
			failed[m.Name] = m.Err
			if !m.Unpinned {
				continue
			}
		}
		c.Changes = append(c.Changes, moved{m.Name, m.From, m.To, m.Grants, m.Platforms, m.Replaced, m.Unpinned, c.why})
	}
	c.Failed = refusals(failed)
	for _, n := range notices {
		c.Warnings = append(c.Warnings, n.String())
	}
	if err := d.print(c, c.write); err != nil {
		return err
	}
	d.warnings(c.Warnings)
	return d.refused(failed)
}

func (c *changes) write(w io.Writer) error {
	if len(c.Changes) == 0 {
		if len(c.Failed) > 0 {
			return nil // the errors say so
		}
		_, err := fmt.Fprintln(w, "nothing changes")
		return err
	}
	for _, ch := range c.Changes {
		text := fmt.Sprintf("%s %s -> %s", ch.Plugin, ch.From, ch.To)
		switch {
		case ch.From == "" && ch.To == "": // of no version
			text = ch.Plugin + " goes"
		case ch.From == "":
			text = fmt.Sprintf("%s %s is new", ch.Plugin, ch.To)
		case ch.To == "":
			text = fmt.Sprintf("%s %s goes%s", ch.Plugin, ch.From, ch.why)
		case ch.Platforms != nil:
			text = fmt.Sprintf("%s %s is locked for %s, too", ch.Plugin, ch.To, strings.Join(ch.Platforms, ", "))
		case ch.Replaced:
			text = fmt.Sprintf("%s %s is another file now", ch.Plugin, ch.From)
		case ch.From == ch.To && ch.Unpinned:
			text = fmt.Sprintf("%s is no longer pinned, and stays at %s: no other version was taken", ch.Plugin, ch.To)
		}
		if len(ch.Grants) > 0 {
			text += ", and asks for " + strings.Join(ch.Grants, ", ")
		}
		if _, err := fmt.Fprintln(w, escape.Line(text)); err != nil {
			return err
		}
	}
	if c.DryRun {
		_, err := fmt.Fprintln(w, "nothing was changed (--dry-run)")
		return err
	}
	return nil
}

func updateVerb(a *app) *cobra.Command {
	d := &distributed{configured: configured{app: a}}
	var o install.UpdateOptions
	cmd := &cobra.Command{
		Use:   "update [NAME]...",
		Short: "Take newer versions of plug-ins into the lock of a config.yaml",
		Long: `Take newer versions of plug-ins into ferrule.lock, beside a config.yaml: of all of them, or of those that are named with what only they
require. They are the newest that fit together and in the ranges of config.yaml. Nothing else takes up another version: not install of a NAME,
nor an application that starts. Without names, what config.yaml does not name and nobody requires goes from the lock.

A version that asks for more than it was granted is not taken, and neither is one with something wrong: then the old one stays, and the
message says why. --dry-run changes nothing, and says what would, as far as it is known before a file is fetched: its signature is not. A plug-in that was rolled back stays as it is, unless it is named and --unpin is
given: then it is pinned no longer, whether another version is taken or not. A version of the lock that was revoked is told, also where it stays
as it is, or another one was refused. A version that its source has other bytes of than the lock is refused, unless it is named and --replaced is given. An application that watches its config.yaml takes the new versions over while it runs.
` + changesHelp,
		Example: `  ferrule update --dry-run
  ferrule update tax
  ferrule update --unpin tax`,
		Args:              arguments("[NAME]..."),
		ValidArgsFunction: d.lockedNames(true),
		RunE: func(_ *cobra.Command, names []string) error {
			if o.Unpin && len(names) == 0 {
				return usage("--unpin without a name", "ferrule update --unpin NAME", "")
			}
			if o.Replaced && len(names) == 0 {
				return usage("--replaced without a name", "ferrule update --replaced NAME", "")
			}
			o.Names = names
			return d.working(func(w *work) error {
				wants, err := d.wants(w.config)
				if err != nil {
					return err
				}
				o.Keep = namesIn(w.config)
				made, notices, err := w.Update(w.ctx, wants, o)
				w.shown.stop()
				if err != nil {
					return fromSource(err)
				}
				c := &changes{Lock: w.Lock, DryRun: o.DryRun, why: ": " + d.path + " does not name it, and nobody requires it"}
				for _, name := range w.pinned(names) {
					if !o.Unpin {
						c.Warnings = append(c.Warnings, name+" was rolled back, and stays as it is: ferrule update --unpin "+shellWord(name))
					}
				}
				return d.report(c, made, map[string]error{}, notices)
			})
		},
	}
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would change, and what the new versions ask for, and change nothing")
	cmd.Flags().BoolVar(&o.AllowDowngrade, "allow-downgrade", false, "take an older version, too, where config.yaml asks for one")
	cmd.Flags().BoolVar(&o.Unpin, "unpin", false, "update what a rollback has pinned, too, where it is named, and have it pinned no longer")
	cmd.Flags().BoolVar(&o.Replaced, "replaced", false, "take the version of the lock as its source has it now, where it is named: with other bytes, if it was published twice")
	return d.add(cmd)
}

// namesIn are the plug-ins that a config.yaml names, the disabled ones, too.
func namesIn(c *config.Config) (names []string) {
	for _, p := range c.Plugins {
		names = append(names, p.Name)
	}
	return names
}

// pinned are those of the names that a rollback has pinned; of all, where there are none.
func (w *work) pinned(names []string) (all []string) {
	l, err := lock.Load(w.Lock)
	if err != nil {
		return nil
	}
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(l.Plugins))
	}
	for _, name := range names {
		if e := l.Plugins[name]; e != nil && e.Pinned {
			all = append(all, name)
		}
	}
	return all
}

func rollbackVerb(a *app) *cobra.Command {
	d := &distributed{configured: configured{app: a}}
	cmd := &cobra.Command{
		Use:   "rollback NAME...",
		Short: "Go back to the versions that plug-ins had before",
		Long: `Go back in ferrule.lock to the versions that plug-ins had before their last change on this machine, and pin them: an update leaves
them as they are (ferrule update --unpin NAME). The store has their files still, so no server is needed, unless ferrule gc has
deleted them since. A version that was revoked is a warning, for which the registry's index is asked afterwards; where its file has to be
fetched, it is an error. It goes back by one version: what was rolled back has none before, which is an error. Plug-ins that would not fit with the others then, or are
out of the range of versions that config.yaml has for them, are an error, and nothing changes.
` + changesHelp,
		Example: `  ferrule rollback tax
  ferrule rollback --config /etc/shop/config.yaml tax audit`,
		Args:              arguments("NAME..."),
		ValidArgsFunction: d.lockedNames(true),
		RunE: func(_ *cobra.Command, names []string) error {
			return d.working(func(w *work) error {
				made, err := w.Rollback(w.ctx, names...)
				w.shown.stop()
				if err != nil {
					return fromSource(err)
				}
				c := &changes{Lock: w.Lock}
				for _, ch := range made {
					switch {
					case ch.Revoked == nil:
					case errors.Is(ch.Revoked, registry.ErrRevoked), errors.Is(ch.Revoked, registry.ErrRevokedKey):
						c.Warnings = append(c.Warnings, ch.Revoked.Error())
					default:
						c.Warnings = append(c.Warnings, "whether "+ch.Name+" "+ch.To+" was revoked is not known: "+ch.Revoked.Error())
					}
				}
				return d.report(c, made, map[string]error{}, nil)
			})
		},
	}
	return d.add(cmd)
}

func removeVerb(a *app) *cobra.Command {
	d := &distributed{configured: configured{app: a}}
	cmd := &cobra.Command{
		Use:   "remove NAME...",
		Short: "Remove plug-ins from a config.yaml and from its lock",
		Long: `Remove plug-ins from a config.yaml, with all that they were granted, and from its lock, with what they alone require. One that another
requires is an error, and nothing changes. One that only the lock names is removed from that. Files stay in the store until 'ferrule gc', and those in folders of config.yaml where they are.
` + changesHelp,
		Example: `  ferrule remove tax
  ferrule remove tax audit && ferrule gc`,
		Args:              arguments("NAME..."),
		ValidArgsFunction: d.complete(true, func(plugins.Plugin) bool { return true }),
		RunE: func(_ *cobra.Command, names []string) error {
			f, err := config.OpenFile(d.path)
			if err != nil {
				return d.wrong(err)
			}
			c, err := f.Config()
			if err != nil {
				return failure(err)
			}
			before, err := lock.Load(install.LockOf(d.path))
			if errors.Is(err, fs.ErrNotExist) {
				before, err = &lock.Lock{}, nil
			}
			if err != nil {
				return fromSource(err)
			}
			for _, name := range names {
				if c.Plugin(name) == nil {
					if before.Plugins[name] != nil {
						continue
					}
					all := append(namesIn(c), slices.Sorted(maps.Keys(before.Plugins))...)
					return usage("no plug-in "+name+" in "+d.path+" and its lock", "one that is there", didYouMean(name, all))
				}
				if err := f.Remove(name); err != nil {
					return byHand(err)
				}
			}
			return d.working(func(w *work) error {
				after, err := f.Config()
				if err != nil {
					return failure(err)
				}
				var wants []install.Want // what is disabled, too, stays
				for _, name := range namesIn(after) {
					wants = append(wants, install.Want{Name: name})
				}
				var locked []string
				for _, name := range names {
					if before.Plugins[name] != nil {
						locked = append(locked, name)
					}
				}
				if err := w.Removable(w.ctx, wants, locked...); err != nil {
					return fromSource(err)
				}
				again := func(f *config.File) error {
					now, err := f.Config()
					if err != nil {
						return failure(err)
					}
					for _, name := range names {
						if now.Plugin(name) == nil { // somebody else was faster
							continue
						}
						if err := f.Remove(name); err != nil {
							return byHand(err)
						}
					}
					return nil
				}
				if err := d.save(f, again); err != nil { // first: who sees a lock without what its config.yaml names installs that again
					return err
				}
				removed, err := w.Remove(w.ctx, wants, locked...)
				if err != nil {
					return fromSource(d.halfRemoved(c, locked, err))
				}
				var made []install.Change
				for _, name := range names {
					if before.Plugins[name] == nil { // it was in a folder, or never installed
						made = append(made, install.Change{Name: name})
					}
				}
				for _, name := range removed {
					made = append(made, install.Change{Name: name, From: before.Plugins[name].Version})
				}
				return d.report(&changes{Lock: w.Lock}, made, map[string]error{}, nil)
			})
		},
	}
	return d.add(cmd)
}

// halfRemoved says where an error that keeps plug-ins in the lock leaves those that config.yaml, which was c, does not name any more.
func (d *distributed) halfRemoved(c *config.Config, names []string, err error) error {
	now, unread := lock.Load(install.LockOf(d.path))
	var left []string
	for _, name := range names {
		if c.Plugin(name) != nil && (unread != nil || now.Plugins[name] != nil) {
			left = append(left, name)
		}
	}
	if left == nil {
		return err
	}
	return &remedied{err, fmt.Sprintf("%s is changed, and does not name %s any more: after that 'ferrule remove %s' takes the lock's part out, too", d.path, strings.Join(left, ", "), strings.Join(left, " "))}
}

func lockVerb(a *app) *cobra.Command {
	d := &distributed{configured: configured{app: a}}
	var platforms []string
	cmd := &cobra.Command{
		Use:   "lock --platform OS/ARCH,...",
		Short: "Add further platforms to the lock of a config.yaml",
		Long: `Add the files for further platforms to ferrule.lock, so that a machine of that kind installs them as they are
locked. The lock itself is written by ferrule install and ferrule update, with the digests for all platforms that the
source says. So this is only needed for sources that do not say all of them: a release page without an index. Their
files are fetched and verified; where keys count, also those of other sources, and those that the lock has without a
signature. Nothing else in the lock changes.
` + changesHelp,
		Example: `  ferrule lock --platform linux/arm64,windows/amd64
  ferrule lock --config /etc/shop/config.yaml --platform darwin/arm64`,
		Args: arguments(),
		RunE: func(_ *cobra.Command, _ []string) error {
			if len(platforms) == 0 {
				return usage("no --platform", "--platform OS/ARCH, such as linux/arm64", "")
			}
			if err := arePlatforms(platforms); err != nil {
				return err
			}
			return d.working(func(w *work) error {
				made, failed, notices, err := w.LockPlatforms(w.ctx, platforms...)
				w.shown.stop()
				if err != nil {
					return fromSource(err)
				}
				return d.report(&changes{Lock: w.Lock}, made, failed, notices)
			})
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringSliceVar(&platforms, "platform", nil, "the `PLATFORMS`, such as linux/arm64")
	completePlatforms(cmd, true)
	return d.add(cmd)
}

func gcVerb(a *app) *cobra.Command {
	d := &distributed{configured: configured{app: a}}
	older := 24 * time.Hour
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Delete from the store what no lock names",
		Long: `Delete from the store the files that no lock names now, and that none named before its last change (ferrule rollback
goes back to that). Files that are younger than --older stay. The store keeps a list of the locks that use it, of all
the user's applications; a lock that is not there any more names nothing.
` + registryCodes + `
With --json: store (the folder), files (how many whole ones were deleted) and bytes (of them, and of what was left of downloads).`,
		Example: `  ferrule gc
  ferrule gc --older 720h`,
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			return d.working(func(w *work) error {
				bytes, n, err := w.GC(w.ctx, older)
				if err != nil {
					return fromSource(err)
				}
				g := &collected{w.Store.Folder(), n, bytes}
				return d.print(g, g.write)
			})
		},
	}
	cmd.Flags().DurationVar(&older, "older", older, "only what has been there for this `TIME`")
	return d.add(cmd)
}

// collected is what gc prints. Its JSON is documented in the command's help and grows only.
type collected struct {
	Store string `json:"store"`
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"`
}

func (g *collected) write(w io.Writer) error {
	what := plural(g.Files, "file")
	if g.Files == 0 && g.Bytes > 0 {
		what = "no whole file, and what was left of downloads,"
	}
	_, err := fmt.Fprintf(w, "%s deleted (%s) from %s\n", what, amountText(g.Bytes), escape.Line(g.Store))
	return err
}
