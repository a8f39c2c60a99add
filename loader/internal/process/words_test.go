package process

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestGoPanic(t *testing.T) {
	for _, c := range []struct{ output, what, where string }{
		{"", "", ""},
		{"starting\nno panic: here\n", "", ""},
		{"starting\npanic: no database\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/main.go:7 +0x18\nexit status 2\n", "panic: no database", ""},
		{"panic: no database\n\ngoroutine 1 [running]:\nexample.com/db.init.0()\n\t/src/db/db.go:9 +0x25\n", "panic: no database",
			" (example.com/db.init.0, /src/db/db.go:9)"},
		{"fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [select (no cases)]:\nruntime.initX(...)\n\t/go/a.go:1\nmain.init.func1(...)\n\t/src/b.go:3\n",
			"fatal error: all goroutines are asleep - deadlock!", " (main.init.func1, /src/b.go:3)"},
	} {
		what, where := GoPanic(c.output)
		assert.Equal(t, c.what, what)
		assert.Equal(t, c.where, where)
	}
}

func TestHow(t *testing.T) {
	assert.Equal(t, "exit code 3", How(nil, 3))
	assert.Equal(t, `the signal "killed"`, How(os.Kill, -1))
}
