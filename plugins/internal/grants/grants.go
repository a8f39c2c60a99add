// Package grants says how an entry of a config.yaml is to be written, so that its plug-in has what it asks for: packages plugins and install say it in one way.
package grants

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/config"
)

// Ask is one thing that a plug-in asks for: install.Ask has the words of What.
type Ask struct{ What, Item string }

// Expected is what a manifest says that asks for what a grant can cover.
const Expected = "absolute paths, ports from 1 to 65535, to listen on also 0, and a number of bytes (rule R32)"

// Kinds are those of the permits that a manifest may ask for. Another key of permit. is none of this version's, and nothing is asked by it.
var Kinds = []string{"read", "write", "connect", "listen", "memory"}

// Senseless reports whether no grant covers what a manifest asks for, on this system.
func (a Ask) Senseless() bool { return a.senseless(filepath.IsAbs) }

// SenselessAnywhere reports whether no grant covers it on any system: the plug-in may be another one's.
func (a Ask) SenselessAnywhere() bool { return a.senseless(absoluteSomewhere.MatchString) }

var absoluteSomewhere = regexp.MustCompile(`^(?:[/\\]|[A-Za-z]:[/\\])`)

func (a Ask) senseless(absolute func(path string) bool) bool {
	switch a.What {
	case "read", "write":
		return !absolute(a.Item)
	case "connect", "listen":
		port, err := strconv.ParseUint(a.Item, 10, 16)
		return err != nil || port == 0 && a.What == "connect" // 0 is a port that the system chooses
	case "memory":
		n, err := strconv.ParseInt(a.Item, 10, 64)
		return err != nil || n < 0
	}
	return false
}

// Said is an ask as its manifest has it: permit.connect="https".
func (a Ask) Said() string { return fmt.Sprintf("permit.%s=%q", a.What, a.Item) }

// written is what is asked for as config.yaml takes it: a number without zeros in front.
func (a Ask) written() string {
	if n, err := strconv.ParseUint(a.Item, 10, 63); err == nil && slices.Contains([]string{"connect", "listen", "memory"}, a.What) {
		return strconv.FormatUint(n, 10)
	}
	return a.Item
}

// In says what to write in a file, for what the plug-in of a name asks for and lacks. now is its entry there, and wanted what somebody wants that to be; either may be nil. What
// they say already is in the text, since whoever copies a key replaces the one that stands there. It is a sentence without a capital letter and a full stop.
func In(file, name string, now, wanted *config.Plugin, lacks []Ask) string {
	whole := now == nil || now.Bare()
	if wanted == nil {
		wanted = now
	}
	if wanted == nil {
		wanted = &config.Plugin{}
	}
	keys := keysOf(now, wanted, lacks)
	if !whole {
		return fmt.Sprintf("write %s in its entry, line %d of %s", strings.Join(keys, " and "), now.Line, file)
	}
	first := []string{"name: " + config.QuoteText(name)}
	if wanted.Version != "" {
		first = append(first, "version: '"+wanted.Version+"'") // in quotes, as config.File.Add writes it
	}
	entry := "{" + strings.Join(append(first, keys...), ", ") + "}"
	if now == nil {
		return "add to plugins in " + file + ": " + entry
	}
	return fmt.Sprintf("write its entry, line %d of %s, as %s", now.Line, file, entry)
}

// keysOf are the keys that differ from those of now.
func keysOf(now, wanted *config.Plugin, lacks []Ask) (keys []string) {
	lacking := func(what ...string) (items []string) {
		for _, ask := range lacks {
			if item := ask.written(); slices.Contains(what, ask.What) && !slices.Contains(items, item) {
				items = append(items, item)
			}
		}
		return items
	}
	functions, has := lacking("function", "service"), 0
	if now != nil {
		has = len(now.Grant)
	}
	if functions != nil || len(wanted.Grant) > has {
		keys = append(keys, "grant: "+config.QuoteList(slices.Concat(wanted.Grant, functions)))
	}
	memory := lacking("memory")
	own := wanted.Isolate != nil && wanted.Isolate.Memory > 0 // which comes first
	permit, more := []string{}, false
	for _, kind := range []struct {
		what string
		have []string
	}{{"read", texts(wanted.Permit.Read)}, {"write", texts(wanted.Permit.Write)}, {"connect", ports(wanted.Permit.Connect)}, {"listen", ports(wanted.Permit.Listen)}} {
		asked := lacking(kind.what)
		if kind.what == "read" || kind.what == "write" {
			asked = texts(asked)
		} else {
			asked = quoted(asked)
		}
		more = more || asked != nil
		if all := append(kind.have, asked...); all != nil {
			permit = append(permit, kind.what+": ["+strings.Join(all, ", ")+"]")
		}
	}
	switch {
	case memory != nil && !own:
		permit, more = append(permit, "memory: "+config.Quote(memory[0])), true
	case wanted.Permit.Memory > 0:
		permit = append(permit, "memory: "+size(wanted.Permit.Memory))
	}
	if more {
		keys = append(keys, "permit: {"+strings.Join(permit, ", ")+"}")
	}
	if memory != nil && own {
		keys = append(keys, "isolate: {"+strings.Join(isolation(wanted.Isolate, config.Quote(memory[0])), ", ")+"}")
	}
	return keys
}

// isolation are the keys of isolate, with another memory.
func isolation(i *config.Isolate, memory string) (keys []string) {
	add := func(key, value string, said bool) {
		if said {
			keys = append(keys, key+": "+value)
		}
	}
	add("group", config.QuoteText(i.Group), i.Group != "")
	add("memory", memory, true)
	add("cpu", config.QuoteText(i.CPU.String()), i.CPU > 0)
	add("processes", strconv.Itoa(i.Processes), i.Processes > 0)
	add("files", strconv.Itoa(i.Files), i.Files > 0)
	add("grace", config.QuoteText(i.Grace.String()), i.Grace > 0)
	add("stop", config.QuoteText(i.Stop.String()), i.Stop > 0)
	add("sandbox", string(i.Sandbox), i.Sandbox != config.SandboxFull && i.Sandbox != "")
	return keys
}

// size is a number of bytes as people write it, where one of the units of config.yaml has it whole.
func size(n int64) string {
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if of := int64(1) << (40 - 10*i); n%of == 0 {
			return strconv.FormatInt(n/of, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

func texts(all []string) (written []string) {
	for _, s := range all {
		written = append(written, config.QuoteText(s))
	}
	return written
}

func quoted(all []string) (written []string) {
	for _, s := range all {
		written = append(written, config.Quote(s))
	}
	return written
}

func ports(numbers []int) (written []string) {
	for _, n := range numbers {
		written = append(written, strconv.Itoa(n))
	}
	return written
}
