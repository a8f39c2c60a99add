//go:build unix

package remote_test

import (
	"bytes"
	"context"
	"fmt"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
)

func init() { programs["responder"] = respond }

// respond answers requests as nats.go has it, and as shout's first function does: a URL, a subject, and a queue group or "".
func respond(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	nc, err := natsgo.Connect(args[0])
	if err != nil {
		return err
	}
	defer nc.Close()
	answer := func(m *natsgo.Msg) { _ = m.Respond(bytes.ToUpper(m.Data)) }
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
				if err != nil || len(out) != len(in) || out[0] != 'A' {
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
// x-requests is how many calls there were for each request, in the median of all rounds.
func BenchmarkBesideRequests(b *testing.B) {
	for _, nodes := range []int{1, 2, 4} {
		for _, callers := range []int{1, 32} {
			b.Run(fmt.Sprintf("nodes=%d/callers=%d", nodes, callers), func(b *testing.B) { besideRequests(b, nodes, callers) })
		}
	}
}

func besideRequests(b *testing.B, nodes, callers int) {
	url := inNATS.Start(b, 0).URL()
	group := ""
	if nodes > 1 {
		group = "all"
	}
	for range nodes {
		_, err := inNATS.Process(b, url, "64", "shout")
		require.NoError(b, err)
		_, err = startProgram(b, "responder", url, "bare", group)
		require.NoError(b, err)
	}
	p, err := loader.Open(url+"/shout", inNATS.Plugin(0), suffix())
	require.NoError(b, err)
	defer p.Close()
	shout, err := p.Func("shout")
	require.NoError(b, err)
	nc, err := natsgo.Connect(url)
	require.NoError(b, err)
	defer nc.Close()
	call := func(in []byte) ([]byte, error) { return shout.Call(context.Background(), in) }
	request := func(in []byte) ([]byte, error) {
		m, err := nc.Request("bare", in, 10*time.Second)
		if err != nil {
			return nil, err
		}
		return m.Data, nil
	}
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
