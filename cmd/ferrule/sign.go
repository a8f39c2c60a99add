package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/ctxio"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

func init() { verbs = append(verbs, keygenVerb, signVerb, verifyVerb) }

// signatureExt is how the name of a signature's file ends, behind the whole name of the file that it is for.
const signatureExt = ".minisig"

// passwordVariable is where a password may be in the environment.
const passwordVariable = "FERRULE_SIGN_PASSWORD"

// passwordHelp says where a password comes from.
const passwordHelp = `The password comes from the file of --password-file (its first line), from the
variable FERRULE_SIGN_PASSWORD, or from the terminal, which does not show it.`

// passwords is where a private key's password comes from.
type passwords struct {
	*app
	file string // --password-file
}

func (p *passwords) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.file, "password-file", "", "the `FILE` whose first line is the key's password")
}

// get returns the password; with again a terminal is asked for it twice, since nothing else would show a slip.
func (p *passwords) get(ctx context.Context, again bool) (string, error) {
	if p.file != "" {
		f, err := os.Open(p.file) // it may be a pipe
		if err != nil {
			return "", unreadable("--password-file", err)
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, 4<<10))
		if err != nil {
			return "", unreadable("--password-file", err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		if line = strings.TrimSuffix(line, "\r"); line == "" {
			return "", usage("no password in "+p.file, "one in its first line", "")
		}
		return line, nil
	}
	if password := os.Getenv(passwordVariable); password != "" {
		return password, nil
	}
	if !terminal(p.in) {
		remedy := "Set " + passwordVariable + ", or name a file with --password-file"
		if again {
			remedy += "; or have a key that needs none, by --no-password"
		}
		return "", usage("no terminal to ask for the password", "a password", remedy)
	}
	password, err := p.ask(ctx, "Password: ")
	if err != nil || !again {
		return password, err
	}
	if password == "" {
		return "", usage("an empty password", "one that nobody guesses", "A key that needs none is made by --no-password")
	}
	second, err := p.ask(ctx, "The same again: ")
	if err == nil && second != password {
		err = usage("two different passwords", "the same one twice", "Nothing was written: do it again")
	}
	return password, err
}

// ask asks on the terminal, which shows what it has shown before when the answer is there, or the context has ended.
func (p *passwords) ask(ctx context.Context, prompt string) (string, error) {
	fd := int(p.in.(*os.File).Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", failure(err)
	}
	fmt.Fprint(p.err, prompt)
	defer fmt.Fprintln(p.err)
	var password []byte
	done := make(chan error, 1)
	go func() {
		typed, err := term.ReadPassword(fd)
		password = typed
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = term.Restore(fd, state)
		err = ctx.Err()
	}
	if err != nil {
		return "", failure(err)
	}
	return string(password), nil
}

func keygenVerb(a *app) *cobra.Command {
	p, force, none := &passwords{app: a}, false, false
	cmd := &cobra.Command{
		Use:   "keygen KEY",
		Short: "Make a pair of keys that sign and verify plug-ins",
		Long: `Make a private key in the file KEY, which only its owner can read, and its public key in KEY.pub. They are keys of minisign,
which reads them, too.

The private key signs: keep it, and a copy at a safe place. The public key is for all who install what it has signed: they
write its line, which begins with RW, to registry.keys of their config.yaml.

The private key is encrypted with a password. ` + passwordHelp + `
With --no-password it is not encrypted, and whoever has the file can sign.

Exit codes:
  0    the keys were made
  1    they could not be made
  2    the command line is wrong, or there is a file of that name already
  130  interrupted; nothing was written

With --json: key and public, the paths of the two files, id, text, which is the public key's line, and encrypted.`,
		Example: `  ferrule keygen shop.key
  FERRULE_SIGN_PASSWORD=$SECRET ferrule keygen shop.key
  ferrule keygen --no-password --json test.key | jq -r .text`,
		Args: arguments("KEY"),
		RunE: func(_ *cobra.Command, args []string) error {
			if none && p.file != "" {
				return usage("--no-password and --password-file", "one of the two", "")
			}
			return p.keygen(args[0], force, none)
		},
	}
	p.add(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "write over keys that are there: nothing can be signed with those any more")
	cmd.Flags().BoolVar(&none, "no-password", false, "do not encrypt the private key")
	return cmd
}

// madeKeys is what keygen prints. Its JSON is documented in the command's help and grows only.
type madeKeys struct {
	Key       string `json:"key"`
	Public    string `json:"public"`
	ID        string `json:"id"`
	Text      string `json:"text"`
	Encrypted bool   `json:"encrypted"`
}

// keygen makes keys, and says which.
func (p *passwords) keygen(path string, force, none bool) error {
	if path == "" {
		return usage("an empty path", "the file that the private key is to be in", "")
	}
	made := &madeKeys{Key: path, Public: path + ".pub", Encrypted: !none}
	for _, file := range []string{made.Key, made.Public} {
		if _, err := os.Lstat(file); err == nil && !force {
			return usage("a file at "+file, "a name that is free", "Choose another name; with --force it is written over, and a key that was there is lost")
		}
	}
	ctx, stop := interruptible(0)
	defer stop()
	key, err := sign.Generate()
	if err != nil {
		return failure(err)
	}
	text := key.Text()
	if !none {
		password, err := p.get(ctx, true)
		if err != nil {
			return err
		}
		if text, err = key.Encrypt(password); err != nil {
			return failure(err)
		}
	}
	if err := ctx.Err(); err != nil {
		return failure(err)
	}
	made.ID, made.Text = key.ID(), key.Public().String()
	if err := putFile(made.Key, text, 0o600, force); err != nil {
		return failure(err)
	}
	if err := putFile(made.Public, key.Public().Text(), 0o644, force); err != nil {
		return failure(err)
	}
	return p.print(made, func(w io.Writer) error {
		fmt.Fprintf(w, "Made the private key %s and the public key %s, with the id %s. Whoever installs what it has signed writes to config.yaml\n\n", path, made.Public, made.ID)
		_, err := fmt.Fprintf(w, "    registry: {keys: [%s]}\n\n", made.Text)
		if none {
			fmt.Fprintf(w, "The private key is not encrypted: whoever reads %s can sign.\n", path)
		}
		return err
	})
}

// putFile writes a file whole, or leaves it as it is. Without replace it is an error when there is one.
func putFile(path string, text []byte, mode fs.FileMode, replace bool) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return err
	}
	defer func() {
		_ = os.Remove(temp.Name())
	}()
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if !replace { // where nothing is of that name by now
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return os.Rename(temp.Name(), path)
}

// subject is what a signature is to say of a file: from the flags, and from the file where it is a plug-in.
type subject struct{ name, version, platform string }

// subjectHelp says where it comes from.
const subjectHelp = `Name, version and platform are those of the library itself, or in the header of a script, which is inspected, and not run. What is neither, such as a
sidecar, needs --name, --version and --platform (any, where it runs on all); a library for several architectures needs
--platform.`

func (s *subject) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.name, "name", "", "the plug-in's `NAME`, of what is no library")
	cmd.Flags().StringVar(&s.version, "version", "", "the plug-in's `VERSION`, of what is no library")
	cmd.Flags().StringVar(&s.platform, "platform", "", "what it is for, of what is no library: `OS/ARCH` as in linux/amd64, or any")
	completePlatforms(cmd, false, registry.AnyPlatform)
}

// of is the subject for a file. An option that says something else than the library itself is an error: nobody could install it.
func (s *subject) of(path string, f *os.File, size int64) (sign.Subject, error) {
	given := sign.Subject{Name: s.name, Version: s.version, Platform: s.platform}
	lib, err := inspect.DescribeReader(f, size)
	if err != nil || lib.NotPlugin != nil || lib.Extism { // which has neither a name nor a version of its own
		for _, flag := range []struct{ name, value string }{{"--name", s.name}, {"--version", s.version}, {"--platform", s.platform}} {
			if flag.value == "" {
				what := "no library of a plug-in"
				if lib != nil && lib.Extism {
					what = "a plug-in of Extism's, which says nothing of itself"
				}
				remedy := "See ferrule inspect " + shellWord(path)
				if open := (*loader.OpenError)(nil); errors.As(err, &open) && strings.Contains(open.Remedy, "sidecar.Program()") { // a program, which inspect does not run
					remedy = "Where it is a sidecar, ferrule call --sidecar " + shellWord(path) + " says its name and version"
				}
				return given, usage(path+", which is "+what+", without "+flag.name, "--name, --version and --platform", remedy)
			}
		}
		return given, nil
	}
	platforms := install.Platforms(lib)
	if engines.IsScript(lib) {
		platforms = []string{registry.AnyPlatform}
	}
	known := lib.OS != "" || engines.IsPortable(lib)
	own := sign.Subject{Name: lib.Manifest.Name, Version: lib.Manifest.Version}
	if len(platforms) == 1 && known {
		own.Platform = platforms[0]
	}
	for _, flag := range []struct {
		name, given string
		own         *string
		may         []string
	}{{"--name", s.name, &own.Name, []string{own.Name}}, {"--version", s.version, &own.Version, []string{own.Version}}, {"--platform", s.platform, &own.Platform, platforms}} {
		switch {
		case flag.given == "" && *flag.own == "":
			return own, usage(path+" for "+cmp.Or(strings.Join(platforms, ", "), "an unknown platform"), "one platform", "Say which by "+flag.name)
		case flag.given != "" && !slices.Contains(flag.may, flag.given) && (flag.name != "--platform" || known):
			return own, usage(flag.name+" "+flag.given, strings.Join(flag.may, " or ")+", as "+path+" says itself", "Leave it out, or build the library anew")
		case flag.given != "":
			*flag.own = flag.given
		}
	}
	return own, nil
}

// openFile opens a file to be signed or verified.
func openFile(path string) (f *os.File, size int64, err error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() { // to open it might wait
		return nil, 0, usage(path+", which is no regular file", "a plug-in's file", "")
	}
	if err == nil {
		f, err = os.Open(path)
	}
	if err == nil {
		info, err = f.Stat() // the path may be another file's by now
	}
	if err != nil {
		return nil, 0, engine.OpenError(path, 0, err, "", "")
	}
	return f, info.Size(), nil
}

// signedFile is what sign and verify print for each file. Its JSON is documented in the commands' help and grows only.
type signedFile struct {
	File      string        `json:"file"`
	Error     *errorDetails `json:"error,omitempty"`
	Signature string        `json:"signature,omitempty"`
	Name      string        `json:"name,omitempty"`
	Version   string        `json:"version,omitempty"`
	Platform  string        `json:"platform,omitempty"`
	Key       string        `json:"key,omitempty"`
}

// signedHelp documents it.
const signedHelp = `With --json there is one object for each file, one after the other: file, signature (the path of its file), name, version,
platform and key (its id); or file and error.`

// each does something for each file, open and with its subject, says what came of it, and fails when it could not be done for one.
func (a *app) each(paths []string, subject *subject, done string, do func(f *os.File, of sign.Subject, s *signedFile) error) error {
	bad, code := 0, exitOK
	for _, path := range paths {
		s, err := subject.each(path, do)
		if err != nil {
			err = failure(err)
			if len(paths) == 1 || errors.Is(err, context.Canceled) {
				return err
			}
			s = &signedFile{File: path, Error: detailsOf(err)}
			bad++
			of := exitFailed
			if e := new(exit); errors.As(err, &e) {
				of = e.code
			}
			code = cmp.Or(code, of)
			fmt.Fprintf(a.err, "ferrule: %s: %s\n", escape.Line(path), escape.Line(strings.TrimPrefix(err.Error(), path+": ")))
			if !a.json {
				continue
			}
		}
		if err := a.print(s, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s: %s %s for %s, %s by key %s\n", escape.Line(path), s.Name, s.Version, s.Platform, done, s.Key)
			return err
		}); err != nil {
			return err
		}
	}
	if bad > 0 {
		return &exit{code, fmt.Errorf("not %s: %d of %s", done, bad, plural(len(paths), "file")), true}
	}
	return nil
}

// each does something for one file.
func (s *subject) each(path string, do func(f *os.File, of sign.Subject, s *signedFile) error) (*signedFile, error) {
	f, size, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	of, err := s.of(path, f, size)
	if err != nil {
		return nil, err
	}
	done := &signedFile{File: path, Signature: path + signatureExt, Name: of.Name, Version: of.Version, Platform: of.Platform}
	return done, do(f, of, done)
}

func signVerb(a *app) *cobra.Command {
	p, s, key := &passwords{app: a}, &subject{}, ""
	cmd := &cobra.Command{
		Use:   "sign --key KEY FILE...",
		Short: "Sign the files of plug-ins",
		Long: `Sign the files of plug-ins with the private key in the file KEY, as ferrule keygen or minisign -G has made it. The signature of
FILE is written to FILE.minisig; one that is there is replaced. It says for which plug-in, version and platform the file is,
and is good for nothing else. minisign -V verifies it, too.

` + subjectHelp + `

Where the key is encrypted, it needs its password. ` + passwordHelp + `

Exit codes:
  0    all files are signed
  1    a file could not be signed, such as with another password than the key's
  2    the command line is wrong, or says something else than a library
  3    a file cannot be read
  130  interrupted

` + signedHelp,
		Example: `  ferrule sign --key shop.key loyalty.so
  ferrule sign --key shop.key --password-file secret dist/*.so dist/*.dll dist/*.dylib dist/*.wasm
  ferrule sign --key shop.key --name greet --version 1.4.0 --platform any greet.js`,
		Args:              arguments("FILE..."),
		ValidArgsFunction: libraries,
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, stop := interruptible(0)
			defer stop()
			private, err := p.private(ctx, key)
			if err != nil {
				return err
			}
			return a.each(args, s, "signed", func(f *os.File, of sign.Subject, done *signedFile) error {
				text, err := sign.Sign(private, of, ctxio.Reader(ctx, f))
				if err != nil {
					return err
				}
				done.Key = private.ID()
				return putFile(done.Signature, text, 0o644, true)
			})
		},
	}
	p.add(cmd)
	s.add(cmd)
	cmd.Flags().StringVar(&key, "key", "", "the `FILE` with the private key")
	return cmd
}

// keyFile reads the file of a key that a flag names, and no more of it than shows that it is none.
func keyFile(flag, path string) ([]byte, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, unreadable(flag, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, sign.MaxKey+1))
	if err != nil {
		return nil, unreadable(flag, err)
	}
	return text, nil
}

// private reads the private key.
func (p *passwords) private(ctx context.Context, path string) (k sign.PrivateKey, err error) {
	if path == "" {
		return k, usage("no --key", "--key KEY", "Name the file of the private key, or make one by ferrule keygen")
	}
	text, err := keyFile("--key", path)
	if err != nil {
		return k, err
	}
	password := ""
	if sign.Encrypted(text) {
		if password, err = p.get(ctx, false); err != nil {
			return k, err
		}
	}
	if k, err = sign.ParsePrivateKey(text, password); errors.Is(err, registry.ErrKeyText) {
		return k, unreadable("--key", err)
	}
	return k, failure(err)
}

func verifyVerb(a *app) *cobra.Command {
	s, keys := &subject{}, []string(nil)
	d := &distributed{configured: configured{app: a}}
	cmd := &cobra.Command{
		Use:   "verify [--key PUBLIC FILE...]",
		Short: "Verify the signatures of plug-ins' files, or all that is installed",
		Long: `Verify that files are as they were signed, by one of the keys, and for the plug-in, version and platform that they are of. The
signature of FILE is in FILE.minisig. PUBLIC is a public key: its line, which begins with RW, or the file that it is in.

` + subjectHelp + `

Without FILE it verifies all that ferrule.lock, beside a config.yaml, names for this platform: its file is in the store, whole, is this plug-in in
this version, and is signed by a key that counts by config.yaml. Where no key is set, the digest in the lock is all that counts, which is a
warning. Nothing is asked of any server, and nothing changes: 'ferrule install' fetches again what is missing or damaged.

Exit codes:
  0    all signatures are good
  1    a signature is not, or there is none; a file in the store is missing or damaged
  2    the command line is wrong, or says something else than a library; nothing is installed
  3    a file cannot be read, or config.yaml or ferrule.lock is not valid
  130  interrupted

` + signedHelp + ` Without FILE there is one object:
  lock                      the path of ferrule.lock
  plugins                   that are as they should be, each with name, version, path (of its file), digest, source, key (the id of who signed
                            it) and new (false), as install has them
  failed                    each with ` + refusalHelp + `
  warnings                  texts`,
		Example: `  ferrule verify --key shop.key.pub loyalty.so
  ferrule verify --key RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3 --key other.pub plugins/*.so
  ferrule verify --key shop.key.pub --name greet --version 1.4.0 --platform any greet.js
  ferrule verify --config /etc/shop/config.yaml`,
		Args:              arguments("[FILE...]"),
		ValidArgsFunction: libraries,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := verifiedBy(cmd, len(args) > 0); err != nil {
				return err
			}
			if len(args) == 0 {
				return d.verify()
			}
			trust, err := trustIn("--key", keys)
			if err != nil {
				return err
			}
			ctx, stop := interruptible(0)
			defer stop()
			return a.each(args, s, "signed", func(f *os.File, of sign.Subject, done *signedFile) error {
				text, err := signatureOf(done.File)
				if err != nil {
					return err
				}
				done.Key, err = trust.Verify(ctx, of, f, text)
				if e := new(registry.Error); errors.As(err, &e) && e.Kind == registry.ErrKey {
					e.Remedy = "If that is its author's key: ask its author for the public one, and give it by --key" // there is no config.yaml here
				}
				return err
			})
		},
	}
	s.add(cmd)
	cmd.Flags().StringArrayVar(&keys, "key", nil, "a public key, or the `FILE` that it is in; once for each")
	return d.add(cmd)
}

// verifiedBy holds the options to what is verified: files by the keys that are given, or what is installed by those of config.yaml.
func verifiedBy(cmd *cobra.Command, files bool) error {
	ofFiles, ofLock := []string{"key", "name", "version", "platform"}, []string{"config", "store", "app"}
	others, with := ofFiles, "a FILE with it, or neither: what is installed is verified by the keys of config.yaml"
	if files {
		others, with = ofLock, "it without FILE, where what is installed is verified"
	}
	for _, name := range others {
		if cmd.Flags().Changed(name) {
			found := "--" + name + " and no FILE"
			if files {
				found = "--" + name + " and a FILE"
			}
			return usage(found, with, "")
		}
	}
	return nil
}

// verify verifies what is installed.
func (d *distributed) verify() error {
	return d.working(func(w *work) error {
		if err := w.locked(); err != nil {
			return err
		}
		r, err := w.Verify(w.ctx)
		if err != nil {
			return fromSource(err)
		}
		made := installationOf(w.Installer, r)
		if err := d.print(made, made.writeVerified); err != nil {
			return err
		}
		d.warnings(made.Warnings)
		return d.refused(r.Failed)
	})
}

// writeVerified says what was verified.
func (i *installation) writeVerified(w io.Writer) error {
	if len(i.Plugins) > 0 {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(table, "NAME\tVERSION\tSIGNED BY\tFILE\n")
		for _, p := range i.Plugins {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", escape.Line(p.Name), column(p.Version), column(cmp.Or(p.Key, "-")), escape.Line(p.Path))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s as %s says, %d not\n", plural(len(i.Plugins), "plug-in"), escape.Line(i.Lock), len(i.Failed))
	return err
}

// trustIn is a trust in the keys that a flag of the command line names.
func trustIn(flag string, keys []string) (*sign.Trust, error) {
	if len(keys) == 0 {
		return nil, usage("no "+flag, "the public key of whoever may have signed", "Add "+flag+" PUBLIC")
	}
	texts := slices.Clone(keys)
	for i, key := range keys {
		if _, err := sign.ParsePublicKey(key); err == nil {
			continue
		}
		text, err := keyFile(flag, key)
		if err != nil {
			return nil, err
		}
		texts[i] = string(text)
	}
	trust, err := sign.NewTrust(texts, nil, nil)
	if err != nil {
		return nil, unreadable(flag, err)
	}
	return trust, nil
}

// signatureOf reads the signature beside a file; it is empty where there is none.
func signatureOf(path string) ([]byte, error) {
	f, _, err := openFile(path + signatureExt)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, registry.MaxSignature+1))
	if len(bytes.TrimSpace(text)) == 0 {
		text = []byte("\n") // a file that is there is no signature that is missing
	}
	return text, err
}
