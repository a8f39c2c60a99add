package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"aead.dev/minisign"
)

// sums writes SHA256SUMS of all files in a folder, as sha256sum does.
func sums(dir string) error {
	all, err := files(dir, "")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, f := range sorted(all) {
		fmt.Fprintf(&text, "%x  %s\n", sha256.Sum256(f.text), f.name)
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), text.Bytes(), 0o666)
}

// sign signs all files in a folder, and puts the key beside them, with which they are verified.
func (r *rehearsal) sign(dir string) error {
	private, err := r.private()
	if err != nil {
		return err
	}
	public := private.Public().(minisign.PublicKey)
	all, err := files(dir, "")
	if err != nil {
		return err
	}
	for _, f := range all {
		reader := minisign.NewReader(bytes.NewReader(f.text))
		if _, err := io.Copy(io.Discard, reader); err != nil {
			return err
		}
		// It says which file of which release that is: an older one cannot be handed out as this one.
		signature := reader.SignWithComments(private, "ferrule release "+r.version+" "+f.name, "signature from minisign secret key")
		if !minisign.Verify(public, f.text, signature) {
			return fmt.Errorf("%s: its signature does not verify", f.name)
		}
		if err := os.WriteFile(filepath.Join(dir, f.name+".minisig"), signature, 0o666); err != nil {
			return err
		}
	}
	text, err := public.MarshalText()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "ferrule.pub"), append(text, '\n'), 0o666)
}

// private is the key that signs.
func (r *rehearsal) private() (key minisign.PrivateKey, err error) {
	if r.key == "" {
		_, key, err = minisign.GenerateKey(rand.Reader)
		r.say("signed with a key that was made for this rehearsal, and that nobody keeps")
		return key, err
	}
	text, err := os.ReadFile(r.key)
	if err != nil {
		return key, err
	}
	if !minisign.IsEncrypted(text) {
		return key, key.UnmarshalText(text)
	}
	key, err = minisign.DecryptKey(strings.TrimRight(os.Getenv("FERRULE_SIGN_PASSWORD"), "\r\n"), text)
	if err != nil {
		err = fmt.Errorf("%s: %w: expected its password in FERRULE_SIGN_PASSWORD", r.key, err)
	}
	return key, err
}
