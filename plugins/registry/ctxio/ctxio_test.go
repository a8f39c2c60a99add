package ctxio_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/registry/ctxio"
)

func TestReader(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	from := strings.NewReader("abcdef")
	r := ctxio.Reader(ctx, from)
	half := make([]byte, 3)
	_, err := io.ReadFull(r, half)
	require.NoError(t, err)
	assert.Equal(t, "abc", string(half))
	why := errors.New("enough")
	cancel(why)
	n, err := r.Read(half)
	assert.Zero(t, n)
	assert.ErrorIs(t, err, why)
	assert.Equal(t, 3, from.Len(), "nothing more was read")

	all, err := io.ReadAll(ctxio.Reader(t.Context(), from))
	require.NoError(t, err)
	assert.Equal(t, "def", string(all))
}
