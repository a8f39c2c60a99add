package builtin

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/stream"
)

// Info asks the host what is known about the call and the plug-in, by key (rule R26): "remaining", "traceparent", "data", "instance",
// "offers.NAME", and an application's own, which have a dot in their name. What is not known is a *Refused with loader.ErrUnsupported, as
// "path" is: there is no file. ctx is as for Import.
func Info(ctx context.Context, key string) (string, error) {
	s := enter(ctx)
	if s == nil {
		return "", &Refused{"info", abi.StatusMisuse, noCall("Info")}
	}
	defer s.exit()
	switch {
	case key == "" || len(key) > maxKey || !utf8.ValidString(key):
		return "", &Refused{"info", abi.StatusMisuse, "builtin.Info: found a key that is not UTF-8 of 1 to 256 bytes"}
	case key == engine.KeyInstance:
		return strconv.Itoa(s.inst.number), nil
	}
	out, status := s.hostCall(ctx, engine.Info, []byte(key))
	if status != abi.StatusOK {
		return "", &Refused{Import: key, Status: status, Message: string(out)}
	}
	return string(out), nil
}

// maxKey is the longest key, in bytes (rule R26).
const maxKey = 256

// Offered reports whether the host offers the function with this name, of the plug-in's Imports and Wants. ctx is as for Import; where that
// is refused, it is not.
func Offered(ctx context.Context, name string) bool {
	answer, err := Info(ctx, "offers."+name)
	return err == nil && answer == "yes"
}

// Progress says how far the call is, for who asks with loader.WithProgress (rule R30): how much is done, and of how much, 0 where that is
// not known, in a unit of the function's own. It costs little: use it often. ctx is as for Import; where that is refused, nobody is told.
func Progress(ctx context.Context, done, total uint64) {
	if s := enter(ctx); s != nil {
		defer s.exit()
		s.progress[1].Store(total)
		s.progress[0].Store(done)
	}
}

// Next runs what stands behind a hook that wraps others, with in, and returns its result (rule R33): once, several times or not at all. The
// hook says so by the key wrap. ctx is as for Import, and so is the error; it is loader.ErrUnsupported where nothing stands behind.
func Next(ctx context.Context, in []byte) ([]byte, error) {
	s := enter(ctx)
	if s == nil {
		return nil, &Refused{"next", abi.StatusMisuse, noCall("Next")}
	}
	defer s.exit()
	return s.ask(behind{ctx, s}, "next", engine.Next, in)
}

// behind is a context that knows what stands behind its call.
type behind struct {
	context.Context
	s *scope
}

// Next is what the host asks for.
func (b behind) Next() any { return b.s.Next() }

// Input returns the call's input stream, of a function whose Stream has abi.StreamIn (rule R24). It is read until its end, or less far. A
// read waits, until the call's context ends at the longest. Its errors are *Refused: with loader.ErrFailed where the stream broke off, loader.ErrCancelled,
// and loader.ErrUnsupported where the call has no such stream, as a plain one. ctx is as for Import. Several goroutines take turns.
func Input(ctx context.Context) io.Reader { return input{ctx} }

type input struct{ ctx context.Context }

func (i input) Read(p []byte) (int, error) {
	s := enter(i.ctx)
	if s == nil {
		return 0, &Refused{inputStream, abi.StatusMisuse, noCall("Input")}
	}
	defer s.exit()
	st := s.streams.Load()
	if st == nil || st.source == nil {
		return 0, &Refused{Import: inputStream, Status: abi.StatusUnsupported}
	}
	st.reading.Lock()
	defer st.reading.Unlock()
	if len(st.rest) == 0 && len(p) > 0 && !st.atEnd {
		piece, status := []byte(nil), abi.StatusCancelled
		if !st.asked() {
			piece, status = st.source.Next(st.done)
		}
		if status != abi.StatusOK {
			return 0, &Refused{Import: inputStream, Status: status}
		}
		st.rest, st.atEnd = piece, len(piece) == 0
	}
	if len(st.rest) == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	n := copy(p, st.rest)
	st.rest = st.rest[n:]
	return n, nil
}

// Output returns the call's output stream, of a function whose Stream has abi.StreamOut. What is written is copied. Several goroutines may
// write: each Write stays whole. Otherwise it is as Input.
func Output(ctx context.Context) io.Writer { return output{ctx} }

type output struct{ ctx context.Context }

func (o output) Write(p []byte) (int, error) {
	s := enter(o.ctx)
	if s == nil {
		return 0, &Refused{outputStream, abi.StatusMisuse, noCall("Output")}
	}
	defer s.exit()
	st := s.streams.Load()
	if st == nil || st.sink == nil {
		return 0, &Refused{Import: outputStream, Status: abi.StatusUnsupported}
	}
	st.writing.Lock()
	defer st.writing.Unlock()
	status := abi.StatusCancelled
	if !st.asked() {
		status = st.sink.Put(st.done, p)
	}
	if status != abi.StatusOK {
		return 0, &Refused{Import: outputStream, Status: status}
	}
	return len(p), nil
}

const inputStream, outputStream = "the input stream", "the output stream"

// streams are those of a call.
type streams struct {
	done             <-chan struct{} // the call's context's, or, of a call with a limit, over
	over             chan struct{}   // closed when the call is asked to stop; nil without a limit
	stopped          sync.Once       // over is closed
	reading, writing sync.Mutex
	source           stream.Source // or nil; guarded by reading, as what follows
	rest             []byte        // of the last piece
	atEnd            bool
	sink             stream.Sink // or nil; guarded by writing
}

func newStreams(st *stream.Streams, done <-chan struct{}, limit *engine.Limit) *streams {
	s := &streams{done: done}
	if limit != nil {
		s.over = make(chan struct{})
		s.done = s.over
	}
	if st.In != nil {
		s.source = stream.NewSource(st.In)
	}
	if st.Out != nil {
		s.sink = stream.NewSink(st.Out)
	}
	return s
}

// stop wakes who waits in one, where the call has a limit: it was asked to stop.
func (s *streams) stop() { s.stopped.Do(func() { close(s.over) }) }

// asked reports whether the call was asked to stop.
func (s *streams) asked() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// end ends both, and wakes who waits in one. It is for one goroutine, once.
func (s *streams) end() {
	if s != nil && s.source != nil {
		s.source.End()
	}
	if s != nil && s.sink != nil {
		s.sink.End()
	}
}

// fields makes a log line's fields of attributes (rule R31); prefix is that of the groups around them.
func fields(to []byte, prefix string, attrs []slog.Attr) []byte {
	clean := strings.NewReplacer("\x00", "\uFFFD")
	for _, a := range attrs {
		value := a.Value.Resolve()
		if value.Kind() == slog.KindGroup {
			inner := prefix
			if a.Key != "" {
				inner += a.Key + "."
			}
			to = fields(to, inner, value.Group())
			continue
		}
		to = append(to, strings.ReplaceAll(clean.Replace(prefix+a.Key), "=", "_")...)
		to = append(to, '=')
		to = append(append(to, clean.Replace(value.String())...), 0)
	}
	return to
}
