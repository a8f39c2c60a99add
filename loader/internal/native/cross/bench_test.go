package cross_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/native/dl"
)

// The crossing alone: what every other figure is a ratio of.
func BenchmarkCrossing(b *testing.B) {
	lib, err := dl.Open(fixture.C(b, "echo"))
	require.NoError(b, err)
	fn, err := lib.Lookup("ferrule_fn_echo")
	require.NoError(b, err)
	in, out := make([]byte, 64), make([]byte, 64)
	frame := new(abi.Call)
	frame.Size = unsafe.Sizeof(*frame)
	b.ReportAllocs()
	for b.Loop() {
		cross.Fill(frame, in, out)
		cross.Enter(fn, frame)
	}
}

// The quick one, beside BenchmarkCrossing.
func BenchmarkQuickCrossing(b *testing.B) {
	if cross.QuickMark() == 0 {
		b.Skip("there is no quick crossing on this platform")
	}
	fn, in, out, frame := function(b, "ferrule_fn_echo"), make([]byte, 64), make([]byte, 64), newFrame()
	b.ReportAllocs()
	for b.Loop() {
		cross.Fill(frame, in, out)
		cross.EnterQuick(fn, frame)
	}
}
