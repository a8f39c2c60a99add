package engine

// Permitting is what an Engine adds that shuts its plug-ins in by itself, with no worker process around them: what each of them may have beside its own memory and
// its host's functions is said here, and a call that does not stop when it is asked to is ended soon after. An Engine without it has no say in what its plug-ins reach.
type Permitting interface {
	Engine
	// With returns the engine for a plug-in that may have this, and no more of its kind than the engine was made with. It is this engine otherwise, with which
	// it shares what all of its plug-ins do. The error is an *inspect.Error of the kind ErrOption: something that the engine gives to nobody. Whether the paths are
	// there is seen when a plug-in is opened.
	With(Permits) (Engine, error)
	// Memory returns how much memory an instance has where Permits say nothing of it, in bytes.
	Memory() int64
}

// Permits are what one plug-in may have. The slices are the caller's, who changes nothing in them any more.
type Permits struct {
	Read    []string // absolute paths of files, and of folders with all beneath, that it may read
	Write   []string // those that it may also change
	Connect []uint16 // TCP ports that it may connect to
	Listen  []uint16 // TCP ports that it may listen on
	Memory  int64    // how much memory an instance may have, in bytes; 0 is what the engine says
}

// WebAssembly is Words.Kind of an engine for WebAssembly modules.
const WebAssembly = "WebAssembly"
