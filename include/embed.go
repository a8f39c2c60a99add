// Package include holds the contract's header for programs that hand it out, such as the command ferrule.
package include

import "embed"

// Files holds ferrule.h.
//
//go:embed ferrule.h
var Files embed.FS
