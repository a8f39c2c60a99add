// Package process starts programs that leave nothing behind: whatever a program starts ends with it, and all of it with this
// process, as far as the system has means for that. None has a terminal.
//
// On Linux, on amd64 and arm64, it has a keeper (package keeper): nothing leaves that. It stays in this process's session, by which the system
// may share its processors. On Windows it is in a job, which nothing leaves.
// Elsewhere it has a session of its own, which ends with it where the system tells who is in it, and else its process group does. What
// this process gives a program to know its end by, such as a pipe, is the caller's.
package process

import (
	"context"
	"os"
	"runtime"
)

// Command says what is started. It starts in the root folder, and has no terminal.
type Command struct {
	// Program is its file, and what is started, whatever is at Path by now: an executable of a format that the system runs by itself, and
	// no script. It is for systems that start programs by their descriptors (ByDescriptor); elsewhere it is nil. Without it there is no
	// keeper, and the program is started by Path. It is the caller's, and may be closed when Start has returned.
	Program *os.File
	// Path is where the program is, for where it is not started by its descriptor: an absolute path.
	Path string
	// ByPath has it started by Path where there is no keeper, though Program is there: that needs no /proc, and the program inherits no
	// descriptor of its own file, which is the one after Files else.
	ByPath bool
	// Root is the folder that a keeper makes the program's root, where this process may choose it: see Root. nil: the one that this
	// process has.
	Root *os.File
	// Args are its arguments, from its name on.
	Args []string
	// Env is its environment, to which Variables are added, and nothing else of this process's.
	Env []string
	// Files are its descriptors, from 0 on: 16 at most. On Windows the first three are its standard streams, and the others handles whose
	// numbers Tell says. They are the caller's, and may be closed when Start has returned.
	Files []*os.File
	// Tell, if it is not nil, returns more variables for the environment, from what Files are in the program, those after the first
	// three: descriptors, or handles on Windows. It is called once, before the start.
	Tell func(handles []uintptr) []string
	// Alone has it started without a keeper also where there are some.
	Alone bool
}

// ByDescriptor is whether the system starts a program by its descriptor, so that what was looked at is what is started.
const ByDescriptor = runtime.GOOS == "linux"

// Child is a program that was started.
type Child interface {
	PID() int
	// OS is the same process for package os, or nil where it is a keeper's. Its Wait and Release are not the caller's.
	OS() *os.Process
	// Layers says in words what the process has of a sandbox by the way in which it was started.
	Layers() []string
	// Kill has it end, with what it has started. It does not wait, and may be called at any time, by any goroutine.
	Kill()
	// Wait waits for its end, and says how: by a signal, or with an exit code and no signal; -1 is the code where there is none, or
	// nobody says it. It has what the program has started end, too. It is called once.
	Wait() (os.Signal, int)
	// Unsaid says in words what is known where Wait had neither a signal nor a code.
	Unsaid() string
	// Bury waits until nothing is left of it and of what it has started. It is called once, after Wait.
	Bury()
}

// Start starts a program, with a keeper where there are some. ctx is how long it waits for the system, which may have to read the
// program from a file system that does not answer; where there is no keeper it does not end the waiting. The caller calls Wait and Bury of
// what it returns. An error that says "no such file" of a program that is there is about what the system starts it by, such as its
// dynamic linker.
func Start(ctx context.Context, c Command) (Child, error) { return start(ctx, &c) }

// environment is the program's, in which Files after the first three are known by these handles. It is never nil, which package os
// would take for this process's.
func (c *Command) environment(handles []uintptr) []string {
	env := append([]string{}, c.Env...)
	for _, name := range Variables {
		if !has(env, name) {
			env = append(env, name+"="+os.Getenv(name))
		}
	}
	if c.Tell != nil {
		env = append(env, c.Tell(handles)...)
	}
	return env
}

// unsaidBySystem is Unsaid of a process that this one waits for itself.
const unsaidBySystem = "gone, and the system did not say how it ended (a process that ignores SIGCHLD does not get to know)"
