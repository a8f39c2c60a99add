//go:build amd64 || arm64

package isolate_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// A crash says where it was: the address, and the code by function and library.
func TestWhereItCrashed(t *testing.T) {
	if os.Getenv(fixture.Emulated) != "" {
		t.Skip("an emulator has frames of signals of its own")
	}
	for name, want := range map[string]string{
		"fault_sigsegv":        `^at the address 0x8, in "(fault_fault|wild_write|ferrule_fn_fault)"\+0x[0-9a-f]+ \(fault_sigsegv\.so\+0x[0-9a-f]+\)$`,
		"fault_stack_overflow": `^stack overflow, at the address 0x[0-9a-f]+, in "\w+"\+0x[0-9a-f]+ \(fault_stack_overflow\.so\+0x[0-9a-f]+\)$`,
		"fault_sigfpe":         `^in "\w+"\+0x[0-9a-f]+ \(fault_sigfpe\.so\+0x[0-9a-f]+\)$`,
		"fault_handler":        `^at the address 0x8, in "\w+"\+0x[0-9a-f]+ \(fault_handler\.so\+0x[0-9a-f]+\)$`,
		"fault_abort":          `^$`,
	} {
		p := open(t, fixture.C(t, name), isolate.InWorker())
		for range 2 {
			_, err := p.Call(ctx, "fault", nil)
			e := crash(t, err)
			assert.Regexp(t, want, e.Fault, name)
			if e.Fault != "" {
				assert.ErrorContains(t, err, " ("+e.Fault+")")
			}
		}
		if name == "fault_handler" {
			_, err := p.Call(ctx, "fault", nil)
			assert.Equal(t, []string{"handed on"}, crash(t, err).Output, "once: the default follows")
		}
	}
}

// So does one in a constructor, when the library is not loaded yet; what it was before the plug-in had begun is said as well.
func TestWhereAConstructorCrashed(t *testing.T) {
	if os.Getenv(fixture.Emulated) != "" {
		t.Skip("an emulator has frames of signals of its own")
	}
	for range 2 {
		_, err := loader.Open(fixture.C(t, "fault_constructor"), isolate.InWorker())
		e := crash(t, err)
		assert.Equal(t, syscall.SIGSEGV, e.Signal)
		assert.Regexp(t, `^at the address 0x8, in "(construct|wild_write)"\+0x[0-9a-f]+ \(fault_constructor\.so\+0x[0-9a-f]+\)$`, e.Fault)
		assert.ErrorContains(t, err, " ("+e.Fault+")")
		assert.ErrorContains(t, err, "constructors")
	}
	_, err := loader.Open(fixture.C(t, "fault_start"), isolate.InWorker(), loader.WithConfig([]byte("crash")))
	assert.Regexp(t, ` in "\w+"\+0x[0-9a-f]+ \(fault_start\.so\+0x[0-9a-f]+\)$`, crash(t, err).Fault)
}

// The fault of a process that the plug-in has forked, and a signal that somebody sends, are not taken for one of the worker's.
func TestFaultsThatAreNotTheWorkers(t *testing.T) {
	p := open(t, fixture.C(t, "fault_handler"), isolate.InWorker())
	assert.Equal(t, "11", call(t, p, "fault_in_child", ""))
	_, err := p.Call(ctx, "fault", nil)
	assert.Contains(t, crash(t, err).Fault, "at the address 0x8, in ", "the child's was none")
	_, err = p.Call(ctx, "fault_sent", nil)
	e := crash(t, err)
	assert.Equal(t, syscall.SIGSEGV, e.Signal)
	assert.Empty(t, e.Fault)
}

// The names in what is said of a crash are those of the library that ran, whatever has come to its path.
func TestWhereItCrashedInAReplacedFile(t *testing.T) {
	if os.Getenv(fixture.Emulated) != "" {
		t.Skip("an emulator has frames of signals of its own")
	}
	for name, replace := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(path string) error { return os.Rename(copyOf(t, "fault_count"), path) },
	} {
		path := copyOf(t, "fault_sigsegv")
		p := open(t, path, isolate.InWorker())
		require.NoError(t, replace(path), name)
		for range 2 {
			_, err := p.Call(ctx, "fault", nil)
			assert.Regexp(t, `^at the address 0x8, in "(fault_fault|wild_write|ferrule_fn_fault)"\+0x[0-9a-f]+ \(lib\.so\+0x[0-9a-f]+\)$`, crash(t, err).Fault, name)
		}
	}
}

// copyOf returns the path of a copy of a fixture, which is the test's to replace.
func copyOf(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(fixture.C(t, name))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "lib.so")
	require.NoError(t, os.WriteFile(path, data, 0o755))
	return path
}
