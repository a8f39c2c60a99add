//go:build !linux

package native

func mappable(string) (may, known bool) { return false, true }
func limited() bool                     { return false }
func procMounted() bool                 { return true }
func allMapped() bool                   { return false }
