//go:build unix

package remote_test

import (
	"bytes"
	"context"
	"fmt"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

func init() {
	programs["responder"] = respond
	plugins["library"] = func(args []string) serve.Plugin { return library(args[0]) }
	plugins["isolated"] = func(args []string) serve.Plugin { return library(args[0], isolate.InWorker()) }
}

func library(path string, opts ...loader.Option) serve.Plugin {
	p, err := serve.File(path, opts...)
	if err != nil {
		panic(err)
	}
	return p
}

// respond answers requests as nats.go has it, with what they are: a URL, a subject, and a queue group or "".
func respond(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	nc, err := natsgo.Connect(args[0])
	if err != nil {
		return err
	}
	defer nc.Close()
	answer := func(m *natsgo.Msg) { _ = m.Respond(m.Data) }
	if args[2] == "" {
		_, err = nc.Subscribe(args[1], answer)
	} else {
		_, err = nc.QueueSubscribe(args[1], args[2], answer)
	}
	if err != nil {
		return err
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	return nil
}

// tally is what callers have had in a round.
type tally struct {
	took    []time.Duration
	elapsed time.Duration
}

func (t *tally) rate() float64 { return float64(len(t.took)) / t.elapsed.Seconds() }

// p99 is the time that 99 of 100 calls did not take longer than, in us.
func p99(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)*99/100]) / 1e3
}

// round has so many callers call without a pause, for a while.
func round(b *testing.B, callers int, call func(in []byte) ([]byte, error)) *tally {
	const lasts = 200 * time.Millisecond
	var mu sync.Mutex
	var all tally
	var running sync.WaitGroup
	begin := time.Now()
	for range callers {
		running.Go(func() {
			in := bytes.Repeat([]byte("a"), 64)
			var took []time.Duration
			for at := time.Now(); at.Sub(begin) < lasts; {
				out, err := call(in)
				if err != nil || !bytes.Equal(out, in) {
					b.Errorf("%q, %v", out, err)
					break
				}
				now := time.Now()
				took, at = append(took, now.Sub(at)), now
			}
			mu.Lock()
			defer mu.Unlock()
			all.took = append(all.took, took...)
		})
	}
	running.Wait()
	all.elapsed = time.Since(begin)
	return &all
}

// BenchmarkBesideRequests has callers call nodes, and then as many programs that answer nats.go's own requests: one alone, or several as a queue group; in turns, by one server.
// The function is a library's, in the node's process, without and with a deadline, and in a worker process of the node's. x-requests is how many calls there were for each
// request, in the median of all rounds.
func BenchmarkBesideRequests(b *testing.B) {
	ways := []struct {
		name, version string
		limit         time.Duration
	}{{"plain", "1.2.3", 0}, {"deadline", "1.2.3", 10 * time.Second}, {"isolated", "9.2.3", 0}}
	for _, nodes := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			url := inNATS.Start(b, 0).URL()
			group := ""
			if nodes > 1 {
				group = "all"
			}
			library := fixture.C(b, "echo")
			isolated := filepath.Join(b.TempDir(), "isolated"+fixture.Ext())
			fixture.Variant(b, "echo", isolated, "1.2.3", "9.2.3")
			for range nodes {
				for _, args := range [][]string{{"node", url, "64", "library", library}, {"node", url, "64", "isolated", isolated}, {"responder", url, "bare", group}} {
					_, err := startProgram(b, args[0], args[1:]...)
					require.NoError(b, err)
				}
			}
			nc, err := natsgo.Connect(url)
			require.NoError(b, err)
			defer nc.Close()
			request := func(in []byte) ([]byte, error) {
				m, err := nc.Request("bare", in, 10*time.Second)
				if err != nil {
					return nil, err
				}
				return m.Data, nil
			}
			for _, way := range ways {
				p, err := loader.Open(url+"/echo@"+way.version, inNATS.Plugin(0))
				require.NoError(b, err)
				defer p.Close()
				echo, err := p.Func("echo")
				require.NoError(b, err)
				call := func(in []byte) ([]byte, error) {
					ctx := context.Background()
					if way.limit > 0 {
						limited, cancel := context.WithTimeout(ctx, way.limit)
						defer cancel()
						ctx = limited
					}
					return echo.Call(ctx, in)
				}
				for _, callers := range []int{1, 32} {
					b.Run(fmt.Sprintf("callers=%d/%s", callers, way.name), func(b *testing.B) { besideRequests(b, callers, call, request) })
				}
			}
		})
	}
}

func besideRequests(b *testing.B, callers int, call, request func(in []byte) ([]byte, error)) {
	round(b, callers, call)
	round(b, callers, request)
	var ours, bare, ratios []float64
	var times, bareTimes []time.Duration
	for b.Loop() {
		a, r := round(b, callers, call), round(b, callers, request)
		ours, bare, ratios = append(ours, a.rate()), append(bare, r.rate()), append(ratios, a.rate()/r.rate())
		times, bareTimes = append(times, a.took...), append(bareTimes, r.took...)
	}
	b.ReportMetric(0, "ns/op") // of a round, which says nothing
	b.ReportMetric(median(ours), "calls/s")
	b.ReportMetric(median(bare), "requests/s")
	b.ReportMetric(median(ratios), "x-requests")
	b.ReportMetric(p99(times), "p99-us")
	b.ReportMetric(p99(bareTimes), "requests-p99-us")
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}
