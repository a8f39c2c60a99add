package settings

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A number in a schema or in settings has so many characters at most, and so large an exponent. The validator makes an exact fraction of each: one of 1e-999999 has a million
// digits, and what it cannot make one of ends the process.
const (
	maxDigits   = 400
	maxExponent = 400
)

// outsized reports whether a number is beyond that.
func outsized(n json.Number) bool {
	if len(n) > maxDigits {
		return true
	}
	_, exponent, ok := strings.Cut(strings.ToLower(string(n)), "e")
	if !ok {
		return false
	}
	e, err := strconv.Atoi(exponent)
	return err != nil || e > maxExponent || e < -maxExponent
}

// findOutsized returns the first such number below a value, by the names of keys, and whether there is one.
func findOutsized(value any) (n json.Number, found bool) {
	switch v := value.(type) {
	case json.Number:
		return v, outsized(v)
	case []any:
		for _, item := range v {
			if n, found = findOutsized(item); found {
				return n, true
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) { // of several it is the same one each time
			if n, found = findOutsized(v[key]); found {
				return n, true
			}
		}
	}
	return "", false
}

// guarded runs what works on a schema that a plug-in brings, in code of others: a panic there is the schema's fault.
func guarded(work func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("found a schema that the validator fails at: %v", value)
		}
	}()
	return work()
}

var sized = fmt.Sprintf("one of %d characters at most, with an exponent of %d at most", maxDigits, maxExponent)
