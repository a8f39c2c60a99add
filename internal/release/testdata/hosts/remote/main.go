// A broker, a node and a host in one program: the host calls a plug-in in Go through the broker.
package main

import (
	"context"
	"fmt"
	"log"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

var next = &builtin.Plugin{Name: "next", Version: "1.0.0", Threads: abi.Concurrent, Funcs: []builtin.Function{
	{Name: "next", Call: func(_ context.Context, in []byte) ([]byte, error) {
		n, err := strconv.Atoi(string(in))
		return strconv.AppendInt(nil, int64(n+1), 10), err
	}},
}}

func main() {
	broker, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	if err != nil {
		log.Fatal(err)
	}
	broker.Start()
	defer broker.Shutdown()
	if !broker.ReadyForConnections(time.Minute) {
		log.Fatal("the broker takes no connections")
	}
	ctx, leave := context.WithCancel(context.Background())
	ready, left := make(chan string, 1), make(chan error, 1)
	go func() {
		left <- nats.Serve(ctx, serve.Go(next), nats.Node{Servers: broker.ClientURL(), Ready: func(id string) { ready <- id }})
	}()
	select {
	case <-ready:
	case err := <-left:
		log.Fatal(err)
	}
	p, err := loader.Open(broker.ClientURL()+"/next@^1", nats.Plugin())
	if err != nil {
		log.Fatal(err)
	}
	out, err := p.Call(context.Background(), "next", []byte("41"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s\n", p.Name(), out)
	if err := p.Close(); err != nil {
		log.Fatal(err)
	}
	leave()
	if err := <-left; err != nil {
		log.Fatal(err)
	}
}
