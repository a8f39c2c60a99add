//go:build race

package loader_test

const raceDetector = true

// A race in a worker ends it, so that its calls fail. Without the other word a process waits for a second at its end.
var workerEnv = []string{"GORACE=halt_on_error=1 atexit_sleep_ms=0"}
