// Package fuel gives WebAssembly modules fuel: a counter that every function and every round of a loop takes 1 from, and a host function that is
// called when it is used up. So whoever runs a module looks now and then whether it should still run, and ends it where it is by a panic.
//
// Why not wazero's WithCloseOnContextDone: it makes a call of 64 bytes eight times as slow where this adds a half, and leaves the module closed. The
// counter is deterministic, too: the same call uses the same fuel on every machine.
//
// How: Instrument appends a mutable global (the counter), a table with room for one function (the tick), and a function that calls what is in it; it puts the
// check at the head of each function and loop. Everything new is appended, so that no index in the module moves; an index behind the
// module's own is refused, as no valid module has one. The start function becomes an export, to be run
// after Bind, which puts the tick into the table: a loop in it would have none otherwise. Straight code between two checks is bounded by the module's length; bulk
// instructions pay for what they work on.
package fuel

import (
	"bytes"
	"context"
	"fmt"
	"maps"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// What Instrument has a module export. What a module exports under such a name itself gets another one: nothing can call it, since no name with a colon is
// one of a function for hosts.
const (
	// StartFunction is the function that the module runs by itself; there is none where it had none.
	StartFunction = "ferrule:start"

	counterName = "ferrule:fuel"
	tableName   = "ferrule:tick"
)

// initial is what a counter has before Bind: enough for constant expressions, which run no code, and no more.
const initial = 0

// Error says what is wrong with a module.
type Error struct {
	Offset   int // in the module, in bytes
	Found    string
	Expected string
}

// Error says it with the offset.
func (e *Error) Error() string {
	return fmt.Sprintf("found %s at offset %#x, expected %s", e.Found, e.Offset, e.Expected)
}

// Unsupported says that a module uses a part of WebAssembly that is not in version 2.0.
type Unsupported struct{ Feature string }

func lacks(feature string) {
	if feature != "" {
		panic(&Unsupported{feature})
	}
}

// Error names it.
func (u *Unsupported) Error() string { return "the module uses " + u.Feature }

// The numbers of sections.
const (
	customSection   = 0
	typeSection     = 1
	importSection   = 2
	functionSection = 3
	tableSection    = 4
	memorySection   = 5
	globalSection   = 6
	exportSection   = 7
	startSection    = 8
	elementSection  = 9
	codeSection     = 10
	dataSection     = 11
	countSection    = 12 // of data segments
	tagSection      = 13
)

// place is the order of the sections in a module, by their numbers.
var place = [...]int{typeSection: 1, importSection: 2, functionSection: 3, tableSection: 4, memorySection: 5, globalSection: 6, exportSection: 7,
	startSection: 8, elementSection: 9, countSection: 10, codeSection: 11, dataSection: 12}

const (
	i32      = 0x7f
	funcref  = 0x70
	funcType = 0x60
)

type section struct {
	id   byte
	at   int // of the body, in the module
	body []byte
}

// Instrument returns the module with fuel, and with tables that never have more than so many elements, 8 bytes each, together. Custom sections are left
// out, but for the names of functions. The error is an *Error, an *Unsupported or an *Excess. It does not check all that the compiler does: a module
// that is not valid may come back as one that is not valid.
func Instrument(module []byte, elements uint32) (_ []byte, err error) {
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case *Error: // of a reader
			err = fault
		case *Unsupported:
			err = fault
		case *Excess:
			err = fault
		default:
			panic(fault)
		}
	}()
	if len(module) < 8 || !bytes.Equal(module[:4], []byte("\x00asm")) {
		return nil, &Error{0, "no WebAssembly", `a module, which begins with "\x00asm"`}
	}
	if !bytes.Equal(module[4:8], []byte{1, 0, 0, 0}) {
		return nil, &Error{4, fmt.Sprintf("version % x", module[4:8]), "version 1"}
	}
	sections, err := split(module)
	if err != nil {
		return nil, err
	}
	n := &numbers{}
	of := func(id byte) *reader {
		for _, s := range sections {
			if s.id == id {
				return &reader{b: s.body, base: s.at, of: n}
			}
		}
		return &reader{b: []byte{0}, of: n}
	}
	n.types = of(typeSection).count()
	of(importSection).imported(n)
	n.functions += of(functionSection).count()
	n.tables += of(tableSection).count()
	n.globals += of(globalSection).count()
	declared(of, elements, n)
	types, functions, tables, globals := n.types, n.functions, n.tables, n.globals
	allTables := of(tableSection).tables(elements)
	added := adds{check: checkOf(globals, functions), counter: globals}
	tick := append(uleb(uleb([]byte{0, 0x41, 0, 0x11}, types), tables), 0x0b) // (call_indirect (type types) (table tables) (i32.const 0))
	hasCode := of(codeSection).count() > 0

	out := append(make([]byte, 0, len(module)+len(module)/4+256), module[:8]...)
	next, named := 0, false
	emit := func(id byte, body []byte) {
		out = append(uleb(append(out, id), uint32(len(body))), body...)
	}
	custom := func(body []byte) {
		if names := functionNames(body, functions); names != nil && !named {
			named = true
			emit(customSection, names)
		}
	}
	// add puts what is new at the end of the section, which may not be there.
	add := func(id byte, items ...[]byte) {
		r := &reader{b: []byte{0}}
		if next < len(sections) && sections[next].id == id {
			r = &reader{b: sections[next].body, base: sections[next].at, of: n}
			next++
		}
		switch id {
		case exportSection:
			r = &reader{b: renamed(r), base: r.base}
		case tableSection:
			r, items = &reader{b: []byte{0}}, append(allTables, items...)
		}
		body := uleb(nil, r.u32()+uint32(len(items)))
		body = append(body, r.b[r.i:]...)
		for _, item := range items {
			body = append(body, item...)
		}
		emit(id, body)
	}
	// upTo copies the sections that come before the one with this number.
	upTo := func(id byte) {
		for next < len(sections) && (sections[next].id == customSection || place[sections[next].id] < place[id]) {
			switch s := sections[next]; s.id {
			case startSection:
			case customSection:
				custom(s.body)
			default:
				emit(s.id, s.body)
			}
			next++
		}
	}
	upTo(typeSection)
	add(typeSection, []byte{funcType, 0, 0})
	upTo(functionSection)
	add(functionSection, uleb(nil, types))
	upTo(tableSection)
	add(tableSection, []byte{funcref, 1, 1, 1})
	upTo(globalSection)
	add(globalSection, []byte{i32, 1, 0x41, initial, 0x0b})
	upTo(exportSection)
	exports := [][]byte{uleb(append(name(tableName), 1), tables), uleb(append(name(counterName), 3), globals)}
	if hasSection(sections, startSection) {
		exports = append(exports, uleb(append(name(StartFunction), 0), of(startSection).below(functions, "function")))
	}
	add(exportSection, exports...)
	upTo(codeSection)
	code := &reader{b: []byte{0}}
	if next < len(sections) && sections[next].id == codeSection {
		code = &reader{b: sections[next].body, base: sections[next].at, of: n}
		next++
	}
	bodies := code.items("bodies of functions", maxItems)
	if int(bodies) != len(n.own) {
		return nil, &Error{code.base, fmt.Sprintf("%d bodies of functions", bodies), fmt.Sprintf("%d: one for each", len(n.own))}
	}
	body := uleb(make([]byte, 0, len(code.b)+len(code.b)/4+32), bodies+1)
	if hasCode {
		var one []byte
		work := uint64(0)
		for _, typ := range n.own {
			size := code.u32()
			if size > maxBody {
				exceeds(fmt.Sprintf("a function of %d bytes", size), fmt.Sprintf("%d are the most", maxBody))
			}
			function := code.sub(int(size), "a function's body")
			var more uint64
			if one, more, err = added.rewrite(one[:0], function, n.params[typ]); err != nil {
				return nil, err
			}
			if work += more; more > maxFunctionWork || work > maxWork {
				tooHard()
			}
			body = append(uleb(body, uint32(len(one))), one...)
		}
	}
	body = append(uleb(body, uint32(len(tick))), tick...)
	emit(codeSection, body)
	for ; next < len(sections); next++ {
		if s := sections[next]; s.id == customSection {
			custom(s.body)
		} else {
			emit(s.id, s.body)
		}
	}
	return out, nil
}

func hasSection(sections []section, id byte) bool {
	for _, s := range sections {
		if s.id == id {
			return true
		}
	}
	return false
}

// split finds the sections.
func split(module []byte) (sections []section, err error) {
	r := &reader{b: module, i: 8}
	last := 0
	for r.i < len(module) {
		at := r.i
		id := r.u8()
		size := r.u32()
		body := r.sub(int(size), "a section")
		switch {
		case id == tagSection:
			return nil, &Unsupported{"exceptions"}
		case int(id) >= len(place):
			return nil, &Error{at, fmt.Sprintf("a section with the number %d", id), "0 to 12"}
		case id == customSection:
		case place[id] <= last:
			return nil, &Error{at, fmt.Sprintf("the section %d out of its order", id), "each once, in order"}
		default:
			last = place[id]
		}
		sections = append(sections, section{id, body.base, body.b})
	}
	return sections, nil
}

// imported counts what is imported.
func (r *reader) imported(n *numbers) {
	for k := r.items("imports", maxItems); k > 0; k-- {
		r.sub(int(r.u32()), "a name")
		r.sub(int(r.u32()), "a name")
		switch kind := r.u8(); kind {
		case 0:
			n.called = append(n.called, r.below(n.types, "type"))
			n.functions++
		case 1:
			r.valueType()
			r.limits()
			n.tables++
		case 2:
			r.limits()
		case 3:
			r.valueType()
			r.u8()
			n.globals++
		case 4: // a tag
			lacks("exceptions")
		default:
			panic(&Error{r.base + r.i - 1, fmt.Sprintf("the import kind %d", kind), "0 to 3"})
		}
	}
}

// renamed returns an export section in which nothing has a name that is to be added.
func renamed(r *reader) []byte {
	type export struct{ name, what []byte }
	var exports []export
	taken := map[string]bool{StartFunction: true, counterName: true, tableName: true}
	clash := false
	for n := r.items("exports", maxItems); n > 0; n-- {
		e := export{name: r.sub(int(r.u32()), "a name").b}
		from := r.i
		switch r.u8() {
		case 0:
			r.below(r.of.functions, "function")
		case 1:
			r.below(r.of.tables, "table")
		case 3:
			r.below(r.of.globals, "global")
		default: // a memory
			r.u32()
		}
		e.what = r.b[from:r.i]
		clash = clash || taken[string(e.name)]
		exports = append(exports, e)
	}
	if !clash {
		return r.b
	}
	ours := maps.Clone(taken)
	for _, e := range exports {
		taken[string(e.name)] = true
	}
	body := uleb(nil, uint32(len(exports)))
	for _, e := range exports {
		if ours[string(e.name)] {
			other := string(e.name)
			for taken[other] {
				other += "'"
			}
			taken[other], e.name = true, []byte(other)
		}
		body = append(append(body, name(string(e.name))...), e.what...)
	}
	return append(body, r.b[r.i:]...)
}

// adds is what is added to the code of functions.
type adds struct {
	check   []byte
	counter uint32
}

// checkOf is what a function and a loop begin with: counter--; if (counter < 0) tick().
func checkOf(counter, tick uint32) []byte {
	b := uleb([]byte{0x23}, counter)
	b = uleb(append(b, 0x41, 0x01, 0x6b, 0x24), counter)
	b = uleb(append(b, 0x23), counter)
	b = append(b, 0x41, 0x00, 0x48, 0x04, 0x40, 0x10) // i32.lt_s; if (empty); call
	return append(uleb(b, tick), 0x0b)
}

// A bulk instruction costs 1 for each 64 bytes, so that it costs as much as a loop that does the same.
const (
	shiftOfBytes    = 6
	shiftOfElements = 3 // which have 8 bytes
)

// charge appends what comes before a bulk instruction, which works on as much as is on top of the stack: counter -= top >> shift; and the check.
func (a *adds) charge(out []byte, local uint32, shift byte) []byte {
	out = uleb(append(out, 0x22), local) // local.tee
	out = uleb(append(out, 0x23), a.counter)
	out = uleb(append(out, 0x20), local)
	out = uleb(append(out, 0x41, shift, 0x76, 0x6b, 0x24), a.counter) // i32.shr_u; i32.sub; global.set
	return append(out, a.check...)
}

// rewrite appends the body of a function with so many parameters to out, with fuel, and returns how much work it is.
func (a *adds) rewrite(out []byte, r *reader, params uint32) ([]byte, uint64, error) {
	groups := r.u32()
	from := r.i
	locals := uint64(0)
	for range groups {
		locals += uint64(r.u32())
		r.valueType()
	}
	if locals > maxLocals {
		exceeds(fmt.Sprintf("a function of %d locals", locals), fmt.Sprintf("%d are the most", maxLocals))
	}
	if bytes.IndexByte(r.b, 0xfc) < 0 { // which bulk instructions begin with
		out = append(uleb(out, groups), r.b[from:r.i]...)
	} else {
		out = append(append(uleb(out, groups+1), r.b[from:r.i]...), 1, i32)
	}
	out = append(out, a.check...)
	from = r.i
	blocks := uint64(0)
	for r.i < len(r.b) {
		at := r.i
		kind, err := r.instruction()
		if err != nil {
			return nil, 0, err
		}
		switch kind {
		case loop:
			blocks++
			out = append(append(out, r.b[from:r.i]...), a.check...)
			from = r.i
		case block, jump:
			blocks++
		case labels:
			blocks += uint64(r.i - at)
		case filled, filledTable:
			shift := byte(shiftOfBytes)
			if kind == filledTable {
				shift = shiftOfElements
			}
			out = a.charge(append(out, r.b[from:at]...), params+uint32(locals), shift)
			from = at
		}
	}
	if r.values > maxValues {
		exceeds(fmt.Sprintf("calls and blocks of %d parameters and results in a function", r.values), fmt.Sprintf("%d are the most", maxValues))
	}
	return append(out, r.b[from:]...), workOf(blocks, locals), nil
}

func uleb(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func name(s string) []byte { return append(uleb(nil, uint32(len(s))), s...) }

// Instantiate instantiates a module of Go functions, whose exports can be imported from: what a builder's own Instantiate returns resolves no imports.
// A runtime that frees code when it is closed (Frees) frees this as well, which wazero keeps as long as a cache lives.
func Instantiate(ctx context.Context, rt wazero.Runtime, b wazero.HostModuleBuilder, config wazero.ModuleConfig) (api.Module, error) {
	code, err := b.Compile(ctx)
	if err != nil {
		return nil, err
	}
	if r, ok := rt.(interface{ Frees(wazero.CompiledModule) }); ok {
		r.Frees(code)
	}
	return rt.InstantiateModule(ctx, code, config)
}

// Binder binds one tick to instances of one runtime.
type Binder struct {
	host   api.Module
	binder wazero.CompiledModule
	rt     wazero.Runtime
}

// NewBinder makes what all instances share. tick is called by a module whose counter is below 0, with the context that the module was entered with; it sets the
// counter, or panics.
func NewBinder(ctx context.Context, rt wazero.Runtime, tick func(ctx context.Context)) (*Binder, error) {
	host, err := Instantiate(ctx, rt, rt.NewHostModuleBuilder(tableName).NewFunctionBuilder().
		WithGoFunction(api.GoFunc(func(ctx context.Context, _ []uint64) { tick(ctx) }), nil, nil).Export("t"), wazero.NewModuleConfig())
	if err != nil {
		return nil, err
	}
	// (module (import "h" "t" (func)) (import "g" "ferrule:tick" (table 1 1 funcref)) (elem (i32.const 0) 0))
	module := []byte("\x00asm\x01\x00\x00\x00")
	add := func(id byte, body []byte) {
		module = append(append(uleb(append(module, id), uint32(len(body)+1)), 1), body...)
	}
	add(typeSection, []byte{funcType, 0, 0})
	imports := append(append(name("h"), name("t")...), 0, 0)
	imports = append(append(append(imports, name("g")...), name(tableName)...), 1, funcref, 1, 1, 1)
	module = append(append(uleb(append(module, importSection), uint32(len(imports)+1)), 2), imports...)
	add(elementSection, []byte{0, 0x41, 0, 0x0b, 1, 0})
	compiled, err := rt.CompileModule(ctx, module)
	if err != nil {
		return nil, err
	}
	return &Binder{host, compiled, rt}, nil
}

// Bind puts the tick into an instance of an instrumented module in which nothing has run, and returns its counter, which is 0: the first check ticks. unbind is due
// when nothing of the instance is entered any more.
func (b *Binder) Bind(ctx context.Context, m api.Module) (counter api.MutableGlobal, unbind func(), err error) {
	counter, ok := m.ExportedGlobal(counterName).(api.MutableGlobal)
	if !ok {
		return nil, nil, &Error{0, "a module without " + counterName, "one that Instrument has returned"}
	}
	ctx = experimental.WithImportResolver(ctx, func(name string) api.Module {
		if name == "h" {
			return b.host
		}
		return m
	})
	bound, err := b.rt.InstantiateModule(ctx, b.binder, wazero.NewModuleConfig().WithName(""))
	if err != nil {
		return nil, nil, err
	}
	return counter, func() { _ = bound.Close(context.Background()) }, nil
}
