package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// slowMarket is a market behind a server, whose plug-ins have a MiB each.
type slowMarket struct {
	*market
	sends atomic.Pointer[func(sent int, ended <-chan struct{}) bool] // is called before each piece of a plug-in's file; false breaks off

	mu     sync.Mutex
	ranges []string // of the requests for plug-ins' files
}

const fileSize = 1 << 20

func newSlowMarket(t *testing.T, letters ...string) *slowMarket {
	t.Helper()
	m := &slowMarket{market: newMarket(t, "")}
	var names []string
	for _, l := range letters {
		lib := m.path(l + fixture.Ext())
		fixture.Variant(t, "system", lib, "aaaa", l)
		require.NoError(t, os.Truncate(lib, fileSize))
		_, stderr, code := ferrule(t, "", "push", "--to", m.path("releases"), "--key", m.path("shop.key"), lib)
		require.Zero(t, code, stderr)
		names = append(names, "plugin_"+l)
	}
	pages := http.FileServer(http.Dir(m.path("releases")))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, fixture.Ext()) {
			m.mu.Lock()
			m.ranges = append(m.ranges, r.Header.Get("Range"))
			m.mu.Unlock()
			w = &slowly{ResponseWriter: w, of: m, ended: r.Context().Done()}
		}
		pages.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	m.configure("registry: {url: '" + server.URL + "/{tag}', keys: [KEY]}\nplugins: [" + strings.Join(names, ", ") + "]\n")
	return m
}

// each has what is done before each piece replaced.
func (m *slowMarket) each(do func(sent int, ended <-chan struct{}) bool) { m.sends.Store(&do) }

// asked are the ranges that were asked for since the last time.
func (m *slowMarket) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.ranges
	m.ranges = nil
	return all
}

// slowly sends a file in pieces.
type slowly struct {
	http.ResponseWriter
	of    *slowMarket
	ended <-chan struct{}
	sent  int
}

func (s *slowly) Write(b []byte) (int, error) {
	if do := s.of.sends.Load(); do != nil && !(*do)(s.sent, s.ended) {
		panic(http.ErrAbortHandler)
	}
	n, err := s.ResponseWriter.Write(b)
	s.sent += n
	s.ResponseWriter.(http.Flusher).Flush()
	return n, err
}

// lines are the lines that a terminal shows after it was sent a text, without those that are empty; and what all that it showed at once.
func lines(t *testing.T, text string) (left []string, frames [][]string) {
	t.Helper()
	all, row, column := [][]rune{nil}, 0, 0
	shown := func() (lines []string) {
		for _, l := range all {
			if line := strings.TrimRight(string(l), " "); line != "" {
				lines = append(lines, line)
			}
		}
		return lines
	}
	escape := regexp.MustCompile(`^\x1b\[([0-9]*)([A-Za-z])`)
	for text != "" {
		if m := escape.FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			n, _ := strconv.Atoi(m[1])
			switch m[2] {
			case "A":
				frames = append(frames, shown())
				row = max(row-max(n, 1), 0)
			case "J":
				require.Zero(t, n, "what is below is erased")
				all = append(all[:row], all[row][:min(column, len(all[row]))])
			case "K":
				all[row] = all[row][:min(column, len(all[row]))]
			case "m":
			default:
				t.Fatalf("what a terminal does with %q is not known here", m[0])
			}
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		switch r {
		case '\r':
			column = 0
		case '\n':
			if row++; row == len(all) {
				all = append(all, nil)
			}
		default:
			for len(all[row]) <= column {
				all[row] = append(all[row], ' ')
			}
			all[row][column] = r
			column++
		}
	}
	return shown(), frames
}

// TestTransferBars: files that come at the same time have a bar each, with how much of it all has come and how fast, and nothing of them is left on the terminal.
func TestTransferBars(t *testing.T) {
	t.Parallel()
	m := newSlowMarket(t, "aaaa", "bbbb", "cccc")
	m.each(func(int, <-chan struct{}) bool { time.Sleep(40 * time.Millisecond); return true })
	args := []string{"install", "--config", m.path("config.yaml"), "--store", m.path("store")}
	s := newScreen(t)
	require.NoError(t, unix.IoctlSetWinsize(int(s.line.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120}))
	s.start([]string{"TERM=xterm"}, args...)
	assert.Zero(t, s.ends(), s.shown())
	require.Eventually(t, func() bool { return strings.Contains(s.shown(), "3 plug-ins installed") }, time.Minute, 5*time.Millisecond)
	left, frames := lines(t, s.shown())
	require.Len(t, left, 4, "%q", left)
	for i, name := range []string{"plugin_aaaa 1.0.0 (", "plugin_bbbb 1.0.0 (", "plugin_cccc 1.0.0 (", "3 plug-ins installed"} {
		assert.True(t, strings.HasPrefix(left[i], name), left[i])
	}
	bar := regexp.MustCompile(`^plugin_(....) 1\.0\.0 +\[.*\] +[0-9.]+ (KiB|MiB) / 1\.0 MiB +[0-9.]+ [KM]iB/s +[0-9]+s$`)
	together := 0
	for _, frame := range frames {
		names := map[string]bool{}
		for _, line := range frame {
			if found := bar.FindStringSubmatch(line); found != nil {
				names[found[1]] = true
			}
		}
		together = max(together, len(names))
	}
	assert.Equal(t, 3, together, "all at once: %q", s.shown())

	require.NoError(t, os.RemoveAll(m.path("store")))
	m.each(func(int, <-chan struct{}) bool { return true })
	text := onTerminal(t, nil, append(args, "--json")...)
	assert.NotContains(t, text, "\x1b")
	assert.True(t, json.Valid([]byte(text)), text)
}

// TestTransferInterrupted: Ctrl-C while a file comes, once or twice, leaves store and lock whole, and the next time the rest of the file is asked for. So does a server
// that breaks off.
func TestTransferInterrupted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signals, code int
	}{"once": {1, exitInterrupted}, "twice": {2, exitInterrupted}, "by the server": {0, exitUnavailable}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newSlowMarket(t, "aaaa")
			m.each(func(sent int, ended <-chan struct{}) bool {
				if sent < fileSize/2 {
					return true
				}
				if c.signals > 0 {
					<-ended
				}
				return false
			})
			cmd := exec.Command(binary, "install", "--config", m.path("config.yaml"), "--store", m.path("store"))
			var stderr strings.Builder
			cmd.Stderr = &stderr
			require.NoError(t, cmd.Start())
			half := func() (n int64) {
				all, err := filepath.Glob(m.path("store", "half", "*"))
				require.NoError(t, err)
				for _, path := range all {
					if info, err := os.Stat(path); err == nil {
						n += info.Size()
					}
				}
				return n
			}
			if c.signals > 0 {
				require.Eventually(t, func() bool { return half() >= fileSize/2 }, time.Minute, 5*time.Millisecond)
			}
			for range c.signals {
				require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
			}
			_ = cmd.Wait()
			assert.Equal(t, c.code, cmd.ProcessState.ExitCode(), stderr.String())
			assert.EqualValues(t, fileSize/2, half())
			assert.NoFileExists(t, m.path("ferrule.lock"))
			there, err := filepath.Glob(m.path("store", "sha256", "*", "*"))
			require.NoError(t, err)
			assert.Empty(t, there, "half a file is nowhere where it could be loaded from")

			m.asked()
			m.each(func(int, <-chan struct{}) bool { return true })
			stdout, _ := m.does(exitOK, "install")
			assert.Contains(t, stdout, "1 plug-in installed, 1 of them new")
			assert.Equal(t, []string{fmt.Sprintf("bytes=%d-", fileSize/2)}, m.asked())
			m.does(exitOK, "verify")
			assert.Zero(t, half())
		})
	}
}
