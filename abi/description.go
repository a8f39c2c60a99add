package abi

// Description is what a plug-in says of itself, whatever runs it: what it is, what it exports and what it imports. Whoever
// gets one from package loader shares it, and only reads it.
type Description struct {
	// Manifest is what its author says of the whole. It is nil only where a package that reads files of all kinds says so.
	Manifest *Manifest

	// What the host may call, what attaches to its extension points, and the host functions that the plug-in needs.
	// Sorted by name, by byte values: an import's index is its ordinal (rule R5).
	Funcs, Hooks, Imports []Symbol

	HasStart, HasStop, HasBatch bool // whether ferrule_start, ferrule_stop and ferrule_batch are exported, or what stands for them
}

// Symbol is a function, a hook or an import of a plug-in, with what its meta text says.
type Symbol struct {
	Name   string // without the prefix: count of ferrule_fn_count
	Doc    string // what it does, for people
	In     string // the media type of its input
	Out    string // the media type of its output
	Schema string // a schema of its input or output
	Keys   Text   // its whole meta text, with the keys above; nil when there is none
}
