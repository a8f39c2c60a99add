// Command sql has many users at once work with a plug-in over SQLite, each in a session of its own: 200 orders a user, of which each
// reads its own again, page by page.
//
//	sql [-isolated] [-users N] PLUGIN
package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"sync"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/examples/internal/command"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

func main() {
	isolated := flag.Bool("isolated", false, "run the plug-in in a worker process")
	users := flag.Int("users", 16, "how many users there are")
	command.Main("sql [-isolated] [-users N] PLUGIN", 1, func(ctx context.Context, args []string) error {
		return run(ctx, args[0], *isolated, *users)
	})
}

func run(ctx context.Context, plugin string, isolated bool, users int) error {
	var opts []loader.Option
	if isolated {
		opts = append(opts, isolate.InWorker())
	}
	p, err := loader.Open(plugin, opts...)
	if err != nil {
		return err
	}
	defer p.Close()
	var all sync.WaitGroup
	errs := make([]error, users)
	for i := range errs {
		all.Go(func() { errs[i] = user(ctx, p, fmt.Sprintf("user%02d", i)) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("user %d: %w", i, err)
		}
	}
	fmt.Printf("%d users read %d orders, each its own\n", users, users*orders)
	return nil
}

const orders = 200

// user writes its orders and reads them again. The database, and the cursor, are the session's.
func user(ctx context.Context, p *loader.Plugin, name string) error {
	s, err := p.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	var script strings.Builder
	script.WriteString("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT);")
	for range orders {
		fmt.Fprintf(&script, "INSERT INTO orders (customer) VALUES ('%s');", name)
	}
	if _, err := s.Call(ctx, "exec", []byte(script.String())); err != nil {
		return err
	}
	if _, err := s.Call(ctx, "query", []byte("SELECT id, customer FROM orders ORDER BY id")); err != nil {
		return err
	}
	next, err := s.Func("next")
	if err != nil {
		return err
	}
	n := 0
	for {
		page, status, err := next.Try(ctx, nil, nil)
		switch {
		case err != nil:
			return err
		case status == abi.StatusPass: // there are no more
			if n != orders {
				return fmt.Errorf("%d orders of %d", n, orders)
			}
			return nil
		case status != abi.StatusOK:
			return fmt.Errorf("%w: %s", status, page)
		}
		for row := range strings.Lines(string(page)) {
			if n++; row != fmt.Sprintf("%d\t%s\n", n, name) {
				return fmt.Errorf("row %d is %q", n, row)
			}
		}
	}
}
