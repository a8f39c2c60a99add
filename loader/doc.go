// Package loader opens native plug-ins, shared libraries compiled from C, C++ or Rust against ferrule.h, and calls them.
//
//	p, err := loader.Open("libvowels.so")
//	if err != nil {
//		return err
//	}
//	defer p.Close()
//	out, err := p.Call(ctx, "count_vowels", []byte("hello"))
//
// Call takes a name and returns a slice of its own. The hot path is a Func, resolved once, whose Append writes into the
// caller's buffer and allocates nothing. CallJSON, or CallWith and any Codec, speak in Go values, Func.Stream in readers and writers.
//
// A plug-in gets at its host only through what Open offers: functions by WithHostFunc, configuration by WithConfig, a
// logger by WithLogger. All functions named With… are options of Open, as Require and RequireVersion are, but for WithInfo, WithProgress
// and WithNext: they add to the context of one call.
//
// A plug-in's state is an instance's (WithInstances), and a call may meet any of them. What belongs together across calls needs
// a Session, which is an instance for one user. Plugin.Configure and Plugin.Handover change and move state.
//
// Everything here may be used from any goroutine at the same time. See Plugin for how many calls run at once,
// and HostFunc for calls that it may make.
//
// Open returns an *OpenError. A call returns a *CallError when the plug-in answered with a status other than OK, a *ContractError when it
// broke a rule of the contract, a *UsageError when it was not called at all, and a *CodecError when a codec failed;
// isolated, a *CrashError when the worker ended, and a *DeadlineError when it had to be killed. Shutdown has a *ShutdownError.
// errors.Is finds statuses (ErrInvalid …) and kinds (ErrClosed …).
//
// A fault in a plug-in, such as a wild pointer or an abort, ends the process: no Go code can recover it. Package isolate has plug-ins in
// worker processes. A context's end asks the plug-in to stop, by its cancellation word, and then waits for it to do so.
package loader
