package wire_test

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

// The first example of the page is messages as they go over the two streams, and what they say is what the page shows.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/wire.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)\n    host +sidecar\n(.*?)\n\nA ").FindSubmatch(page)
	require.NotNil(t, block)
	var streams [2]strings.Builder // what the host writes, and what the sidecar does
	of := &streams[0]
	head, bodies := false, 0
	for line := range strings.SplitSeq(string(block[1]), "\n") {
		if strings.ContainsAny(line, "→←") { // a message's first line
			if head {
				of.WriteByte('\n')
			}
			if of, head = &streams[0], true; strings.Contains(line, "←") {
				of = &streams[1]
			}
		}
		switch text := strings.Trim(line, " →←"); {
		case text == "(ends)":
		case head:
			of.WriteString(text + "\n")
			head = text != ""
		case text != "":
			of.WriteString(text)
			bodies++
		}
	}
	if head {
		of.WriteByte('\n')
	}
	assert.Equal(t, 3, bodies)

	for i, expected := range [][]string{{"HELLO", "CALL 1 shout hello", "BYE"}, {"HELLO shout", "DONE 1 HELLO"}} {
		r := wire.NewReader(strings.NewReader(streams[i].String()), wire.MaxBody)
		var told []string
		for {
			var m wire.Message
			if err := r.Next(&m); err == io.EOF {
				break
			} else {
				require.NoError(t, err)
			}
			words := m.Verb.String()
			if m.ID != 0 {
				words += fmt.Sprintf(" %d", m.ID)
			}
			if len(m.Name) > 0 {
				words += " " + string(m.Name)
			}
			body, err := r.Body(nil)
			require.NoError(t, err)
			if len(body) > 0 {
				words += " " + string(body)
			}
			told = append(told, words)
			if m.Verb == wire.Hello && len(body) > 0 {
				about, err := wire.ParseManifest(body)
				require.NoError(t, err)
				require.Len(t, about.Funcs, 1)
				told[len(told)-1] = "HELLO " + about.Funcs[0].Name
			}
		}
		assert.Equal(t, expected, told)
	}
}
