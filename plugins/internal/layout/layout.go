// Package layout is how releases lie in a folder, whoever serves it: package release reads it by URL, package files as a folder and as a bundle. There is
// one Source for all; what differs is a Fetcher.
//
//	TAG/PLUGIN-OS-ARCH.EXT           the file for a platform
//	TAG/PLUGIN-any.EXT               the one file for all of them
//	TAG/PLUGIN-OS-ARCH.EXT.minisig   its signature
//	TAG/PLUGIN.json                  the index: this release, and those before it
//	latest/PLUGIN.json               the index: all releases
//
// What stands in an address comes from elsewhere, so it is checked where it gets in: a name, a version, a tag and a platform have no character that means
// anything in a path or in a URL, and none of their parts is dots alone or a hidden file's.
package layout

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// What a source may send, in bytes.
const (
	MaxFile  = 4 << 30 // a file whose size nobody says
	MaxIndex = 8 << 20
)

// Latest is the tag that stands for the newest release.
const Latest = "latest"

// segment is a part of a path. With a dot before it a file is hidden, or Ferrule's own, such as .lock; Windows drops a dot behind it.
const segment = `[A-Za-z0-9_+@~-](?:[A-Za-z0-9_+@~.-]*[A-Za-z0-9_+@~-])?`

var (
	versionRule = regexp.MustCompile(`^[A-Za-z0-9_+.-]*[A-Za-z0-9_+-][A-Za-z0-9_+.-]*$`)
	tagRule     = regexp.MustCompile(`^` + segment + `(?:/` + segment + `)*$`)
	reserved    = regexp.MustCompile(`(?i)(?:^|/)(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:[./]|$)`) // Windows has devices there, in each folder
)

// CheckPath returns an error where a text is no path of a file or folder that a release may have, on any system.
func CheckPath(path string) error {
	if len(path) > 700 || !tagRule.MatchString(path) || reserved.MatchString(path) {
		return malformed("path", path, "letters, digits, ., -, +, _, ~ or @, parts with a / between them, none with a dot before or behind it, none that Windows reserves")
	}
	return nil
}

// malformed is a text that cannot be what it is to be.
func malformed(what, found, expected string) *registry.Error {
	return &registry.Error{Kind: registry.ErrMalformed, Found: fmt.Sprintf("the %s %s", what, Short(found)), Expected: expected}
}

// CheckName returns an error where a text is no plug-in's name.
func CheckName(name string) error {
	if !registry.ValidName(name) {
		return malformed("name", name, registry.NameRule)
	}
	return nil
}

// CheckVersion returns an error where a text is no version that a release can have.
func CheckVersion(version string) error {
	if len(version) > 128 || !versionRule.MatchString(version) {
		return malformed("version", version, "1 to 128 letters, digits, ., -, + or _, not dots alone")
	}
	return nil
}

// CheckTag returns an error where a text is no tag. A tag may have several parts with a / between them.
func CheckTag(tag string) error {
	if len(tag) > 200 || CheckPath(tag) != nil {
		return malformed("tag", tag, "1 to 200 letters, digits, ., -, +, _, ~ or @, parts with a / between them, none with a dot before or behind it, none that Windows reserves")
	}
	return nil
}

// CheckPlatform returns an error where a text is no platform.
func CheckPlatform(platform string) error {
	if !registry.ValidPlatform(platform) {
		return malformed("platform", platform, registry.PlatformRule)
	}
	return nil
}

// checkURL returns an error where a text is no path of a file in its release's folder, or below it.
func checkURL(address string) error {
	if len(address) > 400 || CheckPath(address) != nil {
		return malformed("url", address, "the name of a file in the release's folder: no address, nothing above it")
	}
	return nil
}

// Short quotes a text, cut to what a line bears.
func Short(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return fmt.Sprintf("%q", s)
}

// Platforms are those that are asked for where no index says which there are.
var Platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

// ext is what the files of a kind end with on a system, without the dot; "" is nothing.
func ext(kind registry.Kind, system string) string {
	switch {
	case kind == registry.Wasm:
		return "wasm"
	case kind == registry.JavaScript:
		return "js"
	case kind == registry.Python:
		return "py"
	case kind == registry.Script:
		return ""
	case kind == registry.Program && system == "windows":
		return "exe"
	case kind == registry.Program:
		return ""
	case system == "windows":
		return "dll"
	case system == "darwin" || system == "ios":
		return "dylib"
	}
	return "so"
}

// FileName is the name that a plug-in's file has where neither a template nor an index says another.
func FileName(plugin string, kind registry.Kind, platform string) string {
	system, _, _ := strings.Cut(platform, "/")
	name := plugin + "-" + strings.ReplaceAll(platform, "/", "-")
	if e := ext(kind, system); e != "" {
		name += "." + e
	}
	return name
}

// IndexName is the name of a plug-in's index.
func IndexName(plugin string) string { return plugin + ".json" }

// Comment is what the trusted comment of a signature's text says: ferrule NAME VERSION PLATFORM. It is believed by nobody before the signature is verified.
func Comment(signature []byte) (name, version, platform string, ok bool) {
	for line := range strings.Lines(string(signature)) {
		if words, is := strings.CutPrefix(line, "trusted comment: "); is {
			w := strings.Fields(words)
			if len(w) != 4 || w[0] != "ferrule" || CheckName(w[1]) != nil || CheckVersion(w[2]) != nil || CheckPlatform(w[3]) != nil {
				return "", "", "", false
			}
			return w[1], w[2], w[3], true
		}
	}
	return "", "", "", false
}
