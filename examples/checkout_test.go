package examples_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

type cart struct {
	Customer   string `json:"customer"`
	TotalCents uint64 `json:"total_cents"`
}

type discount struct {
	Cents, Points uint64
	Reason        string
}

// TestPolicies calls the merchants' plug-ins without the shop, at the edges of what they promise.
func TestPolicies(t *testing.T) {
	for _, test := range []struct {
		merchant             string
		points, total        uint64
		wantCents, wantSpent uint64
		wantReason           string
	}{
		{"newcomer", 0, 10_000, 0, 0, "the cart is not over $100"},
		{"newcomer", 0, 10_001, 2000, 0, "20 % for a new customer"}, // a part of a cent stays the merchant's
		{"newcomer", 0, 10_004, 2000, 0, "20 % for a new customer"},
		{"newcomer", 0, 10_005, 2001, 0, "20 % for a new customer"},
		{"newcomer", 0, 0, 0, 0, "the cart is not over $100"},
		{"newcomer", 0, 1<<64 - 1, (1<<64 - 1) / 5, 0, "20 % for a new customer"},
		{"newcomer", 1, 20_000, 0, 0, "not a new customer"},
		{"loyal", 0, 20_000, 0, 0, "0 of 0 points spent"},
		{"loyal", 2750, 7270, 2750, 2750, "2750 of 2750 points spent"},
		{"loyal", 99_999, 7271, 3635, 3635, "3635 of 99999 points spent"},
		{"loyal", 1, 1, 0, 0, "0 of 1 points spent"},
	} {
		t.Run(fmt.Sprint(test.merchant, " ", test.points, " ", test.total), func(t *testing.T) {
			p := open(t, build(t, test.merchant), loader.WithHostFunc("loyalty_points",
				loader.JSONFunc(func(_ context.Context, customer string) (uint64, error) {
					assert.Equal(t, "ada \"\u263a\"", customer)
					return test.points, nil
				})))
			got, err := loader.CallJSON[cart, discount](t.Context(), p, "before_checkout", cart{"ada \"\u263a\"", test.total})
			require.NoError(t, err)
			assert.Equal(t, discount{test.wantCents, test.wantSpent, test.wantReason}, got)
		})
	}
}

func TestPoliciesRefuse(t *testing.T) {
	for _, merchant := range []string{"newcomer", "loyal"} {
		t.Run(merchant, func(t *testing.T) {
			library := build(t, merchant)
			_, err := loader.Open(library)
			assert.ErrorIs(t, err, loader.ErrMissingImport)
			assert.ErrorContains(t, err, "loyalty_points")

			p := open(t, library, loader.WithHostFunc("loyalty_points", func(context.Context, []byte) ([]byte, error) {
				return nil, fmt.Errorf("the points are being counted: %w", loader.ErrUnsupported)
			}))
			_, err = p.Call(t.Context(), "before_checkout", []byte(`{"customer": "ada", "total_cents": -1}`))
			assert.ErrorIs(t, err, loader.ErrInvalid)
			_, err = p.Call(t.Context(), "before_checkout", []byte(`{"customer": "ada", "total_cents": 1}`))
			assert.ErrorIs(t, err, loader.ErrUnsupported, "a host function's error comes back through the plug-in")
			assert.ErrorContains(t, err, "the points are being counted")
		})
	}
}

// TestSwapMerchants puts one merchant's library after the other at the path that the host is given. The host is built
// once, before any of them.
func TestSwapMerchants(t *testing.T) {
	merchant := filepath.Join(t.TempDir(), "merchant"+fixture.Ext())
	_, _, code := run(t, "checkout", merchant, cartFile("grace"))
	require.Equal(t, 1, code, "there is no merchant yet")
	built, err := os.ReadFile(hostPath("checkout"))
	require.NoError(t, err)

	for _, want := range []struct{ name, toPay string }{{"newcomer", "$72.70"}, {"loyal", "$45.20"}} {
		library, err := os.ReadFile(build(t, want.name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(merchant, library, 0o777))
		stdout, stderr, code := run(t, "checkout", merchant, cartFile("grace"))
		assert.Equal(t, 0, code, "%s", stderr)
		assert.Contains(t, stdout, "merchant  "+want.name+" 1.0.0\n")
		assert.Contains(t, stdout, "to pay    "+want.toPay+"\n")
	}
	still, err := os.ReadFile(hostPath("checkout"))
	require.NoError(t, err)
	assert.True(t, bytes.Equal(built, still), "the host is the same file")
}

// TestShopChecks: the host believes neither a cart nor a plug-in.
func TestShopChecks(t *testing.T) {
	dir := t.TempDir()
	library := build(t, "newcomer")
	for name, text := range map[string]string{
		"no items":      `{"customer": "ada", "items": []}`,
		"found -1":      `{"customer": "ada", "items": [{"name": "a", "cents": 1, "quantity": -1}]}`,
		"found 0 times": `{"customer": "ada", "items": [{"name": "a", "cents": 1}]}`,
		"times -5":      `{"customer": "ada", "items": [{"name": "a", "cents": -5, "quantity": 1}]}`,
		"unknown field": `{"customer": "ada", "items": [{"name": "a", "price": 1, "quantity": 1}]}`,
		"unexpected":    `{"customer": "ada", "items": [`,
		"no customer":   `{"customer": "eve", "items": [{"name": "a", "cents": 1, "quantity": 1}]}`,
	} {
		file := filepath.Join(dir, "cart.json")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o666))
		stdout, stderr, code := run(t, "checkout", library, file)
		assert.Equal(t, 1, code)
		assert.Contains(t, stderr, name)
		assert.NotContains(t, stdout, "to pay")
	}

	for discount, want := range map[string]string{
		`{"cents": 7271}`:              "the discount of greedy: found 7271 cents, expected 0 to 7270",
		`{"cents": -1}`:                "the discount of greedy: found -1 cents, expected 0 to 7270",
		`{"cents": 1, "points": 2751}`: "the discount of greedy: found 2751 loyalty points, expected 0 to 2750",
		`{"cents": 1, "points": -1}`:   "the discount of greedy: found -1 loyalty points, expected 0 to 2750",
		`20 %`:                         "plug-in greedy: before_checkout: decoding the result",
	} {
		_, stderr, code := run(t, "checkout", greedy(t, discount), cartFile("grace"))
		assert.Equal(t, 1, code)
		assert.Contains(t, stderr, want)
	}
}

// greedy builds a merchant's plug-in, in C, that asks for the same discount always.
func greedy(t *testing.T, discount string) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "greedy.c")
	require.NoError(t, os.WriteFile(source, fmt.Appendf(nil, `#include <ferrule/sdk.h>
FERRULE_PLUGIN(FERRULE_NAME("greedy") FERRULE_VERSION("1"));
FERRULE_FN(before_checkout) { return ferrule_reply_text(call, %q); }
`, discount), 0o666))
	library := filepath.Join(dir, "greedy"+fixture.Ext())
	cc := fixture.Tool(t, cmp.Or(os.Getenv("CC"), "cc"), "apt-get install gcc")
	cmd := exec.Command(cc, "-shared", "-fPIC", "-Iinclude", "-Isdk-c/include", "-o", library, source)
	cmd.Dir = fixture.Root()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return library
}

func cartFile(customer string) string {
	return filepath.Join(fixture.Root(), "examples", "checkout", "carts", customer+".json")
}
