package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/ferrule-dev/ferrule/loader"
)

// shellCommand is a command line that serves an import.
type shellCommand string

// serve is the command as a host function. What it writes to its standard error goes to messages when it succeeds, and
// is the error's text when it does not.
func (c shellCommand) serve(messages *foreignLines) loader.HostFunc {
	return func(ctx context.Context, in []byte) ([]byte, error) { return c.run(ctx, in, messages) }
}

func (c shellCommand) run(ctx context.Context, in []byte, messages io.Writer) ([]byte, error) {
	cmd := inShellOf(ctx, string(c))
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	// What it has started may keep its streams open, also when it has left the command's group. A function whose context has
	// ended has to return within grace.
	cmd.WaitDelay = grace / 2
	err := cmd.Run()
	switch text := strings.TrimSpace(errs.String()); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err == nil:
		if text != "" {
			_, _ = io.WriteString(messages, text+"\n")
		}
		return out.Bytes(), nil
	case errors.Is(err, exec.ErrWaitDelay):
		return nil, fmt.Errorf("%s: it has ended, and something that it has started keeps its output open: redirect the output of that", c)
	case text != "":
		return nil, errors.New(text)
	default:
		return nil, fmt.Errorf("%s: %w", c, err)
	}
}
