package plugin

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// hostOfNothing is a Host that has an answer to each key, and nothing else.
type hostOfNothing struct{}

func (hostOfNothing) Ask(context.Context, string, []byte) ([]byte, int32) {
	return nil, int32(Unsupported)
}
func (hostOfNothing) Next(context.Context, []byte) ([]byte, int32) { return nil, int32(Unsupported) }
func (hostOfNothing) Info(context.Context, string) (string, int32) { return "yes", 0 }
func (hostOfNothing) Log(context.Context, int32, string, []byte)   {}
func (hostOfNothing) Progress(uint64, uint64)                      {}
func (hostOfNothing) Read([]byte) (int, int32)                     { return 0, 0 }
func (hostOfNothing) Write([]byte) int32                           { return 0 }
func (hostOfNothing) Background() (context.Context, any)           { return nil, nil }

// TestLeftBehind: goroutines that never stop asking do not hold the call, and are refused once it is over, for ever.
func TestLeftBehind(t *testing.T) {
	var left sync.WaitGroup
	var kept context.Context
	p := New(Definition{Name: "one", Version: "1", Functions: []Function{{Name: "f", Call: func(ctx context.Context, _ any, in []byte) ([]byte, error) {
		kept = ctx
		asking := make(chan struct{}, 8)
		for range 8 {
			left.Add(1)
			go func() {
				defer left.Done()
				for first := true; ; first = false {
					_, err := Info(ctx, "instance")
					var refused *Refused
					if errors.As(err, &refused) && refused.Status == Misuse {
						return
					}
					if first {
						asking <- struct{}{}
					}
				}
			}()
		}
		for range 8 {
			<-asking
		}
		return in, nil
	}}}})
	for range 20 {
		if out, status := p.Call(t.Context(), hostOfNothing{}, nil, 0, []byte("in")); string(out) != "in" || status != 0 {
			t.Fatalf("found %q and the status %d", out, status)
		}
		left.Wait()
		if _, err := Info(kept, "instance"); !errors.Is(err, Misuse) {
			t.Fatalf("found %v of a context whose call is over, expected that it is refused", err)
		}
	}
}
