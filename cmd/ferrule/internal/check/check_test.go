package check_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
)

// The test's own binary is the worker.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "check-worker" {
		if err := check.Work(os.Stdin, shell); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "serve-") {
		if err := serveHere(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// shell serves imports in a worker. It knows two command lines.
func shell(line string, in []byte) ([]byte, error) {
	if line == "fails" {
		return nil, errors.New("it fails")
	}
	if line == "takes long" {
		time.Sleep(600 * time.Millisecond) // more than a call's budget
	}
	return in, nil
}

func options(t *testing.T) check.Options {
	self, err := os.Executable()
	require.NoError(t, err)
	return check.Options{Worker: []string{self, "check-worker"}, Level: 10, Seed: 1, Timeout: 20 * time.Second}
}

// workersAtOnce is how many libraries are checked at the same time: some of a worker's time is waiting, for limits and for what does not come.
const workersAtOnce = 4

// levelOf is the highest level of the cases that findings are of.
func levelOf(t *testing.T, findings string) (level int) {
	t.Helper()
	for _, name := range casesOf(findings) {
		i := slices.IndexFunc(check.Cases(10), func(c check.Case) bool { return c.Name == name })
		require.GreaterOrEqual(t, i, 0, name)
		level = max(level, check.Cases(10)[i].Level)
	}
	return level
}

// casesOf are the cases that findings are of.
func casesOf(findings string) (cases []string) {
	for _, finding := range strings.Split(findings, ",") {
		name, _, _ := strings.Cut(finding, " ")
		cases = append(cases, name)
	}
	return slices.Compact(cases)
}

// findings are a verdict's, as "case severity rule", each once.
func findings(v *check.Verdict) []string {
	var all []string
	for _, r := range v.Results {
		for _, f := range r.Findings {
			all = append(all, fmt.Sprintf("%s %s %s", f.Case, f.Severity, f.Rule))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// told is findings with what was seen, for tests that expect none: the first words of an assertion that fails are what is kept of it.
func told(v *check.Verdict) []string {
	var all []string
	for _, r := range v.Results {
		for _, f := range r.Findings {
			all = append(all, fmt.Sprintf("%s %s %s: %s", f.Case, f.Severity, f.Rule, f.Seen))
		}
	}
	return all
}

// Each fixture has one defect, and the cases that are about it find that, and nothing else.
func TestFindings(t *testing.T) { testFindings(t, false) }

// No other case finds anything in a fixture, up to the level of its defect. Fixtures whose row names its cases are left out: all cases would take long.
func TestFindingsOfAllCases(t *testing.T) { testFindings(t, true) }

// testFindings checks each fixture with the case that is about it, or with all cases.
func testFindings(t *testing.T, all bool) {
	elsewhere := "elf-riscv64-clang.so"
	if runtime.GOARCH == "riscv64" {
		elsewhere = "elf-amd64-clang.so"
	}
	type plugin struct {
		fixture string
		want    string // findings; several with a comma
		seen    string // a part of what the first finding says that was seen
		linux   bool   // on other systems the case is skipped
		only    string // the cases to run, where all would take long
	}
	plugins := []plugin{
		{"no_manifest", "manifest error R1", "", false, ""},
		{"manifest_without_end", "manifest error R1", "", false, ""},
		{"manifest_without_major", "manifest error R1", "", false, ""},
		{"manifest_newer_major", "manifest error R1", "ferrule=2", false, ""},
		{"manifest_not_utf8", "manifest error R1", "", false, ""},
		{"manifest_without_name", "manifest error R1", "", false, ""},
		{"manifest_duplicate_name", "manifest error R3", "name", false, ""},
		{"manifest_unknown_threads", "manifest error R13", "", false, ""},
		{"meta_without_end", "manifest error R1", "ferrule_meta_fn_", false, ""},
		{"function_name_too_long", "names error R2", "nnnn", false, ""},
		{"duplicate_symbol", "names error R2", "ferrule_fn_answer", true, ""},
		{"check_reserved_name", "names warning R2", "ferrule_pause", false, ""},
		{"../" + elsewhere, "architecture error R4", "linux/", false, "architecture"},
		{"check_foreign_export", "symbols warning R2", "compress", false, ""},
		{"check_no_function", "symbols warning R2", "no exported ferrule_fn_", false, ""},
		{"undefined_symbol", "open error R4", "ferrules_nobody_defines", false, ""},
		{"check_constructor", "open error R4", "opening the library: the process died of SIGSEGV at the address 0x8", false,
			""},
		{"start_fails", "start error R15", "ferrule_start failed", false, ""},
		{"start_fails", "start-stop error R15", "ferrule_start failed", false, "start-stop"},
		{"check_start_crashes", "start error R15", "ferrule_start: the process died of SIGSEGV", false, ""},
		{"check_stop_fails", "start warning R15", "ferrule_stop failed", false, ""},
		{"check_input_empty", "input-empty error R7", "take with no input: the process died of SIGSEGV at the address 0x8",
			false, ""},
		{"check_input_byte", "input-byte error R7", `take with the byte 'a'`, false, ""},
		{"check_input_text", "input-text error R7", "take with a text", false, ""},
		{"check_exit", "input-empty error R12", "the process ended with exit code 3", false, ""},
		{"check_hang", "input-empty error R17", "work with no input: not done after 1s", false, "input-empty,input-byte"},
		{"out_len_beyond_out_cap", "output error R8", "out_len 65537 in a room of 65536 bytes", false, ""},
		{"out_len_beyond_ptrdiff_max", "output error R8,status warning R10", "" /* another function of it says whether the first was released */, false, ""},
		{"null_out_with_length", "output error R8", "out NULL", false, ""},
		{"foreign_out_without_release", "output error R8", "another pointer", false, ""},
		{"state", "output error R8", "without room", false, ""},
		{"negative_status", "status error R10", "the status -7", false, ""},
		{"check_status_reserved", "status error R10", "the status 10", false, ""},
		{"check_input_not_utf8", "input-not-utf8 error R7", "a byte of another encoding", false, ""},
		{"check_input_random", "input-random error R7", "random bytes (--seed 1)", false, ""},
		{"check_input_large", "input-large error R7", "1 MiB", false, ""},
		{"check_input_read_only", "input-read-only error R7", "on a read-only page", false, ""},
		{"check_input_guard", "input-guard error R7", "ending where memory ends", false, ""},
		{"check_message_not_utf8", "message error R11", `"caf\xe9"`, false, ""},
		{"check_message_newline", "message warning R11", `"no way\n"`, false, ""},
		{"check_room_guard", "room-guard error R8", "in a room of 0 bytes where memory ends", false, ""},
		{"check_room_sizes", "room-sizes error R8", "0 bytes instead of 10", false, ""},
		{"check_frame", "frame error R6", "the frame's in was changed", false, ""},
		{"check_release_thread", "release error R9", "released on another thread", false, ""},
		{"check_release_host", "release error R9", "host->log in release", false, ""},
		{"host_misused", "services error R18,services error R21,services error R5", "", false, "services"},
		{"check_request_size", "services error R21", "size is 8", false, ""},
		{"check_ordinal", "services error R5", "the ordinal 7, of 1 import", false, ""},
		{"check_log_not_utf8", "services error R18", `"caf\xe9"`, false, ""},
		{"check_frame_tail", "frame-size error R21", "with noise behind the frame's size", false, ""},
		{"check_frame_since", "frame-size error R21", "with a frame of version 1.0, and noise behind it", false, ""},
		{"check_frame_size", "frame-size error R21", "with a longer frame", false, ""},
		{"check_frame_write", "frame-size error R21", "written over", false, ""},
		{"check_host_tail", "host-size error R21", "with noise behind the host table's size", false, ""},
		{"check_host_since", "host-size error R21", "with a host table of version 1.0, and noise behind it", false, ""},
		{"check_room", "services error R25", "host->room with release set", false, ""},
		{"check_info_key", "services warning R26", `host->info with the key ""`, false, ""},
		{"check_fields", "services error R31", `the log line's fields "user=ada"`, false, ""},
		{"check_background", "services error R27", "host->room with the frame for what happens between calls", false, ""},
		{"check_host_size", "host-size error R21", "with a longer host table", false, ""},
		{"check_import_fails", "import-fails error R18", "SIGSEGV", false, ""},
		{"check_import_empty", "import-empty error R18", "SIGSEGV", false, ""},
		{"check_import_large", "import-large error R18", "not done after 1s", false,
			"import-fails,import-empty,import-large"},
		{"check_cancel_ignored", "cancel-set error R17", "cancelled on entry", false, "cancel-set,cancel-middle"},
		{"check_cancel_once", "cancel-middle error R17", "cancelled after 10ms", false, "cancel-set,cancel-middle"},
		{"batch_runs_nothing", "batch error R19", "done 0", false, "batch"},
		{"batch_counts_too_much", "batch error R19", "done", false, "batch"},
		{"check_batch_cancel", "batch error R19", "cancelled before it began", false, ""},
		{"check_batch_differs", "batch error R19", "record 2 of 4", false, ""},
		{"check_instances", "instances warning R13", "beside a second instance", false, ""},
		{"check_config", "config error R15", "a configuration of 1 MiB", false, ""},
		{"check_signal_handler", "signal-handlers error R20", "after answer: the handler of SIGUSR2", true, ""},
		{"check_signal_mask", "signal-mask error R20", "after answer: the signal mask", true, ""},
		{"check_room_forgotten", "output warning R8", "answer writes into the room, and leaves out_len 0", false, ""},
		{"check_always_fails", "status warning R10", "answer has failed with every input that was tried", false, ""},
		{"check_always_panics", "status warning R12", "answer has panicked with every input", false, ""},
		{"check_panics", "status warning R12", "answer has panicked with 7 of 9 inputs that were tried, first with a text", false, ""},
		{"check_stack_overflow", "input-empty error R7", "answer with no input: the process died of a stack overflow", true, ""},
		{"check_stack_alloca", "input-empty error R7", "answer with no input: the process died of a stack overflow", true, ""},
		{"check_stack_array", "input-empty error R7", "answer with no input: the process died of a stack overflow", true, ""},
		{"check_state_on_stack", "input-empty error R7", "SIGSEGV at the address 0x8", false, ""},
		{"check_child_taken", "children error R20", "answer has taken the exit status of a child", true, ""},
		{"check_children_ignored", "children error R20,signal-handlers error R20", "after ignore: the handler of SIGCHLD", true, ""},
		{"check_process_left", "input-empty error R15", "left after every instance had stopped: 1 process, ", true, ""},
		{"check_file_left", "input-empty warning R20", `in the working folder: "left.txt"`, false, ""},
		{"check_working_directory", "working-directory error R20", "is /", false, ""},
		{"check_locale", "locale error R20", `after ferrule_start: the locale was "C", is "C.UTF-8"`, true, ""},
		{"check_floating_point", "floating-point error R20", "after answer: ", true, ""},
		{"check_executable_stack", "stack error R20", "executable", true, "stack"},
		{"check_fast_math", "floating-point error R20", "after opening the library: ", true, "floating-point"},
		{"check_umask", "umask error R20", "after answer: the umask was ", true, ""},
		{"check_limits", "limits error R20", "after answer: the limit RLIMIT_CORE was ", true, ""},
		{"check_stderr", "standard-streams warning R20", `on the standard error: "something is odd\n`, true, ""},
		{"check_handle", "handles warning R13", `use with what make gave for no input, in another instance: it works as long as`, false, ""},
		{"check_atexit", "unload warning R20", "the library is linked with atexit", true, ""},
		{"check_on_exit", "unload error R20,unload warning R20", "the library is linked with on_exit", true, ""},
		{"check_destructor", "unload error R20", "unloading the library: the process died of SIGSEGV at the address 0x8", true, ""},
		{"check_environment", "environment error R20", "CHECK_ENVIRONMENT was not there", true, ""},
		{"check_stdout", "standard-streams error R20", `"here I am`, true, ""},
		{"check_stdin_closed", "standard-streams error R20", "the standard input was file", true, ""},
		{"check_threads", "threads error R13", "2 instances on 4 threads each", false, ""},
		{"check_threads_serial", "threads error R13", "4 instances at the same time", false, ""},
		{"check_threads_pinned", "threads error R13", "4 instances at the same time", false, ""},
		{"check_late_frame", "late-frames error R14", "host->log with a frame whose call is over", false, ""},
		{"check_release_late", "release-late error R9", "after ferrule_stop", false, ""},
		{"check_threads_left", "threads-end error R15", "1, 2, 3 and 4 threads more", true, "threads-end"},
		{"check_thread_kept", "threads-end warning R15", "1, 1, 1 and 1 threads more", true, ""},
		{"check_stop_leaks", "start-stop error R15", "more bytes after each ", true, ""},
		{"check_call_leaks", "leaks error R9", "more bytes after each ", true, ""},
		{"check_cancel_late", "input-byte error R17", "after its cancel word was set", false, "input-byte"},
		{"check_release_slow", "release error R9", "release took ", false, "release"},
		{"check_start_room", "config error R8", "out_len 5 in a room of 0 bytes", false, ""},
		{"check_threads_crash", "threads error R13", "all functions, 2 instances on 4 threads each", false, ""},
		{"check_start_wears_out", "start-stop error R15", "after it had worked before", false, ""},
		{"check_schema_not_utf8", "manifest error R32", "ferrule_meta_config: bytes that are not UTF-8", false, ""},
		{"check_stream_word", "manifest error R24", "stream", false, ""},
		{"check_state_format", "manifest error R29", "state=count-1 without both functions", false, ""},
		{"check_want_and_import", "names error R23", "ferrule_want_city", false, ""},
		{"check_meta_of_nothing", "names warning R2", "ferrule_meta_fn_anser", false, ""},
		{"check_words_order", "words warning R32", `hook page: order="middle"`, false, ""},
		{"check_words_priority", "words warning R32", `hook page: priority="high"`, false, ""},
		{"check_words_quick", "words warning R32", `answer: quick="very"`, false, ""},
		{"check_words_list", "words warning R32", `the manifest: requires="auth\n\ncache"`, false, ""},
		{"check_words_memory", "words warning R32", `the manifest: permit.memory="64 MiB"`, false, ""},
		{"check_words_health", "words warning R32", `the manifest: health="healthy", and no such function`, false, ""},
		{"check_room_refused", "room error R25", "in a room of 8 bytes where memory ends, where host->room has no memory", false, ""},
		{"check_room_old", "room error R25", "where the old one is gone when host->room gives another", false, ""},
		{"check_wants", "wants error R23", "answer with no input, with no want offered: the process died of SIGSEGV at the address 0x8", false, ""},
		{"check_wants_older", "wants error R23", "by a host that is older than wants: the process died of SIGSEGV", false, ""},
		{"check_stream_missing", "streams error R24", "sum with no input, without a stream: the process died of SIGSEGV at the address 0x8", false, ""},
		{"check_stream_kept", "streams error R24", "whose pieces have one byte each, and are gone when the next is read: the process died", false, ""},
		{"check_stream_write", "streams error R24", "whose pieces have one byte each, and are gone when the next is read: the process died", false, ""},
		{"check_stream_guard", "streams error R24", "whose pieces have seven bytes each, and are gone when the next is read: the process died", false, ""},
		{"check_stream_broken", "streams warning R24", "FERRULE_OK, although the input stream broke off", false, ""},
		{"check_stream_cancelled", "streams error R24", "sum with no input, cancelled on entry: not done after 1s", false, "streams"},
		{"check_stream_undeclared", "services warning R24", "host->read in a function whose meta text does not say stream=in", false, ""},
		{"check_info_unknown", "info error R26", "where host->info knows nothing: the process died of SIGSEGV at the address 0x8", false, ""},
		{"check_next", "next error R33", "hook page with no input, with nothing behind it: the process died of SIGSEGV at the address 0x8", false, ""},
		{"check_next_undeclared", "services warning R33", "host->next in what does not say wrap=yes", false, ""},
		{"check_quick_cancel", "quick error R34", "answer with no input, as what is quick: the process died of SIGSEGV at the address 0x0", false, ""},
		{"check_quick_service", "quick error R34", "host->log in what says quick=yes", false, ""},
		{"check_quick_slow", "quick error R34", "answer with no input, which says quick=yes, took ", false, ""},
		{"check_progress", "progress error R30", "where progress is NULL: the process died of SIGSEGV at the address 0x0", false, ""},
		{"check_fields_plain", "services warning R31", `the field "some text" of a log line`, false, ""},
		{"check_between_late", "between error R27", "host->log with the frame for what happens between calls, after ferrule_stop", false, "between"},
		{"check_between_fails", "between error R27", "or after a ferrule_start that failed", false, "between"},
		{"check_between_alone", "between error R27", "where host->background has no memory: the process died", false, ""},
		{"check_between_missing", "between error R27", "with a host table of version 1.0, where memory ends: the process died", false, ""},
		{"check_configure", "configure error R28", "after ferrule_configure had failed with one byte, length gives", false, ""},
		{"check_configure_crash", "configure error R28", "ferrule_configure with one byte: the process died of SIGSEGV", false, ""},
		{"check_configure_once", "configure error R28", "after another one, failed with", false, "configure"},
		{"check_configure_differs", "configure warning R28", "after ferrule_configure with the configuration that it was started with, length gives", false, ""},
		{"check_save_counts", "handover warning R29", "ferrule_save, called again: another byte at 0 of 4", false, ""},
		{"check_resume_forgets", "handover warning R29", "ferrule_save in the successor: another byte at 0 of 4", false, ""},
		{"check_resume_refuses", "handover error R29", "ferrule_resume, with what ferrule_save gave, failed with ", false, ""},
		{"check_resume_crashes", "handover error R29", "ferrule_resume with nothing: the process died of SIGSEGV", false, ""},
		{"check_random_many", "random-many error R7", "random input", false, ""},
	}
	if all {
		plugins = slices.DeleteFunc(plugins, func(c plugin) bool { return c.only != "" })
	}
	fixture.SideBySide(t, workersAtOnce, plugins, func(c plugin) string { return c.fixture }, func(t *testing.T, c plugin) {
		if c.linux && runtime.GOOS != "linux" {
			t.Skip("the case is skipped on this system")
		}
		path := ""
		if name, ok := strings.CutPrefix(c.fixture, "../"); ok {
			path = filepath.Join(fixture.Root(), "loader", "inspect", "testdata", name)
		} else {
			path = fixture.C(t, c.fixture)
		}
		o := options(t)
		o.Level = levelOf(t, c.want) // what comes after it is for those that pass
		switch {
		case c.only != "":
			o.Only = strings.Split(c.only, ",")
		case !all:
			o.Only = casesOf(c.want)
		}
		if strings.Contains(c.seen, "not done after 1s") {
			o.Timeout = time.Second
		}
		v, err := check.Run(t.Context(), path, o)
		require.NoError(t, err)
		assert.Equal(t, strings.Split(c.want, ","), findings(v), "%+v", v.Results)
		assert.Equal(t, !strings.Contains(c.want, " error "), v.Pass)
		for _, r := range v.Results {
			for _, f := range r.Findings {
				assert.Contains(t, append(r.Rules, "R12", "R15", "R17", "R20"), f.Rule,
					"a rule that the case is about, or one that any case may find broken: %+v", f)
				assert.NotEmpty(t, f.Seen, "%+v", f)
				assert.NotEmpty(t, f.Expected, "%+v", f)
				assert.NotEmpty(t, f.Mend, "%+v", f)
			}
		}
		i := slices.IndexFunc(v.Results, func(r check.Result) bool { return len(r.Findings) > 0 })
		require.GreaterOrEqual(t, i, 0)
		if runtime.GOOS != "windows" { // which has exceptions instead of signals
			assert.Contains(t, v.Results[i].Findings[0].Seen, c.seen)
		}
	})
}

// What is late once, as on a machine that stands still for seconds, is no finding: a call that is cancelled, and a release.
func TestLateOnce(t *testing.T) {
	for _, name := range []string{"input-byte", "release"} {
		o := options(t)
		o.Only = []string{name}
		v, err := check.Run(t.Context(), fixture.C(t, "check_late_once"), o)
		require.NoError(t, err)
		assert.Empty(t, findings(v), "%s: %+v", name, v.Results)
	}
}

// Plug-ins that keep to the contract pass at the highest level, with no more warnings than are listed.
func TestPasses(t *testing.T) {
	old := []string{"room", "wants", "streams", "info", "next", "configure", "handover", "between", "quick"} // of version 1.0
	type plugin struct {
		name, path string
		want       []string
		skipped    []string // the cases that may be skipped on Linux
	}
	fixture.SideBySide(t, workersAtOnce, []plugin{
		{name: "echo", path: "echo", want: []string{"message warning R11", "status warning R10"}, // it gives its input back as a message
			skipped: append([]string{"import-fails", "import-empty", "import-large", "config", "release-late", "start-stop"}, old...)},
		{name: "host", path: "host", want: []string{"status warning R10"}, skipped: append([]string{"config", "release-late", "start-stop"}, old...)},
		{name: "host_pinned", path: "host_pinned", want: []string{"status warning R10"}, skipped: append([]string{"config", "release-late", "start-stop"}, old...)},
		{name: "since_1_1", path: "since_1_1", skipped: []string{"quick"}},
		{name: "quick_kept", path: "quick_kept", skipped: append([]string{"import-fails", "import-empty", "import-large", "config", "release-late", "start-stop"}, old[:len(old)-1]...)},
		{name: "since", path: "since", skipped: []string{"quick", "streams", "next", "configure", "handover", "import-fails", "import-empty", "import-large"}},
		{name: "rounds", path: "rounds", want: []string{"status warning R10"}, skipped: append([]string{"config", "release-late", "start-stop"}, old...)},
	}, func(c plugin) string { return c.name }, func(t *testing.T, c plugin) {
		v, err := check.Run(t.Context(), fixture.C(t, c.path), options(t))
		require.NoError(t, err)
		passes(t, v, c.want, c.skipped)
	})
}

// passes asserts that a verdict is a pass, with these warnings and without these cases.
func passes(t *testing.T, v *check.Verdict, want, skipped []string) {
	t.Helper()
	assert.True(t, v.Pass)
	assert.ElementsMatch(t, want, findings(v), "%+v", v.Results)
	assert.Len(t, v.Results, len(check.Cases(10))-1, "every case but sandbox has its result")
	if runtime.GOOS == "linux" {
		for _, r := range v.Results {
			assert.Equal(t, slices.Contains(skipped, r.Case), r.Outcome == check.Skipped, "%s %s", r.Case, r.Reason)
		}
	}
}

// The examples are built as their users build them.
func TestExamplesPass(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the examples are built by a shell script")
	}
	stateless := []string{"config", "release-late", "start-stop"}
	old := []string{"wants", "streams", "info", "next", "configure", "handover", "between", "quick"} // of version 1.0, but for the SDKs' use of room
	noImports, noRoom := []string{"import-fails", "import-empty", "import-large"}, []string{"room"}
	cart := []byte(`{"customer": "ada", "items": [], "total_cents": 12000}`)
	for _, c := range []struct {
		name, tool string
		inputs     map[string][]byte
		config     string
		skipped    []string
		want       []string
	}{
		{"countvowels-c", "cc", nil, "", slices.Concat(stateless, noImports, old, noRoom), nil},
		{"countvowels-cpp", "c++", nil, "", slices.Concat(stateless, noImports, old, noRoom), nil},
		{"untrusted", "cc", nil, "", slices.Concat(stateless, noImports, old, noRoom), nil},
		{"zstd", "cc", nil, "level=1", slices.Concat(noImports, old), nil},
		{"digest", "cc", nil, "", slices.DeleteFunc(slices.Concat(stateless, noImports, old), func(c string) bool { return c == "streams" }), nil},
		{"countvowels-rust", "cargo", nil, "", slices.Concat(stateless, noImports, old, noRoom), nil},
		{"newcomer", "cargo", map[string][]byte{"before_checkout": cart}, "", slices.Concat(stateless, old), nil},
		{"loyal", "cargo", map[string][]byte{"before_checkout": cart}, "", slices.Concat(stateless, old), nil},
		{"thumbnail", "cargo", nil, `{"size": 64}`, slices.Concat(noImports, old), nil},
		// SQLite quotes what it does not understand, and opens what the configuration names.
		{"sql", "cc", nil, ":memory:", slices.Concat(noImports, old), []string{"message warning R11", "config warning R20"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fixture.Tool(t, c.tool, "apt-get install gcc g++ cargo")
			build := exec.Command("sh", "examples/build.sh", c.name)
			build.Dir = fixture.Root()
			out, err := build.CombinedOutput()
			if missing := new(exec.ExitError); errors.As(err, &missing) && missing.ExitCode() == 3 {
				t.Skipf("%s", out)
			}
			require.NoError(t, err, "%s", out)
			t.Parallel()
			o := options(t)
			o.Inputs, o.Config = c.inputs, []byte(c.config)
			if c.inputs != nil { // those that ask the shop
				o.Imports = map[string]check.Import{"loyalty_points": {Answer: []byte("7")}}
			}
			v, err := check.Run(t.Context(), filepath.Join(fixture.Root(), strings.TrimSpace(string(out))), o)
			require.NoError(t, err)
			passes(t, v, c.want, c.skipped)
		})
	}
}

// Plug-ins that are written with the Rust SDK, and use what came with version 1.1, keep to the contract whatever the host does.
func TestRustFixturesPass(t *testing.T) {
	const fails, key = "status warning R10", "services warning R26" // functions that want a number; a key that is the function's input
	for _, c := range []struct {
		name, config string
		want         []string
	}{
		{"wants", "", nil},
		{"handover", "1", nil},
		{"words", "", []string{key}},
		{"streams", "", []string{fails, "instances warning R13"}}, // one gives the address of a piece
		{"room", "", []string{fails}},
		{"between", "", []string{fails, "status warning R12"}}, // one panics
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			o.Level, o.Config = 8, []byte(c.config)
			v, err := check.Run(t.Context(), fixture.Rust(t, "fixture-"+c.name), o)
			require.NoError(t, err)
			assert.True(t, v.Pass)
			assert.ElementsMatch(t, c.want, findings(v), "%+v", v.Results)
		})
	}
}

// What an author in Rust gets wrong is said in the same words as in C: a function that does nothing but panic is a warning, and a
// recursion without an end is none of the input's.
func TestRustFaults(t *testing.T) {
	o := options(t)
	o.Only = []string{"input-empty", "status"}
	v, err := check.Run(t.Context(), fixture.Rust(t, "fixture-broken"), o)
	require.NoError(t, err)
	found := map[string]check.Finding{}
	for _, r := range v.Results {
		for _, f := range r.Findings {
			assert.Empty(t, found[f.Function].Seen, "one finding for each")
			found[f.Function] = f
		}
	}
	require.Len(t, found, 3)
	for _, c := range []struct{ function, severity, rule, seen string }{
		{"index", check.Warning, "R12", "index has panicked with every input that was tried, but for 5 that it called invalid"},
		{"product", check.Warning, "R12", "product has panicked with 2 of 9 inputs that were tried, first with a text"},
		{"recursion", check.Error, "R7", "recursion with no input: the process died of "},
	} {
		f := found[c.function]
		assert.Equal(t, []string{c.severity, c.rule}, []string{f.Severity, f.Rule}, "%+v", f)
		assert.Contains(t, f.Seen, c.seen)
		if c.function != "recursion" || runtime.GOOS == "linux" {
			assert.NotContains(t, f.Mend, "in_len")
		}
	}
	if runtime.GOOS == "linux" { // elsewhere it is a fault at an address
		assert.Contains(t, found["recursion"].Seen, "the process died of a stack overflow")
		assert.Contains(t, found["recursion"].Mend, "Bound the recursion")
	}
	assert.Equal(t, map[string]string{"recursion": "it ended the process in case input-empty"}, v.Without)
}

// A process that has left the session is found as well. Not in TestFindings: beside other libraries it could be any of
// theirs.
func TestDaemon(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere such a process is not found")
	}
	o := options(t)
	o.Level = 2
	v, err := check.Run(t.Context(), fixture.C(t, "check_process_daemon"), o)
	require.NoError(t, err)
	assert.Equal(t, []string{"input-empty error R15"}, findings(v))
	assert.Empty(t, namesOfChildren(t))
}

// namesOfChildren are the processes that are children of this one.
func namesOfChildren(t *testing.T) (names []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	require.NotEmpty(t, stats)
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		name, rest, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == fmt.Sprint(os.Getpid()) {
			names = append(names, name)
		}
	}
	return names
}

// A check that is interrupted leaves nothing: neither the process of the case nor its folder.
func TestInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("TMP", os.Getenv("TMPDIR"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := options(t)
	o.Timeout = time.Hour
	var once sync.Once
	o.Done = func(r check.Result) {
		if r.Case == "start" { // the next is one that hangs
			once.Do(func() { time.AfterFunc(50*time.Millisecond, cancel) })
		}
	}
	_, err := check.Run(ctx, fixture.C(t, "check_hang"), o)
	require.ErrorIs(t, err, context.Canceled)
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	assert.Empty(t, left)
	if runtime.GOOS == "linux" {
		assert.Empty(t, namesOfChildren(t))
	}
}

// With Strict a warning is enough.
func TestStrict(t *testing.T) {
	for _, strict := range []bool{false, true} {
		o := options(t)
		o.Only, o.Strict = []string{"symbols"}, strict
		v, err := check.Run(t.Context(), fixture.C(t, "check_foreign_export"), o)
		require.NoError(t, err)
		assert.Equal(t, []string{"symbols warning R2"}, findings(v))
		assert.Equal(t, !strict, v.Pass)
	}
}

// The sandbox is the one that a host would give, and what it refuses is a finding.
func TestSandbox(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the layers are those of Linux")
	}
	library := fixture.C(t, "check_reads_file")
	for _, c := range []struct {
		policy sandbox.Policy
		want   []string
	}{
		{sandbox.Policy{BestEffort: true}, []string{"sandbox error R20"}},
		{sandbox.Policy{BestEffort: true, Read: []string{"/etc"}}, nil},
	} {
		o := options(t)
		o.Only, o.Sandbox = []string{"sandbox"}, &c.policy
		v, err := check.Run(t.Context(), library, o)
		require.NoError(t, err)
		require.NotEmpty(t, v.Results[0].Notes)
		if !strings.Contains(v.Results[0].Notes[0], "Landlock") {
			t.Skipf("the kernel has no Landlock: %s", v.Results[0].Notes[0])
		}
		assert.Equal(t, c.want, findings(v), "%+v", v.Results)
	}
	o := options(t)
	o.Level = 1
	v, err := check.Run(t.Context(), library, o)
	require.NoError(t, err)
	for _, r := range v.Results {
		assert.NotEqual(t, "sandbox", r.Case, "nobody has asked for it")
	}
}

// A function that panics says nothing about the others of its library: they are compared, and no note blames them.
func TestPanicBesideOthers(t *testing.T) {
	o := options(t)
	o.Only = []string{"batch", "instances", "threads"}
	v, err := check.Run(t.Context(), fixture.C(t, "panic_beside"), o)
	require.NoError(t, err)
	assert.True(t, v.Pass)
	assert.Empty(t, told(v))
	var notes []string
	for _, r := range v.Results {
		assert.Equal(t, check.Passed, r.Outcome, r.Case)
		notes = append(notes, r.Notes...)
	}
	assert.Equal(t, []string{"boom was not compared: it panics",
		"boom was not called at the same time with 1 of 4 inputs: it panics with them"}, notes)
}

// Host functions answer what they are said to.
func TestImports(t *testing.T) {
	o := options(t)
	o.Only = []string{"status"}
	o.Imports = map[string]check.Import{"upper": {Answer: []byte("\xff")}, "again": {Command: "fails"}}
	v, err := check.Run(t.Context(), fixture.C(t, "check_import_status"), o)
	require.NoError(t, err)
	assert.Equal(t, []string{"status error R10"}, findings(v))
	assert.Contains(t, v.Results[0].Findings[0].Seen, "the status -7, with no input")
}

func TestCases(t *testing.T) {
	known := map[string]bool{}
	for _, c := range check.Cases(10) {
		assert.Regexp(t, `^[a-z0-9]+(-[a-z0-9]+)*$`, c.Name)
		assert.False(t, known[c.Name], c.Name)
		known[c.Name] = true
		assert.True(t, c.Level >= 1 && c.Level <= 10, c.Name)
		assert.NotEmpty(t, c.Rules, c.Name)
		assert.Regexp(t, `^[A-Z0-9f].*\.$`, c.Does, c.Name)
	}
	for level := 1; level < 10; level++ {
		assert.Less(t, len(check.Cases(level)), len(check.Cases(level+1)), "each level has cases of its own: %d", level+1)
	}
}

// The same seed gives the same random inputs, wherever the case runs.
func TestSeed(t *testing.T) {
	seen := map[string]bool{}
	for _, seed := range []uint64{7, 7, 8} {
		o := options(t)
		o.Seed, o.Only = seed, []string{"random-many"}
		v, err := check.Run(t.Context(), fixture.C(t, "check_random_many"), o)
		require.NoError(t, err)
		require.Len(t, v.Results, 1)
		require.Len(t, v.Results[0].Findings, 1)
		seen[v.Results[0].Findings[0].Seen] = true
		assert.Contains(t, v.Results[0].Findings[0].Seen, fmt.Sprintf("--seed %d", seed))
	}
	assert.Len(t, seen, 2)
}

// TestUnsafe: all of the kit's unsafe code is in one file, as that says.
func TestUnsafe(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Equal(t, name == "native.go", strings.Contains(string(text), "\t\"unsafe\"\n"), name)
	}
}

// A library that does not open does not pass, whichever cases were chosen.
func TestDoesNotOpen(t *testing.T) {
	for _, name := range []string{"undefined_symbol", "no_manifest", "check_constructor", "check_start_crashes",
		"start_fails"} {
		o := options(t)
		o.Only = []string{"room-sizes", "leaks"}
		v, err := check.Run(t.Context(), fixture.C(t, name), o)
		require.NoError(t, err, name)
		assert.False(t, v.Pass, name)
		assert.Equal(t, check.Skipped, v.Results[1].Outcome, name)
	}
}

func TestRunErrors(t *testing.T) {
	_, err := check.Run(t.Context(), filepath.Join(t.TempDir(), "missing.so"), options(t))
	assert.ErrorIs(t, err, inspect.ErrRead)
	text := filepath.Join(t.TempDir(), "text.so")
	require.NoError(t, os.WriteFile(text, []byte("not a library"), 0o600))
	_, err = check.Run(t.Context(), text, options(t))
	assert.ErrorIs(t, err, inspect.ErrNotLibrary)
	o := options(t)
	o.Only = []string{"room-size"}
	_, err = check.Run(t.Context(), fixture.C(t, "echo"), o)
	var unknown *check.UnknownCaseError
	require.ErrorAs(t, err, &unknown)
	assert.Equal(t, "room-size", unknown.Name)
	o = options(t)
	o.Worker = []string{filepath.Join(t.TempDir(), "missing")}
	_, err = check.Run(t.Context(), fixture.C(t, "echo"), o)
	assert.ErrorContains(t, err, "a worker cannot be started")
}

// A function that is broken is left out of the cases after the one that found it, and the verdict says so.
func TestLeftOut(t *testing.T) {
	v, err := check.Run(t.Context(), fixture.C(t, "check_input_empty"), options(t))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"take": "it ended the process in case input-empty"}, v.Without)
	for _, r := range v.Results {
		switch r.Case {
		case "input-empty":
			assert.Equal(t, check.Failed, r.Outcome)
			assert.Empty(t, r.Reason)
		case "room-sizes", "threads", "batch":
			assert.Equal(t, check.Skipped, r.Outcome, "nothing was tried: %s", r.Case)
			assert.Contains(t, r.Reason, "every function is left out")
		}
	}
	v, err = check.Run(t.Context(), fixture.C(t, "host"), options(t))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"wait": "it runs until it is cancelled"}, v.Without)
}

// The time that a host function takes is not that of the function that calls it.
func TestHostTakesLong(t *testing.T) {
	o := options(t)
	o.Only = []string{"cancel-set"}
	o.Imports = map[string]check.Import{"host": {Command: "takes long"}}
	v, err := check.Run(t.Context(), fixture.C(t, "rounds"), o)
	require.NoError(t, err)
	assert.Empty(t, told(v))
	assert.Empty(t, v.Without)
}

// What does not return in time has not ended the process, and nobody says so.
func TestNotInTime(t *testing.T) {
	o := options(t)
	o.Timeout = time.Second
	o.Only = []string{"input-empty", "input-byte"}
	v, err := check.Run(t.Context(), fixture.C(t, "check_hang"), o)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"work": "it did not return in 1s in case input-empty"}, v.Without)
	o.Only = []string{"open", "input-byte"}
	v, err = check.Run(t.Context(), fixture.C(t, "fault_constructor_hang"), o)
	require.NoError(t, err)
	assert.Equal(t, []string{"open error R4"}, findings(v))
	assert.Equal(t, "opening the library did not return in 1s in case open", v.Results[1].Reason)
}

// A function that takes its time is not one that does not return: what was too much is said, and how to give it more time.
func TestSlowIsNoHang(t *testing.T) {
	o := options(t)
	o.Timeout = 3 * time.Second
	o.Only = []string{"room-guard", "input-empty"}
	v, err := check.Run(t.Context(), fixture.C(t, "check_slow"), o)
	require.NoError(t, err)
	require.Equal(t, []string{"room-guard warning R17"}, findings(v), "%+v", v.Results)
	assert.True(t, v.Pass)
	f := v.Results[slices.IndexFunc(v.Results, func(r check.Result) bool { return r.Case == "room-guard" })].Findings[0]
	assert.Regexp(t, `^work with .*, in a room of .*: the case was not done after 3s and \d+ calls?, of which the longest took \d+(\.\d+)?m?s$`, f.Seen)
	assert.Contains(t, f.Expected, "all calls of a case within 3s, the limit of --timeout")
	assert.Equal(t, "Give each case more time, such as --timeout 18s", f.Mend)
	assert.Regexp(t, `^it took longer than 3s for \d+ calls?, of which the longest took .* in case room-guard$`, v.Without["work"])

	o.Timeout = time.Minute // as it says
	v, err = check.Run(t.Context(), fixture.C(t, "check_slow"), o)
	require.NoError(t, err)
	assert.Empty(t, told(v))
}

// Why a library cannot be opened, and what to do, is said in the words that a host gets to read.
func TestReason(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere the linker refuses what is missing")
	}
	fixture.NotMusl(t, "the dynamic linker has other words")
	cc := fixture.Tool(t, "cc", "apt-get install gcc")
	dir := t.TempDir()
	compile := func(to, source string, args ...string) string {
		from, to := filepath.Join(dir, to+".c"), filepath.Join(dir, to)
		require.NoError(t, os.WriteFile(from, []byte(source), 0o600))
		args = append([]string{"-shared", "-fPIC", "-I", filepath.Join(fixture.Root(), "include"), "-o", to, from}, args...)
		text, err := exec.Command(cc, args...).CombinedOutput()
		require.NoError(t, err, "%s", text)
		return to
	}
	needed := compile("libferrulemissing.so", "int needed(void) { return 0; }")
	missing := compile("p.so", `#include "ferrule.h"
		FERRULE_PLUGIN(FERRULE_NAME("p") FERRULE_VERSION("1"));
		extern int needed(void);
		FERRULE_FN(f) { (void)call; return needed(); }`, "-L"+dir, "-lferrulemissing")
	require.NoError(t, os.Remove(needed))
	for path, mend := range map[string]string{
		missing: "Install libferrulemissing.so", fixture.C(t, "undefined_symbol"): "Link the library that defines ferrules_nobody_defines",
	} {
		_, err := loader.Open(path)
		why, ok := errors.AsType[*loader.OpenError](err)
		require.True(t, ok, "%v", err)
		o := options(t)
		o.Only = []string{"open"}
		v, err := check.Run(t.Context(), path, o)
		require.NoError(t, err)
		require.Equal(t, []string{"open error R4"}, findings(v))
		f := v.Results[0].Findings[0]
		assert.Contains(t, f.Seen, why.Found)
		assert.Equal(t, []string{why.Expected, why.Remedy}, []string{f.Expected, f.Mend})
		assert.Contains(t, f.Mend, mend)
	}
}

// A function may need an input of a certain form, and the library a configuration.
func TestInputs(t *testing.T) {
	o := options(t)
	o.Only = []string{"status"}
	o.Inputs = map[string][]byte{"status": []byte("-3")}
	v, err := check.Run(t.Context(), fixture.C(t, "echo"), o)
	require.NoError(t, err)
	require.Equal(t, []string{"status error R10", "status warning R10"}, findings(v), "others of its functions always fail")
	i := slices.IndexFunc(v.Results[0].Findings, func(f check.Finding) bool { return f.Severity == check.Error })
	assert.Equal(t, "the status -3, with the input of --in", v.Results[0].Findings[i].Seen)

	o.Inputs = map[string][]byte{"before_echo": nil}
	_, err = check.Run(t.Context(), fixture.C(t, "echo"), o)
	var unknown *check.UnknownFunctionError
	require.ErrorAs(t, err, &unknown)
	assert.Contains(t, unknown.Functions, "hook before_echo")

	o = options(t)
	o.Only = []string{"start"}
	o.Config = []byte("this is longer than what the fixture takes")
	v, err = check.Run(t.Context(), fixture.C(t, "state"), o)
	require.NoError(t, err)
	require.Equal(t, []string{"start error R15"}, findings(v))
	assert.Contains(t, v.Results[0].Findings[0].Seen, "the configuration is long")
}

// A crash is blamed on the input and, where there is one, on the state.
func TestStateIsBlamed(t *testing.T) {
	for name, state := range map[string]bool{"check_state_on_stack": true, "check_input_empty": false} {
		o := options(t)
		o.Only = []string{"input-empty"}
		v, err := check.Run(t.Context(), fixture.C(t, name), o)
		require.NoError(t, err)
		require.Len(t, v.Results[0].Findings, 1)
		assert.Equal(t, state, strings.Contains(v.Results[0].Findings[0].Mend, "call->state points to must outlive ferrule_start"))
	}
}

// What helps is said: a constructor's change is not undone before a call ends.
func TestFastMathIsALinkersFlag(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the case is skipped on this system")
	}
	for name, mend := range map[string]string{"check_fast_math": "Link without -ffast-math", "check_floating_point": "Restore with fesetenv"} {
		o := options(t)
		o.Only = []string{"floating-point"}
		v, err := check.Run(t.Context(), fixture.C(t, name), o)
		require.NoError(t, err)
		for _, r := range v.Results {
			for _, f := range r.Findings {
				assert.Contains(t, f.Mend, mend)
			}
		}
		assert.Equal(t, []string{"floating-point error R20"}, findings(v))
	}
}
