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
			f.Took(1)
			at := f.Begin()
			begun.Add(1)
			f.Gave(1)
			f.End(at, abi.StatusOK)
		}
	})
	defer wait.Wait()
	defer close(done)
	line := regexp.MustCompile(`(?m)^(\w+)\{.*function="echo".*\} (\d+)$`)
	for idle := 0; idle < 300; {
		before := begun.Load()
		var b strings.Builder
		_, err := m.WriteTo(&b)
		require.NoError(t, err)
		text, numbers := b.String(), map[string]uint64{} // without a status that no call has had
		for _, match := range line.FindAllStringSubmatch(text, -1) {
			numbers[match[1]], err = strconv.ParseUint(match[2], 10, 64)
			require.NoError(t, err)
		}
		require.Contains(t, numbers, "ferrule_calls_in_flight")
		if numbers["ferrule_calls_in_flight"] != 0 {
			continue
		}
		idle++
		for _, name := range []string{"ferrule_calls_total", "ferrule_call_duration_seconds_count", "ferrule_call_input_bytes_total", "ferrule_call_output_bytes_total"} {
			require.GreaterOrEqual(t, numbers[name], before, "%s, of calls that had begun before it was written\n%s", name, text)
		}
	}
}
