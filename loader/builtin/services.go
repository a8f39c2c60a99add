package builtin

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
)

// Info asks the host what is known about the call and the plug-in, by key (rule R26): "remaining", "traceparent", "data", "instance",
// "offers.NAME", and an application's own, which have a dot in their name. What is not known is a *Refused with loader.ErrUnsupported, as
// "path" is: there is no file. ctx is as for Import.
func Info(ctx context.Context, key string) (string, error) {
	c := pool.Enter(ctx)
	if c == nil {
		return "", &Refused{"info", abi.StatusMisuse, noCall("Info")}
	}
	defer c.Exit()
	switch {
	case key == "" || len(key) > maxKey || !utf8.ValidString(key):
		return "", &Refused{"info", abi.StatusMisuse, "builtin.Info: found a key that is not UTF-8 of 1 to 256 bytes"}
	case key == engine.KeyInstance:
		return strconv.Itoa(c.Number()), nil
	}
	out, err := answer(key)(c.Host(ctx, engine.Info, []byte(key)))
	return string(out), err
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
	if c := pool.Enter(ctx); c != nil {
		defer c.Exit()
		c.Progress(done, total)
	}
}

// Next runs what stands behind a hook that wraps others, with in, and returns its result (rule R33): once, several times or not at all. The
// hook says so by the key wrap. ctx is as for Import, and so is the error; it is loader.ErrUnsupported where nothing stands behind.
func Next(ctx context.Context, in []byte) ([]byte, error) {
	c := pool.Enter(ctx)
	if c == nil {
		return nil, &Refused{"next", abi.StatusMisuse, noCall("Next")}
	}
	defer c.Exit()
	return answer("next")(c.Next(ctx, in))
}

// Input returns the call's input stream, of a function whose Stream has abi.StreamIn (rule R24). It is read until its end, or less far. A
// read waits, until the call's context ends at the longest. Its errors are *Refused: with loader.ErrFailed where the stream broke off, loader.ErrCancelled,
// and loader.ErrUnsupported where the call has no such stream, as a plain one. ctx is as for Import. Several goroutines take turns.
func Input(ctx context.Context) io.Reader { return input{ctx} }

type input struct{ ctx context.Context }

func (i input) Read(p []byte) (int, error) {
	c := pool.Enter(i.ctx)
	if c == nil {
		return 0, &Refused{inputStream, abi.StatusMisuse, noCall("Input")}
	}
	defer c.Exit()
	n, status := c.Read(p)
	switch {
	case status != abi.StatusOK:
		return 0, &Refused{Import: inputStream, Status: status}
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Output returns the call's output stream, of a function whose Stream has abi.StreamOut. What is written is copied. Several goroutines may
// write: each Write stays whole. Otherwise it is as Input.
func Output(ctx context.Context) io.Writer { return output{ctx} }

type output struct{ ctx context.Context }

func (o output) Write(p []byte) (int, error) {
	c := pool.Enter(o.ctx)
	if c == nil {
		return 0, &Refused{outputStream, abi.StatusMisuse, noCall("Output")}
	}
	defer c.Exit()
	if status := c.Write(p); status != abi.StatusOK {
		return 0, &Refused{Import: outputStream, Status: status}
	}
	return len(p), nil
}

const inputStream, outputStream = "the input stream", "the output stream"

// noCall is what is wrong with a context that is of no call in progress.
func noCall(what string) string {
	return "builtin." + what + ": found a context that is of no call in progress, expected the one that the plug-in's function was given, before it has returned"
}

// ordinal returns the ordinal of an import or a want.
func ordinal(about *abi.Description, name string) (uint32, bool) {
	named := func(s abi.Symbol, name string) int { return strings.Compare(s.Name, name) }
	at, ok := slices.BinarySearchFunc(about.Imports, name, named)
	if !ok {
		at, ok = slices.BinarySearchFunc(about.Wants, name, named)
		at += len(about.Imports)
	}
	return uint32(at), ok
}

// answer makes Import's results of what the host has said.
func answer(name string) func([]byte, abi.Status) ([]byte, error) {
	return func(out []byte, status abi.Status) ([]byte, error) {
		if status != abi.StatusOK {
			return nil, &Refused{Import: name, Status: status, Message: string(out)}
		}
		return bytes.Clone(out), nil
	}
}

// fields makes a log line's fields of attributes (rule R31); prefix is that of the groups around them.
func fields(to []byte, prefix string, attrs []slog.Attr) []byte {
	clean := strings.NewReplacer("\x00", "\uFFFD")
	for _, a := range attrs {
		value := a.Value.Resolve()
		if a.Equal(slog.Attr{}) { // as slog.Handler asks
			continue
		}
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
