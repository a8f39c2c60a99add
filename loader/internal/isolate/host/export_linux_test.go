//go:build amd64 || arm64

package host

// WithKeeper is whether workers get keepers.
var WithKeeper = &withKeeper
