package forms

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// Plug-ins that are opened, called and closed, some of which do not start, and some of which end on their own, leave nothing: FERRULE_TEST_OPENS says how many.
func TestOpenedAndClosed(t *testing.T) {
	opens := 24
	if text := os.Getenv("FERRULE_TEST_OPENS"); text != "" {
		var err error
		opens, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	each(t, forms, func(t *testing.T, f form) {
		path := f.path(t)
		one := func(i int) {
			p, err := f.try(path, hostFuncs()...)
			if !assert.NoError(t, err) {
				return
			}
			out, err := p.Call(t.Context(), "doubles", []byte("a"))
			assert.NoError(t, err)
			assert.Equal(t, "aa", string(out))
			s, err := p.NewSession(t.Context(), nil)
			if assert.NoError(t, err) {
				assert.NoError(t, s.Close())
			}
			if i%8 == 0 {
				_, err := f.try(path, append(hostFuncs(), loader.WithConfig([]byte(`{"start":"fails"}`)))...)
				assert.ErrorIs(t, err, loader.ErrStart)
				if f.file != "" {
					_, err = p.Call(t.Context(), "exits", []byte("3"))
					assert.Error(t, err)
				}
			}
			assert.NoError(t, p.Close())
		}
		many := func(n int) {
			work := make(chan int, n)
			for i := range n {
				work <- i
			}
			close(work)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for i := range work {
						one(i)
					}
				})
			}
			all.Wait()
		}
		many(min(opens, 200)) // Go's memory grows with the first of them, and no more: as much after 200 as after 2,000
		before := fixture.Holds(t)
		many(opens)
		var after fixture.Held
		// What has ended is waited for beside the caller.
		for range 100 {
			if after = fixture.Holds(t); after.Descriptors <= before.Descriptors && after.Children <= before.Children && after.Goroutines <= before.Goroutines {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		assert.LessOrEqual(t, after.Descriptors, before.Descriptors)
		assert.LessOrEqual(t, after.Children, before.Children)
		assert.LessOrEqual(t, after.Goroutines, before.Goroutines)
		assert.LessOrEqual(t, after.Threads, before.Threads+16, "Go keeps threads, for which there is a bound")
		assert.LessOrEqual(t, after.Memory-before.Memory, int64(32<<20), fmt.Sprintf("%d opens", opens))
		t.Logf("%d times: %v; then %v", opens, before, after)
	})
}

// The test's own program is a host when it is asked to be: it opens a form, says which process has the plug-in, and calls what never ends.
func TestMain(m *testing.M) {
	if len(os.Args) != 4 || os.Args[1] != "host" {
		os.Exit(m.Run())
	}
	for _, f := range files {
		if f.name != os.Args[2] {
			continue
		}
		p, err := f.try(os.Args[3], hostFuncs()...)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for _, fn := range []string{"spins", "blocks", "sleeps"} {
			go func() { _, _ = p.Call(context.Background(), fn, nil) }()
		}
		i, _ := p.Isolation()
		fmt.Println(i.PID)
		select {}
	}
}

// A host that is killed takes its plug-ins with it, whatever they do.
func TestHostGone(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	for _, f := range []form{program, library} {
		t.Run(f.name, func(t *testing.T) {
			cmd := exec.Command(self, "host", f.name, f.path(t))
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			said, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			pid, err := strconv.Atoi(strings.TrimSpace(said))
			require.NoError(t, err, said)
			require.NotZero(t, pid)
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			require.Eventually(t, func() bool {
				stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				return err != nil || strings.Contains(string(stat), ") Z ")
			}, time.Minute, 5*time.Millisecond)
		})
	}
}
