package builtin

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/goroutine"
)

// scope is the context that a function of the plug-in gets, and what it may use of the host by it until it returns (rule R14).
type scope struct {
	*callctx.Call
	open  *open
	inst  *instance
	users atomic.Int64 // who use it now, and whether it is over

	starts  bool // it is Start's
	outside bool // it is that of what happens between calls

	streams  atomic.Pointer[streams] // nil where the call has none
	progress [2]atomic.Uint64        // how much is done, and of how much
	idle     chan struct{}           // closed when it is over and the last of them has left; made where there are any then
}

// over is the bit of scope.users that lets nobody in any more.
const over = 1 << 62

type key struct{}

// Value adds the scope to what the context has.
func (s *scope) Value(k any) any {
	if k == (key{}) {
		return s
	}
	return s.Call.Value(k)
}

// enter returns the scope that ctx is of, for one use that exit ends; nil when it is of none whose function runs.
func enter(ctx context.Context) *scope {
	if ctx == nil {
		return nil
	}
	s, ok := ctx.Value(key{}).(*scope)
	if !ok {
		return nil
	}
	for {
		n := s.users.Load()
		if n&over != 0 {
			return nil
		}
		if s.users.CompareAndSwap(n, n+1) {
			return s
		}
	}
}

func (s *scope) exit() {
	if s.users.Add(-1) == over {
		close(s.idle)
	}
}

// serves says that this goroutine runs what the plug-in asks of the host, until the function that it returns is called.
func (s *scope) serves() (end func()) {
	if r, ok := s.Holds().(*running); ok && r.goroutine != 0 && r.goroutine == goroutine.ID() {
		return func() {} // which is known
	}
	return s.Serve()
}

// end lets nobody in any more, waits for those who are in, and ends the call.
func (s *scope) end() {
	if !s.users.CompareAndSwap(0, over) {
		s.idle = make(chan struct{})
		if s.users.Or(over) != 0 {
			<-s.idle
		}
	}
	s.End()
}

// noCall is what is wrong with a context of which enter finds no scope.
func noCall(what string) string {
	return "builtin." + what + ": found a context that is of no call in progress, expected the one that the plug-in's function was given, before it has returned"
}

// call runs a host function for the plug-in.
func (s *scope) call(ctx context.Context, name string, in []byte) ([]byte, error) {
	named := func(s abi.Symbol, name string) int { return strings.Compare(s.Name, name) }
	about := s.open.about
	ordinal, ok := slices.BinarySearchFunc(about.Imports, name, named)
	if !ok {
		ordinal, ok = slices.BinarySearchFunc(about.Wants, name, named)
		ordinal += len(about.Imports)
	}
	if !ok {
		return nil, &Refused{name, abi.StatusMisuse, fmt.Sprintf("builtin.Import: found %.140q, expected one of the plug-in's Imports or Wants", name)}
	}
	return s.ask(ctx, name, uint32(ordinal), in)
}

// ask has the host run what an ordinal stands for.
func (s *scope) ask(ctx context.Context, name string, ordinal uint32, in []byte) ([]byte, error) {
	out, status := s.hostCall(ctx, ordinal, in)
	if status != abi.StatusOK {
		return nil, &Refused{Import: name, Status: status, Message: string(out)}
	}
	return bytes.Clone(out), nil
}

// hostCall has the host run a function, whose panic is a status.
func (s *scope) hostCall(ctx context.Context, ordinal uint32, in []byte) (out []byte, status abi.Status) {
	defer s.serves()()
	defer func() {
		if value := recover(); value != nil {
			out, status = s.open.host.Panicked(ctx, ordinal, value)
		}
	}()
	return s.open.host.Call(ctx, ordinal, in)
}
