// Package small has one of each kind, and nothing that does harm: for what the command does with plug-ins in Go.
//
//ferrule:plugin name=small version=1.0.0 threads=concurrent state=small-1 config=`{"type":"object","properties":{"first":{"type":"integer"}}}`
package small

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	ferrule "github.com/ferrule-dev/ferrule/sdk-go"
)

//go:generate ferrule gen

// Settings is the configuration.
type Settings struct {
	First int64 `json:"first"`
	Leaks bool  `json:"leaks"` // that each instance, and each call of echo, leaves memory behind
	Keeps bool  `json:"keeps"` // that each instance leaves a thread behind
	Grows bool  `json:"grows"` // that the first instance has Go's runtime make threads, which that keeps
}

// Counter is what an instance has.
type Counter struct {
	n     atomic.Int64
	leaks bool
}

var left struct {
	sync.Mutex
	all [][]byte
}

func (n *Counter) leave() {
	if n.leaks {
		left.Lock()
		defer left.Unlock()
		left.all = append(left.all, make([]byte, 4<<10))
	}
}

var grow = sync.OnceFunc(func() {
	const threads = 8
	var there sync.WaitGroup
	there.Add(threads)
	back := make(chan struct{})
	for range threads {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			there.Done()
			<-back
		}()
	}
	there.Wait()
	close(back)
})

// Rate says what a customer pays.
//
//ferrule:want
var rate func(ctx context.Context, customer string) ([]byte, error)

// New begins to count.
//
//ferrule:start
func New(c Settings) (*Counter, error) {
	if c.First < 0 {
		return nil, fmt.Errorf("first is %d, expected 0 or more: %w", c.First, ferrule.ErrInvalid)
	}
	n := &Counter{leaks: c.Leaks}
	n.n.Store(c.First)
	n.leave()
	if c.Keeps {
		go func() {
			runtime.LockOSThread()
			select {}
		}()
	}
	if c.Grows {
		grow()
	}
	return n, nil
}

// Configure begins anew.
//
//ferrule:configure
func (n *Counter) Configure(c Settings) error {
	if c.First < 0 {
		return fmt.Errorf("first is %d, expected 0 or more: %w", c.First, ferrule.ErrInvalid)
	}
	n.n.Store(c.First)
	return nil
}

// Save hands the count over.
//
//ferrule:save
func (n *Counter) Save() int64 { return n.n.Load() }

// Resume takes it over.
//
//ferrule:resume
func (n *Counter) Resume(count int64) error {
	n.n.Store(count)
	return nil
}

// Next counts.
//
//ferrule:export
func (n *Counter) Next() int64 { return n.n.Add(1) }

// CountVowels counts the vowels of a text.
//
//ferrule:export
func CountVowels(text string) int {
	n := 0
	for _, r := range text {
		if strings.ContainsRune("aeiouAEIOU", r) {
			n++
		}
	}
	return n
}

// Echo gives its input back.
//
//ferrule:export
func (n *Counter) Echo(in []byte) []byte {
	n.leave()
	return in
}

// Pays says what a customer pays.
//
//ferrule:export
func Pays(ctx context.Context, customer string) (string, error) {
	ferrule.Logger(ctx).Debug("asked", "customer", customer)
	if !ferrule.Offered(ctx, "rate") {
		return "", fmt.Errorf("nobody knows the rate: %w", ferrule.ErrUnsupported)
	}
	out, err := rate(ctx, customer)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%q pays %q", customer, out), nil
}

// Capitals writes what it reads, in capitals.
//
//ferrule:export
func Capitals(in io.Reader, out io.Writer) (int, error) {
	n := 0
	for b := make([]byte, 4096); ; {
		m, err := in.Read(b)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += m
		if _, err := out.Write(bytes.ToUpper(b[:m])); err != nil {
			return n, err
		}
	}
}

// Around stands around the hooks behind it.
//
//ferrule:hook around wrap=yes
func Around(ctx context.Context, in []byte) ([]byte, error) {
	if len(in) == 0 {
		return nil, ferrule.ErrPass
	}
	return ferrule.Next(ctx, in)
}
