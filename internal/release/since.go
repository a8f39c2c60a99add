package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// apidiff is the Go project's own program that compares what packages export.
const apidiff = "golang.org/x/exp/cmd/apidiff@v0.0.0-20261014143641-f0251eb4aa3e"

// semverChecks is the version of cargo-semver-checks that is known to do.
const semverChecks = "0.51.0"

// since compares what programs see of this tree with an earlier state of it.
type since struct {
	root string    // of the checkout, as it is, committed or not
	base string    // the revision to compare with; without it the last release's tag
	log  io.Writer // what it finds
}

func (s *since) say(format string, args ...any) { fmt.Fprintf(s.log, format+"\n", args...) }

// earlier puts the files of the base into a folder. It says so and returns false where no base is given and nothing was released.
func (s *since) earlier(to string) (there bool, err error) {
	if s.root, err = filepath.Abs(s.root); err != nil {
		return false, err
	}
	base := s.base
	if base == "" {
		if base, err = lastTag(s.root); err != nil {
			return false, err
		}
	}
	if base == "" {
		s.say("there is no tag to compare with, so nothing is promised yet: BASE=rev compares with a commit")
		return false, nil
	}
	commit, err := revision(s.root, base)
	if err != nil {
		return false, fmt.Errorf("found no revision %s, expected a tag or a commit: a shallow clone gets more by git fetch --unshallow --tags", base)
	}
	s.base = base
	s.say("compared with %s", base)
	if _, err := output("", nil, "git", "clone", "--quiet", "--shared", "--no-checkout", s.root, to); err != nil {
		return false, err
	}
	_, err = output(to, nil, "git", "checkout", "--quiet", "--detach", commit)
	return true, err
}

// revision is the commit that has a name.
func revision(root, name string) (commit string, err error) {
	out, err := output(root, nil, "git", "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
	return strings.TrimSpace(out), err
}

// lastTag is the tag of the newest release that the checkout's commit has behind it; none before the first one. A checkout that is as its own tag has it would be compared with
// itself: its tag is no release before it.
func lastTag(root string) (tag string, err error) {
	changed, err := output(root, nil, "git", "status", "--porcelain")
	if err != nil {
		return "", err
	}
	args := []string{"tag", "--list", "v*", "--merged", "HEAD"}
	if changed == "" {
		args = append(args, "--no-contains", "HEAD")
	}
	out, err := output(root, nil, "git", args...)
	if err != nil {
		return "", err
	}
	for name := range strings.Lines(out) {
		name = strings.TrimSpace(name)
		if semver.IsValid(name) && semver.Prerelease(name) == "" && (tag == "" || semver.Compare(name, tag) > 0) {
			tag = name
		}
	}
	return tag, nil
}

// compare has a comparison work in a folder of its own, in which the base's tree is; it is not asked where there is nothing to compare with.
func (s *since) compare(ctx context.Context, comparison func(ctx context.Context, work, old string) error) error {
	work, err := os.MkdirTemp("", "ferrule-since-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	old := filepath.Join(work, "base")
	if there, err := s.earlier(old); err != nil || !there {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return comparison(ctx, work, old)
}

// goNames compares the public names of the published modules. It fails where one is gone, or is another one.
func (s *since) goNames(ctx context.Context, work, old string) error {
	if _, err := output(work, append(os.Environ(), "GOBIN="+work, "GOWORK=off", "GOFLAGS=", "GOOS=", "GOARCH="), "go", "install", apidiff); err != nil {
		return err
	}
	program := filepath.Join(work, "apidiff"+exe(runtime.GOOS))
	trees := []struct{ root, exported string }{{old, filepath.Join(work, "old")}, {s.root, filepath.Join(work, "new")}}
	for _, tree := range trees {
		if err := ctx.Err(); err != nil {
			return err
		}
		file, path, err := workspace(tree.root, tree.exported+".work")
		if err != nil {
			return err
		}
		// Without the folder in it, what was built for one tree is there for the other one.
		if _, err := output(tree.root, append(os.Environ(), "GOWORK="+file, "GOFLAGS=-trimpath"), program, "-m", "-w", tree.exported, path); err != nil {
			return err
		}
	}
	report, err := output(work, nil, program, "-m", trees[0].exported, trees[1].exported)
	if err != nil {
		return err
	}
	broken, err := s.told(report, old)
	if err != nil {
		return err
	}
	freed, err := freed(old, s.root)
	if err != nil {
		return err
	}
	if len(freed) > 0 {
		s.say("incompatible, promised before and not now:\n  %s", strings.Join(freed, "\n  "))
	}
	if broken += len(freed); broken > 0 {
		if may, err := s.mayBreak(); may || err != nil {
			return err
		}
		return fmt.Errorf("found %d incompatible changes, expected none: what a release has exported stays (docs/promises.md). Mark the old name as deprecated, and add another one", broken)
	}
	return nil
}

// mayBreak is whether the version that the tree has may break what the base has exported, and says so: it is a later one by its first number, or, while that is 0, by its second.
func (s *since) mayBreak() (bool, error) {
	_, version, err := published(s.root)
	if err != nil || !semver.IsValid(s.base) || semver.Compare(version, s.base) <= 0 {
		return false, err
	}
	if semver.Major(version) == semver.Major(s.base) && (semver.Major(version) != "v0" || semver.MajorMinor(version) == semver.MajorMinor(s.base)) {
		return false, nil
	}
	s.say("%s may break what %s has exported: CHANGELOG.md says how to follow", version, s.base)
	return true, nil
}

// workspace writes a go.work with the modules of a tree that have packages for others, and returns its path and that of the module around all of them.
func workspace(root, to string) (file, path string, err error) {
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return "", "", err
	}
	modules, _, err := published(root)
	if err != nil {
		return "", "", err
	}
	text2, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		return "", "", err
	}
	has, err := modfile.ParseWork("go.work", text2, nil)
	if err != nil {
		return "", "", err
	}
	var lines strings.Builder
	if has.Go != nil {
		fmt.Fprintf(&lines, "go %s\n", has.Go.Version)
	}
	used := map[string]string{}
	for _, m := range modules {
		if !program(m) {
			used[m.path] = filepath.Join(root, filepath.FromSlash(m.folder))
			fmt.Fprintf(&lines, "use %s\n", modfile.AutoQuote(used[m.path]))
		}
	}
	for _, r := range has.Replace {
		if folder, ok := used[r.Old.Path]; ok {
			fmt.Fprintf(&lines, "replace %s %s => %s\n", r.Old.Path, r.Old.Version, modfile.AutoQuote(folder))
		}
	}
	if err := os.MkdirAll(to, 0o777); err != nil {
		return "", "", err
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.work.sum"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", err
	}
	file = filepath.Join(to, "go.work")
	return file, modfile.ModulePath(text), errors.Join(os.WriteFile(file, []byte(lines.String()), 0o666), os.WriteFile(file+".sum", sums, 0o666))
}

// told says what apidiff reports, in three parts, and returns how many changes break a promise of the base: programs and experimental packages have made none.
func (s *since) told(report, base string) (broken int, err error) {
	var incompatible, free, compatible []string
	to := &incompatible
	for line := range strings.Lines(report) {
		line = strings.TrimRight(line, "\r\n")
		switch message, ok := strings.CutPrefix(line, "- "); {
		case line == "Incompatible changes:":
			to = &incompatible
		case line == "Compatible changes:":
			to = &compatible
		case !ok:
			return 0, fmt.Errorf("found the line %q in apidiff's report, expected a change", line)
		case to == &compatible:
			compatible = append(compatible, message)
		default:
			promised, err := promised(base, message)
			if err != nil {
				return 0, err
			}
			if promised {
				incompatible = append(incompatible, message)
			} else {
				free = append(free, message)
			}
		}
	}
	for _, part := range []struct {
		name string
		of   []string
	}{{"compatible", compatible}, {"incompatible, in packages that may change (experimental ones, programs)", free}, {"incompatible", incompatible}} {
		if len(part.of) > 0 {
			s.say("%s:\n  %s", part.name, strings.Join(part.of, "\n  "))
		}
	}
	if len(compatible)+len(free)+len(incompatible) == 0 {
		s.say("no public name was added, removed or changed")
	}
	return len(incompatible), nil
}

// promised is whether the package that a change is of had promised to stay, in the tree of the base.
func promised(base, message string) (bool, error) {
	folder := base
	if name, ok := strings.CutPrefix(message, "./"); ok { // ./loader/wasm.Engine: removed
		slash := strings.LastIndex(name[:strings.IndexAny(name+":", ":")], "/")
		dot := strings.IndexByte(name[slash+1:], '.')
		if dot < 0 {
			return true, nil
		}
		folder = filepath.Join(base, filepath.FromSlash(name[:slash+1+dot]))
	} else if name, ok := strings.CutPrefix(message, "package "); ok { // package example.com/m/loader/wasm: removed
		text, err := os.ReadFile(filepath.Join(base, "go.mod"))
		if err != nil {
			return false, err
		}
		name, _, _ = strings.Cut(name, ": ")
		folder = filepath.Join(base, filepath.FromSlash(strings.TrimPrefix(name, modfile.ModulePath(text))))
	}
	says, err := promise(folder)
	return says != free, err
}

// What a folder says of the names that it exports.
const (
	none  = iota // it has no package
	stays        // what it exports stays
	free         // it is experimental, or a program
)

func promise(folder string) (says int, err error) {
	sources, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return none, err
	}
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return none, err
		}
		if file.Name.Name == "main" || file.Doc != nil && strings.Contains(strings.Join(strings.Fields(file.Doc.Text()), " "), "It is experimental: ") {
			return free, nil
		}
		says = stays
	}
	return says, nil
}

// freed are the packages of the published modules that had promised to stay, and do not any more: whatever they export now, the next release could change it.
func freed(base, root string) (folders []string, err error) {
	modules, _, err := published(base)
	if err != nil {
		return nil, err
	}
	for _, m := range modules {
		if program(m) {
			continue
		}
		from := filepath.Join(base, filepath.FromSlash(m.folder))
		err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return err
			}
			name := entry.Name()
			if _, err := os.Stat(filepath.Join(path, "go.mod")); path != from && (err == nil || name == "internal" || name == "testdata" || name[0] == '.' || name[0] == '_') {
				return filepath.SkipDir // another module, or nothing that others import
			}
			before, err := promise(path)
			if err != nil || before != stays {
				return err
			}
			folder, err := filepath.Rel(base, path)
			if err != nil {
				return err
			}
			if now, err := promise(filepath.Join(root, folder)); err != nil || now != free {
				return err // what is gone apidiff has told
			}
			folders = append(folders, "./"+filepath.ToSlash(folder)+": declared experimental, or a program")
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return folders, nil
}

// program is whether a module has programs alone, which nobody imports.
func program(m goModule) bool { return m.folder == "cmd" || strings.HasPrefix(m.folder, "cmd/") }

// crate compares what the Rust SDK's crate for authors exports. The one of the macros exports nothing that cargo-semver-checks knows how to compare.
func (s *since) crate(_ context.Context, _, old string) error {
	said, err := output(s.root, nil, "cargo", "semver-checks", "--version")
	if err != nil {
		return fmt.Errorf("found no cargo-semver-checks, expected it beside cargo: cargo install cargo-semver-checks --locked --version %s, which takes some minutes (%w)", semverChecks, err)
	}
	s.say("%s", strings.TrimSpace(said))
	// What a minor version may do may be done, whatever the crate's version says until the release.
	said, err = together(filepath.Join(s.root, "sdk-rust"), "cargo", "semver-checks", "--color", "never", "--package", "ferrule-plugin", "--baseline-root", filepath.Join(old, "sdk-rust"), "--release-type", "minor")
	s.say("%s", strings.TrimRight(said, "\n"))
	if err != nil {
		if may, err := s.mayBreak(); may || err != nil {
			return err
		}
		return fmt.Errorf("the crate ferrule-plugin: %w: what a release has exported stays (docs/promises.md). Mark the old name as deprecated, and add another one", err)
	}
	return nil
}

// ---- What plug-ins say of themselves ------------------------------------------------------------------------------------

// exhibits compiles the sources of the museum's newest exhibits with the headers and the crates of a tree, and compares what comes of it with what is kept: by
// ferrule inspect --diff of a command. It fails where a host that knows the old one could break.
func (r *rehearsal) exhibits(ctx context.Context, tree, command string, kinds ...string) error {
	entries, err := os.ReadDir(filepath.Join(tree, "abi", "museum"))
	if err != nil {
		return err
	}
	work, err := empty(filepath.Join(r.work, "exhibits"))
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		if err := ctx.Err(); err != nil {
			return err
		}
		newest := ""
		for _, e := range entries {
			if version, ok := strings.CutPrefix(e.Name(), kind+"-"); ok && semver.IsValid("v"+version) && (newest == "" || semver.Compare("v"+version, "v"+newest) > 0) {
				newest = version
			}
		}
		if newest == "" {
			return fmt.Errorf("found no exhibit %s-VERSION in abi/museum, expected one", kind)
		}
		name := kind + "-" + newest
		kept := filepath.Join(tree, host{}.of(name))
		if strings.HasSuffix(kind, "-wasm") {
			kept = filepath.Join(tree, "abi", "museum", name, "any.wasm")
		}
		if _, err := os.Stat(kept); errors.Is(err, os.ErrNotExist) && !strings.HasSuffix(kind, "-wasm") {
			r.say("%s: not compared, since the museum has none for %s/%s", name, runtime.GOOS, runtime.GOARCH)
			continue
		}
		built := filepath.Join(work, name+filepath.Ext(kept))
		if err := exhibitKinds[kind].compile(tree, name, built); err != nil {
			return fmt.Errorf("the exhibit %s, compiled with this tree: %w", name, err)
		}
		changes, err := diff(command, kept, built)
		if err != nil {
			return err
		}
		var broken []string
		for _, c := range changes {
			if c.Breaking && (filepath.Ext(kept) == ".wasm" || !slices.Contains(compilers, c.What)) {
				broken = append(broken, strings.TrimSpace(fmt.Sprintf("%s %s %s: %s", c.What, c.Name, c.Change, c.Why)))
			}
		}
		if len(broken) > 0 {
			return fmt.Errorf("ferrule inspect --diff %s %s says BREAKING: %s. Expected the same plug-in of the same source: what the headers and the crates wrote for it they write on", kept, built, strings.Join(broken, "; "))
		}
		r.say("ferrule inspect --diff of %s as it is kept, and compiled with this tree: nothing that breaks a host", name)
	}
	return nil
}

// compilers are the facts of a library that come from the compiler and the C library of this machine, and not from the headers.
var compilers = []string{"cLibrary", "minGlibc", "minOS", "needed", "staticTLS"}

// need is what is wrong where a program is not there: no release is made without the comparison.
func need(program, install string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("found no %s, expected it in PATH: %s", program, install)
	}
	return nil
}

// compared are the kinds of exhibits that a release is compared with.
var compared = []string{"c", "rust", "c-wasm", "rust-wasm"}

const clang = "apt-get install clang lld wasi-libc libclang-rt-dev-wasm32"

// exhibitKinds are how an exhibit's source is compiled to a file, and what that needs of this machine, by how exhibits are called.
var exhibitKinds = map[string]struct {
	needs   func() error
	compile func(tree, name, to string) error
}{
	"c": {
		func() error { return need("cc", "apt-get install gcc") },
		func(tree, name, to string) error {
			_, err := output(tree, nil, "cc", "-shared", "-fPIC", "-std=c99", "-O2", "-fvisibility=hidden", "-Iinclude", "-Isdk-c/include", "-o", to, "abi/museum/"+name+"/plugin.c")
			return err
		},
	},
	"c-wasm": {
		func() error {
			if err := errors.Join(need("clang", clang), need("wasm-ld", clang)); err != nil {
				return err
			}
			if _, err := os.Stat("/usr/include/wasm32-wasi/stdlib.h"); err != nil {
				return errors.New("found no C library of WASI, expected it in /usr/include/wasm32-wasi: " + clang)
			}
			return nil
		},
		func(tree, name, to string) error {
			_, err := output(tree, nil, "clang", "--target=wasm32-wasi", "-mexec-model=reactor", "-mbulk-memory", "-std=c99", "-O2", "-fvisibility=hidden", "-Wl,--export-dynamic", "-Iinclude", "-Isdk-c/include",
				"-o", to, "abi/museum/"+name+"/plugin.c")
			return err
		},
	},
	"rust": {
		func() error { return need("cargo", "apt-get install cargo, or see https://rustup.rs") },
		func(tree, name, to string) error { return inRust(tree, name, to, "") },
	},
	"rust-wasm": {
		func() error {
			if err := need("rustc", "apt-get install rustc, or see https://rustup.rs"); err != nil {
				return err
			}
			libraries, err := output("", nil, "rustc", "--print", "target-libdir", "--target", rustWasm)
			if err != nil {
				return err
			}
			if _, err := os.Stat(strings.TrimSpace(libraries)); err != nil {
				return errors.New("found no standard library of Rust for " + rustWasm + ", expected it in " + strings.TrimSpace(libraries) + ": rustup target add " + rustWasm)
			}
			return nil
		},
		func(tree, name, to string) error { return inRust(tree, name, to, rustWasm) },
	},
}

const rustWasm = "wasm32-unknown-unknown"

func inRust(tree, name, to, triple string) error {
	// In a copy: its lock has the crates' version of its day, and cargo writes the one of today there. All else in it stays.
	work := filepath.Join(filepath.Dir(to), name)
	source, target := filepath.Join(work, "abi", "museum", name), filepath.Join(filepath.Dir(to), "target")
	if err := os.CopyFS(source, os.DirFS(filepath.Join(tree, "abi", "museum", name))); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(tree, "sdk-rust"), filepath.Join(work, "sdk-rust")); err != nil {
		return err
	}
	args, made := []string{"build", "--quiet", "--target-dir", target}, map[string]string{"windows": "museum.dll", "darwin": "libmuseum.dylib"}[runtime.GOOS]
	if made == "" {
		made = "libmuseum.so"
	}
	made = filepath.Join(target, "debug", made)
	if triple != "" {
		args, made = append(args, "--target", triple), filepath.Join(target, triple, "debug", "museum.wasm")
	}
	if _, err := output(source, nil, "cargo", args...); err != nil {
		return err
	}
	return os.Rename(made, to)
}

// change is one of what ferrule inspect --diff --json lists.
type change struct {
	What, Name, Change, Why string
	Breaking                bool
}

// diff returns what a command says of two plug-ins.
func diff(command, old, new string) ([]change, error) {
	said, failed := output("", nil, command, "inspect", "--json", "--diff", old, new)
	var found struct {
		Old, New struct{ SHA256 string }
		Breaking bool
		Changes  []change
	}
	if err := json.Unmarshal([]byte(said), &found); err != nil || found.Old.SHA256 == "" || found.New.SHA256 == "" {
		return nil, errors.Join(failed, err)
	}
	// It fails where there is a change that breaks a host, and nowhere else.
	if (failed != nil) != found.Breaking {
		return nil, fmt.Errorf("found the answer %s from ferrule inspect --diff, expected it to fail for what is breaking alone: %w", said, failed)
	}
	return found.Changes, nil
}
