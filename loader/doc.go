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
// caller's buffer and allocates nothing. CallJSON, or CallWith and any Codec, speak in Go values.
//
// A plug-in gets at its host only through what Open offers: functions by WithHostFunc, configuration by WithConfig, a
// logger by WithLogger. A host function that the plug-in needs and Open does not offer is an error of Open's.
//
// Func.Stream has a function read an io.Reader and write to an io.Writer while it runs. Func.Try makes no error of a status, for hooks that
// mostly have nothing to say.
//
// What goes with one call is in its context: WithInfo, WithProgress and WithNext add to one. All other functions named With… are
// options of Open, as Require and RequireVersion are: what a plug-in must be.
//
// # What a plug-in keeps
//
// A plug-in's state is an instance's (WithInstances), and a call may meet any of them. What belongs together across calls needs
// a Session, which is an instance for one user. Plugin.Configure gives new settings to all instances; Plugin.Handover gives what they hold
// to a successor.
//
// # Threads
//
// Everything here may be used from any goroutine at the same time. How many calls a plug-in runs at once is what its
// manifest says: by default one for each instance, and the others wait, until their context ends; see WithInstances, and
// WithMaxCalls for concurrent plug-ins.
//
// A host function may call plug-ins, with the context that it got or one derived from it. A call that would then wait for
// itself is refused: because its instances are in use by the calls that it comes from (ErrReentrant), because plug-ins would
// wait for each other in a circle (ErrDeadlock), or because more than 64 calls would be in progress one within the other
// (ErrTooDeep). With another context that is recognised only on the host function's own goroutine, and without the circle.
//
// A host function that the plug-in calls between calls is known in the same two ways. Who stops the instance waits for it: its calls of
// the plug-in are refused (ErrReentrant) where they would start the instance anew, while Configure or Handover changes the plug-in, and,
// if they have to wait, from when the instance is about to be stopped. A goroutine that such a host function starts and waits for, and
// that calls the plug-in with another context, is not known: this call waits for the instance, and so for itself, until its context ends.
// Give it the host function's context. Isolated, the bounds of package isolate end the worker where the host waits: for Configure,
// Handover and NewSession, for Close, and for calls whose context ends.
//
// # Errors
//
// Open returns an *OpenError. A call returns a *CallError when the plug-in answered with a status other than OK or its
// context had ended before it was called, a *ContractError when it broke a rule of the contract, and a *UsageError when it
// was not called at all. CallJSON and CallWith also return a *CodecError. Isolated, there are a *CrashError, when the worker
// ended, and a *DeadlineError, when it had to be killed. Shutdown returns a *ShutdownError when its context ends first.
//
// errors.Is finds the statuses (ErrInvalid …) and the kinds (ErrClosed, ErrNoContract …) in them, and context.Canceled where
// a context ended.
//
// # Caveats
//
// A plug-in runs in this process. A fault in it, such as a wild pointer or an abort, ends the process: no Go code can
// recover it. A context's end asks the plug-in to stop, by its cancellation word, and then waits for it to do so.
//
// What the host passes in, which are contexts, host functions and log handlers, may panic, block or call plug-ins: nothing of
// the plug-in's is locked meanwhile, but for the instance whose call it is. It should not call runtime.Goexit, and so no
// testing.T.FailNow: that skips the plug-in's frames, with what they would have freed, and the instance is replaced as after a
// panic. On a thread of the plug-in's own, in a pinned plug-in, and in one that imports nothing, it is the call that fails then,
// and no goroutine of the caller's ends.
package loader
