package check

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// step says what a worker is about to do. When the process does not live to say that it is done, the step is what it died
// of.
type step struct {
	What     string `json:"what"`               // as "function echo with one byte"
	Function string `json:"function,omitempty"` // as label has it
	Rule     string `json:"rule"`
	Expected string `json:"expected"`
	Mend     string `json:"mend"`
	Fatal    bool   `json:"fatal,omitempty"` // no other case can run when this fails
}

// event is one line of a worker's report. One member is set.
type event struct {
	Step    *step    `json:"step,omitempty"`
	Finding *Finding `json:"finding,omitempty"`
	Note    string   `json:"note,omitempty"`
	Slow    string   `json:"slow,omitempty"`   // a function that runs until it is cancelled
	Broken  string   `json:"broken,omitempty"` // a function that later cases leave out
	Skip    string   `json:"skip,omitempty"`
	Stop    string   `json:"stop,omitempty"` // why no other case can run
	Done    bool     `json:"done,omitempty"`
}

// task is what a worker gets, in its standard input.
type task struct {
	Path    string            `json:"path"`
	Case    string            `json:"case"`
	Seed    uint64            `json:"seed"`
	Report  string            `json:"report"`
	Config  []byte            `json:"config"`
	Inputs  map[string][]byte `json:"inputs"`
	Without map[string]string `json:"without"` // functions not to call, and why
}

// parent runs cases in workers, and keeps what one case found out for the next.
type parent struct {
	path    string
	options Options
	without map[string]string
	stop    string // why no other case can run
}

// untilCancelled is why later cases leave a function out that is not broken, but takes too long to be called often.
const untilCancelled = "it runs until it is cancelled"

// maxCrashes is how many functions of a library may end the worker in one case before the case is given up.
const maxCrashes = 16

// run runs one case: again without the function, as long as functions end the process.
func (p *parent) run(c Case, r *Result) error {
	left := map[string]string{}
	for range maxCrashes {
		again, err := p.once(c, r, left)
		if err != nil {
			return err
		}
		if !again {
			break
		}
	}
	for name, why := range left {
		p.without[name] = why
	}
	if len(r.Findings) > 0 {
		r.Reason = "" // it ran, until no function was left
	}
	slices.Sort(r.Notes)
	r.Notes = slices.Compact(r.Notes)
	return nil
}

// once runs one worker. It adds functions to be left out from now on to left; again says that one ended the process.
func (p *parent) once(c Case, r *Result, left map[string]string) (again bool, err error) {
	dir, err := os.MkdirTemp("", "ferrule-check-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	without := map[string]string{}
	for _, from := range []map[string]string{p.without, left} {
		for name, why := range from {
			without[name] = why
		}
	}
	path, err := filepath.Abs(p.path)
	if err != nil {
		return false, err
	}
	report := filepath.Join(dir, "report")
	input, err := json.Marshal(task{path, c.Name, p.options.Seed, report, p.options.Config, p.options.Inputs, without})
	if err != nil {
		return false, err
	}
	stdout, err := os.Create(filepath.Join(dir, "stdout"))
	if err != nil {
		return false, err
	}
	defer stdout.Close()
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		return false, err
	}
	defer stderr.Close()
	cmd := exec.Command(p.options.Worker[0], p.options.Worker[1:]...)
	cmd.Stdin = strings.NewReader(string(input))
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Env = append(os.Environ(), "GOTRACEBACK=none")
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("a worker cannot be started: %w", err)
	}
	late := false
	limit := time.AfterFunc(p.options.Timeout, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	late = !limit.Stop()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) && !errors.Is(err, exec.ErrWaitDelay) {
		return false, fmt.Errorf("a worker failed: %w", err)
	}

	events, err := os.Open(report)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	var last step
	done := false
	if err == nil {
		defer events.Close()
		lines := bufio.NewScanner(events)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) != nil {
				break // cut off by the process's death
			}
			done = done || e.Done
			switch {
			case e.Step != nil:
				last = *e.Step
			case e.Finding != nil:
				r.add(*e.Finding)
			case e.Note != "":
				r.Notes = append(r.Notes, e.Note)
			case e.Slow != "":
				left[e.Slow] = untilCancelled
			case e.Broken != "":
				left[e.Broken] = "case " + c.Name + " found it broken"
			case e.Skip != "":
				r.Reason = e.Skip
			case e.Stop != "":
				p.stop = e.Stop
			}
		}
	}
	if done {
		p.streams(c, r, stdout)
		return false, nil
	}
	if last.What == "" {
		return false, fmt.Errorf("a worker ended before it began: %v: %s", cmd.ProcessState, tail(stderr))
	}
	f := Finding{Rule: last.Rule, Severity: Error, Function: last.Function, Expected: last.Expected, Mend: last.Mend}
	if late {
		f.Seen = fmt.Sprintf("%s: not done after %v", last.What, p.options.Timeout)
		if last.Function != "" && last.Rule != "R9" && last.Rule != "R18" {
			f.Rule, f.Expected = "R17", "a function that returns soon, at the latest when its cancel word is set"
			f.Mend = "Poll ferrule_cancelled in every loop that may run long"
		}
	} else {
		how := death(cmd.ProcessState, tail(stderr))
		f.Seen = last.What + ": " + how
		if last.Function != "" && (strings.Contains(how, "SIGABRT") || strings.Contains(how, "ended with")) {
			f.Rule, f.Expected = "R12", "the function to return: no exception, no panic, no exit leaves it"
			f.Mend = "Catch what may be thrown, and return a status with a message"
		}
	}
	r.add(f)
	if last.Fatal {
		p.stop = "case " + c.Name + " ended the process"
		return false, nil
	}
	if last.Function == "" || left[last.Function] != "" {
		return false, nil
	}
	left[last.Function] = "it ended the process in case " + c.Name
	return true, nil
}

// add adds a finding, unless it is there already.
func (r *Result) add(f Finding) {
	if !slices.ContainsFunc(r.Findings, func(g Finding) bool {
		return f.Rule == g.Rule && f.Function == g.Function && f.Expected == g.Expected
	}) {
		r.Findings = append(r.Findings, f)
	}
}

// streams looks at what a library wrote to the standard output, in the case that is about that.
func (p *parent) streams(c Case, r *Result, stdout *os.File) {
	if c.Name != caseStreams {
		return
	}
	if text := head(stdout); text != "" {
		r.add(Finding{Rule: "R20", Severity: Error, Seen: "on the standard output: " + strconv.Quote(text),
			Expected: "nothing: it belongs to the host", Mend: "Use ferrule_log, or return the text"})
	}
}

// head and tail are the first and the last of what is in a file.
func head(f *os.File) string { return part(f, 0, 200) }

func tail(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	const n = 16 << 10 // Go says much when a signal ends it
	return part(f, max(0, info.Size()-n), n)
}

func part(f *os.File, from, n int64) string {
	b, _ := io.ReadAll(io.NewSectionReader(f, from, n))
	return string(b)
}

var (
	signalName = regexp.MustCompile(`\bSIG[A-Z]{2,7}\b`)
	signalAddr = regexp.MustCompile(`\b(?:addr=|fault address )(0x[0-9a-f]+)`)
	exception  = regexp.MustCompile(`\bException (0x[0-9a-f]+) 0x[0-9a-f]+ (0x[0-9a-f]+)`) // of Windows
)

// death says how a process ended, from its state and from what Go's runtime wrote about it.
func death(state *os.ProcessState, stderr string) string {
	if code := state.ExitCode(); code >= 0 && code != 2 { // 2 is what Go ends with when it catches a signal
		return fmt.Sprintf("the process ended with exit code %d", code)
	}
	if name := signalName.FindString(stderr); name != "" {
		if m := signalAddr.FindStringSubmatch(stderr); m != nil && name != "SIGABRT" {
			return "the process died of " + name + " at the address " + m[1]
		}
		return "the process died of " + name
	}
	if m := signalAddr.FindStringSubmatch(stderr); m != nil {
		return "the process died of a fault at the address " + m[1]
	}
	if m := exception.FindStringSubmatch(stderr); m != nil {
		return "the process died of the exception " + m[1] + " at the address " + m[2]
	}
	if state.ExitCode() >= 0 {
		return fmt.Sprintf("the process ended with exit code %d", state.ExitCode())
	}
	return "the process ended: " + state.String()
}
