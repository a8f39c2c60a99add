package sidecar_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

func servedByFIFOs(context.Context, serve.Plugin, string, string) error {
	return errors.New("there are no FIFOs here")
}

func openFIFOs(testing.TB, string, ...loader.Option) (*loader.Plugin, error) { return nil, nil }
