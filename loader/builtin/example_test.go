package builtin_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

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
