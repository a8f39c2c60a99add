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
	var frame, request, text, length uintptr
	var level uint32
	at := Table(Services{
		Call: func(f, r uintptr) abi.Status { frame, request = f, r; return abi.StatusMore },
		Log: func(f uintptr, l uint32, tx, n uintptr) abi.Status {
			frame, level, text, length = f, l, tx, n
			return -1
		},
	})
	assert.Equal(t, at, Table(Services{}), "there is one for the process, and the first decides")
	assert.Equal(t, uintptr(unsafe.Pointer(&table)), at)
	assert.Equal(t, unsafe.Sizeof(abi.Host{}), table.Size)

	high := ^uintptr(0)
	status, _, _ := purego.SyscallN(table.Call, 0x1000, high)
	assert.Equal(t, abi.StatusMore, abi.Status(int32(status)))
	assert.Equal(t, []uintptr{0x1000, high}, []uintptr{frame, request})

	status, _, _ = purego.SyscallN(table.Log, 0x2000, high<<16|3, 0x3000, high)
	assert.EqualValues(t, -1, int32(status))
	assert.Equal(t, []uintptr{0x2000, 0x3000, high}, []uintptr{frame, text, length})
	assert.Equal(t, uint32(0xffff0003), level, "cut to its width")
}
