package remote_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/transcript"
	"github.com/ferrule-dev/ferrule/loader"
)

// Each entry is done with the library in this process, and with the same library on a node: what a host sees is the same.
func testTranscripts(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	calls := 0
	for _, c := range transcript.Table {
		t.Run(c.Name, func(t *testing.T) {
			if why := notRemote[c.Name]; why != "" {
				t.Skip(why)
			}
			library := c.Library.Built(t)
			lib, err := loader.Inspect(library)
			require.NoError(t, err)
			_, err = k.Process(t, s.URL(), "8", "file", library, c.Name)
			require.NoError(t, err)
			expected := inProcess(t, c, library)
			url := s.URL() + "/" + lib.Manifest.Name
			own := c.RecordApart(t, func(path string, opts ...loader.Option) (*loader.Plugin, error) {
				return loader.Open(url, append(opts[:len(opts):len(opts)], k.Plugin(0))...)
			}, library)
			assertLines(t, told(c.Name, expected.Lines, library, url), told(c.Name, own.Lines, library, url))
			assert.Equal(t, expected.Calls, own.Calls)
			calls += own.Calls
		})
	}
	t.Logf("%d calls", calls)
	assert.GreaterOrEqual(t, calls, 200)
}

// recorded are the transcripts in this process, by the entries' names: a library that keeps something is the same one for each broker.
var recorded = make(map[string]*transcript.Recording)

func inProcess(t *testing.T, c transcript.Transcript, library string) *transcript.Recording {
	if recorded[c.Name] == nil {
		recorded[c.Name] = c.Record(t, loader.Open, library)
	}
	return recorded[c.Name]
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

// told is what is to be the same.
func told(name string, lines []string, library, url string) (told []string) {
	self, _ := os.Executable()
	words := strings.NewReplacer(library, "FILE", self, "FILE", url, "FILE", "ferrule_import_", "imports: ", "ferrule_start", "ferrule.start")
	for _, line := range lines {
		if !slices.ContainsFunc(apart[name], func(begins string) bool { return strings.HasPrefix(line, begins) }) {
			told = append(told, words.Replace(line))
		}
	}
	return told
}

// apart are the lines of entries that differ, by how they begin: what an instance logs when it starts and stops is its node's.
var apart = map[string][]string{
	"stop fails":                       {"  log: level=WARN msg=\"ferrule_stop"},
	"SDK for C++":                      {"  log: level=INFO msg=\"started", "  log: level=INFO msg=\"stopped"},
	"C++ SDK, services of version 1.1": {"  log: level=INFO msg=\"started", "  log: level=INFO msg=\"stopped", "configure", "get("},
	"Rust, state":                      {"  log: level=INFO msg=\"ada starts", "  log: level=INFO msg=\"ada stops", "  log: level=WARN msg=\"ferrule_stop"},
	"Rust, state with instances":       {"  log: level=INFO msg=\"bob st"},
	"Rust, panics":                     {"  log: level=WARN msg=\"ferrule_stop"},
	"services of version 1.1":          {"configure", "config("},
}

// notRemote says of the entries that are not for nodes why.
var notRemote = map[string]string{
	"state that cannot start": atNode, "start fails": atNode, "start fails without a word": atNode, "start breaks a rule": atNode, "start works once": atNode,
	"undefined symbol": atNode, "no manifest": atNode, "SDK for C with a configuration": atNode, "SDK for C++ that cannot start": atNode,
	"Rust, state that cannot start": atNode, "Rust, panic in start": atNode,
	"another digest":      "the file is its node's",
	"bad option":          "how many instances there are is its node's to say",
	"Rust, settings":      "its settings are its node's",
	"Rust, between calls": "what is done between calls is its node's",
}

const atNode = "its node does not start"
