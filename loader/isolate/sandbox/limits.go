//go:build unix

package sandbox

// defaultFiles is what 0 means as Policy.Files.
const defaultFiles = 64
