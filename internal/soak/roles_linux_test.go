package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve/web"
)

// quiet is a logger whose lines nobody reads.
func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// inGo is the plug-in in Go by package builtin, with n for its settings at first. plain has neither settings nor imports.
func inGo(name, version string, n uint32, plain bool) *builtin.Plugin {
	parse := func(config []byte) (uint32, error) {
		var s struct {
			N uint32 `json:"n"`
		}
		if len(config) == 0 {
			return n, nil
		}
		err := json.Unmarshal(config, &s)
		return s.N, err
	}
	number := func(ctx context.Context) uint32 {
		if plain {
			return n
		}
		return builtin.State(ctx).(*atomic.Uint32).Load()
	}
	work := func(ctx context.Context, in []byte) ([]byte, error) {
		n := number(ctx)
		return fmt.Appendf(nil, "%s %d %08x", version, n, Hash(string(in))^n), nil
	}
	p := &builtin.Plugin{Name: name, Version: version, Threads: abi.Concurrent,
		Funcs: []builtin.Function{{Name: "work", Keys: map[string]string{"idempotent": "no"}, Call: work},
			{Name: "asks", Call: func(ctx context.Context, in []byte) ([]byte, error) { return builtin.Import(ctx, "points", in) }},
			{Name: "harm", Call: func(_ context.Context, in []byte) ([]byte, error) {
				if string(in) == "panic" {
					panic("as it was told")
				}
				return nil, errors.New("as it was told")
			}}},
		Hooks: []builtin.Function{{Name: "each", Call: work}, {Name: "chain", Call: func(ctx context.Context, in []byte) ([]byte, error) {
			return fmt.Appendf(nil, "%s;%s %s %d", in, name, version, number(ctx)), nil
		}}},
	}
	if !plain {
		p.Imports = []string{"points"}
		p.Start = func(_ context.Context, config []byte) (any, error) {
			s, err := parse(config)
			state := &atomic.Uint32{}
			state.Store(s)
			return state, err
		}
		p.Configure = func(_ context.Context, state any, config []byte) error {
			s, err := parse(config)
			if err == nil {
				state.(*atomic.Uint32).Store(s)
			}
			return err
		}
		return p
	}
	p.Funcs = append(p.Funcs[:1], p.Funcs[2])
	return p
}

// roles are what this program is, where the environment says so. Each says that it is ready on its standard output, and ends with its standard input.
var roles = map[string]func(ctx context.Context, args []string, ready func()) error{
	// A NATS server, at a port.
	"broker": func(ctx context.Context, args []string, ready func()) error {
		port, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true})
		if err != nil {
			return err
		}
		go s.Start()
		if !s.ReadyForConnections(time.Minute) {
			return errors.New("the NATS server did not start within a minute")
		}
		ready()
		<-ctx.Done()
		s.Shutdown()
		s.WaitForShutdown()
		return nil
	},
	// A sidecar on a Unix socket: its path, the version.
	"socket": func(ctx context.Context, args []string, ready func()) error {
		tmp := args[0] + ".new"
		l, err := net.Listen("unix", tmp)
		if err != nil {
			return err
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		if err := os.Rename(tmp, args[0]); err != nil { // nobody finds one that does not listen yet
			return err
		}
		ready()
		return serve.Listen(ctx, l, serve.Go(inGo("soak_socket", args[1], 0, false)), serve.Options{Grace: 5 * time.Second})
	},
	// An HTTP server: its address, the version.
	"server": func(ctx context.Context, args []string, ready func()) error {
		l, err := net.Listen("tcp", args[0])
		if err != nil {
			return err
		}
		h, err := web.Open(serve.Go(inGo("soak_server", args[1], 0, true)), web.Options{Logger: quiet()})
		if err != nil {
			return err
		}
		defer h.Close()
		ready()
		return web.Serve(ctx, l, h, 5*time.Second)
	},
	// A node: the broker's URL, the version.
	"node": func(ctx context.Context, args []string, ready func()) error {
		n := nats.Node{Servers: args[0], Workers: 16, Queue: 64, Logger: quiet(), Ready: func(string) { ready() }}
		return nats.Serve(ctx, serve.Go(inGo("soak_remote", args[1], 0, true)), n)
	},
}

const roleOf = "FERRULE_SOAK_ROLE"

func TestMain(m *testing.M) {
	words := strings.Fields(os.Getenv(roleOf))
	if len(words) == 0 {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // ends with who has started it, however that ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := roles[words[0]](ctx, words[1:], func() { fmt.Println("ready") }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// process is this program in one of its roles.
type process struct {
	cmd  *exec.Cmd
	in   io.Closer
	said strings.Builder
}

// begin starts one, and returns when it is ready.
func begin(words ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), roleOf+"="+strings.Join(words, " "))
	p.cmd.Stderr = &p.said
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("%v: %w: %s", words, err, p.said.String())
	}
	if line != "ready\n" {
		p.kill()
		return nil, fmt.Errorf("%v: found %q, expected that it is ready", words, line)
	}
	return p, nil
}

// kill kills it, and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.in.Close()
}

// leave asks it to end, and returns when it has.
func (p *process) leave() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	err := p.cmd.Wait()
	_ = p.in.Close()
	if err != nil {
		return fmt.Errorf("%w: %s", err, p.said.String())
	}
	return nil
}
