//go:build !ferrule_portable && !race && !msan && !asan && linux && amd64 && !go1.28

package cross_test

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/raw"
)

// Where the quick crossing is built in, this process's runtime is what it expects: or else everything would be ordinary,
// and no test of it would test anything. The kill switch has its way, which only the start of a process can say.
func TestQuickMark(t *testing.T) {
	if os.Getenv("FERRULE_NOQUICK") != "" {
		assert.Zero(t, cross.QuickMark())
		return
	}
	assert.NotZero(t, cross.QuickMark())
	child := exec.Command(os.Args[0], "-test.run=^TestQuickMark$", "-test.count=1")
	child.Env = append(os.Environ(), "FERRULE_NOQUICK=1")
	out, err := child.CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

// What a function leaves comes back as by the ordinary crossing, from deep and from shallow stacks, also such that have
// just been moved, of many goroutines, while collections stop all of them.
func TestEnterQuick(t *testing.T) {
	require.NotZero(t, cross.QuickMark())
	echo, own, status := function(t, "ferrule_fn_echo"), function(t, "ferrule_fn_echo_own"), function(t, "ferrule_fn_status")
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			frame, room := newFrame(), make([]byte, 64)
			for i := range 200 {
				in := []byte{byte(g), byte(i), byte(i >> 8)}
				deep((g+i)%60, func() {
					cross.Fill(frame, in, room)
					s, refused := cross.EnterQuick(echo, frame)
					if s != abi.StatusOK || refused || string(room[:frame.OutLen]) != string(in) {
						t.Error("another input came back")
					}
				})
				cross.Fill(frame, in, nil)
				if s, _ := cross.EnterQuick(own, frame); s != abi.StatusOK || string(raw.Bytes(frame.Out, 3)) != string(in) {
					t.Error("another input came back, in the plug-in's own memory")
				}
				cross.Release(frame)
				if i%50 == 0 {
					runtime.GC()
				}
			}
		})
	}
	all.Wait()
	frame, room := newFrame(), make([]byte, 64)
	for text, want := range map[string]abi.Status{"0": 0, "1000": 1000, "-1": -1, "2147483647": 1<<31 - 1, "-2147483648": -1 << 31} {
		cross.Fill(frame, []byte(text), room)
		s, refused := cross.EnterQuick(status, frame)
		assert.Equal(t, want, s)
		assert.False(t, refused)
	}
}

// deep runs do on a stack that is n KiB deeper.
//
//go:noinline
func deep(n int, do func()) byte {
	var fill [1 << 10]byte
	fill[n] = byte(n)
	if n == 0 {
		do()
	} else {
		fill[0] = deep(n-1, do)
	}
	return fill[0] + fill[n]
}
