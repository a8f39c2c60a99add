package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func init() { verbs = append(verbs, manVerb) }

// manVerb writes the manual pages. It is for `make install` and for who makes packages, and so in no list of verbs.
func manVerb(*app) *cobra.Command {
	return &cobra.Command{
		Use:    "man FOLDER",
		Short:  "Write the manual pages of this command, made from its help, into a folder",
		Long:   "Write the manual pages, of this command and of each verb (ferrule.1, ferrule-call.1 …), into a folder that is there.",
		Hidden: true,
		Args:   arguments("FOLDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Stat(args[0]); err != nil {
				return unreadable("FOLDER", err)
			}
			for name, text := range manPages(cmd.Root()) {
				if err := putFile(filepath.Join(args[0], name), []byte(text), 0o644, true); err != nil {
					return failure(err)
				}
			}
			return nil
		},
	}
}

// manual are the verbs with a page of their own.
func manual(root *cobra.Command) (verbs []*cobra.Command) {
	for _, verb := range root.Commands() {
		if !verb.Hidden && verb.Name() != "completion" && verb.Name() != "help" { // these are the parser's: ferrule's page has them
			verbs = append(verbs, verb)
		}
	}
	return verbs
}

// The kinds of parts that help consists of.
const (
	helpText  = iota // lines that make paragraphs
	helpList         // lines that begin with "  - ", and those that go on below
	helpBlock        // indented lines, whose columns stay as they are
)

// helpPart is lines of one kind, one after the other. Those of text are as they are, the others without the two spaces before
// them. A block and a list end before an empty line, which is the text's.
type helpPart struct {
	kind  int
	lines []string
}

// helpParts splits a help text.
func helpParts(help string) (parts []helpPart) {
	for line := range strings.Lines(help + "\n") {
		line = strings.TrimRight(line, "\n")
		in, next := helpText, helpText
		if len(parts) > 0 {
			in = parts[len(parts)-1].kind
		}
		switch {
		case strings.HasPrefix(line, "  - "), in == helpList && strings.HasPrefix(line, "    "):
			next = helpList
		case strings.HasPrefix(line, "  "):
			next = helpBlock
		}
		if len(parts) == 0 || next != in {
			parts = append(parts, helpPart{kind: next})
		}
		if next != helpText {
			line = strings.TrimPrefix(line, "  ")
		}
		last := &parts[len(parts)-1]
		last.lines = append(last.lines, line)
	}
	return parts
}

// manPages are the manual pages by the names of their files, in the language of man(7).
func manPages(root *cobra.Command) map[string]string {
	pages := map[string]string{"ferrule.1": manOfAll(root)}
	for _, verb := range manual(root) {
		name := "ferrule-" + verb.Name()
		var b strings.Builder
		manHead(&b, name, verb.Short)
		arguments := strings.TrimSpace(strings.TrimPrefix(verb.Use, verb.Name()) + " [options]")
		fmt.Fprintf(&b, ".SH SYNOPSIS\n.B ferrule %s\n%s\n", roff(verb.Name()), roff(arguments))
		b.WriteString(".SH DESCRIPTION\n" + manHelp(verb.Long))
		b.WriteString(".SH OPTIONS\n" + manOptions(verb.LocalNonPersistentFlags()) + manOptions(root.PersistentFlags()))
		b.WriteString(manExamples(verb))
		b.WriteString(".SH SEE ALSO\n.BR ferrule (1)\n")
		pages[name+".1"] = b.String()
	}
	return pages
}

// manOfAll is the page of the command as a whole.
func manOfAll(root *cobra.Command) string {
	var b strings.Builder
	manHead(&b, "ferrule", root.Short)
	b.WriteString(".SH SYNOPSIS\n.B ferrule\n" + roff("COMMAND [options]") + "\n")
	b.WriteString(".SH DESCRIPTION\n" + manHelp(root.Long))
	b.WriteString(".SH COMMANDS\n")
	var also []string
	for _, verb := range manual(root) {
		fmt.Fprintf(&b, ".TP\n.BR ferrule\\-%s (1)\n%s\n", roff(verb.Name()), roff(verb.Short))
		also = append(also, fmt.Sprintf(".BR ferrule\\-%s (1)", roff(verb.Name())))
	}
	item := func(what, says string) { fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(what), roff(says)) }
	item("ferrule completion", "Print the script by which a shell completes command lines: bash, zsh, fish or powershell")
	b.WriteString(".SH OPTIONS\n" + manOptions(root.PersistentFlags()))
	item("--help", "What a command does, its options and examples")
	item("--version", "Which version this is")
	b.WriteString(manExamples(root))
	b.WriteString(".SH ENVIRONMENT\n")
	item("NO_COLOR", "Where it is set there are no colours; otherwise there are on a terminal")
	b.WriteString(".SH SEE ALSO\n" + strings.Join(also, ",\n") + "\n")
	return b.String()
}

// manHead is the begin of a page. It has no date: pages of the same command are the same.
func manHead(b *strings.Builder, name, short string) {
	fmt.Fprintf(b, ".TH %s 1 \"\" \"Ferrule\" \"Ferrule\"\n", roff(strings.ToUpper(name)))
	fmt.Fprintf(b, ".SH NAME\n%s \\- %s\n", roff(name), roff(short))
}

func manOptions(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		head, usage := optionHead(f)
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(head), roff(usage+withoutIt(f)))
	})
	return b.String()
}

// optionHead is how an option is written, with its short form and its value, and what it says.
func optionHead(f *pflag.Flag) (head, usage string) {
	value, usage := pflag.UnquoteUsage(f)
	head = "--" + f.Name
	if f.Shorthand != "" {
		head = "-" + f.Shorthand + ", " + head
	}
	return strings.TrimSpace(head + " " + value), usage
}

// withoutIt says what a flag is that is not given, where that is worth to be said.
func withoutIt(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "false", "[]", "0", "0s":
		return ""
	}
	return " (without it: " + f.DefValue + ")"
}

func manExamples(cmd *cobra.Command) string {
	if cmd.Example == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString(".SH EXAMPLES\n.nf\n")
	for line := range strings.Lines(cmd.Example) {
		b.WriteString(roff(strings.TrimPrefix(strings.TrimRight(line, "\n"), "  ")) + "\n")
	}
	return b.String() + ".fi\n"
}

// manHelp is a help text.
func manHelp(help string) string {
	var b strings.Builder
	for _, part := range helpParts(help) {
		switch part.kind {
		case helpText:
			for _, line := range part.lines {
				if line == "" {
					b.WriteString(".PP\n")
				} else {
					b.WriteString(roff(line) + "\n")
				}
			}
		case helpList:
			for _, line := range part.lines {
				if item, first := strings.CutPrefix(line, "- "); first {
					b.WriteString(".IP \\(bu 2\n")
					line = item
				}
				b.WriteString(roff(strings.TrimSpace(line)) + "\n")
			}
			b.WriteString(".PP\n")
		case helpBlock:
			b.WriteString(".PP\n.RS 2\n.nf\n")
			for _, line := range part.lines {
				b.WriteString(roff(line) + "\n")
			}
			b.WriteString(".fi\n.RE\n")
		}
	}
	return strings.ReplaceAll(b.String(), ".PP\n.PP\n", ".PP\n")
}

// roff is one line of text that shows as it is, so that what is copied from a page works: without this, hyphens, quotes and
// the like become typographic ones, and a line that begins with a full stop is a request.
func roff(text string) string {
	var b strings.Builder
	for _, c := range text {
		switch c {
		case '\\':
			b.WriteString(`\(rs`)
		case '-':
			b.WriteString(`\-`)
		case '\'':
			b.WriteString(`\(aq`)
		case '"':
			b.WriteString(`\(dq`)
		case '`':
			b.WriteString(`\(ga`)
		case '^':
			b.WriteString(`\(ha`)
		case '~':
			b.WriteString(`\(ti`)
		case '.':
			b.WriteString(`\&.`) // also no end of a sentence, with its two spaces
		default:
			if c > '~' {
				fmt.Fprintf(&b, `\[u%04X]`, c) // whatever the encoding that the system takes files to have
			} else {
				b.WriteRune(c)
			}
		}
	}
	return b.String()
}
