package wire

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// layers are those that a worker can make itself, by their names.
var layers = []string{"own descriptors", "no-new-privs", "seccomp", "wall time", "no core dumps",
	"rlimit memory", "rlimit cpu", "rlimit processes", "rlimit file size", "rlimit files", "rlimit signals",
	"job: processes", "job: memory", "job: cpu"}

// LayerLibrary begins the name of the layer that a library's file is, which a sandbox lets the worker read; its path follows.
const LayerLibrary = "library "

// Layers writes the names of layers as JSON.
func Layers(names []string) []byte {
	list := make([][]byte, len(names)) // a path need not be UTF-8
	for i, name := range names {
		list[i] = []byte(name)
	}
	return mustJSON(list)
}

// ParseLayers reads what Layers wrote. libraries are those that the host has granted.
func ParseLayers(data []byte, libraries []Library) ([]string, error) {
	var list [][]byte
	if err := parse(data, &list); err != nil {
		return nil, err
	}
	var names []string
	for _, name := range list {
		if !knownLayer(string(name), libraries) || slices.Contains(names, string(name)) {
			return nil, fmt.Errorf("the layer %.100q", name)
		}
		names = append(names, string(name))
	}
	return names, nil
}

func knownLayer(name string, libraries []Library) bool {
	if path, ok := strings.CutPrefix(name, LayerLibrary); ok {
		return slices.ContainsFunc(libraries, func(l Library) bool { return bytes.Equal(l.Path, []byte(path)) })
	}
	if rest, ok := strings.CutPrefix(name, "landlock v"); ok {
		version, what, _ := strings.Cut(rest, ": ")
		_, err := strconv.ParseUint(version, 10, 8)
		return err == nil && slices.Contains([]string{"files", "tcp", "signals"}, what)
	}
	return slices.Contains(layers, name)
}
