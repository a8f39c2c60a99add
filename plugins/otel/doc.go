// Package otel shows what a plugins.System does in OpenTelemetry: its numbers as metrics, and its calls as spans.
//
//	sys := plugins.New("shop", "1.4.0", plugins.Counting(), otel.Spans(otelapi.GetTracerProvider()))
//	registration, err := otel.Metrics(sys, otelapi.GetMeterProvider())
//
// Both take the provider that the application has set up, and start nothing of their own. Names of instruments and attributes begin with
// ferrule.plugin.
package otel
