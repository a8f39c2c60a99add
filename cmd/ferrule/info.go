package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

func init() { verbs = append(verbs, infoVerb) }

func infoVerb(a *app) *cobra.Command {
	c := &configured{app: a}
	cmd := &cobra.Command{
		Use:   "info NAME",
		Short: "Say what a plug-in of a config.yaml is, asks for and may have",
		Long: `Say all that is known of one plug-in of a config.yaml, without running any of it: its state, its functions, the points that
it attaches to, and what it asks for beside what of that it is granted.

An import is a function that the plug-in needs, a want one that it uses where it is there. Both are services of another
plug-in, or else functions of the application. What config.yaml does not grant, the application may still offer to
all. Permits are "declared only" where nothing holds the plug-in to them: it runs in the application's process, or has
no sandbox.
` + configCodes + `
With --json there is one object:
  name, version, state,     as list has them
    enabled, required,
    runs, group, source
  error                     where something is wrong: ` + faultHelp + `
  description, threads,     of the manifest
    provides, conflicts
  platform                  what the file is built for, such as linux/amd64
  license                   as its manifest says it
  digest, origin, key,      of one that is installed: the digest of its file, the registry that it came from, the id of the key that has signed
    pinned                  it, and whether a rollback has pinned it
  range, limit              the versions that config.yaml takes, and how long a hook may take
  requires                  the plug-ins that must be there before it
  ranges                    of those that its manifest requires in a range of versions: the range, by the name
  hosts                     of its manifest: the range of an application's versions, by the application's name
  functions, points         each with name, doc, in, out, schema, stream and keys, as inspect has them
  asks                      imports and wants, each with name, doc, why (its own words), needed (an import), from (the
                            plug-in that provides it; not there of a function of the application's), granted, and by, the
                            grant as it is written
  permits                   each with what (read, write, connect, listen, memory), item, asked (by the manifest) and
                            permitted (by config.yaml), and note: no limit, of a memory that nothing bounds; no number of
                            bytes, of one that the plug-in's author has to correct
  declared                  permits are declared only`,
		Example: `  ferrule info loyalty
  ferrule info --config /etc/shop/config.yaml loyalty
  ferrule info --json loyalty | jq -r '.asks[] | select(.granted | not) | .name'`,
		Args:              arguments("NAME"),
		ValidArgsFunction: c.complete(false, func(plugins.Plugin) bool { return true }),
		RunE: func(_ *cobra.Command, args []string) error {
			o, err := c.survey()
			if err != nil {
				return err
			}
			p, err := known(o, args[0])
			if err != nil {
				return err
			}
			i := infoOf(o, p)
			return a.print(i, i.write)
		},
	}
	return c.add(cmd)
}

// info is what info prints. Its JSON is documented in the command's help and grows only.
type info struct {
	listed
	Description string            `json:"description,omitempty"`
	Threads     string            `json:"threads,omitempty"`
	Provides    []string          `json:"provides,omitempty"`
	Conflicts   []string          `json:"conflicts,omitempty"`
	Platform    string            `json:"platform,omitempty"`
	License     string            `json:"license,omitempty"`
	Digest      string            `json:"digest,omitempty"`
	Origin      string            `json:"origin,omitempty"`
	Key         string            `json:"key,omitempty"`
	Pinned      bool              `json:"pinned,omitempty"`
	Range       string            `json:"range,omitempty"`
	Limit       string            `json:"limit,omitempty"`
	Requires    []string          `json:"requires,omitempty"`
	Ranges      map[string]string `json:"ranges,omitempty"`
	Hosts       map[string]string `json:"hosts,omitempty"`
	Functions   []symbol          `json:"functions"`
	Points      []symbol          `json:"points"`
	Asks        []ask             `json:"asks"`
	Permits     []permit          `json:"permits"`
	Declared    bool              `json:"declared"`
}

// ask is a function that a plug-in asks for.
type ask struct {
	Name    string `json:"name"`
	Doc     string `json:"doc,omitempty"`
	Why     string `json:"why,omitempty"`
	Needed  bool   `json:"needed"`
	From    string `json:"from,omitempty"`
	Granted bool   `json:"granted"`
	By      string `json:"by,omitempty"`
}

// permit is something that a plug-in asks for by permit.* of its manifest, or that config.yaml permits.
type permit struct {
	What      string `json:"what"`
	Item      string `json:"item"`
	Asked     bool   `json:"asked"`
	Permitted bool   `json:"permitted"`
	Note      string `json:"note,omitempty"`
}

// The notes on a memory.
const (
	noLimit  = "no limit"
	noNumber = "no number of bytes"
)

func infoOf(o *plugins.Overview, p *plugins.Plugin) *info {
	entry := o.Config.Plugin(p.Name)
	i := &info{listed: listedOf(p), Description: p.Description, Provides: p.Provides, Requires: p.Requires, Functions: []symbol{}, Points: []symbol{}, Asks: []ask{}}
	var keys abi.Text
	lib := readPlugin(p)
	if lib != nil {
		keys = lib.Manifest.Keys
		i.License = keys.Get("license")
		i.Threads = lib.Manifest.Threads.String()
		i.Platform = cmp.Or(lib.OS, "unknown") + "/" + cmp.Or(strings.Join(lib.Archs, ","), lib.Machine)
		if engines.IsPortable(lib) {
			i.Platform = registry.AnyPlatform
		}
		i.Conflicts = items(keys.Get("conflicts"))
		i.Ranges, i.Hosts = map[string]string{}, map[string]string{}
		for _, required := range items(keys.Get("requires")) {
			name, versions, _ := strings.Cut(strings.TrimSpace(required), " ")
			if !slices.Contains(i.Requires, name) {
				i.Requires = append(slices.Clone(i.Requires), name)
			}
			if versions = strings.TrimSpace(versions); versions != "" {
				i.Ranges[name] = versions
			}
		}
		for _, kv := range keys {
			if application, ok := strings.CutPrefix(kv.Key, "host."); ok {
				i.Hosts[application] = kv.Value
			}
		}
		i.Functions, i.Points = symbolsOf(lib.Funcs), symbolsOf(lib.Hooks)
		i.Asks = append(asksOf(o, entry, p.Name, lib.Imports, true), asksOf(o, entry, p.Name, lib.Wants, false)...)
	}
	if entry != nil {
		i.Range = entry.Version
		if entry.Limit > 0 {
			i.Limit = entry.Limit.String()
		}
	}
	if in, ok := o.Installed[p.Name]; ok && in.Path == p.Source {
		i.Digest, i.Origin, i.Key, i.Pinned = in.Digest, in.Source, in.Key, in.Pinned
	}
	least := int64(0)
	if engines.IsBoxed(lib) {
		least = engines.Memory
	}
	i.Permits = permitsOf(entry, keys, least)
	i.Declared = len(i.Permits) > 0 && !enforced(p, entry, lib)
	return i
}

// items are those of a list of the manifest: one a line.
func items(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

func asksOf(o *plugins.Overview, entry *config.Plugin, name string, symbols []abi.Symbol, needed bool) []ask {
	asks := make([]ask, len(symbols))
	for i, s := range symbols {
		asks[i] = ask{Name: s.Name, Doc: s.Doc, Why: s.Keys.Get("why"), Needed: needed, From: provider(o, name, s.Name)}
		asks[i].By, asks[i].Granted = entry.Granted(s.Name)
	}
	return asks
}

// provider is the plug-in, other than the one that asks, that provides a service; "" where there is none.
func provider(o *plugins.Overview, who, service string) string {
	for i := range o.Plugins {
		if p := &o.Plugins[i]; p.Name != who && p.State != plugins.StateDiscovered && slices.Contains(p.Provides, service) {
			return p.Name
		}
	}
	return ""
}

// permitsOf is what a manifest asks for beside what is permitted. memory is how much there is where nothing is said of it; 0 is any amount.
func permitsOf(entry *config.Plugin, keys abi.Text, memory int64) []permit {
	var have config.Permit
	if entry != nil {
		have = entry.Permit
		if have.Memory > 0 {
			memory = have.Memory
		}
		if i := entry.Isolate; i != nil && i.Memory > 0 {
			memory = i.Memory
		}
	}
	all := []permit{}
	permitted := permittedOf(have)
	for _, what := range permitKinds {
		asked := items(keys.Get("permit." + what))
		for _, item := range asked {
			all = append(all, permit{What: what, Item: item, Asked: true, Permitted: have.Covers(what, item)})
		}
		for _, p := range permitted {
			if p.what == what && !slices.Contains(asked, p.item) {
				all = append(all, permit{What: what, Item: p.item, Asked: p.asked(keys), Permitted: true})
			}
		}
	}
	asked := keys.Get("permit.memory")
	n, err := strconv.ParseInt(asked, 10, 64)
	switch {
	case asked != "" && (err != nil || n < 0):
		all = append(all, permit{What: "memory", Item: asked, Asked: true, Note: noNumber})
	case asked != "" && memory == 0:
		all = append(all, permit{What: "memory", Item: asked, Asked: true, Permitted: true, Note: noLimit})
	case asked != "":
		all = append(all, permit{What: "memory", Item: asked, Asked: true, Permitted: memory >= n})
	case entry != nil && memory > 0 && (have.Memory > 0 || entry.Isolate != nil && entry.Isolate.Memory > 0):
		all = append(all, permit{What: "memory", Item: strconv.FormatInt(memory, 10), Permitted: true})
	}
	return all
}

// permitKinds are the kinds of permits that are lists, in the order in which they are printed.
var permitKinds = []string{"read", "write", "connect", "listen"}

// permitted is one thing that config.yaml permits, with a Permit that has it alone.
type permitted struct {
	what, item string
	alone      config.Permit
}

// permittedOf are the things that config.yaml permits, but for the memory.
func permittedOf(have config.Permit) (all []permitted) {
	for _, path := range have.Read {
		all = append(all, permitted{"read", path, config.Permit{Read: []string{path}}})
	}
	for _, path := range have.Write {
		all = append(all, permitted{"write", path, config.Permit{Write: []string{path}}})
	}
	for _, port := range have.Connect {
		all = append(all, permitted{"connect", strconv.Itoa(port), config.Permit{Connect: []int{port}}})
	}
	for _, port := range have.Listen {
		all = append(all, permitted{"listen", strconv.Itoa(port), config.Permit{Listen: []int{port}}})
	}
	return all
}

// asked reports whether it covers something that a manifest asks for, such as a file in a folder that may be read.
func (p permitted) asked(keys abi.Text) bool {
	return slices.ContainsFunc(permitKinds, func(what string) bool {
		return slices.ContainsFunc(items(keys.Get("permit."+what)), func(item string) bool { return p.alone.Covers(what, item) })
	})
}

// sizeText is a number of bytes as config.yaml has it: in the largest unit of which it is a whole number.
func sizeText(text string) string {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return text
	}
	unit := 0
	for ; n%1024 == 0 && unit < 4; unit++ {
		n /= 1024
	}
	return strconv.FormatInt(n, 10) + []string{"", "KiB", "MiB", "GiB", "TiB"}[unit]
}

// write writes what is known for people.
func (i *info) write(w io.Writer) error {
	paint := painter(w)
	fmt.Fprintf(w, "%s  %s\n", paint(bold, escape.Line(strings.TrimSpace(i.Name+" "+i.Version))), escape.Line(cmp.Or(i.Source, "no file")))
	if i.Description != "" {
		writeText(w, "  ", i.Description)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, text string) {
		if text != "" {
			fmt.Fprintf(table, "  %s\t%s\n", name, escape.Line(text))
		}
	}
	row("state", i.State)
	row("runs", strings.TrimSpace(i.Runs+" "+i.Group))
	if i.Required {
		row("required", "yes: the application does not start without it")
	}
	row("versions", i.Range)
	row("license", i.License)
	row("from", i.Origin)
	if i.Digest != "" {
		row("signed by", cmp.Or(i.Key, "nobody who counts: its digest in the lock does"))
	}
	row("digest", i.Digest)
	if i.Pinned {
		row("pinned", "yes: a rollback took this version back, and an update leaves it")
	}
	row("limit", i.Limit)
	row("threads", i.Threads)
	row("platform", i.Platform)
	row("requires", strings.Join(ranged(i.Requires, i.Ranges), ", "))
	row("hosts", strings.Join(ranged(slices.Sorted(maps.Keys(i.Hosts)), i.Hosts), ", "))
	row("conflicts", strings.Join(i.Conflicts, ", "))
	row("provides", strings.Join(i.Provides, ", "))
	if err := table.Flush(); err != nil {
		return err
	}
	if i.Error != nil {
		fmt.Fprintf(w, "  %s\n", paint(red, escape.Line(i.Error.title())))
		i.Error.write(w, "    ")
	}
	for _, part := range []struct {
		title   string
		symbols []symbol
	}{{"functions", i.Functions}, {"points", i.Points}} {
		if len(part.symbols) > 0 {
			fmt.Fprintf(w, "  %s\n", part.title)
		}
		for _, s := range part.symbols {
			s.write(w, paint)
		}
	}
	if len(i.Asks) > 0 {
		fmt.Fprintln(w, "  asks for")
		for _, a := range i.Asks {
			a.write(w, paint)
		}
	}
	return i.writePermits(w)
}

// ranged are names, each with its range of versions, where it has one.
func ranged(names []string, ranges map[string]string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = strings.TrimSpace(name + " " + ranges[name])
	}
	return all
}

// write writes what is asked for, and whether it is granted.
func (a *ask) write(w io.Writer, paint func(colour, text string) string) {
	from, granted := "of the application", paint(green, "granted")
	if a.From != "" {
		from = "a service of " + escape.Line(a.From)
	}
	switch {
	case !a.Granted && a.Needed:
		granted = paint(red, "not granted")
	case !a.Granted:
		granted = "not granted, and not needed"
	case a.By != a.Name:
		granted += " by " + escape.Line(a.By)
	}
	fmt.Fprintf(w, "    %s  %s, %s\n", paint(bold, escape.Line(a.Name)), from, granted)
	if a.Doc != "" {
		writeText(w, "      ", a.Doc)
	}
	if a.Why != "" {
		writeText(w, "      why: ", a.Why)
	}
}

// writePermits writes what is permitted, and whether somebody sees to it.
func (i *info) writePermits(w io.Writer) error {
	if len(i.Permits) == 0 {
		return nil
	}
	title := "permits"
	if i.Declared {
		title += ", declared only: it runs in the application's process, where nothing holds it to them"
		if i.Runs != "in-process" {
			title = "permits, declared only: it has no sandbox, and nothing holds it to them"
		}
	}
	fmt.Fprintf(w, "  %s\n", title)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range i.Permits {
		says, item := "permitted", p.Item
		if p.What == "memory" {
			item = sizeText(item)
		}
		switch {
		case p.Note == noLimit:
			says = "asked for, and there is no limit"
		case p.Note == noNumber:
			says = "asked for, which is no number of bytes: its author has to correct it"
		case !p.Permitted:
			says = "asked for, not permitted"
		case !p.Asked && i.Runs != "sidecar": // of which nobody knows what it asks for
			says = "permitted, not asked for"
		}
		fmt.Fprintf(table, "    %s %s\t%s\n", p.What, escape.Line(item), says)
	}
	return table.Flush()
}
