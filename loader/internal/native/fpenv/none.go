//go:build !amd64 && !arm64

package fpenv

func get(*Control) {}
func set(*Control) {}
