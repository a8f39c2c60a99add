package loader_test

import (
	"bytes"
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ebitengine/purego"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/internal/museum"
	"github.com/ferrule-dev/ferrule/internal/transcript"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/native/dl"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// Plug-ins and loaders of different versions: structs that end earlier, or later, than the other side knows (R21).

// ---- A host that knows less ----------------------------------------------------------------------------------------

// guest is a plug-in that meets such a host: its functions for some purposes, where it has them.
type guest struct {
	path                        func(testing.TB) string
	config                      string // for ferrule_start, if not empty
	echo, imports, logs, wanted string
	rust                        bool // the Rust SDK refuses what is shorter than the first version
	lib                         dl.Library
	state                       uintptr
}

func exhibit(name string) func(testing.TB) string {
	return func(tb testing.TB) string {
		path := museum.Path(name, runtime.GOOS+"-"+runtime.GOARCH+fixture.Ext())
		if _, err := os.Stat(path); err != nil {
			tb.Skipf("the museum has no %s of %s", filepath.Base(path), name)
		}
		return path
	}
}

var guests = map[string]*guest{
	"museum C": {path: exhibit("c-1.0"), config: "41", echo: "echo", imports: "upper", wanted: "wanted"},
	"museum Rust": {path: exhibit("rust-1.0"), config: "41", echo: "echo", imports: "ask_upper", wanted: "wanted",
		rust: true},
	"C SDK":     {path: transcript.Source{Kind: transcript.SDK, Name: "helpers.c"}.Built, echo: "reply", imports: "import_echo", logs: "log", wanted: "cancelled"},
	"C++ SDK":   {path: transcript.Source{Kind: transcript.SDK, Name: "entries.cpp"}.Built, config: "41", echo: "echo", imports: "import_echo", logs: "logs"},
	"Rust logs": {path: transcript.Source{Kind: transcript.Rust, Name: "logs"}.Built, logs: "levels", rust: true},
	"Rust":      {path: transcript.Source{Kind: transcript.Rust, Name: "imports"}.Built, echo: "pass", imports: "pass", rust: true},
}

// poison is what stands behind the ends of structs: no address, no length, no size.
const poison = ^uintptr(0) / 255 * 0xA5

// cut poisons a struct's members from size on; size is its first.
func cut(p any, size uintptr) {
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Offset >= size {
			v.Field(i).SetUint(uint64(poison))
		}
	}
	v.Field(0).SetUint(uint64(size))
}

// boundaries returns where a struct may end: before each of its members.
func boundaries[T any]() (sizes []uintptr) {
	for i := range reflect.TypeFor[T]().NumField() {
		sizes = append(sizes, reflect.TypeFor[T]().Field(i).Offset)
	}
	return sizes
}

// sizeOf is the size of all of a struct.
func sizeOf[T any]() uintptr { return reflect.TypeFor[T]().Size() }

func offset[T any](member string) uintptr {
	f, _ := reflect.TypeFor[T]().FieldByName(member)
	return f.Offset
}

// lesser is a host whose structs end early.
type lesser struct {
	frame, table uintptr // their sizes
	cancelled    bool
}

// lesserFrame is what such a host gives to a plug-in, with poison behind it.
type lesserFrame struct {
	abi.Call
	behind [6]uintptr
}

// Services of the lesser host: an import gives capital letters; those that came with version 1.1 have nothing to give.
var (
	lesserServices = sync.OnceValue(func() abi.Host {
		none := purego.NewCallback(func(_, _, _, _, _, _ uintptr) uintptr { return uintptr(abi.StatusUnsupported) })
		return abi.Host{LogFields: none, Info: none, Room: none, Read: none, Write: none, Next: none,
			Background: purego.NewCallback(func(uintptr) uintptr { return 0 }), Call: purego.NewCallback(func(_, request uintptr) uintptr {
				r := raw.Request(request)
				if r == nil {
					return uintptr(abi.StatusMisuse)
				}
				r.OutLen = r.InLen
				if r.InLen > r.OutCap {
					return uintptr(abi.StatusNoMemory)
				}
				copy(raw.Bytes(r.Out, int(r.OutCap)), bytes.ToUpper(raw.Bytes(r.In, int(r.InLen))))
				return 0
			}), Log: purego.NewCallback(func(_, _, _, _ uintptr) uintptr {
				lesserLines++
				return 0
			})}
	})
	lesserLines int // that were logged
)

// answer is what came of a call.
type answer struct {
	status abi.Status
	out    string
	lines  int
	state  uintptr
}

// call enters a symbol of the plug-in.
func (h lesser) call(t *testing.T, g *guest, symbol, in string) answer {
	t.Helper()
	fn, err := g.lib.Lookup(symbol)
	require.NoError(t, err)
	f, keep := h.newFrame(g.state, in)
	given := *f
	lesserLines = 0
	a := answer{status: cross.Enter(fn, &f.Call), lines: lesserLines, state: f.State}
	assert.Equal(t, given.behind, f.behind, "%s wrote behind the frame", symbol)
	v, w := reflect.ValueOf(given.Call), reflect.ValueOf(f.Call)
	for i := range v.NumField() {
		if m := v.Type().Field(i); m.Offset >= h.frame {
			assert.Equal(t, v.Field(i).Uint(), w.Field(i).Uint(), "%s wrote %s, behind the size", symbol, m.Name)
		}
	}
	if h.frame > offset[abi.Call]("Release") {
		a.out = string(raw.Bytes(f.Out, int(f.OutLen)))
		if f.Release != 0 {
			cross.Release(&f.Call)
		}
	}
	runtime.KeepAlive(keep)
	return a
}

// newFrame makes a frame for a call, and what keeps alive what it points to.
func (h lesser) newFrame(state uintptr, in string) (*lesserFrame, any) {
	type memory struct {
		table  abi.Host
		behind [6]uintptr
		word   uint32
		room   [4096]byte
		in     []byte
	}
	m := &memory{table: lesserServices(), in: []byte(in)}
	cut(&m.table, h.table)
	f := &lesserFrame{Call: abi.Call{State: state, Host: raw.AddrOf(&m.table), Cancel: raw.AddrOf(&m.word)}}
	cross.Fill(&f.Call, m.in, m.room[:])
	if h.cancelled {
		m.word = 1
	}
	for i := range f.behind {
		f.behind[i], m.behind[i] = poison, poison
	}
	cut(&f.Call, h.frame)
	return f, m
}

// meet loads the plug-in as a loader does, and starts it with all that there is.
func (g *guest) meet(t *testing.T) {
	path := g.path(t)
	info, err := loader.Inspect(path)
	require.NoError(t, err)
	g.lib, err = dl.Open(path)
	require.NoError(t, err)
	for i, s := range info.Imports { // as in R5: other tests may have loaded the same file
		slot, err := g.lib.Lookup("ferrule_import_" + s.Name)
		require.NoError(t, err)
		raw.SetUint32(slot, uint32(i))
	}
	whole := lesser{frame: sizeOf[abi.Call](), table: sizeOf[abi.Host]()}
	g.state = 0
	if g.config != "" {
		a := whole.call(t, g, abi.SymbolStart, g.config)
		require.Equal(t, abi.StatusOK, a.status, a.out)
		g.state = a.state
		t.Cleanup(func() { assert.Equal(t, abi.StatusOK, whole.call(t, g, abi.SymbolStop, "").status) })
	}
}

// withGuests runs a test with each plug-in that it is for; nil is all of them.
func withGuests(t *testing.T, isFor func(*guest) bool, test func(t *testing.T, g *guest)) {
	for name, g := range guests {
		if isFor != nil && !isFor(g) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if g.rust {
				fixture.NotMusl(t, "there are no plug-ins in Rust: those at hand are made for glibc")
			}
			g.meet(t)
			test(t, g)
		})
	}
}

// A loader that knows no more than version 1.0: what needs more is not to be had, and all else works. The Rust SDK refuses what is
// shorter than that (R21): a frame as a whole, the host's table where it is used; no host passes it.
func TestShortFrames(t *testing.T) {
	call, host := sizeOf[abi.Call](), sizeOf[abi.Host]()
	withGuests(t, nil, func(t *testing.T, g *guest) {
		for _, h := range []lesser{
			{frame: call, table: host},
			{frame: abi.CallSize10, table: host},
			{frame: call, table: abi.HostSize10},
			{frame: abi.CallSize10, table: abi.HostSize10},
			{frame: offset[abi.Call]("Cancel"), table: host},
			{frame: offset[abi.Call]("Host"), table: host},
		} {
			if !g.rust && h.frame < abi.CallSize10 {
				continue
			}
			h.cancelled = true // where there is a word that says so
			t.Run(strconv.Itoa(int(h.frame))+" "+strconv.Itoa(int(h.table)), func(t *testing.T) {
				if h.frame < abi.CallSize10 {
					for _, fn := range []string{g.echo, g.imports, g.logs, g.wanted} {
						if fn != "" {
							a := h.call(t, g, "ferrule_fn_"+fn, "ada")
							assert.Equal(t, answer{status: abi.StatusMisuse, state: g.state}, a, fn)
						}
					}
					return
				}
				if g.echo != "" && g.echo != g.imports {
					assert.Equal(t, answer{out: "ada", state: g.state}, h.call(t, g, "ferrule_fn_"+g.echo, "ada"))
				}
				if g.imports != "" {
					assert.Equal(t, answer{out: "ADA", state: g.state}, h.call(t, g, "ferrule_fn_"+g.imports, "ada"))
				}
				if g.logs != "" {
					a := h.call(t, g, "ferrule_fn_"+g.logs, "ada")
					assert.Equal(t, abi.StatusOK, a.status, a.out)
					assert.Positive(t, a.lines)
				}
				if g.wanted != "" {
					a := h.call(t, g, "ferrule_fn_"+g.wanted, "")
					assert.Equal(t, abi.StatusCancelled, a.status, a.out)
				}
			})
		}
	})
}

// Instances start and stop, and say less, under a host that offers less.
func TestShortFramesStart(t *testing.T) {
	withGuests(t, func(g *guest) bool { return g.config != "" }, func(t *testing.T, g *guest) {
		for _, h := range []lesser{
			{frame: abi.CallSize10, table: abi.HostSize10},
			{frame: offset[abi.Call]("Cancel"), table: sizeOf[abi.Host]()},
			{frame: offset[abi.Call]("Host"), table: sizeOf[abi.Host]()},
		} {
			if !g.rust && h.frame < abi.CallSize10 {
				continue
			}
			logs := h.table > offset[abi.Host]("Log") && h.frame > offset[abi.Call]("Host")
			own := *g
			own.state = 0
			a := h.call(t, &own, abi.SymbolStart, g.config)
			if h.frame < abi.CallSize10 {
				assert.Equal(t, answer{status: abi.StatusMisuse}, a)
				a = h.call(t, g, abi.SymbolStop, "")
				assert.Equal(t, answer{status: abi.StatusMisuse, state: g.state}, a, "the instance is as it was")
				continue
			}
			require.Equal(t, abi.StatusOK, a.status, a.out)
			assert.Equal(t, logs, a.lines == 1, "%d lines", a.lines)
			require.NotZero(t, a.state)
			own.state = a.state
			a = h.call(t, &own, abi.SymbolStop, "")
			assert.Equal(t, abi.StatusOK, a.status, a.out)
		}
	})
}

// A frame that ends before any member of version 1.0, size and all, is refused by the Rust SDK, which looks at no
// other member then; one that has no later members is not. Plug-ins in C have no place where it could be done for them.
func TestShortFramesRefused(t *testing.T) {
	withGuests(t, func(g *guest) bool { return g.rust }, func(t *testing.T, g *guest) {
		for _, size := range boundaries[abi.Call]() {
			h := lesser{frame: size, table: sizeOf[abi.Host]()}
			a := h.call(t, g, "ferrule_fn_"+cmp.Or(g.echo, g.logs), "ada")
			want := abi.StatusMisuse
			if size >= abi.CallSize10 {
				want = abi.StatusOK
			}
			assert.Equal(t, want, a.status, "a frame of %d bytes", size)
		}
	})
}

// ferrule_batch refuses its own argument when that ends early (R19, R21), and runs records whose frames do.
func TestShortBatches(t *testing.T) {
	echoes := func(g *guest) bool { return g.echo != "" && g.echo != g.imports }
	withGuests(t, echoes, func(t *testing.T, g *guest) {
		batch, err := g.lib.Lookup(abi.SymbolBatch)
		require.NoError(t, err)
		echo, err := g.lib.Lookup("ferrule_fn_" + g.echo)
		require.NoError(t, err)
		run := func(frames, record uintptr) (abi.Status, *[2]abi.Status, *[2]lesserFrame) {
			h := lesser{frame: record, table: sizeOf[abi.Host]()}
			first, keepFirst := h.newFrame(g.state, "ada")
			second, keepSecond := h.newFrame(g.state, "byron")
			calls, statuses := &[2]lesserFrame{*first, *second}, &[2]abi.Status{-7, -7}
			f := &abi.Frames{Fn: echo, Calls: raw.AddrOf(&calls[0]), Stride: sizeOf[lesserFrame](), Count: 2,
				Statuses: raw.AddrOf(&statuses[0])}
			cut(f, frames)
			given := *f
			status := cross.Batch(batch, f)
			runtime.KeepAlive([]any{keepFirst, keepSecond, calls, statuses})
			given.Done = f.Done // is the plug-in's to write, where it knows of it
			assert.Equal(t, given, *f)
			if frames <= offset[abi.Frames]("Done") {
				assert.Equal(t, poison, f.Done, "done was written, which the host does not know")
			} else {
				assert.Equal(t, uintptr(2), f.Done)
			}
			return status, statuses, calls
		}
		for _, size := range boundaries[abi.Frames]() {
			status, statuses, _ := run(size, sizeOf[abi.Call]())
			assert.Equal(t, abi.StatusMisuse, status, "ferrule_frames of %d bytes", size)
			assert.Equal(t, [2]abi.Status{-7, -7}, *statuses, "no record ran")
		}
		for _, size := range []uintptr{sizeOf[abi.Call](), abi.CallSize10, offset[abi.Call]("Cancel"), offset[abi.Call]("Host")} {
			if !g.rust && size < abi.CallSize10 {
				continue
			}
			status, statuses, calls := run(sizeOf[abi.Frames](), size)
			assert.Equal(t, abi.StatusOK, status)
			if size < abi.CallSize10 {
				assert.Equal(t, [2]abi.Status{abi.StatusMisuse, abi.StatusMisuse}, *statuses, "each is refused")
				continue
			}
			assert.Equal(t, [2]abi.Status{}, *statuses)
			for i, want := range []string{"ada", "byron"} {
				assert.Equal(t, want, string(raw.Bytes(calls[i].Out, int(calls[i].OutLen))))
				assert.Zero(t, calls[i].Release, "there was room")
			}
		}
	})
}

// ---- This loader ---------------------------------------------------------------------------------------------------

// A plug-in that was built for a later version finds that this loader does not know the members that came later, and
// does without. Its requests, which are longer, are served, up to what this version knows; shorter ones than those of the
// first version are refused, before anything of them is used (R21).
func TestFrameSizes(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "frame_sizes"), loader.WithHostFunc("upper", upper))
		call(t, p, "today", "")
		later := []string{"priority", "progress", "priorities"}
		f, err := p.Func("today")
		require.NoError(t, err)
		var b loader.Batch
		require.NoError(t, f.Batch(ctx, [][]byte{{}, {}}, &b))
		require.NoError(t, b.Err())
		for _, fn := range later {
			_, err := p.Call(ctx, fn, nil)
			assert.ErrorIs(t, err, loader.ErrUnsupported, fn)
		}
		for _, size := range boundaries[abi.Request]() {
			if size < offset[abi.Request]("In") {
				continue // without a size there is nothing to read
			}
			_, err := p.Call(ctx, "request", strconv.AppendUint(nil, uint64(size), 10))
			assert.ErrorIs(t, err, loader.ErrMisuse, "a request of %d bytes", size)
		}
		whole, word := sizeOf[abi.Request](), sizeOf[uintptr]()
		for _, size := range []uintptr{whole, whole + 1, whole + word, whole + 2*word} {
			assert.Equal(t, "ADA", call(t, p, "request", strconv.Itoa(int(size))), "a request of %d bytes", size)
		}
	})
}

// headers are ferrule.h as an earlier and a later version might have it: without members that stand at the ends of
// structs, and with more of them there. A request that ends earlier is refused (R21), and ferrule_frames has no member
// that a batch could do without.
var headers = map[string]func(t *testing.T, header string) string{
	"earlier": func(t *testing.T, header string) string {
		for _, gone := range []string{
			`\n    const uint32_t \*cancel;`,
			`\n    int32_t \(\*log\)\(ferrule_call \*call, [^;]*;`,
			`(?s)    if \(!FERRULE_HAS\(call, cancel\).*?#endif\n`, // of ferrule_cancelled
		} {
			re := regexp.MustCompile(gone)
			require.Len(t, re.FindAllString(header, -1), 1, "ferrule.h has changed: %s", gone)
			header = re.ReplaceAllString(header, "")
		}
		return strings.Replace(header, "ferrule_cancelled(const ferrule_call *call) {\n",
			"ferrule_cancelled(const ferrule_call *call) {\n    (void)call;\n    return 0;\n", 1)
	},
	"later": func(t *testing.T, header string) string {
		structs := regexp.MustCompile(`(?s)(\nstruct ferrule_\w+ \{\n.*?)\n\};`)
		require.Len(t, structs.FindAllString(header, -1), 4, "ferrule.h has changed")
		return structs.ReplaceAllString(header, "$1\n    void (*later)(void);\n    uint64_t more[5];\n};")
	},
}

// The same sources, compiled with such a header, do on this loader what they do with today's: the museum's what its
// frozen transcript says.
func TestOtherHeaders(t *testing.T) {
	compiler := strings.Fields(cmp.Or(os.Getenv("CC"), "cc"))
	fixture.Tool(t, compiler[0], "apt-get install gcc")
	today, err := os.ReadFile(filepath.Join(fixture.Root(), "include", "ferrule.h"))
	require.NoError(t, err)
	c := func(name string) string { return filepath.Join(fixture.Root(), "internal", "fixture", "c", name+".c") }
	for name, edit := range headers {
		t.Run(name, func(t *testing.T) {
			include := t.TempDir()
			header := edit(t, string(today))
			require.NotEqual(t, string(today), header)
			require.NoError(t, os.WriteFile(filepath.Join(include, "ferrule.h"), []byte(header), 0o666))
			build := func(t *testing.T, source string) string {
				out := filepath.Join(include, filepath.Base(source)+fixture.Ext())
				args := append(compiler[1:len(compiler):len(compiler)], "-shared", "-fPIC", "-std=gnu11", "-O1",
					"-I", include, "-I", filepath.Join(fixture.Root(), "sdk-c", "include"), "-o", out, source)
				text, err := exec.Command(compiler[0], args...).CombinedOutput()
				require.NoError(t, err, "%s", text)
				return out
			}
			sources := []string{"echo", "state"}
			if name == "later" {
				sources = append(sources, "host")
			}
			for _, source := range sources {
				t.Run(source, func(t *testing.T) {
					path := build(t, c(source))
					for _, script := range transcript.Table {
						if script.Name != source {
							continue
						}
						built := script.Library.Built(t) // skips or fails where fixtures cannot be built
						bothWays(t, func(t *testing.T, w way) {
							now := script.Record(t, w.try, tempLibrary(t, built))
							other := script.Record(t, w.try, tempLibrary(t, path))
							require.NotZero(t, now.Calls)
							assert.Equal(t, now.Lines, other.Lines)
						})
					}
				})
			}
			if name == "later" {
				t.Run("museum", func(t *testing.T) {
					path := build(t, museum.Path("c-1.0", "plugin.c"))
					script, err := os.ReadFile(museum.Path("c-1.0", "transcript.txt"))
					require.NoError(t, err)
					bothWays(t, func(t *testing.T, w way) {
						assert.Equal(t, string(script), museum.Play(t, w.try, path, string(script)))
					})
				})
			}
		})
	}
}
