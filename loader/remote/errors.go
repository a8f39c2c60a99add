// Package remote is what its packages nats and mqtt have in common: plug-ins that run on other machines, which a message broker reaches. See docs/remote.md.
package remote

import "errors"

// The kinds of errors that only plug-ins beyond this machine bring up; errors.Is finds them in what calls return.
var (
	// ErrNoNode says that no node serves the plug-in now. The call did nothing.
	ErrNoNode = errors.New("no node serves the plug-in")
	// ErrBusy says that every node has as many calls as it takes. The call did nothing.
	ErrBusy = errors.New("every node has as many calls as it takes")
	// ErrNodeLost says that the node which had the call is gone, or that what it has said was lost. What the call has done is not known.
	ErrNodeLost = errors.New("the node is lost, and what the call has done is not known")
)
