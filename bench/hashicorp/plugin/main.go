// Command plugin is the work as a plug-in of go-plugin. With the argument grpc it serves gRPC, otherwise net/rpc.
package main

import (
	"math"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/ferrule-dev/ferrule/bench/hashicorp/shared"
	"github.com/ferrule-dev/ferrule/bench/internal/gowork"
)

func main() {
	impl := shared.Impl{
		Echo:        func(in []byte) []byte { return in },
		CountVowels: func(in []byte) []byte { return gowork.CountVowels(nil, in) },
		Fail:        gowork.Fail,
	}
	config := &plugin.ServeConfig{HandshakeConfig: shared.Handshake, Logger: hclog.NewNullLogger()}
	if len(os.Args) > 1 && os.Args[1] == "grpc" {
		config.Plugins = map[string]plugin.Plugin{shared.GRPC: &shared.GRPCPlugin{Impl: impl}}
		config.GRPCServer = func(opts []grpc.ServerOption) *grpc.Server {
			// gRPC takes messages of 4 MiB at most; go-plugin raises that on the host's side only.
			return plugin.DefaultGRPCServer(append(opts, grpc.MaxRecvMsgSize(math.MaxInt32)))
		}
	} else {
		config.Plugins = map[string]plugin.Plugin{shared.NetRPC: &shared.NetRPCPlugin{Impl: impl}}
	}
	plugin.Serve(config)
}
