//go:build !unix

package main

// keepTerminal does nothing here: a plug-in has no settings of a terminal to change.
func keepTerminal() (restore func()) { return func() {} }
