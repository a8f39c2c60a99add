package registry

import "strings"

// What all of distribution may take, in bytes. A source may take less.
const (
	MaxName      = 128     // of a plug-in's name
	MaxSignature = 4 << 10 // of the text of a signature

	maxPlatform = 32 // of either of its parts
)

// What ValidName, ValidIndex and ValidPlatform ask for, in the words of errors.
const (
	NameRule     = "a plug-in's name: 1 to 128 letters, digits, _, - and ., not beginning with . or -, not ending with ."
	IndexRule    = "a registry's name: 1 to 128 letters, digits, _, -, . and /, such as registry.example/acme; no part begins with . or -, or ends with ."
	PlatformRule = "any, or an operating system and an architecture as Go names them, such as linux/amd64"
)

// ValidName reports whether a plug-in may be published under a name: 1 to MaxName letters, digits, _, - and ., as in a manifest. It neither begins with a
// dot or a hyphen nor ends with a dot, so that it is safe as the name of a file, on any system, and as a command's argument.
func ValidName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !(c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.') {
			return false
		}
	}
	return name != "" && len(name) <= MaxName && name[0] != '.' && name[0] != '-' && name[len(name)-1] != '.'
}

// ValidIndex reports whether the index of a registry may have a name: 1 to MaxName bytes, of one part or several with a / between them, each as ValidName
// takes it. It looks like an address, and is none: it stays where the registry moves, and a mirror has the same.
func ValidIndex(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if !ValidName(part) {
			return false
		}
	}
	return len(name) <= MaxName
}

// ValidPlatform reports whether a release may have a file under a key: AnyPlatform, or a GOOS and a GOARCH with a / between them, each of 1 to 32 small letters,
// digits and, in the second, _. Whether there is such a platform is not asked: there may be one that this program does not know.
func ValidPlatform(platform string) bool {
	const small = "abcdefghijklmnopqrstuvwxyz0123456789"
	system, arch, ok := strings.Cut(platform, "/")
	return platform == AnyPlatform || ok && system != "" && arch != "" && len(system) <= maxPlatform && len(arch) <= maxPlatform &&
		strings.Trim(system, small) == "" && strings.Trim(arch, small+"_") == ""
}
