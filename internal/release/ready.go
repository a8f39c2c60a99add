package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"aead.dev/minisign"
)

// ready finds what keeps a release from being made, before anything is made: what is missing at the end must not be told after minutes. It reads the key,
// and takes its password out of the environment, since what is built and run from then on has no use for it.
func (r *rehearsal) ready() error {
	for _, p := range r.platforms {
		if !slices.Contains(platforms, p) {
			return fmt.Errorf("found the platform %s, expected one of %s", p, strings.Join(platforms, ", "))
		}
	}
	modules, version, err := published(r.root)
	if err != nil {
		return err
	}
	r.released = version
	if r.version == "" {
		r.version = version + "-rehearsal"
	}
	if r.version != version && !strings.HasPrefix(r.version, version+"-") {
		return fmt.Errorf("found the version %s, and go.work replaces %s: have go.work and the go.mod files say it first, as CONTRIBUTING.md has it under A release", r.version, version)
	}
	password := strings.TrimRight(os.Getenv("FERRULE_SIGN_PASSWORD"), "\r\n")
	if err := os.Unsetenv("FERRULE_SIGN_PASSWORD"); err != nil {
		return err
	}
	if r.key == "" {
		if r.version == version {
			return fmt.Errorf("found no KEY for %s, expected the file of the key that docs/releases.md names: make release VERSION=%s KEY=FILE. A rehearsal, which needs none, has a version such as %s-rehearsal", version, version, version)
		}
		if _, r.private, err = minisign.GenerateKey(rand.Reader); err != nil {
			return err
		}
	} else if r.private, err = keyOf(r.key, password); err != nil {
		return err
	}
	if r.version == version {
		if err := r.publishable(modules); err != nil {
			return err
		}
	}
	return r.programs()
}

// keyOf reads a private key.
func keyOf(path, password string) (key minisign.PrivateKey, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return key, fmt.Errorf("found no KEY: %w. Expected the file of a minisign key: ferrule keygen FILE makes one", err)
	}
	if minisign.IsEncrypted(text) {
		if key, err = minisign.DecryptKey(password, text); err != nil {
			return key, fmt.Errorf("KEY %s: %w: expected its password in FERRULE_SIGN_PASSWORD", path, err)
		}
		return key, nil
	}
	if err := key.UnmarshalText(text); err != nil {
		return key, fmt.Errorf("KEY %s: %w: expected the private half of a minisign key, as ferrule keygen FILE makes one", path, err)
	}
	return key, nil
}

// publishable finds what keeps this version from being published, which is no fault of a rehearsal.
func (r *rehearsal) publishable(modules []goModule) error {
	for _, p := range platforms {
		if !slices.Contains(r.platforms, p) {
			return fmt.Errorf("found the platforms %s alone, expected all for %s: a release has each. A rehearsal of some has a version such as %s-rehearsal", strings.Join(r.platforms, " "), r.version, r.version)
		}
	}
	page, err := os.ReadFile(filepath.Join(r.root, "docs", "releases.md"))
	if err != nil {
		return err
	}
	if public := r.private.Public().(minisign.PublicKey).String(); !strings.Contains(string(page), public) {
		return fmt.Errorf("found the KEY whose public half is %s, which docs/releases.md does not name, expected the key of the releases: who verifies %s takes it from that page", public, r.version)
	}
	changes, err := os.ReadFile(filepath.Join(r.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	if number := strings.TrimPrefix(r.version, "v"); !regexp.MustCompile(`(?m)^## \[` + regexp.QuoteMeta(number) + `\]`).Match(changes) {
		return fmt.Errorf("found no section ## [%s] in CHANGELOG.md, expected one that says what is new", number)
	}
	head, err := revision(r.root, "HEAD")
	if err != nil {
		return err
	}
	for _, m := range modules {
		tag := m.tag(r.version)
		if at, err := revision(r.root, "refs/tags/"+tag); err == nil && at != head {
			return fmt.Errorf("found the tag %s at the commit %.12s, and the checkout is at %.12s, expected one commit: check that one out, or release the next version. A tag that was pushed stays", tag, at, head)
		}
	}
	return nil
}

// programs finds what this machine lacks.
func (r *rehearsal) programs() error {
	missing := []error{need("git", "apt-get install git"), need("make", "apt-get install make")}
	for _, kind := range compared {
		missing = append(missing, exhibitKinds[kind].needs())
	}
	if os.Getenv("CI") != "" { // where nothing is left out
		for _, program := range []string{"pkg-config", "cmake"} {
			missing = append(missing, need(program, "apt-get install "+program))
		}
	}
	return errors.Join(missing...)
}

// end says in one line what was made, where, and what to do with it.
func (r *rehearsal) end(dist string) error {
	all, err := os.ReadDir(dist)
	if err != nil {
		return err
	}
	out := r.out
	if here, err := filepath.Rel(r.root, r.out); err == nil && filepath.IsLocal(here) {
		out = here
	}
	if r.version != r.released {
		r.say("release: rehearsed %s of the commit %.12s in %s: %d files in dist, %d tags in TAGS. Nothing of it is to be published. Next: CONTRIBUTING.md, under A release, has how to publish %s",
			r.version, r.commit, out, len(all), len(r.tags), r.released)
		return nil
	}
	r.say("release: made %s of the commit %.12s in %s. Next: tag this commit as %s has it, and push the %d tags in this order, from %s to %s; then upload the %d files of %s: make attach VERSION=%s",
		r.version, r.commit, out, filepath.Join(out, "TAGS"), len(r.tags), r.tags[0], r.tags[len(r.tags)-1], len(all), filepath.Join(out, "dist"), r.version)
	return nil
}
