package abi

import (
	"slices"
	"strconv"
)

// Description is what a plug-in says of itself, whatever runs it: what it is, what it exports and what it imports. Whoever
// gets one from package loader shares it, and only reads it.
type Description struct {
	// Manifest is what its author says of the whole. It is nil only where a package that reads files of all kinds says so.
	Manifest *Manifest

	// What the host may call, what attaches to its extension points, the host functions that the plug-in needs, and those
	// that it uses where they are offered. Sorted by name, by byte values: an import's index is its ordinal (rule R5), and
	// so is a want's behind the imports' (rule R23).
	Funcs, Hooks, Imports, Wants []Symbol

	HasStart, HasStop, HasBatch bool // whether ferrule_start, ferrule_stop and ferrule_batch are exported, or what stands for them
	HasConfigure                bool // whether ferrule_configure is (rule R28)
	HasSave, HasResume          bool // whether ferrule_save and ferrule_resume are (rule R29)

	ConfigSchema string // the schema of its configuration, the text at ferrule_meta_config; may be empty
}

// Ordinals returns the host functions that the plug-in may call, by ordinal: its imports, and behind them its wants. The
// slice is the caller's.
func (d *Description) Ordinals() []Symbol { return slices.Concat(d.Imports, d.Wants) }

// Symbol is a function, a hook, an import or a want of a plug-in, with what its meta text says.
type Symbol struct {
	Name   string // without the prefix: count of ferrule_fn_count
	Doc    string // what it does, for people
	In     string // the media type of its input
	Out    string // the media type of its output
	Schema string // a schema of its input or output
	Stream Stream // which streams a call of it may have
	Keys   Text   // its whole meta text, with the keys above; nil when there is none
}

// Stream says which streams a function takes data from, or gives it to, while it runs (rule R24). Its values are flags.
type Stream uint8

// The words of the key stream.
const (
	StreamIn   Stream = 1 << iota // it reads an input stream
	StreamOut                     // it writes an output stream
	StreamBoth = StreamIn | StreamOut
)

var streamWords = [...]string{0: "", StreamIn: "in", StreamOut: "out", StreamBoth: "both"}

// String returns the word as a meta text has it; "" for none.
func (s Stream) String() string {
	if int(s) < len(streamWords) {
		return streamWords[s]
	}
	return "stream " + strconv.Itoa(int(s))
}

// parseStream reads the value of the key stream of a meta text.
func parseStream(word string) (Stream, bool) {
	i := slices.Index(streamWords[:], word)
	return Stream(max(i, 0)), i >= 0
}

// Describe sets what the meta text says: the symbol's Keys, and the fields that are made of them. The error is a *TextError.
func (s *Symbol) Describe(text Text) error {
	stream, ok := parseStream(text.Get("stream"))
	if !ok {
		return &TextError{Rule: "R24", Key: "stream", Found: quoteShort(text.Get("stream")), Expected: "in, out or both", Remedy: correctValue}
	}
	s.Keys, s.Doc, s.In, s.Out, s.Schema, s.Stream = text, text.Get("doc"), text.Get("in"), text.Get("out"), text.Get("schema"), stream
	return nil
}
