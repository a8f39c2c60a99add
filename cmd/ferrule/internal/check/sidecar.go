package check

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/supervise"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// A sidecar is checked by messages that this package sends itself, as docs/wire.md has them: package sidecar, which hosts use, forgives what a test is to
// find. Nothing of it runs in this process, so its cases need no worker.

// Sidecar says which sidecar RunSidecar checks.
type Sidecar struct {
	Target string      // a program, by its path or by its name in PATH; or a URL: unix:, tcp:, fifo:, npipe:, http:, https:, http+unix:
	Args   []string    // the program's arguments, behind its name
	Token  string      // what it wants to hear first; "" for none
	TLS    *tls.Config // how https: is spoken to, nil for the system's authorities; and tcp:, nil for in the clear
}

// sidecarCase is a case for sidecars.
type sidecarCase struct {
	Case
	does func(*probe)
	web  func(*probe) // by HTTP; nil where HTTP has no such thing
}

// SidecarCases returns the cases for sidecars up to a level, in the order in which they run.
func SidecarCases(level int) (all []Case) {
	for _, c := range sidecarCases {
		if c.Level <= level {
			all = append(all, c.Case)
		}
	}
	return all
}

// targets are the kinds of a sidecar's place.
const (
	isProgram = ""
	isUnix    = "unix"
	isTCP     = "tcp"
	isFIFO    = "fifo"
	isPipe    = "npipe"
	isHTTP    = "http"
	isHTTPS   = "https"
	isWebUnix = "http+unix"
)

// probed is what the cases of one sidecar have in common. Each case has a copy of its own: see RunSidecar.
type probed struct {
	Sidecar
	options Options
	kind    string // such as isUnix
	place   string // of the URL, behind its scheme
	program string // its file
	args    []string

	manifest []byte
	about    *abi.Description // nil before its hello
	maxBody  uint64           // the longest input that it takes
	stop     string           // why no other case can run
	without  map[string]string
	slow     map[string]bool // functions that run until they are cancelled
	said     map[string]bool // what one finding is enough for: see probe.once
	lingers  bool            // a session of its own does not end
	way      int             // by which streams it speaks: see peer
}

// copied is what a case gets of what is known before it.
func (p *probed) copied() *probed {
	c := *p
	c.without, c.slow, c.said = maps.Clone(p.without), maps.Clone(p.slow), maps.Clone(p.said)
	return &c
}

// probe is one case of a sidecar.
type probe struct {
	*probed
	ctx    context.Context
	result *Result
	until  time.Time // when its time is over
	random *rand.Rand
	peers  []*peer  // to be ended with the case
	idle   []func() // connections by HTTP, to be closed with it

	// What a call that is not answered breaks in this case, and what to do then.
	rule, expected, mend string
	ordinary             bool // it is not about more than that calls are answered
}

// RunSidecar checks a sidecar as Run checks a library. Options.Worker and Options.Sandbox are not used; rules are those of docs/wire.md. The error is an
// *UnknownCaseError, an *UnknownFunctionError, the context's, or an *inspect.Error when no program could be started or nobody answers at the URL. Every program that
// it starts has ended when it returns.
func RunSidecar(ctx context.Context, s Sidecar, o Options) (*Verdict, error) {
	chosen := map[string]bool{}
	for _, name := range o.Only {
		if !slices.ContainsFunc(sidecarCases, func(c sidecarCase) bool { return c.Name == name }) {
			return nil, &UnknownCaseError{name}
		}
		chosen[name] = true
	}
	p := &probed{Sidecar: s, options: o, without: map[string]string{}, slow: map[string]bool{}, said: map[string]bool{}, maxBody: wire.MaxBody, way: -1}
	for _, name := range o.Without {
		p.without[name] = withoutSays
	}
	if err := p.find(); err != nil {
		return nil, err
	}
	v := &Verdict{File: s.Target, Level: o.Level, Seed: o.Seed, Pass: true, Strict: o.Strict, Without: p.without}
	said := map[string]bool{}
	add := func(r Result, wanted bool) {
		r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool { // which cases at the same time have both
			again := f.once != "" && said[f.once]
			said[f.once] = true
			return again
		})
		if wanted || len(r.Findings) > 0 {
			v.add(r, o.Done)
		}
	}
	wanted := func(c sidecarCase) bool { return c.Level <= o.Level && len(chosen) == 0 || chosen[c.Name] }
	var beside []sidecarCase
	for i, c := range sidecarCases {
		first := i < firstCases // nothing can be said of a sidecar that has not said what it is
		if !first && !wanted(c) {
			continue
		}
		if c.Level > learnsUpTo {
			beside = append(beside, c)
			continue
		}
		r, err := p.one(ctx, c)
		if err != nil {
			return nil, err
		}
		add(r, wanted(c))
		if i == firstCases-1 && p.about != nil {
			v.Name, v.Version = p.about.Manifest.Name, p.about.Manifest.Version
			var names []string
			for _, f := range p.functions() {
				names = append(names, f.label)
			}
			for _, given := range [][]string{keys(o.Inputs), o.Without} {
				for _, name := range given {
					if !slices.Contains(names, name) {
						return nil, &UnknownFunctionError{name, names}
					}
				}
			}
		}
	}
	if err := p.beside(ctx, beside, func(r Result) { add(r, true) }); err != nil {
		return nil, err
	}
	v.Pass = v.Errors == 0 && (v.Warnings == 0 || !o.Strict)
	return v, nil
}

// learnsUpTo is the level of the cases that tell the others which functions end the sidecar, or run until they are cancelled. They run one after the other.
const learnsUpTo = 2

// defaultJobs is how many cases run at a time, where nothing else is said: most of a case is waiting for a program to start, and to end.
func defaultJobs() int { return min(max(4, runtime.NumCPU()), 16) }

// beside runs cases at the same time, each with what is known before all of them: so their findings are the same whichever of them is done first. Results are
// given in the order of the cases.
func (p *probed) beside(ctx context.Context, cases []sidecarCase, add func(Result)) error {
	jobs := p.options.Jobs
	if jobs == 0 {
		jobs = defaultJobs()
	}
	if p.kind != isProgram { // somebody else has started it, and may have room for one host: only the case connections is about more
		jobs = 1
	}
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	type outcome struct {
		Result
		own *probed
		err error
	}
	outcomes := make([]chan outcome, len(cases))
	for i := range outcomes {
		outcomes[i] = make(chan outcome, 1)
	}
	next := make(chan int, len(cases))
	for i := range cases {
		next <- i
	}
	close(next)
	for range min(jobs, len(cases)) {
		running.Go(func() {
			for i := range next {
				own := p.copied()
				r, err := own.one(ctx, cases[i])
				outcomes[i] <- outcome{r, own, err}
			}
		})
	}
	for i := range cases {
		o := <-outcomes[i]
		if o.err != nil {
			return o.err
		}
		for name, why := range o.own.without {
			if p.without[name] == "" {
				p.without[name] = why
			}
		}
		add(o.Result)
	}
	return nil
}

// one runs a case, or says why it does not.
func (p *probed) one(ctx context.Context, c sidecarCase) (Result, error) {
	r := Result{Case: c.Name, Level: c.Level, Rules: c.Rules}
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	begun := time.Now()
	do := c.does
	if p.web() {
		do = c.web
	}
	switch {
	case p.stop != "":
		r.Reason = p.stop
	case do == nil:
		r.Reason = "a sidecar by HTTP has nothing of the kind"
	default:
		if err := p.try(ctx, &r, do); err != nil {
			return r, err
		}
	}
	r.Milliseconds = time.Since(begun).Milliseconds()
	return r, nil
}

func keys[V any](m map[string]V) (all []string) {
	for key := range m {
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}

// withoutSays is why a function is left out that Options.Without names.
const withoutSays = "--without says so"

func (p *probed) web() bool { return p.kind == isHTTP || p.kind == isHTTPS || p.kind == isWebUnix }

// find finds what the target is.
func (p *probed) find() error {
	scheme, rest, ok := strings.Cut(p.Target, ":")
	if ok && slices.Contains([]string{isUnix, isTCP, isFIFO, isPipe, isHTTP, isHTTPS, isWebUnix}, scheme) {
		p.kind, p.place = scheme, strings.TrimPrefix(rest, "//")
		switch _, err := sidecar.URL(p.Target); {
		case !p.web() && err != nil:
			return err
		case p.web() && p.place == "":
			return &inspect.Error{Path: p.Target, Kind: inspect.ErrRead, Found: "nothing behind " + scheme + ":", Expected: "http://HOST:PORT, https://HOST:PORT or http+unix:PATH", Remedy: "Say where it listens (is a variable not set?)"}
		}
		if p.TLS != nil && p.kind == isTCP {
			p.TLS = p.TLS.Clone()
			if host, _, err := net.SplitHostPort(p.place); err == nil && p.TLS.ServerName == "" {
				p.TLS.ServerName = host
			}
		}
		return nil
	}
	path, err := Program(p.Target)
	if err != nil {
		return err
	}
	whole, err := abspath.Of(path)
	if err != nil {
		return &inspect.Error{Path: p.Target, Kind: inspect.ErrRead, Err: err}
	}
	file := &engine.File{Path: path}
	defer file.Close()
	if err := sidecar.Engine().(engine.Looking).Look(file); errors.Is(err, loader.ErrNoEngine) && runtime.GOOS != "windows" { // there it is a script, which may be started all the same
		return err
	}
	p.program, p.args = whole, WholePaths(p.Args)
	return nil
}

// Program returns the path of a program, which target is, or its name in PATH. The error is an *inspect.Error.
func Program(target string) (string, error) {
	info, err := os.Stat(target)
	switch {
	case err != nil && !strings.ContainsAny(target, `/\`):
		path, err := exec.LookPath(target)
		if err != nil {
			return "", &inspect.Error{Path: target, Kind: inspect.ErrRead, Found: "no program of this name", Err: err, Expected: "the path of one, its name in PATH, or a URL",
				Remedy: "Check the path"}
		}
		return path, nil
	case err == nil && info.IsDir():
		remedy := "Give the path of the program itself"
		if programs := programsIn(target); len(programs) > 0 {
			remedy = "Give the path of a program in it, such as " + programs[0]
		}
		return "", &inspect.Error{Path: target, Kind: inspect.ErrNotRegular, Found: "a folder", Expected: "a program", Remedy: remedy}
	}
	return target, nil
}

// programsIn are the files in a folder that the system may execute, by their names.
func programsIn(folder string) (paths []string) {
	entries, _ := os.ReadDir(folder) // without them it is the same folder
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && (info.Mode()&0o111 != 0 || strings.EqualFold(filepath.Ext(path), ".exe")) {
			paths = append(paths, path)
		}
	}
	return paths
}

// WholePaths returns a program's arguments, those that name files as whole paths: it runs in another folder, where a relative one would name nothing.
func WholePaths(args []string) (all []string) {
	for _, arg := range args {
		if info, err := os.Stat(arg); err == nil && info.Mode().IsRegular() {
			if whole, err := abspath.Of(arg); err == nil {
				arg = whole
			}
		}
		all = append(all, arg)
	}
	return all
}

// errStart is panicked with where the sidecar cannot be reached at all.
type errStart struct{ error }

// unreached is the error of a URL at which no sidecar answers.
func (p *probed) unreached(err error) errStart {
	e := &inspect.Error{Path: p.Target, Kind: inspect.ErrRead, Found: "no sidecar that answers", Err: err, Remedy: "Start it, and check the address"}
	var worded *inspect.Error
	if errors.As(err, &worded) {
		e.Found, e.Expected, e.Remedy, e.Err = worded.Found, worded.Expected, "Give such a URL", nil
	}
	var strange *tls.CertificateVerificationError
	var clear tls.RecordHeaderError
	switch {
	case errors.As(err, &strange):
		e.Found, e.Expected, e.Remedy = "a sidecar whose certificate is not trusted", "one of an authority that is known here", "Give the authority's certificate with --ca, where the sidecar is the right one"
	case errors.As(err, &clear):
		e.Found, e.Expected, e.Remedy = "no TLS", "a sidecar that speaks it, as the command line says", "Leave out --tls, or write http: in place of https:, where it speaks in the clear"
	}
	return errStart{e}
}

// try runs a case.
func (p *probed) try(ctx context.Context, r *Result, do func(*probe)) (err error) {
	k := &probe{probed: p, ctx: ctx, result: r, until: time.Now().Add(p.options.Timeout), random: rand.New(rand.NewPCG(p.options.Seed, 1))}
	k.expect("W7", "one answer to each call", "Answer each CALL with one DONE of its id, whatever happens in the function")
	k.ordinary = true
	defer func() {
		for _, peer := range k.peers {
			peer.finish()
		}
		for _, shut := range k.idle {
			shut()
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		slices.Sort(r.Notes)
		r.Notes = slices.Compact(r.Notes)
		if len(r.Findings) > 0 {
			r.Reason = ""
		}
	}()
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case errStart:
			err = fault.error
		default:
			panic(fault)
		}
	}()
	do(k)
	return nil
}

func (k *probe) expect(rule, expected, mend string) {
	k.rule, k.expected, k.mend, k.ordinary = rule, expected, mend, false
}

func (k *probe) add(severity, rule, function, seen, expected, mend string) {
	k.result.add(Finding{Rule: rule, Severity: severity, Function: function, Seen: seen, Expected: expected, Mend: mend})
}

// once adds a finding of which one is enough, whatever makes it.
func (k *probe) once(what, severity, rule, function, seen, expected, mend string) {
	if !k.said[what] {
		k.said[what] = true
		k.result.add(Finding{Rule: rule, Severity: severity, Function: function, Seen: seen, Expected: expected, Mend: mend, once: what})
	}
}

func (k *probe) note(format string, args ...any) {
	k.result.Notes = append(k.result.Notes, fmt.Sprintf(format, args...))
}

func (k *probe) skip(format string, args ...any) { k.result.Reason = fmt.Sprintf(format, args...) }

// patience is how long the sidecar may take for what the page has it do in half a second, or in two: machines are busy.
func (k *probe) patience() time.Duration { return max(2*time.Second, k.options.Timeout/4) }

// budget is how long a function may run before it is cancelled.
func (k *probe) budget() time.Duration { return max(time.Second, k.options.Timeout/10) }

// soon is a moment that is d away, or the end of the case's time.
func (k *probe) soon(d time.Duration) time.Time {
	if at := time.Now().Add(d); at.Before(k.until) {
		return at
	}
	return k.until
}

// late reports whether so little time is left that a case does no more than it has done.
func (k *probe) late() bool {
	return k.ctx.Err() != nil || time.Until(k.until) < k.options.Timeout/3
}

// functions are the functions and hooks of the manifest, without those that are left out.
func (p *probed) functions() []function {
	return functions(&inspect.Library{Description: *p.about}, func(string) uintptr { return 0 })
}

// called are the functions and hooks that a case calls.
func (k *probe) called(slow bool) (all []function) {
	for _, f := range k.functions() {
		if k.without[f.label] == "" && (slow || !k.slow[f.label]) {
			all = append(all, f)
		}
	}
	return all
}

// nobody is a function that no sidecar has: a call of it is answered with status 3, whatever its input is.
var nobody = function{label: "ferrule_check_of_no_sidecar"}

// some are a few functions that come back soon, and nobody.
func (k *probe) some() []function {
	all := k.called(false)
	return append(all[:min(len(all), 3):min(len(all), 3)], nobody)
}

// samples are ordinary inputs of a function.
func (k *probe) samples(f function) []input {
	return (&kit{task: task{Inputs: k.options.Inputs}}).samples(f)
}

func (k *probe) bytes(n int) []byte { return (&kit{random: k.random}).bytes(n) }

// answer is what a host function of the sidecar's answers.
func (k *probe) answer(name string, in []byte) (abi.Status, []byte) {
	given, ok := k.options.Imports[name]
	switch {
	case !ok:
		return abi.StatusOK, []byte("an answer of ferrule check's")
	case given.Command == "":
		return abi.StatusOK, given.Answer
	case k.options.Shell == nil:
		return abi.StatusUnsupported, nil
	}
	out, err := k.options.Shell(given.Command, in)
	if err != nil {
		return abi.StatusFailed, []byte(err.Error())
	}
	return abi.StatusOK, out
}

// environment is the program's, as hosts give it.
func environmentOfSidecar() (env []string) {
	names := []string{"PATH", "HOME", "TMPDIR", "LANG", "TZ"}
	if runtime.GOOS == "windows" {
		names = append(names, "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "TEMP", "TMP", "USERPROFILE", "COMSPEC", "PATHEXT", "APPDATA", "LOCALAPPDATA")
	}
	for _, name := range names {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// launch starts the program, in a folder of its own. files are its descriptors.
func (p *probed) launch(dir string, stdin, stdout, stderr *os.File, extra []*os.File) (*supervise.Process, error) {
	cmd := exec.Command(p.program, p.args...)
	cmd.Dir, cmd.Env = dir, environmentOfSidecar()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	if extra != nil {
		cmd.ExtraFiles = extra
		cmd.Env = append(cmd.Env, "FERRULE_SIDECAR=3,4")
	}
	process, err := supervise.Start(cmd)
	if err != nil {
		return nil, &inspect.Error{Path: p.Target, Kind: inspect.ErrRead, Found: "a program that does not start", Err: err, Expected: "one that the system starts by itself",
			Remedy: "Make it executable (chmod +x), with its interpreter in the first line (#!), or name the interpreter: ferrule check --sidecar python3 -- FILE"}
	}
	return process, nil
}
