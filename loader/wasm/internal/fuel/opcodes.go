package fuel

import "fmt"

// reader reads what a module is made of. Its methods panic with an *Error.
type reader struct {
	b    []byte
	i    int
	base int      // of b, in the module
	of   *numbers // what instructions may name

	values uint64 // parameters and results of what was stepped over
}

func (r *reader) fail(found, expected string) { panic(&Error{r.base + r.i, found, expected}) }

func (r *reader) u8() byte {
	if r.i >= len(r.b) {
		r.fail("the end", "more")
	}
	r.i++
	return r.b[r.i-1]
}

// u32 reads an unsigned number of 32 bits: LEB128 of 5 bytes at most.
func (r *reader) u32() (v uint32) {
	for shift := 0; ; shift += 7 {
		c := r.u8()
		if shift == 28 && c > 0x0f {
			r.fail("a number of more than 32 bits", "one of 32 bits")
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
}

// signed33 reads a signed number of 33 bits.
func (r *reader) signed33() (v int64) {
	for shift := 0; shift < 35; shift += 7 {
		c := r.u8()
		v |= int64(c&0x7f) << shift
		if c < 0x80 {
			if c&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
	r.fail("a number of more than 33 bits", "one of 33 bits")
	return 0
}

// count reads how many items there are, without going on.
func (r *reader) count() uint32 { return (&reader{b: r.b, base: r.base}).u32() }

// leb steps over a number of up to so many bytes.
func (r *reader) leb(most int) {
	for range most {
		if r.u8() < 0x80 {
			return
		}
	}
	r.fail("a number that is too long", fmt.Sprintf("%d bytes at most", most))
}

func (r *reader) skip(n int) {
	if n > len(r.b)-r.i {
		r.fail("the end", fmt.Sprintf("%d bytes more", n))
	}
	r.i += n
}

// sub returns a reader of the next n bytes.
func (r *reader) sub(n int, of string) *reader {
	if n < 0 || n > len(r.b)-r.i {
		r.fail(fmt.Sprintf("%s of %d bytes, where %d are left", of, n, len(r.b)-r.i), "one that ends in the module")
	}
	r.i += n
	return &reader{b: r.b[r.i-n : r.i], base: r.base + r.i - n, of: r.of}
}

func (r *reader) limits() {
	flags := r.u8()
	switch {
	case flags&2 != 0:
		lacks("threads") // which share memory
	case flags&4 != 0:
		lacks("memories of 64 bits")
	case flags&8 != 0:
		lacks("pages of other sizes")
	case flags > 1:
		panic(&Error{r.base + r.i - 1, fmt.Sprintf("limits with the flags %#x", flags), "0 or 1"})
	}
	r.u32()
	if flags == 1 {
		r.u32()
	}
}

// valueType steps over the type of a value.
func (r *reader) valueType() {
	if t := r.u8(); t < 0x6f || t > 0x70 && t < 0x7b || t > i32 { // externref, funcref, the vector and the numbers
		lacks(featureOfType(t))
	}
}

// featureOfType names what a type, or a form of types, belongs to that is not in version 2.0.
func featureOfType(t byte) string {
	switch {
	case t == 0x63, t == 0x64: // references to a type
		return "typed function references"
	case t == 0x69, t == 0x74: // exnref, noexn
		return "exceptions"
	case t == 0x4e, t == 0x4f, t == 0x50, t == 0x5e, t == 0x5f, t >= 0x6a && t <= 0x6e, t >= 0x71 && t <= 0x73, t == 0x77, t == 0x78:
		return "garbage collection"
	}
	return ""
}

// immediates are what follows an opcode.
type immediates uint8

const (
	invalid  immediates = iota
	none                // nothing
	block               // a block type: a signed number of 33 bits
	loop                // the same
	jump                // a label
	index               // an index
	labels              // a vector of labels, and another one
	types               // a vector of value types
	memarg              // an alignment and an offset
	oneByte             // a byte
	varint32            // a signed number of 32 bits
	varint64            // of 64 bits
	bytes4
	bytes8
	bytes16
	function    // the number of a function
	global      // of a global
	table       // of a table
	called      // of a type, and of a table
	filled      // works on as many bytes of memory as is on top of the stack
	filledTable // on as many elements of tables
	memargLane  // memarg and a byte
	reserved    // a byte that is 0
	prefix      // another opcode
)

// opcodes are the instructions of one byte.
var opcodes = func() (t [256]immediates) {
	set := func(from, to byte, i immediates) {
		for op := int(from); op <= int(to); op++ {
			t[op] = i
		}
	}
	set(0x00, 0x01, none)     // unreachable, nop
	set(0x02, 0x02, block)    // block
	set(0x03, 0x03, loop)     // loop
	set(0x04, 0x04, block)    // if
	set(0x05, 0x05, none)     // else
	set(0x0b, 0x0b, none)     // end
	set(0x0c, 0x0d, jump)     // br, br_if
	set(0x0e, 0x0e, labels)   // br_table
	set(0x0f, 0x0f, none)     // return
	set(0x10, 0x10, function) // call
	set(0x11, 0x11, called)   // call_indirect
	set(0x1a, 0x1b, none)     // drop, select
	set(0x1c, 0x1c, types)    // select with types
	set(0x20, 0x22, index)    // locals
	set(0x23, 0x24, global)
	set(0x25, 0x26, table)    // table.get, table.set
	set(0x28, 0x3e, memarg)   // loads and stores
	set(0x3f, 0x40, reserved) // memory.size, memory.grow
	set(0x41, 0x41, varint32)
	set(0x42, 0x42, varint64)
	set(0x43, 0x43, bytes4)
	set(0x44, 0x44, bytes8)
	set(0x45, 0xc4, none)     // numbers
	set(0xd0, 0xd0, oneByte)  // ref.null
	set(0xd1, 0xd1, none)     // ref.is_null
	set(0xd2, 0xd2, function) // ref.func
	set(0xfc, 0xfd, prefix)
	return t
}()

// miscellaneous are those behind 0xfc.
var miscellaneous = [...]immediates{0: none, 1: none, 2: none, 3: none, 4: none, 5: none, 6: none, 7: none, // saturating
	8: filled, 9: index, 10: filled, 11: filled, // memory.init, data.drop, memory.copy, memory.fill
	12: filledTable, 13: index, 14: filledTable, 15: table, 16: table, 17: filledTable} // table.init, elem.drop, table.copy, table.grow, table.size, table.fill

// vector returns what follows an instruction behind 0xfd.
func vector(op uint32) immediates {
	switch {
	case op <= 11, op == 92, op == 93: // loads and stores
		return memarg
	case op == 12, op == 13: // v128.const, i8x16.shuffle
		return bytes16
	case op >= 21 && op <= 34: // lanes
		return oneByte
	case op >= 84 && op <= 91:
		return memargLane
	case op <= 255 && !unused[byte(op)]:
		return none
	}
	return invalid
}

// unused are the numbers of vector instructions that mean nothing in version 2.0.
var unused = map[byte]bool{154: true, 162: true, 165: true, 166: true, 175: true, 176: true, 178: true, 179: true, 180: true, 187: true,
	194: true, 197: true, 198: true, 207: true, 208: true, 210: true, 211: true, 212: true, 226: true, 238: true}

// beyond names what opcodes stand for that wazero has off.
func beyond(op byte) string {
	switch {
	case op >= 0x06 && op <= 0x0a, op == 0x18, op == 0x19, op == 0x1f:
		return "exceptions"
	case op == 0x12, op == 0x13:
		return "tail calls"
	case op == 0x14, op == 0x15, op == 0xd3, op == 0xd4, op == 0xd5, op == 0xd6:
		return "typed function references"
	case op == 0xfb:
		return "garbage collection"
	case op == 0xfe:
		return "threads"
	}
	return ""
}

// instruction steps over one.
func (r *reader) instruction() (kind immediates, err error) {
	at := r.base + r.i
	op := r.u8()
	kind = opcodes[op]
	more := uint32(0) // behind a prefix
	switch {
	case kind == invalid:
		if feature := beyond(op); feature != "" {
			return invalid, &Unsupported{feature}
		}
		return invalid, &Error{at, fmt.Sprintf("the opcode %#x", op), "an instruction"}
	case op == 0xfc:
		more = r.u32()
		if int(more) >= len(miscellaneous) {
			return invalid, &Error{at, fmt.Sprintf("the opcode 0xfc %d", more), "an instruction"}
		}
		kind = miscellaneous[more]
	case op == 0xfd:
		more = r.u32()
		if kind = vector(more); kind == invalid {
			if more >= 0x100 && more <= 0x12f {
				return invalid, &Unsupported{"relaxed SIMD"}
			}
			return invalid, &Error{at, fmt.Sprintf("the opcode 0xfd %d", more), "an instruction"}
		}
	}
	switch kind {
	case block, loop:
		at := r.i
		if v := r.signed33(); v >= int64(r.of.types) { // what is negative is no type, or one value's
			panic(&Error{r.base + at, fmt.Sprintf("the type %d", v), fmt.Sprintf("less than %d", r.of.types)})
		} else if v >= 0 {
			r.values += uint64(r.of.arity[v])
		}
	case function:
		if f := r.below(r.of.functions, "function"); op == 0x10 && int(f) < len(r.of.called) {
			r.values += uint64(r.of.arity[r.of.called[f]])
		}
	case global:
		r.below(r.of.globals, "global")
	case table:
		r.below(r.of.tables, "table")
	case called:
		r.values += uint64(r.of.arity[r.below(r.of.types, "type")])
		r.below(r.of.tables, "table")
	case filled, filledTable:
		switch more {
		case 8: // the segment and the memory
			r.u32()
			r.u32()
		case 10:
			r.u32()
			r.u32()
		case 11:
			r.u32()
		case 12:
			r.u32()
			r.below(r.of.tables, "table")
		case 14:
			r.below(r.of.tables, "table")
			r.below(r.of.tables, "table")
		case 17:
			r.below(r.of.tables, "table")
		}
	case index, jump:
		r.u32()
	case labels:
		for n := r.u32(); n > 0; n-- {
			r.u32()
		}
		r.u32()
	case types:
		r.skip(int(min(r.u32(), 1<<20)))
	case memarg, memargLane:
		if align := r.u32(); align >= 64 {
			return invalid, &Unsupported{"more than one memory"}
		}
		r.u32()
		if kind == memargLane {
			r.u8()
		}
	case oneByte:
		r.u8()
	case reserved:
		if r.u8() != 0 {
			return invalid, &Unsupported{"more than one memory"}
		}
	case varint32:
		r.leb(5)
	case varint64:
		r.leb(10)
	case bytes4:
		r.skip(4)
	case bytes8:
		r.skip(8)
	case bytes16:
		r.skip(16)
	}
	return kind, nil
}
