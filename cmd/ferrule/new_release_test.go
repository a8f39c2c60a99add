package main

import (
	"bytes"
	"go/build"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// workflow is what counts of a workflow of GitHub's.
type workflow struct {
	Jobs map[string]*job
}

type job struct {
	If       string
	RunsOn   string `yaml:"runs-on"`
	Env      map[string]string
	Strategy struct {
		Matrix struct{ Include []map[string]string }
	}
	Steps []*struct {
		Name, If, Uses, Shell, Run string
		With, Env                  map[string]string
	}
}

func workflowOf(t *testing.T, text string) *workflow {
	t.Helper()
	w := &workflow{}
	require.NoError(t, yaml.Unmarshal([]byte(text), w))
	require.Contains(t, w.Jobs, "build")
	require.Contains(t, w.Jobs, "publish")
	return w
}

// runner runs a workflow's shell steps on this machine. What is GitHub's own has a stand-in: expressions, checkout, artifacts, the program gh; and so has the
// installation of Go and of the command, which needs a network.
type runner struct {
	t                 *testing.T
	source            string // the plug-in's folder
	folder            string // the runner's
	values            map[string]string
	artifacts, github string // folders
}

// ghStandIn keeps releases in a folder: one for each tag, and the tags in the order in which they were made. The latest one is that of the greatest version.
const ghStandIn = `#!/usr/bin/env bash
set -eu
[ "$GH_REPO" = acme/greeter ] && [ "$GH_TOKEN" = "the token" ] || { echo "gh: not logged in" >&2; exit 4; }
here=$PWD
cd "$RELEASES"
touch order
case "$1 $2" in
"release list")
	json=$(tac order | { case "$*" in *--exclude-pre-releases*) grep -v -e - || true ;; *) cat ;; esac; } |
		jq -R --arg latest "$(grep -v -e - order | sort -V | tail -n 1)" '{tagName: ., isLatest: (. == $latest)}' | jq -s .)
	echo "$json" | jq -r "${!#}" ;;
"release view") [ "$4 $5 $6" = "--json assets --jq" ] && ls "$3" | jq -R '{name: .}' | jq -s '{assets: .}' | jq -r "$7" ;;
"release download") [ "$4 $6" = "--pattern --dir" ] && cp "$3/$5" "$here/$7" ;;
"release upload") [ "$5" = "--clobber" ] && cp "$here/$4" "$3" ;;
"release create")
	tag=$3
	shift 3
	mkdir "$tag"
	while [ $# -gt 0 ]; do
		case $1 in
		--verify-tag | --generate-notes | --prerelease) ;;
		--title) shift ;;
		-*) exit 1 ;;
		*) cp "$here/$1" "$tag" ;;
		esac
		shift
	done
	echo "$tag" >>order ;;
*) echo "gh: $*" >&2; exit 1 ;;
esac
`

// goStandIn installs the command that is tested. Else it is Go itself, which a plug-in in Go is built with.
const goStandIn = `#!/bin/sh
set -eu
case "$*" in
"install github.com/ferrule-dev/ferrule/cmd/ferrule@latest") mkdir -p "$RUNNER_FOLDER/go/bin"; cp "$COMMAND" "$RUNNER_FOLDER/go/bin/" ;;
"env GOPATH") echo "$RUNNER_FOLDER/go" ;;
*) exec "$GO" "$@" ;;
esac
`

// sudoStandIn and rustupStandIn keep what would be installed: here it is already.
const sudoStandIn = `#!/bin/sh
set -eu
case "$*" in
"apt-get update") touch "$RUNNER_FOLDER/updated" ;;
"apt-get install -y "*) rm "$RUNNER_FOLDER/updated"; shift 3; echo "$@" >"$RUNNER_FOLDER/installed" ;;
*) echo "sudo: $*" >&2; exit 1 ;;
esac
`

const rustupStandIn = `#!/bin/sh
set -eu
[ "$1 $2" = "target add" ] || { echo "rustup: $*" >&2; exit 1; }
shift 2
echo "$@" >"$RUNNER_FOLDER/installed"
`

func newRunner(t *testing.T, source string) *runner {
	r := &runner{t: t, source: source, folder: t.TempDir(), artifacts: t.TempDir(), github: t.TempDir()}
	for name, text := range map[string]string{"gh": ghStandIn, "go": goStandIn, "sudo": sudoStandIn, "rustup": rustupStandIn} {
		require.NoError(t, os.MkdirAll(filepath.Join(r.folder, "bin"), 0o777))
		require.NoError(t, os.WriteFile(filepath.Join(r.folder, "bin", name), []byte(text), 0o755))
	}
	r.values = map[string]string{"github.token": "the token", "github.repository": "acme/greeter"}
	return r
}

var expression = regexp.MustCompile(`\$\{\{ ([\w.]+) \}\}`)

func (r *runner) expand(text string) string {
	return expression.ReplaceAllStringFunc(text, func(e string) string {
		value, ok := r.values[expression.FindStringSubmatch(e)[1]]
		require.True(r.t, ok, e)
		return value
	})
}

func (r *runner) holds(condition string) bool {
	switch condition {
	case "", "runner.os != 'Windows'":
		return true
	case "runner.os == 'Windows'":
		return false
	case "startsWith(github.ref, 'refs/tags/v')":
		return strings.HasPrefix(r.values["github.ref_name"], "v")
	}
	require.Fail(r.t, "an unknown condition", condition)
	return false
}

// run runs a job, and returns what its steps print and the first error.
func (r *runner) run(w *workflow, name string) (out string, err error) {
	t := r.t
	j := w.Jobs[name]
	if !r.holds(j.If) {
		return "", nil
	}
	work := t.TempDir()
	paths := filepath.Join(t.TempDir(), "paths")
	for _, step := range j.Steps {
		if !r.holds(step.If) {
			continue
		}
		with := map[string]string{}
		for key, value := range step.With {
			with[key] = r.expand(value)
		}
		action, _, _ := strings.Cut(step.Uses, "@")
		switch action {
		case "":
		case "actions/checkout":
			require.NoError(t, os.CopyFS(work, os.DirFS(r.source)))
			continue
		case "actions/setup-go":
			continue
		case "actions/upload-artifact":
			text, err := os.ReadFile(filepath.Join(work, with["path"]))
			if err != nil {
				return out, err
			}
			to := filepath.Join(r.artifacts, with["name"])
			require.NoError(t, os.MkdirAll(to, 0o777))
			require.NoError(t, os.WriteFile(filepath.Join(to, path.Base(with["path"])), text, 0o666))
			continue
		case "actions/download-artifact":
			require.NoError(t, os.CopyFS(filepath.Join(work, with["path"]), os.DirFS(r.artifacts)))
			continue
		default:
			require.Fail(t, "an unknown action", step.Uses)
		}
		script := filepath.Join(t.TempDir(), "step.sh")
		require.NoError(t, os.WriteFile(script, []byte(r.expand(step.Run)), 0o666))
		args := []string{"-e", script}
		if step.Shell != "" {
			require.Equal(t, "bash", step.Shell, "where this is not Windows")
			args = []string{"--noprofile", "--norc", "-eo", "pipefail", script}
		}
		cmd := exec.CommandContext(t.Context(), "bash", args...)
		cmd.Dir = work
		added, _ := os.ReadFile(paths)
		path := append(strings.Fields(string(added)), filepath.Join(r.folder, "bin"), os.Getenv("PATH"))
		cmd.Env = append(os.Environ(), "PATH="+strings.Join(path, ":"), "GITHUB_PATH="+paths, "RUNNER_FOLDER="+r.folder, "GO="+filepath.Join(build.Default.GOROOT, "bin", "go"), "COMMAND="+binary, "RELEASES="+r.github, "CARGO_TERM_COLOR=never")
		for _, env := range []map[string]string{j.Env, step.Env} {
			for key, value := range env {
				cmd.Env = append(cmd.Env, key+"="+r.expand(value))
			}
		}
		text, err := cmd.CombinedOutput()
		out += string(text)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// build builds and tests what is to be released.
func (r *runner) build(w *workflow) {
	r.t.Helper()
	require.NoError(r.t, os.RemoveAll(r.artifacts))
	out, err := r.run(w, "build")
	require.NoError(r.t, err, out)
}

// publish publishes what was built.
func (r *runner) publish(w *workflow, tag string) (out string, err error) {
	r.t.Helper()
	r.values["github.ref_name"] = tag
	return r.run(w, "publish")
}

// give makes a key with a password, and has it among the secrets.
func (r *runner) give(m *market) {
	t := r.t
	t.Helper()
	require.NoError(t, os.WriteFile(m.path("password"), []byte("a password\n"), 0o600))
	_, stderr, code := ferrule(t, "", "keygen", "--password-file", m.path("password"), m.path("release.key"))
	require.Zero(t, code, stderr)
	key, err := os.ReadFile(m.path("release.key"))
	require.NoError(t, err)
	r.values["secrets.FERRULE_KEY"] = strings.TrimSpace(string(key))
}

// serve has the releases as GitHub does.
func (r *runner) serve() string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		const releases = "/acme/greeter/releases/"
		rest, ok := strings.CutPrefix(request.URL.Path, releases)
		if file, ok := strings.CutPrefix(rest, "latest/download/"); ok {
			latest, err := exec.Command("sh", "-c", `grep -v -e - "$0" | sort -V | tail -n 1`, filepath.Join(r.github, "order")).Output()
			if err != nil || len(latest) == 0 {
				http.NotFound(w, request)
				return
			}
			http.Redirect(w, request, releases+"download/"+strings.TrimSpace(string(latest))+"/"+file, http.StatusFound)
			return
		}
		file, found := strings.CutPrefix(rest, "download/")
		if !ok || !found {
			http.NotFound(w, request)
			return
		}
		http.ServeFile(w, request, filepath.Join(r.github, filepath.FromSlash(file)))
	}))
	r.t.Cleanup(server.Close)
	return server.URL
}

// TestNewReleases does what the workflow of a new plug-in does, from its source to its installation from the release page.
func TestNewReleases(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there the workflow needs MSYS2")
	}
	fixture.Tool(t, "bash", "apt-get install bash")
	fixture.Tool(t, "jq", "apt-get install jq")
	for _, c := range []struct {
		lang, option string
		installed    string // for it
	}{{"c", "", ""}, {"cpp", "", ""}, {"rust", "", ""}, {"go", "", ""}, {"c", "--wasm", "clang lld wasi-libc libclang-rt-dev-wasm32"},
		{"cpp", "--wasm", "clang lld wasi-libc libclang-rt-dev-wasm32 libc++-dev-wasm32"}, {"rust", "--wasm", "wasm32-unknown-unknown"}, {"go", "--wasm", ""}, {"go", "--sidecar", ""}, {"python", "", "gcc python3-dev"}, {"js", "", ""}} {
		lang, options := c.lang, strings.Fields(c.option)
		platform, all := runtime.GOOS+"-"+runtime.GOARCH, []string{"linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64", "windows-amd64", "windows-arm64"}
		wasm := c.option == "--wasm"
		script := lang == "python" || lang == "js"
		if wasm || script {
			platform, all = "any", []string{"any"}
		}
		t.Run(strings.TrimSpace(lang+" "+c.option), func(t *testing.T) {
			t.Parallel()
			need(t, lang)
			if wasm {
				needModules(t, lang)
			}
			if lang == "python" {
				needPython(t)
			}
			p := made(t, lang, "greeter", options...)
			workflowText, err := os.ReadFile(filepath.Join(p.Dir, ".github", "workflows", "release.yml"))
			require.NoError(t, err)
			w := workflowOf(t, string(workflowText))
			var platforms []string
			r := newRunner(t, p.Dir)
			for _, include := range w.Jobs["build"].Strategy.Matrix.Include {
				platforms = append(platforms, include["platform"])
				if include["platform"] != platform {
					continue
				}
				assert.Equal(t, p.Library, include["library"])
				for key, value := range include {
					r.values["matrix."+key] = value
				}
			}
			if !slices.Contains(platforms, platform) {
				t.Skip("the workflow does not build for this platform")
			}
			assert.Equal(t, all, platforms)

			// Without a tag it is built and tested, and nothing else; without the secret nothing is published.
			m := newMarket(t, "")
			r.values["secrets.FERRULE_KEY"], r.values["secrets.FERRULE_SIGN_PASSWORD"] = "", "a password"
			r.build(w)
			installed, _ := os.ReadFile(filepath.Join(r.folder, "installed"))
			assert.Equal(t, c.installed, strings.TrimSpace(string(installed)))
			out, err := r.publish(w, "main")
			require.NoError(t, err, out)
			assert.Empty(t, out)
			out, err = r.publish(w, "v0.1.0")
			require.Error(t, err)
			assert.Contains(t, out, "no secret FERRULE_KEY: see README.md")

			r.give(m)
			out, err = r.publish(w, "v0.9.0")
			require.Error(t, err)
			assert.Regexp(t, "the tag is v0.9.0, and the (library|module|program|script) of the version of v0.1.0", out)
			require.NoDirExists(t, filepath.Join(r.github, "v0.9.0"))

			out, err = r.publish(w, "v0.1.0")
			require.NoError(t, err, out)
			m.key = m.publicKey("release.key.pub")
			readme, err := os.ReadFile(filepath.Join(p.Dir, "README.md"))
			require.NoError(t, err)
			_, config, ok := strings.Cut(string(readme), "```yaml\n")
			require.True(t, ok)
			config, _, _ = strings.Cut(config, "```")
			config = strings.NewReplacer("https://github.com", r.serve(), "OWNER", "acme", "REPOSITORY", "greeter", "RW...", m.key).Replace(config)
			m.configure(config)
			stdout, _ := m.does(exitOK, "install")
			assert.Regexp(t, `^greeter 0\.1\.0 \(.*, signed by [0-9A-F]{16}\)\n1 plug-in installed`, stdout)
			if wasm || script {
				assert.FileExists(t, filepath.Join(r.github, "v0.1.0", "greeter-any"+filepath.Ext(p.Library)))
			}
			if lang == "go" || script { // as the README has it, and as an application would have it
				stdout, _ = m.does(exitOK, "info greeter")
				assert.Contains(t, stdout, "greeter 0.1.0  ")
				stdout, _ = m.does(exitOK, "doctor")
				assert.NotContains(t, stdout, "wrong")
			}
			if lang != "c" || wasm {
				return
			}

			// The releases that follow have the earlier ones in their index, whichever of them is the latest.
			test, err := os.ReadFile(filepath.Join(p.Dir, "test.sh"))
			require.NoError(t, err)
			test, _, _ = bytes.Cut(test, []byte(`"$ferrule" check`)) // it was checked, which takes long
			require.NoError(t, os.WriteFile(filepath.Join(p.Dir, "test.sh"), test, 0o666))
			source := filepath.Join(p.Dir, "greeter.c")
			before := "0.1.0"
			for _, version := range []string{"0.2.0", "0.1.1", "0.3.0-rc.1"} {
				if version == "0.1.1" { // by hand, without an index
					require.NoError(t, os.Mkdir(filepath.Join(r.github, "notes"), 0o777))
					order, err := os.ReadFile(filepath.Join(r.github, "order"))
					require.NoError(t, err)
					require.NoError(t, os.WriteFile(filepath.Join(r.github, "order"), append(order, "notes-1\n"...), 0o666))
					require.NoError(t, os.Rename(filepath.Join(r.github, "notes"), filepath.Join(r.github, "notes-1")))
				}
				text, err := os.ReadFile(source)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(source, []byte(strings.Replace(string(text), `FERRULE_VERSION("`+before+`")`, `FERRULE_VERSION("`+version+`")`, 1)), 0o666))
				before = version
				r.build(w)
				out, err := r.publish(w, "v"+version)
				require.NoError(t, err, out)
			}
			stdout, _ = m.does(exitOK, "update")
			assert.Equal(t, "greeter 0.1.0 -> 0.2.0\n", stdout)
			for _, version := range []string{"0.1.0", "0.1.1", "0.3.0-rc.1"} {
				m.configure(strings.Replace(config, "plugins: [greeter]", "plugins: [{name: greeter, version: '="+version+"'}]", 1))
				require.NoError(t, os.Remove(m.path("ferrule.lock")))
				stdout, _ := m.does(exitOK, "install")
				assert.Contains(t, stdout, "greeter "+version+" (")
			}

			// With what is commented out it is in an OCI registry, too.
			address := fixture.Registry(t, "tiny") + "/acme"
			more := regexp.MustCompile(`(?m)^( +)# (echo|ferrule push) `).ReplaceAllString(string(workflowText), "$1$2 ")
			more = strings.ReplaceAll(more, "registry.example/acme", address)
			require.NotEqual(t, string(workflowText), more)
			require.NoError(t, os.WriteFile(filepath.Join(r.folder, "bin", "docker"), []byte("#!/bin/sh\n[ \"$1 $2\" = 'login registry.example' ] && cat >/dev/null\n"), 0o755))
			require.NoError(t, os.Truncate(filepath.Join(r.github, "order"), 0))
			require.NoError(t, os.RemoveAll(filepath.Join(r.github, "v"+before)))
			out, err = r.publish(workflowOf(t, more), "v"+before)
			require.NoError(t, err, out)
			m.configure("registry: {url: 'oci://" + address + "', keys: [KEY]}\nplugins: [{name: greeter, version: '=" + before + "'}]\n")
			require.NoError(t, os.Remove(m.path("ferrule.lock")))
			stdout, _ = m.does(exitOK, "install")
			assert.Contains(t, stdout, "(oci://"+address+", signed by ")
		})
	}
}
