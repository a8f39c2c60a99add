package host

import (
	"fmt"
	"os"

	"github.com/ferrule-dev/ferrule/loader/engine/lastwords"
	workerside "github.com/ferrule-dev/ferrule/loader/internal/isolate/worker"
	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// beforeServing says in words how a process ended before it served a lane: nothing of the plug-in's had run in it, but init
// functions of the program's packages had, those that come before package isolate's.
func beforeServing(signal os.Signal, code int, output string) string {
	if code == workerside.ExitProtocol {
		return "ended by itself, because it did not understand how it was started"
	}
	if what, where := process.GoPanic(output); what != "" && lastwords.ByRuntime(signal, code) { // else it has gone on since
		return fmt.Sprintf("ended by an init function of its program, before it could serve: %s%s", what, where)
	}
	return "ended with " + process.How(signal, code) + " before it could serve, when its program's init functions ran"
}
