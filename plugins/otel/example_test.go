package otel_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	otelapi "go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/otel"
)

// loyalty is a plug-in that asks the shop for the points of a customer.
var loyalty = &builtin.Plugin{Name: "loyalty", Version: "1.0.0", Threads: abi.Concurrent, Imports: []string{"loyalty_points"},
	Hooks: []builtin.Function{{Name: "before_checkout", Call: func(ctx context.Context, cart []byte) ([]byte, error) {
		return builtin.Import(ctx, "loyalty_points", cart)
	}}}}

func points(context.Context, []byte) ([]byte, error) { return []byte("1200"), nil }

func Example() {
	reader, spans := sdkmetric.NewManualReader(), tracetest.NewSpanRecorder()
	otelapi.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	otelapi.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	run := func(ctx context.Context) error {
		sys := plugins.New("shop", "1.4.0", plugins.Builtin(loyalty), plugins.Counting(), otel.Spans(otelapi.GetTracerProvider()))
		defer sys.Close()
		plugins.Offer(sys, "loyalty_points", points, plugins.Public())
		discount := plugins.First[[]byte, []byte](sys, "before_checkout")
		metrics, err := otel.Metrics(sys, otelapi.GetMeterProvider())
		if err != nil {
			return err
		}
		defer metrics.Unregister()
		if err := sys.Start(ctx); err != nil {
			return err
		}
		if _, _, err := discount.Call(ctx, []byte("ann")); err != nil {
			return err
		}

		var data metricdata.ResourceMetrics
		if err := reader.Collect(ctx, &data); err != nil {
			return err
		}
		for _, m := range data.ScopeMetrics[0].Metrics {
			if m.Name == "ferrule.plugin.calls" {
				fmt.Println(m.Name, m.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
			}
		}
		return nil
	}
	if err := run(context.Background()); err != nil {
		fmt.Println(err)
	}
	for _, span := range spans.Ended() {
		fmt.Println(span.Name(), "has a parent:", span.Parent().IsValid())
	}
	// Output:
	// ferrule.plugin.calls 1
	// host loyalty_points has a parent: true
	// hook before_checkout has a parent: false
}

// What package plugins itself shows, without OpenTelemetry.
func Example_withoutOpenTelemetry() {
	run := func(ctx context.Context, audit *slog.Logger) error {
		var longest atomic.Int64
		sys := plugins.New("shop", "1.4.0", plugins.Builtin(loyalty), plugins.Counting(),
			plugins.OnEvent(func(e plugins.Event) {
				if e.Kind == plugins.EventGranted || e.Kind == plugins.EventRefused {
					audit.Info(string(e.Kind), "plugin", e.Plugin, "version", e.Version, "name", e.Name, "err", e.Err)
				}
			}),
			plugins.Trace(func(ctx context.Context, call plugins.Call) (context.Context, func(error)) {
				if call.Host == "" {
					return ctx, nil
				}
				begun := time.Now()
				return ctx, func(error) { longest.Store(max(longest.Load(), int64(time.Since(begun)))) }
			}))
		defer sys.Close()
		plugins.Offer(sys, "loyalty_points", points, plugins.Public(), plugins.PerSecond(100))
		discount := plugins.First[[]byte, []byte](sys, "before_checkout")
		if err := sys.Start(ctx); err != nil {
			return err
		}
		if _, _, err := discount.Call(ctx, []byte("ann")); err != nil {
			return err
		}
		for _, s := range sys.Stats() {
			fmt.Println(s.Plugin, s.Point, s.Function, s.Calls, s.Passed, s.Failed, s.Mean() > 0)
		}
		fmt.Println("a host function was timed:", longest.Load() > 0)
		return nil
	}
	if err := run(context.Background(), slog.New(slog.DiscardHandler)); err != nil {
		fmt.Println(err)
	}
	// Output:
	// loyalty before_checkout  1 0 0 true
	// a host function was timed: true
}
