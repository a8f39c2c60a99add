package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// patience is how long a worker may take for one command.
const patience = 60 * time.Second

// process is a worker that runs. It leads a process group, in which its plug-ins' processes are, too.
type process struct {
	label  string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	killed atomic.Bool
}

// unsupported says why a contender has nothing to show in a case.
type unsupported string

func (u unsupported) Error() string { return string(u) }

// errEnded is a worker that has ended by itself.
var errEnded = errors.New("the worker ended; its standard error may say why")

// places is where workers find their files.
type places struct{ build, extismSDK string }

// start starts a contender's worker. compiled is the folder of its compilation cache; empty for none.
func start(c *contender, at places, compiled string) (*process, error) {
	return startWith(c, at, compiled, os.Stderr)
}

// startWith is start with another standard error; nil for none.
func startWith(c *contender, at places, compiled string, stderr io.Writer) (*process, error) {
	p := &process{label: c.label}
	p.cmd = exec.Command(filepath.Join(at.build, c.build.file()), "-contender", c.name, "-build", at.build, "-extism",
		at.extismSDK, "-pdk", filepath.Join(at.build, pdkModule.file), "-cache", compiled)
	p.cmd.Stderr = stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = in, bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

// do sends one command and returns the answer.
func (p *process) do(format string, args ...any) (ns, allocs int64, err error) {
	command := fmt.Sprintf(format, args...)
	timer := time.AfterFunc(patience, p.kill)
	defer timer.Stop()
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		return 0, 0, fmt.Errorf("%s: %q: %w", p.label, command, err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		if p.killed.Load() {
			err = fmt.Errorf("no answer within %v", patience)
		} else if errors.Is(err, io.EOF) {
			err = errEnded
		}
		return 0, 0, fmt.Errorf("%s: %q: %w", p.label, command, err)
	}
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch word {
	case "unsupported":
		return 0, 0, unsupported(rest)
	case "ok":
		if _, err := fmt.Sscan(rest, &ns, &allocs); err == nil {
			return ns, allocs, nil
		}
	}
	return 0, 0, fmt.Errorf("%s: %q: %s", p.label, command, rest)
}

// kill ends the worker and the processes that it started.
func (p *process) kill() {
	p.killed.Store(true)
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
}

// end lets the worker close its contender, and leaves no process behind.
func (p *process) end() {
	p.in.Close()
	timer := time.AfterFunc(5*time.Second, p.kill)
	p.cmd.Wait()
	timer.Stop()
	// What the worker started and did not end; a group without members is an error that says so.
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
}
