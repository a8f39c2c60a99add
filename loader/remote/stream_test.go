package remote_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

func init() { tests = append(tests, test{"Streams", testStreams}) }

// slow is a reader's buffer that takes nothing before it may.
type slow struct {
	bytes.Buffer
	may <-chan struct{}
}

func (s *slow) Write(b []byte) (int, error) {
	<-s.may
	return s.Buffer.Write(b)
}

// Many short pieces, which nobody takes at first: none is lost, whatever the broker has room for.
func testStreams(t *testing.T, k *kit) {
	s := k.Start(t, 0)
	const streams, lines = 8, 20_000
	var begun sync.WaitGroup
	begun.Add(streams)
	k.Node(t, serve.Go(&builtin.Plugin{Name: "counter", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{
		{Name: "count", Stream: abi.StreamOut, Call: func(ctx context.Context, in []byte) ([]byte, error) {
			n, err := strconv.Atoi(string(in))
			if err != nil {
				return nil, err
			}
			begun.Done()
			for i := range n {
				if _, err := fmt.Fprintln(builtin.Output(ctx), i); err != nil {
					return nil, err
				}
			}
			return []byte("counted"), nil
		}}}}), node{URL: s.URL(), Workers: streams})
	p, err := loader.Open(s.URL()+"/counter", k.Plugin(0))
	require.NoError(t, err)
	defer p.Close()
	var expected bytes.Buffer
	for i := range lines {
		fmt.Fprintln(&expected, i)
	}
	may := make(chan struct{})
	var callers sync.WaitGroup
	f, err := p.Func("count")
	require.NoError(t, err)
	for range streams {
		callers.Go(func() {
			w := &slow{may: may}
			out, err := f.Stream(context.Background(), fmt.Append(nil, lines), nil, w)
			if assert.NoError(t, err) {
				assert.Equal(t, "counted", string(out))
				assert.True(t, bytes.Equal(expected.Bytes(), w.Bytes()))
			}
		})
	}
	begun.Wait()
	close(may)
	callers.Wait()
}
