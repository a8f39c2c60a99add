package builtin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
)

// A shop has a discount of its own, which a library may replace.
func Example_defaults() {
	type Cart struct {
		TotalCents int `json:"total_cents"`
	}
	type Discount struct {
		Percent int `json:"percent"`
	}
	standard := &builtin.Plugin{Name: "standard-discount", Version: "1.0.0", Threads: abi.Concurrent,
		Funcs: []builtin.Function{{Name: "discount", Call: builtin.JSON(func(_ context.Context, c Cart) (Discount, error) {
			if c.TotalCents >= 10_000 {
				return Discount{Percent: 5}, nil
			}
			return Discount{}, nil
		})}}}

	p, err := loader.Open("plugins/discount.so")
	if errors.Is(err, fs.ErrNotExist) {
		p, err = builtin.Open(standard)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	d, err := loader.CallJSON[Cart, Discount](context.Background(), p, "discount", Cart{TotalCents: 12_000})
	fmt.Println(p.Name(), d.Percent, err)
	// Output: standard-discount 5 <nil>
}

// A filter with settings, a state, an import and a log: each session has an instance of its own.
func Example_filter() {
	type counter struct{ lines int }
	number := func(ctx context.Context, _ []byte) ([]byte, error) {
		c := builtin.State(ctx).(*counter) // the instance's; no other call has it now: the plug-in is serial
		greeting, err := builtin.Import(ctx, "greeting", nil)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(builtin.Input(ctx))
		for lines.Scan() {
			c.lines++
			if _, err := fmt.Fprintf(builtin.Output(ctx), "%d %s %s\n", c.lines, greeting, lines.Text()); err != nil {
				return nil, err
			}
		}
		builtin.Log(ctx, abi.LogInfo, "done", slog.Int("lines", c.lines))
		return nil, lines.Err()
	}
	numbers := &builtin.Plugin{Name: "line-numbers", Version: "1.0.0", Imports: []string{"greeting"},
		Start: func(_ context.Context, config []byte) (any, error) {
			first, err := strconv.Atoi(string(config))
			if err != nil {
				return nil, fmt.Errorf("found settings %q, expected a number: %w", config, loader.ErrInvalid)
			}
			return &counter{first - 1}, nil
		},
		Funcs: []builtin.Function{{Name: "number", Stream: abi.StreamBoth, Call: number}}}

	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: noTime}))
	p, err := builtin.Open(numbers, loader.WithConfig([]byte("1")), loader.WithLogger(logger),
		loader.WithHostFunc("greeting", func(context.Context, []byte) ([]byte, error) { return []byte("hello"), nil }))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	session, err := p.NewSession(context.Background(), []byte("100")) // an instance of its own, with settings of its own
	if err != nil {
		fmt.Println(err)
		return
	}
	defer session.Close()
	f, err := session.Func("number")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, names := range []string{"Ada\nGrace\n", "Edsger\n"} {
		var out strings.Builder
		_, err = f.Stream(context.Background(), nil, strings.NewReader(names), &out)
		fmt.Print(out.String())
		fmt.Println(err)
	}
	// Output:
	// level=INFO msg=done plugin=line-numbers lines=101
	// 100 hello Ada
	// 101 hello Grace
	// <nil>
	// level=INFO msg=done plugin=line-numbers lines=102
	// 102 hello Edsger
	// <nil>
}

// total is a part of a host, which is to be tested: it asks a plug-in for the price of each item.
func total(ctx context.Context, p *loader.Plugin, items []string) (sum int, err error) {
	for _, item := range items {
		price, err := loader.CallJSON[string, int](ctx, p, "price", item)
		if errors.Is(err, loader.ErrInvalid) {
			continue // no such item: it costs nothing
		}
		if err != nil {
			return 0, err
		}
		sum += price
	}
	return sum, nil
}

// A unit test of a host needs no compiler: the double is a plug-in in Go, which fails as the test wants it to.
func Example_double() {
	prices := &builtin.Plugin{Name: "prices", Version: "1.0.0", Funcs: []builtin.Function{
		{Name: "price", Call: builtin.JSON(func(_ context.Context, item string) (int, error) {
			switch item {
			case "tea":
				return 250, nil
			case "poison":
				panic("a fault of the plug-in")
			}
			return 0, fmt.Errorf("no item %q: %w", item, loader.ErrInvalid)
		})}}}
	p, err := builtin.Open(prices)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	fmt.Println(total(context.Background(), p, []string{"tea", "nothing", "tea"}))
	_, err = total(context.Background(), p, []string{"poison"})
	fmt.Println(errors.Is(err, loader.ErrPanic))
	// Output:
	// 500 <nil>
	// true
}
