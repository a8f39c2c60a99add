package versions_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/ranges"
	"github.com/ferrule-dev/ferrule/plugins/internal/versions"
)

// large makes n plug-ins of m versions each. Each version requires some of those behind it, in the major version that is as old as its
// own, and the newest of some plug-ins, one of every so many, do not run beside the newest of another: there is something to learn.
func large(n, m, every int) (*world, versions.Problem) {
	r := rand.New(rand.NewPCG(1, 1))
	var lines, roots []string
	for i := range n {
		for v := range m {
			line := fmt.Sprintf("p%03d %d.%d.0:", i, 1+v/5, v%5)
			for range min(3, n-1-i) {
				line += fmt.Sprintf("; requires p%03d >=%d.0, <%d", i+1+r.IntN(min(20, n-1-i)), 1+v/5, 2+v/5)
			}
			if i%every == 0 && v >= m-5 && i+7 < n {
				line += fmt.Sprintf("; conflicts p%03d >=%d", i+7, 1+v/5)
			}
			lines = append(lines, line)
		}
		if i%5 == 0 {
			roots = append(roots, fmt.Sprintf("p%03d", i))
		}
	}
	return of(lines...), asks(roots...)
}

// A large problem with conflicts in it has a solution, or an explanation that can be read.
func TestLargeProblems(t *testing.T) {
	w, p := large(200, 20, 50)
	solution, conflict := solve(t, w, p)
	require.Nil(t, conflict)
	c := choice{}
	for name, candidate := range solution {
		c[name] = candidate.Version
	}
	require.True(t, valid(w, p, c))

	p.Roots = append(p.Roots, versions.Root{Name: "p000", Range: "^4", By: "the command line"}, versions.Root{Name: "p007", Range: "^4", By: "the command line"})
	_, conflict = solve(t, w, p)
	require.NotNil(t, conflict)
	require.Less(t, len(conflict.Facts), 10, conflict.Explanation)
}

// BenchmarkResolve has the plug-ins, the versions of each, and how many do not run beside another in its name. It says how much longer it takes than to read all that the solution takes: versions, ranges.
func BenchmarkResolve(b *testing.B) {
	for _, size := range []struct{ plugins, versions, every int }{{20, 20, 10}, {200, 20, 1000}, {200, 20, 50}} {
		b.Run(fmt.Sprintf("%dx%d/%d", size.plugins, size.versions, (size.plugins+size.every-1)/size.every), func(b *testing.B) {
			w, p := large(size.plugins, size.versions, size.every)
			solution, conflict := solve(b, w, p)
			require.Nil(b, conflict)
			var reading time.Duration
			for b.Loop() {
				if again, _ := solve(b, w, p); len(again) != len(solution) {
					b.Fatal("plug-ins are missing")
				}
				b.StopTimer()
				began := time.Now()
				for name, c := range solution {
					texts, _ := w.Versions(b.Context(), name)
					var all []ranges.Version
					for _, text := range texts {
						all = append(all, ranges.ParseVersion(text))
					}
					slices.SortFunc(all, ranges.Version.Compare)
					for _, line := range c.Requires {
						_, wanted := ranges.Split(line)
						r := ranges.Parse(wanted)
						if !slices.ContainsFunc(all, func(v ranges.Version) bool { return r.Fits(v) <= ranges.Out }) {
							b.Fatal("nothing was compared")
						}
					}
				}
				reading += time.Since(began)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed())/float64(reading), "times-reading")
		})
	}
}
