package main

import (
	"io"
	"os/exec"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"github.com/ferrule-dev/ferrule/bench/hashicorp/shared"
)

func init() {
	contenders["go-plugin-netrpc"] = func(e env) (*peer, error) {
		return openHashicorp(func() *exec.Cmd { return exec.Command(e.path("hashicorp-plugin")) }, shared.NetRPC)
	}
	contenders["go-plugin-grpc"] = func(e env) (*peer, error) {
		return openHashicorp(func() *exec.Cmd { return exec.Command(e.path("hashicorp-plugin"), "grpc") }, shared.GRPC)
	}
}

func openHashicorp(cmd func() *exec.Cmd, name string) (*peer, error) {
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  shared.Handshake,
		Plugins:          shared.Plugins,
		Cmd:              cmd(),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolNetRPC, plugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(),
		SyncStdout:       io.Discard,
		SyncStderr:       io.Discard,
	})
	protocol, err := client.Client()
	if err != nil {
		client.Kill()
		return nil, err
	}
	raw, err := protocol.Dispense(name)
	if err != nil {
		client.Kill()
		return nil, err
	}
	work := raw.(shared.Work)
	connect := sync.OnceValue(work.Connect)
	return &peer{
		fn: func(name string) (call, error) {
			if streams, ok := work.(shared.Streams); ok && name == "pipe" {
				return streams.Pipe, nil
			} else if ok && name == "sha256" {
				return func(_, in []byte) ([]byte, error) { return streams.Digest(in) }, nil
			}
			fn := map[string]func([]byte) ([]byte, error){
				"echo": work.Echo, "count_vowels": work.CountVowels, "ask": work.Ask, "fail": work.Fail}[name]
			if name == "ask" {
				if err := connect(); err != nil {
					return nil, err
				}
			}
			return func(_, in []byte) ([]byte, error) { return fn(in) }, nil
		},
		// A client whose plug-in has ended is of no use any more: a host starts another one.
		again: func() (*peer, error) { return openHashicorp(cmd, name) },
		close: client.Kill,
	}, nil
}
