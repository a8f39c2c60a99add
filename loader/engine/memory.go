package engine

// Memory returns a file whose bytes are in memory, for an engine that opens what another one has made: path is what errors call it. The bytes are not written to any more.
func Memory(path string, all []byte) *File { return &File{Path: path, all: all} }
