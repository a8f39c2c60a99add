package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// binary is the built command, which the tests run as a user would.
var binary string

func TestMain(m *testing.M) {
	// What a shell runs in the background does not get Ctrl-C, nor does what that starts. What catches it hands on that it does.
	if signal.Ignored(os.Interrupt) {
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	code, err := withBinary(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withBinary builds the command into a folder of its own for as long as tests runs.
func withBinary(tests func() int) (int, error) {
	dir, err := os.MkdirTemp("", "ferrule-command-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	// What cargo builds for one plug-in and is the same for the next, such as syn, is built once. What is to be there at the end is where it always is. A
	// cargo before 1.91 does not know the name, and builds it each time.
	if err := os.Setenv("CARGO_BUILD_BUILD_DIR", filepath.Join(dir, "cargo")); err != nil {
		return 0, err
	}
	binary = filepath.Join(dir, "ferrule")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return tests(), nil
}

// ferrule runs the command with args and stdin, and returns what it wrote and its exit code.
func ferrule(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewBufferString(stdin), &out, &errs
	err := cmd.Run()
	require.NoError(t, ctx.Err(), "%v: out of time\n%s", args, &errs)
	if ended := new(exec.ExitError); !errors.As(err, &ended) {
		require.NoError(t, err, "%v", args)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestHelp(t *testing.T) {
	stdout, stderr, code := ferrule(t, "", "--help")
	assert.Zero(t, code)
	assert.Empty(t, stderr)
	for _, verb := range command(&app{}).Commands() {
		assert.Equal(t, !verb.Hidden, strings.Contains(stdout, "\n  "+verb.Name()+" "), verb.Name())
		assert.True(t, verb.Hidden || strings.Contains(stdout, verb.Short), verb.Name())
		if verb.Hidden || verb.Name() == "completion" || verb.Name() == "help" {
			continue
		}
		assert.GreaterOrEqual(t, strings.Count(verb.Example, "ferrule "+verb.Name()), 2, "%s: two examples", verb.Name())
		help, _, code := ferrule(t, "", verb.Name(), "--help")
		assert.Zero(t, code)
		assert.Contains(t, help, verb.Example)
	}
}

// TestParserWords: what the parser of the command line finds wrong is said as everything else is: what was found, what was
// expected, what to do.
func TestParserWords(t *testing.T) {
	const verbs = "expected one of the commands bench, bundle, call, check, completion, deny, disable, doctor, enable, gc, gen, grant, index, info, inspect, install, keygen, list, lock, mirror, new, push, remove, rollback, search, serve, sign, top, update, verify"
	for line, want := range map[string]string{
		"inspct file":          "found inspct, " + verbs + `. Did you mean "inspect"?`,
		"help inspct":          "found inspct, " + verbs + `. Did you mean "inspect"?`,
		"version":              "found version, " + verbs + ". Did you mean --version?\n",
		"frobnicate":           "found frobnicate, " + verbs + "\n",
		"help call check":      "found the arguments call check, expected one command\n",
		"--no-such-flag":       "found --no-such-flag, expected an option of ferrule\n",
		"call --tiemout 2s":    `found --tiemout, expected an option of ferrule call. Did you mean "--timeout"?`,
		"inspect --timeout 2s": "found --timeout, expected an option of ferrule inspect. It is one of ferrule bench, ferrule call, ferrule check, ferrule serve.\n",
		"call -x":              "found -x, expected an option of ferrule call\n",
		"call -json":           "found -json, expected an option of ferrule call. Write --json.\n",
		"call ---":             "found ---, expected an option, such as --json. Put -- before arguments that begin with -.\n",
		"call --timeout soon":  "found --timeout soon, expected a time such as 500ms or 2s\n",
		"call --json=maybe":    "found --json maybe, expected true or false, or no value\n",
		"check --only \"a":     "found --only \"a, expected values with commas between them",
		"bench --parallel x":   "found --parallel x, expected a whole number\n",
		"call --in":            "found --in without a value, expected --in TEXT\n",
		"new -l":               "found --lang without a value, expected --lang LANGUAGE\n",
		"call":                 "found no FILE on the command line, expected ferrule call FILE [FUNCTION]\n",
		"completion":           "found no shell, expected one of the shells bash, fish, powershell, zsh\n",
		"completion tcsh":      "found tcsh, expected one of the shells bash, fish, powershell, zsh\n",
		"completion elvish x":  "found elvish x, expected one of the shells bash, fish, powershell, zsh\n",
		"call a b c":           "found 3 arguments: a b c, expected FILE [FUNCTION]\n",
	} {
		stderr := refused(t, line, "ferrule: "+want)
		assert.Regexp(t, "(?m)^See 'ferrule.* --help'\\.$", stderr, line)
	}
	for _, verb := range append(manual(command(&app{})), helpVerb()) {
		help, _, code := ferrule(t, "", verb.Name(), "--help")
		assert.Zero(t, code)
		same, _, code := ferrule(t, "", "help", verb.Name())
		assert.Zero(t, code)
		assert.Equal(t, help, same)
	}
}

// TestFilesOfFlags: what the system says of a file that a flag names is said as everything else is, and the flag with it.
func TestFilesOfFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script, missing := filepath.Join(dir, "a.js"), filepath.Join(dir, "missing", "file")
	require.NoError(t, os.WriteFile(script, []byte("// ferrule: name=a version=1 fn=f\nexport const f = x => x\n"), 0o600))
	for _, line := range [][]string{
		{"sign", script, "--key", missing}, {"verify", script, "--key", missing}, {"keygen", filepath.Join(dir, "k"), "--password-file", missing},
		{"call", script, "f", "--in", "@" + missing}, {"call", script, "f", "--in", "x", "--config", "@" + missing}, {"check", "--sidecar", "tcp:h:1", "--tls", "--ca", missing},
		{"serve", script, "--unix", filepath.Join(dir, "s"), "--token-file", missing}, {"serve", script, "--tcp", ":0", "--key", script, "--cert", missing}, {"serve", script, "--unix", missing}, {"serve", script, "--http", "unix:" + missing},
	} {
		flag, named := line[len(line)-2], strings.TrimPrefix(line[len(line)-1], "unix:")
		stdout, stderr, code := ferrule(t, "", append(line, "--json")...)
		assert.Equal(t, exitUsage, code, line)
		what := "found " + flag + " " + named + ": "
		assert.Contains(t, stderr, "ferrule: "+what, line)
		assert.Contains(t, stderr, ", expected what it names to be there, and this user's to use. Check the path.\nSee 'ferrule", line)
		var got struct{ Error errorDetails }
		require.NoError(t, json.Unmarshal([]byte(stdout), &got), stdout)
		assert.Equal(t, []string{wrongLine, "what it names to be there, and this user's to use", "Check the path"}, []string{got.Error.Kind, got.Error.Expected, got.Error.Remedy})
	}
	_, stderr, code := ferrule(t, "", "serve", script, "--stdio", "--token-file", "")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "found --token-file with nothing (is a variable not set?): ")
}

// refused runs a command line that is wrong, and returns what it wrote to its standard error, which contains want.
func refused(t *testing.T, line, want string) string {
	t.Helper()
	stdout, stderr, code := ferrule(t, "", strings.Fields(line)...)
	assert.Equal(t, exitUsage, code, line)
	assert.Empty(t, stdout, line)
	assert.Contains(t, stderr, want, line)
	return stderr
}

// TestGivenTwice: no option with one value takes a second one silently, whatever the verb.
func TestGivenTwice(t *testing.T) {
	values := map[string]string{"stringSlice": "x", "stringArray": "x", "string": "x", "int": "1", "uint64": "1", "duration": "1s"}
	once, keyed := 0, []string(nil)
	for _, verb := range command(&app{}).Commands() {
		verb.Flags().VisitAll(func(f *pflag.Flag) {
			value := values[f.Value.Type()]
			if value == "" {
				return // it takes none
			}
			err := verb.ParseFlags([]string{"--" + f.Name, value, "--" + f.Name, value})
			if f.Value.Type() == "stringSlice" || f.Value.Type() == "stringArray" {
				assert.NoError(t, err, "ferrule %s --%s", verb.Name(), f.Name)
				if word, _ := pflag.UnquoteUsage(f); strings.Contains(word, "=") { // one for each, and not two for one
					keyed = append(keyed, verb.Name()+" --"+f.Name)
				}
				return
			}
			once++
			want := "found --" + f.Name + " " + value + ", and another --" + f.Name + " before it, expected --" + f.Name + " once"
			assert.ErrorContains(t, flagError(verb, err), want, "ferrule %s", verb.Name())
		})
	}
	assert.Greater(t, once, 15)
	s := newSigner(t)
	for line, want := range map[string]string{
		"call --in a --in b f g":                                        "ferrule: found --in b, and another --in before it, expected --in once\n",
		"new -l c --lang rust x":                                        "ferrule: found --lang rust, and another --lang before it, expected --lang once\n",
		"check --level 1 --level=1 x":                                   "ferrule: found --level 1, and another --level before it, expected --level once\n",
		"bench --timeout 1s --timeout 2s":                               "ferrule: found --timeout 2s, and another --timeout before it, expected --timeout once\n",
		"call --import a=cat --import a=b x f":                          "ferrule: found --import a=b, and another for a before it",
		"call --answer a=1 --answer a=2 x f":                            "ferrule: found --answer a=2, and another for a before it",
		"call --info a.b=1 --info a.b=2 ECHO echo":                      "ferrule: found --info a.b=2, and another for a.b before it",
		"check --in a=1 --in a=2 x":                                     "ferrule: found --in a=2, and another for a before it",
		"check --import a=cat --import a=b x":                           "ferrule: found --import a=b, and another for a before it",
		"check --answer a=1 --answer a=2 x":                             "ferrule: found --answer a=2, and another for a before it",
		"bench --import a=cat --import a=b x f":                         "ferrule: found --import a=b, and another for a before it",
		"bench --answer a=1 --answer a=2 x f":                           "ferrule: found --answer a=2, and another for a before it",
		"index --revoke a@1=w --revoke a@1=v --key KEY --name n FOLDER": "ferrule: found --revoke a@1=v, and another for a@1 before it",
		"index --revoke-key 3F7C0A5B12D4E698=w --revoke-key 3F7C0A5B12D4E698=v --key KEY --name n FOLDER": "ferrule: found --revoke-key " +
			"3F7C0A5B12D4E698=v, and another for 3F7C0A5B12D4E698 before it",
	} {
		refused(t, strings.NewReplacer("ECHO", s.lib, "KEY", s.key, "FOLDER", t.TempDir()).Replace(line), want)
		keyed = slices.DeleteFunc(keyed, func(option string) bool {
			verb, flag, _ := strings.Cut(option, " ")
			return strings.HasPrefix(line, verb+" ") && strings.Count(line, " "+flag+" ") == 2
		})
	}
	assert.Empty(t, keyed, "options that nobody has tried with one name twice")
}

// TestFlagsMeanTheSame: what says which host a plug-in has is said in the same words to each verb that runs one.
func TestFlagsMeanTheSame(t *testing.T) {
	root := command(&app{})
	flags := func(verb string) *pflag.FlagSet {
		cmd, _, err := root.Find([]string{verb})
		require.NoError(t, err)
		return cmd.Flags()
	}
	for _, name := range []string{"import", "answer", "config", "sandbox", "allow-read", "allow-write", "allow-connect", "memory",
		"procs"} {
		want := flags("call").Lookup(name)
		require.NotNil(t, want, name)
		for _, verb := range []string{"check", "bench"} {
			got := flags(verb).Lookup(name)
			require.NotNil(t, got, "%s --%s", verb, name)
			assert.Equal(t, []string{want.Usage, want.DefValue, want.Value.Type()},
				[]string{got.Usage, got.DefValue, got.Value.Type()}, "%s --%s", verb, name)
		}
	}
}

func TestVersion(t *testing.T) {
	stdout, _, code := ferrule(t, "", "--version")
	assert.Zero(t, code)
	assert.Regexp(t, `^ferrule \S.*, contract 1, go\d.* `+runtime.GOOS+"/"+runtime.GOARCH+"\n$", stdout)
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		stdout, _, code := ferrule(t, "", "completion", shell)
		assert.Zero(t, code)
		assert.Contains(t, stdout, "ferrule")
	}
	stdout, _, code := ferrule(t, "", "__complete", "call", fixture.C(t, "echo"), "ec")
	assert.Zero(t, code)
	assert.Contains(t, stdout, "echo\tReturns its input.\necho_own\n")
	stdout, _, code = ferrule(t, "", "__complete", "call", "--hook", fixture.C(t, "echo"), "")
	assert.Zero(t, code)
	assert.Contains(t, stdout, "before_echo\t")
	stdout, _, _ = ferrule(t, "", "__complete", "call", "--in", "text", fixture.C(t, "echo"), "ec")
	assert.Contains(t, stdout, "echo\tReturns its input.\n", "behind an option with a value")
	stdout, _, _ = ferrule(t, "", "__complete", "inspect", "")
	assert.True(t, strings.HasPrefix(stdout, "so\ndylib\ndll\n"), stdout)
}

// TestOutputLost: help that cannot be written is an error, as all output is, and none of the command line.
func TestOutputLost(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this system has no file that is always full: ", err)
	}
	defer full.Close()
	echo := fixture.C(t, "echo")
	for _, args := range [][]string{nil, {"--help"}, {"new", "--help"}, {"help"}, {"help", "call"}, {"--version"}, {"completion", "bash"}, {"check", "--list"},
		{"call", echo}, {"call", echo, "echo", "--in", "x"}, {"call", "--isolated", echo, "echo", "--in", "x"}, {"call", "--json", echo, "echo", "--in", "x"},
		{"inspect", echo}, {"inspect", "--diff", echo, echo}} {
		cmd := exec.CommandContext(t.Context(), binary, args...)
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &stderr
		_ = cmd.Run()
		assert.Equal(t, exitFailed, cmd.ProcessState.ExitCode(), args)
		assert.Regexp(t, "^ferrule: .*no space left on device\n$", stderr.String(), args)
	}
}

// TestEmptyArgument: an argument that is empty is a variable that is not set, and not the current folder.
func TestEmptyArgument(t *testing.T) {
	for args, name := range map[string]string{"man": "FOLDER", "new": "DIR", "inspect": "FILE", "check": "FILE", "call": "FILE", "inspect a.so": "FILE",
		"call a.so": "FUNCTION", "sign": "FILE", "info": "NAME", "enable": "NAME", "bench a.so": "FUNCTION", "install": "NAME[@RANGE]|FILE",
		"update a": "NAME", "mirror": "NAME", "bundle": "FILE.zip", "verify": "FILE", "index": "PLACE"} {
		_, stderr, code := ferrule(t, "", append(strings.Fields(args), "")...)
		assert.Equal(t, exitUsage, code, args)
		assert.Contains(t, stderr, "found an empty "+name+" (is a variable not set?), expected ferrule "+strings.Fields(args)[0]+" ", args)
	}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		assert.NotEqual(t, ".1", filepath.Ext(e.Name()))
	}
}
