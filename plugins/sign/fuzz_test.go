package sign_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// Whatever the text of a signature is, it is refused as what it is, or it is the good one with another untrusted comment and other ends of lines.
func FuzzSignature(f *testing.F) {
	k := generate(f)
	good := signed(f, k, loyalty)
	tr, err := sign.NewTrust([]string{k.Public().String()}, nil, nil)
	require.NoError(f, err)
	for _, text := range [][]byte{good, good[:100], bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), nil, []byte("untrusted comment: \n\ntrusted comment: \n\n"), []byte("\n\n\n\n")} {
		f.Add(text)
	}
	signedLines := func(text []byte) string {
		_, rest, _ := strings.Cut(strings.TrimSuffix(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n"), "\n")
		return rest
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err := tr.Verify(t.Context(), loyalty, bytes.NewReader(library), text)
		if err == nil {
			require.Equal(t, signedLines(good), signedLines(text))
			return
		}
		e := new(registry.Error)
		require.ErrorAs(t, err, &e)
		require.NotEmpty(t, e.Found)
		require.NotEmpty(t, e.Expected)
		require.NotEmpty(t, e.Remedy)
		require.NotNil(t, e.Kind)
	})
}

// A comment is taken that is made of its subject, and no other.
func FuzzComment(f *testing.F) {
	k := generate(f)
	tr, err := sign.NewTrust([]string{k.Public().String()}, nil, nil)
	require.NoError(f, err)
	f.Add("loyalty", "1.4.0", "linux/amd64")
	f.Add("a b", "1", "any")
	f.Add("", "\n", "any any")
	f.Fuzz(func(t *testing.T, name, version, platform string) {
		s := sign.Subject{Name: name, Version: version, Platform: platform}
		text, err := sign.Sign(k, s, strings.NewReader("x"))
		if err != nil {
			require.Error(t, s.Check())
			return
		}
		require.NoError(t, s.Check())
		require.Len(t, strings.Fields(s.Comment()), 4)
		_, err = tr.Verify(t.Context(), s, strings.NewReader("x"), text)
		require.NoError(t, err)
		_, err = tr.Verify(t.Context(), loyalty, strings.NewReader("x"), text)
		if s != loyalty {
			require.True(t, errors.Is(err, registry.ErrName) || errors.Is(err, registry.ErrVersion) || errors.Is(err, registry.ErrPlatform), "%v", err)
		}
	})
}

// Texts of keys are read back as they are written, or refused.
func FuzzKey(f *testing.F) {
	k := generate(f)
	for _, text := range []string{k.Public().String(), string(k.Public().Text()), string(k.Text()), "", "untrusted comment: \n", "RW==", strings.Repeat("A", 212)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if public, err := sign.ParsePublicKey(string(text)); err != nil {
			require.ErrorIs(t, err, registry.ErrKeyText)
		} else {
			again, err := sign.ParsePublicKey(string(public.Text()))
			require.NoError(t, err)
			require.Equal(t, public.String(), again.String())
		}
		if sign.Encrypted(text) {
			return // it takes seconds
		}
		if private, err := sign.ParsePrivateKey(text, ""); err != nil {
			require.ErrorIs(t, err, registry.ErrKeyText)
		} else {
			again, err := sign.ParsePrivateKey(private.Text(), "")
			require.NoError(t, err)
			require.Equal(t, private.Public(), again.Public())
		}
	})
}
