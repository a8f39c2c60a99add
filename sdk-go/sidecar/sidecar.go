// Package sidecar runs a plug-in as a sidecar: a program that a host starts, and speaks to over two streams, as docs/wire.md has it. It has all of that
// page. `ferrule gen` writes the program:
//
//	func main() { sidecar.Main(vowels.Plugin) }
package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// Main runs a plug-in for the host that has started this program, and ends the program with the session. Its exit status is 0 where the host has ended the session,
// 1 where something went wrong, which it says on the standard error, and 2 where no host is there, as when somebody starts the program in a terminal.
//
// What the plug-in prints goes to the standard error, and its standard input is empty: the streams are the host's. On Windows that is so of what it prints through
// os.Stdout.
func Main(p *plugin.Plugin) {
	in, out, err := streams()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case in == nil:
		fmt.Fprint(os.Stderr, usage(p, os.Args[0]))
		os.Exit(2)
	}
	ignorePipes()
	err = run(context.Background(), in, out, p, func(why error) {
		// Who does not return, and who waits for a host that does not read, holds nobody.
		time.AfterFunc(patience, func() { exit(p, why) })
	})
	exit(p, err)
}

// patience is how long functions, and the stop function, may go on when the session is over. A host ends the process after 2 seconds.
const patience = 1500 * time.Millisecond

func exit(p *plugin.Plugin, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", named(p), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Serve runs a plug-in for the host behind in and out, and returns when the session is over and what it ran has returned: nil where the host has ended the session. The error says which rule
// of docs/wire.md the host has broken, or is a stream's, or ctx's. What was started is stopped then, if the host has not done so.
//
// When the session is over, in and out are closed if they can be.
func Serve(ctx context.Context, in io.Reader, out io.Writer, p *plugin.Plugin) error {
	return run(ctx, in, out, p, func(error) {
		for _, stream := range []any{in, out} {
			if c, ok := stream.(io.Closer); ok {
				_ = c.Close()
			}
		}
	})
}

// run is Serve; over is called with its result when the session is over, before what runs has ended.
func run(ctx context.Context, in io.Reader, out io.Writer, p *plugin.Plugin, over func(why error)) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s := newSession(base, in, out, p)
	stop := context.AfterFunc(ctx, func() { s.end(ctx.Err()) })
	defer stop()
	s.begin()
	<-s.over
	s.mu.Lock()
	why := s.why
	s.mu.Unlock()
	over(why)
	s.running.Wait()
	if !s.pinned {
		go func() { // which the stop function may end
			defer close(s.stopped)
			s.abandoned()
		}()
	}
	<-s.stopped
	return why
}

// streams returns what this process and its host speak by: the descriptors that FERRULE_SIDECAR names, or standard input and output; nil where these are a terminal.
func streams() (in, out *os.File, err error) {
	names, ok := os.LookupEnv("FERRULE_SIDECAR")
	if !ok {
		if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeCharDevice != 0 {
			return nil, nil, nil
		}
		in, out = standard()
		return in, out, nil
	}
	first, second, _ := strings.Cut(names, ",")
	from, err := strconv.Atoi(first)
	to, err2 := strconv.Atoi(second)
	if err != nil || err2 != nil || from < 0 || to < 0 {
		return nil, nil, fmt.Errorf("found FERRULE_SIDECAR=%s, expected two descriptors such as 3,4, as a host sets it", names)
	}
	_ = os.Unsetenv("FERRULE_SIDECAR") // they are not for what this process starts
	emptyInput()                       // by which the host's hello comes as well
	return inherited(from), inherited(to), nil
}

// about is what a manifest has that people want to read.
type about struct {
	Name, Version, Description string
	Functions                  map[string]struct{ Doc string }
}

func described(p *plugin.Plugin) (a about) {
	_ = json.Unmarshal(p.Manifest(), &a) // it is the plug-in's own
	return a
}

func named(p *plugin.Plugin) string { return described(p).Name }

// usage is for people who start the program by hand.
func usage(p *plugin.Plugin, program string) string {
	a := described(p)
	if !strings.ContainsRune(program, filepath.Separator) {
		program = "$(command -v " + program + ")"
	}
	function := "FUNCTION"
	for _, name := range p.Names(false) {
		function = name
		break
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s is a plug-in of Ferrule's, and no program for a terminal: a host starts it, and calls its functions.\n", a.Name, a.Version)
	if a.Description != "" {
		fmt.Fprintf(&text, "%s\n", a.Description)
	}
	fmt.Fprintf(&text, "\nWhat it can do:  ferrule call --sidecar %s\n", program)
	fmt.Fprintf(&text, "To call it:      ferrule call --sidecar %s %s --in INPUT\n", program, function)
	fmt.Fprintf(&text, "To check it:     ferrule check --sidecar %s\n", program)
	return text.String()
}
