// Package sdkrust holds the sources of the Rust SDK for programs that hand them out, such as the command ferrule.
package sdkrust

import "embed"

// Files holds what cargo needs to build the packages ferrule-plugin (in ferrule) and ferrule-plugin-macros (in
// ferrule-macros), and the lock file of their workspace, which has the newest dependencies that the oldest compiler takes.
//
//go:embed Cargo.lock
//go:embed ferrule/Cargo.toml ferrule/build.rs ferrule/src
//go:embed ferrule-macros/Cargo.toml ferrule-macros/src
var Files embed.FS
