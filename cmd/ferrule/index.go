package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

func init() { verbs = append(verbs, indexVerb) }

func indexVerb(a *app) *cobra.Command {
	x := &indexer{passwords: passwords{app: a}}
	cmd := &cobra.Command{
		Use:   "index --key KEY --name REGISTRY PLACE [NAME]...",
		Short: "Publish the index of a registry: what there is, and what is revoked",
		Long: `Make the index of all plug-ins that are published in PLACE, sign it with the private key in the file KEY, and
publish it there: ferrule search looks into it, and nothing that it revokes is fetched any more. What is in a store
already still starts; ferrule list --outdated says of which plug-ins that is so. PLACE is a folder of releases, as
ferrule push makes it, or oci://HOST/PATH. A folder says by itself which plug-ins there are, and an OCI registry by
its catalogue; where it has none, or shows it to nobody, name them all.

The registry has a name, REGISTRY, such as registry.example/acme: the same in each of its indexes and in those of its mirrors, and another one than that of any other
registry of KEY. It is signed with the index, and those who know it, from the first index that they have seen or from registry.index of their config.yaml,
refuse the index of another registry in its place. So does this command, of the index that was there before.

What the index that was there before has revoked stays revoked, its serial number goes up by one, and it has to be signed by KEY, or by a key of
--old-key. Make a new index after each ferrule push, and from time to time when nothing has changed: one of more than 30 days is a warning to those who
use it, since somebody may hold back a newer one. Those who use it have the public key in registry.keys of their config.yaml.

` + passwordHelp + `
` + registryCodes + `
With --json: place, name, serial, date, key (its id), plugins and shards (their numbers), revoked (name and versions or digest, why), revoked_keys (id, why), left (plug-ins of the
catalogue that are not in the index, each with ` + refusalHelp + `) and cut (texts: what did not fit).`,
		Example: `  ferrule index --key registry.key --name acme dist
  ferrule index --key registry.key --name registry.example/acme oci://registry.example/acme
  ferrule index --key registry.key --name acme --revoke 'tax@<1.2.4=it loses orders' --revoke-key 3F7C0A5B12D4E698=stolen dist`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("no PLACE on the command line", "ferrule index --key KEY --name REGISTRY PLACE", "")
			}
			return arguments("PLACE", "[NAME]...")(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error { return x.run(args[0], args[1:]) },
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().StringVar(&x.key, "key", "", "the `FILE` of the private key that signs")
	x.add(cmd)
	cmd.Flags().StringVar(&x.name, "name", "", "the name of the `REGISTRY`: letters, digits, _, -, . and /")
	cmd.Flags().StringArrayVar(&x.revoke, "revoke", nil, "revoke versions of a plug-in, `NAME@VERSIONS=WHY`, or a file, sha256:DIGEST=WHY")
	cmd.Flags().StringArrayVar(&x.revokeKey, "revoke-key", nil, "revoke all that a key has signed: `ID=WHY`")
	cmd.Flags().StringArrayVar(&x.unrevoke, "unrevoke", nil, "revoke it no longer: `WHAT` is a NAME@VERSIONS, a digest or a key's id, as it was revoked")
	cmd.Flags().StringArrayVar(&x.oldKeys, "old-key", nil, "a `PUBLIC` key, or its file, that may have signed the index that is there")
	cmd.Flags().Uint64Var(&x.serial, "serial", 0, "the serial `NUMBER`, where the index before is lost: one that nobody has seen")
	return cmd
}

// indexer is one run of ferrule index.
type indexer struct {
	passwords
	key, name                            string
	revoke, revokeKey, unrevoke, oldKeys []string
	serial                               uint64
}

// indexed is a place with an index.
type indexed interface {
	registry.Source
	Index() index.Fetcher
	Names(ctx context.Context) ([]string, error)
	PushIndex(ctx context.Context, built *index.Built, signature []byte) error
}

// madeIndex is what index prints. Its JSON is documented in the command's help and grows only.
type madeIndex struct {
	Place       string             `json:"place"`
	Name        string             `json:"name"` // the registry's
	Serial      uint64             `json:"serial"`
	Date        time.Time          `json:"date"`
	Key         string             `json:"key"`
	Plugins     int                `json:"plugins"`
	Shards      int                `json:"shards"`
	Revoked     []index.Revocation `json:"revoked"`
	RevokedKeys []index.RevokedKey `json:"revoked_keys"`
	Left        []refusal          `json:"left,omitempty"`
	Cut         []string           `json:"cut,omitempty"`
}

func (x *indexer) run(where string, names []string) error {
	source, err := openPlace("PLACE", where)
	if err != nil {
		return err
	}
	place, ok := source.(indexed)
	if !ok {
		return usage(where+", which can have no index, or is only read", "a folder or oci://HOST/PATH", "Of a release page the index is made in the folder that is uploaded there")
	}
	if !registry.ValidIndex(x.name) {
		found := "no --name"
		if x.name != "" {
			found = fmt.Sprintf("--name %.140q", x.name)
		}
		return usage(found, "--name with "+registry.IndexRule, "Give the one that the indexes before had, or a new registry one of its own")
	}
	ctx, stop := interruptible(0)
	defer stop()
	private, err := x.private(ctx, x.key)
	if err != nil {
		return err
	}
	serial, revoked, keys, err := x.before(ctx, place, private)
	if err != nil {
		return err
	}
	if revoked, keys, err = x.revise(revoked, keys, private); err != nil {
		return err
	}
	named := len(names) > 0
	if !named {
		if names, err = place.Names(ctx); err != nil {
			return fromSource(err)
		}
		if len(names) == 0 {
			return fromSource(&registry.Error{Source: place.String(), Kind: registry.ErrNotFound, Found: "no plug-in", Expected: "one at least", Remedy: "Publish one: ferrule push"})
		}
	}
	entries, left, err := index.Gather(ctx, place, names)
	if err != nil {
		return fromSource(err)
	}
	if named && len(left) > 0 {
		return fromSource(left[slices.Min(slices.Collect(maps.Keys(left)))])
	}
	built, err := index.Build(x.name, serial, time.Now(), entries, revoked, keys)
	if err != nil {
		return fromSource(err)
	}
	signature, err := sign.SignComment(private, built.Comment, bytes.NewReader(built.Root))
	if err != nil {
		return failure(err)
	}
	if err := place.PushIndex(ctx, built, signature); err != nil {
		return fromSource(err)
	}
	made := &madeIndex{Place: place.String(), Name: built.Name, Serial: built.Serial, Date: built.Date, Key: private.ID(), Plugins: len(entries), Shards: len(built.Shards()),
		Revoked: append([]index.Revocation{}, revoked...), RevokedKeys: append([]index.RevokedKey{}, keys...), Left: refusals(left), Cut: built.Cut}
	if err := x.print(made, made.write); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		x.warn("%s is not in the index: %v", name, left[name])
	}
	for _, text := range built.Cut {
		x.warn("cut: %s", text)
	}
	for _, r := range revoked {
		if r.Name != "" && !slices.Contains(names, r.Name) {
			x.warn("%s is revoked, and no plug-in here has this name", r.Name)
		}
	}
	return nil
}

func (x *indexer) warn(format string, args ...any) {
	fmt.Fprintf(x.err, "ferrule: warning: %s\n", escape.Line(fmt.Sprintf(format, args...)))
}

func (m *madeIndex) write(w io.Writer) error {
	revoked := ""
	if n := len(m.Revoked) + len(m.RevokedKeys); n > 0 {
		revoked = fmt.Sprintf(", %d revoked", n)
	}
	_, err := fmt.Fprintf(w, "%s has index %d of %s: %s%s, signed by %s\n", escape.Line(m.Place), m.Serial, m.Name, plural(m.Plugins, "plug-in"), revoked, m.Key)
	return err
}

// before reads the index that is there: the serial after it, and what it has revoked. It has to be signed, and this registry's, or somebody who can write there could have taken a revocation away.
func (x *indexer) before(ctx context.Context, place indexed, private sign.PrivateKey) (serial uint64, revoked []index.Revocation, keys []index.RevokedKey, err error) {
	trust, err := trustIn("--old-key", append([]string{private.Public().String()}, x.oldKeys...))
	if err != nil {
		return 0, nil, nil, err
	}
	there, err := index.Open(ctx, place.Index(), index.Options{Verifier: trust, Name: x.name, MaxAge: -1})
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return max(x.serial, 1), nil, nil, nil
	case errors.Is(err, registry.ErrKey):
		return 0, nil, nil, usage(fmt.Sprintf("an index of another key: %v", err), "one that "+x.key+" has signed, or a key of --old-key", "If that is right, name its public key: --old-key PUBLIC")
	case errors.Is(err, registry.ErrIndex):
		about, _ := errors.AsType[*registry.Error](err)
		return 0, nil, nil, usage(about.Found+" in "+place.String(), about.Expected+", which --name says", "Is it the right PLACE, and the right name? If the registry is to have another name, delete the index there first; "+
			"those who have seen it refuse the new one until registry.index of their config.yaml has the new name")
	case err != nil:
		return 0, nil, nil, fromSource(err)
	}
	revoked, keys = there.Revocations()
	serial = there.Seen().Serial + 1
	if x.serial != 0 && x.serial < serial {
		return 0, nil, nil, usage(fmt.Sprintf("--serial %d", x.serial), fmt.Sprintf("%d or more, after the index that is there", serial), "")
	}
	return max(x.serial, serial), revoked, keys, nil
}

// revise does what the command line says to what is revoked.
func (x *indexer) revise(revoked []index.Revocation, keys []index.RevokedKey, private sign.PrivateKey) ([]index.Revocation, []index.RevokedKey, error) {
	for _, what := range x.unrevoke {
		n := len(revoked) + len(keys)
		revoked = slices.DeleteFunc(revoked, func(r index.Revocation) bool { return what == revokedText(r) })
		keys = slices.DeleteFunc(keys, func(k index.RevokedKey) bool { return what == k.ID })
		if n == len(revoked)+len(keys) {
			var there []string
			for _, r := range revoked {
				there = append(there, revokedText(r))
			}
			for _, k := range keys {
				there = append(there, k.ID)
			}
			return nil, nil, usage("--unrevoke "+what+", which is not revoked", "one of "+strings.Join(there, ", "), "")
		}
	}
	given := map[string]bool{} // what is revoked by this command line: its reason is one
	again := func(flag, text, what string) error {
		if given[what] {
			return usage(flag+" "+text+", and another for "+what+" before it", "one "+flag+" for each", "")
		}
		given[what] = true
		return nil
	}
	for _, text := range x.revoke {
		r, err := index.ParseRevocation(text)
		if err != nil {
			return nil, nil, unreadable("--revoke", err)
		}
		if err := again("--revoke", text, revokedText(r)); err != nil {
			return nil, nil, err
		}
		if at := slices.IndexFunc(revoked, func(o index.Revocation) bool { return revokedText(o) == revokedText(r) }); at >= 0 {
			revoked[at] = r
		} else {
			revoked = append(revoked, r)
		}
	}
	for _, text := range x.revokeKey {
		k, err := index.ParseRevokedKey(text)
		if err != nil {
			return nil, nil, unreadable("--revoke-key", err)
		}
		if err := again("--revoke-key", text, k.ID); err != nil {
			return nil, nil, err
		}
		if at := slices.IndexFunc(keys, func(o index.RevokedKey) bool { return o.ID == k.ID }); at >= 0 {
			keys[at] = k
		} else {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		if k.ID == private.ID() {
			return nil, nil, usage("the key "+k.ID+" revoked, which signs the index", "another key that signs", "Sign by a new key: --key NEW --old-key PUBLIC")
		}
	}
	return revoked, keys, nil
}

// revokedText is what is revoked, as --revoke has it.
func revokedText(r index.Revocation) string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Name + "@" + r.Versions
}
