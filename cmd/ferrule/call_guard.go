package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// A plug-in that crashes takes its process along, with whatever exit code that has, and one that calls exit chooses it.
// So that `ferrule call` keeps its promise about exit codes, the process that loads the plug-in is a child, which says
// by a code of its own that it came to its end: guardCode and the exit code.
const (
	guardEnv  = "FERRULE_CALL_GUARDED"
	guardCode = 100
)

// guarding says that this process is such a child.
var guarding = os.Getenv(guardEnv) != ""

func init() {
	if !guarding {
		return
	}
	os.Unsetenv(guardEnv) // the plug-in's environment is that of the command
	surrender()
	go func() { // a plug-in that never returns does not outlive the command
		for parent := os.Getppid(); os.Getppid() == parent; {
			time.Sleep(time.Second)
		}
		os.Exit(exitCrashed)
	}()
}

// guarded is the code that this process must exit with to say that the command's exit code is this one.
func guarded(code int) int {
	if guarding {
		return guardCode + code
	}
	return code
}

// guard runs this command line in a child and has its exit code.
func (c *caller) guard(plugin, fn string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, c.out, c.err
	cmd.Env = append(os.Environ(), guardEnv+"=1")
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		return err
	}
	var interrupted atomic.Bool
	go func() {
		for s := range signals {
			interrupted.Store(true)
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	signal.Stop(signals)
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		return err
	}
	switch code := cmd.ProcessState.ExitCode() - guardCode; code {
	case exitOK:
		return nil
	case exitFailed, exitUsage, exitOpen, exitCrashed, exitInterrupted:
		return &exit{code: code}
	}
	if interrupted.Load() { // before it was ready for that
		return &exit{code: exitInterrupted}
	}
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() && status.Signal() == syscall.SIGPIPE { // whoever reads the result has enough of it
		return &exit{code: 128 + int(syscall.SIGPIPE)}
	}
	return &exit{exitCrashed, fmt.Errorf("plug-in %s: %s: it ended the process that it was loaded into: %v", plugin, fn,
		cmd.ProcessState)}
}
