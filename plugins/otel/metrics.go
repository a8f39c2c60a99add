package otel

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/ferrule-dev/ferrule/plugins"
)

// Metrics has a meter of the provider observe the system: its numbers are read when a reader collects, and cost the calls nothing more. Those of calls need
// plugins.Counting. Unregister of what is returned ends it; the system may be closed before or after that.
//
// By plug-in, with its point or function:
//
//	ferrule.plugin.calls            counter, {call}     calls that were made
//	ferrule.plugin.passed           counter, {call}     of these: had nothing to say
//	ferrule.plugin.failures         counter, {call}     of these: failed, by error.type: crash, deadline, _OTHER
//	ferrule.plugin.sampled.calls    counter, {call}     calls that were timed, about one of 64
//	ferrule.plugin.sampled.duration counter, s          their time, together: the mean is this by the number of them
//	ferrule.plugin.sampled.longest  gauge, s            the longest of them since Start
//	ferrule.plugin.left_out         gauge, s            for how long the hook is left out from now; 0 is not
//
// By plug-in:
//
//	ferrule.plugin.restarts         counter, {restart}  workers after the first
//	ferrule.plugin.replaced         counter, {version}  versions that have taken its place
//	ferrule.plugin.status           gauge, {plugin}     1, with its state as ferrule.plugin.state
func Metrics(sys *plugins.System, provider metric.MeterProvider) (metric.Registration, error) {
	if sys == nil || provider == nil {
		return nil, fmt.Errorf("otel.Metrics: found nil, expected a system and a provider of meters: %w", plugins.ErrOption)
	}
	meter := provider.Meter(scope)
	var all []metric.Observable
	var faults []error
	counter := func(name, unit, doc string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter("ferrule.plugin."+name, metric.WithUnit(unit), metric.WithDescription(doc))
		all, faults = append(all, c), append(faults, err)
		return c
	}
	gauge := func(name, doc string) metric.Float64ObservableGauge {
		g, err := meter.Float64ObservableGauge("ferrule.plugin."+name, metric.WithUnit("s"), metric.WithDescription(doc))
		all, faults = append(all, g), append(faults, err)
		return g
	}
	calls := counter("calls", "{call}", "Calls of hooks and functions of plug-ins")
	passes := counter("passed", "{call}", "Calls in which the plug-in had nothing to say")
	failures := counter("failures", "{call}", "Calls that failed")
	sampled := counter("sampled.calls", "{call}", "Calls that were timed")
	duration, err := meter.Float64ObservableCounter("ferrule.plugin.sampled.duration", metric.WithUnit("s"), metric.WithDescription("Time of the calls that were timed"))
	all, faults = append(all, duration), append(faults, err)
	longest := gauge("sampled.longest", "The longest call that was timed")
	leftOut := gauge("left_out", "For how long a hook is left out from now")
	restarts := counter("restarts", "{restart}", "Workers of the plug-in after the first")
	replaced := counter("replaced", "{version}", "Versions that have taken the plug-in's place")
	status, err := meter.Int64ObservableGauge("ferrule.plugin.status", metric.WithUnit("{plugin}"), metric.WithDescription("1, with the plug-in's state"))
	all, faults = append(all, status), append(faults, err)
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("otel.Metrics: %w", err)
	}
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, p := range sys.List() {
			by := attribute.NewSet(attrPlugin.String(p.Name))
			o.ObserveInt64(restarts, int64(p.Restarts), metric.WithAttributeSet(by))
			o.ObserveInt64(replaced, int64(p.Replaced), metric.WithAttributeSet(by))
			o.ObserveInt64(status, 1, metric.WithAttributes(attrPlugin.String(p.Name), attrState.String(string(p.State))))
		}
		for _, s := range sys.Stats() {
			what := attrFunction.String(s.Function)
			if s.Point != "" {
				what = attrPoint.String(s.Point)
			}
			name := attrPlugin.String(s.Plugin)
			by := metric.WithAttributeSet(attribute.NewSet(name, what))
			o.ObserveInt64(calls, int64(s.Calls), by)
			o.ObserveInt64(passes, int64(s.Passed), by)
			for kind, n := range map[string]uint64{kindCrash: s.Crashed, kindDeadline: s.Late, kindUndefined: s.Failed - s.Crashed - s.Late} {
				o.ObserveInt64(failures, int64(n), metric.WithAttributes(name, what, attrError.String(kind)))
			}
			o.ObserveInt64(sampled, int64(s.Sampled), by)
			o.ObserveFloat64(duration, s.Time.Seconds(), by)
			o.ObserveFloat64(longest, s.Longest.Seconds(), by)
			if s.Point != "" {
				o.ObserveFloat64(leftOut, s.LeftOut.Seconds(), by)
			}
		}
		return nil
	}, all...)
}
