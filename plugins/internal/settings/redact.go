package settings

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
)

// shortest is how long a secret is at least for it to be redacted: a shorter one is a part of half the words there are.
const shortest = 4

// Redactor keeps secrets out of log lines. The zero Redactor has none. It is for any goroutine.
type Redactor struct {
	replacer atomic.Pointer[strings.Replacer]
}

// Set replaces the secrets. Each line of one of several lines is a secret of its own. Those of less than 4 bytes are left out.
func (r *Redactor) Set(secrets []string) {
	var all []string
	for _, secret := range secrets {
		for _, part := range append(strings.Split(secret, "\n"), secret) {
			part = strings.Trim(part, "\r\n")
			asJSON, _ := json.Marshal(part)
			quoted := strings.Trim(fmt.Sprintf("%q", part), `"`)
			for _, form := range []string{part, strings.Trim(string(asJSON), `"`), quoted} {
				if len(form) >= shortest && !slices.Contains(all, form) {
					all = append(all, form)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) }) // of two that begin alike the whole one goes
	pairs := make([]string, 0, 2*len(all))
	for _, secret := range all {
		pairs = append(pairs, secret, "[secret]")
	}
	r.replacer.Store(strings.NewReplacer(pairs...))
}

// Text returns a text without the secrets.
func (r *Redactor) Text(s string) string {
	if replacer := r.replacer.Load(); replacer != nil {
		return replacer.Replace(s)
	}
	return s
}

// Handler returns a handler that gives h records without the secrets: in the message, and in values of attributes and their groups.
// Keys are not looked at.
func (r *Redactor) Handler(h slog.Handler) slog.Handler { return handler{r, h} }

type handler struct {
	r *Redactor
	slog.Handler
}

func (h handler) Handle(ctx context.Context, record slog.Record) error {
	clean := slog.NewRecord(record.Time, record.Level, h.r.Text(record.Message), record.PC)
	record.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.r.attr(a))
		return true
	})
	return h.Handler.Handle(ctx, clean)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.r.attr(a)
	}
	return handler{h.r, h.Handler.WithAttrs(clean)}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.r, h.Handler.WithGroup(name)} }

// attr is an attribute without the secrets. A value that is no text is left as it is where its text has none.
func (r *Redactor) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		group := slices.Clone(v.Group())
		for i := range group {
			group[i] = r.attr(group[i])
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}
	case slog.KindString:
		return slog.String(a.Key, r.Text(v.String()))
	case slog.KindAny:
		if text := fmt.Sprintf("%+v", v.Any()); r.Text(text) != text {
			return slog.String(a.Key, r.Text(text))
		}
	}
	return slog.Attr{Key: a.Key, Value: v}
}
