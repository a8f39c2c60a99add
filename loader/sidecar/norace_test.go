//go:build !race

package sidecar_test

const raceDetector = false
