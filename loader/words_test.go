package loader_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

var errCustomerLeft = errors.New("the customer left")

// left returns a context that has ended with errCustomerLeft for a cause.
func left() context.Context {
	c, cancel := context.WithCancelCause(ctx)
	cancel(errCustomerLeft)
	return c
}

// Who cancels with a cause has both in the chain of every error: why, and that it was cancelled.
func TestCausesAreBesideTheContextsError(t *testing.T) {
	t.Parallel() // it waits
	both := func(t *testing.T, err error) {
		t.Helper()
		assert.ErrorIs(t, err, errCustomerLeft)
		assert.ErrorIs(t, err, context.Canceled)
		assert.ErrorContains(t, err, errCustomerLeft.Error())
	}
	bothWays(t, func(t *testing.T, w way) {
		p := openHost(t, w, upper, echo)
		_, err := p.Call(left(), "wait", nil)
		both(t, err)
		inside, leave := context.WithCancelCause(ctx)
		time.AfterFunc(5*time.Millisecond, func() { leave(errCustomerLeft) })
		_, err = p.Call(inside, "wait", nil)
		both(t, err)
		f, err := p.Func("wait")
		require.NoError(t, err)
		both(t, f.Batch(left(), [][]byte{nil}, new(loader.Batch)))
		_, err = w.openContext(left(), fixture.C(t, "echo"))
		both(t, err)
		assert.ErrorContains(t, err, "not opened: the context had ended before")
		assert.NotContains(t, err.Error(), "constructors", "none ran")

		held, err := w.try(fixture.C(t, "echo"))
		require.NoError(t, err)
		f, err = held.Func("echo")
		require.NoError(t, err)
		view, err := f.View(ctx, []byte("x"))
		require.NoError(t, err)
		err = held.Shutdown(left())
		both(t, err)
		assert.ErrorContains(t, err, "with 1 view not released")
		view.Release()
	})
	entered, leave := context.WithCancelCause(ctx)
	hanging := isolated.open(t, fixture.C(t, "fault_infinite_loop"), loader.WithLogger(whenBegun(func() { leave(errCustomerLeft) })))
	_, err := hanging.Call(entered, "fault", nil)
	both(t, err)
	assert.ErrorContains(t, err, "fault: it did not return after its context had ended (context canceled: the customer left) and 5s more (isolate.WithGrace)")
}

// Shutdown that kills a call says so: ferrule_stop was not reached.
func TestShutdownOfACall(t *testing.T) {
	begun := make(chan bool, 1)
	p, err := isolated.try(fixture.C(t, "fault_infinite_loop"), loader.WithLogger(whenBegun(func() { begun <- true })))
	require.NoError(t, err)
	called := make(chan error)
	go func() { _, err := p.Call(ctx, "fault", nil); called <- err }()
	<-begun
	err = p.Shutdown(left())
	assert.ErrorIs(t, err, errCustomerLeft)
	assert.ErrorIs(t, err, context.Canceled)
	var late *loader.ShutdownError
	if errors.As(err, &late) { // the machine took longer to end the killed worker than Shutdown waits; then this is how it ended
		err = p.Shutdown(ctx)
	}
	var crash *loader.CrashError
	require.ErrorAs(t, err, &crash)
	assert.Empty(t, crash.Func)
	assert.ErrorContains(t, err, "the context of Shutdown had ended, with 1 call in progress")
	require.ErrorAs(t, <-called, &crash)
	assert.Equal(t, "fault", crash.Func)
}

// A call that ended with its context says why.
func TestCancelledCallsSayWhy(t *testing.T) {
	bothWays(t, func(t *testing.T, w way) {
		p := openHost(t, w, upper, echo)
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		_, err := p.Call(short, "wait", nil)
		assert.ErrorContains(t, err, "cancelled")
		assert.ErrorContains(t, err, context.DeadlineExceeded.Error())
	})
}

func TestFunctionsAndHooksAreToldApart(t *testing.T) {
	p := open(t, fixture.C(t, "echo"))
	hook, fn := p.Info().Hooks[0].Name, p.Info().Funcs[0].Name
	_, err := p.Func(hook)
	assert.ErrorIs(t, err, loader.ErrNoFunc)
	assert.ErrorContains(t, err, "no such function; "+hook+" is a hook: use Hook")
	_, err = p.Hook(fn)
	assert.ErrorIs(t, err, loader.ErrNoHook)
	assert.ErrorIs(t, err, loader.ErrNoFunc, "as before")
	assert.ErrorContains(t, err, "no such hook; "+fn+" is a function: use Func")
	_, err = p.Hook("nowhere")
	assert.ErrorIs(t, err, loader.ErrNoHook)
}

// A path is shown as a terminal can show it; a name is proposed only where it is near; and no offers are no list.
func TestWordsOfOpen(t *testing.T) {
	_, err := loader.Open("missing\x1b[2J\n.so")
	assert.ErrorContains(t, err, `"missing\x1b[2J\n.so": `)
	_, err = loader.Open("a file with spaces, and ü.so")
	assert.ErrorContains(t, err, "a file with spaces, and ü.so: ")
	assert.NotContains(t, err.Error(), `"`)
	_, err = loader.Open(fixture.C(t, "host"))
	assert.ErrorContains(t, err, "the host offers none")
	_, err = loader.Open(fixture.C(t, "host"), loader.WithHostFunc("uper", upper), loader.WithHostFunc("x", upper))
	assert.ErrorContains(t, err, "of what is offered: ")
	p := open(t, fixture.C(t, "echo"))
	_, err = p.Func("ehco")
	assert.ErrorContains(t, err, `did you mean "echo"?`)
	_, err = p.Func("x")
	assert.NotContains(t, err.Error(), "did you mean")
}

// The worker's end is of no one call: each says how many others were in it, of which one may be why.
func TestNeighboursOfACrash(t *testing.T) {
	entered := make(chan bool)
	p, err := loader.Open(fixture.C(t, "host"), isolate.InWorker(), loader.WithInstances(3), loader.WithHostFunc("again", echo),
		loader.WithHostFunc("upper", func(ctx context.Context, in []byte) ([]byte, error) {
			entered <- true
			<-ctx.Done()
			return nil, ctx.Err()
		}))
	require.NoError(t, err)
	defer p.Close()
	errs := make(chan error)
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	for range 3 {
		go func() { _, err := p.Call(bounded, "upper", []byte("x")); errs <- err }()
	}
	for range 3 {
		<-entered
	}
	at, _ := p.Isolation()
	worker, err := os.FindProcess(at.PID)
	require.NoError(t, err)
	require.NoError(t, worker.Kill())
	require.Eventually(t, func() bool { now, _ := p.Isolation(); return now.PID == 0 }, time.Minute, time.Millisecond)
	cancel()
	for range 3 {
		var crash *loader.CrashError
		require.ErrorAs(t, <-errs, &crash)
		assert.Equal(t, 2, crash.Others)
		assert.ErrorContains(t, crash, "2 other calls in the worker")
	}
}
