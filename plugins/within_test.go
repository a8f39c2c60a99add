package plugins_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
)

// TestNotWithin: what does not come to an end in the time that it has says which time that was, and asks for nothing that config.yaml cannot give.
func TestNotWithin(t *testing.T) {
	hang := func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Hour): // of the test's own clock; a start is not told
			return nil
		}
	}
	for name, c := range map[string]struct {
		plugin *builtin.Plugin
		text   string
	}{
		"start": {&builtin.Plugin{Name: "slow", Version: "1.0.0", Start: func(ctx context.Context, _ []byte) (any, error) { return nil, hang(ctx) }}, "not done within 30s"},
		"health": {&builtin.Plugin{Name: "slow", Version: "1.0.0", Keys: map[string]string{"health": "well"}, Funcs: []builtin.Function{
			{Name: "well", Call: func(ctx context.Context, _ []byte) ([]byte, error) { return nil, hang(ctx) }}}}, "not done within 5s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := plugins.New("app", "1.0.0", plugins.Logger(quiet()), plugins.Builtin(c.plugin), plugins.Required("slow"))
				defer sys.Close()
				err := sys.Start(t.Context())
				require.ErrorIs(t, err, context.DeadlineExceeded)
				assert.ErrorContains(t, err, c.text)
				assert.NotContains(t, err.Error(), "more time")
				time.Sleep(2 * time.Hour)
			})
		})
	}
}
