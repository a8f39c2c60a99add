package examples_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// sources is 8 MB of real text: Go's own sources, one after the other.
func sources(t *testing.T) []byte {
	t.Helper()
	root, err := exec.Command(fixture.Tool(t, "go", "see https://go.dev/dl"), "env", "GOROOT").Output()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(root)), "src", "*", "*.go"))
	require.NoError(t, err)
	var text []byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		if text = append(text, data...); len(text) >= 8<<20 {
			return text[:8<<20]
		}
	}
	require.Fail(t, "Go's sources are less than 8 MB")
	return nil
}

// TestZstdFile: what the host writes is what the zstd command reads, and the other way round.
func TestZstdFile(t *testing.T) {
	library := build(t, "zstd")
	zstd := fixture.Tool(t, "zstd", "apt-get install zstd")
	dir := t.TempDir()
	text, empty := filepath.Join(dir, "text"), filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(text, sources(t), 0o666))
	require.NoError(t, os.WriteFile(empty, nil, 0o666))
	packed, again := filepath.Join(dir, "packed.zst"), filepath.Join(dir, "again")
	last := int64(8 << 20)
	for _, test := range []struct{ file, level string }{{text, "1"}, {text, "19"}, {empty, "3"}} {
		t.Run(filepath.Base(test.file)+" "+test.level, func(t *testing.T) {
			want, err := os.ReadFile(test.file)
			require.NoError(t, err)
			stdout, stderr, code := run(t, "zstd", "-level", test.level, library, test.file, packed)
			require.Equal(t, 0, code, "%s", stderr)
			info, err := os.Stat(packed)
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprintf("%s: %d bytes, from %d\n", packed, info.Size(), len(want)), stdout)
			if len(want) > 0 {
				assert.Less(t, info.Size(), min(last, int64(len(want)/3)), "the higher level packs more")
				last = info.Size()
			}

			out, err := exec.Command(zstd, "-dcq", packed).Output()
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, out), "the zstd command gives the file back")
			_, stderr, code = run(t, "zstd", "-d", library, packed, again)
			require.Equal(t, 0, code, "%s", stderr)
			out, err = os.ReadFile(again)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, out), "the plug-in gives the file back")
		})
	}

	// From a pipe zstd does not know how long the text is, and does not say it in the frame.
	want, err := os.ReadFile(text)
	require.NoError(t, err)
	cmd := exec.Command(zstd, "-5", "-cq")
	cmd.Stdin = bytes.NewReader(want)
	frames, err := cmd.Output()
	require.NoError(t, err)
	got, err := open(t, library).Call(t.Context(), "decompress", frames)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got))

	require.NoError(t, os.WriteFile(packed, frames[:len(frames)/2], 0o666))
	_, stderr, code := run(t, "zstd", "-d", library, packed, again)
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "cut off")
	out, err := os.ReadFile(again)
	require.NoError(t, err)
	assert.Empty(t, out, "the last result is still there, and no part of this one")
	left, err := filepath.Glob(filepath.Join(dir, "*.part"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestZstdConfiguration(t *testing.T) {
	library := build(t, "zstd")
	for config, want := range map[string]string{
		"level=0":                        `found "level=0", expected level=1 to level=22`,
		"level=23":                       `found "level=23", expected level=1 to level=22`,
		"level=-5":                       "expected level=1 to level=22",
		"level=99999999999999999999":     "expected level=1 to level=22",
		"level=3x":                       "expected level=1 to level=22",
		"level=":                         "expected level=NUMBER and max=BYTES",
		"level=3 max=0":                  `found "max=0"`,
		"max=-1":                         `found "max=-1"`,
		"max=99999999999999999999999999": `found "max=99`,
		"max=10k":                        `found "max=10k"`,
		"speed=9":                        `found "speed=9"`,
		"level=3\x00":                    "has a NUL",
		strings.Repeat("level=3 ", 100):  "the input has 800 bytes",
	} {
		p, err := loader.Open(library, loader.WithConfig([]byte(config)))
		if !assert.ErrorIs(t, err, loader.ErrStart, "%q", config) {
			p.Close()
			continue
		}
		assert.ErrorIs(t, err, loader.ErrInvalid)
		assert.ErrorContains(t, err, want)
	}
	for _, config := range []string{"", "level=22", "max=1", " level=1\n max=1000\n"} {
		open(t, library, loader.WithConfig([]byte(config)))
	}

	file := filepath.Join(fixture.Root(), "LICENSE")
	_, stderr, code := run(t, "zstd", "-level", "99", library, file, filepath.Join(t.TempDir(), "out"))
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, `found "level=99", expected level=1 to level=22`)
}

func TestZstdBadInput(t *testing.T) {
	p := open(t, build(t, "zstd"), loader.WithConfig([]byte("level=1 max=1000000")))
	call := func(name string, in []byte) ([]byte, error) { return p.Call(t.Context(), name, in) }
	zeros, err := call("compress", make([]byte, 1_000_000))
	require.NoError(t, err)
	out, err := call("decompress", zeros)
	require.NoError(t, err)
	assert.Len(t, out, 1_000_000)

	bomb, err := call("compress", make([]byte, 50_000_000))
	require.NoError(t, err)
	assert.Less(t, len(bomb), 10_000)
	_, err = call("decompress", bomb)
	assert.ErrorIs(t, err, loader.ErrFailed)
	assert.ErrorContains(t, err, "longer than the configured max=1000000")

	text := []byte("a frame has a checksum, so that it is seen when a byte of it is another one")
	frame, err := call("compress", text)
	require.NoError(t, err)
	for i := range frame {
		for _, bad := range [][]byte{frame[:i], damaged(frame, i)} {
			if out, err := call("decompress", bad); err == nil {
				assert.Equal(t, string(text), string(out), "only what changes nothing may pass")
			} else {
				assert.ErrorIs(t, err, loader.ErrInvalid)
			}
		}
	}
	_, err = call("decompress", []byte("text"))
	assert.ErrorContains(t, err, "not zstd data, or damaged")
	_, err = call("decompress", append(bytes.Clone(frame), "text"...))
	assert.ErrorIs(t, err, loader.ErrInvalid, "what follows the frame is none")
	out, err = call("decompress", append(bytes.Clone(frame), frame...))
	require.NoError(t, err, "an error leaves nothing behind in the instance")
	assert.Equal(t, string(text)+string(text), string(out))
}

func damaged(frame []byte, at int) []byte {
	frame = bytes.Clone(frame)
	frame[at] ^= 0x10
	return frame
}

// TestZstdCancellation: the call of some seconds ends soon after its context.
func TestZstdCancellation(t *testing.T) {
	p := open(t, build(t, "zstd"), loader.WithConfig([]byte("level=22")))
	text := sources(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := p.Call(ctx, "compress", text)
	assert.ErrorIs(t, err, loader.ErrCancelled)
	assert.ErrorIs(t, err, context.DeadlineExceeded)

	frame, err := p.Call(t.Context(), "compress", text[:1000])
	require.NoError(t, err, "the instance goes on")
	out, err := p.Call(t.Context(), "decompress", frame)
	require.NoError(t, err)
	assert.Equal(t, string(text[:1000]), string(out))
}
