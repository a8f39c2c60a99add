//go:build !linux

package confine

// Variable is the environment variable that makes a process a launcher, on Linux.
const Variable = "FERRULE_LAUNCHER"
