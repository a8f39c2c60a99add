package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/internal/callctx"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// TraceParent is the key of WithInfo for the call's place in a trace, as the header of that name in W3C Trace Context has it.
const TraceParent = "traceparent"

// WithInfo returns a context by which a plug-in that asks its host for key during a call (host->info, rule R26) gets value: an
// application's own key, which has a dot in its name, such as "shop.tenant", and does not begin with "offers.", or TraceParent. It has
// 256 bytes at most. What a host function calls with the context that it gets has it, too. It panics for any other key, and where key
// or value is not UTF-8.
func WithInfo(ctx context.Context, key, value string) context.Context {
	if found, expected := faultOfInfo(key, value); found != "" {
		panic(fmt.Sprintf("loader.WithInfo with %s, expected %s", found, expected))
	}
	return context.WithValue(ctx, engine.InfoKey(key), value)
}

// WithPluginInfo has the plug-in get value when it asks its host for key, whoever calls it, also in ferrule_start and between calls. key
// and value are as for WithInfo, whose context comes first; each key once.
func WithPluginInfo(key, value string) Option {
	return func(o *options) error {
		found, expected := faultOfInfo(key, value)
		if _, twice := o.info[key]; twice && found == "" {
			found, expected = fmt.Sprintf("the key %q twice", key), "each key once"
		}
		if found != "" {
			return optionError("WithPluginInfo", found, expected)
		}
		if o.info == nil {
			o.info = make(map[string]string)
		}
		o.info[key] = value
		return nil
	}
}

// WithDataFolder grants the plug-in a folder of its own, an absolute path, which it gets when it asks its host for "data" (rule R26). The
// folder is the host's to make, before it calls Open, to keep from other plug-ins, and to remove. A plug-in in a sandbox may read and
// write there. What is no folder then, or is not there, is an *OpenError of the kind ErrOption.
func WithDataFolder(path string) Option {
	return once("WithDataFolder", func(o *options) error {
		if !isAbsolute(path) || !utf8.ValidString(path) {
			return optionError("WithDataFolder", fmt.Sprintf("%q", path), "an absolute path, in UTF-8")
		}
		if found := noFolder(path); found != "" {
			return &OpenError{Kind: ErrOption, Found: fmt.Sprintf("WithDataFolder with %q, %s", path, found), Expected: "a folder that is there",
				Remedy: "Make the folder before Open, or pass the path of another"}
		}
		o.data = path
		return nil
	})
}

// noFolder says what there is where a folder should be: "" where it is one.
func noFolder(path string) string {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "where there is nothing"
	case err != nil:
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = cause.Err // its text repeats the path
		}
		return "which cannot be looked at (" + err.Error() + ")"
	case !info.IsDir():
		return "which is no folder"
	}
	return ""
}

// maxInfoKey is the longest key, in bytes (rule R26).
const maxInfoKey = 256

// faultOfInfo says what is wrong with a key that an application sets, or with its value: "" where nothing is.
func faultOfInfo(key, value string) (found, expected string) {
	switch {
	case len(key) > maxInfoKey:
		return fmt.Sprintf("a key of %s", count.Of(len(key), "byte")), fmt.Sprintf("%d at most", maxInfoKey)
	case !utf8.ValidString(key):
		return fmt.Sprintf("the key %q", key), "UTF-8"
	case strings.HasPrefix(key, "offers."):
		return fmt.Sprintf("the key %q, which the contract has for what the host offers", key), "one that does not begin with \"offers.\""
	case !strings.Contains(key, ".") && key != TraceParent:
		return fmt.Sprintf("the key %q, which has no dot, as the contract's own keys", key), "a name with a dot, such as \"shop.tenant\", or loader.TraceParent"
	case !utf8.ValidString(value):
		return fmt.Sprintf("the value %q", value), "UTF-8"
	}
	return "", ""
}

// answer answers what a plug-in asks for (R26), but for what its engine knows.
func (s *services) answer(ctx context.Context, key string) ([]byte, abi.Status) {
	if value, ok := ctx.Value(engine.InfoKey(key)).(string); ok {
		return []byte(value), abi.StatusOK
	}
	if value, ok := s.info[key]; ok {
		return []byte(value), abi.StatusOK
	}
	switch {
	case key == "data" && s.data != "":
		return []byte(s.data), abi.StatusOK
	case key == engine.KeyRemaining:
		if deadline, ok := ctx.Deadline(); ok {
			return strconv.AppendInt(nil, int64(max(0, time.Until(deadline))), 10), abi.StatusOK
		}
	case strings.HasPrefix(key, "offers."):
		for i, f := range s.names {
			if f.Name == key[len("offers."):] {
				if s.funcs[i] != nil {
					return []byte("yes"), abi.StatusOK
				}
				return []byte("no"), abi.StatusOK
			}
		}
	}
	return nil, abi.StatusUnsupported
}

// WithNext returns a context for the call of a hook that wraps others (rule R33): behind is what the plug-in runs with host->next, once,
// several times or not at all, on the calling goroutine or on others. Its errors and its context are a HostFunc's. It is for this
// call alone: what host functions call with the context that they get has none of it.
func WithNext(ctx context.Context, behind HostFunc) context.Context {
	return callctx.WithNext(ctx, behind)
}

// WithProgress returns a context whose calls say how far they are, where the plug-in tells (rule R30): tell gets how much is done, and
// of how much, 0 where that is not known, in a unit of the function's own. It is called on another goroutine, for one call once
// at a time, about ten times a second as long as the numbers change, and once more at the call's end, before the call
// returns; it may not panic. The call waits for it to return: so a call of the plug-in that it makes on its goroutine, and
// that would wait for the call that it is told of, is refused (ErrReentrant). The numbers are the plug-in's word: they may
// fall, and be anything. What a host function calls with the context that it gets does not tell. A call with such a context
// costs some microseconds more.
func WithProgress(ctx context.Context, tell func(done, total uint64)) context.Context {
	return callctx.WithProgress(ctx, tell)
}
