//go:build !linux

package native

func noexec(string) bool   { return false }
func mappable(string) bool { return false }
func procMounted() bool    { return true }
func allMapped() bool      { return false }
