package check

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// addressSanitizer is the runtime that a library built with -fsanitize=address needs in the process before anything else: a name or a path
// for LD_PRELOAD. It is "" for another library, and where the runtime is not found.
func addressSanitizer(path string, lib *inspect.Library) string {
	if lib.Format != inspect.ELF || lib.OS != "linux" {
		return ""
	}
	if i := slices.IndexFunc(lib.Needed, func(name string) bool {
		return strings.HasPrefix(name, "libasan.so") || strings.HasPrefix(name, "libclang_rt.asan")
	}); i >= 0 {
		if name := lib.Needed[i]; strings.HasPrefix(name, "libasan.so") {
			return name // gcc's is where the system looks
		}
		return clangs()
	}
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	wanted, _ := f.ImportedSymbols()
	if slices.ContainsFunc(wanted, func(s elf.ImportedSymbol) bool { return s.Name == "__asan_init" }) {
		return clangs() // which links a program to it, and no library
	}
	return ""
}

// clangs is the path of the runtime that clang has, or "".
func clangs() string {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	out, err := exec.Command("clang", "-print-file-name=libclang_rt.asan-"+arch+".so").Output()
	if path := strings.TrimSpace(string(out)); err == nil && filepath.IsAbs(path) {
		return path
	}
	return ""
}

// preloaded is the environment of a worker with that runtime. What is said there comes before what the user's own variables say. Faults
// are not the runtime's: the kit records them, and Go reports them. No leaks are looked for at the end, when Go's memory is still there.
func preloaded(runtime string) []string {
	return []string{"LD_PRELOAD=" + strings.TrimSpace(runtime+" "+os.Getenv("LD_PRELOAD")),
		"ASAN_OPTIONS=" + strings.TrimSuffix("detect_leaks=0:detect_odr_violation=0:use_sigaltstack=0:handle_segv=0:handle_sigbus=0:"+
			"handle_sigfpe=0:handle_sigill=0:handle_abort=0:"+os.Getenv("ASAN_OPTIONS"), ":")}
}

var (
	sanitizerError   = regexp.MustCompile(`(?m)^==\d+== ?(ERROR: \w+Sanitizer: .*|\w*San runtime .*)$`)
	sanitizerSummary = regexp.MustCompile(`(?m)^SUMMARY: (\w+Sanitizer: .*)$`)
	sanitizerFrame   = regexp.MustCompile(`(?m)^ +#(\d+) 0x[0-9a-f]+ in (.*)$`)
	undefined        = regexp.MustCompile(`(?m)^(\S+:\d+:\d+: runtime error: .*)\n?`) // of UndefinedBehaviorSanitizer, which goes on
)

// reported is what a sanitizer says of why it has ended the process: the summary has file and line. "" where none has.
func reported(stderr string) string {
	if m := sanitizerSummary.FindStringSubmatch(stderr); m != nil {
		return m[1]
	}
	if m := sanitizerError.FindStringSubmatch(stderr); m != nil {
		return strings.TrimPrefix(m[1], "ERROR: ")
	}
	return ""
}

// reportedFrames are the frames of a sanitizer's report: those of where it was, up to the worker's own.
func reportedFrames(stderr, worker string) (frames []string) {
	const most = 12
	for n, m := range sanitizerFrame.FindAllStringSubmatch(stderr, most) {
		if m[1] != strconv.Itoa(n) || strings.Contains(m[2], filepath.Base(worker)) || strings.HasPrefix(m[2], "runtime.") {
			break // another stack, such as that on which the memory was freed
		}
		frames = append(frames, m[2])
	}
	return frames
}

// undefinedBehaviour reports what UndefinedBehaviorSanitizer has said, each place once in all cases.
func (p *parent) undefinedBehaviour(r *Result, stderr string) {
	for _, m := range undefined.FindAllStringSubmatch(stderr, -1) {
		place, _, _ := strings.Cut(m[1], " ")
		if p.undefined[place] {
			continue
		}
		p.undefined[place] = true
		r.add(Finding{Rule: r.Rules[0], Severity: Error, Seen: m[1], Expected: "no undefined behaviour, which " + place + " has",
			Mend: "See that line: what the sanitizer reports is an error, also where the result looks right"})
	}
}
