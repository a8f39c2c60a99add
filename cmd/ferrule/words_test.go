//go:build linux

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// TestErrorsSpeakOfFlags: an error of this command says what a user of it can do: it names flags, those that the verb has, and
// nothing of the Go API.
func TestErrorsSpeakOfFlags(t *testing.T) {
	t.Parallel()
	fixture.NotMusl(t, "the dynamic linker has other words")
	large := compiled(t, `#include <stdlib.h>
		FERRULE_PLUGIN(FERRULE_NAME("large") FERRULE_VERSION("1"));
		static void release(ferrule_call *call) { free(call->out); }
		FERRULE_FN(f) {
			call->out_len = (size_t)300 << 20;
			call->out = calloc(1, call->out_len);
			call->release = release;
			return call->out ? FERRULE_OK : FERRULE_NO_MEMORY;
		}`)
	storage := compiled(t, `FERRULE_PLUGIN(FERRULE_NAME("storage") FERRULE_VERSION("1"));
		__thread char block[65536] __attribute__((tls_model("initial-exec")));
		FERRULE_FN(f) { (void)call; return block[0]; }`)
	stack := compiled(t, `FERRULE_PLUGIN(FERRULE_NAME("stack") FERRULE_VERSION("1"));
		FERRULE_FN(f) { (void)call; return FERRULE_OK; }`, "-Wl,-z,execstack")
	waits := compiled(t, stages, "-DAT_START=for (;;) sleep(1000)")
	script, plain := filepath.Join(t.TempDir(), "shout.py"), filepath.Join(t.TempDir(), "plain.py")
	require.NoError(t, os.WriteFile(script, []byte("#!/usr/bin/env python3\n"), 0o600))
	require.NoError(t, os.WriteFile(plain, []byte("print(1)\n"), 0o600))
	missing, empty := filepath.Join(t.TempDir(), "missing"), filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	goOption := regexp.MustCompile(`\b(loader|isolate|sandbox|sidecar|web)\.[A-Z]|\bWith[A-Z]|InWorker|Policy`)
	flag := regexp.MustCompile(`--([a-z][a-z-]*)`)
	verbs := map[string]map[string]bool{}
	for _, c := range command(&app{}).Commands() {
		verbs[c.Name()] = map[string]bool{"json": true}
		for _, m := range flag.FindAllStringSubmatch(c.Flags().FlagUsages(), -1) {
			verbs[c.Name()][m[1]] = true
		}
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a configuration":             {[]string{"call", fixture.C(t, "start_fails"), "answer"}, "without a configuration: give it one where it needs one (--config)"},
		"another configuration":       {[]string{"call", "--config", "x", fixture.C(t, "start_fails"), "answer"}, "the configuration of --config"},
		"a configuration, in bench":   {[]string{"bench", fixture.C(t, "start_fails"), "answer"}, "give it one where it needs one (--config)"},
		"a long result":               {[]string{"call", "--isolated", large, "f"}, "this command has room for 256 MiB"},
		"a long result, in bench":     {[]string{"bench", large, "f"}, "this command has room for 256 MiB"},
		"a path of the sandbox":       {[]string{"call", "--sandbox", "--allow-read", missing, large, "f"}, "found --allow-read with"},
		"another path":                {[]string{"bench", "--sandbox", "--allow-write", missing, large, "f"}, "found --allow-write with"},
		"a path of check's sandbox":   {[]string{"check", "--only", "sandbox", "--sandbox", "--allow-read", missing, large}, "found --allow-read with"},
		"a Go library":                {[]string{"call", fixture.Go(t), "answer"}, "ferrule call --isolated"},
		"thread-local variables":      {[]string{"call", storage, "f"}, "GLIBC_TUNABLES="},
		"the same of check":           {[]string{"check", "--only", "open", storage}, "GLIBC_TUNABLES="},
		"an executable stack":         {[]string{"call", stack, "f"}, "-Wl,-z,noexecstack"},
		"no time at all":              {[]string{"call", "--isolated", "--timeout", "1ns", "--in", "", large, "f"}, ": could not be started: not opened: out of time after 1ns (--timeout). Give it more time (--timeout).\n"},
		"grants of nothing":           {[]string{"install", "--grant", "x"}, "found --grant without a plug-in that is added"},
		"an application":              {[]string{"gc", "--config", empty, "--app", "shop"}, "expected --app NAME@VERSION"},
		"a place to take from":        {[]string{"install", "--config", empty, "--from", "https://"}, "--from: "},
		"no place to publish in":      {[]string{"push", large}, "found no --to"},
		"no place to copy to":         {[]string{"mirror", "--config", empty}, "found no --to"},
		"what a rollback has pinned":  {[]string{"update", "--unpin"}, "found --unpin without a name"},
		"no platform":                 {[]string{"lock", "--config", empty}, "found no --platform"},
		"nothing to search":           {[]string{"search", "--config", empty, "x"}, "--registry ADDRESS"},
		"a key for what is installed": {[]string{"verify", "--key", "x"}, "found --key and no FILE"},
		"two lists":                   {[]string{"list", "--config", empty, "--hooks", "--outdated"}, "found --hooks and --outdated"},
		"a script":                    {[]string{"inspect", script}, "Where it is a sidecar, name it as one (ferrule call --sidecar, ferrule check --sidecar)"},
		"a script, to check":          {[]string{"check", script}, "ferrule check --sidecar"},
		"a script, to serve":          {[]string{"serve", "--stdio", script}, "ferrule call --sidecar"},
		"a script, to call":           {[]string{"call", script, "f"}, "ferrule call --sidecar"},
		"a script, to bench":          {[]string{"bench", script, "f"}, "ferrule call --sidecar"},
		"a script without its first":  {[]string{"push", "--to", filepath.Dir(empty), plain}, "begin it with #! and what runs it"},
		"an empty path":               {[]string{"inspect", ""}, "ferrule: found an empty FILE (is a variable not set?), expected ferrule "},
		"an empty path, in call":      {[]string{"call", "", "f"}, "ferrule: found an empty FILE (is a variable not set?), expected ferrule "},
		"an empty path, in check":     {[]string{"check", ""}, "ferrule: found an empty FILE (is a variable not set?), expected ferrule "},
		"an empty path, in bench":     {[]string{"bench", "", "f"}, "ferrule: found an empty FILE (is a variable not set?), expected ferrule "},
		"a start that does not end":   {[]string{"bench", "--timeout", "1s", waits, "f"}, "--timeout"},
		"a start in check's sandbox":  {[]string{"check", "--only", "sandbox", "--sandbox", "--timeout", "1s", waits}, "opening the library in the sandbox: not done after 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := ferrule(t, "", c.args...)
			require.NotZero(t, code)
			text := stdout + stderr
			assert.Contains(t, text, c.want)
			assert.NotRegexp(t, goOption, text)
			for _, m := range flag.FindAllStringSubmatch(stderr, -1) {
				verb := c.args[0]
				if m[1] == "isolated" || m[1] == "sidecar" {
					verb = "call" // which is named with it
				}
				assert.True(t, verbs[verb][m[1]] || m[1] == "help", "ferrule %s has no --%s: %s", verb, m[1], text)
			}
		})
	}
}
