//go:build race

package check

// raceDetector: Go's heap has a shadow, which lies elsewhere.
const raceDetector = true
