package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// A plug-in that does not fit on its disk leaves nothing behind, and what was there before stays.
func TestNewOnAFullDisk(t *testing.T) {
	fixture.Tool(t, "unshare", "apt-get install util-linux")
	disk := t.TempDir()
	// In a name space of its own, which may mount. The smallest disk that has room for some files, and not for all.
	on := func(script string) (string, error) {
		cmd := inShell(t, disk, `exec unshare --mount --map-root-user sh -ec 'mount -t tmpfs -o size=48k,mode=700 tmpfs "$0" && cd "$0" && `+script+`' "$PWD"`)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := on("true"); err != nil {
		t.Skipf("this user may not mount a disk: %v: %s", err, out)
	}
	for _, c := range []struct{ before, dir, stay string }{
		{"true", "a/b/greeter", "."},
		{"mkdir greeter", "greeter", ". ./greeter"},
	} {
		out, err := on(c.before + "; ferrule new --lang c " + c.dir + " || echo code $?; echo left $(find . | sort)")
		require.NoError(t, err, out)
		assert.Contains(t, out, "no space left on device")
		assert.Contains(t, out, "make room where this one is")
		assert.Contains(t, out, "code 2\n")
		_, left, _ := strings.Cut(out, "\nleft ")
		assert.Equal(t, c.stay, strings.TrimSpace(left))
	}
	// What somebody else has put there meanwhile stays, too.
	dir := filepath.Join(t.TempDir(), "greeter")
	p, err := newPlugin("c", "", dir, false, false)
	require.NoError(t, err)
	require.NoError(t, p.write())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes"), nil, 0o600))
	p.unmake()
	left, err := exec.Command("find", dir, "-type", "f").Output()
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "notes")+"\n", string(left))
}
