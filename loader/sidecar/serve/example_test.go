package serve_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
)

func ExampleListen() {
	plugin := &builtin.Plugin{Name: "shout", Version: "1.0.0", Funcs: []builtin.Function{{Name: "shout", Call: func(_ context.Context, in []byte) ([]byte, error) {
		return append(in, '!'), nil
	}}}}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // it ends as soon as it serves
	fmt.Println(listen(ctx, "127.0.0.1:0", tls.Certificate{}, "s3cret", plugin))
	// Output: <nil>
}

func listen(ctx context.Context, address string, certificate tls.Certificate, token string, plugin *builtin.Plugin) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}})
	return serve.Listen(ctx, l, serve.Go(plugin), serve.Options{Token: token, Grace: 5 * time.Second})
}
