// Command attacker is a sidecar that tries what a sandbox refuses. Its own arguments make it what it starts.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

// tries are what it does with its input, each with what comes of it.
var tries = map[string]func(in string) (string, error){
	"pid":   func(string) (string, error) { return strconv.Itoa(os.Getpid()), nil },
	"read":  func(path string) (string, error) { text, err := os.ReadFile(path); return string(text), err },
	"write": func(path string) (string, error) { return "", os.WriteFile(path, []byte("written"), 0o600) },
	"start": func(path string) (string, error) {
		p, err := start(path)
		if err == nil {
			_, err = p.Wait()
		}
		return "", err
	},
	"replace": func(path string) (string, error) { return "", syscall.Exec(path, []string{path}, nil) },
	"connect": func(address string) (string, error) {
		conn, err := net.Dial("tcp4", address)
		if err == nil {
			conn.Close()
		}
		return "", err
	},
	"allocate": func(in string) (string, error) {
		n, err := strconv.Atoi(in)
		for b := make([]byte, n); n > 0; n -= min(n, 4096) {
			b[n-1] = 1
		}
		return "", err
	},
	"spin": func(string) (string, error) {
		for {
		}
	},
	"exit": func(string) (string, error) { os.Exit(3); return "", nil },
	"many": func(in string) (string, error) { // processes that stay
		n, err := strconv.Atoi(in)
		for i := range n {
			if _, err := start(self, "stay"); err != nil {
				return strconv.Itoa(i), nil
			}
		}
		return in, err
	},
}

// self is where it is, which is its first argument: what its own name is does not say.
var self string

// start starts a program, without the files that package exec opens.
func start(path string, args ...string) (*os.Process, error) {
	return os.StartProcess(path, append([]string{path}, args...), &os.ProcAttr{Files: []*os.File{nil, nil, os.Stderr}})
}

func main() {
	if len(os.Args) > 1 {
		self = os.Args[1]
	}
	if self == "stay" {
		time.Sleep(time.Hour)
	}
	plugin := &builtin.Plugin{Name: "attacker", Version: "1.0.0"}
	for name, try := range tries {
		plugin.Funcs = append(plugin.Funcs, builtin.Function{Name: name, Call: func(_ context.Context, in []byte) ([]byte, error) {
			out, err := try(string(in))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			return []byte(out), nil
		}})
	}
	if err := serve.Stdio(context.Background(), serve.Go(plugin)); err != nil {
		log.Fatal(err)
	}
}
