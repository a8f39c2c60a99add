package reach_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/sidecar/internal/reach"
)

// Each reason that the system gives has words of its own, and only where nobody listens it is said that nobody answers.
func TestFailed(t *testing.T) {
	system := func(errno syscall.Errno) error {
		return fmt.Errorf("within: %w", &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", errno)})
	}
	for words, err := range map[string]error{
		"a server that this user may not connect to":     system(syscall.EACCES),
		"no server that answers":                         system(syscall.ECONNREFUSED),
		"no descriptor for a connection":                 system(syscall.EMFILE),
		"no room for a connection in the system":         system(syscall.ENOSPC),
		"an address that nothing can have":               system(syscall.EINVAL),
		"no server that answers in time":                 system(syscall.ETIMEDOUT),
		"no host of the name nowhere":                    &net.OpError{Op: "dial", Err: &net.DNSError{Name: "nowhere", IsNotFound: true}},
		"a name that could not be looked up: unanswered": &net.DNSError{Name: "unanswered", IsTemporary: true},
	} {
		found, remedy := reach.Failed("server", err)
		assert.Contains(t, found, words)
		assert.NotEmpty(t, remedy)
		assert.True(t, reach.Connecting(err), words)
	}
	refused, _ := reach.Failed("server", system(syscall.ECONNREFUSED))
	assert.Equal(t, "no server that answers ("+syscall.ECONNREFUSED.Error()+")", refused, "no address, and no call of the system's")
	assert.False(t, reach.Connecting(errors.New("what was said then")))
	assert.True(t, reach.Timeout(fmt.Errorf("within: %w", context.DeadlineExceeded)))
}
