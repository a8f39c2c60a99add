// A host with a system of plug-ins: it finds a library in a folder, which config.yaml names, and asks it and a plug-in in Go at a point.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// text is the codec of a plug-in whose values are texts.
type text struct{}

func (text) Marshal(v any) ([]byte, error) { return []byte(v.(string)), nil }
func (text) Unmarshal(data []byte, v any) error {
	*v.(*string) = string(data)
	return nil
}

func main() {
	config := fmt.Sprintf("folders: [%q]\nplugins:\n  - {name: museum-c, config: 41, grant: [upper, refuse]}\n", filepath.Dir(os.Args[1]))
	if err := os.WriteFile("config.yaml", []byte(config), 0o666); err != nil {
		log.Fatal(err)
	}
	dated := &builtin.Plugin{Name: "dated", Version: "1.0.0", Threads: abi.Concurrent, Hooks: []builtin.Function{
		{Name: "before_save", Call: func(_ context.Context, in []byte) ([]byte, error) {
			return append(in[:len(in):len(in)], ", today"...), nil
		}}}}
	sys := plugins.New("shop", "1.0.0", plugins.Config("config.yaml"), plugins.Builtin(dated))
	defer sys.Close()
	same := func(_ context.Context, in string) (string, error) { return in, nil }
	plugins.Offer(sys, "upper", same, plugins.With(text{}))
	plugins.Offer(sys, "refuse", same, plugins.With(text{}))
	save := plugins.Pipe[string](sys, "before_save", plugins.Codec(text{}))
	if err := sys.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	saved, err := save.Call(context.Background(), "a letter")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(saved)
	for _, p := range sys.List() {
		if p.Err != nil {
			fmt.Println(p.Err)
		}
	}
}
