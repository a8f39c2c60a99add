package files_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/files"
	"github.com/ferrule-dev/ferrule/plugins/registry/sourcetest"
)

// places are what this package has: each by its constructor.
var places = map[string]func(t *testing.T) func(t *testing.T) registry.Pusher{
	"folder": func(t *testing.T) func(t *testing.T) registry.Pusher {
		return perTest("releases", func(path string) (registry.Pusher, error) { return files.NewFolder(path) })
	},
	"bundle": func(t *testing.T) func(t *testing.T) registry.Pusher {
		return perTest("releases.zip", func(path string) (registry.Pusher, error) { return files.NewBundle(path) })
	},
}

// perTest opens one place for each test, as often as it is asked.
func perTest(name string, open func(path string) (registry.Pusher, error)) func(t *testing.T) registry.Pusher {
	var mu sync.Mutex
	paths := map[string]string{}
	return func(t *testing.T) registry.Pusher {
		mu.Lock()
		defer mu.Unlock()
		if paths[t.Name()] == "" {
			paths[t.Name()] = filepath.Join(t.TempDir(), name)
		}
		p, err := open(paths[t.Name()])
		require.NoError(t, err)
		return p
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := place(t)
			sourcetest.Run(t, func(t *testing.T, releases []sourcetest.Published) registry.Source {
				p := open(t)
				sourcetest.Push(t, p, releases)
				return p
			})
			sourcetest.RunPusher(t, open)
		})
	}
}
