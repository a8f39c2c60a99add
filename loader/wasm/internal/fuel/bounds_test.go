package fuel_test

import (
	"bytes"
	goruntime "runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"

	"github.com/ferrule-dev/ferrule/loader/wasm/internal/fuel"
)

// many repeats code.
func many(n int, code ...byte) []byte { return bytes.Repeat(code, n) }

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// function is a module of one function with this code.
func function(code []byte) []byte {
	b := section([]byte(header), 1, []byte{0x60, 0, 0})
	b = section(b, 3, []byte{0})
	return section(b, 10, append(uleb(nil, uint32(len(code))), code...))
}

// manyResults is a module whose function has 1,000 results, and this code.
func manyResults(code []byte) []byte {
	b := section([]byte(header), 1, joined([]byte{0x60, 0}, uleb(nil, 1000), many(1000, 0x7f)))
	b = section(b, 3, []byte{0})
	code = append(append([]byte{0}, code...), 0x00, 0x0b)
	return section(b, 10, append(uleb(nil, uint32(len(code))), code...))
}

// body is a function's code with so many locals.
func body(locals uint32, code ...[]byte) []byte {
	return append(append(append(uleb([]byte{1}, locals), 0x7f), joined(code...)...), 0x0b)
}

// counted is a section whose count is a lie.
func counted(id byte, count uint32, body ...byte) []byte {
	body = append(uleb(nil, count), body...)
	return append(uleb(append([]byte(header), id), uint32(len(body))), body...)
}

// What would take more memory or time than a module is worth when it is compiled is refused before, by what it is.
func TestBombs(t *testing.T) {
	elements := func(flags byte, more ...byte) []byte { return append([]byte{flags}, more...) }
	much := uleb(nil, 1<<31)
	for _, c := range []struct {
		name   string
		module []byte
		says   string
	}{
		{"locals", function(body(1 << 31)), "a function of 2147483648 locals"},
		{"locals in parts", function(append(append([]byte{3}, bytes.Repeat([]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f}, 3)...), 0x0b)), "a function of 12884901885 locals"},
		{"blocks in blocks", function(body(1, many(40000, 2, 0x40), many(40000, 0x0b))), "more blocks and locals"},
		{"loops in loops", function(body(1, many(40000, 3, 0x40), many(40000, 0x0b))), "more blocks and locals"},
		{"conditions", function(body(1, many(40000, 0x41, 1, 4, 0x40), many(40000, 0x0b))), "more blocks and locals"},
		{"branches", function(body(1, many(40000, 0x41, 1, 0x0d, 0))), "more blocks and locals"},
		{"a branch with many targets", function(body(1, []byte{0x41, 1, 0x0e}, uleb(nil, 100000), many(100001, 0))), "more blocks and locals"},
		{"locals in each block", function(body(5000, many(5000, 0x41, 1, 4, 0x40, 0x41, 3, 0x21, 0, 0x0b))), "more blocks and locals"},
		{"calls with many results", manyResults(many(2000, 0x10, 0)), "calls and blocks of 2000000 parameters and results"},
		{"blocks with many results", manyResults(many(2000, 0x00, 0x02, 0, 0x00, 0x0b)), "calls and blocks of 2000000 parameters and results"},
		{"a long function", function(body(1, many(1<<20, 0x41, 1, 0x1a))), "a function of 3145732 bytes, where 2097152 are the most"},
		{"a table", section([]byte(header), 4, append([]byte{0x70, 0}, uleb(nil, 1<<27)...)), "tables of 134217728 elements, where 1048576 are the most"},
		{"tables", section([]byte(header), 4, append([]byte{0x70, 0}, uleb(nil, 600_000)...), append([]byte{0x6f, 0}, uleb(nil, 600_000)...)), "tables of 1200000 elements"},
		{"functions that are not there", counted(3, 1<<31), "2147483648 functions, where 1000000"},
		{"functions that are not there, of those allowed", counted(3, 900_000), "900000 functions in 0 bytes"},
		{"tables that are not there", counted(4, 90_000), "90000 tables in 0 bytes"},
		{"globals that are not there", counted(6, 900_000), "900000 globals in 0 bytes"},
		{"exports that are not there", counted(7, 900_000), "900000 exports in 0 bytes"},
		{"imports that are not there", counted(2, 900_000), "900000 imports in 0 bytes"},
		{"types that are not there", counted(1, 900_000), "900000 types in 0 bytes"},
		{"bodies that are not there", counted(10, 900_000), "900000 bodies of functions in 0 bytes"},
		{"segments of elements that are not there", counted(9, 90_000), "90000 segments of elements in 0 bytes"},
		{"segments of data that are not there", counted(11, 90_000), "90000 segments of data in 0 bytes"},
		{"elements that are not there", section([]byte(header), 9, append(elements(1, 0), much...)), "2147483648 elements"},
		{"elements that are not there, as expressions", section([]byte(header), 9, append(elements(5, 0x70), much...)), "2147483648 elements"},
		{"elements that are not there, of a table", section(section([]byte(header), 4, []byte{0x70, 0, 0}), 9, append(elements(6, 0, 0x41, 0, 0x0b, 0x70), uleb(nil, 1000)...)), "1000 elements in all segments in 0 bytes"},
		{"data that is not there", section([]byte(header), 11, append([]byte{1}, much...)), "data of 2147483648 bytes"},
		{"parameters that are not there", section([]byte(header), 1, append([]byte{0x60}, uleb(nil, 900)...)), "900 parameters or results"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after goruntime.MemStats
			goruntime.ReadMemStats(&before)
			_, err := fuel.Instrument(c.module, 1<<20)
			goruntime.ReadMemStats(&after)
			assert.ErrorContains(t, err, c.says)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
		})
	}
}

// What is added to a module has no number that the module could name: its counter could be set by it otherwise.
func TestNumbersOfWhatIsAdded(t *testing.T) {
	plain := module(0x0b) // four of each, but for one more function's name
	_, err := fuel.Instrument(plain, 100)
	require.NoError(t, err)
	for _, c := range []struct {
		name string
		body []byte
		says string
	}{
		{"set the counter", []byte{0x03, 0x40, 0x41, 0xc0, 0x84, 0x3d, 0x24, 4, 0x0c, 0, 0x0b, 0x0b}, "the global 4"},
		{"get the counter", []byte{0x23, 4, 0x1a, 0x0b}, "the global 4"},
		{"set the tick", []byte{0x41, 0, 0xd0, 0x70, 0x26, 4, 0x0b}, "the table 4"},
		{"get the tick", []byte{0x41, 0, 0x25, 4, 0x1a, 0x0b}, "the table 4"},
		{"fill the tick", []byte{0x41, 0, 0xd0, 0x70, 0x41, 1, 0xfc, 17, 4, 0x0b}, "the table 4"},
		{"copy over the tick", []byte{0x41, 0, 0x41, 0, 0x41, 1, 0xfc, 14, 4, 0, 0x0b}, "the table 4"},
		{"initialise the tick", []byte{0x41, 0, 0x41, 0, 0x41, 1, 0xfc, 12, 0, 4, 0x0b}, "the table 4"},
		{"grow the tick", []byte{0xd0, 0x70, 0x41, 1, 0xfc, 15, 4, 0x1a, 0x0b}, "the table 4"},
		{"call through the tick", []byte{0x41, 0, 0x11, 0, 4, 0x0b}, "the table 4"},
		{"call what calls the tick", []byte{0x10, 4, 0x0b}, "the function 4"},
		{"refer to it", []byte{0xd2, 4, 0x1a, 0x0b}, "the function 4"},
		{"a block of the added type", []byte{0x02, 4, 0x0b, 0x0b}, "the type 4"},
		{"a call of the added type", []byte{0x41, 0, 0x11, 4, 0, 0x0b}, "the type 4"},
	} {
		_, err := fuel.Instrument(module(c.body...), 100)
		assert.ErrorContains(t, err, c.says, c.name)
	}
	base := func(more ...[]byte) []byte {
		b := section([]byte(header), 1, []byte{0x60, 0, 0})
		b = section(b, 3, []byte{0})
		return append(b, joined(more...)...)
	}
	code := section(nil, 10, []byte{2, 0, 0x0b})
	for name, m := range map[string][]byte{
		"an export of the function": base(section(nil, 7, []byte{1, 'f', 0, 1}), code), "an export of the table": base(section(nil, 7, []byte{1, 'f', 1, 0}), code),
		"an export of the counter": base(section(nil, 7, []byte{1, 'f', 3, 0}), code), "a start function": base([]byte{8, 1, 1}, code),
		"elements of the table": base(section(nil, 9, []byte{0, 0x41, 0, 0x0b, 1, 0}), code), "an element": base(section(nil, 9, []byte{1, 0, 1, 1}), code),
		"a global": base(section(nil, 6, []byte{0x7f, 0, 0x23, 1, 0x0b}), code),
	} {
		_, err := fuel.Instrument(m, 100)
		var broken *fuel.Error
		assert.ErrorAs(t, err, &broken, name)
	}
}

// A bulk instruction costs what it works on, so that a loop of long ones ticks in time.
func TestBulkInstructionsCost(t *testing.T) {
	for name, c := range map[string]struct {
		body []byte
		cost int32 // of one
	}{
		"memory.fill": {[]byte{0x41, 0, 0x41, 7, 0x41, 0x80, 0x80, 4, 0xfc, 11, 0, 0x0b}, 1024},
		"memory.copy": {[]byte{0x41, 0, 0x41, 0, 0x41, 0x80, 0x80, 4, 0xfc, 10, 0, 0, 0x0b}, 1024},
		"table.fill":  {[]byte{0x41, 0, 0xd0, 0x70, 0x41, 8, 0xfc, 17, 0, 0x0b}, 1},
		"table.copy":  {[]byte{0x41, 0, 0x41, 0, 0x41, 8, 0xfc, 14, 0, 1, 0x0b}, 1},
		"one byte":    {[]byte{0x41, 0, 0x41, 7, 0x41, 1, 0xfc, 11, 0, 0x0b}, 0},
	} {
		r, binder := runtimeOf(t)
		fuelled, err := fuel.Instrument(module(c.body...), 100)
		require.NoError(t, err)
		code, err := r.CompileModule(ctx, fuelled)
		require.NoError(t, err, name)
		m, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName(""))
		require.NoError(t, err)
		counter, unbind, err := binder.Bind(ctx, m)
		require.NoError(t, err)
		counter.Set(100_000)
		_, err = m.ExportedFunction("f").Call(ctx)
		require.NoError(t, err, name)
		assert.Equal(t, 100_000-2-c.cost, int32(counter.Get()), "%s: the function, the check and what it works on", name)
		unbind()
	}
}

// Tables grow to what all of them may have, and a table that says itself how far it grows, no further than that.
func TestTablesGrow(t *testing.T) {
	r, binder := runtimeOf(t)
	b := section([]byte(header), 1, []byte{0x60, 1, 0x7f, 1, 0x7f})
	b = section(b, 3, []byte{0}, []byte{0}, []byte{0})
	b = section(b, 4, []byte{0x70, 0, 10}, []byte{0x6f, 1, 0, 5}, []byte{0x70, 1, 90, 0xff, 0xff, 0xff, 0xff, 0x0f})
	b = section(b, 7, []byte{1, 'a', 0, 0}, []byte{1, 'b', 0, 1}, []byte{1, 'c', 0, 2})
	grow := func(table, typ byte) []byte { return []byte{9, 0, 0xd0, typ, 0x20, 0, 0xfc, 15, table, 0x0b} }
	b = section(b, 10, grow(0, 0x70), grow(1, 0x6f), grow(2, 0x70))
	fuelled, err := fuel.Instrument(b, 1000)
	require.NoError(t, err)
	code, err := r.CompileModule(ctx, fuelled)
	require.NoError(t, err)
	m, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig())
	require.NoError(t, err)
	counter, unbind, err := binder.Bind(ctx, m)
	require.NoError(t, err)
	defer unbind()
	counter.Set(1000)
	for _, c := range []struct {
		name string
		by   uint64
		was  uint32
	}{{"a", 1 << 31, 0xffffffff}, {"a", 301, 0xffffffff}, {"a", 300, 10}, {"a", 1, 0xffffffff}, {"b", 6, 0xffffffff}, {"b", 5, 0}, {"c", 301, 0xffffffff}, {"c", 300, 90}} {
		result, err := m.ExportedFunction(c.name).Call(ctx, c.by)
		require.NoError(t, err)
		assert.Equal(t, c.was, uint32(result[0]), "%s by %d", c.name, c.by)
	}
}

// Of custom sections the names of functions are left, for traces; those that are broken are as if they were not there, as WebAssembly has it.
func TestCustomSections(t *testing.T) {
	r, binder := runtimeOf(t)
	custom := func(name string, body ...byte) []byte {
		body = append(append(uleb(nil, uint32(len(name))), name...), body...)
		return append(uleb([]byte{0}, uint32(len(body))), body...)
	}
	trap := function([]byte{0, 0x00, 0x0b})
	trap = append(trap[:8:8], append(section(nil, 1, []byte{0x60, 0, 0}), append(section(nil, 3, []byte{0}), append(section(nil, 7, []byte{1, 'f', 0, 0}), section(nil, 10, []byte{3, 0, 0x00, 0x0b})...)...)...)...)
	for _, c := range []struct {
		name  string
		names []byte
		says  string
	}{
		{"the name of a function", custom("name", 1, 5, 1, 0, 2, 'h', 'i'), ".hi("},
		{"behind the module's and before locals'", custom("name", 0, 2, 1, 'm', 1, 5, 1, 0, 2, 'h', 'i', 2, 0), ".hi("},
		{"a lie about how many", custom("name", append([]byte{1, 5}, uleb(nil, 0xffffffff)...)...), ".$0("},
		{"locals without an end", custom("name", append([]byte{2, 5}, uleb(nil, 0xffffffff)...)...), ".$0("},
		{"a name without an end", custom("name", 1, 4, 1, 0, 200, 'h'), ".$0("},
		{"no text", custom("name", 1, 5, 1, 0, 2, 0xff, 0xfe), ".$0("},
		{"debugging information", custom(".debug_info", 1, 2, 3, 4, 5, 6, 7, 8), ".$0("},
	} {
		fuelled, err := fuel.Instrument(append(bytes.Clone(trap), c.names...), 1)
		require.NoError(t, err, c.name)
		code, err := r.CompileModule(ctx, fuelled)
		require.NoError(t, err, c.name)
		m, err := r.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName(""))
		require.NoError(t, err, c.name)
		counter, unbind, err := binder.Bind(ctx, m)
		require.NoError(t, err)
		counter.Set(1000)
		_, err = m.ExportedFunction("f").Call(ctx)
		assert.ErrorContains(t, err, c.says, c.name)
		unbind()
	}
}
