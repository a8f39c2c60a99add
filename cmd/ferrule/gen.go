package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/gen"
	"github.com/ferrule-dev/ferrule/loader/escape"
)

func init() { verbs = append(verbs, genVerb) }

func genVerb(a *app) *cobra.Command {
	var o gen.Options
	cmd := &cobra.Command{
		Use:   "gen [--check] [DIR]",
		Short: "Make a plug-in of a Go package, in four forms",
		Long: `Make a plug-in of the Go package in the folder DIR, or in this one: read which functions its comments export, and write what makes
of them, from one source,
  - a program, a sidecar: go build ./cmd/NAME
  - a shared library: go build -buildmode=c-shared -o NAME.so ./cmd/NAME
  - a WebAssembly module: GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o NAME.wasm ./cmd/NAME
  - a part of a host in Go that has it compiled in: builtin.Open(builtin.From(vowels.Plugin))

The package is an ordinary one, of any name but main, in a module that requires github.com/ferrule-dev/ferrule/sdk-go (go get):

  // Package vowels counts vowels.
  //
  //ferrule:plugin name=vowels version=1.0.0
  package vowels
  // CountVowels counts the vowels of a text.
  //
  //ferrule:export
  func CountVowels(text string) int { … }

The comments, each in the doc comment of what it is about, with keys as key=value, whose value is a word or a Go string:
  //ferrule:plugin     the package: name=, version=, threads=, config= (a JSON Schema), and other keys of a manifest
  //ferrule:export     a function, or a method of the state: count_vowels for a host, or name=
  //ferrule:hook       the same at an extension point, which stands behind the word
  //ferrule:import     a variable of a function's type, which calls the host's function of its name
  //ferrule:want       the same, where the host need not have it
  //ferrule:start      the function that makes the state, *T, of a configuration
  //ferrule:stop       a method of *T that runs at its end; and so configure, save and resume

A function has a context.Context, a value, an io.Reader and an io.Writer, each or none of them, in this order, and returns a value and an error, or one of
them, or nothing. []byte is bytes, string is text, and any other type crosses as JSON. sdk-go/README.md has all of it.

With the line //go:generate ferrule gen in it, go generate does the same.

What is written is ferrule_gen.go in DIR, and main.go, library.go and module.go in DIR/cmd/NAME. It belongs into git; those who build need no ferrule. What is left of
ferrule_gen.go from before does not matter, whatever it is; a file with code that ferrule gen has not written is an error. Of the same package the files are
the same, on every system. Where the plug-in had another name, or -o names another folder beside its program's, what was written for that is removed: only files that begin
with the line of ferrule gen's, which the output names.

With --json: name, version, package, program (the folder of the program), functions, hooks, imports, wants (names), and files (path, state: same, written or removed).

Exit codes:
  0    the files are there
  1    the package is not as its comments have to be, each fault with its place; with --check, a file is not as it would be written
  2    the command line is wrong
  130  interrupted`,
		Example: `  go get github.com/ferrule-dev/ferrule/sdk-go
  ferrule gen
  go build ./cmd/vowels
  ferrule call --sidecar ./vowels count_vowels --in hello

  # The package of a folder, and its program elsewhere
  ferrule gen -o cmd/words plugins/words

  # In CI: are the files those of the package?
  ferrule gen --check`,
		Args: arguments("[DIR]"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.Dir = "."
			if len(args) > 0 {
				o.Dir = filepath.Clean(args[0])
			}
			return a.gen(o)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	cmd.Flags().BoolVar(&o.Check, "check", false, "write nothing, and fail where a file is not as it would be written")
	cmd.Flags().StringVarP(&o.Out, "output", "o", "", "the `FOLDER` of the program, in the same module; without it cmd/NAME in DIR")
	return cmd
}

func (a *app) gen(o gen.Options) error {
	ctx, stop := interruptible(0)
	defer stop()
	r, err := gen.Run(ctx, o)
	if err != nil {
		return failure(err)
	}
	if err := a.print(r, func(w io.Writer) error { return generated(w, r, o.Check) }); err != nil {
		return err
	}
	if changed := r.Changed(); o.Check && len(changed) > 0 {
		var stale []error
		for _, f := range changed {
			what := "is not as ferrule gen writes it"
			if f.State == gen.Removed {
				what = "belongs to a name that the plug-in has no more"
			}
			stale = append(stale, fmt.Errorf("%s %s", f.Path, what))
		}
		last := len(stale) - 1
		stale[last] = &remedied{stale[last], "Run ferrule gen"}
		return &exit{code: exitFailed, err: errors.Join(stale...), reported: a.json}
	}
	return nil
}

// generated tells people what there is.
func generated(w io.Writer, r *gen.Result, check bool) error {
	if check && len(r.Changed()) > 0 {
		return nil // the error says which
	}
	var b strings.Builder
	for _, f := range r.Changed() {
		fmt.Fprintf(&b, "%s %s\n", f.State, escape.Line(f.Path))
	}
	about := []string{plural(len(r.Functions), "function")}
	for _, n := range []struct {
		n    int
		what string
	}{{len(r.Hooks), "hook"}, {len(r.Imports), "import"}, {len(r.Wants), "want"}} {
		if n.n > 0 {
			about = append(about, plural(n.n, n.what))
		}
	}
	fmt.Fprintf(&b, "%s %s: %s\n", r.Name, escape.Line(r.Version), strings.Join(about, ", "))
	_, err := io.WriteString(w, b.String())
	return err
}
