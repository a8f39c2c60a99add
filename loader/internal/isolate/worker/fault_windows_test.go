//go:build amd64 || arm64

package worker

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"
)

// raised calls fault as the system does for an exception that nothing has handled.
func raised(code uint32, address uintptr) uintptr {
	record := struct {
		code, flags uint32
		next        uintptr
		address     uintptr
		rest        [16]uint64
	}{code: code, address: address}
	pointers := [2]unsafe.Pointer{unsafe.Pointer(&record)}
	r, _, _ := syscall.SyscallN(addressOfFault(), uintptr(unsafe.Pointer(&pointers)))
	runtime.KeepAlive(&record)
	return r
}

// What is in this program's own code, or no error, is left to the Go runtime.
func TestFaultPasses(t *testing.T) {
	if os.Getenv("FERRULE_TEST_FAULT") != "" {
		surrender()
		raised(0xc0000094, windows.NewLazySystemDLL("kernel32.dll").NewProc("Sleep").Addr())
		t.Fatal("it returned")
	}
	surrender()
	require.NotZero(t, imageStart)
	require.Greater(t, imageEnd, imageStart)
	own := addressOfFault()
	require.Greater(t, own, imageStart)
	require.Less(t, own, imageEnd)
	for _, code := range []uint32{0xc0000005, 0xc0000094, 0x80000003} {
		assert.Zero(t, raised(code, own))
	}
	foreign := windows.NewLazySystemDLL("kernel32.dll").NewProc("Sleep").Addr()
	for _, code := range []uint32{0x80000003, 0x40010006, 0x406d1388} {
		assert.Zero(t, raised(code, foreign))
	}
	// A Go program's own faults still are panics.
	assert.Panics(t, func() {
		var p *int
		*p = 1
	})
}

func TestFaultEnds(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestFaultPasses$")
	cmd.Env = append(os.Environ(), "FERRULE_TEST_FAULT=1")
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit), "%v\n%s", err, text)
	assert.Equal(t, uint32(0xc0000094), uint32(exit.ExitCode()), string(text))
}
