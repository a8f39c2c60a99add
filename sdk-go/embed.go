package ferrule

import "embed"

// Sources are the files of this module, which `ferrule new --lang go` writes beside a new plug-in. Plug-ins need it not, and have it not.
//
//go:embed go.mod *.go */*.go library/ferrule.h internal/*/*.go
var Sources embed.FS
