package order_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/order"
)

// print writes an order as a list of hooks with their reasons would be printed.
func print(hooks []order.Hook, places []order.Place) []string {
	var lines []string
	for _, p := range places {
		lines = append(lines, hooks[p.Hook].Plugin+": "+p.Reason)
	}
	return lines
}

func TestOrderAndReasons(t *testing.T) {
	for _, c := range []struct {
		name   string
		hooks  []order.Hook
		user   string // separated by spaces
		want   []string
		faults []string
	}{
		{name: "none"},
		{name: "one", hooks: []order.Hook{{Plugin: "tax"}}, want: []string{"tax: the only one"}},
		{name: "by name", hooks: []order.Hook{{Plugin: "tax"}, {Plugin: "audit"}, {Plugin: "Zoll"}},
			want: []string{"Zoll: by name", "audit: by name", "tax: by name"}},
		{name: "priority", hooks: []order.Hook{{Plugin: "a"}, {Plugin: "b", Priority: -1}, {Plugin: "c", Priority: 10}, {Plugin: "d", Priority: 10}},
			want: []string{"c: priority 10", "d: priority 10", "a: by name", "b: priority -1"}},
		{name: "first and last", hooks: []order.Hook{{Plugin: "a", Last: true}, {Plugin: "b", Priority: 99}, {Plugin: "c", First: true}},
			want: []string{"c: first", "b: priority 99", "a: last"}},
		{name: "several first", hooks: []order.Hook{{Plugin: "a", First: true}, {Plugin: "b", First: true, Priority: 2}, {Plugin: "c", First: true, Before: []string{"b"}}, {Plugin: "d"}},
			want: []string{"a: first, by name", "c: first, before b", "b: first, after c", "d: by name"}},
		{name: "before and after", hooks: []order.Hook{{Plugin: "tax", After: []string{"discount"}}, {Plugin: "discount"}, {Plugin: "round", Before: []string{"audit", "nobody"}}, {Plugin: "audit"}},
			want: []string{"discount: by name", "round: before audit", "audit: after round", "tax: by name"}},
		{name: "a hook that waits does not pull forward", hooks: []order.Hook{{Plugin: "slow"}, {Plugin: "eager", Priority: 9, After: []string{"slow"}}, {Plugin: "middle", Priority: 5}},
			want: []string{"middle: priority 5", "slow: before eager", "eager: after slow"}},
		{name: "the user's list", hooks: []order.Hook{{Plugin: "tax", Priority: 5}, {Plugin: "audit"}, {Plugin: "round"}, {Plugin: "log"}}, user: "audit * tax",
			want: []string{"audit: the user's list (config.yaml: hooks.before_save)", "log: by name", "round: by name", "tax: the user's list (config.yaml: hooks.before_save)"}},
		{name: "a list without a star", hooks: []order.Hook{{Plugin: "tax"}, {Plugin: "audit"}, {Plugin: "round"}}, user: "tax round",
			want: []string{"tax: the user's list (config.yaml: hooks.before_save)", "round: the user's list (config.yaml: hooks.before_save)", "audit: by name"}},
		{name: "a star alone", hooks: []order.Hook{{Plugin: "tax"}, {Plugin: "audit", Last: true}}, user: "*", want: []string{"tax: by name", "audit: last"}},
		{name: "the user wins", hooks: []order.Hook{{Plugin: "tax", Before: []string{"audit", "log"}, First: true}, {Plugin: "audit"}, {Plugin: "log"}, {Plugin: "round", Last: true, After: []string{"log"}}}, user: "round audit * tax",
			want: []string{"round: the user's list (config.yaml: hooks.before_save); overrides `after log`, `last`",
				"audit: the user's list (config.yaml: hooks.before_save)", "log: by name",
				"tax: the user's list (config.yaml: hooks.before_save); overrides `before audit`, `before log`, `first`"}},
		{name: "the user's list against first and last", hooks: []order.Hook{{Plugin: "a"}, {Plugin: "f", First: true}, {Plugin: "g", First: true}, {Plugin: "y", Last: true}, {Plugin: "z", Last: true}}, user: "f a g * y z",
			want: []string{"f: the user's list (config.yaml: hooks.before_save)", "a: the user's list (config.yaml: hooks.before_save)",
				"g: the user's list (config.yaml: hooks.before_save); overrides `first`",
				"y: the user's list (config.yaml: hooks.before_save)", "z: the user's list (config.yaml: hooks.before_save)"}},
		{name: "one that is first behind one that is not and one that is", hooks: []order.Hook{{Plugin: "a"}, {Plugin: "f", First: true}, {Plugin: "g", First: true}, {Plugin: "z", Last: true}}, user: "z a f g",
			want: []string{"z: the user's list (config.yaml: hooks.before_save); overrides `last`", "a: the user's list (config.yaml: hooks.before_save)",
				"f: the user's list (config.yaml: hooks.before_save); overrides `first`", "g: the user's list (config.yaml: hooks.before_save); overrides `first`"}},
		{name: "the user wins over one that is not named", hooks: []order.Hook{{Plugin: "tax", Before: []string{"audit"}}, {Plugin: "audit"}, {Plugin: "f", First: true}}, user: "audit",
			want: []string{"audit: the user's list (config.yaml: hooks.before_save); overrides `before audit` of tax",
				"f: first of those that the user's list does not name", "tax: by name"}},
		{name: "a name that nobody has", hooks: []order.Hook{{Plugin: "audit"}, {Plugin: "tax"}}, user: "audti zzz tax * tax",
			want: []string{"tax: the user's list (config.yaml: hooks.before_save)", "audit: by name"},
			faults: []string{"config.yaml: hooks names a plug-in that has no hook here: found audti, and no plug-in of this name, expected the name of a plug-in with a hook at this point. Did you mean audit?",
				"config.yaml: hooks names a plug-in that has no hook here: found zzz, and no plug-in of this name, expected the name of a plug-in with a hook at this point. Take it out of config.yaml: hooks.before_save, or install the plug-in",
				"config.yaml: hooks names one twice: found tax twice, expected each name once. Take one of them out of config.yaml: hooks.before_save; the first counts"}},
		{name: "a circle", hooks: []order.Hook{{Plugin: "a", Before: []string{"b"}}, {Plugin: "b", Before: []string{"c"}}, {Plugin: "c", Before: []string{"a"}}, {Plugin: "d", After: []string{"c"}}},
			want: []string{"a: by name", "b: by name", "c: by name", "d: by name"},
			faults: []string{"plug-in c: a circle of before and after: found c before a before b before c, expected an order without a circle. " +
				"`before a` of c was left out; change one of the plug-ins, or name them in config.yaml: hooks.before_save, in the order that you want"}},
		{name: "the weakest of a circle is of the lowest priority", hooks: []order.Hook{{Plugin: "a", Before: []string{"b"}}, {Plugin: "b", Before: []string{"a"}, Priority: 1}},
			want: []string{"b: priority 1", "a: by name"},
			faults: []string{"plug-in a: a circle of before and after: found a before b before a, expected an order without a circle. " +
				"`before b` of a was left out; change one of the plug-ins, or name them in config.yaml: hooks.before_save, in the order that you want"}},
		{name: "the user's list breaks a circle", hooks: []order.Hook{{Plugin: "a", Before: []string{"b"}}, {Plugin: "b", Before: []string{"a"}}}, user: "b",
			want: []string{"b: the user's list (config.yaml: hooks.before_save); overrides `before b` of a", "a: by name"}},
		{name: "its own name", hooks: []order.Hook{{Plugin: "a", After: []string{"a"}}, {Plugin: "b"}}, want: []string{"a: by name", "b: by name"},
			faults: []string{"plug-in a: a circle of before and after: found `after a`, its own name, expected the name of another plug-in. It is passed over; take it out of the plug-in"}},
		{name: "first after one that is not", hooks: []order.Hook{{Plugin: "a", First: true, After: []string{"b"}}, {Plugin: "b"}, {Plugin: "z", Last: true, Before: []string{"a"}}},
			want: []string{"a: first", "b: by name", "z: last"},
			faults: []string{"plug-in a: a place that first or last leaves no room for: found `after b`, where a says first and b says neither first nor last, expected a relation that first and last leave room for. " +
				"It is passed over; change one of the plug-ins, or name both in config.yaml: hooks.before_save",
				"plug-in z: a place that first or last leaves no room for: found `before a`, where a says first and z says last, expected a relation that first and last leave room for. " +
					"It is passed over; change one of the plug-ins, or name both in config.yaml: hooks.before_save"}},
		{name: "first and last at once", hooks: []order.Hook{{Plugin: "a", First: true, Last: true}, {Plugin: "b", First: true}}, want: []string{"b: first", "a: by name"},
			faults: []string{"plug-in a: a place that first or last leaves no room for: found `first` and `last`, expected one of the two. Neither counts; change the plug-in, or name it in config.yaml: hooks.before_save"}},
		{name: "names that steer a terminal", hooks: []order.Hook{{Plugin: "a\x1b[2J", Before: []string{"b"}}, {Plugin: "b", Priority: 3}}, want: []string{"a\x1b[2J: before b", "b: after \"a\\x1b[2J\""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			places, faults := order.Of("before_save", c.hooks, strings.Fields(c.user), nil)
			assert.Equal(t, c.want, print(c.hooks, places))
			var texts []string
			for _, f := range faults {
				texts = append(texts, f.Error())
			}
			assert.Equal(t, c.faults, texts)
		})
	}
}

func TestFaultIsOfItsKind(t *testing.T) {
	_, faults := order.Of("save", []order.Hook{{Plugin: "a", Before: []string{"b"}}, {Plugin: "b", Before: []string{"a"}}, {Plugin: "c", First: true, Last: true}}, []string{"nobody", "c", "c"}, nil)
	require.Len(t, faults, 4)
	for i, kind := range []error{order.ErrUnknown, order.ErrTwice, order.ErrPlace, order.ErrCircle} {
		assert.ErrorIs(t, faults[i], kind)
	}
	assert.Equal(t, []string{"b", "a"}, faults[3].Circle)
	_, faults = order.Of("save", nil, []string{"nobody"}, nil)
	require.Len(t, faults, 1)
	assert.Contains(t, faults[0].Remedy, "config.yaml: hooks.save,", "without a hook at the point")
}
