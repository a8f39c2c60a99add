//go:build unix

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
)

// natsServer starts a server in this process, and returns its URL.
func natsServer(t *testing.T) string {
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(10*time.Second))
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s.ClientURL()
}

// A library, and a library in worker processes, are served as nodes, with a configuration and instances of the node's.
func TestServeNATS(t *testing.T) {
	t.Parallel()
	url := natsServer(t)
	for _, args := range [][]string{nil, {"--isolated"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			r := serving(t, nil, append(args, "--nats", url, "--workers", "4", "--queue", "0", "--instances", "2", "--config", "of the node", shouts(t))...)
			assert.Equal(t, url+"/shouts", r.address())
			p, err := loader.Open(r.address()+"@^2", nats.Plugin())
			require.NoError(t, err)
			defer p.Close()
			assert.Equal(t, "of the node", result(t, p, "config", ""))
			assert.Equal(t, "done", result(t, p, "prints", ""))
			s, err := p.NewSession(t.Context(), []byte("mine"))
			require.NoError(t, err)
			out, err := s.Call(t.Context(), "config", nil)
			require.NoError(t, err)
			assert.Equal(t, "mine", string(out))
			if args != nil { // which ends a worker, and not the node
				_, err = p.Call(t.Context(), "crashes", nil)
				require.ErrorIs(t, err, loader.ErrPanic)
				assert.Contains(t, err.Error(), "aborted")
				assert.Equal(t, "of the node", result(t, p, "config", ""))
			}
			begun := filepath.Join(t.TempDir(), "begun")
			ended := make(chan error, 1)
			go func() {
				_, err := p.Call(context.Background(), "waits", []byte(begun))
				ended <- err
			}()
			appears(t, begun)
			r.signal(syscall.SIGTERM)
			require.Error(t, <-ended) // it was asked to stop when --grace was over
			<-r.ended
			_, err = p.Call(t.Context(), "config", nil)
			require.ErrorIs(t, err, remote.ErrNoNode)
		})
	}
}

func TestServeNATSWrong(t *testing.T) {
	t.Parallel()
	echo := fixture.C(t, "echo")
	for name, c := range map[string]struct {
		args []string
		want string
		code int
	}{
		"no workers":       {[]string{"--nats", "nats://127.0.0.1:1", "--workers", "0"}, "found --workers 0, expected 1 or more", exitUsage},
		"less than none":   {[]string{"--nats", "nats://127.0.0.1:1", "--queue", "-1"}, "found --queue -1, expected 0 or more", exitUsage},
		"another way":      {[]string{"--unix", "x", "--workers", "2"}, "found --workers with --unix, expected it with --nats", exitUsage},
		"a token":          {[]string{"--nats", "nats://127.0.0.1:1", "--token-file", "x"}, "found --token-file with --nats, expected the server's own credentials", exitUsage},
		"a user":           {[]string{"--nats", "nats://ada:secret@127.0.0.1:1"}, "found --nats with a user in its URL", exitUsage},
		"no credentials":   {[]string{"--nats", "nats://127.0.0.1:1", "--nats-creds", "/nowhere"}, "--nats-creds: ", exitUsage},
		"nobody is there":  {[]string{"--nats", "nats://127.0.0.1:1"}, "nats: no connection to nats://127.0.0.1:1", 1},
		"a configuration":  {[]string{"--nats", "nats://127.0.0.1:1", "--config", "x"}, "--config", exitUsage},
		"bad credentials":  {[]string{"--nats", natsServer(t), "--nats-creds", os.Args[0]}, "nats: no connection to", 1},
		"and with metrics": {[]string{"--nats", "nats://127.0.0.1:1", "--metrics", "0.0.0.0:0"}, "which others reach", exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := ferrule(t, "", append([]string{"serve", echo}, c.args...)...)
			assert.Equal(t, c.code, code, errs)
			assert.Contains(t, errs, c.want)
			assert.NotContains(t, errs, "secret")
			assert.Empty(t, out)
		})
	}
}
