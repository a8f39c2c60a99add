// Package command is what several of the examples' hosts have in common and is not about plug-ins: a command line, and an exit code.
package command

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

// Main parses a command line of flags, which are the caller's, and n arguments, and runs. It exits with 1 where run fails, and with 2
// where the command line is not what usage says, whose first word is the command's name. The context ends with an interrupt.
func Main(usage string, n int, run func(ctx context.Context, args []string) error) {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage:", usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != n {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Args()); err != nil {
		name, _, _ := strings.Cut(usage, " ")
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
