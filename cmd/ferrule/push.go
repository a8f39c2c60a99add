package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/ctxio"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

func init() { verbs = append(verbs, pushVerb) }

func pushVerb(a *app) *cobra.Command {
	var to, key, tag string
	by := &verified{app: a}
	p := &passwords{app: a}
	cmd := &cobra.Command{
		Use:   "push --to PLACE FILE...",
		Short: "Publish a version of a plug-in",
		Long: `Publish a version of a plug-in: the files of one release, one for each platform. What each is, and for which platform, is read
from the file; nothing of it is run. Only a script that begins with #! and a program, a sidecar, say what they are when they run: the one for this
platform is started, and ended when it has said so. Its version is a semantic one of three numbers, such as 1.2.0 or 1.2.0-rc.1. A manifest that
asks for what no grant covers, such as permit.memory=64MiB in place of a number of bytes, is refused: nobody could install it. PLACE is

  - oci://HOST/PATH, an OCI registry: the plug-in tax goes to HOST/PATH/tax, under its version. There a name has no capital letters
  - a folder, which any web server can serve, and whose files are those of a release page: see docs/distribution.md
  - a file that ends with .zip, a bundle

With --key each file is signed on the way, which needs the key's password where it is encrypted. Without it the
signature is the file beside it with .minisig behind its name, where there is one (ferrule sign). It has to be for this
plug-in, version and platform, and no older than the file; with --verify-key, or the keys of a config.yaml, it is
verified instead of its age, and one has to be there. A file without a signature is published with a warning: who has
keys in config.yaml cannot install it. Push it to a folder or a bundle again with --key, which adds the signature; in an
OCI registry sign the next version.
` + passwordHelp + `

What was published before stays: the same release again is no error, and another one under the same version is refused. In a folder and in a bundle, platforms
and signatures that a release does not have yet are added to it; another signature than the one that is there is refused.
` + registryCodes + `
With --json: plugin, version, to, digest (of what was published as a whole, where the place has one), and files, each with platform, path, digest,
size, signed, and added (of a folder and a bundle, what is new there: "file", with its signature where it has one,
"signature" or "nothing").`,
		Example: `  ferrule push --to oci://registry.example/acme --key acme.key build/*.so build/*.dylib build/*.dll
  ferrule push --to dist --key acme.key --tag v1.2.0 tax.so`,
		Args:              arguments("FILE..."),
		ValidArgsFunction: libraries,
		RunE: func(_ *cobra.Command, paths []string) error {
			place, err := openPusher("--to", to)
			if err != nil {
				return err
			}
			trust, err := by.trust()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(0)
			defer stop()
			r, contents, err := releaseOf(ctx, paths, key == "", trust != nil)
			if err != nil {
				return err
			}
			r.Tag = tag
			if choosy, ok := place.(interface{ Takes(*registry.Release) error }); ok { // before a password is asked for
				if err := choosy.Takes(r); err != nil {
					return fromSource(err)
				}
			}
			if key != "" {
				if err := p.sign(ctx, key, r, contents); err != nil {
					return err
				}
			}
			if err := comparedSignatures(ctx, trust, r, contents); err != nil {
				return err
			}
			_, fixed := place.(*oci.Registry) // a version that is there gets nothing more
			var before map[string]bool
			if !fixed {
				before = signedIn(ctx, place, r)
			}
			if err := place.Push(ctx, r, contents); err != nil {
				return fromSource(err)
			}
			there, err := place.Release(ctx, r.Name, r.Version)
			if err != nil {
				return fromSource(err)
			}
			made := &pushed{Plugin: r.Name, Version: r.Version, To: place.String(), Digest: there.Digest}
			for _, platform := range slices.Sorted(maps.Keys(contents)) {
				f := there.Files[platform]
				signature, err := place.Signature(ctx, there, platform) // what whoever installs it will find
				if err != nil {
					return fromSource(err)
				}
				signed, added := len(signature) > 0, ""
				switch was, there := before[platform]; {
				case fixed:
				case !there:
					added = "file"
				case signed && !was:
					added = "signature"
				default:
					added = "nothing"
				}
				made.Files = append(made.Files, pushedFile{platform, contents[platform].Path, f.Digest, f.Size, signed, added})
			}
			a.warnings(made.unsigned(fixed))
			return a.print(made, made.write)
		},
	}
	by.add(cmd)
	cmd.Flags().StringVar(&to, "to", "", "the `PLACE` to publish in")
	cmd.Flags().StringVar(&key, "key", "", "the `FILE` of the private key that signs")
	p.add(cmd)
	cmd.Flags().StringVar(&tag, "tag", "", "the `TAG` of a release page, which is v and the version without it")
	return cmd
}

// pushed is what push prints. Its JSON is documented in the command's help and grows only.
type pushed struct {
	Plugin  string       `json:"plugin"`
	Version string       `json:"version"`
	To      string       `json:"to"`
	Digest  string       `json:"digest,omitempty"`
	Files   []pushedFile `json:"files"`
}

type pushedFile struct {
	Platform string `json:"platform"`
	Path     string `json:"path"`
	Digest   string `json:"digest"`
	Size     int64  `json:"size"`
	Signed   bool   `json:"signed"`
	Added    string `json:"added,omitempty"` // "file", "signature" or "nothing"; "" of an OCI registry
}

// signedIn says of each platform that a place has of a release whether it is signed there. Where that cannot be read,
// Push says why.
func signedIn(ctx context.Context, place registry.Source, r *registry.Release) map[string]bool {
	signed := map[string]bool{}
	there, err := place.Release(ctx, r.Name, r.Version)
	if err != nil {
		return signed
	}
	for platform := range there.Files {
		signature, err := place.Signature(ctx, there, platform)
		signed[platform] = err == nil && len(signature) > 0
	}
	return signed
}

func (p *pushed) write(w io.Writer) error {
	fmt.Fprintf(w, "%s %s is in %s\n", escape.Line(p.Plugin), escape.Line(p.Version), escape.Line(p.To))
	for _, f := range p.Files {
		more := map[string]string{"nothing": ", was there already", "signature": ", signature added"}[f.Added]
		if !f.Signed {
			more += ", not signed"
		}
		size := amountText(f.Size)
		if _, err := fmt.Fprintf(w, "  %-14s %s (%s%s)\n", f.Platform, escape.Line(f.Path), size, more); err != nil {
			return err
		}
	}
	return nil
}

// unsigned are the warnings about files without a signature; fixed says that the place takes none later.
func (p *pushed) unsigned(fixed bool) (texts []string) {
	remedy := "Push it again with --key KEY, which adds the signature"
	if fixed {
		remedy = "Sign the next version: push --key KEY, or ferrule sign before"
	}
	for _, f := range p.Files {
		if !f.Signed {
			texts = append(texts, fmt.Sprintf("%s %s for %s is NOT SIGNED, and is published so: nobody can install it who has keys in config.yaml. %s",
				p.Plugin, p.Version, f.Platform, remedy))
		}
	}
	return texts
}

// verified is by which keys push verifies signatures before it publishes them.
type verified struct {
	*app
	keys   []string // --verify-key
	config string   // --config
}

func (v *verified) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&v.keys, "verify-key", nil, "verify each signature by a `PUBLIC` key, or its file; once for each")
	cmd.Flags().StringVar(&v.config, "config", "", "verify each signature by the keys of this config.yaml: `FILE`")
}

// trust is in those keys; nil where none was given.
func (v *verified) trust() (*sign.Trust, error) {
	switch {
	case v.config != "" && len(v.keys) > 0:
		return nil, usage("--verify-key and --config", "one of them", "")
	case len(v.keys) > 0:
		return trustIn("--verify-key", v.keys)
	case v.config == "":
		return nil, nil
	}
	c, err := config.Load(v.config)
	if err != nil {
		return nil, (&configured{app: v.app, path: v.config}).wrong(err)
	}
	trust, err := sign.TrustOf(c)
	return trust, fromSource(err)
}

// comparedSignatures refuses what readers would: once published, the version is taken. Without a trust it can only be seen that a signature is another's, or made before the file.
func comparedSignatures(ctx context.Context, trust *sign.Trust, r *registry.Release, contents map[string]registry.Content) error {
	for _, platform := range slices.Sorted(maps.Keys(contents)) {
		c, subject := contents[platform], sign.Subject{Name: r.Name, Version: r.Version, Platform: platform}
		err := error(nil)
		switch {
		case trust != nil:
			_, err = verifySignature(ctx, trust, subject, c)
		case len(c.Signature) > 0:
			_, err = sign.Claims(subject, c.Signature)
		}
		if err != nil {
			return fromSource(fmt.Errorf("%s: %w", c.Path+signatureExt, err))
		}
	}
	return nil
}

// verifySignature verifies the signature of one file, and returns the digest of the bytes that it is of.
func verifySignature(ctx context.Context, trust *sign.Trust, s sign.Subject, c registry.Content) (digest string, err error) {
	f, _, err := openFile(c.Path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err = trust.Verify(ctx, s, io.TeeReader(f, h), c.Signature); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// releaseOf is the release whose files these are; with beside, with the signatures that lie beside them.
func releaseOf(ctx context.Context, paths []string, beside, verifies bool) (*registry.Release, map[string]registry.Content, error) {
	r, contents, err := install.Release(paths...)
	if err != nil && arePrograms(paths) {
		r, contents, err = programsOf(ctx, paths)
	}
	if err != nil {
		return nil, nil, fromSource(err)
	}
	for platform, c := range contents {
		if !beside {
			break
		}
		if c.Signature, err = signatureOf(c.Path); err != nil {
			return nil, nil, failure(err)
		}
		if len(c.Signature) > 0 && !verifies {
			if err := fresh(r, c.Path); err != nil {
				return nil, nil, fromSource(err)
			}
		}
		contents[platform] = c
	}
	return r, contents, nil
}

// arePrograms reports whether files are sidecars', all of them.
func arePrograms(paths []string) bool {
	return !slices.ContainsFunc(paths, func(path string) bool {
		kind, err := install.ProgramKind(path)
		return err != nil || kind == ""
	})
}

// programsOf is the release of a sidecar, which is asked what it is: the file of it that runs here.
func programsOf(ctx context.Context, paths []string) (*registry.Release, map[string]registry.Content, error) {
	_, contents, err := install.ReleaseOfPrograms(&abi.Description{Manifest: &abi.Manifest{}}, paths...)
	if err != nil {
		return nil, nil, err
	}
	here, ok := contents[registry.ThisPlatform()]
	if !ok {
		here, ok = contents[registry.AnyPlatform]
	}
	if !ok {
		return nil, nil, usage("programs for "+strings.Join(slices.Sorted(maps.Keys(contents)), ", "), "one for "+registry.ThisPlatform()+" among them: a program says what it is when it runs",
			"Add it, or push on one of these")
	}
	about, err := install.AskProgram(ctx, here.Path, "")
	if err != nil {
		return nil, nil, err
	}
	return install.ReleaseOfPrograms(about, paths...)
}

// fresh refuses a signature that was made before its file: it is most likely of other bytes.
func fresh(r *registry.Release, path string) error {
	file, err := os.Stat(path)
	if err != nil {
		return err
	}
	signature, err := os.Stat(path + signatureExt)
	if err != nil || !signature.ModTime().Before(file.ModTime()) {
		return err
	}
	return &registry.Error{Plugin: r.Name, Version: r.Version, Path: path + signatureExt, Kind: registry.ErrSignature, Found: "a signature that is older than its file",
		Expected: "one of the file as it is", Remedy: "Sign it again: ferrule sign. If it is the file's and was only copied before it, have it verified: --verify-key PUBLIC"}
}

// sign signs all files of a release.
func (p *passwords) sign(ctx context.Context, key string, r *registry.Release, contents map[string]registry.Content) error {
	private, err := p.private(ctx, key)
	if err != nil {
		return err
	}
	for platform, c := range contents {
		f, err := os.Open(c.Path)
		if err != nil {
			return failure(err)
		}
		c.Signature, err = sign.Sign(private, sign.Subject{Name: r.Name, Version: r.Version, Platform: platform}, ctxio.Reader(ctx, f))
		_ = f.Close() // it was read only
		if err != nil {
			return fromSource(err)
		}
		contents[platform] = c
	}
	return nil
}

// amountText is a number of bytes for people.
func amountText(n int64) string {
	const units = "KMGT"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1024, 0
	for ; f >= 1024 && unit < len(units)-1; unit++ {
		f /= 1024
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") + " " + units[unit:unit+1] + "iB"
}
