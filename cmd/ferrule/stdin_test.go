package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// TestInputTwice: the standard input is read for one option; for a second one it would be empty.
func TestInputTwice(t *testing.T) {
	t.Parallel()
	state, host := fixture.C(t, "state"), fixture.C(t, "host")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"call", state, "next", "--config", "@-", "--in", "@-"}, "found --config from the standard input, and --in from there before it"},
		{[]string{"call", state, "next", "--config", "@-"}, "found --config from the standard input, and --in from there before it"},
		{[]string{"call", host, "upper", "--answer", "upper=@-", "--answer", "again=@-"}, "found --answer again from the standard input, and --answer upper from there"},
		{[]string{"call", host, "upper", "--answer", "upper=@-", "--answer", "again=x"}, "found no --in, which is the standard input then, and --answer upper from there before it"},
		{[]string{"check", state, "--config", "@-", "--in", "next=@-"}, "found --in next from the standard input, and --config from there before it"},
		{[]string{"bench", state, "next", "--config", "@-", "--in", "@-"}, "found --config from the standard input, and --in from there before it"},
	} {
		stdout, stderr, code := ferrule(t, "7", c.args...)
		assert.Equal(t, exitUsage, code, "%v: %s", c.args, stdout)
		assert.Empty(t, stdout, "%v", c.args)
		assert.Contains(t, stderr, c.want, "%v", c.args)
	}
	_, stderr, code := ferrule(t, "7", "call", state, "next", "--config", "@-", "--in", "")
	assert.Zero(t, code, stderr)
}
