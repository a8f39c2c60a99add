// registries serves a registry of somebody else's on loopback, for the tests of package oci: they build it, and it ends with its standard input. It is a
// module of its own, in no go.work: who uses package oci gets nothing of it.
//
//	registries distribution CONFIG   CNCF distribution, with its own configuration in JSON (which is YAML)
//	registries tiny                  the registry of go-containerregistry, in memory
//
// The first line that it writes is its address.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/sirupsen/logrus"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

func handler(args []string) (http.Handler, error) {
	switch {
	case len(args) == 1 && args[0] == "tiny":
		return registry.New(registry.Logger(log.New(io.Discard, "", 0))), nil
	case len(args) == 2 && args[0] == "distribution":
		file, err := os.Open(args[1])
		if err != nil {
			return nil, err
		}
		defer file.Close()
		config, err := configuration.Parse(file)
		if err != nil {
			return nil, err
		}
		logrus.SetOutput(io.Discard) // it calls what is not there an error
		return handlers.NewApp(context.Background(), config), nil
	}
	return nil, fmt.Errorf("found %q, expected tiny, or distribution and a configuration", args)
}

func main() {
	h, err := handler(os.Args[1:])
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(http.Serve(l, h))
}
