// Command goplugin is the work as a plug-in of Go's package plugin: go build -buildmode=plugin.
package main

import "github.com/ferrule-dev/ferrule/bench/internal/gowork"

// Echo appends in to dst.
func Echo(dst, in []byte) []byte { return gowork.Echo(dst, in) }

// CountVowels appends the number of vowels in in to dst.
func CountVowels(dst, in []byte) []byte { return gowork.CountVowels(dst, in) }

// Ask appends what the host's function returns for in.
func Ask(dst, in []byte, host func(dst, in []byte) []byte) []byte { return host(dst, in) }

// Fail panics.
func Fail(_, how []byte) []byte {
	gowork.Fail(how)
	return nil
}

func main() {}
