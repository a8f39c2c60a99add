package builtin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
)

// What a function, Start and a host function get has no spare capacity: what they append to it is not in memory of others.
func TestWhatIsGivenHasNoSpareCapacity(t *testing.T) {
	bang := func(_ context.Context, in []byte) ([]byte, error) { return append(in, '!'), nil }
	p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: "1", Imports: []string{"bang"},
		Start: func(_ context.Context, config []byte) (any, error) { return append(config, '!'), nil },
		Funcs: []builtin.Function{{Name: "bang", Call: bang},
			{Name: "state", Call: func(ctx context.Context, _ []byte) ([]byte, error) { return builtin.State(ctx).([]byte), nil }},
			{Name: "import", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				buffer := []byte("onetwo")
				out, err := builtin.Import(ctx, "bang", buffer[:3])
				return fmt.Appendf(nil, "%s %s", out, buffer), err
			}}},
	}, loader.WithConfig(append(make([]byte, 0, 64), "settings"...)), loader.WithInstances(2), loader.WithHostFunc("bang", bang))
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	buffer := []byte("onetwothree")
	f, err := p.Func("bang")
	require.NoError(t, err)
	for _, call := range []func() (string, error){
		func() (string, error) { out, err := f.Call(ctx, buffer[:3]); return string(out), err },
		func() (string, error) {
			v, err := f.View(ctx, buffer[:3])
			defer v.Release()
			return string(v.Bytes()), err
		},
		func() (string, error) {
			var b loader.Batch
			err := f.Batch(ctx, [][]byte{buffer[:3], buffer[3:6], buffer[6:]}, &b)
			second, _ := b.Result(1)
			assert.Equal(t, "two!", string(second))
			first, _ := b.Result(0)
			return string(first), err
		},
	} {
		out, err := call()
		require.NoError(t, err)
		assert.Equal(t, "one!", out)
		assert.Equal(t, "onetwothree", string(buffer))
	}
	out, err := p.Call(ctx, "import", nil)
	require.NoError(t, err)
	assert.Equal(t, "one! onetwo", string(out))
	out, err = p.Call(ctx, "state", nil)
	require.NoError(t, err)
	assert.Equal(t, "settings!", string(out))
}

// What is left running when its function has returned is refused (R14), on any goroutine, and the process goes on.
func TestContextOfACallThatIsOver(t *testing.T) {
	var kept, none context.Context
	p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: "1", Imports: []string{"host"},
		Start: func(ctx context.Context, _ []byte) (any, error) { kept = ctx; return "state", nil },
		Funcs: []builtin.Function{
			{Name: "keep", Call: func(ctx context.Context, _ []byte) ([]byte, error) { kept = ctx; return nil, nil }},
			{Name: "other", Call: func(ctx context.Context, _ []byte) ([]byte, error) { return builtin.Import(ctx, "another", nil) }},
		}}, loader.WithHostFunc("host", func(context.Context, []byte) ([]byte, error) { return nil, nil }),
		loader.WithLogger(slog.New(slog.NewTextHandler(failing{t}, nil))))
	require.NoError(t, err)
	check := func(ctx context.Context) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := builtin.Import(ctx, "host", nil)
			var refused *builtin.Refused
			if assert.ErrorAs(t, err, &refused) {
				assert.Equal(t, abi.StatusMisuse, refused.Status)
				assert.Contains(t, refused.Message, "a context that is of no call in progress")
			}
			builtin.Log(ctx, abi.LogError, "this line is dropped")
			assert.Nil(t, builtin.State(ctx))
		}()
		<-done
	}
	check(kept) // Start's
	_, err = p.Call(ctx, "keep", nil)
	require.NoError(t, err)
	check(kept)
	check(ctx)
	check(none)
	_, err = p.Call(ctx, "other", nil)
	assert.ErrorIs(t, err, loader.ErrMisuse)
	assert.ErrorContains(t, err, `found "another", expected one of the plug-in's Imports or Wants`)
	require.NoError(t, p.Close())
	check(kept)
}

// failing is what a logger writes to that nobody is to use.
type failing struct{ t *testing.T }

func (f failing) Write(line []byte) (int, error) {
	f.t.Errorf("a line: %s", line)
	return len(line), nil
}

// A call ends when its host functions are back, on whichever goroutine they are: neither the next call nor Stop is there before.
func TestImportOutlastsItsFunction(t *testing.T) {
	for _, threads := range []abi.Threads{abi.Serial, abi.Concurrent, abi.Pinned} {
		in, leave := make(chan bool), make(chan bool)
		var mu sync.Mutex
		var order []string
		say := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, what)
		}
		p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: "1", Threads: threads, Imports: []string{"host"}, Stop: func(any) { say("stop") },
			Funcs: []builtin.Function{{Name: "f", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
				go func() { _, _ = builtin.Import(ctx, "host", nil) }()
				<-in
				return nil, nil
			}}}}, loader.WithHostFunc("host", func(context.Context, []byte) ([]byte, error) {
			in <- true
			<-leave
			say("host function")
			return nil, nil
		}))
		require.NoError(t, err)
		over := make(chan error)
		go func() { _, err := p.Call(ctx, "f", nil); say("call"); over <- err }()
		closed := make(chan error)
		leave <- true
		require.NoError(t, <-over)
		go func() { closed <- p.Close() }()
		require.NoError(t, <-closed)
		assert.Equal(t, []string{"host function", "call", "stop"}, order, "%s", threads)
	}
}

// A double plays a plug-in with any status that one in C could return; the message is what is said beside the status.
func TestStatuses(t *testing.T) {
	var fail error
	started := 0
	p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: "1", Start: func(context.Context, []byte) (any, error) { started++; return nil, nil },
		Funcs: []builtin.Function{{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { return nil, fail }}}},
		loader.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	for _, c := range []struct {
		err     error
		status  loader.Status
		message string
		renewed bool
	}{
		{loader.ErrInvalid, loader.ErrInvalid, "", false},
		{fmt.Errorf("no number: %w", loader.ErrInvalid), loader.ErrInvalid, "no number", false},
		{loader.ErrMisuse, loader.ErrMisuse, "", false},
		{loader.ErrPass, loader.ErrPass, "", false},
		{abi.StatusMore, abi.StatusMore, "", false},
		{loader.Status(500), 500, "", false},
		{loader.Status(1001), 1001, "", false},
		{loader.Status(-3), loader.ErrFailed, "status -3", false},
		{loader.Status(0), loader.ErrFailed, "an error whose status says that it worked", false},
		{fmt.Errorf("broken: %w", loader.ErrPanic), loader.ErrPanic, "broken", true},
		{&loader.CallError{Plugin: "q", Func: "g", Status: loader.ErrPanic}, loader.ErrFailed, "plug-in q: g: panic", false},
		{errors.New("late"), loader.ErrFailed, "late", false},
		{context.Canceled, loader.ErrCancelled, "context canceled", false},
	} {
		fail = c.err
		before := started
		_, err := p.Call(ctx, "f", nil)
		var failed *loader.CallError
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, c.status, failed.Status, "%v", c.err)
		assert.Equal(t, c.message, failed.Message, "%v", c.err)
		fail = nil
		_, err = p.Call(ctx, "f", nil)
		require.NoError(t, err)
		assert.Equal(t, c.renewed, started > before, "%v", c.err)
	}
}

// selfish is a value of a panic that cannot say what it is.
type selfish struct{}

func (s selfish) Error() string { panic(s) }

// A panic is told by its value, whatever that is.
func TestPanicValues(t *testing.T) {
	for value, want := range map[any]string{
		"a text": "a text", selfish{}: "a builtin_test.selfish, which cannot say what it is", 7: "7",
	} {
		fail := func(context.Context, []byte) ([]byte, error) { panic(value) }
		p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: "1", Imports: []string{"host"}, Stop: func(any) { panic(value) },
			Funcs: []builtin.Function{{Name: "f", Call: fail}, {Name: "host",
				Call: func(ctx context.Context, _ []byte) ([]byte, error) { return builtin.Import(ctx, "host", nil) }}}},
			loader.WithHostFunc("host", fail), loader.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		_, err = p.Call(ctx, "f", nil)
		assert.EqualError(t, err, "plug-in p: f: panic: "+want)
		_, err = p.Call(ctx, "host", nil)
		assert.EqualError(t, err, "plug-in p: host: failed: host: host function host panicked: "+want)
		require.NoError(t, p.Close())
	}
}

// What the host knows, the fields of lines, and further keys: in the words of Go.
func TestServices(t *testing.T) {
	var lines bytes.Buffer
	fn := func(fn func(ctx context.Context) (string, error)) builtin.Func {
		return func(ctx context.Context, _ []byte) ([]byte, error) {
			out, err := fn(ctx)
			return []byte(out), err
		}
	}
	double := &builtin.Plugin{Name: "p", Version: "1", Imports: []string{"needed"}, Wants: []string{"wanted", "offered"}, ConfigSchema: "{}",
		ImportKeys: map[string]map[string]string{"needed": {"doc": "What it needs.", "why": "to work"}, "wanted": {"from": "2.0"}},
		StopContext: func(ctx context.Context, state any) error {
			return fmt.Errorf("%v stays: %w", builtin.State(ctx), loader.ErrInvalid)
		},
		Keys: map[string]string{"homepage": "https://example.org", "provides": "a\nb"},
		Hooks: []builtin.Function{{Name: "h", Keys: map[string]string{"order": "first", "wrap": "yes"}, Doc: "Wraps.", Stream: abi.StreamIn,
			Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}},
		Funcs: []builtin.Function{
			{Name: "info", Call: func(ctx context.Context, in []byte) ([]byte, error) {
				out, err := builtin.Info(ctx, string(in))
				return []byte(out), err
			}},
			{Name: "offers", Call: fn(func(ctx context.Context) (string, error) {
				return fmt.Sprint(builtin.Offered(ctx, "needed"), builtin.Offered(ctx, "wanted"), builtin.Offered(ctx, "offered"), builtin.Offered(ctx, "other")), nil
			})},
			{Name: "wanted", Call: func(ctx context.Context, _ []byte) ([]byte, error) { return builtin.Import(ctx, "wanted", nil) }},
			{Name: "log", Call: fn(func(ctx context.Context) (string, error) {
				builtin.Log(ctx, abi.LogWarn, "a line", slog.Int("n", 7), slog.Group("user", slog.String("na=me", "a\x00b"), slog.Group("", slog.Bool("ok", true))))
				return "", nil
			})},
			{Name: "outside", Call: fn(func(ctx context.Context) (string, error) {
				_, err := builtin.Background(ctx)
				return "", err
			})},
		}}
	host := func(context.Context, []byte) ([]byte, error) { return nil, nil }
	p, err := builtin.Open(double, loader.WithHostFunc("needed", host), loader.WithHostFunc("offered", host), loader.WithPluginInfo("shop.name", "Ada's"),
		loader.WithLogger(slog.New(slog.NewTextHandler(&lines, nil))))
	require.NoError(t, err)
	defer func() {
		require.NoError(t, p.Close())
		assert.Contains(t, lines.String(), `level=WARN msg="Stop: invalid input: <nil> stays" plugin=p`)
	}()
	info := p.Info()
	assert.Equal(t, []string{"What it needs.", "to work", "2.0", ""}, []string{info.Imports[0].Doc, info.Imports[0].Keys.Get("why"), info.Wants[1].Keys.Get("from"), info.Wants[0].Keys.Get("from")})
	assert.Equal(t, "https://example.org", info.Manifest.Keys.Get("homepage"))
	assert.Equal(t, "a\nb", info.Manifest.Keys.Get("provides"))
	assert.Equal(t, "{}", info.ConfigSchema)
	assert.Equal(t, []string{"Wraps.", "first", "yes", "in"}, []string{info.Hooks[0].Doc, info.Hooks[0].Keys.Get("order"), info.Hooks[0].Keys.Get("wrap"), info.Hooks[0].Stream.String()})
	for key, want := range map[string]string{"shop.name": `"Ada's"`, "instance": `"0"`, "offers.wanted": `"no"`, "path": `p info: "unsupported: path"`, "": `p info: "misuse: `,
		"remaining": `p info: "unsupported: remaining"`} {
		assert.Contains(t, outcome(p.Call(ctx, "info", []byte(key))), want, key)
	}
	assert.Equal(t, `"true false true false"`, outcome(p.Call(ctx, "offers", nil)))
	_, err = p.Call(ctx, "wanted", nil)
	assert.ErrorIs(t, err, loader.ErrUnsupported)
	_, err = p.Call(ctx, "outside", nil)
	assert.ErrorIs(t, err, loader.ErrMisuse)
	_, err = p.Call(ctx, "log", nil)
	require.NoError(t, err)
	assert.Contains(t, lines.String(), `level=WARN msg="a line" plugin=p n=7 user.na_me="a`+"\uFFFD"+`b" user.ok=true`)
	for text, wrong := range map[string]builtin.Plugin{
		"needed of \"p\" as an import and as a want":               {Imports: []string{"needed"}, Wants: []string{"needed"}},
		"two of the want a of":                                     {Wants: []string{"a", "a"}},
		"the Keys of":                                              {Keys: map[string]string{"name": "other"}},
		"with a NUL or an equals sign":                             {Keys: map[string]string{"x-a": "b\x00name=c"}},
		"the function f of":                                        {Funcs: []builtin.Function{{Name: "f", Call: host, Stream: 9}}},
		"\"p\" with Stop and StopContext, expected one of the two": {Stop: func(any) {}, StopContext: func(context.Context, any) error { return nil }},
		"\"other\" among the ImportKeys of \"p\", expected one of its Imports or Wants": {Imports: []string{"needed"}, ImportKeys: map[string]map[string]string{"other": {"doc": "a"}}},
		"the import needed of \"p\"":                {Imports: []string{"needed"}, ImportKeys: map[string]map[string]string{"needed": {"Doc": "a"}}},
		"the want needed of \"p\": the key \"a=b\"": {Wants: []string{"needed"}, ImportKeys: map[string]map[string]string{"needed": {"a=b": "a"}}},
		"key \"doc\"": {Funcs: []builtin.Function{{Name: "f", Call: host, Doc: "a", Keys: map[string]string{"doc": "b"}}}},
	} {
		wrong.Name, wrong.Version = "p", "1"
		_, err := builtin.Open(&wrong)
		assert.ErrorIs(t, err, loader.ErrOption, text)
		assert.ErrorContains(t, err, text)
	}
}

// What changes an instance is in it: a call that comes from there would wait for itself, by the context and by the goroutine. Calls from elsewhere wait.
func TestReentranceFromAChange(t *testing.T) {
	for _, threads := range []abi.Threads{abi.Serial, abi.Concurrent, abi.Pinned} {
		var p *loader.Plugin
		var refused []error
		again := func(ctx context.Context) {
			if p != nil { // not at Open
				for _, c := range []context.Context{ctx, context.Background()} {
					_, err := p.Call(c, "f", nil)
					refused = append(refused, err)
				}
			}
		}
		double := &builtin.Plugin{Name: "p", Version: "1", Threads: threads, StateFormat: "s",
			Start: func(ctx context.Context, _ []byte) (any, error) { again(ctx); return nil, nil },
			Save:  func(ctx context.Context, _ any) ([]byte, error) { again(ctx); return []byte("saved"), nil },
			Resume: func(_ context.Context, _ any, saved []byte) error {
				assert.Equal(t, "saved", string(saved))
				return nil
			},
			Funcs: []builtin.Function{{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}}}
		opened, err := builtin.Open(double)
		require.NoError(t, err)
		p = opened
		require.NoError(t, p.Configure(ctx, []byte("by a new instance")))
		assert.Len(t, refused, 2)
		var kept *loader.State
		_, err = p.Handover(ctx, func(s *loader.State) (*loader.Plugin, error) { kept = s; return nil, errors.New("not yet") })
		require.ErrorContains(t, err, "not yet")
		assert.Len(t, refused, 4)
		for _, err := range refused {
			assert.ErrorIs(t, err, loader.ErrReentrant)
		}
		_, err = p.Call(ctx, "f", nil)
		require.NoError(t, err)
		require.NoError(t, p.Close())
		p = nil
		next, err := builtin.Open(double, loader.WithState(kept))
		require.NoError(t, err)
		require.NoError(t, next.Close())
	}
	_, err := builtin.Open(&builtin.Plugin{Name: "p", Version: "1", StateFormat: "s"})
	assert.ErrorContains(t, err, `"p" with some of StateFormat, Save and Resume, expected all three, or none`)
}

// Who waits for a place in a session is told when its instance panics, and when it is closed.
func TestSessionIsLostToThoseWhoWait(t *testing.T) {
	in, leave := make(chan bool), make(chan bool)
	p, err := builtin.Open(&builtin.Plugin{Name: "p", Version: "1", Funcs: []builtin.Function{{Name: "f",
		Call: func(_ context.Context, what []byte) ([]byte, error) {
			in <- true
			<-leave
			if string(what) == "panic" {
				return nil, loader.ErrPanic
			}
			return nil, nil
		}}}})
	require.NoError(t, err)
	for what, want := range map[string]error{"panic": loader.ErrLost, "close": loader.ErrClosed} {
		s, err := p.NewSession(ctx, nil)
		require.NoError(t, err)
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, err := s.Call(ctx, "f", []byte(what)); first <- err }()
		<-in
		go func() { _, err := s.Call(ctx, "f", nil); second <- err }()
		time.Sleep(10 * time.Millisecond) // it waits, or comes later, which is the same
		closed := make(chan error, 1)
		if what == "close" {
			go func() { closed <- s.Close() }()
			assert.ErrorIs(t, <-second, want)
			second <- nil
		}
		leave <- true
		if err := <-first; what == "panic" {
			assert.ErrorIs(t, err, loader.ErrPanic)
			assert.ErrorIs(t, <-second, want)
			require.NoError(t, s.Close())
		} else {
			require.NoError(t, err)
			require.NoError(t, <-closed)
		}
	}
	require.NoError(t, p.Close())
}
