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

// Several is what an Engine adds that opens files of several kinds, which it runs in different ways.
type Several interface {
	Engine
	// Of returns the engine for this file, which it has recognised: what it adds, such as Permitting, is what holds for the file. It is nil where this engine
	// was not given what it needs for such files.
	Of(f *File) Engine
}

// Apart is what an Engine adds that runs its plug-ins by native code of its own, such as an interpreter: that may be in a worker process.
type Apart interface {
	Engine
	// Isolated reports whether it is in one as the engine is.
	Isolated() bool
	// In returns the engine with its native code in workers, which worker makes the engine of. It is given absolute paths of files and folders, all of which are there: the
	// native code has to read them beside what the plug-in may.
	In(worker func(reads []string) Engine) (Engine, error)
}
