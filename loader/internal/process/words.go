package process

import (
	"fmt"
	"os"
	"strings"
)

// How says in words by what a process has ended: "the signal ..." or "exit code ...", for a sentence that begins with "ended with".
func How(signal os.Signal, code int) string {
	if signal != nil {
		return fmt.Sprintf("the signal %q", signal)
	}
	return fmt.Sprintf("exit code %d", code)
}

// GoPanic finds what a program in Go said when it panicked, or its runtime ended it, in what it has written: the first line, and in
// which init function that was and where, in brackets, if it was in one. Both are "" where there is no such line.
func GoPanic(output string) (what, where string) {
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
