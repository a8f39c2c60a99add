package loader_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
)

// openExample opens the plug-in of the examples, the fixture services. Where no compiler is that makes it, it is its double in Go.
func openExample(opts ...loader.Option) (*loader.Plugin, error) {
	opts = append(opts, loader.WithHostFunc("needed", func(context.Context, []byte) ([]byte, error) { return nil, nil }))
	path, ok := fixture.OfExample("services")
	if !ok {
		return builtin.Open(double(path), opts...)
	}
	return loader.Open(path, opts...)
}

// What the host needs of a plug-in is asked for when it is opened: nothing of another one runs.
func ExampleRequire() {
	for _, functions := range []string{"swap add", "swap resize"} {
		p, err := openExample(loader.Require(strings.Fields(functions)...), loader.RequireVersion("^1.1"))
		if missing := new(loader.OpenError); errors.As(err, &missing) && missing.Kind == loader.ErrMissingFunc {
			fmt.Printf("found %s, expected %s\n", missing.Found, missing.Expected)
			continue
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		defer p.Close()
		fmt.Println("opened", p.Name())
	}
	// Output:
	// opened services
	// found no function resize, expected all that the host calls: swap, resize
}

// A filter is a stream function that reads and writes: it takes any io.Reader, and gives to any io.Writer.
func ExampleFunc_Stream() {
	p, err := openExample()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	swap, err := p.Func("swap")
	if err != nil {
		fmt.Println(err)
		return
	}
	var w bytes.Buffer
	_, err = swap.Stream(context.Background(), nil, strings.NewReader("Any Length"), &w)
	fmt.Println(w.String(), err)
	// Output: aNY lENGTH <nil>
}

// A hook that mostly has nothing to say costs no error.
func ExampleFunc_Try() {
	p, err := openExample()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	hook, err := p.Hook("pass")
	if err != nil {
		fmt.Println(err)
		return
	}
	out, status, err := hook.Try(context.Background(), nil, []byte("a cart"))
	switch {
	case err != nil: // it did not run
		fmt.Println(err)
	case status == loader.ErrPass:
		fmt.Println("nothing to say")
	case status != 0:
		fmt.Printf("%v: %s\n", status, out) // its message
	default:
		fmt.Printf("%s\n", out)
	}
	// Output: nothing to say
}

// A session keeps what belongs together across calls: nobody else's calls meet its instance.
func ExamplePlugin_NewSession() {
	ctx := context.Background()
	p, err := openExample()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	s, err := p.NewSession(ctx, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	for range 2 {
		n, err := s.Call(ctx, "add", nil)
		fmt.Println("in the session:", string(n), err)
	}
	n, err := p.Call(ctx, "add", nil)
	fmt.Println("elsewhere:", string(n), err)
	// Output:
	// in the session: 1 <nil>
	// in the session: 2 <nil>
	// elsewhere: 1 <nil>
}

// All instances take the new settings, or none does.
func ExamplePlugin_Configure() {
	ctx := context.Background()
	p, err := openExample(loader.WithConfig([]byte("quiet")))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	for _, config := range []string{"loud", "refused"} {
		err := p.Configure(ctx, []byte(config))
		if errors.Is(err, loader.ErrInvalid) {
			fmt.Println("these are no settings:", config)
		} else if err != nil {
			fmt.Println(err)
		}
		now, err := p.Call(ctx, "config", nil)
		fmt.Println(string(now), err)
	}
	// Output:
	// loud <nil>
	// these are no settings: refused
	// loud <nil>
}

// The successor goes on where the plug-in was; here it is the same file, which may have been replaced.
func ExamplePlugin_Handover() {
	ctx := context.Background()
	p, err := openExample()
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := p.Call(ctx, "add", nil); err != nil {
		fmt.Println(err)
	}
	successor, err := p.Handover(ctx, func(s *loader.State) (*loader.Plugin, error) {
		return openExample(loader.WithState(s))
	})
	if err != nil {
		fmt.Println(err) // p goes on as it was
		p.Close()
		return
	}
	defer successor.Close()
	n, err := successor.Call(ctx, "add", nil)
	fmt.Println(string(n), err)
	_, err = p.Call(ctx, "add", nil)
	fmt.Println(errors.Is(err, loader.ErrClosed))
	// Output:
	// 2 <nil>
	// true
}

// What the application knows of a call goes with its context.
func ExampleWithInfo() {
	p, err := openExample()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	ctx := loader.WithInfo(context.Background(), "shop.tenant", "ada")
	tenant, err := p.Call(ctx, "info", []byte("shop.tenant")) // the function asks its host for the key in its input
	fmt.Println(string(tenant), err)
	// Output: ada <nil>
}

// The function is told ten times a second, and at the call's end.
func ExampleWithProgress() {
	p, err := openExample()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	var last string
	ctx := loader.WithProgress(context.Background(), func(done, total uint64) {
		last = fmt.Sprintf("%d of %d", done, total)
	})
	_, err = p.Call(ctx, "progress", nil)
	fmt.Println(last, err)
	// Output: 500 of 500 <nil>
}
