package plugins_test

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins"
)

// private has a copy of the plug-in's file loaded, so that the file can be replaced.
func private(string) []loader.Option { return []loader.Option{loader.WithPrivateCopy()} }

// stat returns what was counted of one hook, or of one function.
func stat(t *testing.T, sys *plugins.System, plugin, point, function string) plugins.Stat {
	t.Helper()
	for _, s := range sys.Stats() {
		if s.Plugin == plugin && s.Point == point && s.Function == function {
			return s
		}
	}
	require.Fail(t, "nothing was counted", "%s %s%s", plugin, point, function)
	return plugins.Stat{}
}

// TestStats: many goroutines call a point, and each call is counted once, with what came of it; about one of 64 is timed.
func TestStats(t *testing.T) {
	const goroutines, rounds = 16, 40
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			sys := newHost(t, engine).add("aaaa", "bbbb").new(plugins.Counting())
			piped := plugins.Pipe[[]byte](sys, "piped", plugins.OnError(plugins.Skip), plugins.Breaker(0, 0))
			require.NoError(t, sys.Start(t.Context()))
			answer, err := sys.Func("plugin_bbbb", "answer")
			require.NoError(t, err)
			begun := time.Now()
			var all sync.WaitGroup
			for range goroutines {
				all.Go(func() {
					for range rounds {
						for in, want := range map[string]string{"": "+aaaa+bbbb", "aaaa=pass": "+bbbb", "aaaa=fail": "+bbbb"} {
							out, err := piped.Append(t.Context(), nil, []byte(in))
							assert.NoError(t, err)
							assert.Equal(t, in+want, string(out))
						}
						_, err := answer.Call(t.Context(), []byte("bbbb=fail"))
						assert.Error(t, err)
						for _, s := range sys.Stats() { // in the midst of it
							assert.GreaterOrEqual(t, s.Calls, s.Passed+s.Failed)
							assert.GreaterOrEqual(t, s.Failed, s.Crashed+s.Late)
							assert.GreaterOrEqual(t, s.Time, s.Longest)
						}
					}
				})
			}
			all.Wait()
			took := time.Since(begun)
			for _, c := range []struct {
				plugin, point, function string
				calls, passed, failed   uint64
			}{
				{"plugin_aaaa", "piped", "", 3, 1, 1},
				{"plugin_bbbb", "piped", "", 3, 0, 0},
				{"plugin_bbbb", "", "answer", 1, 0, 1},
			} {
				s := stat(t, sys, c.plugin, c.point, c.function)
				const n = goroutines * rounds
				assert.Equal(t, []uint64{c.calls * n, c.passed * n, c.failed * n, 0, 0}, []uint64{s.Calls, s.Passed, s.Failed, s.Crashed, s.Late}, "%+v", s)
				assert.Equal(t, (s.Calls+63)/64, s.Sampled, "the first, and each 64th after it")
				assert.LessOrEqual(t, s.Longest, s.Time)
				assert.LessOrEqual(t, s.Time, s.Longest*time.Duration(s.Sampled))
				assert.Equal(t, s.Time/time.Duration(s.Sampled), s.Mean())
				assert.Positive(t, s.Longest)
				assert.LessOrEqual(t, s.Longest, took)
				assert.Equal(t, 1, s.Versions)
				assert.Zero(t, s.LeftOut)
			}
			assert.Len(t, sys.Stats(), 3, "nothing else was called")
		})
	}
}

// TestStatsOfFailures: a call whose time is over is told from one whose worker crashes, and a hook that is left out is not called.
func TestStatsOfFailures(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			sys := newHost(t, engine).add("aaaa").new(plugins.Counting())
			asked := plugins.Collect[[]byte, []byte](sys, "asked", plugins.Breaker(1, time.Hour))
			require.NoError(t, sys.Start(t.Context()))
			_, err := asked.Call(t.Context(), nil)
			require.NoError(t, err)
			soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err = asked.Call(soon, []byte("aaaa=polls"))
			require.Error(t, err)
			s := stat(t, sys, "plugin_aaaa", "asked", "")
			assert.Equal(t, []uint64{2, 0, 1, 0, 1}, []uint64{s.Calls, s.Passed, s.Failed, s.Crashed, s.Late}, "%v", err)
			assert.Zero(t, s.LeftOut, "what the caller's context brings about is not the hook's failure")
			if engine == "isolated" {
				_, err = asked.Call(t.Context(), []byte("aaaa=crash"))
			} else {
				_, err = asked.Call(t.Context(), []byte("aaaa=unsound"))
			}
			require.Error(t, err)
			for range 3 {
				_, err = asked.Call(t.Context(), nil)
				require.ErrorIs(t, err, plugins.ErrBroken)
			}
			s = stat(t, sys, "plugin_aaaa", "asked", "")
			crashed := uint64(0)
			if engine == "isolated" {
				crashed = 1
			}
			assert.Equal(t, []uint64{3, 0, 2, crashed, 1}, []uint64{s.Calls, s.Passed, s.Failed, s.Crashed, s.Late}, "%v", err)
			assert.InDelta(t, time.Hour, s.LeftOut, float64(time.Minute))
		})
	}
}

// TestStatsAreOff: without Counting there are none.
func TestStatsAreOff(t *testing.T) {
	sys := newHost(t, "go").add("aaaa").new()
	told := plugins.Notify[[]byte](sys, "told")
	require.NoError(t, sys.Start(t.Context()))
	require.NoError(t, told.Call(t.Context(), nil))
	assert.Nil(t, sys.Stats())
	assert.Zero(t, plugins.Stat{}.Mean())
}

// TestStatsOfNamesThatNobodyHas: a function that the plug-in does not export leaves nothing behind, however often it is asked for; when a version has it, its handles call it,
// and are counted as one.
func TestStatsOfNamesThatNobodyHas(t *testing.T) {
	fixture.Loadable(t)
	folder := t.TempDir()
	file := filepath.Join(folder, "a"+fixture.Ext())
	variant(t, "system_asks", file)
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Folder(folder), plugins.Counting(), plugins.LoaderOptions(private))
	defer func() { require.NoError(t, closed(sys)) }()
	plugins.Offer(sys, "host", func(context.Context, []byte) ([]byte, error) { return nil, nil }, plugins.Public())
	require.NoError(t, sys.Start(t.Context()))
	var handles []*plugins.Func
	for i := range 100 {
		f, err := sys.Func("plugin_aaaa", "nobody"+strconv.Itoa(i))
		require.NoError(t, err)
		_, err = f.Call(t.Context(), nil)
		require.ErrorIs(t, err, plugins.ErrFunction)
		f, err = sys.Func("plugin_aaaa", "answer") // of the version to come
		require.NoError(t, err)
		handles = append(handles, f)
		_, err = f.Call(t.Context(), nil)
		require.ErrorIs(t, err, plugins.ErrFunction)
	}
	assert.Empty(t, sys.Stats())
	variant(t, "system", file, "1.0.0", "1.0.1")
	require.NoError(t, sys.Reload(t.Context()))
	for _, f := range handles {
		out, err := f.Call(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, "aaaa", string(out))
	}
	assert.EqualValues(t, len(handles), stat(t, sys, "plugin_aaaa", "", "answer").Calls)
	assert.Len(t, sys.Stats(), 1)
}

// TestStatsOutliveVersions: a call that meets a version that is being replaced is counted once, with the version that ran it.
func TestStatsOutliveVersions(t *testing.T) {
	host := newHost(t, "in-process").add("aaaa")
	sys := host.new(plugins.Counting(), plugins.LoaderOptions(private))
	answer := plugins.First[[]byte, []byte](sys, "decided", plugins.Limit(0))
	require.NoError(t, sys.Start(t.Context()))
	_, _, err := answer.Append(t.Context(), nil, nil) // it is open from here on
	require.NoError(t, err)
	stop := make(chan struct{})
	calls := [4]uint64{1}
	var all sync.WaitGroup
	for i := range calls {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, _, err := answer.Append(t.Context(), nil, nil)
				assert.NoError(t, err)
				calls[i]++
			}
		})
	}
	const replacements = 8
	for i := range replacements {
		variant(t, "system", filepath.Join(host.folder, "plugin_aaaa"+fixture.Ext()), "aaaa", "aaaa", "1.0.0", "1.0."+strconv.Itoa(i+1))
		require.NoError(t, sys.Reload(t.Context()))
	}
	close(stop)
	all.Wait()
	s := stat(t, sys, "plugin_aaaa", "decided", "")
	assert.Equal(t, calls[0]+calls[1]+calls[2]+calls[3], s.Calls)
	assert.Zero(t, s.Failed)
	assert.Equal(t, 1+replacements, s.Versions)
}

// TestSuspendedSaysWhy: a plug-in whose workers crash is told with the last crash, and a call that none of them got is not one whose worker has crashed.
func TestSuspendedSaysWhy(t *testing.T) {
	sys := newHost(t, "isolated").add("aaaa").new(plugins.Counting())
	asked := plugins.Collect[[]byte, []byte](sys, "asked", plugins.Breaker(0, 0))
	brittle := plugins.Pipe[[]byte](sys, "piped", plugins.Breaker(1, time.Hour))
	require.NoError(t, sys.Start(t.Context()))
	_, err := brittle.Append(t.Context(), nil, []byte("aaaa=fail"))
	require.Error(t, err)
	crashed, refused := uint64(0), uint64(0)
	for refused < 3 {
		_, err = asked.Call(t.Context(), []byte("aaaa=crash"))
		require.ErrorIs(t, err, loader.ErrCrash)
		if errors.Is(err, loader.ErrSuspended) {
			refused++
		} else {
			crashed++
		}
	}
	s := stat(t, sys, "plugin_aaaa", "asked", "")
	assert.Equal(t, []uint64{crashed + refused, crashed}, []uint64{s.Failed, s.Crashed})
	assert.NoError(t, s.Err, "it is not left out")
	assert.ErrorContains(t, stat(t, sys, "plugin_aaaa", "piped", "").Err, "as it was told")
	known, _ := sys.Plugin("plugin_aaaa")
	assert.Equal(t, plugins.StateSuspended, known.State)
	var crash *loader.CrashError
	if assert.ErrorAs(t, known.Err, &crash) {
		assert.Zero(t, crash.Suspended, "the crash, and not that nothing was called")
	}
}
