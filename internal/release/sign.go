package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
	what := "release"
	if r.version != r.released {
		what = "rehearsal"
	}
	if r.key == "" {
		r.say("signed with a key that was made for this rehearsal, and that nobody keeps")
	}
	public := r.private.Public().(minisign.PublicKey)
	all, err := files(dir, "")
	if err != nil {
		return err
	}
	for _, f := range all {
		reader := minisign.NewReader(bytes.NewReader(f.text))
		if _, err := io.Copy(io.Discard, reader); err != nil {
			return err
		}
		// It says which file of which release that is: an older one cannot be handed out as this one, nor a rehearsal as a release.
		signature := reader.SignWithComments(r.private, "ferrule "+what+" "+r.version+" "+f.name, "signature from minisign secret key")
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
