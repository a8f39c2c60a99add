package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// What a plug-in writes of memory, of threads or of a sanitizer is not why a fault ends its process, also where a fault is an exit code, as on Windows.
func TestRemedyOfAFault(t *testing.T) {
	accessViolation := uint32(0xc0000005)
	for _, words := range []string{"fatal error: out of memory", "failed to create new OS thread", "==1==ASan runtime does not come first"} {
		for code, fault := range map[int]bool{int(accessViolation): true, 2: false} {
			f := &fate{kind: crashed, stage: opening, code: &code, lines: []string{words}}
			if fault {
				assert.Contains(t, f.remedy(), "Look for a fault in ", words)
			} else {
				assert.NotContains(t, f.remedy(), "Look for a fault in ", words)
			}
		}
	}
}
