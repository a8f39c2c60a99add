package mark

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

var want = Found{Worker: {Version: true}}

func build(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	fixture.Loadable(t)
	program := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", append([]string{"build", "-o", program}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

func find(t *testing.T, path string) Found {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	found, err := Find(f)
	require.NoError(t, err)
	return found
}

// how is how a program is built: with what variables and arguments.
type how struct{ env, args []string }

// finds builds a program in each of these ways and looks for its mark.
func finds(t *testing.T, ways map[string]how) {
	t.Helper()
	for name, how := range ways {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, want, find(t, build(t, ".", how.env, append(how.args, "./testdata/marked")...)))
		})
	}
}

// The mark is found in programs however they are linked, and with nothing but what runs left in them.
func TestFind(t *testing.T) {
	finds(t, map[string]how{
		"plain":    {nil, nil},
		"stripped": {nil, []string{"-ldflags=-s -w"}},
		"debug":    {nil, []string{"-gcflags=-N -l"}},
		"pie":      {[]string{"CGO_ENABLED=0"}, []string{"-buildmode=pie"}},
	})
}

// So it is in those of other formats and machines.
func TestFindElsewhere(t *testing.T) {
	finds(t, map[string]how{
		"windows": {[]string{"GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0"}, []string{"-ldflags=-s -w"}},
		"darwin":  {[]string{"GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=0"}, []string{"-ldflags=-s -w"}},
		"arm64":   {[]string{"GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0"}, nil},
		"arm":     {[]string{"GOOS=linux", "GOARCH=arm", "CGO_ENABLED=0"}, nil},
		"riscv64": {[]string{"GOOS=linux", "GOARCH=riscv64", "CGO_ENABLED=0"}, nil},
	})
}

// So it is in one without section headers, and in this machine's part of a universal program.
func TestFindInOtherFiles(t *testing.T) {
	bare, err := os.ReadFile(build(t, ".", []string{"GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0"}, "./testdata/marked"))
	require.NoError(t, err)
	copy(bare[40:48], make([]byte, 8)) // e_shoff
	copy(bare[60:64], make([]byte, 4)) // e_shnum, e_shstrndx
	found, err := Find(bytes.NewReader(bare))
	require.NoError(t, err)
	assert.Equal(t, want, found)

	if machine == 0 {
		t.Skip("no Mac has this processor")
	}
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	marked := func(arch string) []byte {
		program, err := os.ReadFile(build(t, ".", []string{"GOOS=darwin", "GOARCH=" + arch, "CGO_ENABLED=0"}, "./testdata/marked"))
		require.NoError(t, err)
		return program
	}
	own, foreign := marked(runtime.GOARCH), marked(other)
	for name, c := range map[string]struct {
		own, foreign []byte
		want         Found
	}{
		"both":        {own, foreign, want},
		"own alone":   {own, unmarked(foreign), want},
		"other alone": {unmarked(own), foreign, nil},
	} {
		const page = 1 << 14
		at := (page + len(c.foreign) + page - 1) / page * page
		fat := binary.BigEndian.AppendUint32(nil, 0xcafebabe)
		for _, v := range []uint32{2, uint32(cpuOf(c.foreign)), 0, page, uint32(len(c.foreign)), 14, uint32(cpuOf(c.own)), 3, uint32(at), uint32(len(c.own)), 14} {
			fat = binary.BigEndian.AppendUint32(fat, v)
		}
		fat = append(append(fat, make([]byte, page-len(fat))...), c.foreign...)
		fat = append(append(fat, make([]byte, at-len(fat))...), c.own...)
		found, err := Find(bytes.NewReader(fat))
		require.NoError(t, err)
		assert.Equal(t, c.want, found, name)
	}
}

func cpuOf(program []byte) uint32 { return binary.LittleEndian.Uint32(program[4:]) }

func unmarked(program []byte) []byte {
	return bytes.ReplaceAll(program, Number, make([]byte, len(Number)))
}

// So it is where the C compiler links the program.
func TestFindLinkedByC(t *testing.T) {
	for _, mode := range []string{"exe", "pie"} {
		program := build(t, ".", []string{"CGO_ENABLED=1"}, "-buildmode="+mode, "-ldflags=-s -w -linkmode=external", "./testdata/linkedbyc")
		assert.Equal(t, want, find(t, program), mode)
	}
}

// A program that carries a worker as data is none, wherever and however it does.
func TestCarried(t *testing.T) {
	for _, system := range []string{"linux/amd64", "linux/arm64", "windows/amd64", "darwin/arm64"} {
		goos, arch, _ := strings.Cut(system, "/")
		env := []string{"GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + arch}
		worker, err := os.ReadFile(build(t, ".", env[2:], "./testdata/marked"))
		require.NoError(t, err)
		for mode, kind := range map[string]string{"exe": "[]byte", "pie": "string"} {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module launcher\n"), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "worker"), worker, 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nimport _ \"embed\"\n\n//go:embed worker\nvar carried "+kind+
				"\n\nfunc main() { println(len(carried)) }\n"), 0o600))
			launcher, err := os.ReadFile(build(t, dir, env, "-buildmode="+mode, "."))
			require.NoError(t, err)
			require.True(t, bytes.Contains(launcher, worker), "it does carry it")
			found, err := Find(bytes.NewReader(launcher))
			require.NoError(t, err)
			assert.Empty(t, found, "%s, %s, %s", system, kind, mode)
			found, err = Find(bytes.NewReader(append(launcher, worker...)))
			require.NoError(t, err)
			assert.Empty(t, found, "at the end of the file")
		}
	}
}

// Another version is told by its number, and several by all of them.
func TestFindOthers(t *testing.T) {
	program, err := os.ReadFile(build(t, ".", nil, "./testdata/marked"))
	require.NoError(t, err)
	at := bytes.Index(program, Number)
	require.Positive(t, at)
	kind, version := program[at+16:at+20], program[at+20:at+24]
	find := func() Found {
		found, err := Find(bytes.NewReader(program))
		require.NoError(t, err)
		return found
	}
	assert.Equal(t, want, find())
	const other, another = Version + 1, Version + 2
	binary.NativeEndian.PutUint32(version, other)
	assert.Equal(t, Found{Worker: {other: true}}, find())
	binary.NativeEndian.PutUint32(kind, uint32(Sandboxed))
	assert.Equal(t, Found{Sandboxed: {other: true}}, find())
	program[at]++
	assert.Empty(t, find())
	program[at]--
	copy(program[at+24:], program[at:at+20])
	binary.NativeEndian.PutUint32(program[at+44:], another)
	assert.Equal(t, Found{Sandboxed: {other: true, another: true}}, find())
}

// What is no program has no mark, and neither reading nor a header that lies ends in a panic.
func TestFindInGarbage(t *testing.T) {
	for _, file := range []string{"", "x", "#!/bin/sh\n", strings.Repeat("MZ", 100), "\x7fELF\x02" + strings.Repeat("\xff", 200),
		"\xcf\xfa\xed\xfe" + strings.Repeat("\xff", 200), "\xcf\xfa\xed\xfe" + strings.Repeat("\x01\x00\x00\x00", 50), string(Number)} {
		found, err := Find(strings.NewReader(file))
		require.NoError(t, err)
		assert.Empty(t, found, "%q", file)
	}
	_, err := Find(broken{})
	assert.ErrorIs(t, err, errDisk)
}

var errDisk = errors.New("no disk")

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

// A mark is found wherever the code is cut to be read.
func TestFindAtEdges(t *testing.T) {
	mark := append(bytes.Clone(Number), 0, 0, 0, 0, 0, 0, 0, 0)
	binary.NativeEndian.PutUint32(mark[16:], uint32(Worker))
	binary.NativeEndian.PutUint32(mark[20:], Version)
	const window = 256 << 10
	for _, before := range []int{0, 1, window - 25, window - 24, window - 23, window - 1, window, 2*window - 30, 2*window - 46} {
		for _, after := range []int{0, 1, window} {
			found, err := findIn(bytes.NewReader(append(append(make([]byte, before), mark...), make([]byte, after)...)))
			require.NoError(t, err)
			assert.Equal(t, want, found, "%d bytes before, %d after", before, after)
		}
		found, err := findIn(bytes.NewReader(append(make([]byte, before), mark[:23]...)))
		require.NoError(t, err)
		assert.Empty(t, found, "a part of one")
	}
}

func FuzzFind(f *testing.F) {
	for _, head := range []string{"\x7fELF\x02\x01\x01", "MZ", "\xcf\xfa\xed\xfe"} {
		f.Add([]byte(head))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		_, err := Find(bytes.NewReader(file))
		assert.NoError(t, err)
	})
}
