package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func of(c call) *worker {
	return &worker{calls: make(map[string][]call), open: func() (*peer, error) {
		return &peer{fn: func(string) (call, error) { return c, nil }}, nil
	}}
}

// A contender that returns the wrong bytes is found out, however it does.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		fn, want string
		call     call
	}{
		"short":     {"echo", "differ", func(_, in []byte) ([]byte, error) { return in[1:], nil }},
		"ask":       {"ask", "differ", func(_, in []byte) ([]byte, error) { return make([]byte, len(in)), nil }},
		"appends":   {"echo", "differ", func(_, in []byte) ([]byte, error) { return append([]byte{1}, in...), nil }},
		"few bytes": {"count_vowels", "expected 8", func(_, in []byte) ([]byte, error) { return in[:4], nil }},
		"miscounts": {"count_vowels", "expected 17", func(dst, _ []byte) ([]byte, error) {
			return binary.LittleEndian.AppendUint64(dst, 3), nil
		}},
		"fails": {"echo", "out of order", func(_, _ []byte) ([]byte, error) { return nil, errors.New("out of order") }},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := of(c.call).do(fmt.Sprintf("check %s 64 2", c.fn))
			require.ErrorContains(t, err, c.want)
		})
	}
	_, _, err := of(func(dst, in []byte) ([]byte, error) { return append(dst, in...), nil }).do("check echo 4096 2")
	require.NoError(t, err)
}

// run makes as many calls as it is told, and counts their allocations.
func TestRun(t *testing.T) {
	calls := make(map[*byte]int)
	w := of(func(dst, in []byte) ([]byte, error) {
		calls[&in[0]]++
		return make([]byte, 1<<16), nil
	})
	ns, allocs, err := w.do("run echo 64 1 100")
	require.NoError(t, err)
	require.Positive(t, ns)
	require.InDelta(t, 100, allocs, 20)
	for _, n := range calls {
		require.Equal(t, 100, n)
	}
	require.Len(t, calls, 1, "one input for all calls")
}
