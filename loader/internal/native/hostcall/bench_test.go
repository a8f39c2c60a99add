package hostcall

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
)

// One use of a host service that does nothing: from C into Go and back. Its ratio is to a function that cgo exports,
// in a program of its own, so that there is one with cgo off, too; the two take turns, and the ratio is the median.
func BenchmarkRound(b *testing.B) {
	program := filepath.Join(b.TempDir(), "export")
	build := exec.Command("go", "build", "-o", program, "./testdata/export")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := build.CombinedOutput()
	require.NoError(b, err, string(out))
	export := exec.Command(program)
	in, err := export.StdinPipe()
	require.NoError(b, err)
	answers, err := export.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, export.Start())
	defer func() {
		require.NoError(b, in.Close())
		require.NoError(b, export.Wait())
	}()

	const rounds = 100_000 // in one call, so that the call itself does not count
	fn, frame := function(b, "rounds"), newFrame()
	frame.InLen = rounds
	var ratios []float64
	var all time.Duration
	b.ReportAllocs()
	for b.Loop() {
		begin := time.Now()
		status := cross.Enter(fn, frame)
		ours := time.Since(begin)
		require.Equal(b, abi.StatusOK, status)
		all += ours
		_, err := io.WriteString(in, fmt.Sprintln(rounds))
		require.NoError(b, err)
		var ns int64
		_, err = fmt.Fscan(answers, &ns)
		require.NoError(b, err)
		ratios = append(ratios, float64(ours.Nanoseconds())/float64(ns))
	}
	slices.Sort(ratios)
	b.ReportMetric(float64(all.Nanoseconds())/float64(len(ratios))/rounds, "ns/round")
	b.ReportMetric(ratios[len(ratios)/2], "x-cgo-export")
	b.ReportMetric(0, "ns/op") // which has both in it
}
