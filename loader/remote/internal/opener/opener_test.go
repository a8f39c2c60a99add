package opener

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/loader/engine"
)

// A password is in no error, also where it has characters that a URL does not have there.
func TestWithoutUsers(t *testing.T) {
	for path, expected := range map[string]string{
		"nats://a:4222/discount@^2":                              "nats://a:4222/discount@^2",
		"nats://ada:secret@a:4222/discount@^2":                   "nats://…@a:4222/discount@^2",
		"nats://ada:secret@a,b/discount":                         "nats://…@a,b/discount",
		"nats://ada:secret@a,nats://ada:secret@b/discount@1":     "nats://…@a,nats://…@b/discount@1",
		"ada:secret@a/discount@1":                                "…@a/discount@1",
		"nats://a":                                               "nats://a",
		"nats://ada:sec/secret@a/discount@1":                     "nats://…@a/discount@1",
		"nats://ada:sec/secret@a,nats://ada:sec/secret@b/d@>=1.": "nats://…@a,nats://…@b/d@>=1.",
	} {
		assert.Equal(t, expected, engine.WithoutUsers(path), path)
		_, _, err := parse(path, []string{"nats"})
		if err != nil {
			assert.NotContains(t, err.Error(), "sec", path)
		}
	}
	assert.Equal(t, "nats://…@a:1,nats://…@b:2", engine.ServersWithoutUsers("nats://ada:secret@a:1,nats://ada:secret@b:2"))
	assert.Equal(t, "…@a:1,b:2", engine.ServersWithoutUsers("ada:secret@a:1,b:2"))
}
