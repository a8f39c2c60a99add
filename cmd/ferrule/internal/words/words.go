// Package words has the errors of package loader in the words of this command: where they speak to a programmer, of an
// option of the Go API, a user of the command reads of the flag, or of what else there is to do.
package words

import (
	"strings"

	"github.com/ferrule-dev/ferrule/loader"
)

// terms are pairs: what package loader says, and what this command does. What is longer comes first. A flag that not every
// verb has is named with its verb.
var terms = strings.NewReplacer(
	// Whole sentences, where there is no flag.
	"; or allow it with loader.WithExecutableStack", "",
	"; or open it isolated (isolate.InWorker) with room for them: isolate.WithEnv with GLIBC_TUNABLES=",
	"; or make room for them in the environment of this command, without --isolated: GLIBC_TUNABLES=",
	"isolate.WithEnv with LD_PRELOAD= and what gcc -print-file-name=libasan.so says",
	"LD_PRELOAD=$(gcc -print-file-name=libasan.so) in the environment of this command, without --isolated; ferrule check does so by itself",
	"in the environment of the program, or of the worker (isolate.WithEnv)",
	"in the environment of this command, without --isolated; ferrule check does so by itself",
	"open it in a process of its own (isolate.InWorker)", "call it in a process of its own (ferrule call --isolated)",
	"It was started with the configuration that Open was given (WithConfig)", "It was started with the configuration of --config",
	"give it one where it needs one (WithConfig)", "give it one where it needs one (--config)",
	"Give a program that this process can execute with isolate.WithBinary",
	"See that the file of this command is there, and may be executed: it is the worker's program, too",
	"See that no init function of the worker's program panics or ends it where FERRULE_WORKER is set (that is this program unless "+
		"isolate.WithBinary names another), or name one with isolate.WithBinary that imports little else",
	"Install this command anew: it is the worker's program, too, and that ended before it served",
	"Build the worker's program (isolate.WithBinary) with the version of Ferrule that the host has", "Install this command anew",
	"set Policy.BestEffort to open the plug-in without", "leave out --sandbox; ferrule call --isolated protects from mistakes",
	"(see sandbox.Policy.Memory, which is the limit where isolate.WithMaxMessage is not given)", "(see --memory)",
	"(see isolate.WithMaxMessage)", "(this command has room for 256 MiB, and with --memory for no more than that)",
	"(ulimit -n; Policy.Files in a sandbox)", "(ulimit -n)",
	"in a sandbox, list it in Policy.Read", "with --sandbox, name it by --allow-read",
	"Policy.Memory in a sandbox", "--memory in a sandbox",
	"Pass a context that has not ended", "Give it more time (--timeout)",
	"because the context of OpenContext had ended", "because it was to end before it had started",
	"when it is called with Func.Stream", "from ferrule call",
	" (isolate.WithStopTimeout)", "",
	" (wasm.WithGrace)", "",
	"the memory limit (wasm.WithMemory)", "the memory limit (--memory)",
	"give it more memory (wasm.WithMemory)", "give it more memory (--memory)",
	" (isolate.WithGrace)", "",

	// Names.
	"sandbox.Policy.Memory", "--memory",
	"Policy.Memory", "--memory",
	"Policy.Read", "--allow-read",
	"Policy.Write", "--allow-write",
	"Policy.Connect", "--allow-connect",
	"Policy.Processes", "--procs",
	"isolate.WithStartTimeout", "--timeout",
	", or name what runs it with sidecar.WithInterpreter", "",
	"Name what runs it with sidecar.WithInterpreter", "Name what runs it (ferrule call --sidecar PROGRAM FUNCTION -- FILE)",
	"Open it without sidecar.Program()", "Leave out --sidecar",
	"open it with sidecar.Program()", "name it as one (ferrule call --sidecar, ferrule check --sidecar)",
	"Where it is a plug-in for script.Engine(), write", "Where it is a plug-in as a script, write",
	"Open it with web.Server(), of github.com/ferrule-dev/ferrule/loader/sidecar/web", "Correct it",
	"with web.WithToken", "(--token)",
	"sidecar.WithToken with", "--token with",
	"web.WithToken with", "--token with",
	"(sidecar.WithToken)", "(--token)",
	"(sidecar.WithTLS)", "(--tls)",
	"without sidecar.WithTLS", "without --tls",
	"(WithTLS; in config.yaml: ca)", "(--ca)",
	"(web.WithTLS; in config.yaml: ca)", "(--ca)",
	"a token is for web.WithToken", "a token is for --token",
	" (web.WithMaxMessage)", "",
	" (sidecar.WithStartTimeout)", "",
	" (sidecar.WithGrace)", "",
	" (sidecar.WithMaxMessage)", "",
)

// Of is a text of package loader's own in the words of this command.
func Of(text string) string { return terms.Replace(text) }

// Error is an error in the words of this command, for the errors of package loader; another one is returned as it is. What
// a plug-in itself has said stays as it is.
func Error(err error) error {
	switch e := err.(type) {
	case *loader.OpenError:
		own := *e
		own.Found, own.Expected, own.Remedy, own.Err = Of(e.Found), Of(e.Expected), Of(e.Remedy), Error(e.Err)
		if own.Err != nil {
			if cause, ok := strings.CutPrefix(own.Err.Error(), "not opened: the context had ended before: "); ok {
				own.Err = &reworded{"not opened: " + cause, own.Err}
			}
		}
		return &own
	case *loader.CrashError:
		own := *e
		own.Reason = Of(e.Reason)
		return &own
	case *loader.UsageError:
		own := *e
		own.Remedy = Of(e.Remedy)
		return &own
	case *loader.CallError:
		own := *e
		own.Remedy = Of(e.Remedy)
		for _, room := range rooms {
			own.Message = strings.ReplaceAll(own.Message, room, Of(room))
		}
		return &own
	case *loader.DeadlineError:
		return &reworded{Of(e.Error()), e}
	}
	return err
}

// rooms are what package loader says, in place of a plug-in, about a result that is too long. A plug-in may pass it on.
var rooms = []string{"the host has no room for it (see isolate.WithMaxMessage)",
	"the host has no room for it (see sandbox.Policy.Memory, which is the limit where isolate.WithMaxMessage is not given)", "with the memory that it has (sandbox.Policy.Memory)"}

// reworded is an error with another text.
type reworded struct {
	text string
	err  error
}

func (r *reworded) Error() string { return r.text }
func (r *reworded) Unwrap() error { return r.err }
