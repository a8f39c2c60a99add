//go:build !race

package loader_test

var workerEnv []string
