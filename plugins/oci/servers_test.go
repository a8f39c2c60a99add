package oci_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

type object = map[string]any

// distribution starts CNCF distribution over a folder.
func distribution(t *testing.T, folder string, more object) string {
	t.Helper()
	config := object{
		"version": "0.1",
		"storage": object{"filesystem": object{"rootdirectory": folder}, "tag": object{"concurrencylimit": 2}, "delete": object{"enabled": true}},
		"http":    object{"addr": "127.0.0.1:0", "secret": "of this test"},
		"log":     object{"level": "error", "accesslog": object{"disabled": true}},
	}
	for key, value := range more {
		config[key] = value
	}
	text, err := json.Marshal(config)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(path, text, 0o666))
	return fixture.Registry(t, "distribution", path)
}

// onEach runs a test on each implementation.
func onEach(t *testing.T, test func(t *testing.T, host string)) {
	t.Parallel()
	t.Run("distribution", func(t *testing.T) { t.Parallel(); test(t, distribution(t, t.TempDir(), nil)) })
	t.Run("go-containerregistry", func(t *testing.T) { t.Parallel(); test(t, fixture.Registry(t, "tiny")) })
}

// counter counts the requests that get to the network.
type counter struct{ n atomic.Int64 }

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return http.DefaultTransport.RoundTrip(r)
}

// requests is how many there were since it was asked before.
func (c *counter) requests() int { return int(c.n.Swap(0)) }

// none has no credentials: tests do not read those of who runs them.
func none(context.Context, string) (string, string, error) { return "", "", nil }

func open(t *testing.T, url string, options ...oci.Option) *oci.Registry {
	t.Helper()
	r, err := oci.New(url, append([]oci.Option{oci.Credentials(none)}, options...)...)
	require.NoError(t, err)
	return r
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// content writes files to publish: for each platform the text that is its own.
func contents(t *testing.T, text string, platforms ...string) map[string]registry.Content {
	t.Helper()
	all := map[string]registry.Content{}
	dir := t.TempDir()
	for _, on := range platforms {
		path := filepath.Join(dir, strings.ReplaceAll(on, "/", "-"))
		require.NoError(t, os.WriteFile(path, []byte(text+" for "+on), 0o666))
		all[on] = registry.Content{Path: path, Signature: []byte("signature of " + text + " for " + on)}
	}
	return all
}
