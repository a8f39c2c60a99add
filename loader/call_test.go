package loader_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/stress"
)

// Sizes around what changes the way of a result: nothing, the scratch room, the caller's room, more than either.
var sizes = []int{0, 1, 63, 64, 65, 4095, 4096, 4097, 1 << 16, 1<<20 + 1}

func TestCallSizes(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		for _, name := range []string{"echo", "echo_own"} {
			f, err := p.Func(name)
			require.NoError(t, err)
			upAndDown := slices.Concat(sizes, sizes)
			slices.Reverse(upAndDown[len(sizes):])
			for _, size := range upAndDown { // room is made as the result before was long
				in := make([]byte, size)
				for i := range in {
					in[i] = byte(rand.Uint32())
				}
				out, err := f.Call(ctx, in)
				require.NoError(t, err)
				require.True(t, bytes.Equal(in, out), "%s of %d bytes", name, size)
				// Into room of every kind: none, too little, one byte too little, exactly enough, more.
				for _, room := range []int{0, 1, size - 1, size, size + 1, 2 * size} {
					if room < 0 {
						continue
					}
					dst := append(make([]byte, 0, room+3), "abc"...)
					out, err := f.Append(ctx, dst, in)
					require.NoError(t, err)
					require.Equal(t, "abc", string(out[:3]))
					require.True(t, bytes.Equal(in, out[3:]), "%s of %d bytes into %d", name, size, room)
					if room >= size && room > 0 && name == "echo" {
						assert.Same(t, &dst[0], &out[0], "written in place")
					}
				}
			}
		}
		assert.Equal(t, "0", call(t, p, "held", ""), "own memory was given back each time")
	})
}

func TestCallPointersAreNeverNull(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		f, err := p.Func("pointers")
		require.NoError(t, err)
		for _, in := range [][]byte{nil, {}, make([]byte, 0, 8), {1}, make([]byte, 8)[8:]} {
			for _, dst := range [][]byte{nil, {}, make([]byte, 0, 8), make([]byte, 8)[8:], {1}} {
				_, err := f.Append(ctx, dst, in)
				assert.NoError(t, err)
			}
		}
	})
}

func TestCallErrors(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		long := strings.Repeat("why? ", 2000)
		for _, c := range []struct {
			fn, in  string
			status  loader.Status
			message string
		}{
			{"fail", "no such customer", loader.ErrFailed, "no such customer"},
			{"fail", "", loader.ErrFailed, ""},
			{"fail", long, loader.ErrFailed, long},
			{"fail_own", "not JSON", loader.ErrInvalid, "not JSON"},
			{"status", "2", loader.ErrInvalid, ""},
			{"status", "3", loader.ErrUnsupported, ""},
			{"status", "4", loader.ErrCancelled, ""},
			{"status", "6", loader.ErrNoMemory, ""},
			{"status", "500", 500, ""},
			{"status", "1000", 1000, ""},
			{"status", "2147483647", 2147483647, ""},
		} {
			dst := []byte("kept")
			f, err := p.Func(c.fn)
			require.NoError(t, err)
			out, err := f.Append(ctx, dst, []byte(c.in))
			var e *loader.CallError
			require.ErrorAs(t, err, &e, "%s %q", c.fn, c.in)
			assert.Equal(t, loader.CallError{Plugin: "echo", Func: c.fn, Status: c.status, Message: c.message}, *e)
			assert.ErrorIs(t, err, c.status)
			assert.Equal(t, c.status == loader.ErrFailed || c.status == 500, errors.Is(err, loader.ErrFailed), "R10: %d", c.status)
			assert.Equal(t, "kept", string(out))
		}
		assert.Equal(t, "0", call(t, p, "held", ""))
		assert.Equal(t, "fine", call(t, p, "echo", "fine"), "a failure leaves nothing behind")
	})
}

func TestCallUnknownFunction(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		_, err := p.Call(ctx, "ehco", nil)
		var e *loader.UsageError
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, loader.ErrNoFunc)
		assert.Equal(t, "ehco", e.Func)
		assert.Equal(t, `did you mean "echo"?`, e.Remedy)
		_, err = p.Func("resize")
		assert.ErrorContains(t, err, "there is echo, echo_own, fail")
		_, err = p.Hook("echo")
		assert.ErrorIs(t, err, loader.ErrNoFunc, "a function is not a hook")
		_, err = p.Call(ctx, "before_echo", nil)
		assert.ErrorIs(t, err, loader.ErrNoFunc, "nor a hook a function")
	})
}

func TestHook(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		hook, err := p.Hook("before_echo")
		require.NoError(t, err)
		assert.Equal(t, "before_echo", hook.Name())
		out, err := hook.Call(ctx, nil)
		require.NoError(t, err)
		assert.Equal(t, "hooked", string(out))
	})
}

// Every fixture whose function breaks a rule: the rule, and that the plug-in stays usable.
func TestCallDefects(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for name, want := range map[string]struct{ rule, found string }{
			"out_len_beyond_out_cap":       {"R8", "out_len 4097 in a room of 4096 bytes"},
			"null_out_with_length":         {"R8", "out NULL"},
			"foreign_out_without_release":  {"R8", "another pointer"},
			"out_len_beyond_ptrdiff_max":   {"R8", "out_len 18446744073709551612"},
			"negative_status":              {"R10", "-7"},
			"negative_status_with_release": {"R10", "-7"},
		} {
			t.Run(name, func(t *testing.T) {
				p := w.open(t, tempLibrary(t, fixture.C(t, name)))
				for range 3 {
					_, err := p.Call(ctx, "answer", nil)
					var e *loader.ContractError
					require.ErrorAs(t, err, &e)
					assert.Equal(t, want.rule, e.Rule)
					if name == "out_len_beyond_out_cap" && w.isolated {
						// A caller who brings no room gets what is free in the shared memory, which is more.
						assert.Regexp(t, "^out_len [0-9]+ in a room of [0-9]+ bytes, without release$", e.Found)
					} else {
						assert.Contains(t, e.Found, want.found)
					}
					assert.Equal(t, "answer", e.Func)
					assert.Equal(t, name, e.Plugin)
					if name == "out_len_beyond_ptrdiff_max" {
						_, err := p.Call(ctx, "released", nil)
						require.NoError(t, err, "release ran, once")
						return
					}
				}
				if name == "negative_status_with_release" {
					_, err := p.Call(ctx, "released", nil)
					require.NoError(t, err, "release ran, once for each call, and found the NULL in out")
				}
			})
		}
	})
}

func TestCallMessageNotUTF8(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		_, err := w.open(t, fixture.C(t, "message_not_utf8")).Call(ctx, "answer", nil)
		var e *loader.CallError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "caf\uFFFD", e.Message)
	})
}

func TestCallFrameOverwritten(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "frame_overwritten"))
		for range 3 {
			_, err := p.Call(ctx, "overwrite", []byte("x"))
			require.NoError(t, err)
		}
	})
}

func TestCallReleaseUsesHost(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, tempLibrary(t, fixture.C(t, "release_uses_host")))
		assert.Equal(t, "text", call(t, p, "answer", ""))
		assert.Equal(t, "1 7", call(t, p, "report", ""), "once, and refused with FERRULE_MISUSE")
	})
}

func TestCallParallel(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		f, err := p.Func("echo")
		require.NoError(t, err)
		var wg sync.WaitGroup
		for g := range 32 {
			wg.Go(func() {
				var dst []byte
				for i := range 200 {
					in := fmt.Appendf(nil, "%d of %d: %s", i, g, strings.Repeat("x", rand.IntN(9000)))
					out, err := f.Append(ctx, dst[:0], in)
					if !assert.NoError(t, err) || !assert.True(t, bytes.Equal(in, out)) {
						return
					}
					dst = out
				}
			})
		}
		wg.Wait()
	})
}

// A result that no memory holds, or that this process has none for, or that is not where the plug-in says: the host gets an
// error for it, the plug-in its memory back, and the next call its instance, whatever asks for the result.
func TestResultsThatCannotBeHad(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		for _, threads := range []string{"", "_pinned", "_concurrent"} {
			p := w.open(t, fixture.C(t, "out_len_beyond_memory"+threads))
			calls := 0
			for _, c := range []struct {
				fn   string
				in   byte // the length, or the address, is 2 to the power of this
				want error
			}{{"answer", 63, nil}, {"answer", 57, nil}, {"answer", 48, loader.ErrNoMemory}, {"nowhere", 6, nil}, {"nowhere", 15, nil}} {
				if w.isolated && c.in == 15 {
					continue // the worker ends of that
				}
				f, err := p.Func(c.fn)
				require.NoError(t, err)
				ins := [][]byte{{c.in}, {c.in}}
				var b loader.Batch
				for how, ask := range map[string]func() error{
					"Call":   func() error { _, err := f.Call(ctx, ins[0]); return err },
					"Append": func() error { _, err := f.Append(ctx, make([]byte, 1, 10), ins[0]); return err },
					"Batch": func() error {
						require.NoError(t, f.Batch(ctx, ins, &b))
						require.Equal(t, 2, b.Len())
						calls++
						_, err := b.Result(1)
						return err
					},
					"View": func() error {
						if v, err := f.View(ctx, ins[0]); err != nil {
							return err
						} else if w.isolated || c.want == nil && c.in != 15 {
							t.Errorf("a view of %s, %d", c.fn, c.in)
						} else {
							v.Release() // it was not read
						}
						return nil
					},
				} {
					err := ask()
					calls++
					switch {
					case err == nil && how == "View" && !w.isolated:
					case c.want != nil:
						assert.ErrorIs(t, err, c.want, "%s of 2 to the power of %d", how, c.in)
					default:
						var e *loader.ContractError
						if assert.ErrorAs(t, err, &e, "%s of %s, %d", how, c.fn, c.in) {
							assert.Equal(t, "R8", e.Rule)
						}
					}
					assert.Equal(t, fmt.Sprint(calls), call(t, p, "released", ""), "%s of %s, %d", how, c.fn, c.in)
				}
			}
			within(t, func() { require.NoError(t, p.Close()) })
		}
	})
}

// In-process: isolated, the plug-in's side of a call is in another process, and package isolate counts the host's.
func TestAppendDoesNotAllocate(t *testing.T) {
	if stress.Enabled {
		t.Skip("the stress tag allocates at each crossing")
	}
	p := open(t, fixture.C(t, "echo"))
	f, err := p.Func("echo")
	require.NoError(t, err)
	in, dst := make([]byte, 64), make([]byte, 0, 64)
	cancellable, cancel := context.WithCancel(ctx)
	defer cancel()
	for name, ctx := range map[string]context.Context{"background": ctx, "cancellable": cancellable} {
		allocs := testing.AllocsPerRun(1000, func() {
			var err error
			if dst, err = f.Append(ctx, dst[:0], in); err != nil {
				t.Fatal(err)
			}
		})
		assert.Equal(t, float64(portableAllocs), allocs, name)
	}
	assert.Equal(t, float64(1+portableAllocs), testing.AllocsPerRun(1000, func() {
		if _, err := f.Call(ctx, in); err != nil {
			t.Fatal(err)
		}
	}), "Call allocates its result")
	for _, name := range []string{"batch_serial", "batch_missing"} {
		f, err := open(t, fixture.C(t, name), loader.WithHostFunc("upper", upper)).Func("record")
		require.NoError(t, err)
		for _, n := range []int{1, 100, 1000} { // crossings of 256 records
			var b loader.Batch
			ins := slices.Repeat([][]byte{[]byte("echo")}, n)
			assert.LessOrEqual(t, testing.AllocsPerRun(20, func() {
				if err := f.Batch(ctx, ins, &b); err != nil {
					t.Fatal(err)
				}
			}), float64(portableAllocs*n), "%s of %d records", name, n)
		}
	}
}

type point struct{ X, Y int }

func TestCallJSON(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		got, err := loader.CallJSON[point, point](ctx, p, "echo", point{1, 2})
		require.NoError(t, err)
		assert.Equal(t, point{1, 2}, got)

		_, err = loader.CallJSON[func(), point](ctx, p, "echo", nil)
		var codec *loader.CodecError
		require.ErrorAs(t, err, &codec)
		assert.Equal(t, "encode", codec.Op)
		const octets = "application/octet-stream"
		assert.Equal(t, octets, codec.MediaType)
		assert.ErrorContains(t, err, "; the function says that its input is "+octets)
		_, err = loader.CallJSON[string, point](ctx, p, "echo", "text")
		require.ErrorAs(t, err, &codec)
		assert.Equal(t, "decode", codec.Op)
		assert.Equal(t, octets, codec.MediaType)
		assert.ErrorContains(t, err, "; the function says that its result is "+octets)
		var typeError *json.UnmarshalTypeError
		assert.ErrorAs(t, err, &typeError)
		_, err = loader.CallJSON[string, point](ctx, p, "echo_own", "text")
		require.ErrorAs(t, err, &codec)
		assert.Empty(t, codec.MediaType, "it does not say")
		assert.NotContains(t, err.Error(), "says that")
		_, err = loader.CallJSON[string, string](ctx, p, "fail", "text")
		assert.ErrorIs(t, err, loader.ErrFailed)
	})
}

// words is a codec of space-separated words.
type words struct{}

func (words) Marshal(v any) ([]byte, error) {
	list, ok := v.([]string)
	if !ok {
		return nil, errors.New("not words")
	}
	return []byte(strings.Join(list, " ")), nil
}

func (words) Unmarshal(data []byte, v any) error {
	*v.(*[]string) = strings.Fields(string(data))
	return nil
}

func TestCallWithOtherCodec(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.C(t, "echo"))
		got, err := loader.CallWith[[]string, []string](ctx, p, words{}, "echo", []string{"a", "b"})
		require.NoError(t, err)
		assert.Equal(t, []string{"a", "b"}, got)
	})
}
