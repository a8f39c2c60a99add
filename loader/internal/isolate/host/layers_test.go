//go:build linux

package host

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/engine"
)

// What shuts a worker in is told once, before anything of the plug-in's runs in it: what comes later may be the plug-in's.
func TestLayersAreToldOnce(t *testing.T) {
	const length = 4 // numbers[4] is 16, as long as these
	tell := func(list string) []byte {
		require.Len(t, list, int(numbers[length]))
		const opLayers = 12 // in kinds
		return script(stWrite, upAt/2>>8, upAt/2&0xff, len(list), list, stMessage, opLayers, 0, 0, length, zero, stPost, stReceive)
	}
	const seccomp, unknown = `["c2VjY29tcA=="]`, `["bm9uc2Vuc2Ux"]`
	for _, c := range []struct {
		name  string
		steps []byte
		want  string // of opening's error
		later bool   // in the first call
	}{
		{"once", script(stReceive, tell(seccomp), stHonest), "", false},
		{"not at all", script(stReceive, stHonest), "", false},
		{"twice", script(stReceive, tell(seccomp), tell(seccomp), stHonest), "told before", false},
		{"one that there is not", script(stReceive, tell(unknown), stHonest), `the layer "nonsense1"`, false},
		{"in a call", script(stReceive, stHonest, stReceive, tell(seccomp), stHonest), "told before", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, w, err := pluginFor(t, &victim{t: t, most: 1 << 20}, tame|hostileOpen, c.steps)
			if c.want != "" && !c.later {
				assert.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			p.opened()
			want := []string{"none"}
			if c.name == "once" {
				want = append(want, "seccomp")
			}
			if c.later {
				within(t, "a call", func() { _, _, err = p.Append(context.Background(), engine.Fn{}, nil, nil) })
				require.IsType(t, (*engine.Crash)(nil), err)
				assert.ErrorContains(t, err, c.want)
				assert.Equal(t, want, w.layers)
				return
			}
			assert.Equal(t, want, p.Isolation().Layers)
		})
	}
}
