// Command release makes a release of this tree, or rehearses one: all that is published is made in a folder, without a server, and used there as others will.
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
	"strings"
	"syscall"
	"time"
)

func main() {
	r := &rehearsal{log: os.Stdout}
	var only string
	flag.StringVar(&r.root, "root", ".", "`folder` of the checkout")
	flag.StringVar(&r.out, "out", filepath.Join("build", "release"), "`folder` in which all is made")
	flag.StringVar(&r.version, "version", "", "`version`: that of go.work for a release; with more behind it, such as -rehearsal, which it is without, for a rehearsal")
	flag.StringVar(&only, "platforms", strings.Join(platforms, " "), "`platforms` of the command, separated by spaces")
	flag.StringVar(&r.key, "key", "", "`file` of a minisign key, whose password is in FERRULE_SIGN_PASSWORD; a rehearsal without it makes one, and throws it away")
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
	if r.root, err = filepath.Abs(r.root); err != nil {
		return err
	}
	if r.out, err = filepath.Abs(r.out); err != nil {
		return err
	}
	if err := r.ready(); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "ferrule-release-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	if err := errors.Join(os.RemoveAll(filepath.Join(r.out, "dist")), os.MkdirAll(r.out, 0o777)); err != nil { // what a release before has left is none of this one
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
	if err := r.exhibits(ctx, tree, filepath.Join(r.work, "user", "bin", "ferrule"+exe(runtime.GOOS)), compared...); err != nil {
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
	if err := r.sign(dist); err != nil {
		return err
	}
	return r.end(dist)
}

// tag makes a clone of the checkout's commit in which each published module has the version's tag, in the order in which
// they are to be pushed, and returns it with the commit's time. What is not committed is not released.
func (r *rehearsal) tag() (tree string, when time.Time, err error) {
	modules, _, err := published(r.root)
	if err != nil {
		return "", when, err
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
	if _, err := output("", nil, "git", "clone", "--quiet", "--shared", "--no-checkout", "--no-tags", r.root, tree); err != nil {
		return "", when, err
	}
	if r.commit, err = revision(r.root, "HEAD"); err != nil {
		return "", when, err
	}
	if _, err := git("checkout", "--quiet", "--detach", r.commit); err != nil {
		return "", when, err
	}
	stamp, err := git("log", "-1", "--format=%cI")
	if err != nil {
		return "", when, err
	}
	if when, err = time.Parse(time.RFC3339, strings.TrimSpace(stamp)); err != nil {
		return "", when, err
	}
	if r.version != r.released {
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
	for _, m := range modules {
		tag := m.tag(r.version)
		if _, err := git("tag", tag); err != nil {
			return "", when, err
		}
		r.tags = append(r.tags, tag)
		r.say("tagged %s", tag)
	}
	return tree, when, os.WriteFile(filepath.Join(r.out, "TAGS"), []byte(strings.Join(r.tags, "\n")+"\n"), 0o666)
}
