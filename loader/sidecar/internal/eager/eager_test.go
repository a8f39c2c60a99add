package eager_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/sidecar/internal/eager"
)

// stream is what is read here: one end, and what is behind it.
type stream struct {
	in interface {
		io.ReadCloser
		SetReadDeadline(time.Time) error
	}
	out io.WriteCloser
}

func streams(t *testing.T) map[string]stream {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err := l.Accept()
	require.NoError(t, err)
	all := map[string]stream{"pipe": {r, w}, "socket": {client, server}}
	for _, s := range all {
		t.Cleanup(func() { s.in.Close(); s.out.Close() })
	}
	return all
}

// What is there is read at once, what comes within the moment or long after it when it comes, and the end is the end.
func TestEagerly(t *testing.T) {
	for name, s := range streams(t) {
		t.Run(name, func(t *testing.T) {
			r := eager.New(s.in)
			b := make([]byte, 8)
			for _, after := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
				go func() {
					time.Sleep(after)
					_, _ = s.out.Write([]byte("hello"))
				}()
				n, err := r.Eagerly(b)
				require.NoError(t, err)
				require.Equal(t, "hello", string(b[:n]))
			}
			_, err := s.out.Write([]byte("and more than fits"))
			require.NoError(t, err)
			n, err := r.Eagerly(b)
			require.NoError(t, err)
			rest := make([]byte, 32)
			m, err := r.Read(rest) // both read the same stream
			require.NoError(t, err)
			require.Equal(t, "and more than fits", string(b[:n])+string(rest[:m]))
			n, err = r.Eagerly(nil)
			require.NoError(t, err)
			require.Zero(t, n)
			require.NoError(t, s.out.Close())
			_, err = r.Eagerly(b)
			require.Equal(t, io.EOF, err)
		})
	}
}

// A deadline, one that is over already too, and a close end the read, and after a deadline it goes on.
func TestEagerlyEnds(t *testing.T) {
	for name, s := range streams(t) {
		t.Run(name, func(t *testing.T) {
			r := eager.New(s.in)
			b := make([]byte, 8)
			if s.in.SetReadDeadline(time.Unix(1, 0)) == nil {
				_, err := r.Eagerly(b)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.NoError(t, s.in.SetReadDeadline(time.Time{}))
				late := time.AfterFunc(10*time.Millisecond, func() { _ = s.in.SetReadDeadline(time.Unix(1, 0)) })
				defer late.Stop()
				_, err = r.Eagerly(b)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.NoError(t, s.in.SetReadDeadline(time.Time{}))
				_, err = s.out.Write([]byte("on"))
				require.NoError(t, err)
				n, err := r.Eagerly(b)
				require.NoError(t, err)
				require.Equal(t, "on", string(b[:n]))
			}
			for _, after := range []time.Duration{time.Millisecond, 0} {
				go func() {
					time.Sleep(after)
					s.in.Close()
				}()
				_, err := r.Eagerly(b)
				require.True(t, errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed), "%v", err)
			}
		})
	}
}

// What is no descriptor is read as it is, and what reads eagerly by itself does so.
func TestNotOfTheSystem(t *testing.T) {
	b := make([]byte, 8)
	n, err := eager.New(bytes.NewReader([]byte("plain"))).Eagerly(b)
	require.NoError(t, err)
	require.Equal(t, "plain", string(b[:n]))
	n, err = eager.New(itself{}).Eagerly(b)
	require.NoError(t, err)
	require.Equal(t, "eagerly", string(b[:n]))
	n, err = eager.New(itself{}).Read(b)
	require.NoError(t, err)
	require.Equal(t, "read", string(b[:n]))
}

type itself struct{}

func (itself) Read(b []byte) (int, error)    { return copy(b, "read"), nil }
func (itself) Eagerly(b []byte) (int, error) { return copy(b, "eagerly"), nil }
