package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins"
)

func init() { verbs = append(verbs, listVerb) }

func listVerb(a *app) *cobra.Command {
	c := &distributed{configured: configured{app: a}}
	hooks, outdated := false, false
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the plug-ins of a config.yaml, without running any of them",
		Long: `List the plug-ins that a config.yaml names, in its folders or installed, and those that are in its folders: name, version, state, where each
runs and its file, which is in the store where it is installed. Below the list it says of each that fails what was found, what was expected and what to do. Nothing of a plug-in
is run.

The states are those that the application finds before it opens a plug-in:
  - ready: all that it asks for is there, as far as config.yaml and the files say
  - failed: it is not opened
  - disabled: config.yaml says so
  - discovered: it is in a folder, and config.yaml does not name it (ferrule enable)

The application's own points and functions are not known here: an import that no plug-in provides is taken for the
application's, and the key host.APPLICATION of a manifest is not looked at. Plug-ins in Go that the application has
compiled in are not known either: where config.yaml names such a one, or a plug-in requires it, ignore that it is not
found.

No registry is asked, but with --outdated: then it lists those of ferrule.lock for which there are newer versions, with the newest one in the
range of config.yaml and the newest of all, and says of which the version was revoked or nothing can be learnt. No file is fetched for that: whether a
version is signed by a key that counts, fits with the others and asks for no more than it was granted is what ferrule update looks at, which may refuse it.

With --hooks it lists the order of the hooks at each point that some plug-in attaches to, and why each stands where it
does. Plug-ins that failed or are not enabled have no place in it. Below it is what contradicts itself, such as two hooks
that each want to be before the other.

Exit codes:
  0    done
  1    it could not be done
  2    the command line is wrong, or names something that is not there
  3    config.yaml (ferrule doctor says all that is wrong with it) or ferrule.lock is not valid
  6    a source cannot be reached, or is too busy: another try may do
  130  interrupted

With --json there is one object:
  config                    the path of the file
  plugins                   each with name, version, state, enabled, required, runs (in-process, isolated, sidecar, group), group,
                            source (its file) and, where something is wrong, error: ` + faultHelp + `
  hooks                     with --hooks, in place of plugins: each with point, places and contradictions, which have the parts of error
    places                  in their order, each with plugin and reason
  outdated                  with --outdated, in place of plugins: each with name, version (in the lock), fits (the newest in the range), newest
                            (both of those that were not revoked), pinned (by a rollback) and, where something is wrong, failed: ` + refusalHelp,
		Example: `  ferrule list
  ferrule list --config /etc/shop/config.yaml
  ferrule list --hooks
  ferrule list --outdated
  ferrule list --json | jq -r '.plugins[] | select(.state == "failed") | .error.text'`,
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			if outdated {
				if hooks {
					return usage("--hooks and --outdated", "one of the two", "")
				}
				return c.outdated()
			}
			o, err := c.survey()
			if err != nil {
				return err
			}
			l := &listing{Config: o.Config.Path}
			if hooks {
				l.Hooks = pointsOf(o)
				return a.print(l, l.writeHooks)
			}
			l.Plugins = make([]listed, len(o.Plugins))
			for i := range o.Plugins {
				l.Plugins[i] = listedOf(&o.Plugins[i])
			}
			return a.print(l, l.write)
		},
	}
	cmd.Flags().BoolVar(&hooks, "hooks", false, "list the order of the hooks at each point, and why it is so")
	cmd.Flags().BoolVar(&outdated, "outdated", false, "ask the registry for newer versions of what is installed, and list those")
	return c.configured.add(cmd)
}

// listing is what list prints. Its JSON is documented in the command's help and grows only.
type listing struct {
	Config  string       `json:"config"`
	Plugins []listed     `json:"plugins,omitzero"`
	Hooks   []hooksPoint `json:"hooks,omitzero"`

	Outdated []outdated `json:"outdated,omitzero"`
}

// outdated is a plug-in of the lock for which there is a newer version.
type outdated struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Fits    string   `json:"fits"`
	Newest  string   `json:"newest"`
	Pinned  bool     `json:"pinned,omitempty"`
	Failed  *refusal `json:"failed,omitempty"`
}

// listed is a plug-in of a list.
type listed struct {
	Name     string `json:"name"`
	Version  string `json:"version,omitempty"`
	State    string `json:"state"`
	Enabled  bool   `json:"enabled"`
	Required bool   `json:"required"`
	Runs     string `json:"runs"`
	Group    string `json:"group,omitempty"`
	Source   string `json:"source,omitempty"`
	Error    *fault `json:"error,omitempty"`
}

// hooksPoint is the order of the hooks at a point.
type hooksPoint struct {
	Point          string      `json:"point"`
	Places         []hookPlace `json:"places"`
	Contradictions []*fault    `json:"contradictions,omitempty"`
}

type hookPlace struct {
	Plugin string `json:"plugin"`
	Reason string `json:"reason"`
}

func listedOf(p *plugins.Plugin) listed {
	l := listed{p.Name, p.Version, string(p.State), p.Enabled, p.Required, runs(p), p.Group, p.Source, nil}
	if !errors.Is(p.Err, plugins.ErrDisabled) { // which its state says, and nothing is wrong with it
		l.Error = faultOf(p.Err)
	}
	return l
}

func pointsOf(o *plugins.Overview) []hooksPoint {
	points := make([]hooksPoint, len(o.Hooks))
	for i, order := range o.Hooks {
		points[i] = hooksPoint{Point: order.Point, Places: []hookPlace{}}
		for _, p := range order.Places {
			points[i].Places = append(points[i].Places, hookPlace{p.Plugin, p.Reason})
		}
		for _, err := range order.Faults {
			points[i].Contradictions = append(points[i].Contradictions, faultOf(err))
		}
	}
	return points
}

// write writes the list for people.
func (l *listing) write(w io.Writer) error {
	if len(l.Plugins) == 0 {
		_, err := fmt.Fprintf(w, "%s names no plug-in, and there is none in its folders.\n", escape.Line(l.Config))
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "NAME\tVERSION\tSTATE\tRUNS\tSOURCE\n")
	for _, p := range l.Plugins {
		where := p.Runs
		if p.Group != "" {
			where += " " + p.Group
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", escape.Line(p.Name), column(cmp.Or(p.Version, "-")), p.State, column(where), escape.Line(cmp.Or(p.Source, "-")))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	paint := painter(w)
	for _, p := range l.Plugins {
		if p.Error != nil {
			fmt.Fprintf(w, "\n%s: %s\n", paint(red, escape.Line(p.Name)), escape.Line(p.Error.title()))
			p.Error.write(w, "  ")
		}
	}
	return nil
}

// outdated lists what there are newer versions for.
func (d *distributed) outdated() error {
	return d.working(func(w *work) error {
		wants, err := d.wants(w.config)
		if err != nil {
			return err
		}
		all, err := w.Outdated(w.ctx, wants)
		w.shown.stop()
		if err != nil {
			return fromSource(err)
		}
		l := &listing{Config: w.config.Path, Outdated: []outdated{}}
		failed := map[string]error{}
		for _, o := range all {
			row := outdated{o.Name, o.Version, o.Fits, o.Newest, o.Pinned, nil}
			if o.Err != nil {
				failed[o.Name] = o.Err
				r := refusalOf(o.Name, o.Err)
				row.Failed = &r
			}
			l.Outdated = append(l.Outdated, row)
		}
		if err := d.print(l, l.writeOutdated); err != nil {
			return err
		}
		return d.refused(failed)
	})
}

// writeOutdated writes what there are newer versions for. What is wrong is a message of its own.
func (l *listing) writeOutdated(w io.Writer) error {
	if len(l.Outdated) == 0 {
		_, err := fmt.Fprintf(w, "All that is installed for %s is the newest.\n", escape.Line(l.Config))
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "NAME\tVERSION\tFITS\tNEWEST\n")
	for _, o := range l.Outdated {
		fits := o.Fits
		if o.Pinned {
			fits += " (pinned)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", escape.Line(o.Name), column(cmp.Or(o.Version, "-")), column(cmp.Or(fits, "-")), escape.Line(cmp.Or(o.Newest, "-")))
	}
	return table.Flush()
}

// writeHooks writes the orders for people.
func (l *listing) writeHooks(w io.Writer) error {
	if len(l.Hooks) == 0 {
		_, err := fmt.Fprintf(w, "No plug-in of %s that is ready has a hook.\n", escape.Line(l.Config))
		return err
	}
	paint := painter(w)
	for i, point := range l.Hooks {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, paint(bold, escape.Line(point.Point)))
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for i, p := range point.Places {
			fmt.Fprintf(table, "  %d\t%s\t%s\n", i+1, escape.Line(p.Plugin), escape.Line(p.Reason))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		for _, f := range point.Contradictions {
			fmt.Fprintf(w, "  %s\n", paint(red, escape.Line(f.title())))
			f.write(w, "    ")
		}
	}
	return nil
}
