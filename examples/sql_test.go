package examples_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate"
)

// both runs a test with a plug-in in this process and isolated.
func both(t *testing.T, test func(t *testing.T, opts ...loader.Option)) {
	t.Run("in-process", func(t *testing.T) { test(t) })
	t.Run("isolated", func(t *testing.T) { test(t, isolate.InWorker()) })
}

// TestSQLUsers: sixteen users of one database file, each with a cursor of its own, none of which ever gives another's rows.
func TestSQLUsers(t *testing.T) {
	library := build(t, "sql")
	both(t, func(t *testing.T, opts ...loader.Option) {
		ctx := context.Background()
		file := filepath.Join(t.TempDir(), "orders.db")
		p, err := loader.Open(library, append(opts, loader.WithConfig([]byte(file)))...)
		require.NoError(t, err)
		defer p.Close()
		_, err = p.Call(ctx, "exec", []byte("PRAGMA journal_mode=WAL; CREATE TABLE orders (customer TEXT, item INTEGER)"))
		require.NoError(t, err)
		const users, items = 16, 250
		var all sync.WaitGroup
		for user := range users {
			all.Go(func() {
				s, err := p.NewSession(ctx, nil)
				if !assert.NoError(t, err) {
					return
				}
				defer s.Close()
				var script strings.Builder
				script.WriteString("BEGIN IMMEDIATE;")
				for item := range items {
					fmt.Fprintf(&script, "INSERT INTO orders VALUES ('%d', %d);", user, item)
				}
				script.WriteString("COMMIT;")
				_, err = s.Call(ctx, "exec", []byte(script.String()))
				assert.NoError(t, err)
				for range 3 {
					_, err = s.Call(ctx, "query", fmt.Appendf(nil, "SELECT customer, item FROM orders WHERE customer = '%d' ORDER BY item", user))
					assert.NoError(t, err)
					n := 0
					for {
						page, err := s.Call(ctx, "next", nil)
						if err != nil {
							assert.ErrorIs(t, err, loader.ErrPass)
							break
						}
						for row := range strings.Lines(string(page)) {
							assert.Equal(t, fmt.Sprintf("%d\t%d\n", user, n), row)
							n++
						}
					}
					assert.Equal(t, items, n)
				}
			})
		}
		all.Wait()
	})
}

// TestSQLErrors: SQLite's words come through, and a query that takes too long ends with its context.
func TestSQLErrors(t *testing.T) {
	library := build(t, "sql")
	both(t, func(t *testing.T, opts ...loader.Option) {
		ctx := context.Background()
		p, err := loader.Open(library, opts...)
		require.NoError(t, err)
		defer p.Close()
		_, err = p.Call(ctx, "exec", []byte("INSERT INTO nowhere VALUES (1)"))
		assert.ErrorIs(t, err, loader.ErrInvalid)
		assert.ErrorContains(t, err, "no such table: nowhere")
		_, err = p.Call(ctx, "query", []byte("  -- nothing"))
		assert.ErrorIs(t, err, loader.ErrInvalid)
		late, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err = p.Call(late, "exec", []byte("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n"))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = loader.Open(library, append(opts, loader.WithConfig([]byte("/nowhere/at/all.db")))...)
		assert.ErrorIs(t, err, loader.ErrStart)
		assert.ErrorContains(t, err, "unable to open database file")
	})
}
