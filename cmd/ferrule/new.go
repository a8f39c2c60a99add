package main

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/gen"
	"github.com/ferrule-dev/ferrule/include"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	sdkc "github.com/ferrule-dev/ferrule/sdk-c"
	sdkgo "github.com/ferrule-dev/ferrule/sdk-go"
	sdkrust "github.com/ferrule-dev/ferrule/sdk-rust"
)

func init() { verbs = append(verbs, newVerb) }

// templates are the files of new plug-ins, in the folders that a language names, and beside them what several of these files have. In a path, NAME
// stands for the plug-in's name, gitignore for .gitignore, and
// github for .github.
//
//go:embed templates
var templates embed.FS

// language is a language to make plug-ins in.
type language struct {
	Language string // as people write it
	folders  []string
	copies   []copied
	build    string // the command that builds the plug-in in the folder %s
	wasm     string // what is added to it for a WebAssembly module
	sidecar  string // what is added to it for a program
	isolated string // the option with which its library is called
	built    string // the folder within which that puts the library
	prefix   string // of the library's name, but on Windows
	valid    func(name string) error

	Compiler, Flags, Standard string // for make, "" where cargo builds

	Script string // how a script's name ends, "" of a library
	Needs  string // what runs it, in a sentence
}

// copied are files of the SDK that a new plug-in gets as they are: the folder from of files, as the folder to.
type copied struct {
	files    fs.FS
	from, to string
}

// nativeHeaders are for C and C++.
var nativeHeaders = []copied{{include.Files, ".", "include"}, {sdkc.Files, "include", "include"}}

// languages are the words that --lang takes.
var languages = map[string]*language{
	"c": {
		Language: "C", folders: []string{"release", "all", "test", "native", "c"}, copies: nativeHeaders,
		build: "make -C %s", wasm: " wasm", valid: validName,
		Compiler: "CC", Flags: "CFLAGS", Standard: "c11",
	},
	"cpp": {
		Language: "C++", folders: []string{"release", "all", "test", "native", "cpp"}, copies: nativeHeaders,
		build: "make -C %s", wasm: " wasm", valid: validName,
		Compiler: "CXX", Flags: "CXXFLAGS", Standard: "c++17",
	},
	"go": {
		Language: "Go", folders: []string{"release", "go"}, copies: []copied{{sdkgo.Sources, ".", "sdk"}}, Compiler: "CC",
		build: "make -C %s", wasm: " wasm", sidecar: " program", isolated: "--isolated ", valid: validGo,
	},
	"rust": {
		Language: "Rust", folders: []string{"release", "all", "test", "rust"},
		copies: []copied{
			{sdkrust.Files, "ferrule", "vendor/ferrule"},
			{sdkrust.Files, "ferrule-macros", "vendor/ferrule-macros"},
		},
		build: "cargo build --release --manifest-path %s/Cargo.toml", wasm: " --target wasm32-unknown-unknown",
		built: "target/release", prefix: "lib", valid: validCrate,
	},
	"python": {Language: "Python", folders: []string{"release", "script", "test", "python"}, Script: ".py", valid: validName,
		Needs: "Python with its python3-config and a C compiler (Debian: `apt-get install gcc python3-dev`), with which the command embeds it the first time, and"},
	"js": {Language: "JavaScript", folders: []string{"release", "script", "test", "js"}, Script: ".js", Needs: "nothing but", valid: validName},
}

// sidecars are the words that --lang takes with --sidecar.
var sidecars = map[string]*language{
	"go":     languages["go"],
	"python": {Language: "Python", folders: []string{"sidecar", "python-sidecar"}, Script: ".py", Needs: "Python 3.8", valid: validName},
	"js":     {Language: "JavaScript", folders: []string{"sidecar", "js-sidecar"}, Script: ".js", Needs: "Node.js 18", valid: validName},
}

const languageWords = "c, cpp, go, rust, python or js"

// plugin is what the templates know of a new plug-in; and, as JSON, what `ferrule new` says of it.
type plugin struct {
	*language `json:"-"`
	Name      string   `json:"name"`
	Lang      string   `json:"lang"`
	Dir       string   `json:"dir"`
	Files     []string `json:"files"`   // within Dir, with slashes
	Library   string   `json:"library"` // within Dir, once it is built
	Next      []string `json:"next"`    // the commands to go on with

	Wasm      bool              `json:"wasm,omitempty"`    // Library is a WebAssembly module
	Sidecar   bool              `json:"sidecar,omitempty"` // Library is a program
	Libraries map[string]string `json:"-"`                 // the library, or the program, by operating system
	Module    string            `json:"-"`                 // the WebAssembly module

	Commands []string `json:"-"` // the three commands from nothing to a result
	Source   string   `json:"-"`
	SDK      string   `json:"-"` // the version of the SDK in Rust, or in Go
	Package  string   `json:"-"` // the name of the package in Go

	made []string // the folders that write has made, each behind the one that it is in
}

func newVerb(a *app) *cobra.Command {
	var lang, name string
	var wasm, sidecar bool
	cmd := &cobra.Command{
		Use:   "new --lang c|cpp|go|rust|python|js [--wasm|--sidecar] DIR",
		Short: "Make a plug-in to start from",
		Long: `Make a plug-in in the folder DIR that builds at once and passes 'ferrule check': its source with one function,
its build file, a test, a README, a workflow that releases it, and what it needs of the SDK, so that the SDK has not to be installed.

C and C++ get a Makefile and the headers in DIR/include. Rust gets a package with ferrule-plugin, the SDK, in
DIR/vendor; the four small crates that its macros are made with come from crates.io, or from what cargo has of
it.

Go gets a module with a package of ordinary functions, what 'ferrule gen' makes of it, and the SDK in DIR/sdk. Of that one source make builds a shared
library, which hosts in Go call in a worker process, make wasm a WebAssembly module, and make program a sidecar; --wasm and --sidecar say which of them its test, its workflow and its
README are about.

With --wasm the plug-in is a WebAssembly module (.wasm), from the same source: its commands, its test, its README and its workflow
build that one. C and C++ take clang for it, with wasi-libc. Without --wasm the build file can make one, too: make wasm, or cargo build
--target wasm32-unknown-unknown.

DIR is made where it is missing, and must be empty where it is not. Its last part is the plug-in's name, unless
--name gives another. A name has letters, digits, '_', '-' and '.', 128 at most; it is not dots alone and does not
begin with '-'. One in Rust has 64 at most, begins with a letter or '_', has no '.', and is not the name of a crate
that the plug-in is built with, such as std, test or ferrule. One in Go is the name of a folder in which Go builds: it does not begin with '_' or '.'.

Python and JavaScript (python, js) get a script (docs/scripts.md), which nothing has to build: its header says what hosts call, and a release is its one file. With --sidecar they get a
plug-in that is a program of its own, a sidecar (docs/sidecars.md): one script, with no library of Ferrule's, and a
README. 'ferrule call --sidecar' calls it, and it passes 'ferrule check --sidecar'. For one in another language see docs/sidecars.md.

With --json: name, lang, dir, files and library, both within dir, wasm (with --wasm), sidecar (with --sidecar), and next, the commands to go on with.

Exit codes:
  0    the plug-in was made
  2    the command line is wrong, such as a name that no plug-in can have, or a folder that is not empty or cannot be made
  130  interrupted`,
		Example: `  # From nothing to a result
  ferrule new --lang c greeter
  make -C greeter
  ferrule call greeter/greeter.so greet --in Ada

  # A package for cargo, under another name than its folder's
  ferrule new --lang rust --name word-count plugins/rust

  # One file for all systems
  ferrule new --lang c --wasm greeter
  make -C greeter wasm
  ferrule call greeter/greeter.wasm greet --in Ada

  # A package in Go: as a library, and as a program
  ferrule new --lang go greeter
  make -C greeter
  ferrule call --isolated greeter/greeter.so greet --in Ada
  make -C greeter program
  ferrule call --sidecar greeter/greeter greet --in Ada

  # A script: nothing to build
  ferrule new --lang js greeter
  ferrule call greeter/greeter.js greet --in Ada

  # A program, with no library
  ferrule new --lang python --sidecar greeter
  ferrule call --sidecar greeter/greeter.py greet --in Ada

  # In this folder, which is empty
  ferrule new --lang cpp .`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 && lang == "" && languages[args[0]] != nil {
				return usage(plural(len(args), "argument")+": "+strings.Join(args, " "), "--lang LANGUAGE DIR", "Write ferrule new --lang "+args[0]+" "+shellWord(args[1]))
			}
			return arguments("DIR")(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := newPlugin(lang, name, args[0], wasm, sidecar)
			if err != nil {
				return err
			}
			if err := p.write(); err != nil {
				p.unmake()
				return unmade(args[0], err)
			}
			return a.print(p, p.print)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	cmd.Flags().StringVarP(&lang, "lang", "l", "", "the `LANGUAGE`: "+languageWords)
	cmd.Flags().StringVar(&name, "name", "", "the plug-in's `NAME`; without it the last part of DIR")
	cmd.Flags().BoolVar(&wasm, "wasm", false, "make a WebAssembly module, not a library")
	cmd.Flags().BoolVar(&sidecar, "sidecar", false, "make a program, not a script or a library: with python, js and go")
	words := []string{"c\tC, with make", "cpp\tC++17, with make", "go\tGo, in four forms", "rust\tRust, with cargo", "python\tPython, a script", "js\tJavaScript, a script"}
	err := cmd.RegisterFlagCompletionFunc("lang", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag is there
	}
	return cmd
}

// newPlugin looks at what was asked for. Its errors are for whoever typed it.
func newPlugin(lang, name, dir string, wasm, sidecar bool) (*plugin, error) {
	l := languages[lang]
	switch {
	case lang == "":
		return nil, usage("no language", languageWords, "Add --lang c, --lang cpp, --lang go or --lang rust; or --lang python, or js, for a plug-in that is a script")
	case l == nil:
		return nil, usage(fmt.Sprintf("the language %q", lang), languageWords, "")
	case sidecar && sidecars[lang] == nil:
		return nil, usage("--sidecar with --lang "+lang, "it with python, js or go", "Leave it out; a sidecar in another language docs/sidecars.md shows")
	case wasm && sidecar:
		return nil, usage("--wasm and --sidecar", "one of them", "")
	case sidecar:
		l = sidecars[lang]
	}
	if wasm && l.Script != "" {
		return nil, usage("--wasm with --lang "+lang, "it with c, cpp, go or rust", "Leave it out: a script is for all systems by itself")
	}
	if dir == "" {
		return nil, usage("an empty path", "the path of a folder", "For this folder it is a dot")
	}
	whole, err := abspath.Of(dir)
	if err != nil {
		return nil, failure(err)
	}
	given := name != ""
	if !given {
		name = filepath.Base(whole)
	}
	if err := l.valid(name); err != nil {
		remedy := "Choose another with --name"
		if better := mended(name); !given && l.valid(better) == nil {
			remedy += ", such as --name " + better
		}
		if bad := new(wrong); errors.As(err, &bad) {
			return nil, usage(bad.found, bad.expected, remedy)
		}
		return nil, failure(err)
	}
	switch entries, err := os.ReadDir(dir); {
	case err == nil && len(entries) > 0:
		return nil, usage(fmt.Sprintf("%q in %s", entries[0].Name(), place(dir)), "an empty folder, or one to be made",
			"Name another folder")
	case err == nil || errors.Is(err, fs.ErrNotExist):
	default:
		if info, statErr := os.Stat(dir); statErr == nil && !info.IsDir() {
			return nil, usage("a file at "+dir, "an empty folder, or one to be made", "Name another folder")
		}
		return nil, unmade(dir, err)
	}

	p := &plugin{language: l, Name: name, Lang: lang, Dir: dir, Source: name + "." + lang, Wasm: wasm, Sidecar: sidecar}
	file := name
	if lang == "rust" {
		file = strings.ReplaceAll(name, "-", "_")
		if p.SDK, err = sdkVersion(); err != nil {
			return nil, err
		}
	}
	if lang == "go" {
		p.SDK, p.Package = sdkGoVersion, packageName(name)
		p.Source = p.Package + ".go"
	}
	p.Libraries = map[string]string{
		"linux":   path.Join(l.built, l.prefix+file+".so"),
		"darwin":  path.Join(l.built, l.prefix+file+".dylib"),
		"windows": path.Join(l.built, file+".dll"),
	}
	if sidecar {
		p.Libraries = map[string]string{"linux": file, "darwin": file, "windows": file + ".exe"}
	}
	p.Module = name + ".wasm"
	if lang == "rust" {
		p.Module = path.Join("target/wasm32-unknown-unknown/release", file+".wasm")
	}
	p.Library = cmp.Or(p.Libraries[runtime.GOOS], p.Libraries["linux"])
	build, flag := l.build, ""
	switch {
	case wasm:
		p.Library, flag = p.Module, "--wasm "
		build += l.wasm
	case sidecar:
		flag = "--sidecar "
		build += l.sidecar
	}
	if l.Script != "" {
		p.Library = name + l.Script
		p.Libraries, p.Module = nil, ""
	}
	isolated := l.isolated
	if wasm {
		isolated = ""
	}
	commands := func(dir string) []string {
		library := path.Join(dir, p.Library)
		if strings.HasPrefix(library, "-") {
			library = "./" + library
		}
		switch {
		case sidecar && l.Script == "":
			return []string{fmt.Sprintf(build, shellWord(dir)), "ferrule call --sidecar " + shellWord(l.startable(library)) + " greet --in Ada"}
		case sidecar:
			return []string{"ferrule call --sidecar " + shellWord(l.startable(library)) + " greet --in Ada"}
		case l.Script != "":
			return []string{"ferrule call " + shellWord(library) + " greet --in Ada"}
		}
		return []string{fmt.Sprintf(build, shellWord(dir)), "ferrule call " + isolated + shellWord(library) + " greet --in Ada"}
	}
	p.Commands = append([]string{"ferrule new --lang " + lang + " " + flag + name}, commands(name)...)
	slashed := filepath.ToSlash(dir)
	check := "ferrule check " + shellWord(path.Join(slashed, p.Library))
	if sidecar {
		check = "ferrule check --sidecar " + shellWord(l.startable(path.Join(slashed, p.Library)))
	}
	p.Next = append(commands(slashed), check)
	return p, nil
}

// startable is the path of a script as a path, and no name in PATH.
func (l *language) startable(script string) string {
	if !strings.Contains(script, "/") || strings.HasPrefix(script, "-") {
		script = "./" + script
	}
	return script
}

// unmade is the error for a folder that cannot be made, read or written to.
func unmade(dir string, err error) error {
	at := new(fs.PathError)
	if !errors.As(err, &at) {
		return failure(err) // of what is in this program
	}
	remedy := "Name another folder"
	switch {
	case errors.Is(err, fs.ErrPermission):
		remedy += ", or change the permissions of this one"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		remedy += ", or make room where this one is"
	}
	return usage(fmt.Sprintf("the folder %s, where this cannot be done: %v", dir, err), "an empty folder, or one to be made", remedy)
}

// place is a folder in a sentence.
func place(dir string) string {
	if filepath.Clean(dir) == "." {
		return "this folder"
	}
	return dir
}

// print tells people what there is and how to go on.
func (p *plugin) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "Made %s, a plug-in in %s, in %s. Go on with\n\n    %s\n",
		p.Name, p.Language, place(p.Dir), strings.Join(p.Next, "\n    "))
	return err
}

// releases is what a README says of releases, of each plug-in whose workflow is that of the folder release.
const releases = "RELEASES.md"

// write writes the plug-in's files, and lists them in p.Files.
func (p *plugin) write() error {
	shared, err := templates.ReadFile("templates/" + releases)
	if err != nil {
		return err
	}
	for _, folder := range p.folders {
		folder = path.Join("templates", folder)
		err := eachFile(templates, folder, func(name string, text []byte) error {
			t := template.New(name).Option("missingkey=error")
			if path.Ext(name) == ".yml" { // GitHub has {{ of its own
				t.Delims("[[", "]]")
			}
			if _, err := t.Parse(string(text)); err != nil {
				return err
			}
			if path.Ext(name) == ".md" {
				if _, err := t.New(releases).Parse(string(shared)); err != nil {
					return err
				}
			}
			var b bytes.Buffer
			if err := t.Execute(&b, p); err != nil {
				return err
			}
			name = strings.ReplaceAll(strings.ReplaceAll(name, "NAME", p.Name), "PACKAGE", p.Package)
			if rest, ok := strings.CutPrefix(name, "github/"); ok { // what begins with a dot is not embedded
				name = ".github/" + rest
			}
			switch name {
			case "gitignore":
				name = ".gitignore"
			}
			name = strings.TrimSuffix(name, ".in") // cargo reads each Cargo.toml of a repository that a plug-in depends on, and Go what it takes for its own
			if p.Lang == "go" && name == p.Source {
				made, err := gen.Source("example.com/"+p.Package, b.Bytes())
				if err != nil {
					return err
				}
				for _, name := range slices.Sorted(maps.Keys(made)) {
					if err := p.put(name, made[name]); err != nil {
						return err
					}
				}
			}
			return p.put(name, b.Bytes())
		})
		if err != nil {
			return err
		}
	}
	license, err := templates.ReadFile("templates/LICENSE")
	if err != nil {
		return err
	}
	for i, c := range p.copies {
		if i == 0 {
			if err := p.put(path.Join(strings.Split(c.to, "/")[0], "LICENSE"), license); err != nil {
				return err
			}
		}
		err := eachFile(c.files, c.from, func(name string, text []byte) error {
			if p.Lang == "go" && (strings.HasSuffix(name, "_test.go") || name == "embed.go") {
				return nil // tests, and what this command has the SDK from
			}
			return p.put(path.Join(c.to, name), text)
		})
		if err != nil {
			return err
		}
	}
	if p.Lang == "rust" {
		lock, err := lockFile(p.Name)
		if err != nil {
			return err
		}
		if err := p.put("Cargo.lock", lock); err != nil {
			return err
		}
	}
	slices.Sort(p.Files)
	return nil
}

// put writes one file. It never writes over one: the folder was empty.
func (p *plugin) put(name string, text []byte) error {
	to := filepath.Join(p.Dir, filepath.FromSlash(name))
	if err := p.mkdir(filepath.Dir(to)); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if bytes.HasPrefix(text, []byte("#!")) && p.Sidecar {
		err = errors.Join(err, f.Chmod(0o755))
	}
	p.Files = append(p.Files, name)
	return errors.Join(err, f.Close())
}

// mkdir makes a folder, and those above it that are missing.
func (p *plugin) mkdir(dir string) error {
	err := os.Mkdir(dir, 0o777)
	if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
		if err := p.mkdir(above); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o777)
	}
	if err == nil {
		p.made = append(p.made, dir)
		return nil
	}
	if at, failed := os.Stat(dir); failed == nil && at.IsDir() {
		return nil
	}
	return err
}

// unmake removes what there is of a plug-in that could not be made, and nothing else: a folder that somebody has put something into by now stays.
func (p *plugin) unmake() {
	for _, name := range p.Files {
		_ = os.Remove(filepath.Join(p.Dir, filepath.FromSlash(name)))
	}
	for _, dir := range slices.Backward(p.made) {
		_ = os.Remove(dir)
	}
}

// eachFile calls do for every file in a folder of files, with its path within the folder.
func eachFile(files fs.FS, folder string, do func(name string, text []byte) error) error {
	folders, err := fs.Sub(files, folder)
	if err != nil {
		return err
	}
	return fs.WalkDir(folders, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(folders, name)
		if err != nil {
			return err
		}
		return do(name, text)
	})
}

// validName holds a name to rule R1 of the contract.
func validName(name string) error {
	if !regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`).MatchString(name) || strings.Trim(name, ".") == "" {
		return &wrong{fmt.Sprintf("the name %q", name), "letters, digits, '_', '-' and '.', 128 of them at most, not dots alone", ""}
	}
	if strings.HasPrefix(name, "-") {
		return &wrong{fmt.Sprintf("the name %q, which compilers would take for a flag", name), "a letter, a digit or '_' first", ""}
	}
	return nil
}

// validCrate holds a name to what cargo takes as well.
func validCrate(name string) error {
	if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}$`).MatchString(name) {
		return &wrong{fmt.Sprintf("the name %q", name), "a letter or '_', and then letters, digits, '_' and '-', 64 of them " +
			"at most: it is the package's, too", ""}
	}
	lock, err := lockedPackages()
	if err != nil {
		return err
	}
	taken := []string{"core", "std", "alloc", "proc_macro", "test", "ferrule"} // the last one is the SDK in code
	for _, p := range lock {
		taken = append(taken, strings.ReplaceAll(p.name, "-", "_"))
	}
	if slices.Contains(taken, strings.ReplaceAll(name, "-", "_")) {
		return &wrong{fmt.Sprintf("the name %q, which is a crate that the plug-in is built with", name), "another", ""}
	}
	return nil
}

// sdkGoVersion is the version of the SDK in Go that a new plug-in requires.
const sdkGoVersion = "v0.1.0"

// validGo holds a name to what Go builds as well.
func validGo(name string) error {
	if err := validName(name); err != nil {
		return err
	}
	if bad := gen.NameFault(name); bad != "" {
		return &wrong{fmt.Sprintf("the name %q, %s", name, bad), "a letter or a digit first, and then letters, digits, '_', '-' and '.'", ""}
	}
	return nil
}

// packageName makes the name of a Go package of a plug-in's, which is that of its module and of its first file, too.
func packageName(name string) string {
	name = regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(name), "")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "p" + name
	}
	taken := []string{"main", "init", "test", "documentation", "vendor", "internal"} // which mean something to Go
	if token.IsKeyword(name) || types.Universe.Lookup(name) != nil || slices.Contains(taken, name) || regexp.MustCompile(`^v\d+$`).MatchString(name) {
		name += "plugin"
	}
	return name
}

// mended makes a valid name of most that are not.
func mended(name string) string {
	name = regexp.MustCompile(`[^A-Za-z0-9_-]+`).ReplaceAllString(name, "-")
	name = strings.Trim(name, "-")
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		name = "plugin-" + name
	}
	return name
}

// sdkPackage is the package of the Rust SDK; in code it is the crate ferrule.
const sdkPackage = "ferrule-plugin"

// lockedPackage is one package of a Cargo.lock.
type lockedPackage struct{ name, text string }

// lockedPackages are the packages that a plug-in without features is built from: those of the SDK's own lock file, so
// that they are the newest ones that the oldest compiler takes.
func lockedPackages() ([]lockedPackage, error) {
	lock, err := sdkrust.Files.ReadFile("Cargo.lock")
	if err != nil {
		return nil, err
	}
	// Of the two packages of the SDK, without what only their features and tests need.
	needs := map[string][]string{sdkPackage: {sdkPackage + "-macros"}, sdkPackage + "-macros": {"proc-macro2", "quote", "syn"}}
	all := map[string]lockedPackage{}
	_, text, _ := strings.Cut(string(lock), "\n[[package]]\n")
	for block := range strings.SplitSeq(text, "\n[[package]]\n") {
		name := submatch(`(?m)^name = "(.*)"$`, block)
		if own, ok := needs[name]; ok {
			version := submatch(`(?m)^version = "(.*)"$`, block)
			block = lockText(name, version, own...)
		} else {
			for _, line := range strings.Split(submatch(`(?s)\ndependencies = \[\n(.*?)\]`, block), "\n") {
				if need := strings.Trim(line, ` ",`); need != "" {
					needs[name] = append(needs[name], need)
				}
			}
		}
		all[name] = lockedPackage{name, strings.TrimRight(block, "\n") + "\n"}
	}
	var found []lockedPackage
	for next, seen := []string{sdkPackage}, map[string]bool{}; len(next) > 0; next = next[1:] {
		name := next[0]
		if seen[name] {
			continue
		}
		seen[name] = true
		p, ok := all[name]
		if !ok {
			return nil, fmt.Errorf("the SDK's Cargo.lock has no package %s", name)
		}
		found, next = append(found, p), append(next, needs[name]...)
	}
	return found, nil
}

// lockFile returns the Cargo.lock of a plug-in with this name, as cargo would write it.
func lockFile(name string) ([]byte, error) {
	packages, err := lockedPackages()
	if err != nil {
		return nil, err
	}
	packages = append(packages, lockedPackage{name, lockText(name, "0.1.0", sdkPackage)})
	slices.SortFunc(packages, func(a, b lockedPackage) int { return strings.Compare(a.name, b.name) })
	var b bytes.Buffer
	b.WriteString("# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\n")
	b.WriteString("version = 3\n") // of the file: cargo 1.63 knows no later one
	for _, p := range packages {
		b.WriteString("\n[[package]]\n" + p.text)
	}
	return b.Bytes(), nil
}

// lockText is the text of a package that does not come from a registry.
func lockText(name, version string, needs ...string) string {
	return fmt.Sprintf("name = %q\nversion = %q\ndependencies = [\n \"%s\",\n]\n", name, version, strings.Join(needs, "\",\n \""))
}

// sdkVersion returns the version of the Rust SDK.
func sdkVersion() (string, error) {
	text, err := sdkrust.Files.ReadFile("ferrule/Cargo.toml")
	return submatch(`(?m)^version = "(.*)"$`, string(text)), err
}

func submatch(pattern, text string) string {
	if found := regexp.MustCompile(pattern).FindStringSubmatch(text); found != nil {
		return found[1]
	}
	return ""
}

// shellWord quotes a word for a shell, where it has to be.
func shellWord(word string) string {
	if regexp.MustCompile(`^[A-Za-z0-9_./:+,@%=-]+$`).MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// libraryExt is how the names of libraries end on this system, libraryPrefix how cargo begins them.
func libraryExt() string {
	switch runtime.GOOS {
	case "windows":
		return ".dll"
	case "darwin":
		return ".dylib"
	}
	return ".so"
}

func libraryPrefix() string {
	if runtime.GOOS == "windows" {
		return ""
	}
	return "lib"
}
