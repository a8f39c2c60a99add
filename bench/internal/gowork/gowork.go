// Package gowork is the work in Go, for the plug-in systems whose plug-ins are Go programs.
package gowork

import "encoding/binary"

var vowel = [256]uint8{'a': 1, 'e': 1, 'i': 1, 'o': 1, 'u': 1, 'A': 1, 'E': 1, 'I': 1, 'O': 1, 'U': 1}

// Echo appends in to dst.
func Echo(dst, in []byte) []byte { return append(dst, in...) }

// CountVowels appends the number of vowels in in, as eight bytes, to dst.
func CountVowels(dst, in []byte) []byte {
	var n uint64
	for _, b := range in {
		n += uint64(vowel[b])
	}
	return binary.LittleEndian.AppendUint64(dst, n)
}

// Fail panics: in the caller's goroutine, or, where how is "crash", in one of its own, where nothing can catch it.
func Fail(how []byte) {
	if string(how) != "crash" {
		panic("the work fails")
	}
	go panic("the work crashes")
	select {}
}
