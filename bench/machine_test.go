package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKernelVersion(t *testing.T) {
	for release, want := range map[string]string{
		"6.18.44-fc-v657": "6.18", "6.1.0-13-amd64": "6.1", "5.15.153.1-microsoft-standard-WSL2": "5.15", "24.6.0": "24.6", "": "unknown", "unknown": "unknown",
	} {
		require.Equal(t, want, kernelVersion(release), release)
	}
}

// The file that is committed says it in the same way.
func TestResultsHaveTheKernelVersion(t *testing.T) {
	text, err := os.ReadFile("RESULTS.md")
	require.NoError(t, err)
	require.Regexp(t, regexp.MustCompile(`(?m)^\| kernel \| \d+\.\d+ \|$`), string(text))
}

// What is scheduled in another way than usual is said; the name of a program is anything.
func TestScheduling(t *testing.T) {
	stat := func(nice, priority, policy string) string {
		fields := strings.Fields(strings.Repeat("0 ", 50))
		fields[19-3], fields[40-3], fields[41-3] = nice, priority, policy
		return "17 (a) name 1 2) " + strings.Join(fields, " ")
	}
	for text, want := range map[string]string{
		"": "", "17 (short) R 1": "",
		stat("0", "0", "0"):   "",
		stat("-20", "0", "0"): "nice -20",
		stat("0", "40", "1"):  "SCHED_FIFO, priority 40",
		stat("0", "7", "2"):   "SCHED_RR, priority 7",
		stat("0", "0", "3"):   "SCHED_BATCH",
		stat("0", "0", "5"):   "SCHED_IDLE",
	} {
		require.Equal(t, want, scheduling(text), text)
	}
}

// The system says it where it is looked for.
func TestSchedulingOfAProcess(t *testing.T) {
	if _, err := exec.LookPath("chrt"); err != nil {
		t.Skip("chrt is missing: apt-get install util-linux")
	}
	stat, err := exec.Command("chrt", "--batch", "0", "cat", "/proc/self/stat").Output()
	require.NoError(t, err)
	require.Equal(t, "SCHED_BATCH", scheduling(string(stat)))
}
