package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

func init() { verbs = append(verbs, topVerb) }

func topVerb(a *app) *cobra.Command {
	t := &top{app: a, interval: time.Second, sort: "name"}
	cmd := &cobra.Command{
		Use:   "top SOCKET",
		Short: "Show what the plug-ins of a running application do, every second",
		Long: `Show the plug-ins of an application that runs, in a table on the whole terminal, which is renewed at each interval: what each is, and what its calls
came to. The application serves that on a unix socket (package plugins/monitor), whose path is SOCKET.

The columns, some of which a narrow terminal has no room for:
  NAME      of the plug-in
  VERSION   that runs, or would run
  STATE     ready, started, suspended, failed … (ferrule list says what they mean)
  RUNS      in-process, isolated, sidecar, or the name of the group whose worker it shares
  CALLS/S   calls in each second since the table before
  CALLS     since the application has started, all versions together
  ERRORS    calls that failed
  CRASHED   of these: the worker has crashed
  LATE      of these: the time was over
  MEAN      time of a call, of those that were timed: about one of 64
  LONGEST   of these
  RESTARTS  workers after the first
  MEMORY    of the worker, which those of a group share; a plug-in in the application's process has none of its own

A dash is what is not known. Where the application does not count calls, all columns about calls are dashes. Below the table it says why a plug-in fails, or why its
hook is left out for a while.

The keys:
  n s p c e t l r m   sort by name, state, calls per second, calls, errors, mean time, longest time, restarts, memory
  i                   turn the order round
  arrows, j k         move down and up, where there are more plug-ins than lines; PgUp and PgDn by pages
  q, Ctrl-C           end; Ctrl-Z suspends it, and fg resumes, where there is a shell

Exit codes:
  0    done
  1    what answers at SOCKET is no such application, or has another version of the form
  2    the command line is wrong, or SOCKET is no socket that this user may connect to
  6    nobody serves at SOCKET, or not any more, or has other clients, or (with --once or --json) does not answer in 5 seconds: another try may do
  130  interrupted

With --json there is one object in each line, at each interval, of an application as a whole: format (1; it grows only), time, app, version, pid, memory (bytes; absent where
not known), counting (whether calls are counted), config (with since and error: a config.yaml that was not
taken over; else not there) and plugins, each with
  name, version, state, runs (in-process, isolated, sidecar, group), group, enabled, required, replaced, restarts
  worker (the process id), memory (bytes of the worker), error, retry_at, left_out_ns
  calls    where they are counted: calls, passed, failed, crashed, late, timed, time_ns (of the timed ones), longest_ns
  counted  the same of each hook and function by itself, with point or function, left_out_ns, and error
           (its last failure) where it is left out`,
		Example: `  ferrule top /run/shop/plugins.sock
  ferrule top --sort errors --interval 5s /run/shop/plugins.sock
  ferrule top --once /run/shop/plugins.sock
  ferrule top --once --json /run/shop/plugins.sock | jq -r '.plugins[] | select(.state == "failed") | .error'`,
		Args: arguments("SOCKET"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(_ *cobra.Command, args []string) error { return t.run(args[0]) },
	}
	cmd.Flags().DurationVar(&t.interval, "interval", t.interval, "how long to wait between two tables: a `TIME` from 100ms to 1m")
	cmd.Flags().StringVar(&t.sort, "sort", t.sort, "sort by a `COLUMN`: "+strings.Join(sortNames(), ", "))
	cmd.Flags().BoolVar(&t.once, "once", false, "print one table, after one interval, and end; no terminal is needed")
	if err := cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(sortNames(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is there
	}
	return cmd
}

// top is the verb top.
type top struct {
	*app
	interval time.Duration
	sort     string
	once     bool
}

func (t *top) run(path string) error {
	by := sortColumn(t.sort)
	switch {
	case by < 0:
		return usage("--sort "+t.sort, "one of "+strings.Join(sortNames(), ", "), didYouMean(t.sort, sortNames()))
	case t.interval < 100*time.Millisecond || t.interval > time.Minute:
		return usage(fmt.Sprintf("--interval %v", t.interval), "100ms to 1m", "")
	case t.once || t.json:
		ctx, stop := interruptible(0)
		defer stop()
		defer endSoon(ctx)()
		if t.json {
			return fromHost(t.stream(ctx, path))
		}
		return fromHost(t.table(ctx, path, by))
	case !draws(t.out):
		return usage("a standard output that is no terminal on which a table can be drawn", "one that is", "Print one table with --once, or objects with --json")
	}
	return fromHost(t.show(path, by))
}

// fromHost gives an error of asking an application its exit code.
func fromHost(err error) error {
	switch {
	case errors.Is(err, monitor.ErrNoHost), errors.Is(err, monitor.ErrBusy):
		return &exit{code: exitUnavailable, err: err}
	case errors.Is(err, monitor.ErrPath):
		return &exit{code: exitUsage, err: err}
	}
	return failure(err)
}

// answerWithin is how long an application may take to answer where nobody sees that it does not.
const answerWithin = 5 * time.Second

// answered asks an application in that time.
func answered[T any](ctx context.Context, path string, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerWithin, &monitor.Error{Path: path, Found: fmt.Sprintf("no answer in %v", answerWithin), Expected: "a picture of plug-ins",
		Kind: monitor.ErrNoHost, Remedy: "Look whether the host is stopped, or this is another program's socket"})
	defer cancel()
	return ask(ctx)
}

// reach connects to an application in that time.
func reach(ctx context.Context, path string) (*monitor.Client, error) {
	return answered(ctx, path, func(ctx context.Context) (*monitor.Client, error) { return monitor.Dial(ctx, path) })
}

// pause waits for an interval, or until ctx ends.
func (t *top) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(t.interval):
		return nil
	}
}

// stream prints each picture as a line of JSON.
func (t *top) stream(ctx context.Context, path string) error {
	host, err := reach(ctx, path)
	if err != nil {
		return err
	}
	defer host.Close()
	for {
		seen, err := answered(ctx, path, host.Snapshot)
		if err != nil {
			return err
		}
		line, err := json.Marshal(seen)
		if err != nil {
			return err
		}
		if _, err := t.out.Write(append(escape.JSON(line), '\n')); err != nil || t.once {
			return err
		}
		if err := t.pause(ctx); err != nil {
			return err
		}
	}
}

// table prints one table. It takes two pictures for it: how many calls there are in a second shows between them.
func (t *top) table(ctx context.Context, path string, by int) error {
	host, err := reach(ctx, path)
	if err != nil {
		return err
	}
	defer host.Close()
	before, err := answered(ctx, path, host.Snapshot)
	if err != nil {
		return err
	}
	if err := t.pause(ctx); err != nil {
		return err
	}
	seen, err := answered(ctx, path, host.Snapshot)
	if err != nil {
		return err
	}
	b := board{by: by, paint: painter(t.out)}
	b.take(before)
	b.take(seen)
	_, err = io.WriteString(t.out, strings.Join(b.whole(), "\n")+"\n")
	return err
}

// show shows tables on the whole terminal, until somebody ends it.
func (t *top) show(path string, by int) (err error) {
	signals := make(chan os.Signal, 1)
	notify(signals)
	ctx, end := context.WithCancel(context.Background())
	defer end()
	interrupted, interrupt := context.WithCancel(ctx)
	go func() {
		select {
		case <-signals:
			interrupt()
		case <-ctx.Done():
		}
	}()
	host, err := monitor.Dial(interrupted, path)
	if err != nil {
		return err
	}
	type answer struct {
		seen *monitor.Snapshot
		err  error
	}
	answers := make(chan answer)
	go func() { // it alone has the client
		defer host.Close()
		for {
			seen, err := host.Snapshot(ctx)
			select {
			case answers <- answer{seen, err}:
			case <-ctx.Done():
				return
			}
			if err != nil || t.pause(ctx) != nil {
				return
			}
		}
	}()
	b := board{by: by, paint: painter(t.out), socket: path}
	last := time.Now()
	select {
	case a := <-answers: // before the terminal changes: what is wrong from the start is said as any error is
		if a.err != nil {
			return a.err
		}
		b.take(a.seen)
		last = time.Now()
	case <-interrupted.Done():
		return interrupted.Err()
	case <-time.After(time.Second): // then the screen says that it waits
	}
	screen, err := openScreen(t.in, t.out.(*os.File))
	if err != nil {
		return err
	}
	defer screen.close()
	defer context.AfterFunc(interrupted, screen.leaveSoon)()

	suspensions := make(chan os.Signal, 1)
	heedSuspension(suspensions)

	suspended := func(all bool) error {
		err := screen.suspend(all)
		last = time.Now() // nobody has listened meanwhile
		return err
	}
	look := time.NewTicker(200 * time.Millisecond) // at the terminal's size, and whether the application still answers
	defer look.Stop()
	for {
		b.silent = 0
		if silent := time.Since(last); b.seen == nil || silent > t.interval+2*time.Second {
			b.silent = silent
		}
		if err := screen.draw(&b); err != nil {
			return err
		}
		select {
		case a := <-answers:
			if a.err != nil {
				return a.err
			}
			b.take(a.seen)
			last = time.Now()
		case k, more := <-screen.keys:
			switch {
			case !more:
				screen.keys = nil // nobody types any more
			case k == keyInterrupt:
				return &exit{code: exitInterrupted}
			case k == 'q':
				return nil
			case k == keySuspend:
				if err := suspended(true); err != nil {
					return err
				}
			default:
				b.key(k)
			}
		case <-suspensions:
			if err := suspended(false); err != nil {
				return err
			}
		case <-interrupted.Done():
			return &exit{code: exitInterrupted}
		case <-look.C:
		}
	}
}
