// Package sdkc holds the headers of the C and C++ SDK for programs that hand them out, such as the command ferrule.
package sdkc

import "embed"

// Files holds include/ferrule: the helpers for C and C++, the host for tests in both, and what the linker is told to
// export.
//
//go:embed include/ferrule
var Files embed.FS
