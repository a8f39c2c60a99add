// Command release rehearses a release of this tree: all that is published is made in a folder, without a server, and used there as others will.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	r := &rehearsal{log: os.Stdout}
	var only string
	flag.StringVar(&r.root, "root", ".", "`folder` of the checkout")
	flag.StringVar(&r.out, "out", filepath.Join("build", "release"), "`folder` in which all is made")
	flag.StringVar(&r.version, "version", "", "`version` to rehearse; without it that of go.work, with -rehearsal behind it")
	flag.StringVar(&only, "platforms", strings.Join(platforms, " "), "`platforms` of the command, separated by spaces")
	flag.StringVar(&r.key, "key", "", "`file` of a minisign key, whose password is in FERRULE_SIGN_PASSWORD; without it a new one is made, and thrown away")
	var base string
	flag.StringVar(&base, "base", "", "`revision` with which apidiff and semver-checks compare; without it the last release's tag")
	flag.Parse()
	r.platforms = strings.Fields(only)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := r.run
	switch s := (&since{r.root, base, r.log}); flag.Arg(0) {
	case "":
	case "apidiff":
		run = func(ctx context.Context) error { return s.compare(ctx, s.goNames) }
	case "semver-checks":
		run = func(ctx context.Context) error { return s.compare(ctx, s.crate) }
	default:
		run = func(context.Context) error {
			return fmt.Errorf("found %q, expected apidiff, semver-checks, or nothing for the rehearsal of a release", flag.Arg(0))
		}
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func (r *rehearsal) run(ctx context.Context) (err error) {
	for _, p := range r.platforms {
		if !slices.Contains(platforms, p) {
			return fmt.Errorf("found the platform %s, expected one of %s", p, strings.Join(platforms, ", "))
		}
	}
	if r.root, err = filepath.Abs(r.root); err != nil {
		return err
	}
	if r.out, err = filepath.Abs(r.out); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "ferrule-release-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	if err := os.MkdirAll(r.out, 0o777); err != nil {
		return err
	}
	tree, when, err := r.tag()
	if err != nil {
		return err
	}
	folder, err := empty(filepath.Join(r.out, "proxy"))
	if err != nil {
		return err
	}
	p, err := publish(tree, folder, r.version, when)
	if err != nil {
		return err
	}
	found, err := r.modules(ctx, p, tree)
	if err != nil {
		return err
	}
	if err := r.exhibits(ctx, tree, filepath.Join(r.work, "user", "bin", "ferrule"+exe(runtime.GOOS)), "c", "rust", "c-wasm", "rust-wasm"); err != nil {
		return err
	}
	page, err := os.ReadFile(filepath.Join(r.root, "docs", "releases.md"))
	if err != nil {
		return err
	}
	if wrong := found.compare(string(page)); len(wrong) > 0 {
		return errors.New("docs/releases.md: " + strings.Join(wrong, "; "))
	}
	dist := filepath.Join(r.out, "dist")
	if err := r.archives(ctx, p, tree, "dist", when, false); err != nil {
		return err
	}
	if err := r.archives(ctx, p, tree, "again", when, true); err != nil {
		return err
	}
	if err := same(dist, filepath.Join(r.out, "again")); err != nil {
		return err
	}
	r.say("built twice, in other folders and with nothing that was built before: the same bytes")
	if err := r.headers(tree, dist, when); err != nil {
		return err
	}
	if err := r.moved(dist); err != nil {
		return err
	}
	if err := sums(dist); err != nil {
		return err
	}
	return r.sign(dist)
}

// tag makes a clone of the checkout's commit in which each published module has the version's tag, in the order in which
// they are to be pushed, and returns it with the commit's time. What is not committed is not released.
func (r *rehearsal) tag() (tree string, when time.Time, err error) {
	modules, version, err := published(r.root)
	if err != nil {
		return "", when, err
	}
	if r.version == "" {
		r.version = version + "-rehearsal"
	}
	if r.version != version && !strings.HasPrefix(r.version, version+"-") {
		return "", when, fmt.Errorf("found the version %s, and go.work replaces %s: have go.work and the go.mod files say it first, as CONTRIBUTING.md has it under A release", r.version, version)
	}
	changed, err := output(r.root, nil, "git", "status", "--porcelain")
	if err != nil {
		return "", when, err
	}
	if changed != "" {
		r.say("what is released is the last commit; these differ:\n%s", strings.TrimRight(changed, "\n"))
	}
	if tree, err = empty(filepath.Join(r.work, "tree")); err != nil {
		return "", when, err
	}
	git := func(args ...string) (string, error) { return output(tree, nil, "git", args...) }
	if _, err := output("", nil, "git", "clone", "--quiet", "--shared", "--no-checkout", r.root, tree); err != nil {
		return "", when, err
	}
	commit, err := output(r.root, nil, "git", "rev-parse", "HEAD")
	if err != nil {
		return "", when, err
	}
	if _, err := git("checkout", "--quiet", "--detach", strings.TrimSpace(commit)); err != nil {
		return "", when, err
	}
	stamp, err := git("log", "-1", "--format=%cI")
	if err != nil {
		return "", when, err
	}
	if when, err = time.Parse(time.RFC3339, strings.TrimSpace(stamp)); err != nil {
		return "", when, err
	}
	if r.version != version {
		// As a release of its own would have it: what is tagged requires what is tagged with it.
		for _, m := range modules {
			text, err := at(m.file, r.version)
			if err != nil {
				return "", when, err
			}
			if err := os.WriteFile(filepath.Join(tree, filepath.FromSlash(m.folder), "go.mod"), text, 0o666); err != nil {
				return "", when, err
			}
		}
		if _, err := git("-c", "user.name=rehearsal", "-c", "user.email=", "commit", "--quiet", "--all", "--message", r.version); err != nil {
			return "", when, err
		}
	}
	var tags strings.Builder
	for _, m := range modules {
		tag := m.tag(r.version)
		if _, err := git("tag", tag); err != nil {
			return "", when, err
		}
		fmt.Fprintln(&tags, tag)
		r.say("tagged %s", tag)
	}
	return tree, when, os.WriteFile(filepath.Join(r.out, "TAGS"), []byte(tags.String()), 0o666)
}
