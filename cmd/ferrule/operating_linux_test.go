package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// The commands of docs/operating.md do what the page says, one after the other: those on a library, on a folder of a config.yaml, and on what
// comes from a registry.
func TestPageOfOperating(t *testing.T) {
	t.Parallel()
	need(t, "c")
	m := newMarket(t, "registry: {url: REGISTRY, keys: [KEY]}\nplugins:\n  - {name: regulars, grant: [loyalty_points]}\n")
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "operating.md"))
	require.NoError(t, err)
	chapters := strings.Split(strings.NewReplacer("/srv/plugins", m.path("srv"), "/var/lib/shop", m.path("shop")).Replace(string(text)), "\n# ")
	require.Len(t, chapters, 3)
	ran := 0
	section := func(chapter int, title string) (found []string) {
		_, rest, ok := strings.Cut(chapters[chapter], "\n## "+title+"\n")
		require.True(t, ok, title)
		rest, _, _ = strings.Cut(rest, "\n## ")
		for _, b := range blocks(rest) {
			if b.language == "sh" {
				found = append(found, b.text)
				ran++
			}
		}
		require.NotEmpty(t, found, title)
		return found
	}
	run := func(commands string) string {
		return shell(t, m.folder, "export XDG_CACHE_HOME="+m.path("cache")+"\n"+commands) // where the store is
	}

	require.NoError(t, os.Mkdir(m.path("srv"), 0o777))
	resize := made(t, "c", "resize")
	shell(t, resize.Dir, "make -s")
	require.NoError(t, os.Rename(filepath.Join(resize.Dir, resize.Library), m.path("libresize.so")))
	shell(t, resize.Dir, `sed -i 's/"0\.1\.0"/"0.0.9"/' resize.c && make -s`)
	require.NoError(t, os.Rename(filepath.Join(resize.Dir, resize.Library), m.path("srv", "libresize.so")))
	before, after := m.text("srv/libresize.so"), m.text("libresize.so")
	out := run(section(1, "Ship")[0])
	for _, said := range []string{"greet", "libc", "0 errors", "Hello, Ada!"} {
		assert.Contains(t, out, said)
	}
	assert.Contains(t, run(section(1, "Update a library: mv, never cp")[0]), "0.0.9 -> ", "what changes")
	assert.Equal(t, after, m.text("srv/libresize.so"))
	run(section(1, "Roll back a library")[0])
	assert.Equal(t, before, m.text("srv/libresize.so"))
	assert.Regexp(t, `^[0-9a-f]{64}  libresize\.so\n$`, run(section(1, "Digests")[0]))

	require.NoError(t, os.MkdirAll(m.path("shop", "plugins"), 0o777))
	for _, version := range []string{"1", "2"} {
		library := compiled(t, `FERRULE_PLUGIN(FERRULE_NAME("regulars") FERRULE_VERSION(VERSION));
FERRULE_IMPORT(loyalty_points);
FERRULE_FN(discount) { return (int)(call->in_len + ferrule_import_loyalty_points); }
`, `-DVERSION="`+version+`.0.0"`)
		require.NoError(t, os.Rename(library, m.path("regulars-"+version+".so")))
	}
	run("cp regulars-1.so shop/plugins/regulars.so")
	update, back := section(2, "Update a plug-in"), section(2, "Roll back a plug-in")
	require.Len(t, update, 2)
	require.Len(t, back, 2)
	run(update[0])
	assert.Equal(t, m.text("regulars-2.so"), m.text("shop/plugins/regulars.so"))
	run(back[0])
	assert.Equal(t, m.text("regulars-1.so"), m.text("shop/plugins/regulars.so"))

	run("ferrule push --to releases --key shop.key regulars-1.so && ferrule install && ferrule push --to releases --key shop.key regulars-2.so")
	assert.Contains(t, m.text("ferrule.lock"), "version: 1.0.0")
	out = run(update[1])
	assert.Contains(t, out, "regulars 1.0.0 -> 2.0.0")
	assert.Contains(t, m.text("ferrule.lock"), "version: 2.0.0")
	rollback, unpin, _ := strings.Cut(back[1], "\n")
	run(rollback)
	assert.Contains(t, m.text("ferrule.lock"), "version: 1.0.0")
	run(unpin)
	assert.Contains(t, m.text("ferrule.lock"), "version: 2.0.0")

	m.configure("registry: {url: REGISTRY, keys: [KEY]}\nplugins:\n  - regulars\n")
	before = m.text("config.yaml")
	require.NoError(t, os.WriteFile(m.path("edit"), []byte("#!/bin/sh\nset -e\ncmp config.yaml \"$1\"\necho '# edited' >>\"$1\"\n"), 0o755))
	run("EDITOR=./edit\n" + section(2, "Change config.yaml")[0])
	assert.Equal(t, before+"# edited\n", m.text("config.yaml"))
	granted := []bool{}
	for line := range strings.Lines(section(2, "Grants")[0]) {
		out := run(line)
		if verb := strings.Fields(line)[1]; strings.HasSuffix(verb, "able") {
			assert.Contains(t, out, verb+"d", line)
			continue
		}
		assert.Contains(t, out, "loyalty_points", line)
		granted = append(granted, strings.Contains(m.text("config.yaml"), "loyalty_points"))
	}
	assert.Equal(t, []bool{false, true, false}, granted)
	run("ferrule grant regulars loyalty_points")
	run(section(2, "What the log says")[0])
	assert.Equal(t, strings.Count(string(text), "\n```sh\n"), ran, "each command of the page was run")
}
