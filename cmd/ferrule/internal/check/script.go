package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/engines"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// notTried is why a case has nothing to try in what is called through package loader.
func notTried(lib *inspect.Library, name string) string {
	reason := outOfReach[name]
	switch {
	case !engines.IsScript(lib):
		return reason
	case slices.Contains([]string{"room-guard", "room-sizes", "room", "frame", "frame-size", "host-size", "release-late", "input-read-only", "input-guard"}, name):
		return "a script has no memory of the host's: its interpreter keeps the frame, the input and the room"
	case engines.IsPython(lib) && slices.Contains([]string{"threads-end", "unload", "instances", "handles", "start-stop", "between", "late-frames"}, name):
		return "an instance of a script in Python has a process of its own, which ends with it"
	case engines.IsPython(lib) && (strings.HasPrefix(name, "signal-") || strings.HasPrefix(reason, "a module has none") || strings.HasPrefix(reason, "a module's is") || strings.HasPrefix(reason, "a module's are") || name == "children"):
		return "it is the process's in which Python runs, and not the host's"
	}
	return strings.ReplaceAll(reason, "a module", "a script")
}

// noFunction is what an interpreter says of a function that the header names and the script has not.
var noFunction = regexp.MustCompile(`its header names (\w+), expected that it (?:exports|has) such a function`)

// missingFunction says of a script's error which function is missing, if that is what it says.
func missingFunction(lib *inspect.Library, err error) string {
	if m := noFunction.FindStringSubmatch(err.Error()); m != nil && engines.IsScript(lib) {
		return "the header names " + m[1] + ", and the script has no such function"
	}
	return ""
}

func checkScriptSymbols(s *static) {
	if len(s.lib.Funcs) == 0 && len(s.lib.Hooks) == 0 {
		s.find(Finding{Rule: "R2", Severity: Warning, Seen: "no fn= and no hook= in the header", Expected: "a function or a hook, for the host to call",
			Mend: "Name one in the header: fn=NAME"})
	}
}

// mediaType is what in= and out= of a header may say beside text, json and bytes, which are media types by now.
var mediaType = regexp.MustCompile(`^[!#$%&'*+.^_|~0-9A-Za-z-]+/[!#$%&'*+.^_|~0-9A-Za-z-]+ *(;.*)?$`)

func checkScriptWords(s *static) {
	for _, all := range []struct {
		kind    string
		symbols []abi.Symbol
	}{{"fn=", s.lib.Funcs}, {"hook=", s.lib.Hooks}} {
		for _, f := range all.symbols {
			for _, kv := range [][2]string{{"in", f.In}, {"out", f.Out}} {
				if kv[1] != "" && !mediaType.MatchString(kv[1]) {
					s.find(Finding{Rule: "R32", Severity: Warning, Function: f.Name, Seen: fmt.Sprintf("%s%s: %s=%.60q, so that it is called as with text", all.kind, f.Name, kv[0], kv[1]),
						Expected: "text, json, bytes or a media type, such as text/csv", Mend: "Write one of them"})
				}
			}
		}
	}
}

// values are inputs that are JSON, for functions of scripts that take it: a function has to look at what it gets.
func (m *module) values() (all []input) {
	if !engines.IsScript(m.lib) {
		return nil
	}
	for _, text := range []string{"{}", "[]", "null", "7", `"text"`} {
		all = append(all, input{"the JSON " + text, []byte(text)})
	}
	return all
}

// The errors that say that a script did not look at what it got, where they were raised, by the language. What a script throws itself, such as an Error or a ValueError, it has meant.
var (
	uncaughtJavaScript = regexp.MustCompile(`^((?:TypeError|ReferenceError|SyntaxError|RangeError|InternalError|URIError): [^\n]*)(?:\n(?s:.*?)\(?([^\s()]+:\d+(?::\d+)?)\)?)?`)
	uncaughtPython     = regexp.MustCompile(`^((?:TypeError|AttributeError|NameError|UnboundLocalError|KeyError|IndexError|LookupError|ZeroDivisionError|RecursionError|UnicodeDecodeError|UnicodeEncodeError): [^\n]*)`)
	linePython         = regexp.MustCompile(`File "([^"]*)", line (\d+)`)
)

// uncaught reports an error that nobody meant.
func (m *module) uncaught(f function, in input, r *outcome) {
	if !engines.IsScript(m.lib) || r.status != abi.StatusFailed {
		return
	}
	var seen string
	if e := uncaughtJavaScript.FindSubmatch(r.out); e != nil && engines.IsJavaScript(m.lib) {
		if seen = string(e[1]); len(e[2]) > 0 {
			seen += ", at " + string(e[2])
		}
	} else if e := uncaughtPython.FindSubmatch(r.out); e != nil && engines.IsPython(m.lib) {
		seen = string(e[1])
		if lines := linePython.FindAllSubmatch(r.out, -1); len(lines) > 0 {
			last := lines[len(lines)-1]
			seen += fmt.Sprintf(", at %s:%s", last[1][bytes.LastIndexByte(last[1], '/')+1:], last[2])
		}
	} else {
		return
	}
	m.find(Finding{Rule: "R10", Severity: Warning, Function: f.label, Seen: fmt.Sprintf("%s with %s: nobody caught %s", f.label, in.name, seen),
		Expected: "the status INVALID for an input that the function does not take", Mend: "Look at the input first, and fail with a Failure that has the status INVALID and a message"})
}

// mendCancel says what to do where a function does not end when it is cancelled.
func (m *module) mendCancel() string {
	if engines.IsScript(m.lib) {
		return "Wait in short steps, look at cancelled() of the module ferrule between them, and let what says that the call is cancelled go up"
	}
	return "Poll ferrule_cancelled (in Go: the context's Err) in every loop that may run long"
}

// checkPythonLeaks looks at this process, in which the script is opened for it.
func (m *module) checkPythonLeaks() {
	if _, ok := resident(); !ok {
		m.skip("memory is not measured on this system")
		return
	}
	m.here = true
	m.each(func(f function) {
		inputs := m.samples(f)
		m.calls(f, inputs, nil)
		if m.slow[f.label] {
			return
		}
		fn, count := m.get(m.plugin, f), 0
		g, _ := growth(&inspect.Library{}, func() bool {
			begun := time.Now()
			for count = 0; count < 1000 && time.Since(begun) < 200*time.Millisecond; count++ {
				in, ctx := inputs[count%len(inputs)], context.Background()
				if f.wrap {
					ctx = loader.WithNext(ctx, func(_ context.Context, in []byte) ([]byte, error) { return in, nil })
				}
				if _, err := fn.Stream(ctx, in.bytes, m.reader(f, in), m.writer(f)); errors.Is(err, loader.ErrPanic) {
					return false
				}
			}
			return true
		})
		if g != nil {
			m.find(Finding{Rule: "R9", Severity: Error, Function: f.label, Seen: fmt.Sprintf("%s: %d more bytes after each %d calls", f.label, slices.Min(g), count),
				Expected: "memory as before, when calls have ended", Mend: "Keep nothing of a call in what outlives it, such as a list or a dict of the module"})
		}
	})
}
