// A sidecar in Go, without a library: see docs/wire.md.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"regexp"
	"unicode/utf8"
)

var in, vowel = textproto.NewReader(bufio.NewReader(os.Stdin)), regexp.MustCompile("[aeiouAEIOU]")

func send(head, body string) { fmt.Printf("%s\nContent-Length: %d\n\n%s", head, len(body), body) }

// receive returns the next CALL, or the DONE of a call of its own; what comes between, such as CANCEL, is too late for it.
func receive(wanted string) (id, argument, body string) {
	verb, length := "", 0
	line, _ := in.ReadLine()
	fmt.Sscan(line, &verb, &id, &argument)
	fields, err := in.ReadMIMEHeader()
	fmt.Sscan(fields.Get("Content-Length"), &length)
	data := make([]byte, length)
	if _, short := io.ReadFull(in.R, data); err == nil && short == nil && verb == wanted {
		return id, argument, string(data)
	} else if verb != "HELLO" && verb != "CANCEL" {
		os.Exit(0) // BYE, or the stream ends
	}
	return receive(wanted)
}

func call(name, input string) (status, output string) {
	switch {
	case name == "count_vowels" && !utf8.ValidString(input):
		return "2", "the text is not UTF-8"
	case name == "count_vowels":
		return "0", fmt.Sprint(len(vowel.FindAllString(input, -1)))
	case name == "before_checkout" && input == "":
		return "9", ""
	case name == "before_checkout":
		return "0", "5 % off"
	case name != "points":
		return "3", ""
	}
	send("CALL 1 loyalty_points", input)
	if _, status, output = receive("DONE"); status != "0" {
		return "1", "loyalty_points: " + output
	}
	return "0", "points: " + output
}

func main() {
	send("HELLO 1", `{"name": "vowels", "version": "1.0.0", "functions": {"count_vowels": {}, "points": {}}, "hooks": {"before_checkout": {}}, "wants": {"loyalty_points": {}}}`)
	for {
		id, name, input := receive("CALL")
		status, output := call(name, input)
		send("DONE "+id+" "+status, output)
	}
}
