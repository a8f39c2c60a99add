package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

func init() { verbs = append(verbs, mirrorVerb, bundleVerb) }

// copiedHelp documents what both print.
const copiedHelp = registryCodes + `
With --json: to (the place), and names (of the plug-ins that were asked for; none: all of the lock).`

// copiedTo is what mirror and bundle print. Its JSON is documented in their help and grows only.
type copiedTo struct {
	To    string   `json:"to"`
	Names []string `json:"names"`
}

func (c *copiedTo) write(w io.Writer) error {
	what := "all of the lock"
	if len(c.Names) > 0 {
		what = plural(len(c.Names), "plug-in") + " of the lock, with what they require,"
	}
	_, err := fmt.Fprintf(w, "%s is in %s\n", what, escape.Line(c.To))
	return err
}

// copy publishes what is locked in a place.
func (d *distributed) copy(place registry.Pusher, names, platforms []string) error {
	if err := arePlatforms(platforms); err != nil {
		return err
	}
	return d.working(func(w *work) error {
		if err := w.locked(); err != nil {
			return err
		}
		err := w.Copy(w.ctx, place, names, platforms)
		w.shown.stop()
		if err != nil {
			return fromSource(err)
		}
		c := &copiedTo{place.String(), append([]string{}, names...)}
		return d.print(c, c.write)
	})
}

func mirrorVerb(a *app) *cobra.Command {
	d := &distributed{configured: configured{app: a}}
	var to string
	var platforms []string
	cmd := &cobra.Command{
		Use:   "mirror --to PLACE [NAME]...",
		Short: "Copy what the lock of a config.yaml names to a mirror",
		Long: `Copy what ferrule.lock names to a mirror: the files for all platforms that the lock has, with their signatures. PLACE is an OCI registry
(oci://HOST/PATH), or a folder that any web server can serve; in config.yaml it stands below registry: mirrors. The lock has the digest of each
file, so a mirror is trusted with nothing. What is there already stays.
` + copiedHelp,
		Example: `  ferrule mirror --to oci://mirror.example/acme
  ferrule mirror --to /srv/plugins --platform linux/amd64,linux/arm64 tax`,
		Args:              arguments("[NAME]..."),
		ValidArgsFunction: d.lockedNames(true),
		RunE: func(_ *cobra.Command, names []string) error {
			place, err := openPusher("--to", to)
			if err != nil {
				return err
			}
			return d.copy(place, names, platforms)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the `PLACE` of the mirror")
	cmd.Flags().StringSliceVar(&platforms, "platform", nil, "only the files for these `PLATFORMS`, such as linux/arm64")
	completePlatforms(cmd, true)
	return d.add(cmd)
}

func bundleVerb(a *app) *cobra.Command {
	d := &distributed{configured: configured{app: a}}
	var platforms []string
	cmd := &cobra.Command{
		Use:   "bundle FILE.zip [NAME]...",
		Short: "Put what the lock of a config.yaml names into one file",
		Long: `Put what ferrule.lock names into one file, with signatures, to be carried to where no network is: 'ferrule install --from FILE.zip' installs
from it, with the same lock byte for byte, and without one by the same rules as from a registry. A bundle that is there is added to.
` + copiedHelp,
		Example: `  ferrule bundle acme.zip
  ferrule bundle acme.zip --platform linux/arm64 tax`,
		Args: arguments("[FILE.zip]", "[NAME]..."),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return []string{"zip"}, cobra.ShellCompDirectiveFilterFileExt
			}
			return d.lockedNames(true)(cmd, args, prefix)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("no file", "FILE.zip", "")
			}
			place, err := openBundle(args[0])
			if err != nil {
				return err
			}
			return d.copy(place, args[1:], platforms)
		},
	}
	cmd.Flags().StringSliceVar(&platforms, "platform", nil, "only the files for these `PLATFORMS`, such as linux/arm64")
	completePlatforms(cmd, true)
	return d.add(cmd)
}

// openBundle opens a bundle to write in.
func openBundle(path string) (registry.Pusher, error) {
	if filepath.Ext(path) != ".zip" {
		return nil, usage(path, "a file that ends with .zip", "")
	}
	return openPusher("FILE.zip", path)
}
