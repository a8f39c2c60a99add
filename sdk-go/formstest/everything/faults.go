package everything

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	ferrule "github.com/ferrule-dev/ferrule/sdk-go"
)

// thing is a value that panics are about.
type thing struct{ text string }

func noMap() map[string]int { return nil }

// shy is a value that cannot be shown.
type shy struct{}

func (shy) Error() string { panic("it is shy") }

// Panics panics, in a way.
//
//ferrule:export
func Panics(ctx context.Context, how string) (string, error) {
	switch how {
	case "text":
		panic("a text")
	case "error":
		panic(fmt.Errorf("an error: %w", ferrule.ErrInvalid))
	case "value":
		panic(thing{"a value"})
	case "shy":
		panic(shy{})
	case "empty":
		panic("")
	case "nil":
		panic(error(nil))
	case "map":
		noMap()[how] = 1
	case "index":
		var a []int
		return fmt.Sprint(a[len(how)]), nil
	case "pointer":
		var t *thing
		return t.text, nil
	case "division":
		return fmt.Sprint(1 / (len(how) - len("division"))), nil
	case "assertion":
		var v any = how
		return fmt.Sprint(v.(int)), nil
	case "closed":
		c := make(chan int)
		close(c)
		close(c)
	case "deferred":
		defer func() { panic("the second") }()
		panic("the first")
	case "host":
		defer func() { _, _ = double(ctx, []byte("deferred")) }()
		panic("with a host function behind")
	case "mutex":
		new(sync.Mutex).Unlock() // which is a fatal error and no panic
	case "goroutine":
		go panic("on a goroutine")
		select {}
	}
	return "", nil
}

// Recovers recovers from its panics by itself.
//
//ferrule:export
func Recovers(how string) (text string, err error) {
	defer func() { text = fmt.Sprint(recover()) }()
	return Panics(context.Background(), how)
}

// EndsGoroutine ends the goroutine that it runs on.
//
//ferrule:export
func EndsGoroutine() { runtime.Goexit() }

// Exits ends the process, behind a line of the log.
//
//ferrule:export
func Exits(ctx context.Context, code int) {
	ferrule.Logger(ctx).Warn("it exits", "code", code)
	os.Exit(code)
}

// Fatal ends the process with a line.
//
//ferrule:export
func Fatal() { log.Fatal("the last words") }

// Overflows needs more stack than there is.
//
//ferrule:export
func Overflows() int {
	debug.SetMaxStack(1 << 20) // the runtime's own limit is a GiB, which takes seconds
	return deeper(0)
}

//go:noinline
func deeper(n int) int {
	if n < 0 {
		return 0
	}
	return deeper(n+1) + 1
}

// Blocks waits for what never comes, whatever its context says.
//
//ferrule:export
func Blocks() { select {} }

// Sleeps sleeps, whatever its context says.
//
//ferrule:export
func Sleeps() { time.Sleep(time.Hour) }

// Spins never ends.
//
//ferrule:export
func Spins() {
	for n := 0; ; n++ {
		_ = n
	}
}

// SpinsWithCalls never ends, and allocates.
//
//ferrule:export
func SpinsWithCalls() {
	for n := 0; ; n++ {
		_ = fmt.Sprint(n)
	}
}

// Maps writes to a map on several goroutines.
//
//ferrule:export
func Maps() {
	m := map[int]int{}
	for range 8 {
		go func() {
			for i := 0; ; i++ {
				m[i%100] = i
			}
		}()
	}
	select {}
}

// Grows takes memory without an end.
//
//ferrule:export
func Grows(how string) int {
	switch how {
	case "at once":
		grown = make([]byte, 1<<30)
		for i := 0; i < len(grown); i += 4096 {
			grown[i] = 1
		}
		return len(grown)
	case "text":
		text := "x"
		for {
			text += text
		}
	}
	for all := [][]byte{}; ; all = append(all, grown) {
		grown = make([]byte, 1<<20)
		for i := 0; i < len(grown); i += 4096 {
			grown[i] = byte(len(all))
		}
	}
}

var grown []byte

// Garbage makes n MiB of it, and has it collected while it asks the host and keeps its input.
//
//ferrule:export
func Garbage(ctx context.Context, n int) (int, error) {
	debug.SetGCPercent(5)
	kept := make([][]byte, 0, n)
	sum := 0
	for i := range n {
		b := make([]byte, 1<<20)
		b[i%len(b)] = byte(i)
		out, err := double(ctx, b[i%len(b):][:1])
		if err != nil {
			return 0, err
		}
		if len(out) != 2 || out[0] != byte(i) || out[1] != byte(i) {
			return 0, errors.New("the host function's result has changed")
		}
		if i%8 == 0 {
			runtime.GC()
		}
		if kept = append(kept, out); len(kept) > 4 {
			kept = kept[1:]
		}
		sum += int(out[1])
	}
	return sum, nil
}

// Goroutines says how many there are once those of calls that are over have ended.
//
//ferrule:export
func Goroutines() int {
	n := runtime.NumGoroutine()
	for range 100 {
		runtime.Gosched()
		n = min(n, runtime.NumGoroutine())
	}
	return n
}

// Version says by which Go it was built.
//
//ferrule:export
func Version() string { return runtime.Version() }
