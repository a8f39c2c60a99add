package plugins

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

// Step is how far a plug-in came on its way from a file to a plug-in that runs. Failures name it.
type Step string

// The steps, in their order.
const (
	StepDiscover Step = "discover" // look for its file, and read that without running any of it
	StepFetch    Step = "fetch"    // install it: see Download
	StepResolve  Step = "resolve"  // find what it requires, in versions that fit
	StepGrant    Step = "grant"    // compare what it asks for with what it may have
	StepSettings Step = "settings" // read its settings, and compare them with its schema
	StepProbe    Step = "probe"    // start it once in a worker process, to see whether it can be started
	StepOpen     Step = "open"     // load it
	StepStart    Step = "start"    // start its instances
	StepHealth   Step = "health"   // call the function that its manifest names as health
	StepHandover Step = "handover" // hand the state of its predecessor over to it
	StepRun      Step = "run"      // calls of its functions
)

// Error says why a plug-in is not to be had, or why another version of it did not take its place. Its parts are for those who
// show it; Error has them all.
type Error struct {
	Plugin   string // the plug-in's name; of a file that has none, its path
	Step     Step   // how far it came
	Found    string // what was found
	Expected string // what would have been right; may be empty
	Remedy   string // what to do; may be empty
	Kind     error  // one of the Err… of this package; may be nil
	Err      error  // the cause, such as a *loader.OpenError; may be nil
	Unsure   bool   // of a Survey: nothing is wrong where the application has what is missing compiled in
}

// Error says all of it in one line.
func (e *Error) Error() string {
	cause := ""
	if e.Err != nil {
		cause = inConfig.Replace(e.Err.Error())
	}
	text := fmt.Sprintf("%s: %s: %s", e.Plugin, e.Step, sentence.Of(e.Found, e.Expected, cause, e.Remedy))
	return escape.Lines(text) // it has words of the plug-in's, and names of files
}

// same reports whether two say the same of a plug-in, whatever there is to do: a remedy has the line of an entry, which moves with every line above it.
func (e *Error) same(o *Error) bool {
	if e == nil || o == nil {
		return e == o
	}
	var cause, other *Error
	if errors.As(e.Err, &cause) && errors.As(o.Err, &other) {
		if !cause.same(other) {
			return false
		}
	} else if (e.Err == nil) != (o.Err == nil) || e.Err != nil && e.Err.Error() != o.Err.Error() {
		return false
	}
	return e.Plugin == o.Plugin && e.Step == o.Step && e.Kind == o.Kind && e.Found == o.Found && e.Expected == o.Expected
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error { return sentence.Causes(e.Kind, e.Err) }

// The kinds of an Error.
var (
	ErrNotFound   = errors.New("no such plug-in")                      // no file, and none compiled in
	ErrDouble     = errors.New("found more than once")                 // two files say that they are this plug-in
	ErrUnreadable = errors.New("not to be read as a plug-in")          // the file is none
	ErrFetch      = errors.New("could not be installed")               // Err says why, a *registry.Error
	ErrMissing    = errors.New("requires a plug-in that is not there") // see requires= in rule R32
	ErrRange      = errors.New("a version that does not fit")          // of itself, of what it requires, or of the application
	ErrCircle     = errors.New("plug-ins that require each other")     // in a circle
	ErrConflict   = errors.New("cannot be beside another one")         // see conflicts= in rule R32
	ErrDependency = errors.New("what it requires has failed")          // or was disabled
	ErrService    = errors.New("a service cannot be had")              // a function of another plug-in
	ErrImport     = errors.New("needs what nobody offers")             // a host function
	ErrGrant      = errors.New("needs what it was not granted")        // a host function, a service or a permit
	ErrManifest   = errors.New("a manifest that makes no sense")       // of what it asks for
	ErrFunction   = errors.New("lacks a function")                     // that a point requires, or health
	ErrSettings   = errors.New("settings that do not fit")             // see FERRULE_CONFIG_SCHEMA
	ErrEngine     = errors.New("no engine runs it so")                 // none opens its file, or not as config.yaml says
	ErrOpen       = errors.New("could not be opened")                  // Err says why
	ErrHealth     = errors.New("is not well")                          // its health function failed
	ErrDisabled   = errors.New("is disabled")                          // in config.yaml, or not named there
	ErrClosed     = errors.New("the system is closed")                 // or was not started
	ErrBroken     = errors.New("is left out for a while")              // it failed several times in a row; see Breaker
	ErrOption     = errors.New("an option is not valid")               // of New, or of a point
	ErrLate       = errors.New("too late")                             // a point or an offer that was made after Start
	ErrReentrant  = errors.New("would wait for itself")                // a plug-in that is being opened
	ErrNotStarted = errors.New("the system was not started")
)

// HookError says that the hook of a plug-in failed at a point. Of a veto and of a plug-in that has nothing to say there is none.
type HookError struct {
	Point  string // the extension point; "" where it is a Func
	Plugin string // whose hook or function it is; "" where it is nobody's
	Err    error  // what package loader says, such as a *loader.CallError or *loader.CrashError, or an *Error
}

// Error says where it was and what.
func (e *HookError) Error() string {
	if _, own := e.Err.(*Error); own && e.Point != "" {
		return e.Point + ": " + e.Err.Error()
	}
	return inConfig.Replace(e.Err.Error()) // package loader's, which says where
}

// inConfig has package loader's words for options of Go in those of config.yaml.
var inConfig = strings.NewReplacer(append(policyInConfig(),
	"It was started with the configuration that Open was given (WithConfig): correct", "It was started with the config of its entry in config.yaml: correct",
	"It was started without a configuration: give it one where it needs one (WithConfig)", "It was started without a config: write one in its entry in config.yaml where it needs one",
	"Give it more time, or look for what", "Look for what", // no key says how long a plug-in may take to start
	"(isolate.WithGrace)", "(isolate.grace)", "(isolate.WithStopTimeout)", "(isolate.stop)", "loader.WithDataFolder", "data", "WithDataFolder with", "data with",
	"the folder in the policy (sandbox.Policy.Write)", "the folder in the permits of each (permit.write)", "by itself (isolate.InWorker)", "by itself, without group", "(isolate.InWorker)", "(isolate: true)",
	"(sidecar.WithToken)", "(token-file)", "(sidecar.WithTLS)", "(tls)", "without sidecar.WithTLS", "without tls",
	"(WithTLS; in config.yaml: ca)", "(ca)", "(web.WithTLS; in config.yaml: ca)", "(ca)", "with web.WithToken", "by token-file", "a token is for web.WithToken", "a token is for token-file",
	"with sidecar.WithInterpreter", "by interpreter in its entry", "open it with sidecar.Program()", "name it by program in its entry",
	"Open it without sidecar.Program()", "Take program out of its entry, and have folders name the one in which it is", " (sidecar.WithStartTimeout)", "",
	" (sidecar.WithStopTimeout)", "", " (sidecar.WithGrace)", "", " (sidecar.WithMaxMessage)", "",
	" (sandbox.Policy)", " (permit, isolate.memory)", "Policy.BestEffort", "isolate.sandbox: best-effort", "(Func.WithTimeout)", "(the limit of config.yaml, or the point's)")...)

// policyInConfig has the fields of a sandbox.Policy by their keys, with the package's name before them and without.
func policyInConfig() (words []string) {
	for field, key := range map[string]string{"Memory": "isolate.memory", "CPU": "isolate.cpu", "Processes": "isolate.processes", "Files": "isolate.files",
		"Read": "permit.read", "Write": "permit.write", "Connect": "permit.connect", "Listen": "permit.listen"} {
		words = append(words, "sandbox.Policy."+field, key, "Policy."+field, key)
	}
	return words
}

// InConfig returns an *loader.OpenError in the words of config.yaml, where it names options of Go: for who shows the parts of an Error's cause. Another error is returned
// as it is.
func InConfig(err error) error {
	open, ok := err.(*loader.OpenError)
	if !ok {
		return err
	}
	own := *open
	own.Found, own.Expected, own.Remedy = inConfig.Replace(open.Found), inConfig.Replace(open.Expected), inConfig.Replace(open.Remedy)
	return &own
}

// Unwrap returns the cause.
func (e *HookError) Unwrap() error { return e.Err }
