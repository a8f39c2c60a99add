//go:build linux

package host

import (
	"encoding/binary"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/internal/isolate/lane"
)

// faultAt is where the shared memory has a worker's fault; see package lane.
const faultAt = 16*4 + lane.Lanes*4

// That there was a fault is the worker's word. What is read for it, and takes for ever, holds up neither the burial nor
// closing, and the error of those who wait does without.
func TestBurialBesideSearch(t *testing.T) {
	for _, c := range []struct{ name, want string }{{"found", "in somewhere"}, {"takes for ever", ""}} {
		t.Run(c.name, func(t *testing.T) {
			p, w, err := pluginFor(t, &victim{t: t, most: 1 << 20}, mute, nil)
			require.NoError(t, err)
			release := make(chan struct{})
			p.locate = func(*Plugin, uint64, uint64) (string, bool) {
				if c.want == "" {
					<-release
				}
				return "somewhere", true
			}
			p.opened()
			h := w.process.(*hostile)
			report := h.mem[faultAt+unsafe.Offsetof(lane.Fault{}.FaultReport):]
			binary.LittleEndian.PutUint32(report, uint32(syscall.SIGSEGV))
			binary.LittleEndian.PutUint64(report[unsafe.Offsetof(lane.FaultReport{}.SP):], 1<<40) // the stack is elsewhere
			binary.LittleEndian.PutUint32(h.mem[faultAt:], 2)
			h.exit(syscall.SIGSEGV)
			assert.True(t, w.awaitBurial(hang))
			crash := w.report()
			assert.Equal(t, syscall.SIGSEGV, crash.Signal)
			assert.Equal(t, c.want, crash.Fault)
			close(release)
			require.Eventually(t, func() bool { return len(finding) == 0 }, hang, time.Millisecond)
		})
	}
}
