package engine

// Memory returns a file whose bytes are in memory, for an engine that opens what another one has made: path is what errors call it. The bytes are not written to any more, by
// anybody. It is for engines that read what File.Bytes returns: those that take the open file find none, and open what is at the path.
func Memory(path string, all []byte) *File { return &File{Path: path, all: all, inMemory: true} }
