package sandbox_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// wide is a plug-in that is linked in a way that might widen its sandbox. In flags, @ stands for the folder of them all.
type wide struct {
	name  string
	flags []string
	opens bool     // whether it can be loaded: not when what it is linked to stays closed
	needs []string // the libraries that it then has, from the folder on
}

// wides are ways to ask for more, and ways to ask for what a library may have.
var wides = []wide{
	{"runpath-none", nil, true, nil},
	{"manifest", nil, true, nil}, // asks there; see asking
	{"runpath-root", []string{"-Wl,-rpath,/"}, true, nil},
	{"runpath-etc", []string{"-Wl,-rpath,/etc:/usr/bin:/bin"}, true, nil},
	{"runpath-up", []string{"-Wl,-rpath,$ORIGIN/../../../../../../.."}, true, nil},
	{"runpath-braces", []string{"-Wl,-rpath,${ORIGIN}/..:$ORIGIN"}, true, nil},
	{"runpath-relative", []string{"-Wl,-rpath,.:..::/"}, true, nil},
	{"rpath-root", []string{"-Wl,--disable-new-dtags,-rpath,/"}, true, nil},
	{"rpath-up", []string{"-Wl,--disable-new-dtags,-rpath,$ORIGIN/../../../../../../.."}, true, nil},
	{"soname", []string{"-Wl,-rpath,/etc,-soname,/etc/passwd"}, true, nil},
	{"soname-origin", []string{"-Wl,-rpath,/,-soname,$ORIGIN/../../.."}, true, nil},
	{"sibling", []string{"-Wl,-rpath,$ORIGIN/lib", "@/lib/libsibling.so"}, true, []string{"lib/libsibling.so.1", "lib/deep/libdeep.so"}},
	{"sibling-and-root", []string{"-Wl,-rpath,$ORIGIN/lib:/:/etc", "@/lib/libsibling.so"}, true, []string{"lib/libsibling.so.1", "lib/deep/libdeep.so"}},
	{"sibling-by-rpath", []string{"-Wl,--disable-new-dtags,-rpath,$ORIGIN/lib", "@/lib/libsibling.so"}, true,
		[]string{"lib/libsibling.so.1", "lib/deep/libdeep.so"}},
	{"needs-path", []string{"@/lib/libpath.so"}, true, []string{"lib/libpath.so"}}, // by an absolute path
	{"needs-shadow", []string{"@/stub/shadow.so"}, false, nil},                     // the path of a file that is no library
	{"needs-key", []string{"@/stub/key.so"}, false, nil},
	{"needs-key-by-link", []string{"-Wl,-rpath,$ORIGIN/links", "@/stub/libkey.so"}, false, nil},
	{"needs-folder", []string{"-Wl,-rpath,/", "@/stub/etc.so"}, false, nil},
	{"needs-secret-library", []string{"@/vault/libsecret.so"}, false, nil}, // of the host's user, in another folder
	{"needs-secret-library-by-runpath", []string{"-Wl,-rpath,@/vault", "@/stub/libsecret.so"}, false, nil},
	{"needs-secret-library-by-link", []string{"-Wl,-rpath,@/app/links", "@/stub/libvault.so"}, false, nil},
	{"needs-closed-library", []string{"@/closed/libclosed.so"}, false, nil}, // it could be read, but not its folder
}

// asking are keys of a manifest that would widen a sandbox if anybody heeded them.
const asking = `FERRULE_KEY("sandbox", "off") FERRULE_KEY("isolate", "false") FERRULE_KEY("read", "/") FERRULE_KEY("policy.read", "/etc:/bin") ` +
	`FERRULE_KEY("libraries", "/etc/passwd") FERRULE_KEY("runpath", "/") FERRULE_KEY("processes", "100") FERRULE_KEY("best-effort", "true")`

// widen builds the plug-ins, and what lies around them, in a folder whose secrets are the user's.
func widen(t *testing.T, uid int) string {
	t.Helper()
	fixture.NotMusl(t, "the libraries of this test are linked by cc, for glibc")
	fixture.Loadable(t)
	fixture.Tool(t, "cc", "apt-get install gcc")
	dir, err := os.MkdirTemp("", "widen")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	dir, err = filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	for _, sub := range []string{"app/lib/deep", "app/links", "lib/deep", "stub", "vault", "closed"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	at := func(text string) string { return strings.ReplaceAll(text, "@", dir) }
	cc := func(out string, args ...string) {
		args = slices.Clone(args)
		for i := range args {
			args[i] = at(args[i])
		}
		text, err := exec.Command("cc", append([]string{"-shared", "-fPIC", "-w", "-o", at(out), "-Wl,--no-as-needed,--allow-shlib-undefined"}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", text)
	}
	empty := at("@/empty.c")
	require.NoError(t, os.WriteFile(empty, []byte("int nothing(void) { return 0; }\n"), 0o644))
	require.NoError(t, os.WriteFile(at("@/key"), []byte("a secret key"), 0o600))
	// Names that only a library's author can choose: what is linked to is called as the library calls itself.
	cc("@/stub/shadow.so", empty, "-Wl,-soname,/etc/shadow")
	cc("@/stub/key.so", empty, "-Wl,-soname,@/key")
	cc("@/stub/etc.so", empty, "-Wl,-soname,etc")
	for _, name := range []string{"libkey.so", "libsecret.so", "libvault.so"} {
		cc("@/stub/"+name, empty, "-Wl,-soname,"+name)
	}
	for _, name := range []string{"@/vault/libsecret.so", "@/closed/libclosed.so", "@/lib/libpath.so"} {
		cc(name, empty)
	}
	// The same library is called libsibling.so by a link, and needs one more in a folder of its own.
	cc("@/app/lib/deep/libdeep.so", empty, "-Wl,-soname,libdeep.so")
	cc("@/app/lib/libsibling.so.1", empty, "-Wl,-rpath,$ORIGIN/deep,-soname,libsibling.so", "@/app/lib/deep/libdeep.so")
	require.NoError(t, os.Symlink("libsibling.so.1", at("@/app/lib/libsibling.so")))
	require.NoError(t, os.Symlink("../../key", at("@/app/links/libkey.so")))
	require.NoError(t, os.Symlink("../../vault/libsecret.so", at("@/app/links/libvault.so")))
	require.NoError(t, os.Symlink("../app/lib/libsibling.so.1", at("@/lib/libsibling.so")))
	attempts := filepath.Join(fixture.Root(), "internal", "fixture", "c", "sandbox_attempts.c")
	source, err := os.ReadFile(attempts)
	require.NoError(t, err)
	const key = `FERRULE_THREADS("concurrent")`
	require.Contains(t, string(source), key)
	require.NoError(t, os.WriteFile(at("@/asks.c"), []byte(strings.Replace(string(source), key, key+" "+asking, 1)), 0o644))
	for object, source := range map[string]string{"@/attempts.o": attempts, "@/asks.o": "@/asks.c"} {
		cc(object, "-c", "-O1", "-I", filepath.Join(fixture.Root(), "include"), "-I", filepath.Join(fixture.Root(), "sdk-c", "include"), source)
	}
	for _, w := range wides {
		object := "@/attempts.o"
		if w.name == "manifest" {
			object = "@/asks.o"
		}
		cc("@/app/"+w.name+".so", append([]string{"-pthread", object}, w.flags...)...)
	}
	cc("@/app/another.so", empty)
	require.NoError(t, os.Chmod(at("@/vault/libsecret.so"), 0o600))
	require.NoError(t, os.Chmod(at("@/closed"), 0o700))
	if uid != 0 {
		for _, secret := range []string{"@/key", "@/vault/libsecret.so", "@/closed"} {
			require.NoError(t, os.Chown(at(secret), uid, uid))
		}
	}
	return dir
}

const wideVariable = "FERRULE_TEST_WIDE" // the folder, for a process that runs this test only

// A library cannot widen its sandbox: not by where it has libraries searched for, not by what it calls itself or what it
// is linked to, not by what its manifest says. What it may have, libraries in its own folder and those that everybody may read, it gets file by file.
func TestLibraryCannotWidenSandbox(t *testing.T) {
	if dir := os.Getenv(wideVariable); dir != "" {
		tryWide(t, dir)
		return
	}
	t.Run("as this user", func(t *testing.T) { tryWide(t, widen(t, os.Getuid())) })
	t.Run("as nobody", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root can become another user")
		}
		const nobody = 65534
		dir := widen(t, nobody)
		data, err := os.ReadFile("/proc/self/exe")
		require.NoError(t, err)
		self := filepath.Join(dir, "test")
		require.NoError(t, os.WriteFile(self, data, 0o755))
		cmd := exec.Command(self, "-test.run=^TestLibraryCannotWidenSandbox$", "-test.v")
		cmd.Env = []string{wideVariable + "=" + dir, "GORACE=atexit_sleep_ms=0"}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		text, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", text)
		require.Contains(t, string(text), "--- PASS: TestLibraryCannotWidenSandbox")
	})
}

func tryWide(t *testing.T, dir string) {
	tryWideGroup(t, dir)
	app := filepath.Join(dir, "app")
	free, err := loader.Open(filepath.Join(app, "runpath-none.so"), isolate.InWorker())
	require.NoError(t, err)
	defer free.Close()
	secrets := []string{"/etc/passwd", "/bin/sh", filepath.Join(dir, "key"), filepath.Join(dir, "vault", "libsecret.so"), filepath.Join(dir, "closed", "libclosed.so")}
	for _, path := range secrets {
		_, err := free.Call(context.Background(), "read_file", []byte(path))
		require.NoError(t, err, "without a sandbox")
	}
	for _, w := range wides {
		for _, policy := range []sandbox.Policy{{}, {Processes: 4, BestEffort: true}} {
			p, err := loader.Open(filepath.Join(app, w.name+".so"), isolate.InWorker(sandbox.With(policy)))
			if !w.opens {
				var e *loader.OpenError
				require.ErrorAs(t, err, &e, w.name)
				assert.ErrorIs(t, err, loader.ErrLoad, w.name)
				continue
			}
			require.NoError(t, err, w.name)
			state, _ := p.Isolation()
			var got, want []string
			for _, layer := range state.Layers {
				if path, ok := strings.CutPrefix(layer, "library "); ok {
					got = append(got, path)
				}
			}
			for _, path := range w.needs {
				if strings.HasPrefix(path, "lib/libpath") {
					want = append(want, filepath.Join(dir, path))
				} else {
					want = append(want, filepath.Join(app, path))
				}
			}
			assert.ElementsMatch(t, want, got, w.name)
			for _, path := range append(secrets, filepath.Join(app, "another.so")) {
				_, err := p.Call(context.Background(), "read_file", []byte(path))
				assert.ErrorContains(t, err, "Permission denied", "%s: %s", w.name, path)
			}
			for _, folder := range []string{"/", "/etc", dir, app, filepath.Join(app, "lib")} {
				_, err := p.Call(context.Background(), "list_folder", []byte(folder))
				assert.ErrorContains(t, err, "Permission denied", "%s: %s", w.name, folder)
			}
			_, err = p.Call(context.Background(), "exec", nil) // another program takes the worker's place
			assert.ErrorIs(t, err, loader.ErrFailed, w.name)
			assert.NoError(t, p.Close())
		}
	}
}

// What lies at a library's path later, for another worker, does not count: the file that Open has found does.
func TestLibraryIsSwapped(t *testing.T) {
	dir := widen(t, os.Getuid())
	p, err := loader.Open(filepath.Join(dir, "app", "sibling.so"), isolate.InWorker(sandbox.With(sandbox.Policy{})))
	require.NoError(t, err)
	defer p.Close()
	library := filepath.Join(dir, "app", "lib", "deep", "libdeep.so")
	require.NoError(t, os.Remove(library))
	require.NoError(t, os.Symlink(filepath.Join(dir, "vault", "libsecret.so"), library))
	state, _ := p.Isolation()
	process, err := os.FindProcess(state.PID)
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	for {
		_, err := p.Call(context.Background(), "read_file", []byte("/etc/passwd"))
		require.Error(t, err)
		if _, crashed := err.(*loader.CrashError); crashed || strings.Contains(err.Error(), "Permission denied") {
			continue // not yet gone
		}
		var e *loader.OpenError
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, loader.ErrSandbox)
		assert.ErrorContains(t, err, library)
		assert.NotEmpty(t, e.Remedy)
		break
	}
}
