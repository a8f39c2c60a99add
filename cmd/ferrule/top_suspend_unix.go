//go:build unix

package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// heedSuspension relays the signal by which a shell, or somebody else, has this command stop for a while.
func heedSuspension(to chan<- os.Signal) { signal.Notify(to, unix.SIGTSTP) }

// suspend stops this command, and returns when somebody has it go on.
func suspend() {
	on := make(chan os.Signal, 1)
	signal.Notify(on, unix.SIGCONT)
	defer signal.Stop(on)
	if unix.Kill(unix.Getpid(), unix.SIGSTOP) == nil {
		<-on // the signal may stop it a moment later
	}
}
