package loader_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/internal/transcript"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// The museum's plug-ins were compiled once and are kept. What they are is read, and what they do is repeated, on each
// platform that they were built for; it is what the files beside them say. See abi/museum/README.md.

var recordMuseum = flag.Bool("museum.record", false, "write the files inspect.txt and transcript.txt in abi/museum")

func museum(path ...string) string {
	return filepath.Join(append([]string{fixture.Root(), "abi", "museum"}, path...)...)
}

// exhibits returns the folders of the museum. Those of the first release are there whatever comes.
func exhibits(t *testing.T) (names []string) {
	entries, err := os.ReadDir(museum())
	require.NoError(t, err)
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	require.Subset(t, names, []string{"c-1.0", "rust-1.0", "c-1.1", "rust-1.1"}, "exhibits are missing")
	return names
}

// libraryName is how an exhibit's files for the platforms are named.
var libraryName = regexp.MustCompile(`^([a-z]+)-([a-z0-9]+)\.(so|dll|dylib)$`)

// libraries returns the names of an exhibit's libraries.
func libraries(t *testing.T, exhibit string) (names []string) {
	entries, err := os.ReadDir(museum(exhibit))
	require.NoError(t, err)
	for _, e := range entries {
		if libraryName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	require.NotEmpty(t, names)
	return names
}

func TestMuseumIsFrozen(t *testing.T) {
	sums, err := os.ReadFile(museum("SHA256SUMS"))
	require.NoError(t, err)
	frozen := make(map[string]string)
	for line := range strings.Lines(string(sums)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		require.True(t, ok && len(sum) == 64, "SHA256SUMS: found %q, expected what sha256sum writes", line)
		require.NotContains(t, frozen, name, "SHA256SUMS names it twice")
		frozen[name] = sum
	}
	there := make(map[string]bool)
	for _, exhibit := range exhibits(t) {
		require.NoError(t, filepath.WalkDir(museum(exhibit), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(museum(), path)
			require.NoError(t, err)
			name = filepath.ToSlash(name)
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			sum := sha256.Sum256(content)
			there[name] = true
			switch found := hex.EncodeToString(sum[:]); frozen[name] {
			case found:
			case "":
				t.Errorf("abi/museum/%s is not in SHA256SUMS. If it is a new exhibit's, run in abi/museum: "+
					"sha256sum %s >>SHA256SUMS", name, name)
			default:
				t.Errorf("abi/museum/%s is not what was frozen: its SHA-256 is %s, expected %s. Exhibits stand for "+
					"what users have compiled, and never change: take the file from git again. What is new is an "+
					"exhibit of its own (abi/museum/README.md)", name, found, frozen[name])
			}
			return nil
		}))
	}
	for name := range frozen {
		assert.True(t, there[name], "abi/museum/%s is in SHA256SUMS and is gone: take it from git again", name)
	}
}

func TestMuseumInspect(t *testing.T) {
	for _, exhibit := range exhibits(t) {
		for _, name := range libraries(t, exhibit) {
			t.Run(exhibit+"/"+name, func(t *testing.T) {
				lib, err := loader.Inspect(museum(exhibit, name))
				require.NoError(t, err)
				platform := libraryName.FindStringSubmatch(name)
				assert.Equal(t, platform[1:3], []string{lib.OS, lib.Arch})
				compare(t, inProcess, museum(exhibit, "inspect.txt"), facts(lib))
			})
		}
	}
}

// facts are what a library says of itself, without what depends on the platform.
func facts(lib *inspect.Library) string {
	var b strings.Builder
	m := lib.Manifest
	fmt.Fprintf(&b, "%s %s %s %q\n", m.Name, m.Version, m.Threads, m.Description)
	for _, kv := range m.Keys {
		fmt.Fprintf(&b, "  %s=%q\n", kv.Key, kv.Value)
	}
	fmt.Fprintf(&b, "start %t, stop %t, batch %t\n", lib.HasStart, lib.HasStop, lib.HasBatch)
	// What follows is of version 1.1: no exhibit that is older has it.
	if lib.HasConfigure || lib.HasSave || lib.HasResume {
		fmt.Fprintf(&b, "configure %t, save %t, resume %t\n", lib.HasConfigure, lib.HasSave, lib.HasResume)
	}
	if lib.ConfigSchema != "" {
		fmt.Fprintf(&b, "configuration %q\n", lib.ConfigSchema)
	}
	for _, kind := range []struct {
		name    string
		symbols []abi.Symbol
	}{{"function", lib.Funcs}, {"hook", lib.Hooks}, {"import", lib.Imports}, {"want", lib.Wants}} {
		for _, s := range kind.symbols {
			fmt.Fprintf(&b, "%s %s %q in %q out %q schema %q\n", kind.name, s.Name, s.Doc, s.In, s.Out, s.Schema)
			for _, kv := range s.Keys {
				if !slices.Contains([]string{"doc", "in", "out", "schema"}, kv.Key) {
					fmt.Fprintf(&b, "  %s=%q\n", kv.Key, kv.Value)
				}
			}
		}
	}
	fmt.Fprintf(&b, "reserved %q\n", lib.Reserved)
	return b.String()
}

// compare compares a text with the recorded one, or records it where that is asked for, in this process.
func compare(t *testing.T, w way, path, found string) {
	t.Helper()
	if *recordMuseum && !w.isolated {
		require.NoError(t, os.WriteFile(path, []byte(found), 0o666))
	}
	recorded, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(recorded), found, "it is not what %s says: an old plug-in does not get what it got", path)
}

func TestMuseum(t *testing.T) {
	for _, exhibit := range exhibits(t) {
		t.Run(exhibit, func(t *testing.T) {
			name := runtime.GOOS + "-" + runtime.GOARCH + fixture.Ext()
			if !slices.Contains(libraries(t, exhibit), name) {
				t.Skipf("the museum has no %s of %s", name, exhibit)
			}
			if strings.HasPrefix(exhibit, "rust-") {
				fixture.NotMusl(t, "there is no exhibit in Rust: those for Linux are made for glibc")
			}
			bothWays(t, func(t *testing.T, w way) {
				script, err := os.ReadFile(museum(exhibit, "transcript.txt"))
				require.NoError(t, err)
				compare(t, w, museum(exhibit, "transcript.txt"), play(t, w, museum(exhibit, name), string(script)))
			})
		})
	}
}

// visit is one run of an exhibit's transcript.
type visit struct {
	*transcript.Recording
	w     way
	path  string
	views []*loader.View

	session *loader.Session    // nil where calls go to the plug-in
	cancel  context.CancelFunc // of the call in progress
}

// play does what the transcript says, and returns the transcript as it comes out. What is done stands at the beginnings
// of lines; what came of it stands below, indented.
func play(t *testing.T, w way, path, script string) string {
	v := &visit{Recording: &transcript.Recording{TB: t}, w: w, path: path}
	defer v.close()
	within(t, func() {
		for line := range strings.Lines(script) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "  ") {
				continue
			}
			v.Say("%s", line)
			if line != "" && line[0] != '#' {
				v.do(line)
			}
		}
	})
	return strings.Join(v.Lines, "\n") + "\n"
}

// do does what one line of a transcript says.
func (v *visit) do(line string) {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "release":
		for _, view := range v.views {
			view.Release()
		}
		v.views = nil
		return
	case "close":
		v.went(v.Plugin.Close())
		return
	case "open":
		v.open([]byte(v.texts(rest)[0]))
		return
	}
	require.NotNil(v, v.Plugin, "%q before open", line)
	switch verb {
	case "configure":
		v.went(v.Plugin.Configure(ctx, []byte(v.texts(rest)[0])))
		return
	case "handover":
		v.handover([]byte(v.texts(rest)[0]))
		return
	case "session":
		var err error
		v.session, err = v.Plugin.NewSession(ctx, []byte(v.texts(rest)[0]))
		v.went(err)
		return
	case "end":
		v.went(v.session.Close())
		v.session = nil
		return
	}
	name, rest, _ := strings.Cut(rest, " ")
	resolve := v.Plugin.Func
	switch {
	case verb == "hook" || verb == "wrap":
		resolve = v.Plugin.Hook
	case v.session != nil:
		resolve = v.session.Func
	}
	f, err := resolve(name)
	require.NoError(v, err)
	room := 0
	if verb == "append" {
		end := strings.LastIndexByte(rest, ' ')
		room, err = strconv.Atoi(rest[end+1:])
		require.NoError(v, err, line)
		rest = rest[:end]
	}
	texts := v.texts(rest)
	in := []byte(texts[0])
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v.cancel = func() {}
	switch verb {
	case "call", "hook":
		v.came(f.Call(ctx, in))
	case "try":
		out, status, err := f.Try(ctx, nil, in)
		if err != nil {
			v.came(nil, err)
			return
		}
		v.Say("  = %s, status %d", transcript.Shown(out), int32(status))
	case "wrap":
		v.came(f.Call(loader.WithNext(ctx, func(_ context.Context, in []byte) ([]byte, error) {
			v.Say("  behind(%s)", transcript.Shown(in))
			return upper(ctx, in)
		}), in))
	case "stream":
		var written bytes.Buffer
		r, w := io.Reader(strings.NewReader(texts[1])), io.Writer(&written)
		if v.stream(name)&abi.StreamIn == 0 {
			r = nil
		}
		if v.stream(name)&abi.StreamOut == 0 {
			w = nil
		}
		out, err := f.Stream(ctx, in, r, w)
		if written.Len() > 0 {
			v.Say("  > %s", transcript.Shown(written.Bytes()))
		}
		v.came(out, err)
	case "break":
		broken := io.MultiReader(strings.NewReader(texts[1]), iotest.ErrReader(transcript.ErrLeft))
		v.came(f.Stream(ctx, in, broken, nil))
	case "watch":
		var done, total uint64
		out, err := f.Call(loader.WithProgress(ctx, func(d, t uint64) { done, total = d, t }), in)
		v.Say("  %d of %d", done, total)
		v.came(out, err)
	case "append":
		v.came(f.Append(ctx, append(make([]byte, 0, 4+room), "kept"...), in))
	case "view":
		view, err := f.View(ctx, in)
		if err != nil {
			v.came(nil, err)
			return
		}
		v.views = append(v.views, view)
		v.came(view.Bytes(), nil)
	case "cancel":
		v.cancel = cancel
		v.came(f.Call(ctx, in))
	case "batch":
		var inputs [][]byte
		for _, text := range texts {
			inputs = append(inputs, []byte(text))
		}
		var b loader.Batch
		err := f.Batch(ctx, inputs, &b)
		for i := range b.Len() {
			v.came(b.Result(i))
		}
		v.went(err)
	default:
		require.Fail(v, "not a line of a transcript: "+line)
	}
}

func (v *visit) open(config []byte) {
	v.close()
	var err error
	v.Plugin, err = v.w.try(v.path, v.options(config)...)
	v.went(err)
}

// stream is which streams the function with this name has.
func (v *visit) stream(name string) abi.Stream {
	i := slices.IndexFunc(v.Plugin.Info().Funcs, func(s abi.Symbol) bool { return s.Name == name })
	require.GreaterOrEqual(v, i, 0)
	return v.Plugin.Info().Funcs[i].Stream
}

// handover has a successor go on with the plug-in's state.
func (v *visit) handover(config []byte) {
	old := v.Plugin
	next, err := old.Handover(ctx, func(s *loader.State) (*loader.Plugin, error) {
		for _, saved := range s.Instances() {
			v.Say("  %s %s", s.Format(), transcript.Shown(saved))
		}
		return v.w.try(v.path, append(v.options(config), loader.WithState(s))...)
	})
	if err == nil {
		require.NoError(v, old.Close()) // the end of it, which Handover does not wait for
		v.Plugin = next
	}
	v.went(err)
}

func (v *visit) options(config []byte) []loader.Option {
	logger := slog.New(slog.NewTextHandler(v, &slog.HandlerOptions{Level: loader.LevelTrace,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
	host := func(name string, fn loader.HostFunc) loader.Option {
		return loader.WithHostFunc(name, func(ctx context.Context, in []byte) ([]byte, error) {
			v.Say("  %s(%s)", name, transcript.Shown(in))
			return fn(ctx, in)
		})
	}
	return []loader.Option{loader.WithConfig(config), loader.WithLogger(logger), loader.WithPluginInfo("museum.visitor", "ada"), host("upper", upper),
		host("refuse", func(_ context.Context, in []byte) ([]byte, error) { return nil, refusal(in) })}
}

func (v *visit) close() {
	if v.session != nil {
		require.NoError(v, v.session.Close())
		v.session = nil
	}
	if v.Plugin != nil {
		require.NoError(v, v.Plugin.Close())
		v.Plugin = nil
	}
}

// Write takes the logger's lines. The one of a call that is to be cancelled says that it has begun.
func (v *visit) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("msg=working")) {
		v.cancel()
	}
	return v.Recording.Write(line)
}

// refusal is the error of a host function, with a status of the plug-in's own.
type refusal []byte

func (r refusal) Error() string { return "no " + string(r) }
func (r refusal) Unwrap() error { return loader.Status(1001) }

// came writes down what came of something: in the contract's own terms, which stay, rather than in the words of today's
// errors.
func (v *visit) came(out []byte, err error) {
	var call *loader.CallError
	var contract *loader.ContractError
	switch {
	case err == nil:
		v.Say("  = %s", transcript.Shown(out))
	case errors.As(err, &call):
		v.Say("  ! %s: status %d, %s", call.Func, int32(call.Status), transcript.Shown([]byte(call.Message)))
	case errors.As(err, &contract):
		v.Say("  ! %s: breaks %s", contract.Func, contract.Rule)
	default:
		v.Say("  ! %v", err)
	}
}

// went writes down what came of something that has no result.
func (v *visit) went(err error) {
	if err == nil {
		v.Say("  ok")
	} else {
		v.came(nil, err)
	}
}

// repeated is a text in quotes as Go has them, and how often it stands there if not once.
var repeated = regexp.MustCompile(`^("(?:[^"\\]|\\.)*")(?:\*(\d+))?(?: |$)`)

// texts returns the inputs that a line names.
func (v *visit) texts(line string) (texts []string) {
	rest := line
	for rest != "" {
		m := repeated.FindStringSubmatch(rest)
		require.NotNil(v, m, "not a text in quotes: %s", rest)
		text, err := strconv.Unquote(m[1])
		require.NoError(v, err)
		if n, err := strconv.Atoi(m[2]); err == nil {
			text = strings.Repeat(text, n)
		}
		texts = append(texts, text)
		rest = rest[len(m[0]):]
	}
	require.NotEmpty(v, texts, "an input is missing")
	return texts
}
