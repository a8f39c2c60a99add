//go:build ignore

package sandbox

import "github.com/ferrule-dev/ferrule/loader/isolate"

func init() { isolate.RegisterSandbox("policy", apply) }

// With puts the worker under the policy before it opens the plug-in's library.
func With(p Policy) isolate.Option {
	config, err := p.encode()
	return isolate.Sandbox("policy", config, err)
}
