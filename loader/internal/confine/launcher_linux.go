package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/mark"
)

// Variable is the environment variable that makes a process a launcher.
const Variable = "FERRULE_LAUNCHER"

// version is of what the two sides say to each other. They are one program, which may be replaced in place while it runs.
var version = strconv.Itoa(mark.Version)

// Shut takes the bounds of an order upon this process, for as long as it lives, whatever program is in it. It returns the layers that are
// active, and what puts the program in this one's place: it returns where the system does not.
type Shut func(o *Order) (layers []string, start func() syscall.Errno, err error)

// keepBack has the program get no descriptor from n on.
func keepBack(n int) {
	if unix.CloseRange(uint(n), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	const bound = 64 << 10
	for fd := n; fd < bound; fd++ { // before Linux 5.11
		unix.CloseOnExec(fd)
	}
}

// The exit code of a launcher that has not started its program.
const exitLauncher = 97

// Requested reports whether this process was started as a launcher.
func Requested() bool { return os.Getenv(Variable) != "" }

// Main puts the program of an order in this process's place, under its bounds. It is called by an init function: the system sends the
// parent-death signal to what the first thread has become.
func Main(shut Shut) {
	// From here on no thread is made, which would fail while the program takes this one's place, and end it.
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(1)
	of, files, ok := strings.Cut(os.Getenv(Variable), " ")
	n, err := strconv.Atoi(files)
	if of != version || !ok || err != nil {
		fmt.Fprintf(os.Stderr, "ferrule launcher: %s=%q is of another version than this program's %s\n", Variable, os.Getenv(Variable), version)
		os.Exit(exitLauncher)
	}
	out := json.NewEncoder(os.NewFile(uintptr(n+1), "report"))
	say := func(r *report) {
		if err := out.Encode(r); err != nil {
			os.Exit(exitLauncher) // the host is gone
		}
	}
	o := new(Order)
	in := os.NewFile(uintptr(n), "order")
	if err = json.NewDecoder(in).Decode(o); err == nil {
		in.Close()
		keepBack(n)
	}
	var layers []string
	var start func() syscall.Errno
	if err == nil {
		layers, start, err = shut(o)
	}
	if err != nil {
		r := &report{Failed: true, Found: []byte(err.Error())}
		var found *inspect.Error
		if errors.As(err, &found) {
			r.Found, r.Expected, r.Remedy = []byte(found.Found), []byte(found.Expected), []byte(found.Remedy)
		}
		say(r)
		os.Exit(exitLauncher)
	}
	say(&report{Layers: inBytes(append([]string{"own descriptors"}, layers...))})
	say(&report{Errno: int(start())})
	os.Exit(exitLauncher)
}
