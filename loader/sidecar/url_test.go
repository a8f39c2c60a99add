package sidecar_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

// A URL that nobody can be at is refused as such, wherever it is given, and nobody is looked for.
func TestURL(t *testing.T) {
	t.Parallel()
	for path, says := range map[string]string{
		"tcp:127.0.0.1":       "found no port, expected tcp:HOST:PORT",
		"tcp:":                "found no port, expected tcp:HOST:PORT",
		"tcp:::1":             "found no port, expected tcp:HOST:PORT. Write the one that it listens at behind the host; an address of IPv6 stands in brackets",
		"tcp:[::1]":           "found no port, expected tcp:HOST:PORT",
		"tcp:localhost:":      "found no port, expected tcp:HOST:PORT",
		"tcp::4242":           "found no host, expected tcp:HOST:PORT",
		"tcp:localhost:http":  `found the port "http", expected tcp:HOST:PORT. Give its number, 1 to 65535`,
		"tcp:localhost:0":     `found the port "0", expected`,
		"tcp:localhost:65536": `found the port "65536", expected`,
		"tcp://localhost:1/":  `found the port "1/", expected`,
		"unix:":               "found nothing behind unix:, expected unix:PATH",
		"unix://":             "found nothing behind unix:, expected unix:PATH",
		"npipe:":              "found nothing behind npipe:, expected npipe:NAME",
		"fifo:":               "found one path, expected fifo:IN,OUT",
		"fifo:/in":            "found one path, expected fifo:IN,OUT",
		"fifo:,/out":          "found one path, expected fifo:IN,OUT",
		"fifo:/in,":           "found one path, expected fifo:IN,OUT",
		"http://localhost:1":  "found a URL that begins with http:, expected a program, or one of unix:PATH, tcp:HOST:PORT, fifo:IN,OUT and npipe:NAME. Open it with web.Server(), of package github.com/ferrule-dev/ferrule/loader/sidecar/web",
		"https://x":           "Open it with web.Server()",
		"http+unix:/x":        "Open it with web.Server()",
		"nats://h:1/x":        "Open it with nats.Plugin()",
		"mqtts://h:1/x":       "Open it with mqtt.Plugin()",
		"ws://localhost:1":    "found a URL that begins with ws:, expected a program, or one of unix:PATH",
	} {
		_, err := sidecar.URL(path)
		open := new(loader.OpenError)
		require.ErrorAs(t, err, &open, path)
		assert.ErrorIs(t, err, loader.ErrOption, path)
		assert.ErrorContains(t, err, path+": ")
		assert.ErrorContains(t, err, says, path)
		_, same := loader.Open(path, sidecar.Program())
		assert.EqualError(t, same, err.Error(), path)
		looked := sidecar.Engine().(engine.Looking).Look(&engine.File{Path: path})
		assert.EqualError(t, looked, err.Error(), path)
	}
	for path, is := range map[string]bool{"unix:/x": true, "unix:///x": true, "unix:@abstract": true, "tcp:[::1]:1": true, "tcp://localhost:65535": true, "fifo:a,b": true, "npipe:n": true,
		"./vowels.py": false, `C:\vowels.exe`: false, "a:b": false, "": false} {
		url, err := sidecar.URL(path)
		assert.NoError(t, err, path)
		assert.Equal(t, is, url, path)
	}
}

// What keeps a program from being started is seen before it is.
func TestLook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	look := func(path string, opts ...sidecar.Option) error {
		f := &engine.File{Path: path}
		defer f.Close()
		return sidecar.Engine(opts...).(engine.Looking).Look(f)
	}
	ran := filepath.Join(dir, "ran")
	self, err := os.Executable()
	require.NoError(t, err)
	assert.NoError(t, look(file("run.sh", "#!"+self+"\n: >"+ran+"\n", 0o755), sidecar.WithInterpreter(self)))
	assert.ErrorContains(t, look(filepath.Join(dir, "gone.py")), "no such file")
	assert.ErrorContains(t, look(file("none.py", "", 0o644), sidecar.WithInterpreter("ferrule-has-none")), "found an interpreter that is not there")
	assert.NoFileExists(t, ran)
}
