package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
)

// machine is what the figures depend on.
type machine struct {
	lines [][2]string // what, and which
	cores int
}

const unknown = "unknown"

func thisMachine(ctx context.Context, dir string, contenders []*contender) (*machine, error) {
	m := &machine{cores: runtime.NumCPU()}
	add := func(what, which string) { m.lines = append(m.lines, [2]string{what, which}) }
	info, _ := os.ReadFile("/proc/cpuinfo")
	add("CPU", field(string(info), "model name", ":"))
	add("cores", fmt.Sprint(m.cores))
	stat, _ := os.ReadFile("/proc/self/stat")
	if how := scheduling(string(stat)); how != "" {
		add("scheduling", how)
	}
	release, _ := os.ReadFile("/etc/os-release")
	add("system", strings.Trim(field(string(release), "PRETTY_NAME", "="), `"`)+", "+runtime.GOOS+"/"+runtime.GOARCH)
	uname, _ := output(ctx, dir, "uname", "-r")
	add("kernel", kernelVersion(uname))
	version, err := output(ctx, dir, "go", "env", "GOVERSION")
	if err != nil {
		return nil, err
	}
	add("Go", version)
	seen := make(map[string]bool)
	for _, c := range contenders {
		names := []string{"gcc"}
		for _, a := range c.needs {
			if name := strings.Fields(a.command)[0]; name != "sh" {
				names = append(names, name)
			}
		}
		for _, name := range names {
			if name == "go" || seen[name] {
				continue
			}
			seen[name] = true
			text, err := output(ctx, dir, name, "--version")
			if err != nil {
				return nil, err
			}
			text, _, _ = strings.Cut(text, "\n")
			add(name, text)
		}
	}
	for _, c := range contenders {
		if c.module == "" || seen[c.module] {
			continue
		}
		seen[c.module] = true
		version, err := output(ctx, dir, "go", "list", "-m", "-f", "{{.Version}}", c.module)
		if err != nil {
			return nil, err
		}
		add(c.module, version)
	}
	return m, nil
}

// scheduling says how the system schedules the process whose /proc/PID/stat this is, and so those that it starts, where
// that is not as usual.
func scheduling(stat string) string {
	// Fields are counted from 1; the second is the program's name in parentheses, with any characters in it.
	const first, nice, priority, policy = 3, 19, 40, 41
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= policy-first {
		return "" // not Linux
	}
	switch fields[policy-first] {
	case "1":
		return "SCHED_FIFO, priority " + fields[priority-first]
	case "2":
		return "SCHED_RR, priority " + fields[priority-first]
	case "3":
		return "SCHED_BATCH"
	case "5":
		return "SCHED_IDLE"
	}
	if n := fields[nice-first]; n != "0" {
		return "nice " + n
	}
	return ""
}

// kernelVersion returns the major and minor version in what uname says: what follows tells machines apart, not kernels.
func kernelVersion(release string) string {
	version := regexp.MustCompile(`^\d+\.\d+`).FindString(release)
	return cmp.Or(version, unknown)
}

// field returns what follows the separator in the first line of text that begins with key.
func field(text, key, separator string) string {
	for line := range strings.Lines(text) {
		if left, right, ok := strings.Cut(line, separator); ok && strings.TrimSpace(left) == key {
			return strings.TrimSpace(right)
		}
	}
	return unknown
}

func (m *machine) get(what string) string {
	for _, line := range m.lines {
		if line[0] == what {
			return line[1]
		}
	}
	return unknown
}
