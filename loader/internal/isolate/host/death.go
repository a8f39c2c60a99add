package host

import (
	"fmt"
	"os"
	"strings"

	workerside "github.com/ferrule-dev/ferrule/loader/internal/isolate/worker"
)

// beforeServing says in words how a process ended before it served a lane: nothing of the plug-in's had run in it, but init
// functions of the program's packages had, those that come before package isolate's.
func beforeServing(signal os.Signal, code int, output string) string {
	if code == workerside.ExitProtocol {
		return "ended by itself, because it did not understand how it was started"
	}
	if what, where := goPanic(output); what != "" {
		return fmt.Sprintf("ended by an init function of its program, before it could serve: %s%s", what, where)
	}
	how := fmt.Sprintf("exit code %d", code)
	if signal != nil {
		how = fmt.Sprintf("the signal %q", signal)
	}
	return "ended with " + how + " before it could serve, when its program's init functions ran"
}

// goPanic finds what a Go program said when it panicked, and where the init function was, if there is one.
func goPanic(output string) (what, where string) {
	lines := strings.Split(output, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "panic: ") && !strings.HasPrefix(line, "fatal error: ") {
			continue
		}
		for j := i + 1; j+1 < len(lines); j++ {
			if function, _, call := strings.Cut(lines[j], "("); call && strings.Contains(function, ".init") && !strings.HasPrefix(function, "runtime.") {
				place, _, _ := strings.Cut(strings.TrimSpace(lines[j+1]), " ")
				return line, fmt.Sprintf(" (%s, %s)", function, place)
			}
		}
		return line, ""
	}
	return "", ""
}
