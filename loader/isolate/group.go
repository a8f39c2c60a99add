package isolate

import (
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/host"
)

// Group is plug-ins that share one worker process: those of one trust class. A call of one after another's finds the worker awake, and
// each plug-in saves the memory and the threads of a worker.
//
//	untrusted := isolate.NewGroup("untrusted", sandbox.With(policy))
//	a, err := loader.Open("liba.so", isolate.InGroup(untrusted), loader.WithHostFunc("lookup", lookup))
//	b, err := loader.Open("libb.so", isolate.InGroup(untrusted))
//
// What concerns the worker is the group's, and said to NewGroup alone: its program, environment, output, sandbox, limits and
// restarts. What concerns a plug-in is said to loader.Open: its settings, host functions, instances, digest and logger.
// loader.WithUnload counts, because the worker goes on: without it the code of a closed plug-in stays mapped in it.
//
// The worker starts with the first plug-in that is opened, and ends with the last one that is closed. Between, plug-ins can be opened
// and closed while calls of others run. A Group needs no closing, and can be used again.
//
// # What its plug-ins share
//
// To security a group is one plug-in. Whatever one of them may do, all may: they are in one process, where each can read the
// others' memory, and speak to the host in their name. So every host function that is given to one of them is in the reach of all, and the
// sandbox is the same for all: a plug-in that asks for more than the group's policy, by loader.WithDataFolder or by libraries that it brings
// along where the policy lets nobody read them, is refused with a *loader.OpenError of the kind loader.ErrOption.
//
// A crash ends the worker for all. Calls that were in it fail with a *loader.CrashError, whose Group is the group's name and whose
// Culprit names the plug-in whose code or call was why, where that can be told: by the code of the fault (Linux on amd64 and arm64), by a
// deadline, or because only calls of one plug-in were in the worker. The plug-ins that no call was in have a log line. The next call of
// each opens it in the next worker, with new state; one that cannot be started there fails by itself. Sessions are lost. The order of
// restarts, with their delays and loader.ErrSuspended, is the group's; a plug-in that is opened while the group is suspended has a worker started
// all the same, for all. A plug-in whose code hangs past its deadline, past WithStartTimeout or
// WithStopTimeout, or past the context of Plugin.Shutdown, has the worker killed for all.
//
// At most 256 calls run at a time in a group, and 64 host functions between calls. Two plug-ins of one file share the library's
// static variables, as they do in this process. The libraries of a group are loaded one at a time.
//
// A Group can be used by any goroutine.
type Group struct{ group *host.Group }

// NewGroup makes a group, without plug-ins and without a worker. name is for errors and for the process's name; it is not empty. Where it is, or
// an option is wrong, loader.Open says so. The options are those of InWorker; the group keeps copies of what they were given, but for
// WithOutput's writer.
func NewGroup(name string, opts ...Option) *Group {
	o, err := options("NewGroup", opts)
	if name == "" && err == nil {
		err = optionError("NewGroup", "an empty name", "a name, by which errors call the group")
	}
	return &Group{host.NewGroup(name, o, err)}
}

// Name returns the group's name.
func (g *Group) Name() string { return g.group.Name }

// InGroup has loader.Open run the plug-in in the worker of a group. What is said of InWorker holds, but for what Group says. What it returns can be
// used for several plug-ins.
func InGroup(g *Group) loader.Option {
	if g == nil {
		return loader.WithEngine(&host.Engine{Wrong: optionError("InGroup", "nil", "a group that NewGroup has made")})
	}
	return loader.WithEngine(&host.Engine{Group: g.group})
}
