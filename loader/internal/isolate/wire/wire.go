// Package wire is how the payloads are written that a host and its worker exchange beside those of plug-ins: what to
// open, errors, batches. Either side parses what the other one wrote; the host takes nothing in it for granted.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/native"
)

// Open is the input of lane.OpOpen, as JSON.
type Open struct {
	Path      []byte          // of the library, absolute; any bytes, as file names are
	Copy      []byte          // the path of the copy that is loaded; "" where its descriptor is handed over
	Held      bool            // the descriptor is that of the library's file, not of a copy in memory
	Unload    bool            // give the code back when the plug-in is closed and others go on
	Instances int             // how many to start
	Config    []byte          // what ferrule_start gets
	State     [][]byte        // what ferrule_resume gets, by instance; null is nothing
	Libraries []Library       // that the library brings along and that a sandbox is to let it read
	Contents  []string        // Contents of the library
	Sandbox   json.RawMessage // what the sandbox is to be; null without one
	Longest   int64           // WithMaxMessage
	Memory    int64           // that the sandbox leaves the worker; 0 without a limit
}

// Library is a file that the host has found, for the worker to find the same.
type Library struct {
	Path          []byte // absolute, without symbolic links when it was found
	Device, Inode uint64 // of the file; both 0 where any file at the path will do
}

// Contents returns what a host knows of a library whose functions it calls by their numbers: if the contents differ, the host
// treats it as a different library, whatever its path.
func Contents(lib *inspect.Library) []string {
	list := []string{lib.Manifest.Name, fmt.Sprint(lib.Manifest.Threads)}
	for kind, symbols := range [][]abi.Symbol{lib.Funcs, lib.Hooks, lib.Imports, lib.Wants} {
		for _, s := range symbols {
			list = append(list, fmt.Sprint(kind, " ", s.Name))
		}
	}
	return list
}

// Opened is the output of lane.OpOpen, as JSON.
type Opened struct {
	Deaf bool   // threads of the plug-in's own wait for ever when they use a host service
	Base uint64 // what is added to the library's own addresses; 0 where that is not known
}

// openError is an inspect.Error.
type openError struct {
	Kind, Symbol, Expected, Remedy string
	Found, Cause                   []byte // may quote paths
}

// startError is an engine.StartError.
type startError struct {
	Symbol    string
	Status    abi.Status
	Message   []byte // the plug-in's, in UTF-8 or not
	Violation *engine.Violation
}

// kinds are those of the OpenErrors that a worker can meet.
var kinds = []error{inspect.ErrRead, inspect.ErrNotRegular, inspect.ErrNotLibrary, inspect.ErrTruncated,
	inspect.ErrMalformed, inspect.ErrNoContract, inspect.ErrManifest, inspect.ErrMajor, inspect.ErrName,
	inspect.ErrDuplicate, inspect.ErrSymbol, native.ErrPlatform, native.ErrGoRuntime, native.ErrDigest, native.ErrLoad, native.ErrExecStack,
	ErrSandbox}

// ErrSandbox is the kind of the error that says that a sandbox cannot be had.
var ErrSandbox = errors.New("the sandbox asked for cannot be had")

// maxText bounds the texts of errors that come from a worker, in bytes.
const maxText = 1 << 20

// OpenError writes err, an *inspect.Error, as JSON.
func OpenError(err error) []byte {
	var e *inspect.Error
	if !errors.As(err, &e) {
		e = &inspect.Error{Kind: native.ErrLoad, Found: err.Error()}
	}
	o := openError{Symbol: e.Symbol, Found: []byte(e.Found), Expected: e.Expected, Remedy: e.Remedy}
	if e.Kind != nil {
		o.Kind = e.Kind.Error()
	}
	if e.Err != nil {
		o.Cause = []byte(e.Err.Error())
	}
	return mustJSON(o)
}

// ParseOpenError reads what OpenError wrote.
func ParseOpenError(data []byte, path string) (*inspect.Error, error) {
	var o openError
	if err := parse(data, &o); err != nil {
		return nil, err
	}
	e := &inspect.Error{Path: path, Kind: native.ErrLoad, Symbol: o.Symbol, Found: string(o.Found), Expected: o.Expected, Remedy: o.Remedy}
	for _, kind := range kinds {
		if kind.Error() == o.Kind {
			e.Kind = kind
		}
	}
	if len(o.Cause) > 0 {
		e.Err = errors.New(string(o.Cause))
	}
	return e, nil
}

// StartError writes an engine.StartError as JSON.
func StartError(e *engine.StartError) []byte {
	s := startError{Symbol: e.Symbol, Status: e.Status, Message: []byte(e.Message[:min(len(e.Message), maxText/2)])}
	errors.As(e.Err, &s.Violation)
	return mustJSON(s)
}

// ParseStartError reads what StartError wrote.
func ParseStartError(data []byte) (*engine.StartError, error) {
	var s startError
	if err := parse(data, &s); err != nil {
		return nil, err
	}
	e := &engine.StartError{Status: s.Status, Message: string(s.Message)}
	if s.Symbol == abi.SymbolResume { // no other is told apart
		e.Symbol = s.Symbol
	}
	switch {
	case s.Violation != nil:
		e.Err = s.Violation
	case s.Status <= abi.StatusOK:
		return nil, fmt.Errorf("the status %d of a failed start", s.Status)
	}
	return e, nil
}

// Violation writes an engine.Violation as JSON.
func Violation(v *engine.Violation) []byte { return mustJSON(v) }

// ParseViolation reads what Violation wrote.
func ParseViolation(data []byte) (*engine.Violation, error) {
	v := new(engine.Violation)
	return v, parse(data, v)
}

// Marshal writes an Open or Opened.
func Marshal(v any) []byte { return mustJSON(v) }

// Unmarshal reads an Open, in a worker that trusts its host.
func Unmarshal(data []byte, v *Open) error { return json.Unmarshal(data, v) }

// ParseOpened reads an Opened.
func ParseOpened(data []byte) (o Opened, err error) { return o, parse(data, &o) }

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // structures of strings and numbers
	}
	return data
}

// parse reads JSON out of memory that may change meanwhile.
func parse(data []byte, v any) error {
	if len(data) > maxText {
		return fmt.Errorf("a text of %s", count.Of(len(data), "byte"))
	}
	return json.Unmarshal(append([]byte(nil), data...), v)
}

var order = binary.LittleEndian

// BatchSize returns how long the inputs of a batch are in the shared memory, in bytes.
func BatchSize(in [][]byte) (n int) {
	n = 4 + 8*len(in)
	for _, b := range in {
		n += len(b)
	}
	return n
}

// PutBatch writes the inputs of a batch to b, which is BatchSize long: their number in 32 bits, the length of each in 64,
// and then their bytes.
func PutBatch(b []byte, in [][]byte) {
	order.PutUint32(b, uint32(len(in)))
	at := 4 + 8*len(in)
	for i, data := range in {
		order.PutUint64(b[4+8*i:], uint64(len(data)))
		at += copy(b[at:], data)
	}
}

// ErrBatch says that the bytes of a batch make no sense.
var ErrBatch = errors.New("a batch that makes no sense")

// ParseBatch returns the inputs that PutBatch wrote, as parts of b.
func ParseBatch(b []byte, in [][]byte) ([][]byte, error) {
	if len(b) < 4 {
		return in, ErrBatch
	}
	n := uint64(order.Uint32(b))
	if n > uint64(len(b)-4)/8 {
		return in, ErrBatch
	}
	lengths, rest := b[4:4+8*n], b[4+8*n:]
	for ; len(lengths) > 0; lengths = lengths[8:] {
		size := order.Uint64(lengths)
		if size > uint64(len(rest)) {
			return in, ErrBatch
		}
		in = append(in, rest[:size:size])
		rest = rest[size:]
	}
	return in, nil
}

// The parts of a batch's outcome, in bytes.
const (
	headSize   = 16 // the number of records, why it ended, the length of the outputs
	recordSize = 24 // start, end, status, and the length of the violation's text
)

// Ending says why a batch ended before its last input.
type Ending uint32

// The endings.
const (
	EndingNone      Ending = iota // it did not
	EndingCancelled               // the host had cancelled it
	EndingFull                    // its outputs are long: the rest is for another message
)

// OutcomeSize returns how long AppendOutcome's text is, in bytes, without those of violations.
func OutcomeSize(batch *engine.Batch) int {
	return headSize + recordSize*len(batch.Records) + len(batch.Out)
}

// AppendOutcome writes the outcome of a batch behind b: a head, a record for each input that ran, the outputs, and the
// texts of violations.
func AppendOutcome(b []byte, batch *engine.Batch, ending Ending) []byte {
	b = order.AppendUint32(b, uint32(len(batch.Records)))
	b = order.AppendUint32(b, uint32(ending))
	b = order.AppendUint64(b, uint64(len(batch.Out)))
	var texts []byte
	for i := range batch.Records {
		r := &batch.Records[i]
		b = order.AppendUint64(b, uint64(r.Start))
		b = order.AppendUint64(b, uint64(r.End))
		b = order.AppendUint32(b, uint32(r.Status))
		n := 0
		if r.Err != nil {
			text := Violation(r.Err)
			texts, n = append(texts, text...), len(text)
		}
		b = order.AppendUint32(b, uint32(n))
	}
	b = append(b, batch.Out...)
	return append(b, texts...)
}

// ParseOutcome reads what AppendOutcome wrote for at most max records, and adds it to batch, all of it or nothing. b may
// change meanwhile: nothing is read twice.
func ParseOutcome(b []byte, max int, batch *engine.Batch) (ending Ending, err error) {
	if len(b) < headSize {
		return 0, ErrBatch
	}
	n, flag, outLen := uint64(order.Uint32(b)), order.Uint32(b[4:]), order.Uint64(b[8:])
	b = b[headSize:]
	if n > uint64(max) || n > uint64(len(b))/recordSize || outLen > uint64(len(b))-n*recordSize {
		return 0, ErrBatch
	}
	records, out, texts := b[:n*recordSize], b[n*recordSize:][:outLen], b[n*recordSize+outLen:]
	first, list, seen := len(batch.Out), slices.Grow(batch.Records, int(n)), abi.StatusOK
	for left := outLen; len(records) > 0; records = records[recordSize:] {
		start, end := order.Uint64(records), order.Uint64(records[8:])
		status, textLen := abi.Status(order.Uint32(records[16:])), uint64(order.Uint32(records[20:]))
		if start > end || end > outLen || end-start > left || textLen > uint64(len(texts)) || textLen > math.MaxInt32 {
			return 0, ErrBatch
		}
		left -= end - start // outputs do not share bytes, so there is no more in them than came over
		r := engine.Record{Start: first + int(start), End: first + int(end), Status: status}
		if textLen > 0 {
			if r.Err, err = ParseViolation(texts[:textLen]); err != nil {
				return 0, ErrBatch
			}
			texts = texts[textLen:]
		} else if status < 0 {
			return 0, ErrBatch
		}
		seen |= status
		list = append(list, r)
	}
	batch.Out, batch.Records, batch.Failed = append(batch.Out, out...), list, batch.Failed || seen != abi.StatusOK
	return Ending(flag), nil
}
