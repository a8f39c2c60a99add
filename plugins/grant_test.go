package plugins_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// TestGrantsIsAskedForEachKind: for what a manifest asks for and config.yaml does not permit, the memory too.
func TestGrantsIsAskedForEachKind(t *testing.T) {
	keys := map[string]string{"permit.read": "/a", "permit.write": "/b", "permit.connect": "443", "permit.listen": "0", "permit.memory": "2097152"}
	path, _ := written(t, "plugins: [{name: a, permit: {memory: 1MiB}}]")
	for _, yes := range []bool{true, false} {
		var asked []plugins.Request
		sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(simple("a", "1.2.3", keys)), plugins.Grants(func(r plugins.Request) bool {
			asked = append(asked, r)
			return yes
		}))
		require.NoError(t, sys.Start(t.Context()))
		var want []plugins.Request
		for _, w := range [][2]string{{"read", "/a"}, {"write", "/b"}, {"connect", "443"}, {"listen", "0"}, {"memory", "2097152"}} {
			want = append(want, plugins.Request{Plugin: "a", Version: "1.2.3", What: w[0], Name: w[1]})
		}
		assert.Equal(t, want, asked)
		p, _ := sys.Plugin("a")
		if yes {
			assert.NoError(t, p.Err)
		} else {
			assert.ErrorIs(t, p.Err, plugins.ErrGrant)
			assert.ErrorContains(t, p.Err, "memory 2097152 (of 1048576)")
		}
		require.NoError(t, closed(sys))
	}
}

// TestAllThatLacksAtOnce: what config.yaml does not grant and does not permit is told in one error, with what is to be written and what stands there; a grant that is a slip is not
// in it. Of an entry that is a name alone it is the whole entry.
func TestAllThatLacksAtOnce(t *testing.T) {
	for text, want := range map[string]string{
		"plugins: [{name: a, grant: [not, other, geo_*]}]":                                "Write grant: [other, geo_*, note] and permit: {connect: [443]} in its entry, line 1 of ",
		"plugins: [{name: a, grant: [note, nott]}]":                                       "Write permit: {connect: [443]} in its entry, line 1 of ",
		"plugins: [{name: a, grant: [nott], permit: {connect: [443]}}]":                   "Write grant: [note] in its entry, line 1 of ",
		"plugins: [{name: a, permit: {memory: 1MiB, connect: [80]}, isolate: {cpu: 9s}}]": "Write grant: [note] and permit: {connect: [80, 443], memory: 1MiB} in its entry, line 1 of ",
		"plugins: [a]": ", as {name: a, grant: [note], permit: {connect: [443]}}",
	} {
		path, _ := written(t, text)
		sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Config(path), plugins.Builtin(simple("a", "1.0.0", map[string]string{"permit.connect": "443"}, "note")))
		plugins.Offer(sys, "note", func(context.Context, []byte) ([]byte, error) { return nil, nil })
		require.NoError(t, sys.Start(t.Context()))
		p, _ := sys.Plugin("a")
		require.ErrorIs(t, p.Err, plugins.ErrGrant, text)
		assert.ErrorContains(t, p.Err, want)
		require.NoError(t, closed(sys))
	}
}

// TestQuotaWithinAnySecond: a second that begins anywhere has no more calls than it may.
func TestQuotaWithinAnySecond(t *testing.T) {
	const most = 10
	p := simple("a", "1.0.0", nil, "note")
	p.Funcs = append(p.Funcs, builtin.Function{Name: "call", Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "note", in) }})
	sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(p))
	var ran []time.Time
	plugins.Offer(sys, "note", func(context.Context, []byte) ([]byte, error) {
		ran = append(ran, time.Now())
		return nil, nil
	}, plugins.Public(), plugins.PerSecond(most))
	require.NoError(t, sys.Start(t.Context()))
	defer func() { require.NoError(t, closed(sys)) }()
	f, err := sys.Func("a", "call")
	require.NoError(t, err)
	for begun := time.Now(); time.Since(begun) < 2500*time.Millisecond; time.Sleep(20 * time.Millisecond) { // a burst at the end of a second, and the next
		if len(ran) == 0 || time.Since(begun) > 900*time.Millisecond {
			_, _ = f.Call(t.Context(), nil)
			_, _ = f.Call(t.Context(), nil)
		}
	}
	require.Greater(t, len(ran), most, "it may again later")
	const slack = 50 * time.Millisecond // the function looks at its clock after the bound has
	for i := most; i < len(ran); i++ {
		assert.Greater(t, ran[i].Sub(ran[i-most])+slack, time.Second, "calls %d to %d", i-most, i)
	}
}

// TestDeclaredByLayers: what a sandbox of best-effort lacks on this system is only declared.
func TestDeclaredByLayers(t *testing.T) {
	for _, c := range []struct {
		files, ports int
		layers       []string
		declared     bool
	}{
		{1, 0, nil, true},
		{1, 0, []string{"no-new-privs", "rlimit files", "seccomp"}, true},
		{1, 0, []string{"landlock v3: files"}, false},
		{1, 1, []string{"landlock v3: files"}, true},
		{0, 1, []string{"landlock v3: files"}, true},
		{1, 1, []string{"landlock v4: files", "landlock v4: tcp"}, false},
		{0, 1, []string{"job: memory", "job: cpu"}, true},
	} {
		assert.Equal(t, c.declared, plugins.Declared(c.files, c.ports, c.layers...), "%v", c)
	}
}
