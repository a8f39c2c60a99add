package plugins

import (
	"time"
)

// State is where a plug-in is on its way.
type State string

// The states.
const (
	StateDiscovered State = "discovered" // its file was found and read; nobody wants it: it is not in config.yaml
	StateDisabled   State = "disabled"   // somebody has said so in config.yaml
	StateReady      State = "ready"      // all that it asks for is there; it is not opened before it is used
	StateStarted    State = "started"    // it runs
	StateSuspended  State = "suspended"  // its workers crash, and none is started for a while
	StateFailed     State = "failed"     // Err says at which step and why
	StateDraining   State = "draining"   // it gets no more calls, and those that run have not come back
	StateGone       State = "gone"       // it is closed
)

// Plugin is what is known of a plug-in at one moment. It is the caller's.
type Plugin struct {
	Name        string    // as its manifest has it; of a file that has none, made of the file's name
	Version     string    // of what runs, or would run; "" where there is none
	Description string    // its author's words; may be empty
	State       State     // where it is on its way
	Enabled     bool      // somebody wants it
	Required    bool      // Start fails without it
	Err         error     // an *Error: why it failed, is suspended or disabled, or why a newer version did not take its place; nil where all is well
	RetryAt     time.Time // when it is tried again, and past while it is; zero where it is not
	Source      string    // the path of its file; "compiled in" of one in Go
	Isolated    bool      // it runs in a worker process
	Sidecar     bool      // it is a program of its own, or what answers at a URL
	Group       string    // whose worker it shares; may be empty
	Worker      int       // the process id of its worker, which others of its group share; 0 where there is none at the moment
	Points      []string  // where it attaches
	Functions   []string  // what it exports
	Grants      []string  // the host functions and services that it has
	Permits     []string  // what it was permitted, as "connect 443"
	Declared    bool      // of Permits not all is enforced: it is native code in this process, a program without a sandbox, or its sandbox has not what would; of best-effort, also as long as no worker has shown it
	Requires    []string  // the plug-ins that must be there before it
	Provides    []string  // the services that it has for others
	Replaced    int       // how many versions have taken its place since Start
	Restarts    int       // how many workers it had after the first
}
