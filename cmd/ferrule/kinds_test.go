package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// fates are plug-ins that do in their start, their function f or their stop what their configuration says, "STAGE WHAT PATH", once they have made the file PATH: hang, die, or fail.
var fates = map[string]string{
	"fate.c": `#include <signal.h>
		#include <stdio.h>
		#include <stdlib.h>
		#include <string.h>
		#include <unistd.h>
		FERRULE_PLUGIN(FERRULE_NAME("fate") FERRULE_VERSION("1.0.0"));
		static char at[16], what[16], path[4096];
		static int32_t reach(const char *stage) {
			FILE *begun;
			if (strcmp(at, stage)) return FERRULE_OK;
			if ((begun = fopen(path, "w"))) fclose(begun);
			if (!strcmp(what, "hang")) for (;;) sleep(1);
			if (!strcmp(what, "die")) abort();
			return FERRULE_FAILED;
		}
		FERRULE_START {
			char text[8192];
			snprintf(text, sizeof text, "%.*s", (int)call->in_len, (const char *)call->in);
			sscanf(text, "%15s %15s %4095s", at, what, path);
			return reach("start");
		}
		FERRULE_STOP { return reach("stop"); }
		FERRULE_FN(f) { return reach("call"); }`,
	"fate.py": `# ferrule: name=fate version=1.0.0 fn=f
import os, time
from ferrule import settings

def reach(stage):
    at, what, path = (settings.text + "  ").split(" ")[:3]
    if at != stage: return
    open(path, "w").close()
    while what == "hang": time.sleep(1)
    if what == "die": os.abort()
    raise Exception("as it was told")

reach("start")
def f(): reach("call")
`,
	"fate.js": `// ferrule: name=fate version=1.0.0 fn=f
import { settings } from "ferrule";
function reach(stage) {
	const [at, what] = (settings.text + "  ").split(" ");
	if (at !== stage) return;
	if (what === "hang") for (;;);
	throw new Error("as it was told");
}
reach("start");
export const f = () => reach("call");
`,
	"fate_sidecar.py": `import os, sys, time
sys.path.insert(0, FOLDER)
import check_none
at, what, path = sys.argv[1:4]
def reach(stage):
    if at != stage: return
    open(path, "w").close()
    while what == "hang": time.sleep(1)
    if what == "die": os.abort()
    raise check_none.Failure(1, b"as it was told")
class Sidecar(check_none.Sidecar):
    descriptors = True
    def manifest(self): return {"name": "fate", "version": "1.0.0", "functions": {"f": {}}, "services": ["start"]}
    def functions(self): return {"f": {}}
    def meet(self):
        reach("hello")
        super().meet()
    def service_start(self, call): reach("start")
    def f(self, call): reach("call")
Sidecar().run()
`,
}

// TestKinds: the kind of an error, and the exit code, are those of what has happened, whichever engine runs the plug-in, and at whichever stage: its time was over, somebody has
// interrupted it, it has crashed, or has failed.
func TestKinds(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("half of the cases send os.Interrupt, which Go cannot send to one program on Windows")
	}
	const couldNot = "could not be started"
	kinds := map[string]struct {
		kind string
		code int
	}{"late": {lateKind, exitCrashed}, "interrupted": {wasInterrupted, exitInterrupted}, "die": {crashed, exitCrashed}, "fail": {couldNot, exitOpen}}
	file := func(t *testing.T, name string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(fates[name], "FOLDER", `"`+filepath.Join(fixture.Root(), "internal", "fixture", "sidecar")+`"`)), 0o600))
		return path
	}
	configured := func(way ...string) func(t *testing.T, path, config string) []string {
		return func(_ *testing.T, path, config string) []string { return append(way, "--config", config, path, "f") }
	}
	for name, e := range map[string]struct {
		path  func(t *testing.T) string
		line  func(t *testing.T, path, config string) []string
		cases string // STAGE=WHAT
	}{
		"in-process": {func(t *testing.T) string { return compiled(t, fates["fate.c"]) }, configured(),
			"start=late start=interrupted start=die start=fail call=late call=interrupted call=die stop=late stop=interrupted stop=die"},
		"isolated": {func(t *testing.T) string { return compiled(t, fates["fate.c"]) }, configured("--isolated"),
			"start=late start=interrupted start=die start=fail call=late call=interrupted call=die stop=late stop=die"},
		"python": {func(t *testing.T) string { needPython(t); return file(t, "fate.py") }, configured(),
			"start=late start=interrupted start=die start=fail call=late call=interrupted call=die"},
		"javascript": {func(t *testing.T) string { return file(t, "fate.js") }, configured(), "start=late start=fail call=late"},
		"wasm": {func(t *testing.T) string { return fixture.WasmC(t, "wasm_faults") }, func(_ *testing.T, path, config string) []string {
			if strings.HasPrefix(config, "start") {
				return []string{"--config", "spin", "--answer", "upper=", path, "fine"}
			}
			return []string{"--answer", "upper=", path, "spins"}
		}, "start=late call=late"},
		"sidecar": {func(t *testing.T) string { return file(t, "fate_sidecar.py") }, func(t *testing.T, path, config string) []string {
			return append([]string{"--sidecar", fixture.Python(t), "f", "--", path}, strings.Fields(config)...)
		}, "hello=late hello=interrupted hello=die start=late start=interrupted start=die start=fail call=late call=interrupted call=die"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := e.path(t)
			for _, c := range strings.Fields(e.cases) {
				stage, what, _ := strings.Cut(c, "=")
				doing := what
				if what == "late" || what == "interrupted" {
					doing = "hang"
				}
				begun := filepath.Join(t.TempDir(), "begun")
				args := append([]string{"call", "--json", "--in", ""}, e.line(t, path, stage+" "+doing+" "+begun)...)
				if what == "late" && (stage != "stop" || name == "in-process") { // isolated, ferrule_stop has its own bound
					args = append([]string{args[0], "--timeout", "2s"}, args[1:]...)
				}
				cmd := exec.Command(binary, args...)
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				require.NoError(t, cmd.Start())
				if what == "interrupted" {
					assert.Eventually(t, func() bool { _, err := os.Stat(begun); return err == nil }, time.Minute, 5*time.Millisecond, c)
					require.NoError(t, cmd.Process.Signal(os.Interrupt))
				}
				_ = cmd.Wait()
				var got called
				require.NoError(t, json.Unmarshal(stdout.Bytes(), &got), "%s: %s%s", c, &stdout, &stderr)
				if assert.NotNil(t, got.Error, c) {
					assert.Equal(t, kinds[what].kind, got.Error.Kind, "%s: %s", c, got.Error.Text)
				}
				assert.Equal(t, kinds[what].code, cmd.ProcessState.ExitCode(), "%s: %s", c, &stderr)
			}
		})
	}
}
