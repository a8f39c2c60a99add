package remote_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// The two programs on the page, a node and a host, are built as they are there, but for the server's address, and work together; the page has every option of package nats.
func TestPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "remote.md"))
	require.NoError(t, err)
	source, err := os.ReadFile("nats/nats.go")
	require.NoError(t, err)
	options := regexp.MustCompile(`(?m)^func (With\w+)\(`).FindAllSubmatch(source, -1)
	require.NotEmpty(t, options)
	for _, option := range options {
		assert.Contains(t, string(page), "| `nats."+string(option[1])+"(")
	}
	programs := regexp.MustCompile("(?s)```go\n(package main\n.*?)```").FindAllSubmatch(page, -1)
	require.Len(t, programs, 2)
	s := startServerAt(t, &server.Options{Port: -1})
	build := filepath.Join(fixture.Root(), "build") // within go.work, and not in Git
	require.NoError(t, os.MkdirAll(build, 0o777))
	var made []string
	for _, program := range programs {
		dir, err := os.MkdirTemp(build, "page-")
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		text := strings.ReplaceAll(string(program[1]), "nats://localhost:4222", s.ClientURL())
		require.NotEqual(t, string(program[1]), text)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(text), 0o644))
		to := filepath.Join(dir, "program.exe")
		cmd := exec.Command(fixture.Tool(t, "go", "see https://go.dev/dl"), "build", "-o", to, ".")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		made = append(made, to)
	}
	host, node := exec.Command(made[1]), exec.Command(made[0])
	var said strings.Builder
	host.Stderr = &said
	out, err := host.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, host.Start())
	defer host.Process.Kill()
	log, err := node.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, node.Start())
	defer node.Process.Kill()
	line, err := bufio.NewReader(log).ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, line, "ready: ")
	text, err := io.ReadAll(out)
	require.NoError(t, err)
	require.NoError(t, host.Wait(), said.String())
	assert.Equal(t, "10 %, 42 points\n", string(text))
	if runtime.GOOS != "windows" { // where nobody is interrupted
		require.NoError(t, node.Process.Signal(os.Interrupt))
		require.NoError(t, node.Wait())
	}
}
