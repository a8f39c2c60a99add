// Package sdkc holds the headers of the C and C++ SDK for programs that hand them out, such as the command ferrule.
package sdkc

import "embed"

// Files holds include/ferrule/sdk.h and include/ferrule/sdk.hpp.
//
//go:embed include/ferrule
var Files embed.FS
