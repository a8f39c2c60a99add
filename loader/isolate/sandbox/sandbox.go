// Package sandbox bounds what an isolated plug-in can do: which files, ports and processes it has, and how much memory,
// processor time and wall-clock time. The worker process takes these bounds upon itself before the plug-in's library is
// opened, so that the library's constructors are already under them, and nothing in it can take them off again.
//
//	p, err := loader.Open(path, isolate.InWorker(sandbox.With(sandbox.Policy{
//		Read:   []string{"/usr/share/fonts"},
//		Memory: 256 << 20,
//	})))
//
// The zero Policy gives least: the plug-in computes on what it is called with. README.md says which layer of the system
// refuses what, and what none of them refuses.
package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/loader/abspath"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
)

// Policy says what a plug-in may do. What it does not say is refused: the zero Policy lets the plug-in read the libraries
// that it is linked to, of its own and of the system's, and nothing more. The limits (Memory, CPU, Time) are the exception: zero means
// no limit. Numbers below 0 are errors. All limits are each worker's: a new one, after a crash, begins anew.
type Policy struct {
	// Read lists files that the plug-in may read, and folders that it may list, with all that is beneath them. Each
	// must exist. A relative path is one of this process, when isolate.InWorker is called. Open follows links in the path, once: if another file or folder is there later, when a crashed worker
	// is replaced, no worker starts; so grant the folder of a file that is replaced. Empty: only the libraries that the
	// plug-in brings along (README.md says which it may), and the system's library folders and time zones, and these
	// without listing them. The plug-in's own library is not read by its path: it runs from a sealed copy, or where it
	// is too large for that from the file that the host holds open.
	Read []string `json:"read,omitempty"`

	// Write lists files and folders that the plug-in may also change: write, make, rename and remove what is in them.
	// It implies Read. Each must exist. Modes, owners and times of files cannot be changed even there, and no
	// symbolic links are made. Empty: the plug-in writes no file at all, and locks none.
	Write []string `json:"write,omitempty"`

	// Connect lists the TCP ports that the plug-in may connect to, on any host. There is no UDP, and so no look-up of
	// names: hand it addresses. Empty: no connections.
	Connect []uint16 `json:"connect,omitempty"`

	// Listen lists the TCP ports that the plug-in may listen on; 0 among them stands for one that the system chooses.
	// Empty: none.
	Listen []uint16 `json:"listen,omitempty"`

	// Memory is how many bytes of memory the plug-in may have beyond what the worker has when it starts: heap, writable
	// data of libraries, and stacks, which are 8 MiB for a thread. The worker's own threads and its heap count, too, so
	// leave 64 MiB for these. What it shares with the host does not count. What it has beyond that, by ways
	// that the system does not count (README.md), the host sees every 100 ms: it ends a worker that has 72 MiB too much, and the
	// *loader.CrashError's Reason names this field. 0: no limit.
	Memory int64 `json:"memory,omitempty"`

	// CPU is how much processor time the worker may use in its life, all threads together, the few milliseconds of its
	// start included. It is rounded up to seconds. Then the worker ends by SIGXCPU: the calls in it fail with a
	// *loader.CrashError whose Reason names this field. 0: no limit.
	CPU time.Duration `json:"cpu,omitempty"`

	// Time is how long the worker may live, by the clock on the wall. Then it ends by SIGKILL, also when another program
	// has taken its place: the calls in it fail with a *loader.CrashError whose Reason names this field. A call's own deadline is
	// that of its context. 0: no limit.
	Time time.Duration `json:"time,omitempty"`

	// Processes is how many processes the plug-in may have at a time beside the worker; they are under the same policy,
	// and may execute what the plug-in may read. The system counts all threads and processes of the worker's user for
	// it, not only the plug-in's, and does not count for root. Of these the worker's own threads have 64; those that it does
	// not need a plug-in may have as processes beside its n. 0: none, and no other program in place of the worker.
	Processes int `json:"processes,omitempty"`

	// Files is how many descriptors (files, sockets, pipes) the plug-in may have open at a time. 0: 64.
	Files int `json:"files,omitempty"`

	// BestEffort leaves out the layers that this system lacks, where Open would fail otherwise. The plug-in's report of
	// layers then says which there are.
	BestEffort bool `json:"bestEffort,omitempty"`
}

// mistake is an error about a policy: what was found, what was expected, and what to do. Who returns it to the user sets
// its Kind.
func mistake(found, expected, remedy string) error {
	return &inspect.Error{Found: found, Expected: expected, Remedy: remedy}
}

// check says what is wrong with the policy, for the one who wrote it.
func (p *Policy) check() error {
	for _, field := range []struct {
		name  string
		value int64
	}{{"Memory", p.Memory}, {"CPU", int64(p.CPU)}, {"Time", int64(p.Time)}, {"Processes", int64(p.Processes)},
		{"Files", int64(p.Files)}} {
		if field.value < 0 {
			return mistake(fmt.Sprintf("Policy.%s with %d", field.name, field.value), "0 or more", "Change Policy."+field.name)
		}
	}
	for _, port := range p.Connect {
		if port == 0 {
			return mistake("Policy.Connect with port 0", "ports from 1 to 65535", "Leave port 0 out of Policy.Connect")
		}
	}
	for _, list := range []struct {
		name  string
		paths []string
	}{{"Read", p.Read}, {"Write", p.Write}} {
		for _, path := range list.paths {
			if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
				return mistake(fmt.Sprintf("Policy.%s with %q", list.name, path), "absolute paths", "Change the path in Policy."+list.name)
			}
		}
	}
	return nil
}

// config is what the worker gets: the policy, and the files and folders that its paths led to when the plug-in was opened, those
// of Read and then those of Write. No later worker looks the paths up again, because the plug-in may have put links there.
type config struct {
	Policy
	Found []wire.Library `json:"found,omitempty"`
}

// encode is the policy as the worker reads it, without what its paths lead to.
func (p Policy) encode() ([]byte, error) {
	p, err := p.absolute()
	if err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// absolute checks the policy, and makes its paths absolute: relative ones are the host's.
func (p Policy) absolute() (Policy, error) {
	for _, list := range []struct {
		name  string
		paths *[]string
	}{{"Read", &p.Read}, {"Write", &p.Write}} {
		paths := make([]string, len(*list.paths))
		for i, path := range *list.paths {
			if path == "" {
				return p, mistake("Policy."+list.name+" with an empty path", "the paths of files and folders",
					"Change the path in Policy."+list.name)
			}
			var err error
			if paths[i], err = abspath.Of(path); err != nil {
				return p, mistake(fmt.Sprintf("Policy.%s with %q: %v", list.name, path, err), "a path that can be made absolute",
					"Give an absolute path in Policy."+list.name)
			}
		}
		*list.paths = paths
	}
	p.Connect, p.Listen = slices.Clone(p.Connect), slices.Clone(p.Listen)
	return p, p.check()
}

// decode is encode's reverse, in the worker. A field that it does not know is one that it cannot keep to, so it fails.
func decode(text []byte) (Policy, error) {
	c, err := decodeConfig(text)
	return c.Policy, err
}

func decodeConfig(text []byte) (config, error) {
	var c config
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, mistake("a policy that this worker does not understand: "+err.Error(), "one of its own version of package sandbox",
			"Build the worker's program (isolate.WithBinary) with the version of Ferrule that the host has")
	}
	return c, c.check()
}

// report collects which layers there are, and which were asked for and cannot be had.
type report struct {
	layers   []string
	missing  []string
	remedies []string
}

func (r *report) has(layer string) { r.layers = append(r.layers, layer) }

func (r *report) lacks(layer, why string) { r.lacksFor(layer, why, "give the system what it lacks") }

// lacksFor is lacks with another remedy, which begins like a part of a sentence.
func (r *report) lacksFor(layer, why, remedy string) {
	r.missing = append(r.missing, layer+" ("+why+")")
	if !slices.Contains(r.remedies, remedy) {
		r.remedies = append(r.remedies, remedy)
	}
}

// err is the error for what is missing, unless the policy goes without it.
func (r *report) err(p *Policy) error {
	if len(r.missing) == 0 || p.BestEffort {
		return nil
	}
	remedy := strings.Join(r.remedies, "; ")
	return mistake("a system without "+strings.Join(r.missing, ", nor "), "all the layers that the policy needs",
		strings.ToUpper(remedy[:1])+remedy[1:]+", or set Policy.BestEffort to open the plug-in without")
}
