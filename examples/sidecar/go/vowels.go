// A sidecar in Go, without a library: see docs/wire.md.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

var in, vowel = textproto.NewReader(bufio.NewReader(os.Stdin)), regexp.MustCompile("[aeiouAEIOU]")

func send(head, body string) { fmt.Printf("%s\nContent-Length: %d\n\n%s", head, len(body), body) }

// receive returns the next CALL, or the DONE of a call of its own; what comes between, such as CANCEL, is too late for it.
func receive(wanted string) (id, argument, body string) {
	line, _ := in.ReadLine()
	fields, err := in.ReadMIMEHeader()
	length, _ := strconv.Atoi(fields.Get("Content-Length"))
	data := make([]byte, length)
	_, short := io.ReadFull(in.R, data)
	words := append(strings.Fields(line), "", "", "")
	if errors.Join(err, short) != nil || !slices.Contains([]string{wanted, "HELLO", "CANCEL"}, words[0]) {
		os.Exit(0) // BYE, or the stream ends
	} else if words[0] != wanted {
		return receive(wanted)
	}
	return words[1], words[2], string(data)
}

func call(name, input string) (status int, output string) {
	switch name {
	case "count_vowels":
		if !utf8.ValidString(input) {
			return 2, "the text is not UTF-8"
		}
		return 0, strconv.Itoa(len(vowel.FindAllString(input, -1)))
	case "points":
		send("CALL 1 loyalty_points", input)
		_, status, answer := receive("DONE")
		if status != "0" {
			return 1, "loyalty_points: " + answer
		}
		return 0, "points: " + answer
	case "before_checkout":
		if input == "" {
			return 9, ""
		}
		return 0, "5 % off"
	}
	return 3, ""
}

func main() {
	send("HELLO 1", `{"name": "vowels", "version": "1.0.0", "functions": {"count_vowels": {}, "points": {}},
		"hooks": {"before_checkout": {}}, "wants": {"loyalty_points": {}}}`)
	for {
		id, name, input := receive("CALL")
		status, output := call(name, input)
		send(fmt.Sprintf("DONE %s %d", id, status), output)
	}
}
