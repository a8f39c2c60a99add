package otel_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/otel"
)

// engines are the ways in which the native plug-in of a test runs.
var engines = []string{"in-process", "isolated"}

// newSystem makes a system whose one plug-in is a fixture, which the test closes.
func newSystem(t *testing.T, engine, name string, opts ...plugins.Option) *plugins.System {
	t.Helper()
	folder := t.TempDir()
	library, err := os.ReadFile(fixture.C(t, name))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, name+fixture.Ext()), library, 0o755))
	if name == "system" {
		name = "plugin_aaaa"
	}
	text := "folders: [" + strconv.Quote(folder) + "]\nplugins:\n  - {name: " + name + "}\n"
	if engine == "isolated" {
		text = "folders: [" + strconv.Quote(folder) + "]\nplugins:\n  - {name: " + name + ", isolate: {sandbox: none}}\n"
	}
	path := filepath.Join(folder, "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	opts = append(opts, plugins.Config(path), plugins.Logger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	sys := plugins.New("app", "1.0.0", opts...)
	t.Cleanup(func() { require.NoError(t, sys.Close()) })
	return sys
}

// of returns an attribute's value; "" where it is not there.
func of(attributes []attribute.KeyValue, key attribute.Key) string {
	set := attribute.NewSet(attributes...)
	v, _ := set.Value(key)
	return v.String()
}

// TestSpans: a trace reaches a native plug-in, and the host function that it calls is a child of its call; so is what the host function starts itself.
func TestSpans(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			spans := tracetest.NewSpanRecorder()
			provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
			sys := newSystem(t, engine, "traced", otel.Spans(provider))
			var answer error
			plugins.Offer(sys, "note", func(ctx context.Context, in []byte) ([]byte, error) {
				_, own := provider.Tracer("application").Start(ctx, "query")
				own.End()
				return in, answer
			}, plugins.Public())
			first := plugins.First[[]byte, []byte](sys, "traced", plugins.Breaker(0, 0))
			require.NoError(t, sys.Start(t.Context()))

			ctx, request := provider.Tracer("application").Start(t.Context(), "request")
			out, found, err := first.Append(ctx, nil, nil)
			require.NoError(t, err)
			require.True(t, found)
			request.End()
			ended := spans.Ended()
			require.Len(t, ended, 4)
			query, note, hook := ended[0], ended[1], ended[2]
			assert.Equal(t, []string{"query", "host note", "hook traced"}, []string{query.Name(), note.Name(), hook.Name()})
			assert.Equal(t, request.SpanContext().SpanID(), hook.Parent().SpanID())
			assert.Equal(t, hook.SpanContext().SpanID(), note.Parent().SpanID())
			assert.Equal(t, note.SpanContext().SpanID(), query.Parent().SpanID())
			for _, span := range ended {
				assert.Equal(t, request.SpanContext().TraceID(), span.SpanContext().TraceID())
				assert.Equal(t, codes.Unset, span.Status().Code)
			}
			place := hook.SpanContext()
			assert.Equal(t, fmt.Sprintf("00-%s-%s-01", place.TraceID(), place.SpanID()), string(out), "what the plug-in was told")
			assert.Equal(t, []string{"traced", "traced", ""}, []string{of(hook.Attributes(), "ferrule.plugin.name"), of(hook.Attributes(), "ferrule.plugin.point"), of(hook.Attributes(), "error.type")})
			assert.Equal(t, []string{"traced", "note"}, []string{of(note.Attributes(), "ferrule.plugin.name"), of(note.Attributes(), "ferrule.plugin.host_function")})

			// A function without a trace around it, which fails.
			spans.Reset()
			answer = fmt.Errorf("no such customer: %w", loader.ErrFailed)
			f, err := sys.Func("traced", "traced")
			require.NoError(t, err)
			_, err = f.Call(t.Context(), nil)
			require.ErrorIs(t, err, loader.ErrFailed)
			ended = spans.Ended()
			require.Len(t, ended, 3)
			note, function := ended[1], ended[2]
			assert.Equal(t, "plug-in function traced", function.Name())
			assert.False(t, function.Parent().IsValid())
			assert.Equal(t, "traced", of(function.Attributes(), "ferrule.plugin.function"))
			for _, span := range []sdktrace.ReadOnlySpan{note, function} {
				assert.Equal(t, codes.Error, span.Status().Code)
				assert.Equal(t, "_OTHER", of(span.Attributes(), "error.type"))
				require.Len(t, span.Events(), 1)
			}
			assert.Contains(t, note.Status().Description, "no such customer")

			// One that has nothing to say has not failed.
			spans.Reset()
			answer = loader.ErrPass
			_, found, err = first.Append(t.Context(), nil, nil)
			require.NoError(t, err)
			require.False(t, found)
			hook = spans.Ended()[2]
			assert.Equal(t, codes.Unset, hook.Status().Code)
			assert.Equal(t, "true", of(hook.Attributes(), "ferrule.plugin.passed"))
		})
	}
}

// TestSpansThatAreNotSampled: the plug-in gets its place in a trace of which nothing is recorded, with the flag that says so.
func TestSpansThatAreNotSampled(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	sys := newSystem(t, "in-process", "traced", otel.Spans(provider))
	plugins.Offer(sys, "note", func(_ context.Context, in []byte) ([]byte, error) { return in, nil }, plugins.Public())
	first := plugins.First[[]byte, []byte](sys, "traced")
	require.NoError(t, sys.Start(t.Context()))
	remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, Remote: true})
	out, _, err := first.Append(trace.ContextWithRemoteSpanContext(t.Context(), remote), nil, nil)
	require.NoError(t, err)
	assert.Regexp(t, "^00-"+remote.TraceID().String()+"-[0-9a-f]{16}-00$", string(out))
	assert.Empty(t, spans.Ended())
}

// read collects the metrics: each number by its instrument and attributes.
func read(t *testing.T, reader *metric.ManualReader) map[string]float64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &data))
	all := map[string]float64{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			add := func(set attribute.Set, v float64) {
				all[m.Name+" "+set.Encoded(attribute.DefaultEncoder())] = v
			}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				assert.True(t, d.IsMonotonic, m.Name)
				for _, p := range d.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Sum[float64]:
				assert.Equal(t, "s", m.Unit)
				for _, p := range d.DataPoints {
					add(p.Attributes, p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				assert.Equal(t, "s", m.Unit)
				for _, p := range d.DataPoints {
					add(p.Attributes, p.Value)
				}
			default:
				require.Fail(t, "another kind of data", "%s: %T", m.Name, d)
			}
		}
	}
	return all
}

// TestMetrics: what a reader collects is what the system counts.
func TestMetrics(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			reader := metric.NewManualReader()
			sys := newSystem(t, engine, "system", plugins.Counting())
			asked := plugins.Collect[[]byte, []byte](sys, "asked", plugins.Breaker(2, time.Hour))
			registration, err := otel.Metrics(sys, metric.NewMeterProvider(metric.WithReader(reader)))
			require.NoError(t, err)
			require.NoError(t, sys.Start(t.Context()))
			const ready, started = "ferrule.plugin.status ferrule.plugin.name=plugin_aaaa,ferrule.plugin.state=ready", "ferrule.plugin.status ferrule.plugin.name=plugin_aaaa,ferrule.plugin.state=started"
			assert.Equal(t, 1.0, read(t, reader)[ready])

			for range 3 {
				_, err = asked.Call(t.Context(), nil)
				require.NoError(t, err)
			}
			_, err = asked.Call(t.Context(), []byte("aaaa=pass"))
			require.NoError(t, err)
			_, err = asked.Call(t.Context(), []byte("aaaa=fail"))
			require.Error(t, err)
			soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err = asked.Call(soon, []byte("aaaa=polls"))
			require.Error(t, err)
			crashed := 0.0
			if engine == "isolated" {
				crashed = 1
				_, err = asked.Call(t.Context(), []byte("aaaa=crash"))
				require.Error(t, err)
			}
			answer, err := sys.Func("plugin_aaaa", "answer")
			require.NoError(t, err)
			_, err = answer.Call(t.Context(), nil)
			require.NoError(t, err)

			const hook, function = "ferrule.plugin.name=plugin_aaaa,ferrule.plugin.point=asked", "ferrule.plugin.function=answer,ferrule.plugin.name=plugin_aaaa"
			got := read(t, reader)
			for name, want := range map[string]float64{
				"ferrule.plugin.calls " + hook:                            6 + crashed,
				"ferrule.plugin.passed " + hook:                           1,
				"ferrule.plugin.failures error.type=_OTHER," + hook:       1,
				"ferrule.plugin.failures error.type=deadline," + hook:     1,
				"ferrule.plugin.failures error.type=crash," + hook:        crashed,
				"ferrule.plugin.sampled.calls " + hook:                    1,
				"ferrule.plugin.calls " + function:                        1,
				"ferrule.plugin.restarts ferrule.plugin.name=plugin_aaaa": crashed,
				"ferrule.plugin.replaced ferrule.plugin.name=plugin_aaaa": 0,
				started: 1,
			} {
				value, there := got[name]
				assert.True(t, there, "%s", name)
				assert.Equal(t, want, value, "%s", name)
			}
			assert.NotContains(t, got, ready)
			var longest time.Duration
			for _, s := range sys.Stats() {
				if s.Point == "asked" {
					longest = s.Longest
				}
			}
			assert.Equal(t, longest.Seconds(), got["ferrule.plugin.sampled.longest "+hook])
			assert.Equal(t, longest.Seconds(), got["ferrule.plugin.sampled.duration "+hook], "one was timed")
			leftOut, there := got["ferrule.plugin.left_out "+hook]
			assert.True(t, there)
			if engine == "isolated" {
				assert.InDelta(t, time.Hour.Seconds(), leftOut, 60, "two have failed in a row")
			} else {
				assert.Zero(t, leftOut)
			}

			require.NoError(t, registration.Unregister())
			assert.Empty(t, read(t, reader))
		})
	}
}

// TestMetricsWithoutCounting: what is known of plug-ins is there, and no calls.
func TestMetricsWithoutCounting(t *testing.T) {
	reader := metric.NewManualReader()
	sys := newSystem(t, "in-process", "system")
	_, err := otel.Metrics(sys, metric.NewMeterProvider(metric.WithReader(reader)))
	require.NoError(t, err)
	require.NoError(t, sys.Start(t.Context()))
	f, err := sys.Func("plugin_aaaa", "answer")
	require.NoError(t, err)
	_, err = f.Call(t.Context(), nil)
	require.NoError(t, err)
	got := read(t, reader)
	assert.Len(t, got, 3)
	assert.Contains(t, got, "ferrule.plugin.restarts ferrule.plugin.name=plugin_aaaa")
}

// TestNil: what is missing is an error.
func TestNil(t *testing.T) {
	assert.ErrorIs(t, plugins.New("app", "1.0.0", otel.Spans(nil)).Start(t.Context()), plugins.ErrOption)
	_, err := otel.Metrics(nil, metric.NewMeterProvider())
	assert.ErrorIs(t, err, plugins.ErrOption)
	_, err = otel.Metrics(newSystem(t, "in-process", "system"), nil)
	assert.ErrorIs(t, err, plugins.ErrOption)
}
