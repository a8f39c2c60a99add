package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
)

// shellCommand is a command line that serves an import.
type shellCommand string

// importCommands reads NAME=COMMAND for each import.
func importCommands(list []string) (map[string]shellCommand, error) {
	commands := make(map[string]shellCommand, len(list))
	for _, text := range list {
		name, line, ok := strings.Cut(text, "=")
		switch {
		case !ok || strings.TrimSpace(line) == "":
			return nil, usage("--import %s: give NAME=COMMAND, such as 'upper=tr a-z A-Z'", text)
		case !abi.ValidName(name):
			return nil, usage("--import %s: %q cannot be an import's name, which is a C identifier", text, name)
		case commands[name] != "":
			return nil, usage("--import %s: there are two commands for %s", text, name)
		}
		commands[name] = shellCommand(line)
	}
	return commands, nil
}

// serve is the command as a host function. What it writes to its standard error goes to messages when it succeeds, and
// is the error's text when it does not.
func (c shellCommand) serve(messages io.Writer) loader.HostFunc {
	return func(ctx context.Context, in []byte) ([]byte, error) {
		cmd := inShellOf(ctx, string(c))
		var out, errs bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
		cmd.WaitDelay = grace // what it has started may keep its streams open
		err := cmd.Run()
		switch text := strings.TrimSpace(errs.String()); {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			_, _ = messages.Write(errs.Bytes())
			return out.Bytes(), nil
		case text != "":
			return nil, errors.New(text)
		default:
			return nil, fmt.Errorf("%s: %w", c, err)
		}
	}
}
