package deps

import (
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/cpu"
)

// expand replaces the tokens that the dynamic linker knows in a search path's entry or in the name of a needed library. A
// token may stand for one of several words, in the order in which they are to be tried. An empty entry is the working
// directory.
func expand(text, origin string) []string {
	all := []string{""}
	add := func(words ...string) {
		next := make([]string, 0, len(all)*len(words))
		for _, word := range words {
			for _, before := range all {
				next = append(next, before+word)
			}
		}
		all = next
	}
	for text != "" {
		at := strings.IndexByte(text, '$')
		if at < 0 {
			add(text)
			break
		}
		add(text[:at])
		text = text[at+1:]
		name, rest := token(text)
		switch name {
		case "ORIGIN":
			add(origin)
		case "LIB":
			add(libFolder())
		case "PLATFORM":
			if len(all) > 1 { // one after the other would multiply
				return nil
			}
			add(platforms()...)
		default:
			add("$")
			rest = text
		}
		text = rest
	}
	return all
}

// token returns the name of the token that text begins with, behind its $, and what follows it; "" is none.
func token(text string) (name, rest string) {
	if strings.HasPrefix(text, "{") {
		if end := strings.IndexByte(text, '}'); end > 0 {
			return text[1:end], text[end+1:]
		}
		return "", text
	}
	end := strings.IndexFunc(text, func(c rune) bool {
		return !(c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z')
	})
	if end < 0 {
		end = len(text)
	}
	return text[:end], text[end:]
}

// interpreters is where distributions have the dynamic linker, or a link to it.
var interpreters = map[string]string{"386": "/lib/ld-linux.so.2", "amd64": "/lib64/ld-linux-x86-64.so.2",
	"arm": "/lib/ld-linux-armhf.so.3", "arm64": "/lib/ld-linux-aarch64.so.1", "loong64": "/lib64/ld-linux-loongarch-lp64d.so.1",
	"ppc64le": "/lib64/ld64.so.2", "riscv64": "/lib/ld-linux-riscv64-lp64d.so.1", "s390x": "/lib/ld64.so.1"}

// libFolder returns what $LIB stands for: lib, lib64 or a folder beneath, whatever the system's libraries are in.
var libFolder = sync.OnceValue(func() string {
	real, err := filepath.EvalSymlinks(interpreters[runtime.GOARCH])
	if err != nil {
		return "lib"
	}
	return strings.TrimPrefix(strings.TrimPrefix(filepath.Dir(real), "/usr"), "/")
})

// platforms returns what $PLATFORM may stand for. glibc has a word of its own for some processors of Intel's, and the
// kernel's word for the others.
func platforms() []string {
	switch runtime.GOARCH {
	case "amd64":
		if cpu.X86.HasAVX2 && cpu.X86.HasBMI1 && cpu.X86.HasBMI2 && cpu.X86.HasFMA && cpu.X86.HasPOPCNT {
			return []string{"haswell", "x86_64"}
		}
		return []string{"x86_64"}
	case "arm64":
		return []string{"aarch64"}
	case "386":
		return []string{"i686"}
	}
	return nil
}

// subfolders returns the folders beneath each folder of a search path in which glibc looks before it looks there: for
// libraries that need a newer processor.
var subfolders = sync.OnceValue(func() (list []string) {
	x := &cpu.X86
	if runtime.GOARCH == "amd64" && x.HasSSE3 && x.HasSSSE3 && x.HasSSE41 && x.HasSSE42 && x.HasPOPCNT && x.HasCX16 {
		list = []string{"glibc-hwcaps/x86-64-v2"}
		if x.HasAVX && x.HasAVX2 && x.HasBMI1 && x.HasBMI2 && x.HasFMA {
			list = append([]string{"glibc-hwcaps/x86-64-v3"}, list...)
			if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512CD && x.HasAVX512DQ && x.HasAVX512VL {
				list = append([]string{"glibc-hwcaps/x86-64-v4"}, list...)
			}
		}
	}
	return append(list, "")
})
