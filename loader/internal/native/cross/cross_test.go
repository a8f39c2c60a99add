package cross_test

import (
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/native/dl"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// function returns the address of a function of the fixture echo.
func function(t testing.TB, name string) uintptr {
	t.Helper()
	lib, err := dl.Open(fixture.C(t, "echo"))
	require.NoError(t, err)
	fn, err := lib.Lookup(name)
	require.NoError(t, err)
	return fn
}

func newFrame() *abi.Call {
	frame := new(abi.Call)
	frame.Size = unsafe.Sizeof(*frame)
	return frame
}

// What a function returns and what it leaves in the frame come back, also negative and large numbers, and from memory of its own.
func TestEnter(t *testing.T) {
	echo, own, status, held := function(t, "ferrule_fn_echo"), function(t, "ferrule_fn_echo_own"), function(t, "ferrule_fn_status"), function(t, "ferrule_fn_held")
	frame, room := newFrame(), make([]byte, 64)
	for _, in := range []string{"", "a", "sixty-four bytes of room are enough for this text, to the last ."} {
		cross.Fill(frame, []byte(in), room)
		assert.Equal(t, abi.StatusOK, cross.Enter(echo, frame))
		assert.Equal(t, in, string(room[:frame.OutLen]))
		assert.Zero(t, frame.Release)

		cross.Fill(frame, []byte(in), nil)
		assert.Equal(t, abi.StatusOK, cross.Enter(own, frame))
		require.NotZero(t, frame.Release)
		assert.Equal(t, in, string(raw.Bytes(frame.Out, int(frame.OutLen))))
		cross.Release(frame)
	}
	cross.Fill(frame, nil, room)
	cross.Enter(held, frame)
	assert.Equal(t, "0", string(room[:frame.OutLen]), "all was given back")
	for text, want := range map[string]abi.Status{"0": 0, "2": 2, "1000": 1000, "-1": -1, "2147483647": 1<<31 - 1, "-2147483648": -1 << 31} {
		cross.Fill(frame, []byte(text), room)
		assert.Equal(t, want, cross.Enter(status, frame))
	}
}

// A stack that moves between calls, and calls of many goroutines at a time, change nothing.
func TestEnterEverywhere(t *testing.T) {
	echo := function(t, "ferrule_fn_echo")
	var deeper func(n int, frame *abi.Call, room []byte) byte
	deeper = func(n int, frame *abi.Call, room []byte) byte {
		var fill [256]byte // grows the stack
		fill[n%256] = byte(n)
		in := fill[:8]
		cross.Fill(frame, in, room)
		if cross.Enter(echo, frame) != abi.StatusOK || frame.OutLen != 8 || string(room[:8]) != string(in) {
			t.Error("another input came back")
		}
		if n > 0 {
			return deeper(n-1, frame, room) + fill[n%256]
		}
		return fill[0]
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				deeper(200, newFrame(), make([]byte, 64))
				runtime.Gosched()
			}
		})
	}
	all.Wait()
}
