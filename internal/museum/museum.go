// Package museum is what tests do with the plug-ins that were compiled once and are kept: abi/museum/README.md says what those are.
package museum

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
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

var record = flag.Bool("museum.record", false, "write the files inspect.txt and transcript.txt in abi/museum")

var ctx = context.Background()

// Module is how the file of an exhibit is named that is a WebAssembly module.
const Module = "any.wasm"

// Path is a path in the museum.
func Path(path ...string) string {
	return filepath.Join(append([]string{fixture.Root(), "abi", "museum"}, path...)...)
}

// Exhibits returns the folders of the museum. Those of the first release are there whatever comes.
func Exhibits(tb testing.TB) (names []string) {
	tb.Helper()
	entries, err := os.ReadDir(Path())
	require.NoError(tb, err)
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	require.Subset(tb, names, []string{"c-1.0", "rust-1.0", "c-1.1", "rust-1.1", "c-wasm-1.1", "rust-wasm-1.1"}, "exhibits are missing")
	return names
}

// Modules returns the exhibits that are there as a WebAssembly module: those in C, and one in Rust for each version since 1.1.
func Modules(tb testing.TB) (exhibits []string) {
	tb.Helper()
	for _, exhibit := range Exhibits(tb) {
		if _, err := os.Stat(Path(exhibit, Module)); err == nil {
			exhibits = append(exhibits, exhibit)
		}
	}
	require.Subset(tb, exhibits, []string{"c-1.0", "c-wasm-1.1", "rust-wasm-1.1"}, "modules are missing")
	return exhibits
}

// Compare compares a text with the recorded one in the museum, or records it where it may and that is asked for.
func Compare(tb testing.TB, may bool, path, found string) {
	tb.Helper()
	if *record && may {
		require.NoError(tb, os.WriteFile(path, []byte(found), 0o666))
	}
	recorded, err := os.ReadFile(path)
	require.NoError(tb, err)
	assert.Equal(tb, string(recorded), found, "it is not what %s says: an old plug-in does not get what it got", path)
}

// Facts are what a library says of itself, without what depends on the platform.
func Facts(lib *inspect.Library) string {
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

// Open opens the plug-in of a file.
type Open func(path string, opts ...loader.Option) (*loader.Plugin, error)

// visit is one run of an exhibit's transcript.
type visit struct {
	*transcript.Recording
	open  Open
	path  string
	views []*loader.View

	session *loader.Session    // nil where calls go to the plug-in
	cancel  context.CancelFunc // of the call in progress
}

// Play does what a transcript says with the plug-in at path, and returns the transcript as it comes out. What is done stands at the
// beginnings of lines; what came of it stands below, indented.
func Play(tb testing.TB, open Open, path, script string) string {
	v := &visit{Recording: &transcript.Recording{TB: tb}, open: open, path: path}
	defer v.close()
	transcript.Within(tb, func() {
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
		v.opens([]byte(v.texts(rest)[0]))
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

func (v *visit) opens(config []byte) {
	v.close()
	var err error
	v.Plugin, err = v.open(v.path, v.options(config)...)
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
		return v.open(v.path, append(v.options(config), loader.WithState(s))...)
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

func upper(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil }
