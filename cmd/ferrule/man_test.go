//go:build unix

package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// TestMan: there is a manual page for each page of the manual in docs, and it shows what the help says, character by
// character.
func TestMan(t *testing.T) {
	t.Parallel()
	root, dir := command(&app{}), t.TempDir()
	_, stderr, code := ferrule(t, "", "man", dir)
	require.Zero(t, code, stderr)
	docs, err := filepath.Glob(filepath.Join(fixture.Root(), "docs", "ferrule*.md"))
	require.NoError(t, err)
	pages, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Equal(t, len(docs), len(pages))
	for _, doc := range docs {
		assert.FileExists(t, filepath.Join(dir, strings.TrimSuffix(filepath.Base(doc), ".md")+".1"))
	}
	groff := fixture.Tool(t, "groff", "apt-get install groff")
	// shown is a page as a reader sees it, on a terminal as wide as there is none, so that no line is broken.
	shown := func(name string) string {
		cmd := exec.CommandContext(t.Context(), groff, "-man", "-Tutf8", "-ww", "-P-c", "-P-b", "-P-o", "-P-u", "-rLL=2000n",
			"-rHY=0", filepath.Join(dir, name))
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		require.NoError(t, err)
		assert.Empty(t, errs.String(), name)
		return string(out)
	}
	// words are what a text says, wherever its lines end.
	words := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	for _, verb := range manual(root) {
		page := shown("ferrule-" + verb.Name() + ".1")
		assert.Contains(t, page, "  ferrule "+verb.Use+" [options]\n")
		for line := range strings.Lines(verb.Example) {
			assert.Contains(t, page, strings.TrimSpace(line), verb.Name())
		}
		for _, part := range helpParts(verb.Long) {
			for _, line := range part.lines {
				if line = strings.TrimPrefix(line, "- "); part.kind == helpBlock {
					assert.Contains(t, page, line, verb.Name())
				} else {
					assert.Contains(t, words(page), words(line), verb.Name())
				}
			}
		}
		verb.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			value, usage := pflag.UnquoteUsage(f)
			name := "--" + f.Name
			if f.Shorthand != "" {
				name = "-" + f.Shorthand + ", " + name
			}
			if f.Name != "help" {
				assert.Contains(t, words(page), words(name+" "+value+" "+usage), verb.Name())
			}
		})
	}
	all := shown("ferrule.1")
	for _, verb := range manual(root) {
		assert.Regexp(t, `ferrule-`+verb.Name()+`\(1\)\s+`+regexp.QuoteMeta(verb.Short), all)
	}

	_, stderr, code = ferrule(t, "", "man", filepath.Join(dir, "missing"))
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "no such file or directory")
	// A page is there whole, or not at all; that one cannot be written is no fault of the command line.
	const taken = "ferrule-call.1"
	other := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(other, taken), 0o700))
	_, stderr, code = ferrule(t, "", "man", other)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, taken)
	assert.NotContains(t, stderr, "--help")
	written, err := os.ReadDir(other)
	require.NoError(t, err)
	for _, page := range written {
		if page.Name() == taken {
			continue
		}
		got, err := os.ReadFile(filepath.Join(other, page.Name()))
		require.NoError(t, err)
		want, err := os.ReadFile(filepath.Join(dir, page.Name()))
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got), page.Name())
	}
}

// TestMakeInstall: make install puts the command with all that belongs to it where systems look for it, and make uninstall
// takes all of that away, and nothing else.
func TestMakeInstall(t *testing.T) {
	t.Parallel()
	tool := fixture.Tool(t, "make", "apt-get install make")
	stage, built := filepath.Join(t.TempDir(), "with spaces"), t.TempDir()
	prefix := filepath.Join(stage, "opt", "tools")
	run := func(target string, more ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), tool, append([]string{"-s", "-C", fixture.Root(), target, "DESTDIR=" + stage,
			"PREFIX=/opt/tools", "COMMAND=" + built}, more...)...)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { // a make around this one has its own options
			return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS")
		})
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	there := func() (files []string) {
		require.NoError(t, filepath.WalkDir(prefix, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				path, err = filepath.Rel(prefix, path)
				files = append(files, path)
			}
			return err
		}))
		return files
	}
	run("install")
	expected := []string{"bin/ferrule", "share/bash-completion/completions/ferrule", "share/zsh/site-functions/_ferrule",
		"share/fish/vendor_completions.d/ferrule.fish", "share/man/man1/ferrule.1", "include/ferrule.h", "share/pkgconfig/ferrule.pc"}
	for _, verb := range manual(command(&app{})) {
		expected = append(expected, "share/man/man1/ferrule-"+verb.Name()+".1")
	}
	assert.Subset(t, there(), expected)

	installed := filepath.Join(prefix, "bin", "ferrule")
	out, err := exec.CommandContext(t.Context(), installed, "inspect", fixture.C(t, "echo")).Output()
	require.NoError(t, err)
	assert.Contains(t, string(out), "echo 1.2.3")
	if bash, err := exec.LookPath("bash"); err == nil { // the script that bash loads completes by the command
		cmd := exec.CommandContext(t.Context(), bash, "--norc", "-c", `. share/bash-completion/completions/ferrule
			COMP_LINE='ferrule insp' COMP_POINT=12 COMP_WORDS=(ferrule insp) COMP_CWORD=1 COMP_TYPE=9
			_get_comp_words_by_ref() { cur=insp prev=ferrule words=(ferrule insp) cword=1; }
			__start_ferrule 2>&1; echo "${COMPREPLY[@]}"`)
		cmd.Dir = prefix
		cmd.Env = append(os.Environ(), "PATH="+filepath.Join(prefix, "bin")+":"+os.Getenv("PATH"))
		out, err := cmd.Output()
		require.NoError(t, err)
		assert.Contains(t, string(out), "inspect")
	}

	// Who installs may have no Go; who uninstalls, too.
	run("install", "GO=/no/such/go")
	own := filepath.Join(prefix, "include", "ferrule", "own.h")
	require.NoError(t, os.WriteFile(own, nil, 0o644))
	run("uninstall", "GO=/no/such/go")
	assert.Equal(t, []string{"include/ferrule/own.h"}, there())
	require.NoError(t, os.Remove(own))
	run("uninstall") // what is not there need not be taken away
	left, err := os.ReadDir(prefix)
	require.NoError(t, err)
	assert.Empty(t, left, "no empty folder stays")
}

// TestMakeInstallSDK: what is installed may be read by all, whatever the umask of who installs; it replaces links, and does not write where
// they lead; and the prefix is what was given, whatever is in it.
func TestMakeInstallSDK(t *testing.T) {
	t.Parallel()
	tool := fixture.Tool(t, "make", "apt-get install make")
	stage, prefix := t.TempDir(), `/a&b|c\d'e`
	to, victim := filepath.Join(stage, prefix), filepath.Join(t.TempDir(), "victim")
	pc := filepath.Join(to, "share", "pkgconfig", "ferrule.pc")
	require.NoError(t, os.MkdirAll(filepath.Dir(pc), 0o755))
	require.NoError(t, os.WriteFile(victim, []byte("its own"), 0o600))
	require.NoError(t, os.Symlink(victim, pc))
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `umask 077; exec "$@"`, "sh", tool, "-s", "-C", filepath.Join(fixture.Root(), "sdk-c"), "install",
		"DESTDIR="+stage, "PREFIX="+prefix)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") })
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	files := 0
	require.NoError(t, filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			info, err := d.Info()
			require.NoError(t, err)
			assert.Equal(t, fs.FileMode(0o644), info.Mode(), path)
			files++
		}
		return err
	}))
	assert.Greater(t, files, 4)
	text, err := os.ReadFile(pc)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(text), "prefix="+prefix+"\nincludedir=${prefix}/include\n"), "%s", text)
	text, err = os.ReadFile(victim)
	require.NoError(t, err)
	assert.Equal(t, "its own", string(text))
}
