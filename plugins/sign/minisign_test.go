package sign_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
)

// program runs the program minisign in a folder, with a standard input, where it reads passwords.
type program struct {
	t    *testing.T
	path string
	dir  string
}

func newProgram(t *testing.T) *program {
	t.Helper()
	return &program{t, fixture.Tool(t, "minisign", "apt-get install minisign"), t.TempDir()}
}

func (p *program) run(stdin string, args ...string) error {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), p.path, args...)
	cmd.Dir, cmd.Stdin = p.dir, bytes.NewBufferString(stdin)
	out, err := cmd.CombinedOutput()
	p.t.Logf("minisign %q: %v\n%s", args, err, out)
	return err
}

func (p *program) write(name string, text []byte) {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(filepath.Join(p.dir, name), text, 0o600))
}

func (p *program) read(name string) []byte {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, name))
	require.NoError(p.t, err)
	return text
}

// takesMemory skips what encrypts keys under the race detector, where that takes minutes and many times its 1 GiB. Nothing of it is concurrent.
func takesMemory(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("keys with a password are not for the race detector")
	}
}

// The keys of the program minisign, with a password and without one, are read here; what it has signed with them verifies.
func TestOfMinisign(t *testing.T) {
	const password = "a pass phrase, ä"
	for name, c := range map[string]struct {
		generate []string
		stdin    string
	}{
		"without a password": {[]string{"-G", "-W", "-p", "key.pub", "-s", "key"}, ""},
		"with one":           {[]string{"-G", "-p", "key.pub", "-s", "key"}, password + "\n" + password + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.stdin != "" {
				takesMemory(t)
			}
			p := newProgram(t)
			p.write("loyalty.so", library)
			require.NoError(t, p.run(c.stdin, c.generate...))
			assert.Equal(t, c.stdin != "", sign.Encrypted(p.read("key")))
			k, err := sign.ParsePrivateKey(p.read("key"), password)
			require.NoError(t, err)
			public, err := sign.ParsePublicKey(string(p.read("key.pub")))
			require.NoError(t, err)
			assert.Equal(t, public, k.Public())
			assert.Equal(t, string(p.read("key.pub")), string(public.Text()), "as that program writes it")
			if c.stdin != "" {
				_, err = sign.ParsePrivateKey(p.read("key"), "another")
				assert.ErrorIs(t, err, registry.ErrPassword)
				return
			}
			assert.Equal(t, string(p.read("key")), string(k.Text()), "as that program writes it")
			verify := func(file []byte) error {
				id, err := trust(t, k).Verify(t.Context(), loyalty, bytes.NewReader(file), p.read("loyalty.so.minisig"))
				if err == nil {
					assert.Equal(t, public.ID(), id)
				}
				return err
			}
			for _, kind := range []string{"-H", "-l"} { // over the digest, and over the bytes
				require.NoError(t, p.run("", "-S", kind, "-s", "key", "-m", "loyalty.so", "-t", loyalty.Comment()))
				assert.NoError(t, verify(library), kind)
				assert.ErrorIs(t, verify(library[1:]), registry.ErrSignature, kind)
			}
			require.NoError(t, p.run("", "-S", "-s", "key", "-m", "loyalty.so"))
			assert.ErrorIs(t, verify(library), registry.ErrSubject, "its own comment says nothing of a plug-in")
		})
	}
}

// The program minisign reads the keys that are made here, with a password and without one; it verifies what is signed here, and refuses what was changed.
func TestForMinisign(t *testing.T) {
	p, k := newProgram(t), generate(t)
	p.write("loyalty.so", library)
	p.write("loyalty.so.minisig", signed(t, k, loyalty))
	p.write("key.pub", k.Public().Text())
	require.NoError(t, p.run("", "-V", "-p", "key.pub", "-m", "loyalty.so"))
	require.NoError(t, p.run("", "-V", "-P", k.Public().String(), "-m", "loyalty.so"))
	assert.Error(t, p.run("", "-V", "-P", generate(t).Public().String(), "-m", "loyalty.so"))
	p.write("loyalty.so.minisig", bytes.Replace(signed(t, k, loyalty), []byte("1.4.0"), []byte("9.4.0"), 1))
	assert.Error(t, p.run("", "-V", "-p", "key.pub", "-m", "loyalty.so"))

	takesMemory(t)
	const password = "a pass phrase, ä"
	encrypted, err := k.Encrypt(password)
	require.NoError(t, err)
	p.write("plain", k.Text())
	p.write("encrypted", encrypted)
	for file, stdin := range map[string]string{"plain": "", "encrypted": password + "\n"} {
		require.NoError(t, p.run(stdin, "-S", "-s", file, "-m", "loyalty.so", "-t", loyalty.Comment()), file)
		_, err := trust(t, k).Verify(t.Context(), loyalty, bytes.NewReader(library), p.read("loyalty.so.minisig"))
		assert.NoError(t, err, file)
		require.NoError(t, os.Remove(filepath.Join(p.dir, "loyalty.so.minisig")))
	}
}
