package numbers_test

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve/numbers"
)

// What is not in flight is counted: a text that says that no call runs has each call that had begun before it, in each of its numbers.
func TestWhatIsNotInFlightIsCounted(t *testing.T) {
	t.Parallel()
	m := &numbers.Metrics{}
	m.Of(&abi.Description{Manifest: &abi.Manifest{}, Funcs: []abi.Symbol{{Name: "echo"}}}, true)
	f := m.Function(numbers.Func, "echo")
	var begun atomic.Uint64
	var wait sync.WaitGroup
	done := make(chan struct{})
	wait.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			at := f.Begin()
			begun.Add(1)
			f.Took(1)
			f.Gave(1)
			f.End(at, abi.StatusOK)
		}
	})
	defer wait.Wait()
	defer close(done)
	number := func(text, name string) uint64 {
		match := regexp.MustCompile(`(?m)^` + name + `\{.*function="echo".*\} (\d+)$`).FindStringSubmatch(text)
		if match == nil { // a status that no call has had
			return 0
		}
		n, err := strconv.ParseUint(match[1], 10, 64)
		require.NoError(t, err)
		return n
	}
	for idle := 0; idle < 300; {
		before := begun.Load()
		var b strings.Builder
		_, err := m.WriteTo(&b)
		require.NoError(t, err)
		text := b.String()
		require.Contains(t, text, "ferrule_calls_in_flight{")
		if number(text, "ferrule_calls_in_flight") != 0 {
			continue
		}
		idle++
		for _, name := range []string{"ferrule_calls_total", "ferrule_call_duration_seconds_count", "ferrule_call_input_bytes_total", "ferrule_call_output_bytes_total"} {
			require.GreaterOrEqual(t, number(text, name), before, "%s, of calls that had begun before it was written\n%s", name, text)
		}
	}
}
