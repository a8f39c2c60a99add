package builtin_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
)

// A host opens plug-ins in Go by their names, and any other path as native code.
func ExampleEngine() {
	var greet builtin.Func = func(_ context.Context, in []byte) ([]byte, error) {
		return append([]byte("hello, "), in...), nil
	}
	greeter := &builtin.Plugin{Name: "greeter", Version: "1.0.0",
		Funcs: []builtin.Function{{Name: "greet", Doc: "Greets.", Call: greet}}}
	about, err := builtin.Describe(greeter)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(about.Funcs[0].Name, about.Funcs[0].Doc)

	engines := []loader.Option{loader.WithEngine(builtin.Engine(greeter)), loader.WithEngine(loader.Native())}
	p, err := loader.Open("greeter", engines...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	out, err := p.Call(context.Background(), "greet", []byte("Ada"))
	fmt.Println(string(out), err)
	_, err = loader.Open("greeter.txt", engines...)
	fmt.Println(errors.Is(err, loader.ErrRead))
	// Output:
	// greet Greets.
	// hello, Ada <nil>
	// true
}

// A plug-in uses what its host may offer, and does without where it does not.
func ExampleOffered() {
	price := func(ctx context.Context, item []byte) ([]byte, error) {
		if !builtin.Offered(ctx, "discount") {
			return []byte("250"), nil
		}
		out, err := builtin.Import(ctx, "discount", item)
		var refused *builtin.Refused
		if errors.As(err, &refused) && refused.Status == loader.ErrInvalid {
			return []byte("250, as " + refused.Import + " refused: " + refused.Message), nil
		}
		return out, err
	}
	prices := &builtin.Plugin{Name: "prices", Version: "1.0.0", Wants: []string{"discount"},
		Funcs: []builtin.Function{{Name: "price", Call: price}}}
	discount := loader.WithHostFunc("discount", func(_ context.Context, item []byte) ([]byte, error) {
		if string(item) == "tea" {
			return []byte("200"), nil
		}
		return nil, fmt.Errorf("no discount on %s: %w", item, loader.ErrInvalid)
	})
	for _, opts := range [][]loader.Option{nil, {discount}} {
		p, err := builtin.Open(prices, opts...)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer p.Close()
		for _, item := range []string{"tea", "rice"} {
			out, err := p.Call(context.Background(), "price", []byte(item))
			fmt.Println(item, string(out), err)
		}
	}
	// Output:
	// tea 250 <nil>
	// rice 250 <nil>
	// tea 200 <nil>
	// rice 250, as discount refused: no discount on rice <nil>
}

// A function asks its host what is known of the call, and says how far it is.
func ExampleInfo() {
	work := func(ctx context.Context, _ []byte) ([]byte, error) {
		tenant, err := builtin.Info(ctx, "shop.tenant")
		if err != nil {
			return nil, err
		}
		for i := range uint64(3) {
			builtin.Progress(ctx, i+1, 3)
		}
		return []byte("done for " + tenant), nil
	}
	worker := &builtin.Plugin{Name: "worker", Version: "1.0.0", Funcs: []builtin.Function{{Name: "work", Call: work}}}
	p, err := builtin.Open(worker)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	var last string
	ctx := loader.WithProgress(context.Background(), func(done, total uint64) { last = fmt.Sprintf("%d of %d", done, total) })
	out, err := p.Call(loader.WithInfo(ctx, "shop.tenant", "ada"), "work", nil)
	fmt.Println(string(out), err)
	fmt.Println(last)
	// Output:
	// done for ada <nil>
	// 3 of 3
}

// A hook stands around what its host does by itself.
func ExampleNext() {
	twice := func(ctx context.Context, in []byte) ([]byte, error) {
		first, err := builtin.Next(ctx, in)
		if err != nil {
			return nil, err
		}
		second, err := builtin.Next(ctx, in)
		return append(first, second...), err
	}
	p, err := builtin.Open(&builtin.Plugin{Name: "twice", Version: "1.0.0",
		Hooks: []builtin.Function{{Name: "print", Keys: map[string]string{"wrap": "yes"}, Call: twice}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	hook, err := p.Hook("print")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := loader.WithNext(context.Background(), func(_ context.Context, in []byte) ([]byte, error) {
		return append(in[:len(in):len(in)], '!'), nil
	})
	out, err := hook.Call(ctx, []byte("tea"))
	fmt.Println(string(out), err)
	// Output: tea!tea! <nil>
}

// A plug-in works while no call runs, until it is stopped.
func ExampleBackground() {
	watch := func(ctx context.Context, _ []byte) (any, error) {
		between, err := builtin.Background(ctx)
		if err != nil {
			return nil, err
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = builtin.Import(between, "changed", []byte("stock")) // the host hears of it whenever it happens
			<-between.Done()
		}()
		return ended, nil
	}
	watcher := &builtin.Plugin{Name: "watcher", Version: "1.0.0", Imports: []string{"changed"}, Start: watch,
		Stop: func(state any) { <-state.(chan struct{}) }}
	told := make(chan string, 1)
	p, err := builtin.Open(watcher, loader.WithHostFunc("changed", func(_ context.Context, in []byte) ([]byte, error) {
		told <- string(in)
		return nil, nil
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-told, "changed")
	fmt.Println(p.Close())
	// Output:
	// stock changed
	// <nil>
}
