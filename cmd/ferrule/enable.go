package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

func init() { verbs = append(verbs, enableVerb, disableVerb, grantVerb, denyVerb) }

// edits are the edits that one command line makes of a config.yaml: all of them, or none.
type edits struct {
	*configured
	over *plugins.Overview
	file *config.File
	made *edited
}

// edited is what an edit prints. Its JSON is documented in the command's help and grows only.
type edited struct {
	Config   string   `json:"config"`
	Changes  []edit   `json:"changes"`
	Warnings []string `json:"warnings,omitempty"`
}

// edit is what became of one thing that was asked for.
type edit struct {
	Plugin  string `json:"plugin"`
	Offer   string `json:"offer,omitempty"`
	Changed bool   `json:"changed"`
	Text    string `json:"text"`
}

// editHelp is what holds for all edits.
const editHelp = `
The file is edited where it has to be: comments, order and the way things are written stay. All that the command line asks
for is done, or nothing.

An application that watches the file takes the change over while it runs, as a whole. Where a plug-in could not be as
the file says then, such as one without a function that it imports or a plug-in that it requires, the application
refuses the file, with all later changes until that is mended, and keeps what it has; this command writes the file, and
warns of it, also where that is not on account of the edit. Plug-ins in Go that the application has compiled in are not
known here: ignore a warning that such a one is not found. To name one in the file, write it there by hand.
` + configCodes + `
With --json there is one object:
  config                    the path of the file
  changes                   each with plugin, offer (of grant and deny), changed (false: it was so already) and text
  warnings                  texts, as on the standard error; not there where there is none`

func enableVerb(a *app) *cobra.Command {
	c := &configured{app: a}
	cmd := &cobra.Command{
		Use:   "enable NAME...",
		Short: "Enable plug-ins, in a config.yaml",
		Long: `Enable plug-ins in a config.yaml. One that is in its folders, and that it does not name, is added. Nothing of a plug-in is
run.
` + editHelp,
		Example: `  ferrule enable loyalty
  ferrule enable --config /etc/shop/config.yaml loyalty audit`,
		Args:              arguments("NAME..."),
		ValidArgsFunction: c.complete(true, func(p plugins.Plugin) bool { return !p.Enabled }),
		RunE:              c.edit(func(e *edits, args []string) error { return e.enable(args, true) }),
	}
	return c.add(cmd)
}

func disableVerb(a *app) *cobra.Command {
	c := &configured{app: a}
	cmd := &cobra.Command{
		Use:   "disable NAME...",
		Short: "Disable plug-ins, in a config.yaml",
		Long: `Disable plug-ins in a config.yaml. Their entries stay, with all that they are granted. Nothing of a plug-in is run.
` + editHelp,
		Example: `  ferrule disable loyalty
  ferrule disable --config /etc/shop/config.yaml loyalty audit`,
		Args:              arguments("NAME..."),
		ValidArgsFunction: c.complete(true, func(p plugins.Plugin) bool { return p.Enabled }),
		RunE:              c.edit(func(e *edits, args []string) error { return e.enable(args, false) }),
	}
	return c.add(cmd)
}

func grantVerb(a *app) *cobra.Command {
	c := &configured{app: a}
	cmd := &cobra.Command{
		Use:   "grant NAME OFFER...",
		Short: "Let a plug-in call functions of the application, in a config.yaml",
		Long: `Grant a plug-in functions of the application, or services of other plug-ins, in a config.yaml: those that it imports or wants
(ferrule info), or the beginning of some and a *. Files and ports are not granted here: they are written to permit in its entry. What the version that
is there does not ask for is granted with a warning, as a newer one may, and so is what a plug-in is granted that is still to be installed. Nothing of a
plug-in is run.
` + editHelp,
		Example: `  ferrule grant loyalty loyalty_points
  ferrule grant loyalty 'cart_*' geo_lookup`,
		Args:              arguments("NAME", "OFFER..."),
		ValidArgsFunction: c.completeOffers(false),
		RunE:              c.edit(func(e *edits, args []string) error { return e.grant(args[0], args[1:]) }),
	}
	return c.add(cmd)
}

func denyVerb(a *app) *cobra.Command {
	c := &configured{app: a}
	cmd := &cobra.Command{
		Use:   "deny NAME OFFER...",
		Short: "Take grants of a plug-in away, in a config.yaml",
		Long: `Take away what a plug-in was granted in a config.yaml, as it is written there. One that is part of another, such as cart_total of
cart_*, is refused. A plug-in that runs and cannot be without it keeps it: ferrule disable takes such a one away. Nothing of a
plug-in is run.
` + editHelp,
		Example: `  ferrule deny loyalty loyalty_points
  ferrule deny loyalty 'cart_*'`,
		Args:              arguments("NAME", "OFFER..."),
		ValidArgsFunction: c.completeOffers(true),
		RunE:              c.edit(func(e *edits, args []string) error { return e.deny(args[0], args[1:]) }),
	}
	return c.add(cmd)
}

// saves is how often a command makes its edits when somebody else writes the file at the same time.
const saves = 10

// edit returns what has do make edits, writes the file, and says what has changed.
func (c *configured) edit(do func(e *edits, args []string) error) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		var e *edits
		changed := false
		if err := untilSaved(func() (err error) { // each time of what the file says now
			e, changed, err = c.editOnce(do, args)
			return err
		}); err != nil {
			return err
		}
		if changed {
			e.warn()
		}
		if err := c.print(e.made, e.made.write); err != nil {
			return err
		}
		for _, w := range e.made.Warnings {
			fmt.Fprintf(c.err, "ferrule: warning: %s\n", escape.Line(w))
		}
		return nil
	}
}

// editOnce has do make edits of the file as it is now, and writes it.
func (c *configured) editOnce(do func(e *edits, args []string) error, args []string) (e *edits, changed bool, err error) {
	o, err := c.survey()
	if err != nil {
		return nil, false, err
	}
	f, err := config.OpenFile(c.path)
	if err != nil {
		return nil, false, c.wrong(err)
	}
	e = &edits{c, o, f, &edited{Config: o.Config.Path}}
	text := f.Bytes()
	if err := do(e, args); err != nil {
		return nil, false, err
	}
	return e, !bytes.Equal(text, f.Bytes()), f.Save()
}

// save saves edits. Where somebody else has written the file since it was read, again makes them of what it says now.
func (c *configured) save(f *config.File, again func(*config.File) error) error {
	return untilSaved(func() (err error) {
		if f == nil {
			if f, err = config.OpenFile(c.path); err != nil {
				return c.wrong(err)
			}
			if err = again(f); err != nil {
				return err
			}
		}
		err = f.Save()
		f = nil
		return err
	})
}

// untilSaved has do save edits, and again while it finds that somebody else has written the file meanwhile.
func untilSaved(do func() error) error {
	err := do()
	for n := 1; n < saves && errors.Is(err, config.ErrChanged); n++ {
		err = do()
	}
	if errors.Is(err, config.ErrChanged) {
		return &exit{code: exitFailed, err: fmt.Errorf("%w. Nothing was written: do it again", err)}
	}
	return failure(err)
}

// warn notes which plug-ins cannot be as the file says now: on their account a running application may refuse it.
func (e *edits) warn() {
	now, err := e.survey()
	if err != nil {
		return // it is written, and ferrule doctor has more to say
	}
	for i := range now.Plugins {
		p := &now.Plugins[i]
		fresh, stale := e.troubles(now, p)
		text := ""
		switch {
		case fresh != nil:
			text = fmt.Sprintf("%s. An application that watches %s refuses it as a whole then, with all later changes, and goes on with all as it was", strings.Join(fresh, ". "), e.made.Config)
		case stale != nil: // the application may have refused the file before this edit, and does so again
			text = fmt.Sprintf("%s. That was so before. An application that watches %s refuses it as a whole, with all later changes, and goes on with all as it was, unless %s has failed there already",
				strings.Join(stale, ". "), e.made.Config, p.Name)
		default:
			continue
		}
		e.made.Warnings = append(e.made.Warnings, fmt.Sprintf("%s. To take %s away now: ferrule disable %s", text, p.Name, shellWord(p.Name)))
	}
}

// troubles are why a plug-in cannot be as the file says now, as sentences without a full stop: what is so since the edits, and what was so before. What was so before and is
// none where the application has something compiled in is neither: it was warned of when it began.
func (e *edits) troubles(now *plugins.Overview, p *plugins.Plugin) (fresh, stale []string) {
	had := map[string]bool{}
	first := "" // of what was wrong before, as an application says it that has compiled in what may be
	for _, f := range faultsOf(e.over, p.Name) {
		text := withoutRemedies(f)
		had[text] = true
		if first == "" && !f.Unsure {
			first = text
		}
	}
	lost, won := e.moved(now, p)
	for _, f := range faultsOf(now, p.Name) {
		text, bare := strings.TrimSuffix(faultOf(f).Text, "."), withoutRemedies(f)
		another := !had[bare] || (lost != nil || won) && errors.Is(f, plugins.ErrGrant) // which names all that is not granted, of the application's too
		switch {
		case bare == first && !another && fresh == nil:
			return nil, []string{text} // an application in which it has failed says the same of it, whatever is behind that
		case another:
			fresh = append(fresh, text)
		case !f.Unsure:
			stale = append(stale, text)
		}
	}
	names := lost
	if before := find(e.over, p.Name); lost == nil && (won || before == nil || !before.Enabled) {
		names = ungranted(now, p) // what the application says that it lacks is another text then
	}
	if names != nil {
		fresh = append(fresh, p.Name+" imports "+strings.Join(names, ", ")+", and cannot be without it, unless the application offers it to all")
	}
	return fresh, stale
}

// faultsOf is all that is wrong with a plug-in that is to be there.
func faultsOf(o *plugins.Overview, name string) (faults []*plugins.Error) {
	p := find(o, name)
	if p == nil || !p.Enabled || p.State != plugins.StateFailed {
		return nil
	}
	for _, err := range append([]error{p.Err}, o.More[name]...) {
		if f, ok := errors.AsType[*plugins.Error](err); ok {
			faults = append(faults, f)
		}
	}
	return faults
}

// withoutRemedies is a fault's text without what there is to do, which has lines of the file: these move with an edit.
func withoutRemedies(f *plugins.Error) string {
	own := *f
	own.Remedy = ""
	if cause, ok := own.Err.(*plugins.Error); ok {
		own.Err = errors.New(withoutRemedies(cause))
	}
	return own.Error()
}

// moved are the imports of a plug-in that only the application can offer, and that it was granted before the edits and is not any more; and whether it was granted others.
func (e *edits) moved(now *plugins.Overview, p *plugins.Plugin) (lost []string, won bool) {
	before := e.over.Config.Plugin(p.Name)
	lack := ungranted(now, p)
	for _, name := range importsOf(p) {
		_, had := before.Granted(name)
		_, has := now.Config.Plugin(p.Name).Granted(name)
		won = won || has && !had
		if had && slices.Contains(lack, name) {
			lost = append(lost, name)
		}
	}
	return lost, won
}

// ungranted are the imports of a plug-in that is to be there which no other one provides, and which the file does not grant it. What is wrong with a service is a fault.
func ungranted(o *plugins.Overview, p *plugins.Plugin) (names []string) {
	for _, name := range importsOf(p) {
		_, has := o.Config.Plugin(p.Name).Granted(name)
		if !has && !slices.ContainsFunc(o.Plugins, func(other plugins.Plugin) bool { return other.Enabled && slices.Contains(other.Provides, name) }) {
			names = append(names, name)
		}
	}
	return names
}

// importsOf are what a plug-in cannot be without; nil of one that is not to be there.
func importsOf(p *plugins.Plugin) []string {
	if lib := readPlugin(p); lib != nil && p.Enabled {
		return namesOf(lib.Imports)
	}
	return nil
}

// write writes what has changed for people.
func (e *edited) write(w io.Writer) error {
	for _, c := range e.Changes {
		if _, err := fmt.Fprintln(w, escape.Line(c.Text)); err != nil {
			return err
		}
	}
	return nil
}

// note notes what became of something, as a sentence behind the plug-in's name.
func (e *edits) note(plugin, offer string, changed bool, format string, args ...any) {
	e.made.Changes = append(e.made.Changes, edit{plugin, offer, changed, plugin + ": " + fmt.Sprintf(format, args...)})
}

// byHand is the error of an edit that the file is not written for.
func byHand(err error) error {
	var faulty *config.Error
	if errors.As(err, &faulty) {
		return &exit{code: exitFailed, err: &wrongConfig{faulty}}
	}
	return failure(err)
}

// enable has plug-ins used, or not.
func (e *edits) enable(names []string, enabled bool) error {
	for _, name := range names {
		p, err := known(e.over, name)
		if err != nil {
			return err
		}
		entry, err := e.now(name)
		if err != nil {
			return err
		}
		switch word := map[bool]string{true: "enabled", false: "disabled"}[enabled]; {
		case entry == nil && !enabled:
			e.note(name, "", false, "not used already: %s does not name it", e.made.Config)
		case entry == nil && p.Version == "":
			return usage(fmt.Sprintf("%s, which is no plug-in", p.Source), "one in the folders of "+e.made.Config, "See ferrule doctor")
		case entry == nil:
			err = e.file.Add(name, "")
			e.note(name, "", true, "added to %s, with no grants", e.made.Config)
		case entry.Enabled == enabled:
			e.note(name, "", false, "%s already", word)
		default:
			err = e.file.SetEnabled(name, enabled)
			e.note(name, "", true, "%s in %s", word, e.made.Config)
		}
		if err != nil {
			return byHand(err)
		}
	}
	return nil
}

// now returns a plug-in's entry as it was edited, or nil.
func (e *edits) now(name string) (*config.Plugin, error) {
	conf, err := e.file.Config()
	if err != nil {
		return nil, failure(err)
	}
	return conf.Plugin(name), nil
}

// offers returns what a plug-in, which has an entry, may be granted: what it or one of its group asks for; nil where its file cannot be read.
func (e *edits) offers(name string) (offers []string, err error) {
	if _, err := known(e.over, name); err != nil {
		return nil, err
	}
	if e.over.Config.Plugin(name) == nil {
		return nil, usage(name+", which "+e.made.Config+" does not name", "one that is in its list", "Write it there first: ferrule enable "+shellWord(name)+" where it is in a folder, ferrule install "+shellWord(name)+" --grant OFFER where it is not")
	}
	group := groupOf(e.over, name)
	if group == nil {
		return nil, nil
	}
	return append([]string{}, asksOfAll(group)...), nil
}

// grant lets a plug-in have offers.
func (e *edits) grant(name string, offers []string) error {
	asked, err := e.offers(name)
	if err != nil {
		return err
	}
	unknown := asked == nil
	if p := find(e.over, name); unknown && (p == nil || !absent(p)) {
		return usage("no file of "+name+" that says what it imports", "one that can be read", "See ferrule doctor")
	}
	for _, offer := range offers {
		entry, err := e.now(name)
		if err != nil {
			return err
		}
		beginning, many := strings.CutSuffix(offer, "*")
		if !abi.ValidName(beginning) && !(many && beginning == "") {
			return usage(fmt.Sprintf("%q", offer), "a function's name, or the beginning of one and a *",
				cmp.Or(didYouMean(offer, asked), "See ferrule info "+shellWord(name)))
		}
		if !unknown && !slices.ContainsFunc(asked, func(name string) bool { return name == offer || many && strings.HasPrefix(name, beginning) }) {
			e.made.Warnings = append(e.made.Warnings, fmt.Sprintf("the version of %s that is there does not ask for %s; a newer one may. %s",
				name, offer, imports(offer, asked)))
		}
		if by, ok := entry.Granted(offer); ok {
			already := "already"
			if by != offer {
				already = "already, by " + by
			}
			e.note(name, offer, false, "%s granted %s", offer, already)
			continue
		}
		if err := e.file.Grant(name, offer); err != nil {
			return byHand(err)
		}
		e.note(name, offer, true, "%s granted in %s", offer, e.made.Config)
	}
	if unknown {
		e.made.Warnings = append(e.made.Warnings, name+" is not installed, so that nobody knows whether it asks for that: ferrule install")
	}
	return nil
}

// absent reports whether a plug-in has no file yet because it is still to be installed, or is disabled, which nobody installs.
func absent(p *plugins.Plugin) bool {
	var failed *plugins.Error
	return p.Source == "" && errors.As(p.Err, &failed) && (failed.Step == plugins.StepFetch || failed.Kind == plugins.ErrDisabled || errors.Is(p.Err, registry.ErrNotFound))
}

// imports is the remedy for an offer that is none of these.
func imports(offer string, asked []string) string {
	if len(asked) == 0 {
		return "It asks for no function"
	}
	return cmp.Or(didYouMean(offer, asked), "It asks for "+strings.Join(asked, ", "))
}

// deny takes grants away.
func (e *edits) deny(name string, offers []string) error {
	asked, err := e.offers(name)
	if err != nil {
		return err
	}
	for _, offer := range offers {
		entry, err := e.now(name)
		if err != nil {
			return err
		}
		_, granted := entry.Granted(offer)
		switch {
		case granted:
			if err := e.file.Deny(name, offer); err != nil {
				return byHand(err)
			}
			e.note(name, offer, true, "%s taken away in %s", offer, e.made.Config)
		case slices.Contains(asked, offer) || strings.HasSuffix(offer, "*"):
			e.note(name, offer, false, "%s not granted already", offer)
		default:
			return usage(offer+", which "+name+" was not granted and does not import", "a grant of it", cmp.Or(didYouMean(offer, slices.Concat(entry.Grant, asked)), "See ferrule info "+shellWord(name)))
		}
	}
	return nil
}

// completeOffers completes a plug-in's name, and then what it may be granted, or was.
func (c *configured) completeOffers(granted bool) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names := c.complete(false, func(p plugins.Plugin) bool { return p.State != plugins.StateDiscovered })
	return func(cmd *cobra.Command, args []string, prefix string) (words []string, d cobra.ShellCompDirective) {
		if len(args) == 0 {
			return names(cmd, args, prefix)
		}
		d = cobra.ShellCompDirectiveNoFileComp
		o, err := c.survey()
		if err != nil {
			return nil, d
		}
		p, entry := find(o, args[0]), o.Config.Plugin(args[0])
		if p == nil || entry == nil {
			return nil, d
		}
		var asked []abi.Symbol
		if lib := readPlugin(p); lib != nil {
			asked = slices.Concat(lib.Imports, lib.Wants)
		}
		if granted {
			docs := map[string]string{}
			for _, s := range asked {
				docs[s.Name] = s.Doc
			}
			for _, g := range entry.Grant {
				if !slices.Contains(args[1:], g) {
					words = append(words, completion(g, prefix, docs[g])...)
				}
			}
			return words, d
		}
		for _, s := range asked {
			if _, has := entry.Granted(s.Name); !has && !slices.Contains(args[1:], s.Name) {
				words = append(words, completion(s.Name, prefix, s.Doc)...)
			}
		}
		return words, d
	}
}
