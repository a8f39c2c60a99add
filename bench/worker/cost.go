package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fail has the plug-in fail, and returns how long it takes from that call until one works again. Where the failure ends this process, nobody is told.
func (w *worker) fail(how string) (ns int64, err error) {
	if w.peer, err = w.open(); err != nil {
		return 0, err
	}
	in := text(64)
	good := func() error {
		c, err := w.peer.fn("count_vowels")
		if err != nil {
			return err
		}
		out, err := c(nil, in)
		if err != nil {
			return err
		}
		return w.verify("count_vowels", in, out)
	}
	if err := good(); err != nil {
		return 0, err
	}
	fail, err := w.peer.fn("fail")
	if err != nil {
		return 0, err
	}
	const patience = 10 * time.Second
	start := time.Now()
	if _, err := fail(nil, []byte(how)); err == nil {
		return 0, fmt.Errorf("fail with %q returned, expected that it fails", how)
	}
	for {
		err := good()
		took := time.Since(start)
		if err == nil {
			return took.Nanoseconds(), nil
		}
		if took > patience {
			return 0, fmt.Errorf("no call works within %v: %w", patience, err)
		}
		if w.peer.again != nil {
			old := w.peer
			if w.peer, err = old.again(); err != nil {
				return 0, err
			}
			defer old.close() // not in the time: nobody waits for it
		}
	}
}

// memory returns how many bytes one more open plug-in costs this process, or those that it has started: where whose is "host", or "processes". Memory that processes share is divided
// among them, which is what Linux calls PSS. That of the host is without what files have: a worker is the same program, and the more of them share it the less the host would have.
func (w *worker) memory(whose string) (int64, error) {
	const quick, slow = time.Millisecond, 200 * time.Millisecond // of one opening
	few, many := 8, 512
	in := text(64)
	var open []*peer
	defer func() {
		for _, p := range open {
			if p.close != nil {
				p.close()
			}
		}
	}()
	another := func() error {
		p, err := w.open()
		if err != nil {
			return err
		}
		open = append(open, p)
		c, err := p.fn("count_vowels")
		if err != nil {
			return err
		}
		_, err = c(nil, in)
		return err
	}
	if runtime.GOOS != "linux" {
		return 0, unsupported("Linux alone tells it")
	}
	start := time.Now()
	if err := another(); err != nil {
		return 0, err
	}
	if time.Since(start) > slow {
		few = 3
	}
	if open[0].once {
		return 0, unsupported("opened again, it is the same one")
	}
	before, err := resident(whose)
	if err != nil {
		return 0, err
	}
	n := 0
	for start = time.Now(); n < few || n < many && time.Since(start) < time.Duration(n)*quick; n++ {
		if err := another(); err != nil {
			return 0, err
		}
	}
	after, err := resident(whose)
	return max(0, after-before) / int64(n), err
}

// resident returns the memory of this process, or of all those that come from it.
func resident(whose string) (sum int64, err error) {
	self := strconv.Itoa(os.Getpid())
	if whose == "host" {
		for range 2 { // finalizers run after the first
			runtime.GC()
			debug.FreeOSMemory()
		}
		return share(self, "Pss_Anon:", "Pss_Shmem:")
	}
	parents, processes := make(map[string]string), 0
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 1 {
			parents[filepath.Base(filepath.Dir(stat))] = fields[1]
		}
	}
	for pid := range parents {
		for up := parents[pid]; up != ""; up = parents[up] {
			if up != self {
				continue
			}
			part, err := share(pid, "Pss:")
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return 0, err
			}
			sum += part
			processes++
			break
		}
	}
	if processes == 0 {
		return 0, unsupported("it has none")
	}
	return sum, nil
}

// share is the sum of these lines about the memory of a process, in bytes.
func share(pid string, lines ...string) (sum int64, err error) {
	text, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && slices.Contains(lines, fields[0]) {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0, err
			}
			sum += n << 10
			found++
		}
	}
	if found != len(lines) {
		return 0, fmt.Errorf("/proc/%s/smaps_rollup has not all of %q", pid, lines)
	}
	return sum, nil
}
