package serve_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// enlarged has a FIFO hold so many bytes.
func enlarged(t *testing.T, f *os.File, n int) {
	conn, err := f.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, conn.Control(func(descriptor uintptr) {
		_, err := unix.FcntlInt(descriptor, unix.F_SETPIPE_SZ, n)
		require.NoError(t, err)
	}))
}

// madeFIFOs makes two FIFOs, whose paths have no comma.
func madeFIFOs(t *testing.T) (in, out string) {
	dir, err := os.MkdirTemp("", "fs")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	in, out = filepath.Join(dir, "in"), filepath.Join(dir, "out")
	require.NoError(t, syscall.Mkfifo(in, 0o600))
	require.NoError(t, syscall.Mkfifo(out, 0o600))
	return in, out
}

// keeps has a FIFO open, as others may have: what nobody reads stays in it.
func keeps(t *testing.T, path string) *os.File {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// TestFIFOsLeft: what a session that broke off has left in either FIFO is not the next one's, which opens at once.
func TestFIFOsLeft(t *testing.T) {
	t.Parallel()
	echo := serve.Go(&builtin.Plugin{Name: "echo", Version: "1", Funcs: []builtin.Function{{Name: "echo", Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }}}})
	opens := func(t *testing.T, in, out string) {
		t.Helper()
		p, err := loader.Open("fifo:"+in+","+out, sidecar.Program())
		require.NoError(t, err)
		got, err := p.Call(t.Context(), "echo", []byte("mine"))
		require.NoError(t, err)
		assert.Equal(t, "mine", string(got))
		require.NoError(t, p.Close())
	}
	serves := func(t *testing.T, in, out string) {
		ctx, cancel := context.WithCancel(t.Context())
		outcome := make(chan error, 1)
		go func() { outcome <- serve.FIFOs(ctx, in, out, echo, serve.Options{}) }()
		t.Cleanup(func() {
			cancel()
			assert.NoError(t, <-outcome)
		})
	}
	t.Run("of the host's", func(t *testing.T) {
		t.Parallel()
		in, out := madeFIFOs(t)
		before := keeps(t, in)
		// As much as the sidecar reads at a time, and behind that what would be a session of its own.
		left := "HELLO 1\n\nFETCH 1\n\n"
		left += strings.Repeat("x", 64<<10-len(left)) + "HELLO 1\n\nCALL 1 ferrule.start\n\n"
		enlarged(t, before, len(left))
		_, err := io.WriteString(before, left)
		require.NoError(t, err)
		read, err := os.OpenFile(out, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		require.NoError(t, err)
		serves(t, in, out)
		said := "" // the hello, and the end
		for over := false; !over; {
			b := make([]byte, 4<<10)
			n, err := read.Read(b)
			said += string(b[:n])
			over = err == io.EOF && said != ""
			require.NoError(t, t.Context().Err())
		}
		assert.Contains(t, said, "HELLO 1\n")
		require.NoError(t, read.Close())
		opens(t, in, out)
		opens(t, in, out)
	})
	t.Run("of the sidecar's", func(t *testing.T) {
		t.Parallel()
		in, out := madeFIFOs(t)
		_ = keeps(t, in) // by which a host does not wait for the sidecar
		kept, err := os.OpenFile(out, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		require.NoError(t, err)
		defer kept.Close()
		before, err := os.OpenFile(out, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = io.WriteString(before, "DONE 7 0\nContent-Length: 1000\n\nx")
		require.NoError(t, err)
		opened := make(chan error, 1)
		go func() {
			_, err := loader.Open("fifo:"+in+","+out, sidecar.Program(sidecar.WithStartTimeout(20*time.Millisecond)))
			opened <- err
		}()
		assert.ErrorContains(t, <-opened, "that is not over, expected none: two FIFOs are one session at a time")
		_, err = io.WriteString(before, "LOG info\n\n")
		require.NoError(t, err)
		require.NoError(t, before.Close())
		serves(t, in, out)
		opens(t, in, out)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		in, out := madeFIFOs(t)
		require.NoError(t, os.Remove(out))
		_, err := loader.Open("fifo:"+in+","+out, sidecar.Program())
		assert.ErrorIs(t, err, fs.ErrNotExist)
	})
}
