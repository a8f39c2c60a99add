//go:build amd64 || arm64

package isolated

// WithKeeper is whether workers get keepers.
var WithKeeper = &withKeeper
