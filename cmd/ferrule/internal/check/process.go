package check

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// facts are what a snapshot of a part of the process's state says.
type facts map[string]string

const afterLoading = "after opening the library"

// untouched runs a case about what a plug-in leaves as it found it (R20). snapshot returns nil where it cannot say, and why.
//
// loading is what to do about what the library does when it is loaded, where that is something else than mend.
func (k *kit) untouched(expected, mend string, snapshot func() (facts, string), loading ...string) {
	before, why := snapshot()
	if before == nil {
		k.skip("%s", why)
		return
	}
	k.expect("R20", expected, mend)
	compare := func(who string) {
		mend := mend
		if who == afterLoading && len(loading) > 0 {
			mend = loading[0]
		}
		after, _ := snapshot()
		for _, name := range slices.Sorted(maps.Keys(before)) {
			if after[name] != before[name] {
				k.find(Finding{Rule: "R20", Severity: Error,
					Seen:     fmt.Sprintf("%s: %s was %s, is %s", who, name, or(before[name]), or(after[name])),
					Expected: expected, Mend: mend})
				return
			}
		}
		for _, name := range slices.Sorted(maps.Keys(after)) {
			if _, known := before[name]; !known {
				k.find(Finding{Rule: "R20", Severity: Error,
					Seen:     fmt.Sprintf("%s: %s was not there, is %s", who, name, or(after[name])),
					Expected: expected, Mend: mend})
				return
			}
		}
	}
	if !k.open() {
		return
	}
	compare(afterLoading)
	l := k.lane()
	if len(k.functions) == 0 {
		if i := k.begin(l, k.Config); i != nil {
			i.end()
			compare("after ferrule_start and ferrule_stop")
		}
	}
	for _, f := range k.functions {
		i := k.begin(l, k.Config)
		if i == nil {
			return
		}
		compare("after ferrule_start")
		i.calls(f, append(k.samples(f), notUTF8...), options{}, nil)
		compare("after " + f.label)
		i.end()
		compare("after ferrule_stop")
	}
}

func or(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func checkWorkingDirectory(k *kit) {
	k.untouched("the working directory as it was", "Use absolute paths, or openat", func() (facts, string) {
		dir, err := os.Getwd()
		if err != nil {
			return nil, err.Error()
		}
		return facts{"the working directory": dir}, ""
	})
}

func checkSignalHandlers(k *kit) {
	if k.lib.GoVersion != "" {
		k.skip("the library has a Go runtime, which sets handlers: hosts run it in a worker process")
		return
	}
	k.untouched("every signal's handler as it was", "Leave signals to the host", signalHandlers)
}

func checkSignalMask(k *kit) {
	k.untouched("the thread's signal mask as it was",
		"Restore the mask before the call ends; block signals in threads of your own only", signalMask)
}

func checkLocale(k *kit) {
	k.untouched("the locale as it was", "Use functions that take a locale (newlocale, strtod_l), or uselocale and restore it", locale)
}

func checkFloatingPoint(k *kit) {
	k.untouched("rounding and exceptions as they were", "Restore with fesetenv what fegetenv gave, before the call ends",
		floatingPoint, "Link without -ffast-math, -funsafe-math-optimizations and -mdaz-ftz, compile with them: linked with them "+
			"a constructor has subnormal numbers be 0 in the thread that loads the library")
}

// child is the case of a worker that is a child process of another one: it lives until its input ends.
const child = "child"

// checkChildren has a child process when the library is called, whose end this process is to learn of.
func checkChildren(k *kit) {
	const expected = "the host's children waited for by the host, whatever the library does with its own"
	k.expect("R20", anyInput, mendInput)
	h, why := childHandler()
	if why != "" {
		k.skip("%s", why)
		return
	}
	k.each(func(i *instance, f function) {
		defer h.restore() // for the next function; that this one has changed it is what case signal-handlers says
		c, err := k.newChild()
		if err != nil {
			k.note("%s was not tried: no child process can be started: %v", f.label, err)
			return
		}
		i.calls(f, k.samples(f), options{}, nil)
		if !h.ignores() && c.taken() {
			k.find(Finding{Rule: "R20", Severity: Error, Function: f.label,
				Seen:     f.label + " has taken the exit status of a child process of the host's",
				Expected: expected, Mend: "Wait for the processes that you have started, by their numbers (waitpid(pid, …)), never for any (-1)"})
		}
	})
}

func checkUmask(k *kit) {
	k.untouched("the umask as it was", "Give open and mkdir the mode that is wanted, and use fchmod where that is not enough", umask)
}

func checkLimits(k *kit) {
	k.untouched("the resource limits as they were", "Leave setrlimit to the host", limits)
}

func checkEnvironment(k *kit) {
	k.untouched("the environment as it was", "Do without setenv and putenv: other threads read the environment",
		environment)
}

func checkStreams(k *kit) {
	k.untouched("the standard streams open, to what they were", "Do without freopen, dup2 and close on 0, 1 and 2",
		streams)
}

// threadsToSpare has Go make threads. It makes those of its own when it needs them, and keeps them: more than a case needs are there before
// it counts them, however busy the machine is.
func threadsToSpare() {
	var there, back sync.WaitGroup
	begin := make(chan struct{})
	there.Add(16)
	for range 16 {
		back.Go(func() { elsewhereAndBack(there.Done, begin) })
	}
	there.Wait()
	close(begin)
	back.Wait()
	time.Sleep(5 * time.Millisecond) // they are idle soon
}

func checkThreadsEnd(k *kit) {
	if _, ok := threads(); !ok {
		k.skip("threads are not counted on this system")
		return
	}
	if !k.open() {
		return
	}
	k.expect("R15", anyInput, mendInput)
	l := k.lane()
	threadsToSpare()
	before, _ := threads()
	// A Go runtime makes threads when it needs them, and keeps them: no instance can end those. One that is left takes one of them at
	// first. So it is found by more instances, where the second half of them has left one for every two at least.
	step := 1
	if k.lib.GoVersion != "" {
		step = 16
	}
	left := make([]int, 4) // threads more than before, after each step
	for round := range left {
		for range step {
			i := k.begin(l, k.Config)
			if i == nil {
				return
			}
			for _, f := range k.functions {
				i.calls(f, k.samples(f), options{}, nil)
			}
			i.end()
		}
		for range 50 {
			now, _ := threads()
			if left[round] = now - before; left[round] <= 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	f := Finding{Rule: "R15", Expected: "as many threads as before, when every instance has stopped",
		Mend: "End and join in ferrule_stop the threads that the instance started"}
	f.Seen = fmt.Sprintf("%d, %d, %d and %d threads more after %d, %d, %d and %d instances that have stopped", left[0],
		left[1], left[2], left[3], step, 2*step, 3*step, 4*step)
	switch {
	case k.lib.GoVersion != "" && left[3]-left[1] < step:
	case left[3] > left[1] && left[1] > 0:
		f.Severity = Error
		k.find(f)
	case left[3] > 0: // they are the library's, and not the instance's: a pool, or a runtime of its own
		f.Severity = Warning
		k.find(f)
	}
}
