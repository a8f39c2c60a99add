// Package plugins is the core system of an application with plug-ins: it finds them (discovery), knows them (registration),
// calls them at the application's extension points in an order that the user has the last word on (hooks), hands the
// application's functions out selectively (grants), and replaces them while the application runs.
//
//	sys := plugins.New("shop", "1.4.0", plugins.Config("config.yaml"), plugins.Watch())
//	defer sys.Close()
//	plugins.Offer(sys, "loyalty_points", shop.LoyaltyPoints, plugins.Doc("Reads a customer's points."))
//	discount := plugins.First[Cart, Discount](sys, "before_checkout")
//	if err := sys.Start(ctx); err != nil {
//		return err
//	}
//	d, found, err := discount.Call(ctx, cart)
//
// # Points
//
// An extension point is made before Start, by the function of its kind (Notify, Collect, First, Pipe, Veto, Wrap), and used by its Call, from any
// goroutine at the same time. Of each plug-in that is there, Call calls the hook of the point's name, in the order that System.Hooks tells. The value
// is encoded once for all of them, as JSON or by Codec; a []byte is handed on as it is. Call returns when the last one has. Every call of a point
// that was made after Start fails: ErrLate.
//
// A hook that fails is a *HookError; what it does to the dispatch is the Policy. Each hook may take as long as Limit says. One that fails
// several times in a row is left out for a while (Breaker). When the context ends, the hook that runs is asked to stop, and the others do not run.
//
// # Plug-ins
//
// Where a plug-in is on its way is its State, and how far it came when it failed its Error. One that fails does not keep the others
// from starting; only one that is required fails Start. A plug-in is opened when it is used first, or by Start where it is required, or attaches to a
// point with a Limit. Another version takes its place while it runs: no call fails because of that.
//
// # What a plug-in may do
//
// Nothing that it was not granted: the host functions of Offer, services of other plug-ins, and what it asks for by permit.* in its manifest, all by
// name, in config.yaml or by Grants. Where it is isolated, or its engine is an engine.Permitting, what was permitted is its sandbox; of native code in this process it is a declaration only.
package plugins
