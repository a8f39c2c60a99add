// Package sign makes and verifies the signatures of plug-ins: those of minisign, over a file's bytes, with a trusted comment that says which plug-in,
// version and platform it is. So a signature is good for one release alone: it is no use under another name, another number or for another platform.
// Keys and signatures are exchangeable with the program minisign, in both directions.
//
// Trust says whose signatures count: see docs/distribution.md. It is a Verifier; another scheme is another Verifier.
//
// Errors are *registry.Error, each with what to do. All functions are for any goroutine.
package sign
