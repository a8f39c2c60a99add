//go:build unix

package sandbox

// defaultFiles is what 0 means as Policy.Files.
const defaultFiles = 64

func (r *report) has(layer string) { r.layers = append(r.layers, layer) }
