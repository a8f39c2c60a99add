package config

import (
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestSystemsErrors: what the system says of a configuration file is said with what to do, and is the system's error still.
func TestSystemsErrors(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "config.yaml", Err: fs.ErrPermission}
	for name, c := range map[string]struct{ was, err error }{
		"none to read":    {fs.ErrNotExist, unread("config.yaml", os.ErrNotExist)},
		"not to be read":  {fs.ErrPermission, unread("config.yaml", denied)},
		"not to be saved": {fs.ErrPermission, unsaved("config.yaml", denied)},
	} {
		assert.ErrorIs(t, c.err, c.was, name)
		assert.Regexp(t, `^(read|save) config\.yaml: found .*, expected .*\. (Make|Change) `, c.err.Error(), name)
	}
	other := &fs.PathError{Op: "open", Path: "config.yaml", Err: syscall.EIO}
	assert.Equal(t, error(other), unread("config.yaml", other))
	assert.Equal(t, error(other), unsaved("config.yaml", other))
}
