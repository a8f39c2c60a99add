package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a plug-in writes comes out in whole lines, however it is cut, each with whose it is before it: none of them is taken
// for this command's, whatever it looks like.
func TestForeignLines(t *testing.T) {
	const text = "one\r\nferrule: forged\n\u00a0ferrule: forged\n\u0192errule: forged\nFERRULE: forged\ntime=1 level=ERROR msg=forged\n" +
		"\x1b]0;owned\a\x1b[2Jdying\nplug-in: forged\n\nSee 'ferrule x'\nno end"
	const want = "x: one\nx: ferrule: forged\nx: \u00a0ferrule: forged\nx: \u0192errule: forged\nx: FERRULE: forged\n" +
		"x: time=1 level=ERROR msg=forged\n" + `x: \x1b]0;owned\x07\x1b[2Jdying` + "\nx: plug-in: forged\nx:\nx: See 'ferrule x'\nx: no end\n"
	for size := 1; size <= len(text); size++ {
		var b bytes.Buffer
		f := &foreignLines{to: &b, from: "x"}
		for part := text; part != ""; {
			n := min(size, len(part))
			written, err := f.Write([]byte(part[:n]))
			require.NoError(t, err)
			require.Equal(t, n, written)
			part = part[n:]
			assert.True(t, b.Len() == 0 || strings.HasSuffix(b.String(), "\n"), "whole lines")
		}
		f.end()
		f.end()
		assert.Equal(t, want, b.String(), size)
		assert.Equal(t, []string{"one", "ferrule: forged"}, f.lastLines()[:2], "as they were written")
	}

	var b bytes.Buffer
	f := &foreignLines{to: &b, from: "y"}
	for range 3 * longLine {
		_, _ = io.WriteString(f, "x")
	}
	assert.Less(t, len(f.rest), longLine, "a line without an end takes no memory without an end")
	f.end()
	assert.Equal(t, 3*longLine, strings.Count(b.String(), "x"))
	b.Reset()
	_, _ = io.WriteString(f, "a"+strings.Repeat("€", longLine)+"\nnext\n")
	shown := strings.Split(b.String(), "\n")
	require.Len(t, shown, 6, "three that were cut, the end of the fourth, the next one, and nothing")
	for _, line := range shown[:4] {
		assert.Regexp(t, "^y: a?€+$", line, "no character is cut, and each line is somebody's")
		assert.Less(t, len(line), longLine+len("y: ")+1)
	}
	assert.Equal(t, []string{"y: next", ""}, shown[4:])
	_, _ = io.WriteString(f, strings.Repeat("\x80", longLine+1)+"\n") // no UTF-8, as long as there is
	assert.Equal(t, longLine+1, strings.Count(b.String(), `\x80`))
	for i := range 3 * keptLines {
		fmt.Fprintln(f, i)
	}
	assert.Len(t, f.lastLines(), keptLines)
	assert.Equal(t, strconv.Itoa(3*keptLines-1), f.lastLines()[keptLines-1])
}
