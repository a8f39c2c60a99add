//go:build !linux

package sidecar

func thread() int { return 0 }
