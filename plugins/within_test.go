package plugins_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// TestNotWithin: what does not come to an end in the time that it has says which time that was, and asks for nothing that config.yaml cannot give.
func TestNotWithin(t *testing.T) {
	hang := func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Hour): // of the test's own clock; a start is not told
			return nil
		}
	}
	for name, c := range map[string]struct {
		plugin *builtin.Plugin
		text   string
	}{
		"start": {&builtin.Plugin{Name: "slow", Version: "1.0.0", Start: func(ctx context.Context, _ []byte) (any, error) { return nil, hang(ctx) }}, "not done within 30s"},
		"health": {&builtin.Plugin{Name: "slow", Version: "1.0.0", Keys: map[string]string{"health": "well"}, Funcs: []builtin.Function{
			{Name: "well", Call: func(ctx context.Context, _ []byte) ([]byte, error) { return nil, hang(ctx) }}}}, "not done within 5s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(c.plugin), plugins.Required("slow"))
				defer sys.Close()
				err := sys.Start(t.Context())
				require.ErrorIs(t, err, context.DeadlineExceeded)
				assert.ErrorContains(t, err, c.text)
				assert.NotContains(t, err.Error(), "more time")
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// TestHangsInThisProcess: a start that hangs in the application's own process is not tried again, as each try would leave a thread there; one that fails is.
func TestHangsInThisProcess(t *testing.T) {
	for name, want := range map[string]int{"hangs": 1, "fails": 3} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var starts atomic.Int32
				sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(&builtin.Plugin{Name: "slow", Version: "1.0.0",
					Funcs: []builtin.Function{{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}},
					Start: func(context.Context, []byte) (any, error) {
						if starts.Add(1); name == "hangs" {
							time.Sleep(time.Hour)
						}
						return nil, context.DeadlineExceeded // its own
					}}))
				defer sys.Close()
				require.NoError(t, sys.Start(t.Context()))
				f, err := sys.Func("slow", "f")
				require.NoError(t, err)
				_, err = f.Call(t.Context(), nil)
				require.Error(t, err)
				assert.Equal(t, name == "hangs", strings.Contains(err.Error(), "It is not tried again before its file or its settings have changed"), err.Error())
				time.Sleep(4 * time.Second) // after 1 s and after 2 s more
				assert.EqualValues(t, want, starts.Load())
				p, _ := sys.Plugin("slow")
				assert.Equal(t, plugins.StateFailed, p.State)
				assert.Equal(t, name == "hangs", p.RetryAt.IsZero())
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// TestOpenedAtAClose: what a close ends while it is being opened is no error of its own in the log.
func TestOpenedAtAClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		sys := plugins.New("app", "1.0.0", log.logger(), plugins.Builtin(&builtin.Plugin{Name: "slow", Version: "1.0.0",
			Funcs: []builtin.Function{{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}},
			Start: func(context.Context, []byte) (any, error) { time.Sleep(20 * time.Second); return nil, nil }}))
		require.NoError(t, sys.Start(t.Context()))
		f, err := sys.Func("slow", "f")
		require.NoError(t, err)
		failed := make(chan error, 1)
		go func() {
			_, err := f.Call(t.Context(), nil)
			failed <- err
		}()
		time.Sleep(time.Second)
		require.NoError(t, sys.Close())
		require.Error(t, <-failed)
		time.Sleep(time.Minute)
		assert.Empty(t, log.with("level=ERROR"))
		assert.NotEmpty(t, log.with("level=DEBUG", "state=failed"))
	})
}

// TestFailedWhileTried: what has failed and is tried again has failed until it runs. Neither its calls nor another edit of config.yaml wait for that.
func TestFailedWhileTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var starts atomic.Int32
		path, write := written(t, "plugins: [late]")
		sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(simple("welcome", "1.0.0", nil)),
			plugins.Builtin(&builtin.Plugin{Name: "late", Version: "1.0.0",
				Funcs: []builtin.Function{{Name: "f", Call: func(context.Context, []byte) ([]byte, error) { return nil, nil }}},
				Start: func(context.Context, []byte) (any, error) {
					if starts.Add(1) == 1 {
						return nil, failure("no disk")
					}
					time.Sleep(20 * time.Second)
					return nil, nil
				}}))
		defer sys.Close()
		require.NoError(t, sys.Start(t.Context()))
		f, err := sys.Func("late", "f")
		require.NoError(t, err)
		_, err = f.Call(t.Context(), nil)
		require.ErrorContains(t, err, "no disk")

		time.Sleep(5 * time.Second)
		require.EqualValues(t, 2, starts.Load())
		began := time.Now()
		_, err = f.Call(t.Context(), nil)
		require.ErrorContains(t, err, "no disk")
		p, _ := sys.Plugin("late")
		assert.Equal(t, plugins.StateFailed, p.State)
		require.ErrorContains(t, p.Err, "no disk")
		assert.True(t, p.RetryAt.Before(began), "it is tried")
		write("plugins: [late, welcome]")
		require.NoError(t, sys.Reload(t.Context()))
		assert.Equal(t, "late failed, welcome ready", settled(sys))
		assert.Equal(t, began, time.Now(), "nothing has waited")

		time.Sleep(20 * time.Second)
		_, err = f.Call(t.Context(), nil)
		require.NoError(t, err)
		assert.EqualValues(t, 2, starts.Load())
	})
}
