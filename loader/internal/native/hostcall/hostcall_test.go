package hostcall

import (
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/abi"
)

// The table's entries lead to the services, with the arguments that native code passed: all of them as wide as they are in
// the contract, whatever the rest of a register holds.
func TestTable(t *testing.T) {
	var got []uintptr
	var level uint32
	note := func(status abi.Status, args ...uintptr) abi.Status { got = args; return status }
	at := Table(Services{
		Call: func(f, r uintptr) abi.Status { return note(abi.StatusMore, f, r) },
		Log:  func(f uintptr, l uint32, tx, n uintptr) abi.Status { level = l; return note(-1, f, tx, n) },
		LogFields: func(f uintptr, l uint32, tx, n, fs, fn uintptr) abi.Status {
			level = l
			return note(-2, f, tx, n, fs, fn)
		},
		Info:       func(f, r uintptr) abi.Status { return note(3, f, r) },
		Room:       func(f, n uintptr) abi.Status { return note(6, f, n) },
		Read:       func(f, p, n uintptr) abi.Status { return note(4, f, p, n) },
		Write:      func(f, p, n uintptr) abi.Status { return note(1, f, p, n) },
		Next:       func(f, r uintptr) abi.Status { return note(7, f, r) },
		Background: func(f uintptr) uintptr { note(0, f); return ^f },
	})
	assert.Equal(t, at, Table(Services{}), "there is one for the process, and the first decides")
	assert.Equal(t, uintptr(unsafe.Pointer(&table)), at)
	assert.Equal(t, unsafe.Sizeof(abi.Host{}), table.Size)

	high := ^uintptr(0)
	for _, c := range []struct {
		service uintptr
		status  abi.Status
		args    []uintptr
	}{
		{table.Call, abi.StatusMore, []uintptr{0x1000, high}},
		{table.Info, 3, []uintptr{0x1000, high}},
		{table.Room, 6, []uintptr{0x1000, high}},
		{table.Read, 4, []uintptr{0x1000, high, 0x2000}},
		{table.Write, 1, []uintptr{0x1000, 0x2000, high}},
		{table.Next, 7, []uintptr{high, 0x1000}},
	} {
		status, _, _ := purego.SyscallN(c.service, c.args...)
		assert.Equal(t, c.status, abi.Status(int32(status)))
		assert.Equal(t, c.args, got)
	}
	for service, want := range map[uintptr]struct {
		status abi.Status
		args   []uintptr
	}{
		table.Log:       {-1, []uintptr{0x2000, 0x3000, high}},
		table.LogFields: {-2, []uintptr{0x2000, 0x3000, high, 0x4000, 0x5000}},
	} {
		status, _, _ := purego.SyscallN(service, 0x2000, high<<16|3, 0x3000, high, 0x4000, 0x5000)
		assert.Equal(t, want.status, abi.Status(int32(status)))
		assert.Equal(t, want.args, got)
		assert.Equal(t, uint32(0xffff0003), level, "cut to its width")
	}
	frame, _, _ := purego.SyscallN(table.Background, 0x1000)
	assert.Equal(t, ^uintptr(0x1000), frame, "a whole address")
}
