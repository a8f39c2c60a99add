package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A terminal is asked for a new key's password twice, and shows neither; Ctrl-C leaves it as it was, and writes nothing.
func TestPasswordOnTerminal(t *testing.T) {
	t.Parallel()
	asks := func(s *screen, prompt string) {
		t.Helper()
		require.Eventually(t, func() bool {
			now, err := unix.IoctlGetTermios(int(s.line.Fd()), unix.TCGETS)
			return err == nil && now.Lflag&unix.ECHO == 0 && strings.HasSuffix(s.shown(), prompt)
		}, time.Minute, 5*time.Millisecond, "%q", s.shown())
	}
	dir := t.TempDir()
	for name, c := range map[string]struct {
		second string
		code   int
		want   string
	}{
		"a slip": {"closesesame\r", exitUsage, "two different passwords"},
		"Ctrl-C": {"\x03", exitInterrupted, "ferrule: "},
	} {
		t.Run(name, func(t *testing.T) {
			key := filepath.Join(dir, "key")
			s := newScreen(t)
			s.start([]string{passwordVariable + "="}, "keygen", key)
			asks(s, "Password: ")
			s.types("opensesame\r")
			asks(s, "The same again: ")
			s.types(c.second)
			assert.Equal(t, c.code, s.ends(), "%q", s.shown())
			assert.Equal(t, s.before, s.settings())
			assert.Eventually(t, func() bool { return strings.Contains(s.shown(), c.want) }, time.Minute, 5*time.Millisecond, "%q", s.shown())
			assert.NotContains(t, s.shown(), "sesame")
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}
