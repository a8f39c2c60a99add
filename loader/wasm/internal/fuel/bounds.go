package fuel

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// A module cannot harm the process when it runs, but it could when it is compiled: wazero makes room for as many items as a count says before it reads
// them, for a table of any length, and works on a function in a time and a memory that grow with the square of what is in it. So everything that
// it makes room for is read here first, and what is far beyond what compilers produce is refused. The figures are wazero 1.12's.
const (
	maxItems    = 1_000_000 // of a section: what browsers take
	maxSegments = 100_000   // of elements, or of data: what browsers take
	maxLocals   = 50_000    // of a function: what browsers take
	maxBody     = 2 << 20   // bytes of a function; 1 byte takes up to 750 while it is compiled

	// What workOf makes of one function, and of all. One takes up to 20 s, and 2 GB, all take up to 80 s. The hardest that was seen, of a compiler for Haskell, has 30 million, and
	// its module 90.
	maxFunctionWork = 250_000_000
	maxWork         = 1_000_000_000
)

// maxValues is how many parameters and results all calls and blocks of a function may have: each takes some 350 bytes while it is compiled.
const maxValues = 1_000_000

// workOf is how much work a function is: so much for each pair of blocks, and thirty times as much for each local in each block.
func workOf(blocks, locals uint64) uint64 { return blocks * (blocks + 30*locals) }

// Excess says that a module has more of something than is compiled.
type Excess struct{ Found, Limit string }

// Error says both.
func (e *Excess) Error() string { return "the module has " + e.Found + ", where " + e.Limit }

// tooHard refuses a function, or a module.
func tooHard() {
	exceeds("functions with more blocks and locals than can be compiled in a reasonable time", "those of compilers have far fewer")
}

func exceeds(found, limit string) { panic(&Excess{found, limit}) }

// items reads how many items follow.
func (r *reader) items(of string, most uint32) uint32 {
	n := r.u32()
	if n > most {
		exceeds(fmt.Sprintf("%d %s", n, of), fmt.Sprintf("%d are the most", most))
	}
	if int(n) > len(r.b)-r.i { // each has a byte at least
		r.fail(fmt.Sprintf("%d %s in %d bytes", n, of, len(r.b)-r.i), "as many as there are")
	}
	return n
}

// constant steps over a constant expression.
func (r *reader) constant() {
	for r.i < len(r.b) && r.b[r.i] != 0x0b {
		if _, err := r.instruction(); err != nil {
			panic(err)
		}
	}
	r.u8()
}

// numbers are how many there are of what a module names by its number, and of each function of its own the type. What is added has the numbers behind these, so that
// a module that named one would name what is added: its own counter, say, which it could set to what it likes.
type numbers struct {
	types, functions, tables, globals uint32

	params []uint32 // of each type
	arity  []uint32 // parameters and results of each type
	called []uint32 // the types of all functions
	own    []uint32 // of the module's own
}

// below refuses a number that is not less than n.
func (r *reader) below(n uint32, what string) uint32 {
	at := r.i
	i := r.u32()
	if i >= n {
		panic(&Error{r.base + at, fmt.Sprintf("the %s %d", what, i), fmt.Sprintf("less than %d", n)})
	}
	return i
}

// declared reads what is declared of types, functions, globals, elements and data, and looks for what is not in version 2.0; what else is wrong there the compiler says. It
// adds to n what it has learned of types and functions.
func declared(of func(id byte) *reader, elements uint32, n *numbers) {
	r := of(typeSection)
	n.types = r.items("types", maxItems)
	for range n.types {
		if form := r.u8(); form != funcType {
			lacks(featureOfType(form))
			r.fail(fmt.Sprintf("a type of the form %#x", form), "a function's")
		}
		for i := range 2 { // parameters and results
			k := r.items("parameters or results of a function", 1000)
			if i == 0 {
				n.params, n.arity = append(n.params, k), append(n.arity, 0)
			}
			n.arity[len(n.arity)-1] += k
			for range k {
				r.valueType()
			}
		}
	}
	r = of(functionSection)
	for k := r.items("functions", maxItems); k > 0; k-- {
		n.own = append(n.own, r.below(n.types, "type"))
	}
	n.called = append(n.called, n.own...)
	r = of(memorySection)
	memories := r.u32()
	if memories > 1 {
		lacks("more than one memory")
	}
	for range memories {
		r.limits()
	}
	r = of(globalSection)
	for k := r.items("globals", maxItems); k > 0; k-- {
		r.valueType()
		r.u8()
		r.constant()
	}
	r = of(elementSection)
	left := elements
	for k := r.items("segments of elements", maxSegments); k > 0; k-- {
		left -= r.elements(left)
	}
	r = of(dataSection)
	for k := r.items("segments of data", maxSegments); k > 0; k-- {
		flags := r.u32()
		if flags > 2 {
			r.fail(fmt.Sprintf("data with the flags %#x", flags), "0 to 2")
		}
		if flags == 2 {
			r.u32()
		}
		if flags != 1 {
			r.constant()
		}
		r.sub(int(r.u32()), "data")
	}
}

// elements steps over a segment of at most so many, and returns how many there are.
func (r *reader) elements(most uint32) uint32 {
	flags := r.u32()
	if flags > 7 {
		r.fail(fmt.Sprintf("elements with the flags %#x", flags), "0 to 7")
	}
	passive, hasMore, expressions := flags&1 != 0, flags&2 != 0, flags&4 != 0
	if !passive {
		if hasMore {
			r.below(r.of.tables, "table")
		} else if r.of.tables == 0 {
			r.fail("elements of a table", "a table")
		}
		r.constant()
	}
	if passive || hasMore { // their type, or 0, which is a function's
		if expressions {
			r.valueType()
		} else {
			r.u8()
		}
	}
	n := r.items("elements in all segments", most)
	for range n {
		if expressions {
			r.constant()
		} else {
			r.below(r.of.functions, "function")
		}
	}
	return n
}

// tables returns the section's tables, none of which can grow so that all have more than so many elements.
func (r *reader) tables(elements uint32) (all [][]byte) {
	type table struct {
		head       []byte // the type
		least, top uint32
		bounded    bool
	}
	var tables []table
	begun := uint64(0)
	for n := r.items("tables", maxSegments); n > 0; n-- {
		from := r.i
		if r.u8() == 0x40 { // a table with a value for its elements
			lacks("typed function references")
		}
		r.i = from
		r.valueType()
		t := table{head: r.b[from:r.i]}
		from = r.i
		r.limits()
		limits := &reader{b: r.b[from:r.i], base: r.base + from}
		t.bounded = limits.u8() == 1
		t.least, t.top = limits.u32(), math.MaxUint32
		if t.bounded {
			t.top = limits.u32()
		}
		if t.bounded && t.top < t.least {
			r.fail(fmt.Sprintf("a table of %d elements, with room for %d", t.least, t.top), "room for them")
		}
		begun += uint64(t.least)
		tables = append(tables, t)
	}
	if begun > uint64(elements) {
		exceeds(fmt.Sprintf("tables of %d elements", begun), fmt.Sprintf("%d are the most for its memory limit", elements))
	}
	for _, t := range tables {
		room := (elements - uint32(begun)) / uint32(len(tables))
		if t.top-t.least > room {
			t.top = t.least + room
		}
		all = append(all, uleb(uleb(append(append([]byte(nil), t.head...), 1), t.least), t.top))
	}
	return all
}

// functionNames returns what the custom section "name" is to have: the functions' names, where they can be read, for traces. Nothing else in custom sections has
// a meaning for whoever runs the module.
func functionNames(section []byte, functions uint32) (named []byte) {
	defer func() {
		if fault := recover(); fault != nil {
			if _, broken := fault.(*Error); !broken {
				panic(fault)
			}
			named = nil // what is broken in a custom section is as if it were not there
		}
	}()
	r := &reader{b: section}
	if string(r.sub(int(r.u32()), "a name").b) != "name" {
		return nil
	}
	for r.i < len(r.b) {
		id := r.u8()
		names := r.sub(int(r.u32()), "names")
		if id != 1 {
			continue
		}
		n := names.u32()
		if n > functions {
			return nil
		}
		for range n {
			names.u32()
			if !utf8.Valid(names.sub(int(names.u32()), "a name").b) {
				return nil
			}
		}
		if names.i != len(names.b) {
			return nil
		}
		return append(uleb(append(name("name"), 1), uint32(len(names.b))), names.b...)
	}
	return nil
}
