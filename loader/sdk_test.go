package loader_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/internal/transcript"
	"github.com/ferrule-dev/ferrule/loader"
)

// The plug-ins of the SDKs' own tests, under this host.

func silent(context.Context, []byte) ([]byte, error) { return nil, loader.Status(1001) }
func refuse(context.Context, []byte) ([]byte, error) {
	return nil, errors.Join(errors.New("refused"), loader.ErrUnsupported)
}
func repeat(_ context.Context, in []byte) ([]byte, error) {
	return []byte(strings.Repeat(string(in), 1000)), nil
}

func TestSDKForC(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		var opts []loader.Option
		for _, name := range []string{"greedy", "hollow", "stuck", "growing", "forgetful"} { // hosts that break the contract
			opts = append(opts, loader.WithHostFunc(name, echo))
		}
		p := w.open(t, fixture.SDK(t, "helpers.c"), append(opts, loader.WithHostFunc("echo", echo), loader.WithHostFunc("repeat", repeat),
			loader.WithHostFunc("refuse", refuse), loader.WithHostFunc("silent", silent))...)
		long := strings.Repeat("long ", 3000)
		assert.Equal(t, "Grüße", call(t, p, "reply_text", ""))
		assert.Equal(t, "5 bytes: hello", call(t, p, "replyf", "hello"))
		assert.Equal(t, "15000 bytes: "+long, call(t, p, "replyf", long))
		assert.Equal(t, long, call(t, p, "import_echo", long))
		assert.Equal(t, strings.Repeat("abc", 1000), call(t, p, "import_repeat", "abc"))
		for fn, want := range map[string]loader.CallError{
			"fail":          {Status: loader.ErrInvalid, Message: "line 3: " + long},
			"fail_newline":  {Status: 1234, Message: "two newlines"},
			"import_refuse": {Status: loader.ErrUnsupported, Message: "refused\nunsupported"},
			"import_silent": {Status: 1001},
		} {
			_, err := p.Call(ctx, fn, []byte(long))
			want.Plugin, want.Func = "helpers", fn
			var e *loader.CallError
			require.ErrorAs(t, err, &e)
			assert.Equal(t, want, *e)
		}
	})
}

func TestSDKForCPP(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		logger, lines := logger()
		p := w.open(t, fixture.SDK(t, "entries.cpp"), loader.WithConfig([]byte("7")), loader.WithLogger(logger),
			loader.WithHostFunc("echo", echo), loader.WithHostFunc("repeat", repeat), loader.WithHostFunc("refuse", refuse),
			loader.WithHostFunc("silent", silent))
		long := strings.Repeat("long ", 3000)
		assert.Equal(t, long, call(t, p, "echo", long), "moved, not copied, and given back")
		assert.Equal(t, long[1:], call(t, p, "returns_view", long))
		assert.Equal(t, strings.Repeat("abc", 1000), call(t, p, "import_repeat", "abc"))
		call(t, p, "takes_const_context", "")
		assert.Equal(t, []string{`level=INFO msg="started 7" plugin=entries`, "level=WARN msg=seen plugin=entries"}, lines.all())
		_, err := p.Call(ctx, "import_refuse", nil)
		assert.ErrorIs(t, err, loader.ErrUnsupported, "an exception, and a status again")
		assert.Equal(t, "7", call(t, p, "get", ""))
		_, err = p.Call(ctx, "throws", []byte("int"))
		assert.ErrorIs(t, err, loader.ErrPanic)
		assert.Equal(t, "7", call(t, p, "get", ""))
	})
}

func TestSDKForRust(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		logger, lines := logger()
		var p *loader.Plugin
		p, err := w.try(fixture.Rust(t, "fixture-counter"), loader.WithConfig([]byte("ada=40")), loader.WithLogger(logger),
			loader.WithHostFunc("call_me", func(ctx context.Context, _ []byte) ([]byte, error) { return p.Call(ctx, "add", []byte("1")) }))
		require.NoError(t, err)
		assert.Equal(t, "42", call(t, p, "add", "2"))
		_, err = p.Call(ctx, "add", []byte("two"))
		assert.ErrorIs(t, err, loader.ErrFailed)
		assert.ErrorContains(t, err, "invalid digit found in string")
		_, err = p.Call(ctx, "panics", nil)
		assert.ErrorIs(t, err, loader.ErrPanic)
		assert.ErrorContains(t, err, "count is lost")
		assert.Equal(t, "41", call(t, p, "add", "1"), "a new instance, from the same configuration")
		_, err = p.Call(ctx, "reenter", nil)
		assert.ErrorContains(t, err, "in use by the calls that led to this one")
		assert.Equal(t, "41", call(t, p, "add", "0"))
		require.NoError(t, p.Close())
		assert.Equal(t, []string{`level=INFO msg="ada starts" plugin=counter`, `level=INFO msg="ada starts" plugin=counter`,
			`level=INFO msg="ada stops at 41" plugin=counter`}, lines.all())

		_, err = w.try(fixture.Rust(t, "fixture-counter"), loader.WithConfig([]byte("ada")), loader.WithHostFunc("call_me", echo))
		assert.ErrorIs(t, err, loader.ErrStart)
		assert.ErrorContains(t, err, "expected name=count")
	})
}

func TestSDKForRustBatch(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := w.open(t, fixture.Rust(t, "fixture-batch"), loader.WithHostFunc("cancel", echo))
		f, err := p.Func("repeat")
		require.NoError(t, err)
		var b loader.Batch
		require.NoError(t, f.Batch(ctx, [][]byte{[]byte("3"), []byte("0"), []byte("9000"), []byte("1")}, &b))
		require.Equal(t, 4, b.Len())
		for i, want := range []string{"xxx", "", strings.Repeat("x", 9000), "x"} {
			out, err := b.Result(i)
			assert.Equal(t, want, string(out))
			if i == 1 {
				assert.ErrorIs(t, err, loader.ErrInvalid)
				assert.ErrorContains(t, err, "found 0, expected more")
			} else {
				assert.NoError(t, err)
			}
		}
		f, err = p.Func("panic_at")
		require.NoError(t, err)
		require.NoError(t, f.Batch(ctx, [][]byte{[]byte("a"), []byte("panic"), []byte("b")}, &b))
		require.Equal(t, 3, b.Len(), "those behind the panic ran as well")
		_, err = b.Result(1)
		assert.ErrorIs(t, err, loader.ErrPanic)
		out, err := b.Result(2)
		assert.NoError(t, err)
		assert.Equal(t, "b", string(out))
	})
}

func TestSDKForRustThreads(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		logger, lines := logger()
		p := w.open(t, fixture.Rust(t, "fixture-threads"), loader.WithHostFunc("shout", upper), loader.WithLogger(logger))
		assert.Equal(t, "A B C END", call(t, p, "shout_words", "a b c"))
		assert.Len(t, lines.all(), 6)
		assert.Equal(t, "true", call(t, p, "after_scope", ""))
	})
}

// What came with version 1.1, asked for through each SDK.
func TestSDKsSince11(t *testing.T) {
	for _, sdk := range []struct {
		name, config                      string
		library                           func(testing.TB) string
		copies, args, data, written, says string // a function with streams, and what it makes of them
		passes, wants, wanted             string // functions; the latter is one that is offered
	}{
		{"C", "", func(tb testing.TB) string { return fixture.SDK(tb, "helpers.c") }, "stream_copy", "", "a\nb", "a\nb", "", "pass", "want_mail", "want_cache"},
		{"C++", "7", func(tb testing.TB) string { return fixture.SDK(tb, "entries.cpp") }, "lines", "", "a\nb", "0:a\n1:b\n", "2", "throws_pass", "want_mail", "want_cache"},
		{"Rust", "", func(tb testing.TB) string { return fixture.Rust(tb, "fixture-streams") }, "shout", "> ", "a\nb", "> A\n> B\n", "2", "", "", ""},
		{"Rust, words", "", func(tb testing.TB) string { return fixture.Rust(tb, "fixture-words") }, "", "", "", "", "", "deep", "", ""},
		{"Rust, wants", "", func(tb testing.TB) string { return fixture.Rust(tb, "fixture-wants") }, "", "", "", "", "", "", "both", "straight"},
	} {
		t.Run(sdk.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, w way) {
				opts := []loader.Option{loader.WithConfig([]byte(sdk.config))}
				for _, name := range []string{"greedy", "hollow", "stuck", "growing", "forgetful", "echo", "repeat", "refuse", "silent", "needed", "cache", "city"} {
					opts = append(opts, loader.WithHostFunc(name, upper))
				}
				p := w.open(t, sdk.library(t), opts...)
				if sdk.copies != "" {
					f, err := p.Func(sdk.copies)
					require.NoError(t, err)
					var written strings.Builder
					out, err := f.Stream(ctx, []byte(sdk.args), strings.NewReader(sdk.data), &written)
					require.NoError(t, err)
					assert.Equal(t, []string{sdk.written, sdk.says}, []string{written.String(), string(out)})
					_, err = f.Call(ctx, []byte(sdk.args))
					assert.ErrorIs(t, err, loader.ErrUnsupported, "a call without streams")
					_, err = f.Stream(ctx, []byte(sdk.args), iotest.ErrReader(transcript.ErrLeft), &written)
					assert.ErrorIs(t, err, transcript.ErrLeft, "the reader's own error")
				}
				if sdk.passes != "" {
					f, err := p.Func(sdk.passes)
					require.NoError(t, err)
					_, status, err := f.Try(ctx, nil, []byte("not a number"))
					require.NoError(t, err)
					assert.Equal(t, loader.ErrPass, status)
				}
				if sdk.wants != "" {
					assert.Equal(t, "ADA", call(t, p, sdk.wanted, "ada"))
					_, err := p.Call(ctx, sdk.wants, []byte("ada"))
					assert.ErrorIs(t, err, loader.ErrUnsupported)
				}
			})
		})
	}
}

// A state goes on in a successor that is written with the SDK for C++, and with the one for Rust.
func TestSDKsHandOver(t *testing.T) {
	for _, sdk := range []struct {
		name, config, fn string
		library          func(testing.TB) string
		want             [3]string // before, after, after new settings
		settings         string
		refused          string
	}{
		{"C++", "7", "add", func(tb testing.TB) string { return fixture.SDK(tb, "entries.cpp") }, [3]string{"1", "2", "3"}, "40", ""},
		{"Rust", "2", "next", func(tb testing.TB) string { return fixture.Rust(tb, "fixture-handover") }, [3]string{"2", "4", "9"}, "5", "0"},
	} {
		t.Run(sdk.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, w way) {
				path, in := sdk.library(t), "1"
				opts := []loader.Option{loader.WithConfig([]byte(sdk.config))}
				for _, name := range []string{"echo", "repeat", "refuse", "silent"} {
					opts = append(opts, loader.WithHostFunc(name, echo))
				}
				p, err := w.try(path, opts...)
				require.NoError(t, err)
				assert.Equal(t, sdk.want[0], call(t, p, sdk.fn, in))
				next, err := p.Handover(ctx, func(s *loader.State) (*loader.Plugin, error) {
					return w.try(path, append(opts[:len(opts):len(opts)], loader.WithState(s))...)
				})
				require.NoError(t, err)
				require.NoError(t, p.Close())
				assert.Equal(t, sdk.want[1], call(t, next, sdk.fn, in), "it goes on")
				var refusal *loader.CallError
				assert.ErrorAs(t, next.Configure(ctx, []byte(sdk.refused)), &refusal)
				require.NoError(t, next.Configure(ctx, []byte(sdk.settings)))
				assert.Equal(t, sdk.want[2], call(t, next, sdk.fn, in))
				require.NoError(t, next.Close())
			})
		})
	}
}
