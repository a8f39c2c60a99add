package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/config"
)

// shop is the folder of an application: a config.yaml, and a folder plugins beside it.
type shop struct {
	t      *testing.T
	folder string
}

// newShop makes one with this config.yaml, and fixtures by their names.
func newShop(t *testing.T, text string, fixtures ...string) *shop {
	t.Helper()
	folder, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	s := &shop{t, folder}
	require.NoError(t, os.Mkdir(filepath.Join(folder, "plugins"), 0o700))
	s.configure(text)
	for _, name := range fixtures {
		s.add(name, name)
	}
	return s
}

func (s *shop) configure(text string) {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(s.path("config.yaml"), []byte(text), 0o600))
}

// add puts a library into the folder plugins, with bytes of the fixture changed.
func (s *shop) add(file, fixtureName string, pairs ...string) {
	s.t.Helper()
	fixture.Variant(s.t, fixtureName, s.path("plugins", file+fixture.Ext()), pairs...)
}

func (s *shop) path(parts ...string) string {
	return filepath.Join(append([]string{s.folder}, parts...)...)
}

// run runs a verb on the config.yaml. What it writes is as on every machine.
func (s *shop) run(line string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	stdout, stderr, code = ferrule(s.t, "", append(append(strings.Fields(line), "--config", s.path("config.yaml")), args...)...)
	same := strings.NewReplacer(s.folder+string(filepath.Separator), "", "plugins"+string(filepath.Separator), "plugins/", fixture.Ext(), ".so", runtime.GOOS+"/"+runtime.GOARCH, "OS/ARCH")
	return same.Replace(stdout), same.Replace(stderr), code
}

// prints holds a verb to what it prints, and to its exit code.
func (s *shop) prints(want string, code int, line string) {
	s.t.Helper()
	stdout, stderr, got := s.run(line)
	assert.Equal(s.t, want, stdout, line)
	assert.Empty(s.t, stderr, line)
	assert.Equal(s.t, code, got, line)
}

const shopConfig = `# of a shop
folders: [plugins]
plugins:
  - name: asks # for much
    version: ^1
    grant: [loyalty_*, geo_lookup]
    permit: {connect: [443, 8080], listen: [0]}
    limit: 50ms
    required: true
  - {name: serves, isolate: {group: shared}}
  - {name: plugin_bbbb, enabled: false}
`

// demoShop is one in which all is as it may be; nothing of asks can run.
func demoShop(t *testing.T) *shop {
	s := newShop(t, shopConfig, "asks", "serves")
	s.add("b", "system", "aaaa", "bbbb")
	s.add("c", "system", "aaaa", "cccc", "1.0.0", "1.0.7")
	return s
}

func TestList(t *testing.T) {
	t.Parallel()
	s := demoShop(t)
	s.prints(`NAME         VERSION  STATE       RUNS          SOURCE
asks         1.0.0    ready       in-process    plugins/asks.so
plugin_bbbb  1.0.0    disabled    in-process    plugins/b.so
plugin_cccc  1.0.7    discovered  in-process    plugins/c.so
serves       1.2.0    ready       group shared  plugins/serves.so
`, 0, "list")

	s.configure(strings.NewReplacer("^1", "^3", "enabled: false", "isolate: true").Replace(shopConfig) + "  - gone\n")
	s.prints(`NAME         VERSION  STATE       RUNS          SOURCE
asks         1.0.0    failed      in-process    plugins/asks.so
gone         -        failed      in-process    -
plugin_bbbb  1.0.0    ready       isolated      plugins/b.so
plugin_cccc  1.0.7    discovered  in-process    plugins/c.so
serves       1.2.0    ready       group shared  plugins/serves.so

asks: resolve: a version that does not fit
  found     1.0.0
  expected  "^3", as config.yaml says
  remedy    Install a version in that range, or change it in config.yaml: plugins: version

gone: discover: no such plug-in
  found     no plug-in of this name (in plugins; 4 others)
  expected  a library whose manifest has this name, unless the application has it compiled in
  remedy    There are asks, plugin_bbbb, plugin_cccc, serves
`, 0, "list")

	s.configure("plugins: [{name: gone, enabled: false}]\n") // that is its state, and nothing is wrong with it
	s.prints(`NAME  VERSION  STATE     RUNS        SOURCE
gone  -        disabled  in-process  -
`, 0, "list")
	stdout, _, code := s.run("list --json")
	assert.Zero(t, code)
	assert.NotContains(t, stdout, `"error"`)
}

// A version of a plug-in's may be long, and makes no table wider than a screen.
func TestLongVersion(t *testing.T) {
	t.Parallel()
	s := newShop(t, "folders: [plugins]\n")
	require.NoError(t, os.WriteFile(s.path("plugins", "long.js"), []byte("// ferrule: name=long version=1.0.0-"+strings.Repeat("é", 1000)+" fn=f\nexport const f = (x) => x\n"), 0o600))
	out, stderr, code := s.run("list")
	assert.Zero(t, code, stderr)
	assert.Contains(t, out, "long  1.0.0-é")
	assert.Contains(t, out, "é…  ")
	for line := range strings.Lines(out) {
		assert.Less(t, utf8.RuneCountInString(line), 160)
	}
	out, _, _ = s.run("list --json")
	assert.Contains(t, out, strings.Repeat("é", 1000))
}

// A program is held to its permits, but for one without a sandbox; what it asks for nobody has asked it.
func TestPermitsOfSidecars(t *testing.T) {
	s := newShop(t, `plugins:
  - {name: bare, program: plain.py, permit: {connect: [443]}, isolate: {sandbox: none}}
  - {name: shut, program: plain.py, permit: {connect: [443], read: [gone]}}
`)
	require.NoError(t, os.WriteFile(s.path("plain.py"), []byte("#!/bin/sh\nexit 1\n"), 0o755))
	stdout, _, code := s.run("doctor")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stdout, `doubtful: config.yaml:2:5: bare
  found     permits that are declared only: connect 443
`)
	assert.Contains(t, stdout, "wrong: config.yaml:3:5: shut: a permit for a path that is not there\n  found     gone\n")
	assert.NotContains(t, stdout, "does not ask for")
	for name, title := range map[string]string{"bare": "permits, declared only: it has no sandbox, and nothing holds it to them", "shut": "permits"} {
		stdout, _, code = s.run("info", name)
		assert.Equal(t, 0, code)
		assert.Regexp(t, `(?m)^  `+title+`\n(    read \S+ +permitted\n)?    connect 443 +permitted$`, stdout)
	}
}

// Sidecars run in processes of their own. What is missing of one is seen with nothing of it run.
func TestListSidecars(t *testing.T) {
	t.Parallel()
	s := newShop(t, `plugins:
  - {name: far, url: 'tcp:127.0.0.1:1'}
  - {name: gone, program: gone.py}
  - {name: plain, program: plain.py}
  - {name: secret, url: 'tcp:127.0.0.1:1', token-file: gone}
  - {name: strange, program: plain.py, interpreter: [ferrule-has-none]}
`)
	ran := s.path("ran")
	require.NoError(t, os.WriteFile(s.path("plain.py"), []byte("#!/bin/sh\n: >"+ran+"\n"), 0o600))
	out, stderr, code := s.run("list")
	assert.Zero(t, code)
	assert.Empty(t, stderr)
	for _, line := range []string{
		`far +- +ready +sidecar +tcp:127\.0\.0\.1:1`, `gone +- +failed +sidecar +gone\.py`, `secret +- +failed +sidecar +tcp:127\.0\.0\.1:1`, `strange +- +failed +sidecar +plain\.py`,
	} {
		assert.Regexp(t, "(?m)^"+line+"$", out)
	}
	assert.Contains(t, out, "found     no program")
	assert.Contains(t, out, "found     no token-file that can be read")
	assert.Contains(t, out, "remedy    Install it, or give its path by interpreter in its entry")
	if runtime.GOOS != "windows" { // it may not be executed
		assert.Contains(t, out, "remedy    Change that (chmod +x), or name what runs it by interpreter in its entry")
	}
	out, _, code = s.run("doctor")
	assert.Equal(t, exitFailed, code)
	for _, name := range []string{"gone", "plain", "secret", "strange"} {
		assert.Regexp(t, "(?m)^wrong: config.yaml:[0-9]+:[0-9]+: "+name+": ", out)
	}
	out, _, code = s.run("info far")
	assert.Zero(t, code)
	assert.Regexp(t, "(?m)sidecar", out)
	assert.NoFileExists(t, ran)
}

// A program in a folder is no plug-in until an entry names it: who asks for it by its name is told what to write, and so is who asks what is doubtful.
func TestProgramInFolder(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a script is no program there")
	}
	s := newShop(t, "folders: [plugins]\nplugins: []\n")
	ran := s.path("ran")
	require.NoError(t, os.WriteFile(s.path("plugins", "side.py"), []byte("#!/bin/sh\n: >"+ran+"\n"), 0o755))
	says := `Where it is a plug-in, write its entry so: {name: side, program: plugins/side.py}`
	for line, asked := range map[string]string{"enable side": "side", "enable side.py": "side.py", "info side": "side"} {
		_, stderr, code := s.run(line)
		assert.Equal(t, exitUsage, code)
		assert.Contains(t, stderr, "expected one that is in config.yaml or in its folders. There is a program plugins/side.py, which is not run because it lies there. "+
			"Where it is a plug-in, write its entry so: {name: "+asked+", program: plugins/side.py}", line)
	}
	s.prints("doubtful: plugins/side.py\n  found     a program in a folder of plug-ins, which is not run because it lies there\n  expected  an entry that names it, where it is a plug-in\n  remedy    "+says+
		"\n\n0 wrong, 1 doubtful.\n", exitFailed, "doctor")
	s.configure("folders: [plugins]\nplugins: [side]\n")
	stdout, _, _ := s.run("doctor")
	assert.Contains(t, stdout, "1 wrong, 0 doubtful.", "its error says so")
	for _, line := range []string{"install", "install side"} {
		_, stderr, code := s.run(line, "--store", s.path("store"))
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "warning: side: There is a program plugins/side.py, which is not run because it lies there. "+says, line)
		assert.Contains(t, stderr, "side: found no source at all", line)
	}
	require.NoError(t, os.WriteFile(s.path("plugins", "7.py"), []byte("#!/bin/sh\n"), 0o755))
	_, stderr, _ := s.run("info 7")
	assert.Contains(t, stderr, "{name: '7', program: plugins/7.py}", "as config.yaml takes it")
	require.NoError(t, os.Rename(s.path("plugins", "7.py"), s.path("plugins", "my prog.py")))
	for _, args := range [][]string{{"doctor"}, {"info", "my prog"}} {
		stdout, stderr, _ := s.run(args[0], args[1:]...)
		assert.Contains(t, stdout+stderr, "{name: NAME, program: 'plugins/my prog.py'}, with the name that it says", args[0])
	}
	require.NoError(t, os.Remove(s.path("plugins", "my prog.py")))
	s.configure("folders: [plugins]\nplugins: [{name: side, program: plugins/side.py}]\n")
	stdout, _, _ = s.run("doctor")
	assert.NotContains(t, stdout, says)
	assert.NoFileExists(t, ran)
}

// TestInterpreterThatIsAScript: of a sidecar in a sandbox, list and doctor say what config.yaml has for it, in the words of the application, and no flag of another verb.
func TestInterpreterThatIsAScript(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("a sidecar has a sandbox on Linux")
	}
	s := newShop(t, "plugins: [{name: shut, program: plain.py, interpreter: [./shim], isolate: true}]\n")
	for file, text := range map[string]string{"plain.py": "", "shim": "#!/bin/sh\nexec python3 \"$@\"\n"} {
		require.NoError(t, os.WriteFile(s.path(file), []byte(text), 0o755))
	}
	for _, verb := range []string{"list", "doctor", "info shut"} {
		stdout, _, _ := s.run(verb)
		assert.Contains(t, stdout, "remedy    Name that by interpreter in its entry, or set isolate.processes\n", verb)
	}
}

func TestListHooks(t *testing.T) {
	t.Parallel()
	s := demoShop(t)
	s.prints("told\n  1  asks    priority 5\n  2  serves  by name\n  resolve: a circle of before and after\n    found     serves before asks before serves\n"+
		"    expected  an order without a circle\n    remedy    `before asks` of serves was left out; change one of the plug-ins, or name them in config.yaml: hooks.told, "+
		"in the order that you want\n", 0, "list --hooks")
	s.configure(shopConfig + "hooks: {told: [serves, '*']}\n")
	s.prints("told\n  1  serves  the user's list (config.yaml: hooks.told); overrides `before serves` of asks\n  2  asks    priority 5\n", 0, "list --hooks")
}

func TestListJSON(t *testing.T) {
	t.Parallel()
	s := demoShop(t)
	s.configure(strings.Replace(shopConfig, ", geo_lookup", "", 1))
	stdout, _, code := s.run("list --json")
	require.Zero(t, code)
	var got listing
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&got))
	assert.Equal(t, listed{Name: "serves", Version: "1.2.0", State: "ready", Enabled: true, Runs: "group", Group: "shared", Source: "plugins/serves.so"}, got.Plugins[3])
	require.NotNil(t, got.Plugins[0].Error)
	assert.Equal(t, "grant", got.Plugins[0].Error.Step)
	assert.Equal(t, "imports that it was not granted: geo_lookup", got.Plugins[0].Error.Found)
	assert.True(t, got.Plugins[0].Required)

	s.configure(shopConfig)
	stdout, _, _ = s.run("list --hooks --json")
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	require.Len(t, got.Hooks, 1)
	assert.Equal(t, []hookPlace{{"asks", "priority 5"}, {"serves", "by name"}}, got.Hooks[0].Places)
	require.Len(t, got.Hooks[0].Contradictions, 1)
	assert.Equal(t, "serves before asks before serves", got.Hooks[0].Contradictions[0].Found)
}

func TestListOfNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.prints("config.yaml names no plug-in, and there is none in its folders.\n", 0, "list")
	s.prints("No plug-in of config.yaml that is ready has a hook.\n", 0, "list --hooks")
	s.prints("All is well with config.yaml: 0 plug-ins.\n", 0, "doctor")
}

func TestInfo(t *testing.T) {
	t.Parallel()
	s := demoShop(t)
	s.prints(`asks 1.0.0  plugins/asks.so
  Asks for everything.
  state     ready
  runs      in-process
  required  yes: the application does not start without it
  versions  ^1
  limit     50ms
  threads   concurrent
  platform  OS/ARCH
  requires  serves
  functions
    rate  text/plain -> application/json
      Says the rate.
  points
    told
      before serves
      priority 5
  asks for
    geo_lookup  a service of serves, granted
    loyalty_points  of the application, granted by loyalty_*
      Reads a customer's points.
      why: To know who gets a discount.
    cart_total  of the application, not granted, and not needed
      The sum of a cart.
  permits, declared only: it runs in the application's process, where nothing holds it to them
    connect 443   permitted
    connect 8080  permitted
    listen 0      permitted, not asked for
    memory 1MiB   asked for, and there is no limit
`, 0, "info asks")
	s.prints(`serves 1.2.0  plugins/serves.so
  state     ready
  runs      group shared
  threads   serial
  platform  OS/ARCH
  provides  geo_lookup
  functions
    geo_lookup
  points
    told
      before asks
`, 0, "info serves")

	stdout, _, code := s.run("info --json asks")
	require.Zero(t, code)
	var got info
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&got))
	assert.Equal(t, []ask{
		{Name: "geo_lookup", Needed: true, From: "serves", Granted: true, By: "geo_lookup"},
		{Name: "loyalty_points", Doc: "Reads a customer's points.", Why: "To know who gets a discount.", Needed: true, Granted: true, By: "loyalty_*"},
		{Name: "cart_total", Doc: "The sum of a cart."},
	}, got.Asks)
	assert.Contains(t, got.Permits, permit{What: "listen", Item: "0", Permitted: true})
	assert.True(t, got.Declared)
}

// TestInfoOfFailed: what is not granted and not permitted is said beside what is.
func TestInfoOfFailed(t *testing.T) {
	t.Parallel()
	s := demoShop(t)
	s.configure("folders: [plugins]\nplugins: [{name: asks, grant: [geo_lookup], permit: {connect: [443], memory: 64KiB}, isolate: true}]\n")
	s.prints(`asks 1.0.0  plugins/asks.so
  Asks for everything.
  state     failed
  runs      isolated
  threads   concurrent
  platform  OS/ARCH
  grant: needs what it was not granted
    found     a manifest that asks for connect 8080, memory 1048576 (of 65536), which it was not permitted
    expected  a permit of each
    remedy    Write permit: {connect: [443, 8080], memory: 1048576} in its entry, line 2 of config.yaml
  functions
    rate  text/plain -> application/json
      Says the rate.
  points
    told
      before serves
      priority 5
  asks for
    geo_lookup  of the application, granted
    loyalty_points  of the application, not granted
      Reads a customer's points.
      why: To know who gets a discount.
    cart_total  of the application, not granted, and not needed
      The sum of a cart.
  permits
    connect 443   permitted
    connect 8080  asked for, not permitted
    memory 1MiB   asked for, not permitted
`, 0, "info asks")
	s.configure("plugins: [gone]\n")
	s.prints(`gone  no file
  state  failed
  runs   in-process
  discover: no such plug-in
    found     no plug-in of this name (no folder is named; 0 others)
    expected  a library whose manifest has this name, unless the application has it compiled in
    remedy    Name a folder in folders:, or have the application install it: plugins.Download; by hand: ferrule install
`, 0, "info gone")
}

// file holds the config.yaml to a text.
func (s *shop) file(want string) {
	s.t.Helper()
	text, err := os.ReadFile(s.path("config.yaml"))
	require.NoError(s.t, err)
	assert.Equal(s.t, want, string(text))
}

// TestEdit: each verb changes what it is asked for and nothing else, says so, and changes nothing the second time.
func TestEdit(t *testing.T) {
	t.Parallel()
	s := demoShop(t)
	text := shopConfig
	for _, c := range []struct{ line, says, again, from, to string }{
		{"disable asks", "asks: disabled in config.yaml\n", "asks: disabled already\n", "  - name: asks # for much\n", "  - name: asks # for much\n    enabled: false\n"},
		{"enable asks", "asks: enabled in config.yaml\n", "asks: enabled already\n", "    enabled: false\n", ""},
		{"enable plugin_bbbb plugin_cccc", "plugin_bbbb: enabled in config.yaml\nplugin_cccc: added to config.yaml, with no grants\n",
			"plugin_bbbb: enabled already\nplugin_cccc: enabled already\n", ", enabled: false}\n", "}\n  - plugin_cccc\n"},
		{"grant asks cart_total", "asks: cart_total granted in config.yaml\n", "asks: cart_total granted already\n", "geo_lookup]", "geo_lookup, cart_total]"},
		{"grant asks loyalty_points geo_*", "asks: loyalty_points granted already, by loyalty_*\nasks: geo_* granted in config.yaml\n",
			"asks: loyalty_points granted already, by loyalty_*\nasks: geo_* granted already\n", "cart_total]", "cart_total, geo_*]"},
		{"deny asks geo_* loyalty_*", "asks: geo_* taken away in config.yaml\nasks: loyalty_* taken away in config.yaml\n",
			"asks: geo_* not granted already\nasks: loyalty_* not granted already\n", "[loyalty_*, geo_lookup, cart_total, geo_*]", "[geo_lookup, cart_total]"},
		{"deny asks cart_total cart_total", "asks: cart_total taken away in config.yaml\nasks: cart_total not granted already\n",
			"asks: cart_total not granted already\nasks: cart_total not granted already\n", ", cart_total]", "]"},
	} {
		require.Equal(t, 1, strings.Count(text, c.from), c.line)
		text = strings.Replace(text, c.from, c.to, 1)
		stdout, stderr, code := s.run(c.line)
		assert.Equal(t, c.says, stdout, c.line)
		assert.Equal(t, strings.Contains(c.line, "loyalty_*"), strings.Contains(stderr, "warning: asks imports loyalty_points, and"), stderr)
		assert.Zero(t, code, c.line)
		s.file(text)
		s.prints(c.again, 0, c.line)
		s.file(text)
	}
	s.configure(shopConfig)
	stdout, _, code := s.run("grant --json asks cart_total geo_lookup")
	require.Zero(t, code)
	var got edited
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	assert.Equal(t, edited{Config: "config.yaml", Changes: []edit{{"asks", "cart_total", true, "asks: cart_total granted in config.yaml"}, {"asks", "geo_lookup", false, "asks: geo_lookup granted already"}}}, got)
	s.configure("folders: [plugins]\nplugins: [asks]\n")
	s.prints("serves: not used already: config.yaml does not name it\n", 0, "disable serves")
	s.file("folders: [plugins]\nplugins: [asks]\n")
}

// TestEditTogether: of commands that edit the file at the same time, what each says that it has done is in the file.
func TestEditTogether(t *testing.T) {
	t.Parallel()
	s := demoShop(t)
	s.configure("folders: [plugins]\nplugins: [{name: asks, grant: [a_0, a_1, a_2, a_3, a_4, a_5]}, serves, plugin_bbbb]\n")
	lines := []string{"grant asks cart_total", "grant asks loyalty_points", "disable plugin_bbbb", "enable plugin_cccc", "remove serves"}
	for i := range 6 {
		lines = append(lines, fmt.Sprintf("deny asks a_%d", i))
	}
	var wg sync.WaitGroup
	for _, line := range lines {
		wg.Go(func() {
			_, stderr, code := s.run(line)
			assert.Zero(t, code, "%s: %s", line, stderr)
		})
	}
	wg.Wait()
	c, err := config.Load(s.path("config.yaml"))
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"cart_total", "loyalty_points"}, c.Plugin("asks").Grant)
	assert.False(t, c.Plugin("plugin_bbbb").Enabled)
	assert.NotNil(t, c.Plugin("plugin_cccc"))
	assert.Nil(t, c.Plugin("serves"))
}

// TestEditWarns: an edit with which a running application would not go on is done, and said.
func TestEditWarns(t *testing.T) {
	t.Parallel()
	s := newShop(t, "", "asks", "serves")
	const listed = "folders: [plugins]\nplugins: [{name: asks, grant: [loyalty_points, geo_lookup, cart_total], permit: {connect: [443, 8080]}%s}, %s]\n"
	const refused = ". An application that watches config.yaml refuses it as a whole then, with all later changes, and goes on with all as it was. To take asks away now: ferrule disable asks\n"
	const before = ". That was so before. An application that watches config.yaml refuses it as a whole, with all later changes, and goes on with all as it was, unless asks has failed there already. To take asks away now: ferrule disable asks\n"
	for _, c := range []struct{ line, asks, serves, stderr string }{
		{"deny asks loyalty_points", "", "serves", "ferrule: warning: asks imports loyalty_points, and cannot be without it, unless the application offers it to all" + refused},
		{"deny asks cart_total", "", "serves", ""}, // it only wants that
		{"deny asks loyalty_points", ", enabled: false", "serves", ""},
		{"deny asks geo_lookup", "", "serves", "ferrule: warning: asks: grant: found imports that it was not granted: geo_lookup, expected a grant of each. " +
			"Write grant: [loyalty_points, cart_total, geo_lookup] in its entry, line 2 of config.yaml (ferrule grant)" + refused},
		{"disable asks", "", "serves", ""},
		{"enable asks", ", enabled: false, version: ^7", "serves", "ferrule: warning: asks: resolve: found 1.0.0, expected \"^7\", as config.yaml says. " +
			"Install a version in that range, or change it in config.yaml: plugins: version" + refused},
		{"disable serves", ", version: ^7", "serves", "ferrule: warning: asks: resolve: found 1.0.0, expected \"^7\", as config.yaml says. " +
			"Install a version in that range, or change it in config.yaml: plugins: version" + before},
	} {
		s.configure(fmt.Sprintf(listed, c.asks, c.serves))
		_, stderr, code := s.run(c.line)
		assert.Zero(t, code, c.line)
		assert.Equal(t, c.stderr, stderr, c.line)
	}
	s.configure(fmt.Sprintf(listed, "", "serves"))
	stdout, stderr, _ := s.run("deny asks loyalty_points --json")
	var got edited
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	require.Len(t, got.Warnings, 1)
	assert.Equal(t, "ferrule: warning: "+got.Warnings[0]+"\n", stderr)
}

// TestEditWarnsOfAll: neither what a plug-in lacks besides nor what the application may have compiled in hides that it refuses the file.
func TestEditWarnsOfAll(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	for name, requires := range map[string]string{"pts": "", "often": " requires=welcome"} {
		require.NoError(t, os.WriteFile(s.path("plugins", name+".py"), []byte("# ferrule: name="+name+" version=1.0.0 permit.connect=443"+requires+"\n# ferrule: fn=f import=points\ndef f(x): return x\n"), 0o600))
	}
	const permit = "a manifest that asks for connect 443, which it was not permitted"
	const welcome = "found no plug-in welcome"
	const points = " imports points, and cannot be without it, unless the application offers it to all"
	const fresh, stale = "refuses it as a whole then", "That was so before."
	for _, c := range []struct {
		plugins, line string
		has, hasNot   []string // nil is no warning at all
	}{
		{"[pts]", "grant pts points", []string{permit, fresh}, []string{points}},
		{"[pts]", "grant pts poi*", []string{permit, fresh}, []string{points}},
		{"[{name: pts, grant: [points]}]", "deny pts points", []string{permit, points, fresh}, nil},
		{"[{name: pts, enabled: false}]", "enable pts", []string{permit, points, fresh}, nil},
		{"[{name: often, enabled: false}]", "enable often", []string{welcome, permit, points, fresh}, nil},
		{"[{name: often, permit: {connect: [443]}}]", "grant often points", nil, nil}, // that welcome is not known is not new
		{"[{name: often, permit: {connect: [443]}, grant: [points]}]", "deny often points", []string{"often" + points, fresh}, []string{welcome, permit}},
		{"[pts, {name: often, permit: {connect: [443]}}]", "disable often", []string{permit, stale}, []string{points, fresh}},
		{"[pts, {name: often, permit: {connect: [443]}}]", "disable pts", nil, nil},
		{"[{name: often, enabled: false}, often2, pts]", "disable often2", []string{permit, stale}, []string{welcome, fresh}},
	} {
		s.configure("folders: [plugins]\nplugins: " + c.plugins + "\n")
		_, stderr, code := s.run(c.line)
		assert.Zero(t, code, c.line)
		for _, text := range c.has {
			assert.Contains(t, stderr, text, "%s: %s", c.plugins, c.line)
		}
		for _, text := range c.hasNot {
			assert.NotContains(t, stderr, text, "%s: %s", c.plugins, c.line)
		}
		assert.Equal(t, len(c.has) == 0, stderr == "", stderr)
	}
}

// TestGroup: what one of a group asks for the others have to have, too, so it can be granted to each, and is no doubt of any.
func TestGroup(t *testing.T) {
	t.Parallel()
	s := newShop(t, `folders: [plugins]
plugins:
  - {name: asks, grant: [loyalty_points, geo_lookup], permit: {connect: [443, 8080]}, isolate: {group: shared}}
  - {name: serves, permit: {connect: [443, 8080]}, isolate: {group: shared}}
`, "asks", "serves")
	s.prints("serves: loyalty_points granted in config.yaml\nserves: geo_lookup granted in config.yaml\n", 0, "grant serves loyalty_points geo_lookup")
	stdout, _, _ := s.run("doctor")
	assert.NotContains(t, stdout, "does not ask for")
}

// TestGrantAhead: what the version that is there does not ask for is granted, with a warning: a newer one may, which is not taken without it.
func TestGrantAhead(t *testing.T) {
	t.Parallel()
	for line, warning := range map[string]string{
		"grant asks loyalty_pointz": "the version of asks that is there does not ask for loyalty_pointz; a newer one may. Did you mean \"loyalty_points\"?",
		"grant asks zzz*":           "the version of asks that is there does not ask for zzz*; a newer one may. It asks for geo_lookup, loyalty_points, cart_total",
		"grant serves geo_lookup":   "the version of serves that is there does not ask for geo_lookup; a newer one may. It asks for no function",
	} {
		s := newShop(t, "folders: [plugins]\nplugins: [{name: asks, grant: [loyalty_points, geo_lookup], permit: {connect: [443, 8080]}, isolate: true}, {name: serves}]\n", "asks", "serves")
		words := strings.Fields(line)
		stdout, stderr, code := s.run(line)
		assert.Zero(t, code, line)
		assert.Equal(t, words[1]+": "+words[2]+" granted in config.yaml\n", stdout)
		assert.Equal(t, "ferrule: warning: "+warning+"\n", stderr)
		stdout, _, _ = s.run(line)
		assert.Equal(t, words[1]+": "+words[2]+" granted already\n", stdout)
		stdout, _, _ = s.run("doctor")
		assert.Contains(t, stdout, "found     a grant of "+words[2]+", which the installed version does not ask for; a newer one may\n")
		assert.NotContains(t, stdout, "ferrule deny")
	}
}

// TestEditRefused: what cannot be done is said with what was meant, and nothing of the command line is done.
func TestEditRefused(t *testing.T) {
	t.Parallel()
	s := demoShop(t)
	s.configure(shopConfig + "  - gone\n")
	require.NoError(t, os.WriteFile(s.path("plugins", "notes"+fixture.Ext()), []byte("text\n"), 0o600))
	for _, c := range []struct {
		line string
		code int
		want string
	}{
		{"enable plugin_bbbb ask", exitUsage, `found no plug-in ask, expected one that is in config.yaml or in its folders. Did you mean "asks"?`},
		{"disable asks nobody", exitUsage, "found no plug-in nobody, expected one that is in config.yaml or in its folders. See ferrule list.\n"},
		{"enable notes", exitUsage, "found plugins/notes.so, which is no plug-in, expected"},
		{"info ask", exitUsage, `Did you mean "asks"?`},
		{"grant asks cart_total geo-lookup", exitUsage, "found \"geo-lookup\", expected a function's name, or the beginning of one and a *. Did you mean \"geo_lookup\"?"},
		{"grant plugin_cccc told", exitUsage, "found plugin_cccc, which config.yaml does not name, expected one that is in its list. Write it there first: ferrule enable plugin_cccc where it is in a folder, ferrule install plugin_cccc --grant OFFER where it is not.\n"},
		{"grant gone told", exitUsage, "found no file of gone that says what it imports, expected one that can be read. See ferrule doctor.\n"},
		{"deny asks geo_lookup nothing", exitUsage, "found nothing, which asks was not granted and does not import, expected a grant of it. See ferrule info asks.\n"},
		{"deny asks geo_lookup loyalty_points", exitFailed, `found "loyalty_points" granted to asks by "loyalty_*", expected a grant of its own. Deny loyalty_*`},
		{"grant asks", exitUsage, "found no OFFER on the command line, expected ferrule grant NAME OFFER...\n"},
	} {
		stdout, stderr, code := s.run(c.line)
		assert.Equal(t, c.code, code, c.line)
		assert.Empty(t, stdout, c.line)
		assert.Contains(t, stderr, c.want, c.line)
		s.file(shopConfig + "  - gone\n")
	}
}

// TestDoctorInterrupted: doctor ends when it is told to, wherever it is: Survey, or what it looks at by itself.
func TestDoctorInterrupted(t *testing.T) {
	t.Parallel()
	s := newShop(t, "folders: [plugins]\nplugins: [gone]\n", "system")
	c := &configured{path: s.path("config.yaml")}
	o, err := c.surveyUntil(t.Context())
	require.NoError(t, err)
	ended, end := context.WithCancel(t.Context())
	end()
	d := &diagnosis{}
	d.examine(ended, o)
	assert.Empty(t, d.Findings)
	d.examine(t.Context(), o)
	assert.NotEmpty(t, d.Findings)
	_, err = c.surveyUntil(ended)
	assert.ErrorIs(t, err, context.Canceled)

	d = &diagnosis{}
	o = &plugins.Overview{Config: &config.Config{}, Programs: map[string]string{"plugins/side.py": ""}}
	d.folders(ended, o)
	assert.Empty(t, d.Findings, "of programs")
	d.folders(t.Context(), o)
	assert.NotEmpty(t, d.Findings)
}

// TestFind: of each program in a folder doctor asks whether a plug-in has its name, and mostly none has: that makes no error, and looks through no list.
func TestFind(t *testing.T) {
	o := &plugins.Overview{Config: &config.Config{}, Programs: map[string]string{}}
	for i := range 1000 {
		o.Plugins = append(o.Plugins, plugins.Plugin{Name: fmt.Sprintf("p%03d", i)})
		o.Programs[fmt.Sprintf("plugins/q%03d.sh", i)] = ""
	}
	for i := range o.Plugins {
		assert.Same(t, &o.Plugins[i], find(o, o.Plugins[i].Name))
	}
	for _, name := range []string{"", "a", "p0005", "z"} {
		assert.Nil(t, find(o, name), name)
	}
	assert.Zero(t, testing.AllocsPerRun(10, func() { find(o, "q500") }))
}

// TestFaultyConfig: every verb says the first fault, and doctor all of them.
func TestFaultyConfig(t *testing.T) {
	t.Parallel()
	s := newShop(t, "plugins:\n  - {nme: x}\n  - {name: a, limit: 5}\n")
	for _, line := range []string{"list", "list --hooks", "info a", "enable a", "disable a", "grant a b", "deny a b"} {
		stdout, stderr, code := s.run(line)
		assert.Equal(t, exitOpen, code, line)
		assert.Empty(t, stdout, line)
		assert.Equal(t, "ferrule: config.yaml:2:5: plugins[0]: found no name, expected a plug-in's name, or a mapping with name and others. Add name:. There is more: "+
			"2 other faults (ferrule doctor)\n", stderr, line)
	}
	s.prints(`wrong: config.yaml:2:5: plugins[0]: the file is not a valid config.yaml
  found     no name
  expected  a plug-in's name, or a mapping with name and others
  remedy    Add name:

wrong: config.yaml:2:6: plugins[0].nme: the file is not a valid config.yaml
  found     the unknown key "nme"
  expected  name, version, program, interpreter, args, env, url, token-file, tls, ca, grant, permit, limit, isolate, data, required, enabled, keys or config
  remedy    Did you mean name?

wrong: config.yaml:3:22: plugins[1].limit: the file is not a valid config.yaml
  found     the number 5
  expected  more than 0 with a unit, such as 50ms, 2s or 1m30s
  remedy    Say the unit: 5ms, or 5s

3 wrong, 0 doubtful.
`, exitFailed, "doctor")
	require.NoError(t, os.Remove(s.path("config.yaml")))
	for _, line := range []string{"list", "info a", "enable a", "grant a b", "doctor"} {
		_, stderr, code := s.run(line)
		assert.Equal(t, exitUsage, code, line)
		assert.Contains(t, stderr, "ferrule: found no file config.yaml, expected the application's config.yaml. Name it by --config, or make one", line)
	}
}

// TestDoctor: each thing that is wrong or doubtful is found, and all of them at once.
func TestDoctor(t *testing.T) {
	t.Parallel()
	s := demoShop(t)
	s.configure("folders: [plugins]\nplugins: [{name: asks, grant: ['*'], isolate: true, permit: {connect: [443, 8080]}}, serves]\nhooks: {told: [serves, asks]}\n")
	s.prints("All is well with config.yaml: 4 plug-ins.\n", 0, "doctor")

	s.configure("folders: [plugins]\nplugins: [{name: asks, grant: ['*'], isolate: true, permit: {read: [plugins, gone], connect: [443, 8080]}}, serves]\nhooks: {told: [serves, asks]}\n")
	there, _, code := s.run("doctor")
	assert.Equal(t, exitFailed, code)
	assert.Regexp(t, `wrong: config.yaml:2:11: asks: a permit for a path that is not there\n  found     \S*gone\n`, there)
	assert.Equal(t, 1, strings.Count(there, "not there"), there)

	s.configure(`folders: [plugins, more, elsewhere]
logging: {plugins: {askz: DEBUG}}
hooks: {tld: [asks], told: [nobody]}
plugins:
  - {name: asks, grant: [geo_lookup, loyalty_pointz], permit: {connect: [443, 8080], listen: [0]}}
  - {name: serves, config: {token: '${env:FERRULE_TEST_NOT_THERE}'}}
  - {name: plugin_bbbb, version: ^2}
  - gone
`)
	require.NoError(t, os.Mkdir(s.path("more"), 0o700))
	fixture.Variant(t, "serves", s.path("more", "serves"+fixture.Ext()), "1.2.0", "1.1.0")
	require.NoError(t, os.WriteFile(s.path("plugins", "notes"+fixture.Ext()), []byte("text\n"), 0o600))
	stdout, _, code := s.run("doctor")
	assert.Equal(t, exitFailed, code)
	assert.Equal(t, strings.ReplaceAll(`doubtful: config.yaml:5:5: asks
  found     a grant of loyalty_pointz, which the installed version does not ask for; a newer one may
  expected  grants of what it asks for
  remedy    Did you mean "loyalty_points"?

doubtful: config.yaml:5:5: asks
  found     an import of loyalty_points, which no plug-in provides and which is not granted
  expected  a grant, unless the application offers it to all
  remedy    Grant it: ferrule grant asks loyalty_points

doubtful: config.yaml:5:5: asks
  found     permits that are declared only: connect 443, connect 8080, listen 0
  expected  a worker process with a sandbox, which holds it to them
  remedy    Write isolate: true in its entry

doubtful: config.yaml:5:5: asks
  found     permits that it does not ask for: listen 0
  expected  those that its manifest, or one of its group, asks for
  remedy    Take them out of its entry, unless you know what they are for

wrong: config.yaml:8:5: gone: discover: no such plug-in
  found     no plug-in of this name (in plugins, more, elsewhere; 4 others)
  expected  a library whose manifest has this name, unless the application has it compiled in
  remedy    There are asks, plugin_bbbb, plugin_cccc, serves

wrong: config.yaml:7:5: plugin_bbbb: resolve: a version that does not fit
  found     1.0.0
  expected  "^2", as config.yaml says
  remedy    Install a version in that range, or change it in config.yaml: plugins: version

doubtful: config.yaml:6:5: serves: settings: settings that do not fit
  found     config.yaml:6:36: plugins[1].config.token: found ${env:FERRULE_TEST_NOT_THERE}, and no such variable in the environment, expected a variable that is set. Set FERRULE_TEST_NOT_THERE where the application is started.

doubtful: plugins/notes.so: discover: not a shared library
  found     a text file
  expected  ELF (.so), Mach-O (.dylib), PE (.dll) or WebAssembly (.wasm)
  remedy    Link the plug-in as a shared library (cc -shared, crate-type cdylib)

doubtful: elsewhere
  found     no folder elsewhere
  expected  the folders of config.yaml
  remedy    Make it, or take it out of folders

doubtful: serves
  found     2 files of serves, of which the first counts: plugins/serves.so, more/serves.so
  expected  one
  remedy    Take the others away

doubtful: told: resolve: config.yaml: hooks names a plug-in that has no hook here
  found     nobody, and no plug-in of this name
  expected  the name of a plug-in with a hook at this point
  remedy    Take it out of config.yaml: hooks.told, or install the plug-in, unless the application has it compiled in

doubtful: told: resolve: a circle of before and after
  found     serves before asks before serves
  expected  an order without a circle
  remedy    'before asks' of serves was left out; change one of the plug-ins, or name them in config.yaml: hooks.told, in the order that you want

doubtful: tld
  found     an order of hooks for tld, which no plug-in attaches to
  expected  a point that one attaches to
  remedy    Did you mean "told"?

doubtful: askz
  found     a log level for askz, which is not there
  expected  one for a plug-in
  remedy    Did you mean "asks"?

2 wrong, 12 doubtful.
`, "'before asks'", "`before asks`"), stdout)

	stdout, _, code = s.run("doctor --json")
	assert.Equal(t, exitFailed, code)
	var got diagnosis
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&got))
	assert.False(t, d.More(), "one object")
	require.Len(t, got.Findings, 14)
	assert.Equal(t, []any{"config.yaml", 6}, []any{got.Config, got.Plugins})
	assert.Equal(t, finding{"wrong", "gone", 8, 5, fault{"discover", "no such plug-in", "no plug-in of this name (in plugins, more, elsewhere; 4 others)", "a library whose manifest has this name, unless the application has it compiled in",
		"There are asks, plugin_bbbb, plugin_cccc, serves", "gone: discover: found no plug-in of this name (in plugins, more, elsewhere; 4 others), expected a library whose manifest has this name, unless the application has it compiled in. " +
			"There are asks, plugin_bbbb, plugin_cccc, serves"}}, got.Findings[4])
}

// TestDoctorSaysAll: one round finds what is wrong with a plug-in at every step, and its imports that nobody grants.
func TestDoctorSaysAll(t *testing.T) {
	t.Parallel()
	s := newShop(t, "folders: [plugins]\nplugins: [{name: asks, version: ^7, isolate: true}]\n", "asks")
	stdout, _, code := s.run("doctor")
	assert.Equal(t, exitFailed, code)
	for _, want := range []string{
		"wrong: config.yaml:2:11: asks: resolve: a version that does not fit\n",
		"wrong: config.yaml:2:11: asks: grant: needs what it was not granted\n  found     a manifest that asks for connect 443, connect 8080, which it was not permitted\n  expected  a permit of each\n",
		"doubtful: config.yaml:2:11: asks\n  found     an import of loyalty_points, which",
		"doubtful: config.yaml:2:11: asks\n  found     an import of geo_lookup, which",
		"2 wrong, 2 doubtful.\n",
	} {
		assert.Contains(t, stdout, want)
	}
}

// TestDoctorNamesFiles: what cannot be read is named with its path, why, and what to do.
func TestDoctorNamesFiles(t *testing.T) {
	t.Parallel()
	s := newShop(t, "plugins: [b, c, d, {name: guard, program: ./none}]\ndev: {b: ./b.c, c: ./missing.so, d: plugins}\n")
	require.NoError(t, os.WriteFile(s.path("b.c"), []byte("int x;\n"), 0o600))
	stdout, _, code := s.run("doctor")
	assert.Equal(t, exitFailed, code)
	for _, want := range []string{
		"found     its file of dev in config.yaml, which cannot be read: b.c: a text file\n  expected  ELF",
		"found     no file missing.so\n  expected  its file of dev in config.yaml\n  remedy    Build it, or correct dev\n",
		"found     its file of dev in config.yaml, which cannot be read: plugins: a folder with no library in it\n",
		"found     no program: none\n  expected  one that can be started\n  remedy    Correct program in its entry\n",
	} {
		assert.Contains(t, stdout, want)
	}
}

// TestDoctorLinks: a link that leads nowhere is named, and neither it nor a folder that cannot be read keeps the rest from being looked at.
func TestDoctorLinks(t *testing.T) {
	t.Parallel()
	s := newShop(t, "folders: [good, bad]\nplugins: [x, y]\n")
	require.NoError(t, os.Mkdir(s.path("good"), 0o755))
	for to, link := range map[string]string{"bad": "bad", "nowhere": "good/libx" + fixture.Ext(), "neither": "good/libz" + fixture.Ext()} {
		if err := os.Symlink(to, s.path(link)); err != nil {
			t.Skip("no symbolic links: ", err)
		}
	}
	stdout, _, code := s.run("doctor")
	assert.Equal(t, exitFailed, code)
	for _, want := range []string{
		"x: discover: not to be read as a plug-in\n  found     good/libx" + fixture.Ext() + ", a symbolic link to nowhere, which is not there\n  expected  a library\n  remedy    Correct or remove the link\n",
		"found     no plug-in of this name (in good, bad, which cannot be read; 0 others)\n",
		"remedy    Look into bad, which this process cannot\n",
		"doubtful: bad\n  found     no folder that can be read: open ",
		"doubtful: good/libz" + fixture.Ext() + "\n  found     a symbolic link to neither, which is not there\n",
		"2 wrong, 2 doubtful.\n",
	} {
		assert.Contains(t, stdout, want)
	}
}

// TestDoctorHooks: an order for a point whose plug-ins cannot be there is told from one for a point that nobody knows.
func TestDoctorHooks(t *testing.T) {
	t.Parallel()
	s := newShop(t, "folders: [plugins]\nplugins: [{name: asks, version: ^7}, {name: serves, enabled: false}]\nhooks: {told: [serves, asks]}\n", "asks", "serves")
	stdout, _, _ := s.run("doctor")
	assert.Contains(t, stdout, `doubtful: told
  found     an order of hooks for told, and none of the plug-ins with a hook there is ready: asks (failed), serves (disabled)
  expected  one that is ready
  remedy    Mend or enable them: ferrule list
`)
	assert.NotContains(t, stdout, "which no plug-in attaches to")

	// One that has failed has a hook all the same; one that is disabled has none before it is enabled.
	s = newShop(t, "folders: [plugins]\nplugins: [{name: asks, version: ^7}, serves]\nhooks: {told: [serves, asks]}\n", "asks", "serves")
	for _, verb := range []string{"doctor", "list --hooks"} {
		stdout, _, _ = s.run(verb)
		assert.NotContains(t, stdout, "has no hook here")
	}
	s.configure("folders: [plugins]\nplugins: [{name: asks, enabled: false}, serves]\nhooks: {told: [serves, asks]}\n")
	stdout, _, _ = s.run("doctor")
	assert.Contains(t, stdout, "has no hook here\n  found     asks, which is disabled\n")
}

// TestPermits: a permit is asked for when it covers something that the manifest asks for.
func TestPermits(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the paths are those of other systems")
	}
	s := newShop(t, `folders: [plugins]
plugins: [{name: permits, permit: {read: [/etc, /usr], write: [/var/lib/shop], connect: [80]}, isolate: {sandbox: best-effort}}]
`, "permits")
	stdout, _, _ := s.run("doctor")
	assert.Contains(t, stdout, "found     permits that it does not ask for: read /usr, connect 80\n")
	stdout, _, _ = s.run("info permits")
	assert.Contains(t, stdout, "\n  requires  geo ^1.2, rates\n  hosts     shop >=1.4\n")
	assert.Contains(t, stdout, `  permits
    read /etc/hostname        permitted
    read /var/lib/shop/rates  permitted
    read /etc                 permitted
    read /usr                 permitted, not asked for
    write /var/lib/shop       permitted
    connect 80                permitted, not asked for
    memory 64MiB              asked for, which is no number of bytes: its author has to correct it
`)
	stdout, _, _ = s.run("info --json permits")
	var got info
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	assert.Equal(t, map[string]string{"geo": "^1.2"}, got.Ranges)
	assert.Equal(t, map[string]string{"shop": ">=1.4"}, got.Hosts)
	assert.Equal(t, []string{"geo", "rates"}, got.Requires)
}

// TestSizeText: a number of bytes is said in the largest unit of config.yaml that has it whole.
func TestSizeText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"67108864": "64MiB", "1048577": "1048577", "1536": "1536", "1024": "1KiB", "1099511627776": "1TiB", "1125899906842624": "1024TiB", "0": "0", "much": "much"} {
		assert.Equal(t, want, sizeText(text))
	}
}

// TestDoctorFiles: files that cannot be loaded here, and several of one name in one folder.
func TestDoctorFiles(t *testing.T) {
	t.Parallel()
	s := newShop(t, "folders: [plugins]\nplugins: [probe, plugin_dddd, {name: goplugin, isolate: false}]\n")
	s.add("d1", "system", "aaaa", "dddd")
	s.add("d2", "system", "aaaa", "dddd", "1.0.0", "1.0.1")
	put := func(from, to string) {
		data, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(s.path("plugins", to), data, 0o600))
	}
	arch, name, others := "arm64", "other.dll", "windows/amd64"
	if runtime.GOARCH == "arm64" {
		arch = "amd64"
	}
	from := "pe-amd64-mingw.dll"
	if runtime.GOOS == "windows" {
		from, name, others = "macho-arm64-clang.dylib", "other.dylib", "darwin/arm64"
	}
	put(committed("elf-"+arch+"-gcc.so"), "probe"+fixture.Ext())
	put(committed(from), name)
	put(fixture.Go(t), "go"+fixture.Ext())
	stdout, _, code := s.run("doctor")
	assert.Equal(t, exitFailed, code)
	for _, want := range []string{
		"wrong: config.yaml:2:11: probe: built for another platform\n  found     a library for linux/" + arch + "\n  expected  OS/ARCH\n",
		"wrong: config.yaml:2:18: plugin_dddd: resolve: found more than once\n",
		"wrong: config.yaml:2:31: goplugin: a Go runtime inside\n  found     a library with the Go runtime go",
		"doubtful: plugins/" + name + "\n  found     a library for " + others + ", which is not looked at here\n",
	} {
		assert.Contains(t, stdout, want)
	}
	assert.NotContains(t, stdout, "2 files of plugin_dddd", "it is said already")
	s.configure("folders: [plugins]\nplugins: [{name: goplugin, isolate: true}]\n")
	stdout, _, _ = s.run("doctor")
	assert.NotContains(t, stdout, "goplugin")
	assert.Contains(t, stdout, "doubtful: plugins/probe.so\n  found     a library for linux/"+arch+"\n")
	double := "found     2 files of plugin_dddd, the first two of which are in one folder, which is an error once it is enabled: plugins/d1.so, plugins/d2.so\n"
	assert.Contains(t, stdout, double)
	s.configure("folders: [plugins]\nplugins: [{name: plugin_dddd, enabled: false}]\n")
	stdout, _, _ = s.run("doctor")
	assert.Contains(t, stdout, double)
	put(s.path("plugins", "d1"+fixture.Ext()), "../d3"+fixture.Ext())
	for _, path := range []string{"plugins/d1" + fixture.Ext(), "plugins/d2" + fixture.Ext(), "d3" + fixture.Ext()} {
		s.configure("folders: [plugins]\nplugins: [plugin_dddd]\ndev: {plugin_dddd: " + path + "}\n")
		stdout, _, _ = s.run("doctor")
		assert.Contains(t, stdout, "found     2 files of plugin_dddd, and what counts is "+strings.ReplaceAll(path, fixture.Ext(), ".so")+": plugins/d1.so, plugins/d2.so\n")
	}
}

// TestCompletePlugins: names of plug-ins are completed, and what may be granted to one, or was.
func TestCompletePlugins(t *testing.T) {
	t.Parallel()
	s := demoShop(t)
	for _, c := range []struct {
		verb string
		args []string
		want string
	}{
		{"info", []string{""}, "asks\tAsks for everything.\nplugin_bbbb\nplugin_cccc\nserves\n"},
		{"info", []string{"asks", ""}, ""},
		{"enable", []string{""}, "plugin_bbbb\nplugin_cccc\n"},
		{"enable", []string{"plugin_bbbb", ""}, "plugin_cccc\n"},
		{"disable", []string{"a"}, "asks\tAsks for everything.\n"},
		{"grant", []string{""}, "asks\tAsks for everything.\nplugin_bbbb\nserves\n"},
		{"grant", []string{"asks", ""}, "cart_total\tThe sum of a cart.\n"},
		{"grant", []string{"asks", "cart_total", ""}, ""},
		{"deny", []string{"asks", ""}, "loyalty_*\ngeo_lookup\n"},
		{"deny", []string{"asks", "g"}, "geo_lookup\n"},
		{"deny", []string{"nobody", ""}, ""},
		{"list", []string{""}, ""},
	} {
		stdout, _, code := ferrule(t, "", append([]string{"__complete", c.verb, "--config", s.path("config.yaml")}, c.args...)...)
		assert.Zero(t, code)
		assert.Equal(t, c.want+":4\n", stdout, "%v", c)
	}
}
