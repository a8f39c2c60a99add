//go:build race

package versions_test

const raceDetector = true
