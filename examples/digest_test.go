package examples_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// TestDigest: the digests are those of Go's own library, of streams of all lengths and in pieces of all sizes.
func TestDigest(t *testing.T) {
	library := build(t, "digest")
	random := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(random)
	for name, opts := range map[string][]loader.Option{"in process": nil, "isolated": {isolate.InWorker()}} {
		t.Run(name, func(t *testing.T) {
			p := open(t, library, opts...)
			for fn, sum := range map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New} {
				f, err := p.Func(fn)
				require.NoError(t, err)
				for _, n := range []int{0, 1, 63, 64, 65, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1<<20 - 7} {
					want := sum()
					want.Write(random[:n])
					// Short reads: as an io.Reader may have them.
					r := io.MultiReader(strings.NewReader(string(random[:n/3])), strings.NewReader(string(random[n/3:n])))
					got, err := f.Stream(t.Context(), nil, r, nil)
					require.NoError(t, err)
					assert.Equal(t, hex.EncodeToString(want.Sum(nil)), string(got), "%s of %d bytes", fn, n)
				}
				_, err = f.Stream(t.Context(), nil, io.MultiReader(strings.NewReader("half"), broken{}), nil)
				assert.ErrorIs(t, err, errBroken, "no digest of half a stream")
				_, err = f.Call(t.Context(), []byte("no stream"))
				assert.ErrorIs(t, err, loader.ErrUnsupported)
			}
		})
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }

// TestDigestOfALongFile: `ferrule call` digests a file that is many times as long as the memory that it takes, and finds what sha256sum
// finds. FERRULE_LARGE is how many MiB the file has; it is a hole, which needs no room on the disk.
func TestDigestOfALongFile(t *testing.T) {
	library := build(t, "digest")
	sha256sum := fixture.Tool(t, "sha256sum", "apt-get install coreutils")
	command := program(t, "ferrule", "./cmd/ferrule")
	size := int64(256)
	if text := os.Getenv("FERRULE_LARGE"); text != "" {
		var err error
		size, err = strconv.ParseInt(text, 10, 64)
		require.NoError(t, err)
	}
	size <<= 20
	path := filepath.Join(t.TempDir(), "long")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	for _, at := range []int64{0, size / 2, size - 5} {
		_, err := f.WriteAt([]byte("here!"), at)
		require.NoError(t, err)
	}
	want, err := exec.Command(sha256sum, path).Output()
	require.NoError(t, err)
	for _, args := range [][]string{nil, {"--isolated"}} {
		_, err := f.Seek(0, io.SeekStart)
		require.NoError(t, err)
		cmd := exec.Command(command, append([]string{"call", library, "sha256"}, args...)...)
		cmd.Stdin, cmd.Stderr = f, os.Stderr
		got, err := cmd.Output()
		require.NoError(t, err)
		assert.Equal(t, strings.Fields(string(want))[0], string(got), "%v", args)
		if memory, known := peakMemory(cmd.ProcessState); known {
			t.Logf("%v: %d MiB of memory for %d MiB of input", args, memory>>20, size>>20)
			assert.Less(t, memory, int64(96<<20), "%v: bytes in memory, for %d bytes of input", args, size)
		}
	}
}
