package native

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// TestReasonOfALimit: where nobody can try whether a file may be mapped, as it was not found for want of memory, a limit of that is the likelier cause.
func TestReasonOfALimit(t *testing.T) {
	if limited() {
		t.Skip("the memory of this process is limited")
	}
	lib := &inspect.Library{Path: "/not/there/p.so", Format: inspect.ELF, OS: "linux"}
	words := errors.New("libnowhere.so.6: failed to map segment from shared object")
	found := func() *inspect.Error { return reason(lib, "/proc/self/exe", nil, words) }
	e := found()
	assert.Equal(t, words.Error(), e.Found)
	assert.Regexp(t, "^Free memory.*; where there is enough, .*SELinux", e.Remedy)

	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_DATA, &before))
	less := before
	less.Cur = min(less.Max, 1<<40)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_DATA, &less))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_DATA, &before)) }()
	e = found()
	assert.Contains(t, e.Found, "not enough memory")
	assert.NotContains(t, e.Remedy, "SELinux")
}
