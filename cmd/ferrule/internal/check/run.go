package check

import (
	"bytes"
	"cmp"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/crash"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/supervise"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// step says what a worker is about to do. When the process does not live to say that it is done, the step is what it died
// of.
type step struct {
	What     string `json:"what"`               // as "echo with one byte", or "opening the library"
	Function string `json:"function,omitempty"` // as label has it
	Rule     string `json:"rule"`
	Expected string `json:"expected"`
	Mend     string `json:"mend"`
	Fatal    bool   `json:"fatal,omitempty"` // no other case can run when this fails

	Began time.Time `json:"began"` // set by send
}

// justBegun reports whether a step that is no call had little of a case's time when that was over: it is not why.
func (s *step) justBegun(over time.Time, limit time.Duration) bool {
	return s.Function == "" && over.Sub(s.Began) < limit/4
}

// event is one line of a worker's report. One member is set.
type event struct {
	Step    *step    `json:"step,omitempty"`
	Finding *Finding `json:"finding,omitempty"`
	Note    string   `json:"note,omitempty"`
	Slow    string   `json:"slow,omitempty"`   // a function that runs until it is cancelled
	Broken  string   `json:"broken,omitempty"` // a function that later cases leave out
	Skip    string   `json:"skip,omitempty"`
	Stop    string   `json:"stop,omitempty"`  // why no other case can run
	Stack   uint64   `json:"stack,omitempty"` // the lowest address of the stack that functions run on
	Area    *area    `json:"area,omitempty"`
	Paces   *paces   `json:"paces,omitempty"`
	Process int      `json:"process,omitempty"` // the worker's number
	Exits   bool     `json:"exits,omitempty"`   // all is done, and the process ends as a program does whose main returns 0
	Done    bool     `json:"done,omitempty"`
}

// area is memory of a call: what is in it, or right behind, is accessed for what it is.
type area struct {
	What  string `json:"what"` // areaInput, areaRoom
	Begin uint64 `json:"begin"`
	End   uint64 `json:"end"` // of the page behind it, which nobody may touch
}

const (
	areaInput = "the input"
	areaRoom  = "the room"
)

// task is what a worker gets, in its standard input. It is in gob, as paths need not be UTF-8, which JSON would make of them.
type task struct {
	Path    string
	Case    string
	Seed    uint64
	Report  string
	Crash   string // the file for where it crashes
	Config  []byte
	Inputs  map[string][]byte
	Without map[string]string // functions not to call, and why
	Imports map[string]Import
	Policy  *sandbox.Policy

	Adapter  string // what runs a script in Python
	Compiled string // a folder for what a WebAssembly module is compiled to, which all cases use

	Sanitized bool // AddressSanitizer has the memory: what is freed stays for a while
}

// parent runs cases in workers, and keeps what one case found out for the next.
type parent struct {
	path    string
	options Options
	without map[string]string
	stop    string // why no other case can run

	processes, files bool // findings about what it leaves were made

	compiled string // task's

	sanitizer sanitizer       // whose runtime is preloaded, if any
	reported  map[string]bool // places that sanitizers have named
}

// untilCancelled is why later cases leave a function out that is not broken, but takes too long to be called often.
const untilCancelled = "it runs until it is cancelled"

// maxCrashes is how many functions of a library may end the worker in one case before the case is given up.
const maxCrashes = 16

// run runs one case: again without the function, as long as functions end the process.
func (p *parent) run(ctx context.Context, c Case, r *Result) error {
	left := map[string]string{}
	for range maxCrashes {
		again, err := p.once(ctx, c, r, left)
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

// leftGrace is how long processes that a library has started may take to end by themselves, once its own has ended.
const leftGrace = 500 * time.Millisecond

// noTemp says that there is no place for what a case needs.
func noTemp(err error) error {
	return fmt.Errorf("no folder for a case can be made in %s, the folder for temporary files: %w. Have %s name a folder that this user may write to",
		os.TempDir(), err, tempVariable)
}

// makeTemp makes a folder for temporary files whose path is the same in every folder: a worker runs in another one.
func makeTemp(pattern string) (string, error) {
	top, err := abspath.Of(os.TempDir())
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(top, pattern)
}

// absoluteEnvironment is the environment of a worker, which runs in another folder: what it names relative to this one is made absolute. What cannot be is left as it is.
func absoluteEnvironment(env []string) []string {
	env = slices.Clone(env)
	absolute := func(path string) string {
		if strings.HasPrefix(path, "$") { // which the dynamic linker replaces
			return path
		}
		if path == "" {
			path = "."
		}
		if abs, err := abspath.Of(path); err == nil {
			return abs
		}
		return path
	}
	for i, variable := range env {
		switch name, value, _ := strings.Cut(variable, "="); {
		case value == "":
		case name == tempVariable:
			env[i] = name + "=" + absolute(value)
		case name == "LD_LIBRARY_PATH": // glibc has both separators
			folders := strings.Split(strings.ReplaceAll(value, ";", ":"), ":")
			for j, folder := range folders {
				folders[j] = absolute(folder)
			}
			env[i] = name + "=" + strings.Join(folders, ":")
		}
	}
	return env
}

// once runs one worker, in an empty folder, which is removed with all that is in it, and ends all the processes that it
// has started. It adds functions to be left out from now on to left; again says that one ended the process, or
// did not return.
func (p *parent) once(ctx context.Context, c Case, r *Result, left map[string]string) (again bool, err error) {
	dir, err := makeTemp("ferrule-check-")
	if err != nil {
		return false, noTemp(err)
	}
	defer removeAll(dir)
	without := map[string]string{}
	for _, from := range []map[string]string{p.without, left} {
		for name, why := range from {
			without[name] = why
		}
	}
	path, err := abspath.Of(p.path)
	if err != nil {
		return false, err
	}
	report, work, crashed := filepath.Join(dir, "report"), filepath.Join(dir, "work"), filepath.Join(dir, "crash")
	if err := os.Mkdir(work, 0o700); err != nil {
		return false, err
	}
	o := &p.options
	var input bytes.Buffer
	err = gob.NewEncoder(&input).Encode(task{path, c.Name, o.Seed, report, crashed, o.Config, o.Inputs, without, o.Imports, o.Sandbox, o.Adapter, p.compiled, p.sanitizer.name != ""})
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(filepath.Join(dir, "task"), input.Bytes(), 0o600); err != nil {
		return false, err
	}
	stdin, err := os.Open(filepath.Join(dir, "task"))
	if err != nil {
		return false, err
	}
	defer stdin.Close()
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
	cmd := exec.Command(o.Worker[0], o.Worker[1:]...)
	cmd.Dir = work
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	cmd.Env = append(append(absoluteEnvironment(os.Environ()), "GOTRACEBACK=none"), p.sanitizer.environment()...)
	process, err := supervise.Start(cmd)
	if err != nil {
		return false, fmt.Errorf("a worker cannot be started: %w", err)
	}
	limit := time.NewTimer(o.Timeout)
	defer limit.Stop()
	late, grace, over := false, leftGrace, time.Time{}
	select {
	case <-process.Done():
	case <-limit.C:
		late, over = true, time.Now()
	case <-ctx.Done():
	}
	if late || p.processes || ctx.Err() != nil {
		grace = 0
	}
	processes, alive := process.End(grace)
	if err := ctx.Err(); err != nil {
		return false, err
	}

	events, err := os.Open(report)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	var last step
	var paces *paces
	var stack uint64
	var areas []area
	var number int
	done, exits := false, false
	if err == nil {
		defer events.Close()
		for lines := json.NewDecoder(events); ; {
			var e event
			if err := lines.Decode(&e); errors.As(err, new(*fs.PathError)) {
				return false, fmt.Errorf("a worker's report cannot be read: %w", err)
			} else if err != nil {
				break // at its end, or cut off by the process's death
			}
			done, exits = done || e.Done, exits || e.Exits
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
			case e.Paces != nil:
				paces = e.Paces
			case e.Stack != 0:
				stack = e.Stack
			case e.Process != 0:
				number = e.Process
			case e.Area != nil:
				areas = append(areas, *e.Area)
			}
		}
	}
	if exits && process.State().ExitCode() == 0 {
		done = true
	}
	said, first := tail(stderr), part(stderr, 0, 1<<20)
	goesOn := p.findReports(r, first, done)
	p.leavesFiles(r, work)
	if !done && len(alive) > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%s could not be ended and may run on: %s", plural(len(alive), "process"), supervise.Names(alive)))
	}
	if done {
		if !late || len(alive) > 0 { // else they had no time to end by themselves
			p.leavesProcesses(r, processes, alive)
		}
		p.streams(c, r, stdout, first)
		return false, nil
	}
	if last.What == "" {
		return false, fmt.Errorf("a worker ended before it began: %v: %s", process.State(), tail(stderr))
	}
	f := Finding{Rule: last.Rule, Severity: Error, Function: last.Function, Expected: last.Expected, Mend: last.Mend}
	var at *crash.Crash
	if record, err := regular.Open(crashed); err == nil {
		at = crash.Read(record)
		record.Close()
	}
	late = late && at == nil // Go's runtime may never end the process of a thread whose memory is broken
	did := "ended the process"
	tooOften := paces.tooOften(o.Timeout)
	if late {
		did = fmt.Sprintf("did not return in %v", o.Timeout)
	}
	switch {
	case late && tooOften:
		ran := paces.of(last.Function)
		calls := fmt.Sprintf("%s, of which the longest took %v", plural(ran.Calls, "call"), ran.Longest.Round(time.Millisecond))
		did = fmt.Sprintf("took longer than %v for %s", o.Timeout, calls)
		f = Finding{Rule: "R17", Severity: Warning, Function: last.Function,
			Seen:     fmt.Sprintf("%s: the case was not done after %v and %s", last.What, o.Timeout, calls),
			Expected: fmt.Sprintf("all calls of a case within %v, the limit of --timeout; a function may take that long, but was not tried in full", o.Timeout),
			Mend:     fmt.Sprintf("Give each case more time, such as --timeout %v", 6*o.Timeout)}
	case late && last.justBegun(over, o.Timeout):
		f = Finding{Rule: last.Rule, Severity: Warning,
			Seen:     fmt.Sprintf("%s: the case was not done after %v, of which that had %v", last.What, o.Timeout, over.Sub(last.Began).Round(time.Millisecond)),
			Expected: fmt.Sprintf("all of a case within %v, the limit of --timeout", o.Timeout), Mend: fmt.Sprintf("Give each case more time, such as --timeout %v", 6*o.Timeout)}
	case late:
		f.Seen = fmt.Sprintf("%s: not done after %v", last.What, o.Timeout)
		if last.Function != "" && !slices.Contains([]string{"R9", "R18", "R24", "R33"}, last.Rule) {
			f.Rule, f.Expected = "R17", "a function that returns soon, at the latest when its cancel word is set"
			f.Mend = "Poll ferrule_cancelled (in Go: the context's Err) in every loop that may run long"
		}
	default:
		how := death(process.State(), said, at)
		f.Seen = last.What + ": " + how + place(at, path)
		f.Frames = callers(at, path)
		report := lastReport(stderr, number)
		switch why := reported(report); {
		case why != "":
			f.Seen, f.Expected = last.What+": "+why, "nothing that a sanitizer reports"
			f.Mend = "Mend what it names, at the place that is named"
			f.Frames = reportedFrames(report, path)
			if strings.Contains(why, "ASan runtime") {
				f.Expected, f.Mend = "AddressSanitizer's runtime, which is to be in the process before the library",
					"Set LD_PRELOAD to the path of the runtime: gcc -print-file-name=libasan.so, or clang -print-file-name=libclang_rt.asan-x86_64.so"
			}
		case at != nil && (at.Overflow() || at.Below(stack)), at == nil && overflowed(stack, areas, goReport(process.State(), said)):
			f.Seen = last.What + ": the process died of a stack overflow" + place(at, path)
			f.Expected, f.Mend = "a function that gets by with a thread's stack, of 8 MiB or less",
				"Bound the recursion, and keep large arrays in memory of your own (malloc)"
		case strings.Contains(how, "ended with") && goesOn: // which is a finding already
			f = Finding{}
		case f.dying(process.State(), said, at):
		case last.Function != "" && (strings.Contains(how, "SIGABRT") || strings.Contains(how, "ended with")):
			f.Rule, f.Expected = "R12", "the function to return: no exception, no panic, no exit leaves it"
			f.Mend = "Catch what may be thrown, and return a status with a message"
		case at != nil:
			blame(&f, at, areas, c.Name == "input-empty")
		}
	}
	if f.Seen != "" {
		r.add(f)
	}
	if last.Fatal {
		p.stop = fmt.Sprintf("%s %s in case %s", last.What, did, c.Name)
		return false, nil
	}
	if last.Function == "" || left[last.Function] != "" {
		return false, nil
	}
	left[last.Function] = fmt.Sprintf("it %s in case %s", did, c.Name)
	return true, nil
}

// tooOften reports whether time ran out although every call has come back: none has run for long by now.
func (p *paces) tooOften(limit time.Duration) bool {
	return p != nil && p.Running < min(budget+2*time.Second, limit/4) && p.of("").Calls > 0
}

// of is the pace of a function, or of all that was called in the library where there is no function.
func (p *paces) of(function string) (all pace) {
	for name, one := range p.Ran {
		if function == "" || name == function {
			all = pace{all.Calls + one.Calls, max(all.Longest, one.Longest)}
		}
	}
	return all
}

// add adds a finding, unless it is there already.
func (r *Result) add(f Finding) {
	if !slices.ContainsFunc(r.Findings, func(g Finding) bool {
		return f.Rule == g.Rule && f.Function == g.Function && f.Expected == g.Expected
	}) {
		r.Findings = append(r.Findings, f)
	}
}

// leavesProcesses reports processes that a library has left, once: whatever the case is about.
func (p *parent) leavesProcesses(r *Result, names, alive []string) {
	if len(names) == 0 || p.processes {
		return
	}
	p.processes = true
	seen := fmt.Sprintf("left after every instance had stopped: %s, %s", plural(len(names), "process"), supervise.Names(names))
	if len(alive) > 0 {
		seen += fmt.Sprintf("; %s could not be ended and may run on: %s", plural(len(alive), "process"), supervise.Names(alive))
	}
	r.add(Finding{Rule: "R15", Severity: Error, Seen: seen,
		Expected: "no process of the library's own when every instance has stopped",
		Mend:     "End the processes that an instance has started, and wait for them, before the call or ferrule_stop returns"})
}

// leavesFiles reports files that a library has made in its working folder, once: whatever the case is about.
func (p *parent) leavesFiles(r *Result, folder string) {
	if p.files {
		return
	}
	var names []string
	_ = filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != folder {
			if name, err := filepath.Rel(folder, path); err == nil {
				names = append(names, strconv.Quote(name))
			}
		}
		if len(names) > 100 {
			return fs.SkipAll
		}
		return nil
	})
	if len(names) == 0 {
		return
	}
	p.files = true
	r.add(Finding{Rule: "R20", Severity: Warning, Seen: "in the working folder: " + list(names),
		Expected: "files where the host wants them, and none in its working folder",
		Mend:     "Make files where an absolute path of the configuration or the input says"})
}

// removeAll removes a folder, also when somebody has made folders in it that may not be written to.
func removeAll(dir string) {
	if os.RemoveAll(dir) == nil {
		return
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}

// streams looks at what a library wrote to the standard streams, in the case that is about that.
func (p *parent) streams(c Case, r *Result, stdout *os.File, stderr string) {
	if c.Name != caseStreams {
		return
	}
	if text := head(stdout); text != "" {
		r.add(Finding{Rule: "R20", Severity: Error, Seen: "on the standard output: " + strconv.Quote(text),
			Expected: "nothing: it belongs to the host", Mend: "Use ferrule_log, or return the text"})
	}
	if text := besidesReports(stderr); text != "" {
		r.add(Finding{Rule: "R20", Severity: Warning, Seen: "on the standard error: " + strconv.Quote(text[:min(len(text), 200)]),
			Expected: "nothing: it belongs to the host, which may keep log lines elsewhere, or have no standard error",
			Mend:     "Use ferrule_log"})
	}
}

// head and tail are the first and the last of what is in a file.
func head(f *os.File) string { return part(f, 0, 200) }

func tail(f *os.File) string { return end(f, 16<<10) } // Go says much when a signal ends it

func end(f *os.File, n int64) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	return part(f, max(0, info.Size()-n), n)
}

func part(f *os.File, from, n int64) string {
	b, _ := io.ReadAll(io.NewSectionReader(f, from, n))
	return string(b)
}

var (
	signalAddr = regexp.MustCompile(`\b(?:addr=|fault address )(0x[0-9a-f]+)`)
	exception  = regexp.MustCompile(`(?m)^Exception (0x[0-9a-f]+) 0x[0-9a-f]+ (0x[0-9a-f]+)`) // of Windows
)

// reportBegins is how the report of Go's runtime begins that a signal has ended the process, or on Windows an exception: with what it says of the processor, as a signal's
// name alone may be in what a plug-in writes. The first or second group is the name.
var reportBegins = regexp.MustCompile(`(?m)^(?:(SIG[A-Z]{2,7}): .*\nPC=0x[0-9a-f]+ m=\d|\[signal (?:(SIG[A-Z]{2,7}): |0x).* code=0x[0-9a-f]+ addr=0x[0-9a-f]+ pc=0x` +
	`|unexpected fault address 0x[0-9a-f]+\nfatal error: |Exception 0x[0-9a-f]+ .*\nPC=0x)`)

// goReport is that report, where Go's runtime has ended the process. What the plug-in has written is none of it.
func goReport(state supervise.State, stderr string) string {
	const caught = 2 // the exit code of that
	if at := reportBegins.FindStringIndex(stderr); at != nil && state.ExitCode() == caught {
		return stderr[at[0]:]
	}
	return ""
}

// signalOf is the name of the signal that ended a process, or "" where that is not known.
func signalOf(state supervise.State, stderr string, at *crash.Crash) string {
	if at != nil {
		return at.Name()
	}
	if s := state.Signal(); s != nil {
		return nameOfSignal(s)
	}
	name := ""
	for _, m := range reportBegins.FindAllStringSubmatch(goReport(state, stderr), -1) {
		name = cmp.Or(m[1], m[2], name)
	}
	return name
}

// overflowed reports whether a process died right below the lowest address of its stack, or at it. That is a guess, for where no crash was
// recorded: nothing tells where the stack pointer was. What is there may be memory of a call as well, which the system puts anywhere.
func overflowed(bottom uint64, areas []area, stderr string) bool {
	m := signalAddr.FindStringSubmatch(stderr)
	if m == nil || bottom == 0 || !strings.Contains(stderr, "SIGSEGV") {
		return false
	}
	address, err := strconv.ParseUint(m[1], 0, 64)
	const below, above = 1 << 20, 64 << 10 // a frame that is entered may be large
	return err == nil && address < bottom+above && address+below >= bottom &&
		!slices.ContainsFunc(areas, func(a area) bool { return address >= a.Begin && address < a.End })
}

// place says where a crash was, behind what it was. It is empty where that is not known.
func place(at *crash.Crash, library string) string {
	if where := at.Place(library); where != "" {
		return ", " + where
	}
	return ""
}

// callers are a crash's frames in words, up to the library's outermost. A function that has called itself is there once.
func callers(at *crash.Crash, library string) (frames []string) {
	const most = 12
	if at == nil {
		return nil
	}
	outermost, is := 0, crash.IsFile(library)
	for i, f := range at.Frames {
		if is(f.File) {
			outermost = i + 1
		}
	}
	for i, f := range at.Frames[:outermost] {
		if i > 0 && f.Function == at.Frames[i-1].Function && f.Function != "" {
			continue
		}
		if len(frames) == most {
			break
		}
		frames = append(frames, f.String())
	}
	return frames
}

// dying are the last words of a C or C++ runtime that ends a process by SIGABRT, with what they are about.
var dying = []struct {
	words          *regexp.Regexp
	rule           string // empty for the rule that the call was about
	expected, mend string
}{
	{regexp.MustCompile(`(?m)^(?:\S+: )?(\S.*: Assertion .* failed\.|Assertion failed: .*)$`), "R12", "the function to return: assert ends the whole host",
		"Where the input may be why, test for it and return FERRULE_INVALID; where it cannot be, find out what was wrong before it. Build with " +
			"-DNDEBUG what you ship"},
	{regexp.MustCompile(`(?m)^(terminate called .*(?:\n +what\(\):.*)?)$`), "R12", "the function to return: no exception leaves it",
		"Catch what may be thrown, and return a status with a message; ferrule.hpp does so"},
	{regexp.MustCompile(`(?m)^((?:free|malloc|realloc|munmap_chunk|malloc_consolidate|_int_\w+)\(\): .*|double free or corruption.*|corrupted (?:size|double-linked).*)$`), "",
		"memory of malloc that is only used within its bounds, and given back once", "What was done wrong may be long before: build with " +
			"-g -fsanitize=address and check again, which says where"},
	{regexp.MustCompile(`(?m)^\*\*\* ((?:stack smashing|buffer overflow) detected \*\*\*.*)$`), "", "variables that are written to within their bounds",
		"An array is too small for what is written to it, or its size is not minded, in the function that is named"},
}

// dying says what it is about where the runtime has said so, or the signal does. It reports whether that is known.
func (f *Finding) dying(state supervise.State, said string, at *crash.Crash) bool {
	signal := signalOf(state, said, at)
	for _, d := range dying {
		m := d.words.FindStringSubmatch(said)
		if m == nil || signal != "SIGABRT" {
			continue
		}
		f.Seen += fmt.Sprintf("; it said %q", strings.Join(strings.Fields(m[1]), " "))
		f.Expected, f.Mend = d.expected, d.mend
		if d.rule != "" && f.Function != "" {
			f.Rule = d.rule
		}
		return true
	}
	if at == nil { // somebody may have sent the signal
		return false
	}
	switch signal {
	case "SIGFPE":
		f.Mend = "A whole number was divided by zero, or the smallest one by -1: check the divisor"
	case "SIGILL", "SIGTRAP":
		f.Expected, f.Mend = "code that ends with a return", "The compiler has put a trap there: for a function without its return, for __builtin_unreachable or "+
			"__builtin_trap, or for a sanitizer that only traps. Mend why that place is reached"
	default:
		return false
	}
	return true
}

// blame says what else than the input may be why, where the address that was accessed tells.
func blame(f *Finding, at *crash.Crash, areas []area, empty bool) {
	if f.Rule != "R7" || f.Expected != anyInput || !at.Accessed() {
		return
	}
	for _, a := range areas {
		if at.Anywhere || at.Address < a.Begin || at.Address >= a.End {
			continue
		}
		if a.What == areaRoom {
			f.Rule, f.Expected, f.Mend = "R8", withinRoom, mendRoom
		}
		return
	}
	const null = 64 << 10 // a member of a structure that is not there, or an element of an array
	if !at.Anywhere && at.Address < null {
		if empty { // call->in may be NULL
			f.Mend += ". Where it is another pointer that is NULL, check that one"
			return
		}
		f.Mend = "It is a NULL pointer, and not the input: check it before use, such as what a search in the input has not found, or what there " +
			"was no memory for"
		return
	}
	state := strings.HasSuffix(f.Mend, stateOutlives)
	f.Expected, f.Mend = "pointers to memory that is there", "The address is in neither the input nor the room. See which pointer it comes from: "+
		"to a variable of a function that has returned, to memory that was freed, or behind the end of an array"
	if state {
		f.Mend += ". " + stateOutlives
	}
}

// death says how a process ended: from its state, from where it crashed, if that is known, and from what Go's runtime wrote about it.
func death(state supervise.State, stderr string, at *crash.Crash) string {
	if code := state.ExitCode(); code >= 0 && code != 2 { // 2 is what Go ends with when it catches a signal
		return fmt.Sprintf("the process ended with exit code %d", code)
	}
	if at != nil {
		name := at.Name()
		if !at.Accessed() {
			return "the process died of " + name
		}
		if at.Anywhere {
			return "the process died of " + name + " at an address that no memory can have"
		}
		return fmt.Sprintf("the process died of %s at the address %#x", name, at.Address)
	}
	said := goReport(state, stderr)
	m := signalAddr.FindStringSubmatch(said)
	if name := signalOf(state, stderr, nil); name != "" {
		if m != nil && name != "SIGABRT" {
			return "the process died of " + name + " at the address " + m[1]
		}
		return "the process died of " + name
	}
	if m != nil {
		return "the process died of a fault at the address " + m[1]
	}
	if m := exception.FindStringSubmatch(said); m != nil {
		return "the process died of the exception " + m[1] + " at the address " + m[2]
	}
	if state.ExitCode() >= 0 {
		return fmt.Sprintf("the process ended with exit code %d", state.ExitCode())
	}
	return "the process ended: " + state.String()
}
