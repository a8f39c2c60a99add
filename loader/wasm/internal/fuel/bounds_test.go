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
		{"elements that are not there, of a table", section([]byte(header), 9, append(elements(6, 0, 0x41, 0, 0x0b, 0x70), uleb(nil, 1000)...)), "1000 elements in all segments in 0 bytes"},
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
