package hostcall

import (
	"runtime"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/internal/native/cross"
	"github.com/ferrule-dev/ferrule/loader/internal/native/dl"
)

// provide has the table's entries lead to other services than those that were there first.
func provide(s Services) uintptr {
	at := Table(s)
	services = s
	return at
}

// function returns a function of the fixture registers.
func function(t testing.TB, name string) uintptr {
	t.Helper()
	lib, err := dl.Open(fixture.C(t, "registers"))
	require.NoError(t, err)
	fn, err := lib.Lookup(abi.PrefixFunc + name)
	require.NoError(t, err)
	return fn
}

// newFrame makes a frame for them, whose host->room does nothing.
func newFrame() *abi.Call {
	frame := new(abi.Call)
	frame.Size = unsafe.Sizeof(*frame)
	frame.Host = provide(Services{Room: func(uintptr, uintptr) abi.Status { return abi.StatusOK }})
	return frame
}

// The table's entries lead to the services, with the arguments that native code passed: all of them as wide as they
// are in the contract, whatever the rest of a register holds.
func TestTable(t *testing.T) {
	var got []uintptr
	var level uint32
	note := func(status abi.Status, args ...uintptr) abi.Status { got = args; return status }
	at := provide(Services{
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

// The way back preserves what C relies on: the registers that the ABI says, and the control of floating point. What the
// service does to the goroutine's stack, and to the thread that it is on, changes nothing.
func TestRegisters(t *testing.T) {
	registers, frame := function(t, "registers"), newFrame()
	for name, room := range map[string]func(){
		"nothing":         func() {},
		"a larger stack":  func() { deep(100) },
		"a collection":    runtime.GC,
		"the scheduler":   runtime.Gosched,
		"another one":     func() { cross.Enter(registers, frame) },
		"a C function":    func() { _, _ = dl.Open(fixture.C(t, "registers")) },
		"another routine": func() { done := make(chan bool); go close(done); <-done },
	} {
		inside := false
		provide(Services{Room: func(uintptr, uintptr) abi.Status {
			if !inside { // or "another one" would be for ever
				inside = true
				room()
			}
			return abi.StatusOK
		}})
		status := cross.Enter(registers, frame)
		if status == -1 {
			t.Skip("the fixture is not written for this platform's registers")
		}
		assert.Zero(t, int32(status), "a bit for each register that changed: %s", name)
	}
}

//go:noinline
func deep(n int) byte {
	var fill [1 << 10]byte
	fill[n] = byte(n)
	if n > 0 {
		fill[0] = deep(n - 1)
	}
	return fill[0] + fill[n]
}
