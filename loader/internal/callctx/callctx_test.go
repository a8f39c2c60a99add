package callctx

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/engine"
)

func ask(t *testing.T, ctx context.Context) Caller {
	t.Helper()
	c, err := Ask(ctx)
	require.NoError(t, err)
	return c
}

// within makes a call within ctx that holds something.
func within(t *testing.T, ctx context.Context, holds any) *Call {
	t.Helper()
	return NewCalls(ask(t, ctx), "p", holds, 1).Take()
}

func held(c *Call) (all []any) {
	for at := range c.Running() {
		all = append(all, at.Holds())
	}
	return all
}

type name struct{}

func TestChain(t *testing.T) {
	var none context.Context
	_, err := Ask(none)
	assert.ErrorIs(t, err, engine.ErrNilContext)
	assert.Nil(t, ask(t, context.Background()).Outer)

	a := within(t, context.Background(), "a")
	b := within(t, context.WithValue(a, name{}, "value"), "b")
	assert.Equal(t, "value", b.Value(name{}), "a call's context is its caller's")
	c := within(t, b, "c")
	assert.Equal(t, []any{"c", "b", "a"}, held(c))
	b.End()
	assert.Equal(t, []any{"c", "a"}, held(c), "what is over does not count")
	assert.Same(t, a, ask(t, b).Outer, "a kept context leads to what still runs")
	a.End()
	c.End()
	assert.Nil(t, ask(t, c).Outer)
	assert.Empty(t, held(c))
}

func TestCallsHaveIdentities(t *testing.T) {
	calls := NewCalls(Background, "p", nil, 2)
	one, two := calls.Take(), calls.Take()
	assert.NotSame(t, one, two)
	assert.Nil(t, calls.Take())
	one.End()
	assert.Nil(t, ask(t, one).Outer)
	assert.Same(t, two, ask(t, two).Outer, "of the same parent, it still runs")
}

func TestDepth(t *testing.T) {
	ctx := context.Background()
	var all []*Call
	for range engine.MaxDepth {
		c := within(t, ctx, nil)
		all, ctx = append(all, c), c
	}
	ending, cancel := context.WithCancel(ctx)
	caller, err := Ask(ending)
	assert.ErrorIs(t, err, engine.ErrTooDeep)
	assert.ErrorIs(t, err, engine.ErrReentrant)
	cancel()
	assert.True(t, caller.Ended(), "it is good for what is no call")
	assert.ErrorIs(t, caller.Cause(), context.Canceled)
	all[0].End()
	ask(t, ctx) // one level less is in progress

	// Calls one after the other, each with the context of the one before, may go on for ever.
	ctx = context.Background()
	for range 3 * engine.MaxDepth {
		c := within(t, ctx, nil)
		c.End()
		ctx = c
	}
}

func TestEnded(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	before := ask(t, ctx)
	assert.False(t, before.Over)
	assert.False(t, before.Ended())
	cancel(assert.AnError)
	assert.True(t, before.Ended())
	assert.ErrorIs(t, before.Cause(), assert.AnError)
	after := ask(t, ctx)
	assert.True(t, after.Over)
	lasting := after.WithoutCancel()
	assert.False(t, lasting.Ended())
}

// plugin is a Wanted whose instances are held by calls.
type plugin struct {
	name    string
	holders []*Call
	all     bool      // whether who waits needs all of them to end
	others  [][]*Call // more sets
}

func (p *plugin) Owner() string { return p.name }
func (p *plugin) Holders() [][]*Call {
	if p.all {
		return append([][]*Call{p.holders}, p.others...)
	}
	return append(Each(p.holders), p.others...)
}

func TestCircles(t *testing.T) {
	a, b, c := &plugin{name: "a"}, &plugin{name: "b"}, &plugin{name: "c"}
	inA, inB, inC := within(t, context.Background(), a), within(t, context.Background(), b), within(t, context.Background(), c)
	a.holders, b.holders, c.holders = []*Call{inA}, []*Call{inB}, []*Call{inC}

	one, err := Wait(inA, b)
	require.NoError(t, err, "who has b does not wait")
	two, err := Wait(inB, c)
	require.NoError(t, err)
	_, err = Wait(inC, a)
	var circle *engine.Deadlock
	require.ErrorAs(t, err, &circle)
	assert.Equal(t, []string{"a", "b", "c"}, circle.Plugins)
	assert.ErrorIs(t, err, engine.ErrReentrant)

	a.holders = append(a.holders, nil) // an instance of a is free, or in a call that does not wait
	three, err := Wait(inC, a)
	require.NoError(t, err)
	three.Done()

	a.all = true // who waits for all calls of a waits for the one in a, too
	_, err = Wait(inC, a)
	assert.ErrorIs(t, err, engine.ErrDeadlock)
	a.others = [][]*Call{{inB}}
	_, err = Wait(inC, a)
	assert.ErrorIs(t, err, engine.ErrDeadlock, "the other way goes by one that waits as well")
	a.others = [][]*Call{{inB}, {nil, nil}}
	three, err = Wait(inC, a)
	require.NoError(t, err, "or for others, who go on")
	three.Done()
	a.holders, a.all, a.others = a.holders[:1], false, nil

	two.Done()
	three, err = Wait(inC, a)
	require.NoError(t, err, "b goes on")
	three.Done()
	one.Done()
	outside, err := Wait(nil, a)
	require.NoError(t, err, "a call that comes from none closes no circle")
	outside.Done()
	assert.Empty(t, waits.within)
}

// What leads to a circle is not part of it.
func TestCircleWithoutItsHead(t *testing.T) {
	x, y := &plugin{name: "x"}, &plugin{name: "y"}
	inX, inY, last := within(t, context.Background(), x), within(t, context.Background(), y), within(t, context.Background(), y)
	x.holders, y.holders = []*Call{inX}, []*Call{inY, last}
	one, err := Wait(inX, y)
	require.NoError(t, err, "one call of y goes on")
	two, err := Wait(inY, x)
	require.NoError(t, err, "and so does x")
	_, err = Wait(last, x)
	var circle *engine.Deadlock
	require.ErrorAs(t, err, &circle)
	assert.Equal(t, []string{"y", "x"}, circle.Plugins)
	assert.Equal(t, "y → x → y", circle.Circle())
	one.Done()
	two.Done()
	assert.Empty(t, waits.within)
}
