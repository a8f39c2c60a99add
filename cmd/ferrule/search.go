package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/install"
)

func init() { verbs = append(verbs, searchVerb) }

func searchVerb(a *app) *cobra.Command {
	d := &distributed{configured: configured{app: a}}
	var from string
	limit := 20
	cmd := &cobra.Command{
		Use:   "search WORD...",
		Short: "Search the registry of a config.yaml for plug-ins",
		Long: `Search the index of a registry: that of config.yaml, or the one of --registry, for which no config.yaml is needed. A plug-in is found that has all the words, or words that
begin so, in its name, its keywords or its summary; those that have them in the name come first. The index is of the registry whose name
config.yaml or the lock has, and no older than the one that was seen before. It has to be signed by a key of registry.keys of config.yaml; where there
is none, as with --registry, nobody looks at its signature, which is a warning.
` + registryCodes + `
With --json: total (how many there are), cut (true: there may be more, since the words are of very many plug-ins) and hits, each with name,
version, summary, keywords, weight (what the registry puts before others) and revoked (true: that version is, and an older one may not be).`,
		Example: `  ferrule search tax
  ferrule search --registry oci://registry.example/acme image resize`,
		Args:              arguments("WORD..."),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, words []string) error {
			ctx, stop := interruptible(0)
			defer stop()
			x, err := d.openIndex(ctx, from)
			if err != nil {
				return err
			}
			found, err := x.Search(ctx, strings.Join(words, " "), limit)
			if err != nil {
				return fromSource(err)
			}
			for _, w := range x.Warnings() {
				fmt.Fprintf(a.err, "ferrule: warning: %s\n", escape.Line(w.Error()))
			}
			h := &hits{found.Total, found.Cut, []hit{}}
			for _, f := range found.Hits {
				h.Hits = append(h.Hits, hit{f, x.Revoked(f.Name, f.Version) != nil})
			}
			return a.print(h, h.write)
		},
	}
	cmd.Flags().StringVar(&from, "registry", "", "the `ADDRESS` of the registry, in place of config.yaml's")
	cmd.Flags().IntVar(&limit, "limit", limit, "how many are shown at the most: `N`")
	return d.add(cmd)
}

// openIndex opens the index of a registry.
func (d *distributed) openIndex(ctx context.Context, from string) (*index.Index, error) {
	c := &config.Config{Registry: config.Registry{Tag: "latest"}}
	if from == "" {
		var err error
		if c, err = config.Load(d.path); err != nil {
			return nil, d.wrong(err)
		}
		if c.Registry.URL == "" {
			return nil, usage(d.path+" without a registry", "registry: {url: ...} in it, or --registry ADDRESS", "")
		}
	} else {
		address, err := addressOf(from)
		if err != nil {
			return nil, err
		}
		c.Registry.URL = address
	}
	x, err := install.OpenIndex(ctx, c, openers...)
	return x, fromSource(err)
}

// hits is what search prints. Its JSON is documented in the command's help and grows only.
type hits struct {
	Total int   `json:"total"`
	Cut   bool  `json:"cut"`
	Hits  []hit `json:"hits"`
}

type hit struct {
	index.Hit
	Revoked bool `json:"revoked,omitempty"` // by its version; which files are is known where one is installed
}

func (h *hits) write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, hit := range h.Hits {
		version := cmp.Or(hit.Version, "-")
		if hit.Revoked {
			version += " (revoked)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", escape.Line(hit.Name), escape.Line(version), escape.Line(cmp.Or(hit.Summary, "-")))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var err error
	switch {
	case h.Cut:
		_, err = fmt.Fprintf(w, "%d of more than %d: there may be better ones. These words are of very many plug-ins: give another word\n", len(h.Hits), h.Total)
	case h.Total == 0:
		_, err = fmt.Fprintln(w, "nothing was found")
	case h.Total > len(h.Hits):
		_, err = fmt.Fprintf(w, "%d of %d\n", len(h.Hits), h.Total)
	}
	return err
}
