//go:build unix

package main

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// heedSuspension relays the signal by which a shell, or somebody else, has this command stop for a while.
func heedSuspension(to chan<- os.Signal) { signal.Notify(to, unix.SIGTSTP) }

// suspend stops this command, or all of the job that it is in, as a terminal does for Ctrl-Z: a shell waits for all of it. It returns when somebody has it go on. Where nobody could, the system does not stop it: in an orphaned process group, which has no shell above it, such as that
// of a terminal that was opened for this command alone. That is so with the signals of job control, and not with SIGSTOP. SIGTSTP itself leads to this program by now, also when it heeds it no
// more, so it is another one of them, which Go leaves alone.
func suspend(all bool) {
	on := make(chan os.Signal, 1)
	signal.Notify(on, unix.SIGCONT)
	defer signal.Stop(on)
	who := unix.Getpid()
	if all {
		who = 0
	}
	if unix.Kill(who, unix.SIGTTIN) != nil {
		return
	}
	select {
	case <-on:
	case <-time.After(stopWithin): // it has not stopped, or does not know yet that it goes on
	}
}

// stopWithin is how long a signal may take to stop this command.
const stopWithin = 200 * time.Millisecond
