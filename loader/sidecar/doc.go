// Package sidecar opens plug-ins that are programs of their own, in any language, without a library of Ferrule's in them: each speaks to its host over a
// stream of bytes, as docs/wire.md has it.
//
//	p, err := loader.Open("./vowels.py", sidecar.Program())
//	p, err := loader.Open("unix:/run/vowels.sock", sidecar.Program())
//
// What is at the path is started by Open, and anew by the call after it has ended; it ends by Plugin.Close, or with this process, and with it all
// that it has started. A URL is of a sidecar that somebody else has started: unix:PATH, tcp:HOST:PORT, fifo:IN,OUT and, on Windows,
// npipe:NAME. Each instance (loader.WithInstances), and each session, is a process, or a connection, of its own.
//
// The calls, and what comes of them, are those of a plug-in in this process: host functions, streams, progress, logs, settings, handing over.
// What differs: a call costs some ten microseconds and more; a sidecar that ends, that writes what is not of the wire, or that does not stop when
// it is asked to, fails the calls that are in it, with a *loader.CrashError or a *loader.DeadlineError; and the limits are those of a process.
//
// By itself it protects the host from mistakes, as package isolate does. It does not stop a program that means harm, which runs with all the
// rights of this user.
package sidecar
