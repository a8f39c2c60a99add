package builtin_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
)

// shouts stands for what ferrule gen writes into an author's package: the variable Plugin, which is of the module sdk-go.
type shouts struct{}

func (shouts) Manifest() []byte {
	return []byte(`{"name":"shouts","version":"1.0.0","functions":{"shout":{"doc":"In capitals."}},"imports":{"mark":{}}}`)
}

func (shouts) Function(name string, hook bool) (n int, ok bool) { return 0, name == "shout" && !hook }

func (shouts) Call(ctx context.Context, h builtin.Host, _ any, _ int, in []byte) (out []byte, status int32) {
	mark, status := h.Ask(ctx, "mark", nil)
	if status != 0 {
		return mark, status
	}
	return append(bytes.ToUpper(in), mark...), 0
}

func (shouts) Start(context.Context, builtin.Host, []byte) (state any, out []byte, status int32) {
	return nil, nil, 0
}
func (shouts) Stop(context.Context, builtin.Host, any) (out []byte, status int32) { return nil, 0 }
func (shouts) Configure(context.Context, builtin.Host, any, []byte) (out []byte, status int32) {
	return nil, 0
}
func (shouts) Save(context.Context, builtin.Host, any) (out []byte, status int32) { return nil, 0 }
func (shouts) Resume(context.Context, builtin.Host, any, []byte) (out []byte, status int32) {
	return nil, 0
}

// Plugin is as it stands in that package.
var Plugin builtin.Source = shouts{}

// A plug-in that was written with the Go SDK is compiled into a host, which imports its package.
func ExampleFrom() {
	p, err := builtin.Open(builtin.From(Plugin), loader.WithHostFunc("mark", func(context.Context, []byte) ([]byte, error) { return []byte("!"), nil }))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	out, err := p.Call(context.Background(), "shout", []byte("tea"))
	fmt.Println(p.Name(), string(out), err)
	// Output: shouts TEA! <nil>
}
