package loader_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

var needed = loader.WithHostFunc("needed", func(context.Context, []byte) ([]byte, error) { return nil, nil })

func openServices(t testing.TB, w way, opts ...loader.Option) *loader.Plugin {
	t.Helper()
	return w.open(t, fixture.C(t, "services"), append([]loader.Option{needed}, opts...)...)
}

func function(t testing.TB, p *loader.Plugin, name string) *loader.Func {
	t.Helper()
	f, err := p.Func(name)
	require.NoError(t, err)
	return f
}

// A plug-in that passes is no failure (R22): Try gives the status with its message, Append an error that is ErrPass.
func TestPass(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		f := function(t, p, "pass")
		for _, c := range []struct{ in, message string }{{"", ""}, {"x", "not today"}} {
			out, status, err := f.Try(ctx, []byte("before "), []byte(c.in))
			require.NoError(t, err)
			assert.Equal(t, abi.StatusPass, status)
			assert.Equal(t, "before "+c.message, string(out))
			_, err = f.Call(ctx, []byte(c.in))
			require.ErrorIs(t, err, loader.ErrPass)
			assert.NotErrorIs(t, err, loader.ErrFailed)
			var call *loader.CallError
			require.ErrorAs(t, err, &call)
			assert.Equal(t, c.message, call.Message)
		}
		h, err := p.Hook("pass")
		require.NoError(t, err)
		var b loader.Batch
		require.NoError(t, h.Batch(ctx, [][]byte{nil, nil}, &b))
		_, err = b.Result(1)
		assert.ErrorIs(t, err, loader.ErrPass)

		out, status, err := function(t, p, "ordinals").Try(ctx, nil, nil)
		require.NoError(t, err)
		assert.Equal(t, abi.StatusOK, status)
		assert.Equal(t, "0 1 2", string(out), "imports come first, then wants, each sorted")
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		_, _, err = f.Try(cancelled, nil, nil)
		assert.ErrorIs(t, err, context.Canceled)
	})
}

// Try on what was declined allocates nothing.
func TestTryDoesNotAllocate(t *testing.T) {
	p := openServices(t, inProcess)
	h, err := p.Hook("pass")
	require.NoError(t, err)
	dst := make([]byte, 0, 64)
	assert.EqualValues(t, portableAllocs, testing.AllocsPerRun(1000, func() {
		if _, status, err := h.Try(ctx, dst, nil); status != abi.StatusPass || err != nil {
			t.Fatal(status, err)
		}
	}))
}

// Two opens of one file, at the same time, one with what the plug-in wants and one without (R23).
func TestWants(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		upper := loader.WithHostFunc("upper", func(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil })
		with, without := openServices(t, w, upper), openServices(t, w)
		assert.Equal(t, []string{"again", "upper"}, []string{with.Info().Wants[0].Name, with.Info().Wants[1].Name})
		if !w.inGo { // which says nothing of them
			assert.Equal(t, "Turns letters to upper case.", with.Info().Wants[1].Doc)
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 50 {
					out, err := with.Call(ctx, "upper", []byte("a text that needs more room"))
					assert.NoError(t, err)
					assert.Equal(t, "A TEXT THAT NEEDS MORE ROOM", string(out))
				}
			})
			all.Go(func() {
				for range 50 {
					_, err := without.Call(ctx, "upper", []byte("text"))
					assert.ErrorIs(t, err, loader.ErrUnsupported)
				}
			})
		}
		all.Wait()
		_, err := with.Call(ctx, "again", nil)
		assert.ErrorIs(t, err, loader.ErrUnsupported)
		for p, offers := range map[*loader.Plugin]string{with: "yes", without: "no"} {
			assert.Equal(t, offers, call(t, p, "info", "offers.upper"))
			assert.Equal(t, "yes", call(t, p, "info", "offers.needed"))
			_, err := p.Call(ctx, "info", []byte("offers.nobody"))
			assert.ErrorIs(t, err, loader.ErrUnsupported)
		}
	})
}

// What a plug-in gets to know (R26), whoever sets it, and what it does not.
func TestInfo(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		folder := t.TempDir()
		path := fixture.C(t, "services")
		abs, err := filepath.Abs(path)
		require.NoError(t, err)
		long := strings.Repeat("long ", 30000)
		p := openServices(t, w, loader.WithDataFolder(folder), loader.WithPluginInfo("shop.name", "Ada's"), loader.WithPluginInfo("shop.long", long))
		assert.Equal(t, filepath.Dir(abs), call(t, p, "info", "path"))
		assert.Equal(t, folder, call(t, p, "info", "data"))
		assert.Equal(t, "0", call(t, p, "info", "instance"))
		assert.Equal(t, "Ada's", call(t, p, "info", "shop.name"))
		assert.Equal(t, long, call(t, p, "info", "shop.long"), "more room is needed")

		asked := func(ctx context.Context, key string) (string, error) {
			out, err := p.Call(ctx, "info", []byte(key))
			return string(out), err
		}
		const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		mine := loader.WithInfo(loader.WithInfo(ctx, "shop.name", "Bob's"), loader.TraceParent, trace)
		for key, want := range map[string]string{"shop.name": "Bob's", "traceparent": trace} {
			got, err := asked(mine, key)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		}
		late, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		got, err := asked(late, "remaining")
		require.NoError(t, err)
		ns, err := strconv.ParseInt(got, 10, 64)
		require.NoError(t, err)
		assert.InDelta(t, time.Hour, time.Duration(ns), float64(time.Minute))
		if w.isolated {
			limited, err := loader.Open(path, needed, isolate.InWorker(isolate.WithEnv(workerEnv...)), loader.WithCallTimeout(time.Minute))
			require.NoError(t, err)
			defer limited.Close()
			for _, ctx := range []context.Context{ctx, late} {
				out, err := limited.Call(ctx, "info", []byte("remaining"))
				require.NoError(t, err)
				ns, err := strconv.ParseInt(string(out), 10, 64)
				require.NoError(t, err)
				assert.InDelta(t, 50*time.Second, time.Duration(ns), float64(10*time.Second), "the limit is what it has")
			}
		}
		for _, key := range []string{"remaining", "traceparent", "shop.unknown", "unknown", "offers.", "Path"} {
			_, err := asked(ctx, key)
			assert.ErrorIs(t, err, loader.ErrUnsupported, key)
		}
		for _, key := range []string{"", "\xff", strings.Repeat("k", 257)} {
			_, err := asked(ctx, key)
			assert.ErrorIs(t, err, loader.ErrMisuse, "%q", key)
		}
		for key, want := range map[string]string{"shop.name": "Ada's", "instance": "0", "offers.upper": "no"} { // in ferrule_start
			assert.Equal(t, want, call(t, openServices(t, w, loader.WithPluginInfo("shop.name", "Ada's"), loader.WithConfig([]byte("asks "+key))), "config", ""))
		}
		_, err = w.try(path, needed, loader.WithConfig([]byte("asks shop.name")))
		assert.ErrorIs(t, err, loader.ErrUnsupported)
		s, err := p.NewSession(loader.WithInfo(ctx, "shop.name", "Eve's"), []byte("asks shop.name"))
		require.NoError(t, err)
		defer s.Close()
		out, err := s.Call(ctx, "config", nil)
		require.NoError(t, err)
		assert.Equal(t, "Eve's", string(out), "a session's start knows the context that it is made with")
		_, err = openServices(t, w).Call(ctx, "info", []byte("data"))
		assert.ErrorIs(t, err, loader.ErrUnsupported)
	})
}

// What is wrong with a key or a value is said, by WithPluginInfo's error and by WithInfo's panic.
func TestInfoOptions(t *testing.T) {
	path := fixture.C(t, "services")
	for _, c := range []struct{ key, value, says string }{
		{"", "x", `the key "", which has no dot`},
		{"tenant", "x", `the key "tenant", which has no dot, as the contract's own keys, expected a name with a dot, such as "shop.tenant", or loader.TraceParent`},
		{"remaining", "x", `the key "remaining", which has no dot, as the contract's own keys, expected a name with a dot`},
		{"offers.x", "yes", `the key "offers.x", which the contract has for what the host offers, expected one that does not begin with "offers."`},
		{"a.\xff", "x", `the key "a.\xff", expected UTF-8`},
		{"a." + strings.Repeat("b", 300), "x", "a key of 302 bytes, expected 256 at most"},
		{"a.b", "\xff", `the value "\xff", expected UTF-8`},
	} {
		_, err := loader.Open(path, needed, loader.WithPluginInfo(c.key, c.value))
		assert.ErrorIs(t, err, loader.ErrOption, "%q", c.key)
		assert.ErrorContains(t, err, "found WithPluginInfo with "+c.says, "%q", c.key)
		func() {
			defer func() { assert.Contains(t, recover(), "loader.WithInfo with "+c.says, "%q", c.key) }()
			loader.WithInfo(ctx, c.key, c.value)
		}()
	}
	_, err := loader.Open(path, needed, loader.WithPluginInfo("a.b", "1"), loader.WithPluginInfo("a.b", "2"))
	assert.ErrorIs(t, err, loader.ErrOption)
	assert.ErrorContains(t, err, `the key "a.b" twice, expected each key once`)
	longest := "a." + strings.Repeat("b", 254)
	for _, key := range []string{"a.b", "a.offers.b", "offers_of.x", loader.TraceParent, longest} {
		p := openServices(t, inProcess, loader.WithPluginInfo(key, "known"))
		assert.Equal(t, "known", call(t, p, "info", key))
	}
}

// A data folder that is none is refused before anything of the plug-in runs.
func TestDataFolder(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	allWays(t, func(t *testing.T, w way) {
		for path, says := range map[string]string{
			"":                               "an absolute path, in UTF-8",
			"relative":                       "an absolute path, in UTF-8",
			filepath.Join(folder, "missing"): "where there is nothing, expected a folder that is there. Make the folder before Open",
			file:                             "which is no folder, expected a folder that is there",
		} {
			_, err := w.try(fixture.C(t, "services"), needed, loader.WithDataFolder(path))
			var open *loader.OpenError
			require.ErrorAs(t, err, &open, path)
			assert.ErrorIs(t, err, loader.ErrOption, path)
			assert.ErrorContains(t, err, fmt.Sprintf("found WithDataFolder with %q", path))
			assert.ErrorContains(t, err, says)
			assertSentence(t, open)
		}
		assert.Equal(t, folder, call(t, openServices(t, w, loader.WithDataFolder(folder)), "info", "data"))
	})
}

// The fields of a line are attributes (R31), whatever they hold; none passes for the plug-in's name.
func TestLogFields(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		var lines bytes.Buffer
		p := openServices(t, w, loader.WithLogger(slog.New(slog.NewJSONHandler(&lines, nil))))
		large := strings.Repeat("v", 1<<20)
		for _, c := range []struct {
			fields string
			want   map[string]any
		}{
			{"", map[string]any{}},
			{"user=ada\x00n=7\x00", map[string]any{"user": "ada", "n": "7"}},
			{"open=at the end", map[string]any{"open": "at the end"}},
			{"none\x00=\x00a=b=c\x00", map[string]any{"none": "", "": "", "a": "b=c"}},
			{"plugin=other\x00", map[string]any{"field.plugin": "other"}},
			{"bad\xff=\xfe\x00", map[string]any{"bad\uFFFD": "\uFFFD"}},
			{"large=" + large + "\x00", map[string]any{"large": large}},
			{strings.Repeat("k=v\x00", 1000), map[string]any{"k": "v", "left out": "fields from here on: a line has 256 fields of 4194304 bytes at most"}},
			{"k=" + strings.Repeat("v", 4<<20-3) + "\x00more=v\x00", map[string]any{"k": strings.Repeat("v", 4<<20-3), "left out": "fields from here on: a line has 256 fields of 4194304 bytes at most"}},
			{"k=v\x00cut=" + strings.Repeat(large, 5) + "\x00more=v\x00", map[string]any{"k": "v", "left out": "fields from here on: a line has 256 fields of 4194304 bytes at most"}},
		} {
			lines.Reset()
			_, err := p.Call(ctx, "log_fields", []byte("a line\x00"+c.fields))
			require.NoError(t, err)
			var line map[string]any
			require.NoError(t, json.Unmarshal(lines.Bytes(), &line), lines.String())
			assert.Equal(t, "a line", line["msg"])
			assert.Equal(t, "services", line["plugin"])
			for _, key := range []string{"msg", "plugin", "time", "level"} {
				delete(line, key)
			}
			assert.Equal(t, c.want, line)
		}
	})
}

// Fields that a worker's host does not take are left out, and one says so in their place; the line stays.
func TestFieldsLeftOut(t *testing.T) {
	for text, fields := range map[string]int{strings.Repeat("x", 900): 200, "short": 100_000} { // too much for the host; too much to be handed over
		var lines bytes.Buffer
		p := openServices(t, way{isolated: true, group: isolate.NewGroup("few", isolate.WithMaxMessage(1000), isolate.WithEnv(workerEnv...), isolate.WithGrace(patience))},
			loader.WithLogger(slog.New(slog.NewJSONHandler(&lines, nil))))
		_, err := p.Call(ctx, "log_fields", []byte(text+"\x00k="+strings.Repeat("v", fields-2)))
		require.NoError(t, err)
		var line map[string]any
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line), lines.String())
		assert.Equal(t, text, line["msg"])
		assert.Equal(t, fmt.Sprintf("all fields: the line and its fields, which have %d bytes, are longer than the host takes", fields), line["left out"])
		assert.NotContains(t, line, "k")
	}
}

// A line without end is cut.
func TestLongLine(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		var lines bytes.Buffer
		p := openServices(t, w, loader.WithLogger(slog.New(slog.NewJSONHandler(&lines, nil))))
		_, err := p.Call(ctx, "log_fields", append(bytes.Repeat([]byte("x"), 5<<20), 0))
		require.NoError(t, err)
		var line map[string]any
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
		assert.Len(t, line["msg"], 4<<20)
		assert.Contains(t, line["msg"], "x … (cut: it has 5242880 bytes)")
	})
}

// What a plug-in says in an error is the caller's whole, and the error's text has so much of it as can be shown: it is logged, and wrapped.
func TestLongMessage(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		said := strings.Repeat("\x1b", 8<<20)
		_, err := p.Call(ctx, "fail", []byte(said))
		var e *loader.CallError
		require.ErrorAs(t, err, &e)
		assert.True(t, e.Message == said)
		assert.Less(t, len(err.Error()), 300<<10)
		assert.Contains(t, err.Error(), `\x1b … (cut: it has 8388608 bytes)`)
	})
}

// The cause of an error has the same measure, where the plug-in's words repeat it, too, and so has what a codec says of what it gave.
func TestLongCause(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		long := strings.Repeat("9", 8<<20)
		canceled, cancel := context.WithCancelCause(ctx)
		cancel(errors.New(long))
		_, err := p.Call(canceled, "echo", nil)
		var e *loader.CallError
		require.ErrorAs(t, err, &e)
		assert.Less(t, len(err.Error()), 150<<10)
		assert.Contains(t, err.Error(), "99 … (cut: it has ")

		_, err = loader.CallJSON[json.RawMessage, int](ctx, p, "echo", json.RawMessage(long))
		var codec *loader.CodecError
		require.ErrorAs(t, err, &codec)
		assert.Less(t, len(err.Error()), 150<<10)
	})
	for _, err := range []error{&loader.ShutdownError{Cause: errors.New(strings.Repeat("9", 8<<20))}, &loader.DeadlineError{Cause: errors.New(strings.Repeat("9", 8<<20))}} {
		assert.Less(t, len(err.Error()), 150<<10)
		assert.Contains(t, err.Error(), "(cut: it has 8388608 bytes)")
	}
}

// A wrapper runs what stands behind it (R33), which is its call's alone.
func TestNext(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w, loader.WithHostFunc("upper", func(ctx context.Context, in []byte) ([]byte, error) {
			h, err := function(t, plugins.get("next"), "next").Call(ctx, in)
			return h, err
		}))
		plugins.set("next", p)
		h, err := p.Hook("around")
		require.NoError(t, err)
		assert.Equal(t, "yes", p.Info().Hooks[indexOf(p.Info().Hooks, "around")].Keys.Get("wrap"))
		runs := 0
		behind := loader.WithNext(ctx, func(_ context.Context, in []byte) ([]byte, error) {
			runs++
			if string(in) == "no" {
				return nil, fmt.Errorf("not behind: %w", loader.ErrInvalid)
			}
			return []byte("behind " + string(in)), nil
		})
		out, err := h.Call(behind, []byte("it"))
		require.NoError(t, err)
		assert.Equal(t, "behind it", string(out))
		_, err = h.Call(behind, []byte("no"))
		require.ErrorIs(t, err, loader.ErrInvalid)
		assert.ErrorContains(t, err, "not behind")
		_, err = h.Call(ctx, nil)
		assert.ErrorIs(t, err, loader.ErrUnsupported)
		_, err = p.Call(behind, "upper", []byte("it"))
		assert.ErrorIs(t, err, loader.ErrUnsupported, "what a host function calls has nothing behind it")
		assert.Equal(t, 2, runs)

		panics := loader.WithNext(ctx, func(context.Context, []byte) ([]byte, error) { panic("on the way") })
		_, err = h.Call(panics, nil)
		require.ErrorIs(t, err, loader.ErrFailed)
		assert.ErrorContains(t, err, "what stands behind the wrapper panicked: on the way")
	})
}

// plugins are those that host functions of a test call.
var plugins registry

type registry struct {
	mu   sync.Mutex
	list map[string]*loader.Plugin
}

func (r *registry) get(name string) *loader.Plugin {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list[name]
}

func (r *registry) set(name string, p *loader.Plugin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list == nil {
		r.list = make(map[string]*loader.Plugin)
	}
	r.list[name] = p
}

// A call says how far it is (R30), to who asked, and until it ends.
func TestProgress(t *testing.T) {
	t.Parallel() // it waits
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		unwatched := "unwatched"
		if w.inGo { // which does not know
			unwatched = "watched"
		}
		assert.Equal(t, unwatched, call(t, p, "progress", ""))
		var mu sync.Mutex
		var told [][2]uint64
		over := false
		watched := loader.WithProgress(ctx, func(done, total uint64) {
			mu.Lock()
			defer mu.Unlock()
			assert.False(t, over, "told when the call was over")
			told = append(told, [2]uint64{done, total})
		})
		between := 0                           // calls that were told of before they ended, which a busy machine may be too late for
		for tries := 0; between < 2; tries++ { // the second time with a context that is known
			told, over = nil, false
			out, err := p.Call(watched, "progress", nil)
			mu.Lock()
			over = true
			mu.Unlock()
			require.NoError(t, err)
			assert.Equal(t, "watched", string(out))
			require.NotEmpty(t, told)
			assert.Equal(t, [2]uint64{500, 500}, told[len(told)-1])
			if len(told) > 1 {
				assert.Less(t, told[0][0], uint64(500))
				between++
			}
			require.Less(t, tries, 20)
		}
		assert.Equal(t, unwatched, call(t, p, "progress", ""), "the next call is nobody's concern")
		var b loader.Batch
		require.NoError(t, function(t, p, "progress").Batch(watched0(&told), [][]byte{nil}, &b))
		out, err := b.Result(0)
		require.NoError(t, err)
		assert.Equal(t, "watched", string(out))
		v, err := function(t, p, "progress").View(watched0(&told), nil)
		require.NoError(t, err)
		assert.Equal(t, "watched", string(v.Bytes()))
		v.Release()
	})
}

func watched0(told *[][2]uint64) context.Context {
	return loader.WithProgress(ctx, func(done, total uint64) { *told = append(*told, [2]uint64{done, total}) })
}

func expectedRoom(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

// Long results in room that the plug-in asked for (R25), by each way to call, and what breaks R8.
func TestRoom(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		f := function(t, p, "room")
		for _, n := range []int{0, 1, 4095, 4096, 4097, 70_000, 1 << 20, 3<<20 + 1} {
			in := []byte(strconv.Itoa(n))
			want := expectedRoom(n)
			out, err := f.Append(ctx, []byte("before"), in)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(append([]byte("before"), want...), out), "%d bytes behind others", n)
			out, err = f.Call(ctx, in)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, out), n)
			out, err = f.Append(ctx, make([]byte, 0, n), in)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, out), n)
			v, err := f.View(ctx, in)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, v.Bytes()), n)
			v.Release()
		}
		var b loader.Batch
		sizes := []int{10, 100_000, 0, 5000, 200_000, 7}
		var in [][]byte
		for range 3 {
			for _, n := range sizes {
				in = append(in, []byte(strconv.Itoa(n)))
			}
		}
		require.NoError(t, f.Batch(ctx, in, &b))
		require.Equal(t, len(in), b.Len())
		for i := range in {
			out, err := b.Result(i)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(expectedRoom(sizes[i%len(sizes)]), out), "record %d", i)
		}
		text := strings.Repeat("growing ", 1000)
		assert.Equal(t, strings.Repeat(text, 10), call(t, p, "room_grows", text))
		assert.Equal(t, "own", call(t, p, "room_own", ""))
		out, err := function(t, p, "room_unused").Append(ctx, make([]byte, 0, 16), nil)
		require.NoError(t, err)
		assert.Equal(t, "ok", string(out))
		_, err = p.Call(ctx, "room_beyond", nil)
		var broken *loader.ContractError
		require.ErrorAs(t, err, &broken)
		assert.Equal(t, "R8", broken.Rule)
		_, err = p.Call(ctx, "room", []byte("9000000000000000000"))
		assert.ErrorIs(t, err, loader.ErrNoMemory)
		assert.True(t, bytes.Equal(expectedRoom(5000), []byte(call(t, p, "room", "5000"))), "and all is well")
	})
}

// A result in room is read where the plug-in wrote it: what it changes there afterwards, a View shows. Append has made one copy isolated, and none in
// this process, where the room itself is the result.
func TestRoomIsNotCopied(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := openServices(t, w)
		v, err := function(t, p, "room_kept").View(ctx, nil)
		require.NoError(t, err)
		require.Equal(t, byte('a'), v.Bytes()[1<<19])
		call(t, p, "room_change", "")
		assert.Equal(t, byte('b'), v.Bytes()[1<<19], "it is the same memory")
		v.Release()

		f := function(t, p, "room_kept")
		out, err := f.Append(ctx, nil, nil)
		require.NoError(t, err)
		call(t, p, "room_change", "")
		want := byte('b')
		if w.isolated {
			want = 'a'
		}
		assert.Equal(t, want, out[1<<19])

		if raceDetector {
			return // which allocates, too
		}
		const rounds = 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			if _, err := f.Append(ctx, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		assert.InDelta(t, 1<<20, float64(after.TotalAlloc-before.TotalAlloc)/rounds, 1<<18, "bytes allocated for a result of 1 MiB")
	})
}

// A plug-in that does something while no call runs (R27) reaches its host until stop has joined its threads.
func TestBetweenCalls(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		var mu sync.Mutex
		var ticks []string
		enough := make(chan struct{})
		host := loader.WithHostFunc("needed", func(ctx context.Context, in []byte) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if ticks = append(ticks, string(in)); len(ticks) == 20 {
				close(enough)
			}
			return nil, nil
		})
		var lines bytes.Buffer
		p, err := w.try(fixture.C(t, "services"), host, loader.WithConfig([]byte("between")), loader.WithPluginInfo("shop.name", "Adas"), loader.WithLogger(slog.New(slog.NewTextHandler(&lines, nil))))
		require.NoError(t, err)
		select {
		case <-enough:
		case <-time.After(time.Minute):
			require.Fail(t, "nothing came between calls")
		}
		assert.Equal(t, "none", call(t, p, "background", ""), "outside of start there is none")
		require.NoError(t, p.Close())
		mu.Lock()
		defer mu.Unlock()
		for i, tick := range ticks {
			assert.Equal(t, fmt.Sprintf("tick %d", i+1), tick)
		}
		assert.Contains(t, lines.String(), "msg=Adas", "it knows what the application says")
		assert.Contains(t, lines.String(), "msg=joins", "and it may say so in the end")
	})
}

// The host may close at any moment, also while a host function runs that was called between calls, and when start fails.
func TestBetweenCallsCloses(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		for range w.rounds(20, 3) {
			p, err := w.try(fixture.C(t, "services"), needed, loader.WithConfig([]byte("between")), loader.WithInstances(2))
			require.NoError(t, err)
			require.NoError(t, p.Close())
		}
		entered := make(chan struct{}, 100)
		host := loader.WithHostFunc("needed", func(ctx context.Context, _ []byte) ([]byte, error) {
			entered <- struct{}{}
			<-ctx.Done() // it ends before stop waits for the thread
			return nil, ctx.Err()
		})
		p, err := w.try(fixture.C(t, "services"), host, loader.WithConfig([]byte("between")))
		require.NoError(t, err)
		<-entered
		require.NoError(t, p.Close())
	})
}

// An instance that panicked has what it does between calls stopped, and begun anew; meanwhile a call of its own threads that needs it fails.
func TestBetweenCallsRenewed(t *testing.T) {
	allWays(t, func(t *testing.T, w way) {
		started := make(chan string, 1000)
		host := loader.WithHostFunc("needed", func(ctx context.Context, in []byte) ([]byte, error) {
			started <- string(in)
			_, err := plugins.get("between").Call(ctx, "config", nil)
			return nil, err
		})
		p := w.open(t, fixture.C(t, "services"), host, loader.WithConfig([]byte("between")))
		plugins.set("between", p)
		for range 5 {
			for tick := ""; tick != "tick 2"; {
				tick = <-started
			}
			_, err := p.Call(ctx, "panic", nil)
			require.ErrorIs(t, err, loader.ErrPanic)
			assert.Equal(t, "between", call(t, p, "config", ""))
		}
	})
}

// Who is told how far a call is may not wait for it: the call waits for who is told.
func TestProgressThatCallsThePlugin(t *testing.T) {
	needsNumbers(t)
	allWays(t, func(t *testing.T, w way) {
		p := openServices(t, w, loader.WithMaxCalls(1))
		again := make(chan error, 100)
		within(t, func() {
			_, err := p.Call(loader.WithProgress(ctx, func(uint64, uint64) {
				_, err := p.Call(context.Background(), "pass", nil)
				again <- err
			}), "progress", nil)
			require.NoError(t, err)
		})
		close(again)
		require.NotEmpty(t, again)
		for err := range again {
			assert.ErrorIs(t, err, loader.ErrReentrant)
		}
	})
}
