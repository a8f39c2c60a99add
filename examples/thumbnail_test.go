package examples_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "image/jpeg"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// picture returns the path of one of the photographs that Go's own tests use: 150 x 103 pixels.
func picture(t *testing.T, name string) string {
	t.Helper()
	root, err := exec.Command(fixture.Tool(t, "go", "see https://go.dev/dl"), "env", "GOROOT").Output()
	require.NoError(t, err)
	path := filepath.Join(strings.TrimSpace(string(root)), "src", "image", "testdata", name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("this Go came without its test pictures (%v): install the whole of it from https://go.dev/dl", err)
	}
	return path
}

func decode(t *testing.T, data []byte) (image.Image, string) {
	t.Helper()
	m, format, err := image.Decode(bytes.NewReader(data))
	require.NoError(t, err)
	return m, format
}

// mean returns the mean colour of a part of the picture.
func mean(m image.Image, part image.Rectangle) (rgb [3]float64) {
	for y := part.Min.Y; y < part.Max.Y; y++ {
		for x := part.Min.X; x < part.Max.X; x++ {
			c := color.NRGBAModel.Convert(m.At(x, y)).(color.NRGBA)
			for i, v := range []uint8{c.R, c.G, c.B} {
				rgb[i] += float64(v) / float64(part.Dx()*part.Dy())
			}
		}
	}
	return rgb
}

// assertSame compares quarter by quarter, so that a picture which is turned, mirrored or black is seen.
func assertSame(t *testing.T, want, got image.Image) {
	t.Helper()
	quarter := func(m image.Image, i int) [3]float64 {
		w, h := m.Bounds().Dx()/2, m.Bounds().Dy()/2
		return mean(m, image.Rect(0, 0, w, h).Add(image.Pt(i%2*w, i/2*h)).Add(m.Bounds().Min))
	}
	for i := range 4 {
		w, g := quarter(want, i), quarter(got, i)
		for c := range 3 {
			assert.InDelta(t, w[c], g[c], 5, "colour %d of quarter %d", c, i)
		}
	}
}

func TestThumbnailFile(t *testing.T) {
	library := build(t, "thumbnail")
	for _, name := range []string{"video-001.jpeg", "video-001.progressive.jpeg", "video-001.cmyk.jpeg",
		"video-005.gray.jpeg", "video-001.png", "video-005.gray.png"} {
		t.Run(name, func(t *testing.T) {
			from, to := picture(t, name), filepath.Join(t.TempDir(), "small")
			stdout, stderr, code := run(t, "thumbnail", "-size", "64", library, from, to)
			require.Equal(t, 0, code, "%s", stderr)
			format := strings.TrimPrefix(filepath.Ext(name), ".")
			assert.Equal(t, to+": "+format+", 64 x 44 pixels\n", stdout)

			original, err := os.ReadFile(from)
			require.NoError(t, err)
			data, err := os.ReadFile(to)
			require.NoError(t, err)
			want, _ := decode(t, original)
			got, gotFormat := decode(t, data)
			assert.Equal(t, format, gotFormat)
			assert.Equal(t, image.Pt(64, 44), got.Bounds().Size())
			assertSame(t, want, got)
		})
	}
	t.Run("no picture", func(t *testing.T) {
		to := filepath.Join(t.TempDir(), "small")
		_, stderr, code := run(t, "thumbnail", library, filepath.Join(fixture.Root(), "LICENSE"), to)
		assert.Equal(t, 1, code)
		assert.Contains(t, stderr, "found no picture")
		assert.NoFileExists(t, to)
	})
}

// TestThumbnailSizes: the longest side is as configured, and nothing is enlarged.
func TestThumbnailSizes(t *testing.T) {
	library := build(t, "thumbnail")
	original, err := os.ReadFile(picture(t, "video-001.png"))
	require.NoError(t, err)
	for config, want := range map[string]image.Point{
		"": {128, 88}, `{}`: {128, 88}, `{"size": 1}`: {1, 1}, `{"size": 149}`: {149, 102}, `{"size": 150}`: {150, 103},
		`{"size": 4096}`: {150, 103},
	} {
		out, err := open(t, library, loader.WithConfig([]byte(config))).Call(t.Context(), "thumbnail", original)
		require.NoError(t, err)
		m, _ := decode(t, out)
		assert.Equal(t, want, m.Bounds().Size(), "%s", config)
	}
	for config, want := range map[string]string{
		`{"size": 0}`: "found a size of 0 pixels, expected 1 to 4096", `{"size": 4097}`: "found a size of 4097 pixels",
		`{"size": -1}`: "JSON", `{"size": 1, "colour": 2}`: "colour", `64`: "JSON",
	} {
		_, err := loader.Open(library, loader.WithConfig([]byte(config)))
		assert.ErrorIs(t, err, loader.ErrStart)
		assert.ErrorIs(t, err, loader.ErrInvalid)
		assert.ErrorContains(t, err, want)
	}
}

// TestThumbnailIsUpright: a photograph whose EXIF data says that the camera was turned comes out turned back.
func TestThumbnailIsUpright(t *testing.T) {
	p := open(t, build(t, "thumbnail"), loader.WithConfig([]byte(`{"size": 75}`)))
	original, err := os.ReadFile(picture(t, "video-001.jpeg"))
	require.NoError(t, err)
	want, _ := decode(t, original)

	// An APP1 segment after the start of the picture: a TIFF directory with one entry, Orientation = 6 (turn right).
	exif := []byte("Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01" +
		"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00")
	segment := append(binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(2+len(exif))), exif...)
	turned := append(append(bytes.Clone(original[:2]), segment...), original[2:]...)

	out, err := p.Call(t.Context(), "thumbnail", turned)
	require.NoError(t, err)
	got, _ := decode(t, out)
	require.Equal(t, image.Pt(52, 75), got.Bounds().Size())
	back := image.NewNRGBA(image.Rect(0, 0, 75, 52))
	for y := range 52 {
		for x := range 75 {
			back.Set(x, y, got.At(51-y, x))
		}
	}
	assertSame(t, want, back)
}

func TestThumbnailBadInput(t *testing.T) {
	p := open(t, build(t, "thumbnail"))
	call := func(in []byte) error {
		_, err := p.Call(t.Context(), "thumbnail", in)
		return err
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(picture(t, name))
		require.NoError(t, err)
		return data
	}
	photo := read("video-001.png")
	assert.ErrorIs(t, call(nil), loader.ErrInvalid)
	assert.ErrorIs(t, call([]byte("text")), loader.ErrInvalid)
	assert.ErrorIs(t, call(read("video-001.gif")), loader.ErrUnsupported)
	assert.ErrorIs(t, call(photo[:len(photo)/2]), loader.ErrInvalid)
	assert.ErrorIs(t, call(photo[:20]), loader.ErrInvalid)
	assert.ErrorIs(t, call(read("video-001.jpeg")[:20]), loader.ErrInvalid)

	// A header that promises 40 gigabytes.
	huge := bytes.Clone(photo)
	binary.BigEndian.PutUint32(huge[16:], 100_000)
	binary.BigEndian.PutUint32(huge[20:], 100_000)
	binary.BigEndian.PutUint32(huge[29:], crc32.ChecksumIEEE(huge[12:29]))
	assert.ErrorIs(t, call(huge), loader.ErrInvalid)
	assert.ErrorContains(t, call(huge), "100000 x 100000 pixels")

	assert.NoError(t, call(photo), "bad input leaves nothing behind")
}

// TestThumbnailConcurrent: one instance, many goroutines, each with a picture of its own.
func TestThumbnailConcurrent(t *testing.T) {
	p := open(t, build(t, "thumbnail"), loader.WithConfig([]byte(`{"size": 10}`)))
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			for range 20 {
				want := color.NRGBA{uint8(30 * i), 100, uint8(200 - 20*i), 255}
				m := image.NewNRGBA(image.Rect(0, 0, 60, 40))
				for j := range m.Pix {
					m.Pix[j] = []uint8{want.R, want.G, want.B, want.A}[j%4]
				}
				var in bytes.Buffer
				if !assert.NoError(t, png.Encode(&in, m)) {
					return
				}
				out, err := p.Call(t.Context(), "thumbnail", in.Bytes())
				if !assert.NoError(t, err) {
					return
				}
				got, err := png.Decode(bytes.NewReader(out))
				if !assert.NoError(t, err) {
					return
				}
				assert.Equal(t, image.Pt(10, 7), got.Bounds().Size())
				assert.Equal(t, want, color.NRGBAModel.Convert(got.At(5, 3)))
			}
		})
	}
	running.Wait()
}
