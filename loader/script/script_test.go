package script_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/script"
)

func TestFirst(t *testing.T) {
	double := loader.WithHostFunc("double", func(_ context.Context, in []byte) ([]byte, error) { return bytes.Repeat(in, 2), nil })
	for name, e := range engines(t) {
		t.Run(name, func(t *testing.T) {
			p, err := loader.Open("testdata/everything.js", loader.WithEngine(e), double, loader.WithConfig([]byte(`{"x":1}`)))
			require.NoError(t, err)
			for _, c := range [][3]string{{"upper", "abc", "ABC"}, {"echo", "\xff\x00", "\xff\x00"}, {"sum", `{"a":1,"b":2}`, `{"sum":3}`}, {"twice", "ab", "abababab"},
				{"graph", "101", `{"tier":"tier gold","table":{"rows":[1,2]}}`}, {"knows", "instance", "0"}} {
				out, err := p.Call(t.Context(), c[0], []byte(c[1]))
				require.NoError(t, err, c[0])
				assert.Equal(t, c[2], string(out), c[0])
			}
			for _, fn := range []string{"fails", "throws", "deep", "never", "loses", "passes", "grows"} {
				_, err := p.Call(t.Context(), fn, nil)
				t.Log(fn, err)
				assert.Error(t, err)
			}
			require.NoError(t, p.Close())
		})
	}
	_ = script.Engine
}
