package sidecar_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/transcript"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// Each entry is done with the library in this process, and with the same library behind the wire: what a host sees is the same.
func TestTranscripts(t *testing.T) {
	native := make(map[string]*transcript.Recording)
	for _, by := range ways(t) {
		if raceDetector && by.name != "stdio" && by.name != "unix" {
			continue // each process takes a second to start; what differs is the stream alone
		}
		t.Run(by.name, func(t *testing.T) {
			calls := 0
			for _, c := range transcript.Table {
				t.Run(c.Name, func(t *testing.T) {
					if why := notSidecar[c.Name]; why != "" {
						t.Skip(why)
					}
					if by.name == "fifo" && slices.Contains(several, c.Name) {
						t.Skip("two FIFOs are one session at a time")
					}
					library := c.Library.Built(t)
					expected, ok := native[c.Name]
					if !ok { // once: some libraries count in static variables
						expected = c.Record(t, loader.Open, library)
						native[c.Name] = expected
					}
					own := c.Record(t, func(path string, opts ...loader.Option) (*loader.Plugin, error) { return by.open(t, path, opts...) }, library)
					assertLines(t, told(c.Name, expected.Lines, library), told(c.Name, own.Lines, library))
					assert.Equal(t, expected.Calls, own.Calls)
					calls += own.Calls
				})
			}
			t.Logf("%d calls", calls)
			assert.GreaterOrEqual(t, calls, 200)
		})
	}
}

// way is how a sidecar is spoken to.
type way struct {
	name string
	open func(t testing.TB, library string, opts ...loader.Option) (*loader.Plugin, error)
}

func self(t testing.TB) string {
	path, err := os.Executable()
	require.NoError(t, err)
	return path
}

func ways(t testing.TB) []way {
	program := func(args ...string) func(testing.TB, string, ...loader.Option) (*loader.Plugin, error) {
		return func(t testing.TB, library string, opts ...loader.Option) (*loader.Plugin, error) {
			return loader.Open(self(t), append(opts[:len(opts):len(opts)], sidecar.Program(
				sidecar.WithArgs(append([]string{"serve", library}, args...)...), sidecar.WithEnv("GORACE=atexit_sleep_ms=0")))...) // with -race a program sleeps at its end
		}
	}
	listener := func(network string) func(testing.TB, string, ...loader.Option) (*loader.Plugin, error) {
		return func(t testing.TB, library string, opts ...loader.Option) (*loader.Plugin, error) {
			return loader.Open(listening(t, network, library), append(opts[:len(opts):len(opts)], sidecar.Program())...)
		}
	}
	all := []way{{"stdio", program("plain")}, {"descriptors", program()}, {"unix", listener("unix")}, {"tcp", listener("tcp")}}
	if runtime.GOOS == "windows" {
		return slices.Delete(all, 1, 2)
	}
	return append(all, way{"fifo", openFIFOs})
}

// listening starts a sidecar that listens, and returns its URL.
func listening(t testing.TB, network, library string) string {
	at := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "fs") // t.TempDir's path may be too long for a socket
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		at = filepath.Join(dir, "s")
	}
	cmd := exec.Command(self(t), "serve", library, network, at)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	start(t, cmd)
	said := make([]byte, 256)
	n, err := out.Read(said)
	require.NoError(t, err)
	return network + ":" + strings.TrimSpace(string(said[:n]))
}

func start(t testing.TB, cmd *exec.Cmd) {
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// assertLines shows the first lines that differ, and not all of both.
func assertLines(t *testing.T, expected, found []string) {
	for i := range min(len(expected), len(found)) {
		if !assert.Equal(t, expected[i], found[i]) {
			return
		}
	}
	assert.Len(t, found, len(expected))
}

// told is what is to be the same: without what is said of libraries and sidecars in other words, and the lines that are told of alone.
func told(name string, lines []string, library string) (told []string) {
	self, _ := os.Executable()
	words := strings.NewReplacer(library, "FILE", self, "FILE", "ferrule_start", "ferrule.start", "ferrule_stop", "ferrule.stop", "ferrule_configure", "ferrule.configure",
		"ferrule_save", "ferrule.save", "ferrule_resume", "ferrule.resume")
	for _, line := range lines {
		if !slices.ContainsFunc(apart[name], func(begins string) bool { return strings.HasPrefix(line, begins) }) {
			line = urls.ReplaceAllString(words.Replace(line), "FILE")
			told = append(told, imports.ReplaceAllString(line, "IMPORT $1"))
		}
	}
	return told
}

var (
	imports = regexp.MustCompile(`(?:ferrule_import_|imports: )(\w+)`)
	urls    = regexp.MustCompile(`(?:unix|tcp|fifo):/?[^ "\\]*[^ "\\:,]`)
)

// several are the entries with several instances, or sessions.
var several = []string{"pinned host with instances", "re-entrance with instances", "stop fails", "Rust, state with instances", "services of version 1.1",
	"C++ SDK, services of version 1.1", "Rust, settings"}

// apart are the lines of entries that differ, by how they begin.
var apart = map[string][]string{}

// notSidecar says of the entries that are not for sidecars why.
var notSidecar = map[string]string{
	"start works once": "each session is a process, or has instances of its own",
	"undefined symbol": "what is wrong with the library is said by the sidecar",
	"no manifest":      "what is wrong with the library is said by the sidecar",
	"another digest":   "the digest is the program's, and a URL has none",
}
