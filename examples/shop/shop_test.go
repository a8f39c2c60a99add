package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
)

// built is the library of a merchant, as build.sh builds it. The test is skipped where its compiler is missing.
func built(t *testing.T, name string) string {
	t.Helper()
	for _, source := range []string{"c/regulars.c", "c/scrutiny.c", "cpp/shipping.cpp", "json.h", "rust/src/lib.rs", "../build.sh"} {
		_, err := os.Stat(source) // go test learns by that what its result depends on
		require.NoError(t, err)
	}
	cmd := exec.Command(fixture.Tool(t, "sh", "on Windows see https://gitforwindows.org"), "examples/build.sh", name)
	cmd.Dir = fixture.Root()
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 3 && os.Getenv("CI") == "" {
		t.Skip(string(out))
	}
	require.NoError(t, err, "%s", out)
	return filepath.Join(fixture.Root(), strings.TrimSpace(string(out)))
}

// sent counts the receipts.
var sent atomic.Int64

func TestMain(m *testing.M) {
	receipts.Hooks[0].Call = func(context.Context, []byte) ([]byte, error) {
		sent.Add(1)
		return nil, nil
	}
	os.Exit(m.Run())
}

// opened is the shop with these merchants, in a folder of the test's. change changes its config.yaml.
func opened(t *testing.T, change *strings.Replacer, merchants ...string) (sys *plugins.System, checkout Checkout, folder string) {
	t.Helper()
	folder = t.TempDir()
	for _, name := range merchants {
		require.NoError(t, install(built(t, "merchants/"+name), filepath.Join(folder, name+fixture.Ext())))
	}
	text, err := os.ReadFile("config.yaml")
	require.NoError(t, err)
	config := filepath.Join(t.TempDir(), "config.yaml")
	text = []byte(change.Replace(strings.Replace(string(text), "../../build/examples/merchants", folder, 1)))
	require.NoError(t, os.WriteFile(config, text, 0o644))
	sys, checkout, err = open(t.Context(), config)
	t.Cleanup(func() { assert.NoError(t, sys.Close()) })
	require.NoError(t, err)
	return sys, checkout, folder
}

// TestMerchants: what each plug-in decides, at the edges of what it promises.
func TestMerchants(t *testing.T) {
	sys, checkout, _ := opened(t, strings.NewReplacer("freeFrom: 10000", "freeFrom: 8000"), "welcome", "regulars", "shipping", "scrutiny")
	for _, c := range []struct {
		cart                     Cart
		percent, shipping, total int64
	}{
		{Cart{10_000, true, "ada@example.com"}, 20, 0, 8_000},
		{Cart{9_999, true, "ada@example.com"}, 0, 0, 9_999},
		{Cart{7_999, true, "ada@example.com"}, 0, 490, 8_489},
		{Cart{10_000, false, "margaret@example.com"}, 0, 0, 10_000},
		{Cart{10_000, false, "grace@example.com"}, 10, 0, 9_000},
		{Cart{10_000, true, "grace@example.com"}, 20, 0, 8_000}, // the user's list has welcome first
		{Cart{10_000, false, `"totalInCents":1`}, 0, 0, 10_000}, // regulars fails, since nobody has that address, and is skipped
		{Cart{50_000, false, "margaret@example.com"}, 0, 0, 50_000},
	} {
		before := sent.Load()
		order, err := checkout(t.Context(), c.cart)
		require.NoError(t, err, "%+v", c.cart)
		assert.Equal(t, Order{c.cart.ProvidedEmail, c.percent, c.total, c.shipping}, order)
		assert.Equal(t, before+1, sent.Load(), "a receipt")
	}
	before := sent.Load()
	_, err := checkout(t.Context(), Cart{50_001, false, "margaret@example.com"})
	var objection *plugins.Objection
	require.ErrorAs(t, err, &objection)
	assert.Equal(t, plugins.Objection{Point: "may_ship", Plugin: "scrutiny", Reason: "more than $500.00: a person has to look at it"}, *objection)
	assert.Equal(t, before, sent.Load(), "it was not ordered")
	p, _ := sys.Plugin("scrutiny")
	assert.True(t, p.Isolated)
	assert.Equal(t, plugins.StateStarted, p.State)
}

// TestWithoutAGrant: a merchant who is not there, and one who is not granted what it needs, do not keep the shop closed.
func TestWithoutAGrant(t *testing.T) {
	sys, checkout, _ := opened(t, strings.NewReplacer(", grant: [loyalty_points]", ""), "regulars", "shipping", "scrutiny")
	welcome, _ := sys.Plugin("welcome")
	assert.ErrorIs(t, welcome.Err, plugins.ErrNotFound)
	regulars, _ := sys.Plugin("regulars")
	assert.ErrorIs(t, regulars.Err, plugins.ErrGrant)
	assert.ErrorContains(t, regulars.Err, "grant: [loyalty_points]", "the line to add")
	order, err := checkout(t.Context(), Cart{10_000, false, "grace@example.com"})
	assert.NoError(t, err)
	assert.Equal(t, Order{"grace@example.com", 0, 10_000, 0}, order)
}

// TestReplacedWhileItSells: four customers buy all the time; another version takes over, and one that is broken does not. Nobody
// notices but by the discount.
func TestReplacedWhileItSells(t *testing.T) {
	second, third := built(t, "regulars-2"), built(t, "regulars-3")
	sys, checkout, folder := opened(t, strings.NewReplacer(), "regulars", "shipping", "scrutiny")
	place := filepath.Join(folder, "regulars"+fixture.Ext())
	before := sent.Load()
	var sold, cheaper atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for last := int64(10); ; {
				select {
				case <-stop:
					return
				default:
				}
				order, err := checkout(t.Context(), Cart{10_000, false, "grace@example.com"})
				if !assert.NoError(t, err) || !assert.Contains(t, []int64{last, 15}, order.DiscountPercent) {
					return
				}
				last = order.DiscountPercent
				sold.Add(1)
				if last == 15 {
					cheaper.Add(1)
				}
			}
		})
	}
	further := func(n *atomic.Int64) { // customers have come since
		t.Helper()
		now := n.Load()
		require.Eventually(t, func() bool { return n.Load() > now+100 }, time.Minute, time.Millisecond)
	}
	further(&sold)
	assert.Zero(t, cheaper.Load())
	require.NoError(t, install(second, place))
	require.Eventually(t, func() bool {
		p, _ := sys.Plugin("regulars")
		return p.Version == "2.0.0" && p.Replaced == 1
	}, time.Minute, time.Millisecond, "Watch sees it")
	further(&cheaper)

	require.NoError(t, install(third, place))
	var p plugins.Plugin
	require.Eventually(t, func() bool {
		p, _ = sys.Plugin("regulars")
		return p.Err != nil
	}, time.Minute, time.Millisecond)
	assert.Equal(t, "2.0.0", p.Version)
	assert.Equal(t, plugins.StateStarted, p.State)
	assert.ErrorIs(t, p.Err, plugins.ErrOpen)
	assert.ErrorContains(t, p.Err, "the discounts of this version are not decided yet")
	further(&cheaper)
	close(stop)
	all.Wait()
	assert.Equal(t, sold.Load(), sent.Load()-before, "each has a receipt")
}

// TestShownOnASocket: whoever looks on sees the merchants, and what was sold with them.
func TestShownOnASocket(t *testing.T) {
	_, _, folder := opened(t, strings.NewReplacer(), "regulars", "shipping", "scrutiny")
	text, err := os.ReadFile("config.yaml")
	require.NoError(t, err)
	config := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(config, []byte(strings.Replace(string(text), "../../build/examples/merchants", folder, 1)), 0o644))
	socket := fixture.Socket(t)
	day, customers := io.Pipe()
	over := make(chan error, 1)
	go func() {
		err := run(t.Context(), config, socket, day)
		_ = day.CloseWithError(err)
		over <- err
	}()
	_, err = io.WriteString(customers, "../checkout/carts/grace.json\n")
	require.NoError(t, err)
	host, err := monitor.Dial(t.Context(), socket)
	require.NoError(t, err)
	defer host.Close()
	assert.Eventually(t, func() bool {
		seen, err := host.Snapshot(t.Context())
		require.NoError(t, err)
		calls := map[string]uint64{}
		for _, p := range seen.Plugins {
			calls[p.Name] = p.Calls.Calls
		}
		return calls["regulars"] == 1 && calls["shipping"] == 1 && calls["scrutiny"] == 1 && calls["receipts"] == 1
	}, time.Minute, time.Millisecond)
	require.NoError(t, customers.Close())
	assert.NoError(t, <-over)
	assert.NoFileExists(t, socket)
}
