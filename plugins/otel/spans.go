package otel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins"
)

// scope is the name by which instruments and spans of this package are known.
const scope = "github.com/ferrule-dev/ferrule/plugins/otel"

// The attributes of spans and metrics.
const (
	attrPlugin   = attribute.Key("ferrule.plugin.name")
	attrPoint    = attribute.Key("ferrule.plugin.point")
	attrFunction = attribute.Key("ferrule.plugin.function")
	attrHost     = attribute.Key("ferrule.plugin.host_function")
	attrPassed   = attribute.Key("ferrule.plugin.passed")
	attrState    = attribute.Key("ferrule.plugin.state")
	attrError    = attribute.Key("error.type")
)

// Spans has a span made of each call of a hook or of a plugins.Func, below the span of the caller's context, and of each host function that the plug-in
// calls, below that of its call. The plug-in gets the place of its call in the trace when it asks its host for "traceparent" (rule R26), also
// where the span is not sampled. A call that fails is an error of its span; one that has nothing to say has ferrule.plugin.passed. A nil provider is
// an error of the system's Start.
func Spans(provider trace.TracerProvider) plugins.Option {
	if provider == nil {
		return plugins.Trace(nil)
	}
	tracer := provider.Tracer(scope)
	return plugins.Trace(func(ctx context.Context, call plugins.Call) (context.Context, func(error)) {
		name, attributes := describe(call)
		inside, span := tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(attributes...))
		place := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(inside, place)
		if parent := place.Get(loader.TraceParent); parent != "" {
			inside = loader.WithInfo(inside, loader.TraceParent, parent)
		}
		return inside, func(err error) {
			defer span.End()
			switch {
			case err == nil:
			case errors.Is(err, loader.ErrPass):
				span.SetAttributes(attrPassed.Bool(true))
			default:
				span.RecordError(err)
				span.SetStatus(codes.Error, err.Error())
				span.SetAttributes(attrError.String(kindOf(err)))
			}
		}
	})
}

// describe returns a span's name, of which there are few, and its attributes.
func describe(call plugins.Call) (name string, attributes []attribute.KeyValue) {
	attributes = append(attributes, attrPlugin.String(call.Plugin))
	switch {
	case call.Host != "":
		return "host " + call.Host, append(attributes, attrHost.String(call.Host))
	case call.Point != "":
		return "hook " + call.Point, append(attributes, attrPoint.String(call.Point))
	}
	return "plug-in function " + call.Function, append(attributes, attrFunction.String(call.Function))
}

// The kinds of failures, as error.type has them.
const (
	kindCrash     = "crash"
	kindDeadline  = "deadline"
	kindLeftOut   = "left_out"
	kindUndefined = "_OTHER" // as OpenTelemetry's conventions call what has no name
)

// kindOf is the kind of a failure.
func kindOf(err error) string {
	var deadline *loader.DeadlineError
	switch {
	case errors.Is(err, loader.ErrCrash):
		return kindCrash
	case errors.Is(err, loader.ErrCancelled) || errors.As(err, &deadline) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		return kindDeadline
	case errors.Is(err, plugins.ErrBroken):
		return kindLeftOut
	}
	return kindUndefined
}
