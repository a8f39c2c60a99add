package isolate_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func unchanged(_ context.Context, in []byte) ([]byte, error) { return in, nil }

// Many more callers than processors, of short and of long calls, with and without host functions that call in turn:
// each gets its own result, and all come to an end.
func TestManyCallers(t *testing.T) {
	short := open(t, fixture.C(t, "echo"), isolate.InWorker())
	inner, err := short.Func("echo")
	require.NoError(t, err)
	hosts := open(t, fixture.C(t, "host"), isolate.InWorker(), loader.WithHostFunc("again", unchanged),
		loader.WithHostFunc("upper", func(ctx context.Context, in []byte) ([]byte, error) {
			out, err := inner.Call(ctx, in)
			return bytes.ToUpper(out), err
		}))
	upper, err := hosts.Func("upper")
	require.NoError(t, err)
	var all sync.WaitGroup
	for n := range 64 {
		all.Go(func() {
			for i := range 50 {
				in, f := fmt.Appendf(nil, "%d of %d", i, n), inner
				want := string(in)
				switch {
				case n%8 == 0:
					f, want = upper, strings.ToUpper(want)
				case n%8 == 1:
					in = bytes.Repeat(in, 10_000)
					want = string(in)
				}
				out, err := f.Call(ctx, in)
				if err != nil || string(out) != want {
					t.Errorf("%d: %v", n, err)
					return
				}
			}
		})
	}
	all.Wait()
}
