// Package monitor shows a system of plug-ins while it runs, to those who stand outside: Take makes a picture of it, Serve hands pictures to who asks for them on
// a unix socket, and Dial is who asks. `ferrule top` and package web are made of it.
//
// A picture has what System.List and System.Stats have. To take one costs the calls of the plug-ins nothing.
package monitor

import (
	"errors"
	"os"
	"time"

	"github.com/ferrule-dev/ferrule/plugins"
)

// Format is the number of the form that Snapshot has as JSON. Within one, fields are added only; what somebody reads by it goes on to mean the same.
const Format = 1

// Snapshot is a system of plug-ins at one moment. It is the caller's.
type Snapshot struct {
	Format   int       `json:"format"`           // Format
	Time     time.Time `json:"time"`             // when it was taken
	App      string    `json:"app"`              // the application's name, and its version
	Version  string    `json:"version"`          //
	PID      int       `json:"pid"`              // the process of the application
	Memory   int64     `json:"memory,omitempty"` // its resident memory in bytes; 0 where that is not known
	Counting bool      `json:"counting"`         // whether calls are counted: false where the application has no plugins.Counting
	Plugins  []Plugin  `json:"plugins"`          // by name
	Config   *Refused  `json:"config,omitempty"` // the config.yaml that was not taken over; nil where what it says holds
}

// Refused is a config.yaml that was not taken over: what was in force before, still is.
type Refused struct {
	Since time.Time `json:"since"` // what is in force is not what is written
	Error string    `json:"error"` // why
}

// Plugin is a plug-in at that moment.
type Plugin struct {
	Name     string        `json:"name"`
	Version  string        `json:"version,omitempty"` // of what runs, or would run
	State    plugins.State `json:"state"`
	Runs     string        `json:"runs"`            // in-process, isolated, sidecar, or group: isolated with others
	Group    string        `json:"group,omitempty"` // whose worker it shares
	Enabled  bool          `json:"enabled"`         // somebody wants it
	Required bool          `json:"required"`        // the application does not start without it
	Calls    *Calls        `json:"calls,omitempty"` // of all its hooks and functions; nil where calls are not counted
	Counted  []Counted     `json:"counted,omitempty"`
	Replaced int           `json:"replaced"`             // how many versions have taken its place
	Restarts int           `json:"restarts"`             // how many workers it had after the first
	Worker   int           `json:"worker,omitempty"`     // the process id of its worker; 0 where there is none at the moment
	Memory   int64         `json:"memory,omitempty"`     // the worker's resident memory in bytes, which is the group's in a group; 0 where that is not known, and in-process
	Error    string        `json:"error,omitempty"`      // why it failed or is suspended, or why a newer version did not take its place
	RetryAt  time.Time     `json:"retry_at,omitzero"`    // when it is tried again, and past while it is; zero where it is not
	LeftOut  time.Duration `json:"left_out_ns,omitzero"` // the longest that one of its hooks is left out from now; 0 where none is
}

// Calls are what came of calls since the application has started, in all versions of a plug-in together.
type Calls struct {
	Calls   uint64        `json:"calls"`      // that were made
	Passed  uint64        `json:"passed"`     // that had nothing to say
	Failed  uint64        `json:"failed"`     // that failed, with what follows
	Crashed uint64        `json:"crashed"`    // of these: the worker has crashed
	Late    uint64        `json:"late"`       // of these: the limit, or the caller's context, had ended
	Timed   uint64        `json:"timed"`      // how many were timed: about one of 64
	Time    time.Duration `json:"time_ns"`    // of the timed ones, together
	Longest time.Duration `json:"longest_ns"` // of the timed ones
}

// Counted are the calls of one hook or function.
type Counted struct {
	Point    string        `json:"point,omitempty"`    // of a hook
	Function string        `json:"function,omitempty"` // of a function
	LeftOut  time.Duration `json:"left_out_ns,omitzero"`
	Error    string        `json:"error,omitempty"` // of one that is left out: its last failure
	Calls
}

// Mean returns the mean time of the calls that were timed; 0 where none was.
func (c Calls) Mean() time.Duration {
	if c.Timed == 0 {
		return 0
	}
	return c.Time / time.Duration(c.Timed)
}

func (c *Calls) add(o Calls) {
	c.Calls, c.Passed, c.Failed, c.Crashed, c.Late = c.Calls+o.Calls, c.Passed+o.Passed, c.Failed+o.Failed, c.Crashed+o.Crashed, c.Late+o.Late
	c.Timed, c.Time, c.Longest = c.Timed+o.Timed, c.Time+o.Time, max(c.Longest, o.Longest)
}

// Take makes a picture of a system. It may be called from any goroutine, before Start and after Close as well.
func Take(sys *plugins.System) *Snapshot {
	s := &Snapshot{Format: Format, Time: time.Now(), PID: os.Getpid(), Plugins: []Plugin{}}
	s.App, s.Version = sys.Application()
	s.Memory = resident(s.PID)
	if since, why := sys.ConfigRefused(); why != nil {
		s.Config = &Refused{since, why.Error()}
	}
	stats := sys.Stats()
	s.Counting = stats != nil
	at := map[string]int{}
	for _, p := range sys.List() {
		at[p.Name] = len(s.Plugins)
		s.Plugins = append(s.Plugins, s.of(sys, &p))
	}
	for _, st := range stats {
		i, known := at[st.Plugin]
		if !known {
			continue // it has gone in between
		}
		p := &s.Plugins[i]
		c := Counted{st.Point, st.Function, st.LeftOut, "", Calls{st.Calls, st.Passed, st.Failed, st.Crashed, st.Late, st.Sampled, st.Time, st.Longest}}
		if st.Err != nil {
			c.Error = st.Err.Error()
		}
		p.Calls.add(c.Calls)
		p.LeftOut = max(p.LeftOut, c.LeftOut)
		p.Counted = append(p.Counted, c)
	}
	return s
}

// of makes the picture of one plug-in, without its calls.
func (s *Snapshot) of(sys *plugins.System, p *plugins.Plugin) Plugin {
	shown := Plugin{Name: p.Name, Version: p.Version, State: p.State, Runs: "in-process", Group: p.Group, Enabled: p.Enabled, Required: p.Required,
		Replaced: p.Replaced, Restarts: p.Restarts, Worker: p.Worker, RetryAt: p.RetryAt}
	switch {
	case p.Group != "":
		shown.Runs = "group"
	case p.Isolated:
		shown.Runs = "isolated"
	case p.Sidecar:
		shown.Runs = "sidecar"
	}
	if s.Counting {
		shown.Calls = &Calls{}
	}
	if p.Err != nil && !errors.Is(p.Err, plugins.ErrDisabled) { // which its state says, and nothing is wrong with it
		shown.Error = p.Err.Error()
	}
	if p.Worker != 0 {
		shown.Memory = resident(p.Worker)
		if now, _ := sys.Plugin(p.Name); now.Worker != p.Worker { // it has ended, and the number may be another process's
			shown.Memory, shown.Worker = 0, now.Worker
		}
	}
	return shown
}

// Rates returns a function that says how many calls a plug-in had in each second between two pictures; false where that cannot be said: calls are not counted, the
// plug-in is not in both, or they are of different processes. before may be nil.
func Rates(before, after *Snapshot) func(name string) (perSecond float64, known bool) {
	var first, last map[string]*Calls
	took := 0.0
	if before != nil && before.PID == after.PID && before.App == after.App {
		first, last, took = before.calls(), after.calls(), after.Time.Sub(before.Time).Seconds()
	}
	return func(name string) (float64, bool) {
		was, is := first[name], last[name]
		if was == nil || is == nil || took <= 0 || is.Calls < was.Calls { // the number begins again with a plug-in that was gone
			return 0, false
		}
		return float64(is.Calls-was.Calls) / took, true
	}
}

// calls are those of each plug-in, by its name.
func (s *Snapshot) calls() map[string]*Calls {
	all := make(map[string]*Calls, len(s.Plugins))
	for i := range s.Plugins {
		all[s.Plugins[i].Name] = s.Plugins[i].Calls
	}
	return all
}
