// Package count writes numbers of things for people: 1 byte, 2 bytes.
package count

import (
	"fmt"
	"strings"
)

// Of returns n of a thing, in the singular or the plural.
func Of[N ~int | ~int64 | ~uint16 | ~uint32 | ~uint64](n N, thing string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(thing, "ry"): // entry, directory
		thing = strings.TrimSuffix(thing, "y") + "ies"
	default:
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
